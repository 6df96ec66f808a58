//! The table of kube-proxy's flags.

use serde_json::{Map, Value, json};

/// A flag.
#[derive(Debug, PartialEq)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    /// The field that it gives.
    pub(super) field: &'static str,
    pub(super) form: Form,
    pub(super) purpose: Use,
    /// It stands above a configuration file.
    pub(super) above_file: bool,
}

/// What a flag is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Use {
    /// Its field.
    Field,
    /// Nothing here: what to do instead.
    Nothing(&'static str),
}

/// What a flag's text is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Form {
    Text,
    Number,
    Switch,
    /// Texts with commas between.
    List,
    /// name=true,name=false
    Switches,
    /// pattern=number,...
    Patterns,
}

impl Form {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Number => "NUMBER",
            Self::Switch => "true|false",
            Self::List => "TEXT,...",
            Self::Switches => "NAME=true|false,...",
            Self::Patterns => "PATTERN=NUMBER,...",
        }
    }

    /// The value of a text.
    pub(super) fn value(self, text: &str) -> Result<Value, String> {
        let items = || text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let switch = |text: &str| match text {
            "true" | "1" | "t" => Ok(Value::Bool(true)),
            "false" | "0" | "f" => Ok(Value::Bool(false)),
            _ => Err(format!("`{text}` is neither true nor false")),
        };
        let number = |text: &str| match serde_json::from_str::<Value>(text) {
            Ok(number @ Value::Number(_)) => Ok(number),
            _ => Err(format!("`{text}` is no number")),
        };
        let pair = |item: &str, form: &str| match item.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(format!("`{item}` is not of the form {form}")),
        };
        match self {
            Self::Text => Ok(text.into()),
            Self::Number => number(text),
            Self::Switch => switch(text),
            Self::List => Ok(items().map(Value::from).collect::<Vec<_>>().into()),
            Self::Switches => {
                let mut switches = Map::new();
                for item in items() {
                    let (name, value) = pair(item, "name=true")?;
                    switches.insert(name, switch(&value)?);
                }
                Ok(switches.into())
            }
            Self::Patterns => {
                let mut patterns = Vec::new();
                for item in items() {
                    let (pattern, level) = pair(item, "pattern=1")?;
                    patterns.push(json!({"filePattern": pattern, "verbosity": number(&level)?}));
                }
                Ok(patterns.into())
            }
        }
    }
}

impl Flag {
    /// Apart from the names of Shunt's own arguments.
    pub(super) fn id(&self) -> &'static str {
        self.name
    }

    pub(super) fn is_useless(&self) -> bool {
        matches!(self.purpose, Use::Nothing(_))
    }

    pub(super) fn help(&self) -> String {
        match self.purpose {
            Use::Field => format!("{} of KubeProxyConfiguration", self.field),
            Use::Nothing(what_to_do) => what_to_do.to_owned(),
        }
    }
}

const fn field(name: &'static str, field: &'static str, form: Form) -> Flag {
    Flag {
        name,
        field,
        form,
        purpose: Use::Field,
        above_file: false,
    }
}

/// Above a configuration file.
const fn above(name: &'static str, field: &'static str, form: Form) -> Flag {
    Flag {
        name,
        field,
        form,
        purpose: Use::Field,
        above_file: true,
    }
}

const fn nothing(name: &'static str, form: Form, what_to_do: &'static str) -> Flag {
    Flag {
        name,
        field: "",
        form,
        purpose: Use::Nothing(what_to_do),
        above_file: true,
    }
}

use Form::{List, Number, Patterns, Switch, Switches, Text};

