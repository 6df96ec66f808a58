//! kube-proxy in Shunt's place, in the modes that no other test runs: Services answer through it, by rules in the tables that it
//! is said to use, so that comparisons with it mean something.

use std::fs::{File, read_to_string};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::Place;
use lab::address::Family;
use lab::cluster::echo::{Echo, Service, call, transfer};
use lab::cluster::iptables::Iptables;
use lab::cluster::{Cluster, ControlPlane, Controllers, Options, Proxy};

/// How long kube-proxy gets for what takes seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// A Service without endpoints: kube-proxy has a rule that refuses it.
const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: alone}
spec: {clusterIP: 10.96.0.77, ports: [{port: 80}]}
";

#[test]
fn services_answer_through_kube_proxy_with_iptables() -> Result<()> {
    serves(Proxy::KubeProxyIptables, Iptables::Nft)
}

#[test]
fn services_answer_through_kube_proxy_with_the_legacy_iptables() -> Result<()> {
    serves(Proxy::KubeProxyIptablesLegacy, Iptables::Legacy)
}

fn serves(proxy: Proxy, iptables: Iptables) -> Result<()> {
    let cluster = Cluster::start(Options::of(proxy))?;
    let echo = Echo::start(&cluster)?;
    for family in Family::BOTH {
        for service in Service::BOTH {
            let frontend = service.at_cluster(&cluster, family)?;
            call(&echo.client, frontend, service)?;
            call(cluster.host(1), frontend, service)?;
            let frontend = service.at_node(1, family);
            call(&echo.outside, frontend, service)?;
            transfer(&echo.outside, frontend)?;
        }
    }
    let found = tables_with(cluster.host(1), "default/one:tcp")?;
    ensure!(found == [iptables], "the rules are in the tables {found:?}");
    Ok(())
}

/// Those of iptables' tables that have this in a rule.
fn tables_with(place: &Place, text: &str) -> Result<Vec<Iptables>> {
    let mut found = Vec::new();
    for (iptables, program) in [
        (Iptables::Nft, "iptables-nft-save"),
        (Iptables::Legacy, "iptables-legacy-save"),
    ] {
        let output = place.output(program, &[])?;
        ensure!(output.status.success(), "{program}: {output:?}");
        if String::from_utf8_lossy(&output.stdout).contains(text) {
            found.push(iptables);
        }
    }
    Ok(found)
}

/// A process that is ended when it is dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// As `cargo xtask bench scale` runs it, one after the other on hosts that know nothing of each other.
#[test]
fn kube_proxy_on_a_host_has_its_rules_in_the_tables_of_the_programs_that_it_is_given() {
    let plane = ControlPlane::start(Controllers::None).unwrap();
    plane.apply(NODE).unwrap();
    // It waits for its Node's addresses.
    plane
        .kubectl(&[
            "patch",
            "node/one",
            "--subresource=status",
            "--type=merge",
            "--patch",
            r#"{"status":{"addresses":[{"type":"InternalIP","address":"172.31.99.200"}]}}"#,
        ])
        .unwrap();
    plane.apply(SERVICE).unwrap();
    for iptables in [Iptables::Legacy, Iptables::Nft, Iptables::Legacy] {
        let host = plane.host_beside().unwrap();
        let versions = plane.kube_proxy_versions(&host, iptables).unwrap();
        assert!(versions[2].contains(iptables.name()), "{versions:?}");
        let place = plane.apart(&host, "proxy").unwrap();
        let mut command = plane.kube_proxy(&place, "one", "iptables", iptables).unwrap();
        let log = plane.folder().join("kube-proxy.log");
        command.stderr(File::create(&log).unwrap());
        let mut kube_proxy = Ended(place.spawn(&mut command).unwrap());
        let found = first_found(&mut kube_proxy.0, &host);
        let found = found.unwrap_or_else(|error| panic!("{error:#}\n{}", read_to_string(&log).unwrap()));
        assert_eq!(found, [iptables], "{versions:?}");
        plane.remove_host(host).unwrap();
    }
}

const NODE: &str = "apiVersion: v1
kind: Node
metadata: {name: one}
";

/// Waits until rules are there. Nothing tells when.
fn first_found(kube_proxy: &mut Child, host: &Place) -> Result<Vec<Iptables>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ended = kube_proxy.try_wait().context("asking for kube-proxy's end")?;
        ensure!(ended.is_none(), "kube-proxy ended: {ended:?}");
        let found = tables_with(host, "default/alone")?;
        if !found.is_empty() {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "no rules come");
        std::thread::sleep(Duration::from_millis(100));
    }
}
