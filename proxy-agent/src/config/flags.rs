//! kube-proxy's flags: each is a field of its configuration by another name.

mod table;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value};

use super::document::{Document, KIND, VERSION};
use super::settings::{Origin, Settings};
use table::{FLAGS, Flag, Form, Use};

/// The flags that were given.
#[derive(Clone, Debug, Default)]
pub struct KubeProxyFlags {
    given: Vec<(&'static Flag, String)>,
}

impl KubeProxyFlags {
    /// The document and the settings that the flags alone make.
    pub fn settings(&self) -> Result<(Document, Settings), String> {
        let document = self.document(|_| true)?;
        let settings = Settings::of(&document, Origin::Flags).map_err(|invalid| {
            let flag = self.given.iter().find(|(flag, _)| flag.field == invalid.field);
            let flag = flag.map_or(invalid.field, |(flag, _)| flag.name);
            format!("--{flag}: {}", invalid.message)
        })?;
        Ok((document, settings))
    }

    /// Those that stand above a configuration file, as in kube-proxy: the node's name and the log's.
    pub fn put_over(&self, document: &mut Document) -> Result<(), String> {
        let over = self.document(|flag| flag.above_file)?;
        if over.hostname_override.is_some() {
            document.hostname_override = over.hostname_override;
        }
        if let Some(over) = over.logging {
            let logging = document.logging.get_or_insert_default();
            logging.verbosity = over.verbosity.or(logging.verbosity);
            logging.format = over.format.or(logging.format.take());
            logging.flush_frequency = over.flush_frequency.or(logging.flush_frequency);
            logging.vmodule = over.vmodule.or(logging.vmodule.take());
            logging.options = over.options.or(logging.options.take());
        }
        Ok(())
    }

    /// Names of the flags that a configuration file makes void.
    pub fn void_beside_file(&self) -> impl Iterator<Item = &'static str> {
        let void = |flag: &&Flag| !flag.above_file && flag.purpose == Use::Field;
        self.given
            .iter()
            .map(|(flag, _)| *flag)
            .filter(void)
            .map(|flag| flag.name)
    }

    /// Flags that do nothing here, with what to do instead.
    pub fn useless(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.given.iter().filter_map(|(flag, _)| match flag.purpose {
            Use::Field => None,
            Use::Nothing(what_to_do) => Some((flag.name, what_to_do)),
        })
    }

    /// The flag that gives a field, for people who gave it so.
    pub fn of_field(&self, field: &str) -> Option<&'static str> {
        let flag = self.given.iter().find(|(flag, _)| flag.field == field);
        flag.map(|(flag, _)| flag.name)
    }

    /// What was given of these.
    fn take(&mut self, matches: &ArgMatches, wanted: impl Fn(&Flag) -> bool) -> Result<(), clap::Error> {
        let given = FLAGS.iter().filter(|flag| wanted(flag)).filter_map(|flag| {
            let text = matches.get_one::<String>(flag.id())?;
            Some((flag, text.clone()))
        });
        self.given = given.collect();
        match self.document(|_| true) {
            Ok(_) => Ok(()),
            Err(error) => Err(clap::Error::raw(
                clap::error::ErrorKind::InvalidValue,
                error + "\n",
            )),
        }
    }

    fn document(&self, wanted: impl Fn(&Flag) -> bool) -> Result<Document, String> {
        let mut tree = Map::new();
        tree.insert("apiVersion".to_owned(), VERSION.into());
        tree.insert("kind".to_owned(), KIND.into());
        for (flag, text) in &self.given {
            if flag.purpose == Use::Field && wanted(flag) {
                let value = flag
                    .form
                    .value(text)
                    .map_err(|error| format!("--{}: {error}", flag.name))?;
                put(&mut tree, flag.field, value);
            }
        }
        serde_path_to_error::deserialize::<_, Document>(Value::Object(tree)).map_err(|error| {
            let path = error.path().to_string();
            let flag = self.given.iter().find(|(flag, _)| flag.field == path);
            let name = flag.map_or(path.as_str(), |(flag, _)| flag.name);
            format!("--{name}: {}", error.inner())
        })
    }
}

fn put(tree: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(tree.insert(path.to_owned(), value)),
        Some((first, rest)) => {
            let section = tree.entry(first).or_insert_with(|| Map::new().into());
            if let Value::Object(section) = section {
                put(section, rest, value);
            }
        }
    }
}

impl clap::FromArgMatches for KubeProxyFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.take(matches, |_| true)
    }
}

impl clap::Args for KubeProxyFlags {
    fn augment_args(command: Command) -> Command {
        FLAGS
            .iter()
            .fold(command, |command, flag| command.arg(argument(flag)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Those of the flags that decide what becomes of calls.
const SERVING: [&str; 6] = [
    "feature-gates",
    "nodeport-addresses",
    "detect-local-mode",
    "cluster-cidr",
    "pod-bridge-interface",
    "pod-interface-name-prefix",
];

fn is_serving(flag: &Flag) -> bool {
    SERVING.contains(&flag.name)
}

/// Of the flags those that decide what becomes of calls.
#[derive(Clone, Debug, Default)]
pub struct ServingFlags(KubeProxyFlags);

impl ServingFlags {
    /// The settings that they make.
    pub fn settings(&self) -> Result<Settings, String> {
        Ok(self.0.settings()?.1)
    }

    /// Names of those that were given.
    pub fn given(&self) -> Vec<&'static str> {
        self.0.given.iter().map(|(flag, _)| flag.name).collect()
    }
}

impl clap::FromArgMatches for ServingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.take(matches, is_serving)
    }
}

impl clap::Args for ServingFlags {
    fn augment_args(command: Command) -> Command {
        FLAGS
            .iter()
            .filter(|flag| is_serving(flag))
            .fold(command, |command, flag| command.arg(argument(flag)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn argument(flag: &'static Flag) -> Arg {
    let argument = Arg::new(flag.id())
        .long(flag.name)
        .action(ArgAction::Set)
        .allow_hyphen_values(true)
        .help_heading("kube-proxy's flags")
        .help(flag.help())
        .hide(flag.is_useless())
        .value_name(flag.form.name());
    let argument = match flag.name {
        "v" => argument.short('v'),
        _ => argument,
    };
    match flag.form {
        // As in Go: --switch or --switch=false.
        Form::Switch => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        _ => argument,
    }
}

#[cfg(test)]
mod tests;