/// Which flag gives which field. --kubeconfig, --master and --hostname-override are arguments of the source's.
pub(super) const FLAGS: &[Flag] = &[
    field("healthz-bind-address", "healthzBindAddress", Text),
    field("metrics-bind-address", "metricsBindAddress", Text),
    field("bind-address-hard-fail", "bindAddressHardFail", Switch),
    field("nodeport-addresses", "nodePortAddresses", List),
    field(
        "conntrack-tcp-timeout-established",
        "conntrack.tcpEstablishedTimeout",
        Text,
    ),
    field(
        "conntrack-tcp-timeout-close-wait",
        "conntrack.tcpCloseWaitTimeout",
        Text,
    ),
    field("conntrack-udp-timeout", "conntrack.udpTimeout", Text),
    field("conntrack-udp-timeout-stream", "conntrack.udpStreamTimeout", Text),
    field("conntrack-max-per-core", "conntrack.maxPerCore", Number),
    field("conntrack-min", "conntrack.min", Number),
    field("conntrack-tcp-be-liberal", "conntrack.tcpBeLiberal", Switch),
    above("v", "logging.verbosity", Number),
    above("vmodule", "logging.vmodule", Patterns),
    above("logging-format", "logging.format", Text),
    above("log-flush-frequency", "logging.flushFrequency", Text),
    above(
        "log-text-split-stream",
        "logging.options.text.splitStream",
        Switch,
    ),
    above(
        "log-text-info-buffer-size",
        "logging.options.text.infoBufferSize",
        Text,
    ),
    above(
        "log-json-split-stream",
        "logging.options.json.splitStream",
        Switch,
    ),
    above(
        "log-json-info-buffer-size",
        "logging.options.json.infoBufferSize",
        Text,
    ),
    field("bind-address", "bindAddress", Text),
    field("cluster-cidr", "clusterCIDR", Text),
    field("detect-local-mode", "detectLocalMode", Text),
    field("pod-bridge-interface", "detectLocal.bridgeInterface", Text),
    field(
        "pod-interface-name-prefix",
        "detectLocal.interfaceNamePrefix",
        Text,
    ),
    field("proxy-mode", "mode", Text),
    field("masquerade-all", "iptables.masqueradeAll", Switch),
    field("iptables-masquerade-bit", "iptables.masqueradeBit", Number),
    field(
        "iptables-localhost-nodeports",
        "iptables.localhostNodePorts",
        Switch,
    ),
    field("iptables-sync-period", "iptables.syncPeriod", Text),
    field("iptables-min-sync-period", "iptables.minSyncPeriod", Text),
    field("ipvs-sync-period", "ipvs.syncPeriod", Text),
    field("ipvs-min-sync-period", "ipvs.minSyncPeriod", Text),
    field("ipvs-scheduler", "ipvs.scheduler", Text),
    field("ipvs-exclude-cidrs", "ipvs.excludeCIDRs", List),
    field("ipvs-strict-arp", "ipvs.strictARP", Switch),
    field("ipvs-tcp-timeout", "ipvs.tcpTimeout", Text),
    field("ipvs-tcpfin-timeout", "ipvs.tcpFinTimeout", Text),
    field("ipvs-udp-timeout", "ipvs.udpTimeout", Text),
    field("feature-gates", "featureGates", Switches),
    field("kube-api-content-type", "clientConnection.contentType", Text),
    field("kube-api-burst", "clientConnection.burst", Number),
    field("kube-api-qps", "clientConnection.qps", Number),
    field("config-sync-period", "configSyncPeriod", Text),
    field("oom-score-adj", "oomScoreAdj", Number),
    field("profiling", "enableProfiling", Switch),
    field(
        "show-hidden-metrics-for-version",
        "showHiddenMetricsForVersion",
        Text,
    ),
    field("proxy-port-range", "portRange", Text),
    nothing("healthz-port", Number, "give --healthz-bind-address instead"),
    nothing("metrics-port", Number, "give --metrics-bind-address instead"),
    nothing(
        "logtostderr",
        Switch,
        "logs go to the standard error output: take it out",
    ),
    nothing(
        "alsologtostderr",
        Switch,
        "logs go to the standard error output: take it out",
    ),
    nothing(
        "log-dir",
        Text,
        "logs go to the standard error output: take it out",
    ),
    nothing(
        "log-file",
        Text,
        "logs go to the standard error output: take it out",
    ),
];
