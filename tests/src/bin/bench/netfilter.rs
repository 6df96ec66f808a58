//! The peers: DNAT by netfilter in the ways of kube-proxy's two modes.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use lab::Place;

/// How netfilter is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A verdict map from address, protocol and port to a chain a Service.
    Nftables,
    /// A list of rules, one a Service, each jumping to a chain of its own.
    Iptables,
}

/// One frontend and where it leads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) frontend: (Ipv4Addr, u16),
    pub(crate) backend: (Ipv4Addr, u16),
}

/// Replaces the node's rules. The last rule is the last in the list.
pub(crate) fn install(node: &Place, mode: Mode, rules: &[Rule]) -> Result<()> {
    match mode {
        Mode::Nftables => feed(node, "nft", &["-f", "-"], &nftables(rules)),
        Mode::Iptables => feed(node, "iptables-restore", &[], &iptables(rules)),
    }
}

fn nftables(rules: &[Rule]) -> String {
    let mut text = String::from("table ip bench {}\ndelete table ip bench\ntable ip bench {\n");
    for (
        number,
        Rule {
            backend: (to, port), ..
        },
    ) in rules.iter().enumerate()
    {
        let _infallible = writeln!(
            text,
            "chain service{number} {{ ip protocol tcp dnat to {to}:{port}; }}"
        );
    }
    text.push_str("map services { type ipv4_addr . inet_proto . inet_service : verdict; elements = {\n");
    for (
        number,
        Rule {
            frontend: (address, port),
            ..
        },
    ) in rules.iter().enumerate()
    {
        let _infallible = writeln!(text, "{address} . tcp . {port} : goto service{number},");
    }
    text.push_str(
        "} }\nchain prerouting { type nat hook prerouting priority dstnat; \
         ip daddr . meta l4proto . th dport vmap @services; }\n}\n",
    );
    text
}

fn iptables(rules: &[Rule]) -> String {
    let mut text = String::from("*nat\n:PREROUTING ACCEPT [0:0]\n:SERVICES - [0:0]\n");
    for number in 0..rules.len() {
        let _infallible = writeln!(text, ":SERVICE-{number} - [0:0]");
    }
    text.push_str("-A PREROUTING -j SERVICES\n");
    for (
        number,
        Rule {
            frontend: (address, port),
            backend: (to, target),
        },
    ) in rules.iter().enumerate()
    {
        let _infallible = writeln!(
            text,
            "-A SERVICES -d {address}/32 -p tcp -m tcp --dport {port} -j SERVICE-{number}\n\
             -A SERVICE-{number} -p tcp -m tcp -j DNAT --to-destination {to}:{target}"
        );
    }
    text.push_str("COMMIT\n");
    text
}

fn feed(node: &Place, program: &str, arguments: &[&str], text: &str) -> Result<()> {
    let mut command = node.command(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = node.spawn(&mut command)?;
    let mut stdin = child.stdin.take().context("no input")?;
    stdin
        .write_all(text.as_bytes())
        .with_context(|| format!("feeding {program}"))?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{program} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
