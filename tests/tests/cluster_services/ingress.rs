//! nginx as an ingress controller behind a load balancer, called by a client outside.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use lab::address::{CLIENT, Family, LOAD_BALANCER};
use lab::cluster::address;

use crate::steps::{Standing, standing, wait_until};

/// Calls of each kind.
const CALLS: usize = 20;
/// Where nginx runs, and where it does not.
const WITH: u8 = 2;
const WITHOUT: u8 = 1;

/// A Service's frontend as a URL.
pub(crate) fn url(address: IpAddr, path: &str) -> String {
    match address {
        IpAddr::V4(four) => format!("http://{four}/{path}"),
        IpAddr::V6(six) => format!("http://[{six}]/{path}"),
    }
}

impl Standing {
    /// What the client outside is answered at a load balancer's address, for a host's name.
    fn ask(&self, family: Family, host: &str, path: &str) -> Result<String> {
        let header = format!("Host: {host}.example");
        let url = url(LOAD_BALANCER.of(family), path);
        let options = [
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "10",
            "--header",
        ];
        let output = self
            .outside
            .output("curl", &[&options[..], &[header.as_str(), url.as_str()]].concat())?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{host} at {url}: {errors}");
        String::from_utf8(output.stdout).context("an answer that is no text")
    }

    /// What a node tells load balancers of the ingress.
    fn health(&self, node: u8) -> Result<String> {
        let port = self.read("service/ingress", ".spec.healthCheckNodePort")?;
        let url = format!("http://{}:{port}/", address::node(node).v4);
        let status = ["--silent", "--output", "/dev/null", "--write-out", "%{http_code}"];
        let output = self.outside.output(
            "curl",
            &[&status[..], &["--max-time", "10", url.as_str()]].concat(),
        )?;
        String::from_utf8(output.stdout).context("a status that is no text")
    }

    /// Makes the ingress a load balancer's: its status is set, and its addresses lead to the node that is healthy.
    pub(crate) fn balance_ingress(&self) -> Result<()> {
        for pod in ["one", "two", "ingress"] {
            self.wait_ready(pod)?;
        }
        let addresses = Family::BOTH.map(|family| format!(r#"{{"ip":"{}"}}"#, LOAD_BALANCER.of(family)));
        self.set_policy("Local")?;
        let status = format!(
            r#"{{"status":{{"loadBalancer":{{"ingress":[{}]}}}}}}"#,
            addresses.join(",")
        );
        let patch = format!("--patch={status}");
        self.kubectl(&[
            "patch",
            "service/ingress",
            "--subresource=status",
            "--type=merge",
            &patch,
        ])?;
        wait_until(|| {
            let health = [WITH, WITHOUT].map(|node| self.health(node).unwrap_or_default());
            ensure!(health == ["200", "503"], "the nodes' health is {health:?}");
            Ok(())
        })?;
        self.cluster.control_plane().route_load_balancers_to(WITH)?;
        wait_until(|| {
            Family::BOTH
                .iter()
                .try_for_each(|&family| self.ask(family, "one", "hostname").map(drop))
        })
    }

    /// Whom the pods behind the ingress are told that they talk to.
    fn seen(&self, family: Family) -> Result<IpAddr> {
        let text = self.ask(family, "two", "header?key=X-Client")?;
        text.trim()
            .parse()
            .with_context(|| format!("the client is {text}"))
    }

    fn set_policy(&self, policy: &str) -> Result<()> {
        let patch = format!(r#"--patch={{"spec":{{"externalTrafficPolicy":"{policy}"}}}}"#);
        self.kubectl(&["patch", "service/ingress", &patch]).map(drop)
    }
}

#[test]
fn an_ingress_controller_behind_a_load_balancer_serves_clients_outside_and_sees_their_addresses() {
    let standing = standing().unwrap();
    standing.balance_ingress().unwrap();
    for family in Family::BOTH {
        for host in ["one", "two"] {
            for _ in 0..CALLS {
                assert_eq!(standing.ask(family, host, "hostname").unwrap(), host);
            }
        }
        assert_eq!(standing.seen(family).unwrap(), CLIENT.of(family));
        let stranger = standing.ask(family, "three", "hostname").unwrap_err();
        assert!(stranger.to_string().contains("404"), "{stranger}");
    }
    // By the node that has no nginx: it answers for the cluster, and in its own name.
    standing.set_policy("Cluster").unwrap();
    let control_plane = standing.cluster.control_plane();
    control_plane.route_load_balancers_to(WITHOUT).unwrap();
    for family in Family::BOTH {
        wait_until(|| {
            let seen = standing.seen(family)?;
            let node = address::node(WITHOUT).of(family);
            ensure!(seen == node, "nginx sees {seen}, not {node}");
            Ok(())
        })
        .unwrap();
        for _ in 0..CALLS {
            assert_eq!(standing.ask(family, "one", "hostname").unwrap(), "one");
        }
    }
}
