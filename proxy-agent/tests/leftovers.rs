//! `shunt cleanup --kube-proxy`: rules that kube-proxy 1.36.2 made (dual stack, ClusterIP, NodePort, LoadBalancer with
//! source ranges and session affinity), loaded with the real programs, beside rules of others.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod place;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use place::Place;

/// Rules of others, with names and comments near to kube-proxy's. Those of the kubelet among them.
const FOREIGN: &str = "*nat
:PREROUTING ACCEPT [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-ROUTER-SERVICES - [0:0]
-A PREROUTING -m comment --comment \"not for -j KUBE-SERVICES\" -j CNI-HOSTPORT-DNAT
-A PREROUTING -m comment --comment \"kubernetes of another sort\" -j KUBE-ROUTER-SERVICES
-A CNI-HOSTPORT-DNAT -p tcp -m tcp --dport 8080 -j RETURN
COMMIT
*filter
:FORWARD DROP [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-NWPLCY-34ZZ2QFGO32YYXXO - [0:0]
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-NWPLCY-34ZZ2QFGO32YYXXO -j ACCEPT
COMMIT
";
const FOREIGN_NFT: &str = "table ip kube-proxy-not {
  chain c {
    type filter hook input priority 0;
    accept
  }
}
table inet kube-proxy {
  chain c {
    accept
  }
}
";
const VARIANTS: [(&str, &str); 4] = [
    ("iptables-legacy", include_str!("leftovers/iptables.rules")),
    ("ip6tables-legacy", include_str!("leftovers/ip6tables.rules")),
    ("iptables-nft", include_str!("leftovers/iptables.rules")),
    ("ip6tables-nft", include_str!("leftovers/ip6tables.rules")),
];
const NFTABLES: &str = include_str!("leftovers/nftables.rules");

fn run(program: &str, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} can't be run (install iptables and nftables): {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The rules of a variant, without what differs from one moment to the next.
fn saved(variant: &str) -> Vec<String> {
    let rules = run(&format!("{variant}-save"), &[], "");
    let lines = rules.lines().filter(|line| !line.starts_with('#'));
    let without_counts = |line: &str| match (line.starts_with(':'), line.split_once(" [")) {
        (true, Some((chain, _))) => chain.to_owned(),
        _ => line.to_owned(),
    };
    let mut lines: Vec<String> = lines.map(without_counts).collect();
    // A table with nothing but its built-in chains is the same as none.
    lines
        .retain(|line| !(line.starts_with(['*', 'C']) || line.starts_with(':') && line.ends_with(" ACCEPT")));
    lines.sort_unstable();
    lines.dedup();
    lines
}

fn nft() -> String {
    let tables = run("nft", &["list", "ruleset"], "");
    // Those that iptables-nft keeps there are looked at by its own eyes.
    let mut kept = String::new();
    for table in tables.split_inclusive("\n}\n") {
        if table.contains("kube-proxy") {
            kept += table.trim_start_matches(|letter| letter != 't');
        }
    }
    kept
}

fn cleanup(more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shunt"));
    command.args(["cleanup", "--kube-proxy"]).args(more);
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn everything_of_kube_proxy_goes_and_nothing_else() {
    let _place = Place::enter("leftovers");
    for (variant, _) in VARIANTS {
        run(&format!("{variant}-restore"), &["--noflush"], FOREIGN);
    }
    run("nft", &["-f", "-"], FOREIGN_NFT);
    let before: Vec<_> = VARIANTS.iter().map(|(variant, _)| saved(variant)).collect();
    let tables = nft();
    assert!(tables.contains("table inet kube-proxy {"), "{tables}");
    for (variant, rules) in VARIANTS {
        // KUBE-FIREWALL is the kubelet's as well; kube-proxy leaves it, and so is it left here. Policies of built-in
        // chains are the operator's.
        let is_loaded = |line: &&str| !(line.contains("KUBE-FIREWALL") || line.contains(" ACCEPT ["));
        let rules: Vec<&str> = rules.lines().filter(is_loaded).collect();
        run(
            &format!("{variant}-restore"),
            &["--noflush"],
            &(rules.join("\n") + "\n"),
        );
        assert!(saved(variant).len() > 80, "{variant}");
    }
    run("nft", &["-f", "-"], NFTABLES);

    let told = text(&cleanup(&[]));
    for (index, (variant, _)) in VARIANTS.iter().enumerate() {
        assert_eq!(saved(variant), before[index], "{variant}");
        for part in [
            format!("removed: {variant} table nat: "),
            format!("removed: {variant} table filter: "),
            format!("removed: {variant} table mangle: 1 chains and 0 rules"),
        ] {
            assert!(told.contains(&part), "{part} is not in {told}");
        }
    }
    assert_eq!(nft(), tables);
    assert!(told.contains("removed: nftables table ip kube-proxy\n"), "{told}");
    assert!(
        told.contains("removed: nftables table ip6 kube-proxy\n"),
        "{told}"
    );
    assert_eq!(text(&cleanup(&[])), "nothing of kube-proxy is left\n");
}

#[test]
fn chains_that_others_use_stay_and_are_named() {
    let _place = Place::enter("needed");
    run("iptables-nft-restore", &["--noflush"], VARIANTS[2].1);
    let hook = "*nat\n:CNI-HOSTPORT-SETMARK - [0:0]\n-A CNI-HOSTPORT-SETMARK -j KUBE-MARK-MASQ\nCOMMIT\n";
    run("iptables-nft-restore", &["--noflush"], hook);
    let told = text(&cleanup(&[]));
    for chain in ["KUBE-MARK-MASQ", "KUBE-POSTROUTING"] {
        let line = format!("left: iptables-nft: chain {chain} of table nat: rules of others jump there; ");
        assert!(told.contains(&line), "{told}");
    }
    let rules = saved("iptables-nft");
    assert!(
        rules.iter().any(|rule| rule.ends_with("-j KUBE-POSTROUTING")),
        "{rules:#?}"
    );
    assert!(
        !rules.iter().any(|rule| rule.contains("KUBE-SERVICES")),
        "{rules:#?}"
    );
}

#[test]
fn the_interface_of_ipvs_goes() {
    let _place = Place::enter("ipvs");
    // Of another kind than kube-proxy's, which not every kernel can make: it goes by its name.
    let made = Command::new("ip")
        .args(["link", "add", "kube-ipvs0", "type", "bridge"])
        .status();
    assert!(made.expect("ip (iproute2) can't be run").success());
    assert!(text(&cleanup(&[])).contains("removed: interface kube-ipvs0\n"));
    assert_eq!(
        nix::net::if_::if_nametoindex("kube-ipvs0"),
        Err(nix::errno::Errno::ENODEV)
    );
}

#[test]
fn a_root_without_programs_is_named() {
    let _place = Place::enter("rootless");
    let told = text(&cleanup(&["--host-root", "/proc"]));
    assert!(!told.contains("nftables"), "its tables need no program: {told}");
    assert!(
        told.contains("left: what iptables-nft has, if anything: it is not installed here"),
        "{told}"
    );
    let output = cleanup(&["--host-root", "/nowhere"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && error.contains("--host-root /nowhere"),
        "{error}"
    );
}
