use clap::Parser;

use super::*;
use crate::config::{Period, advise};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    flags: KubeProxyFlags,
}

fn flags(arguments: &[&str]) -> Result<KubeProxyFlags, String> {
    let line = Line::try_parse_from(["x"].iter().chain(arguments));
    line.map(|line| line.flags).map_err(|error| error.to_string())
}

#[test]
fn a_flag_is_a_field() {
    let given = flags(&[
        "--healthz-bind-address=",
        "--metrics-bind-address",
        "0.0.0.0",
        "--conntrack-udp-timeout=20s",
        "--nodeport-addresses=10.0.0.0/8, fd00::/8",
        "--feature-gates=A=true,B=false",
        "--bind-address-hard-fail",
        "--masquerade-all=false",
        "--vmodule=proxier*=5",
        "-v=4",
        "--oom-score-adj=-998",
    ])
    .unwrap();
    let (document, settings) = given.settings().unwrap();
    assert_eq!(
        (settings.healthz, settings.must_bind, settings.verbosity),
        (None, true, 4)
    );
    assert_eq!(
        settings.metrics.map(|address| address.to_string()).as_deref(),
        Some("0.0.0.0:10249")
    );
    assert_eq!(document.conntrack.unwrap().udp_timeout, Some(Period::seconds(20)));
    assert_eq!(document.node_port_addresses.unwrap(), ["10.0.0.0/8", "fd00::/8"]);
    assert_eq!(document.feature_gates.unwrap().get("B"), Some(&false));
    assert_eq!(document.iptables.unwrap().masquerade_all, Some(false));
    assert_eq!(document.logging.unwrap().vmodule.unwrap()[0].verbosity, Some(5));
    assert_eq!(document.oom_score_adj, Some(-998));
}

#[test]
fn every_field_of_the_table_is_one_of_the_document() {
    for flag in FLAGS.iter().filter(|flag| flag.purpose == Use::Field) {
        let value = match (flag.form, flag.name) {
            (Form::Switch, _) => "true",
            (Form::Number, _) => "3",
            (Form::Switches, _) => "A=true",
            (Form::Patterns, _) => "a=1",
            (_, name)
                if name.contains("period") || name.contains("timeout") || name.contains("frequency") =>
            {
                "7s"
            }
            (_, name) if name.contains("cidr") || name.contains("addresses") => "10.0.0.0/8",
            (_, name) if name.contains("address") => "10.0.0.1",
            (_, "proxy-mode") => "ipvs",
            (_, "detect-local-mode") => "NodeCIDR",
            (_, "logging-format") => "json",
            _ => "text",
        };
        let argument = format!("--{}={value}", flag.name);
        let given = flags(&[&argument]).unwrap_or_else(|error| panic!("{argument}: {error}"));
        let (document, _) = given
            .settings()
            .unwrap_or_else(|error| panic!("{argument}: {error}"));
        let tree = serde_json::to_value(document).unwrap();
        let pointer = format!("/{}", flag.field.replace('.', "/"));
        assert!(tree.pointer(&pointer).is_some(), "{argument}: {tree}");
    }
}

#[test]
fn a_wrong_value_is_refused_by_the_flags_name() {
    for (argument, part) in [
        ("--conntrack-min=x", "--conntrack-min: `x` is no number"),
        (
            "--masquerade-all=maybe",
            "--masquerade-all: `maybe` is neither true nor false",
        ),
        (
            "--ipvs-udp-timeout=5",
            "--ipvs-udp-timeout: invalid value: string \"5\", expected a time span",
        ),
        (
            "--feature-gates=A",
            "--feature-gates: `A` is not of the form name=true",
        ),
    ] {
        let error = flags(&[argument]).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    for (argument, part) in [
        (
            "--healthz-bind-address=localhost:1",
            "--healthz-bind-address: `localhost:1` is no address",
        ),
        ("--proxy-mode=userspace", "--proxy-mode: `userspace` is none of"),
        (
            "--cluster-cidr=10.0.0.0",
            "--cluster-cidr: `10.0.0.0` is no network",
        ),
    ] {
        let error = flags(&[argument]).unwrap().settings().unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn beside_a_file_only_the_log_is_the_flags() {
    let given = flags(&[
        "-v5",
        "--logging-format=json",
        "--masquerade-all",
        "--healthz-port=0",
    ])
    .unwrap();
    let mut document = Document::default();
    document.logging.get_or_insert_default().verbosity = Some(1);
    given.put_over(&mut document).unwrap();
    let logging = document.logging.unwrap();
    assert_eq!(
        (logging.verbosity, logging.format.as_deref()),
        (Some(5), Some("json"))
    );
    assert_eq!(document.iptables, None);
    assert_eq!(given.void_beside_file().collect::<Vec<_>>(), ["masquerade-all"]);
    assert_eq!(
        given.useless().map(|(name, _)| name).collect::<Vec<_>>(),
        ["healthz-port"]
    );
}

#[test]
fn what_does_nothing_is_named() {
    let given = flags(&["--proxy-mode=ipvs", "--masquerade-all", "--ipvs-strict-arp"]).unwrap();
    let fields: Vec<&str> = advise(&given.settings().unwrap().0)
        .iter()
        .map(|advice| advice.field)
        .collect();
    assert_eq!(fields, ["mode", "iptables.masqueradeAll", "ipvs.strictARP"]);
    assert_eq!(given.of_field("iptables.masqueradeAll"), Some("masquerade-all"));
}
