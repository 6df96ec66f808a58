//! Running other programs: without what the calling cargo left in the environment, and with errors that say what ran.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// How much of a failed program's output an error shows.
const TAIL_LINES: usize = 30;

/// The host toolchain's cargo: the one that runs this program.
pub(crate) fn host_cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::workspace::root());
    command
}

/// A program in an environment free of the calling cargo's and rustup's variables, so that another toolchain is not led
/// astray by them.
pub(crate) fn foreign(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(leads_astray) {
            command.env_remove(name);
        }
    }
    command
}

fn leads_astray(name: &str) -> bool {
    // cargo run puts its toolchain's libraries first, among them another LLVM.
    const NAMES: [&str; 9] = [
        "CARGO",
        "LD_LIBRARY_PATH",
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_BOOTSTRAP",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
    ];
    const PREFIXES: [&str; 7] = [
        "CARGO_BUILD_",
        "CARGO_ENCODED_",
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
        "CLIPPY_",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Runs it with its output on the terminal.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("could not start: {}", line(command)))?;
    if !status.success() {
        bail!("failed with {status}: {}", line(command));
    }
    Ok(())
}

/// Runs it silently; a failure shows the end of its output and the way out.
pub(crate) fn run_quietly(command: &mut Command, way_out: &str) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("could not start: {}\n{way_out}", line(command)))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let all = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
        bail!(
            "failed with {}: {}\n{}\n{way_out}",
            output.status,
            line(command),
            tail(&all)
        );
    }
    Ok(stdout)
}

/// Whether it runs and succeeds.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().replace('\x1f', " "))
        .collect::<Vec<_>>()
        .join(" ")
}

fn tail(output: &str) -> String {
    let lines: Vec<_> = output.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..]
        .iter()
        .map(|line| format!("    {line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_its_output_and_the_way_out() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo first; echo second >&2; exit 3"]);
        let error = run_quietly(&mut command, "try something else")
            .unwrap_err()
            .to_string();
        for part in [
            "exit status: 3",
            "sh -c",
            "    first\n",
            "    second\n",
            "try something else",
        ] {
            assert!(error.contains(part), "{part:?} is missing in: {error}");
        }
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let error = format!("{:#}", run(&mut Command::new("/nowhere/program")).unwrap_err());
        assert!(error.contains("could not start: /nowhere/program"), "{error}");
    }

    #[test]
    fn only_the_tail_of_a_long_output_is_shown() {
        let output: String = (0..100).map(|number| format!("line {number}\n")).collect();
        let shown = tail(&output);
        assert!(shown.contains("line 99\n") && shown.contains("line 70\n") && !shown.contains("line 69\n"));
    }

    #[test]
    fn toolchain_variables_are_dropped_and_others_kept() {
        for name in [
            "CARGO",
            "RUSTUP_TOOLCHAIN",
            "RUSTC",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_DIR",
        ] {
            assert!(leads_astray(name), "{name}");
        }
        for name in [
            "PATH",
            "HOME",
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_HTTP_CAINFO",
            "http_proxy",
        ] {
            assert!(!leads_astray(name), "{name}");
        }
    }
}
