//! A small cluster as a folder of manifests, and the binary that is asked about it.

#![allow(dead_code, reason = "every test program uses a part of it")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

/// A folder that is removed at the end.
pub(crate) struct Manifests(PathBuf);

impl Drop for Manifests {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

impl Manifests {
    pub(crate) fn empty() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("shunt-explain-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let manifests = Self::empty();
        for (file, text) in files {
            manifests.write(file, text);
        }
        manifests
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.0.join(file), text).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Asks about node-a.
    pub(crate) fn ask(&self, from: &str, to: &str) -> Value {
        let output = self.run(&["--node", "node-a", "--from", from, "--to", to, "-o", "json"]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{from} -> {to}: {error}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let folder = self.0.to_str().unwrap();
        shunt(&[&["explain", "--manifests", folder], arguments].concat())
    }
}

/// What a page of the docs says is printed, after these words.
pub(crate) fn printed_after<'a>(page: &'a str, words: &str) -> &'a str {
    let block = page.split(&format!("{words}\n\n```\n")).nth(1).unwrap();
    block.split("```").next().unwrap()
}

pub(crate) fn shunt(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shunt"));
    command.env_remove("NODE_NAME");
    command.args(arguments).output().unwrap()
}

/// One Service of the cluster: all its addresses end in its number.
#[derive(Clone, Copy)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) number: u8,
    /// More of its spec.
    pub(crate) spec: &'static str,
    /// Last octets of its endpoints, their nodes and what else is said of them.
    pub(crate) endpoints: &'static [(u8, &'static str, &'static str)],
}

pub(crate) const NODE: &str = "apiVersion: v1
kind: Node
metadata: {name: node-a, labels: {topology.kubernetes.io/zone: west}}
spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.0/24, 'fd00:1::/64']}
status:
  addresses:
  - {type: InternalIP, address: 192.0.2.1}
  - {type: InternalIP, address: '2001:db8::1'}
  - {type: ExternalIP, address: 192.0.2.101}
  - {type: Hostname, address: node-a}
";

impl Service {
    /// Its manifest: dual-stack, a load balancer with every kind of frontend, TCP and UDP.
    pub(crate) fn manifest(&self) -> String {
        let Self {
            name,
            number,
            spec,
            endpoints,
        } = self;
        let mut text = format!(
            "apiVersion: v1
kind: Service
metadata: {{name: {name}, uid: uid-{name}}}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.{number}
  clusterIPs: [10.96.0.{number}, 'fd00:96::{number}']
  externalIPs: [198.51.100.{number}, '2001:db8:100::{number}']
  ports:
  - {{name: web, protocol: TCP, port: 80, nodePort: {}}}
  - {{name: dns, protocol: UDP, port: 80, nodePort: {}}}
  {spec}
status: {{loadBalancer: {{ingress: [{{ip: 203.0.113.{number}}}, {{ip: '2001:db8:113::{number}'}}]}}}}
",
            30000 + u16::from(*number),
            30000 + u16::from(*number)
        );
        for (family, is_v4) in [("IPv4", true), ("IPv6", false)] {
            write!(
                text,
                "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-{}, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: {family}
ports: [{{name: web, protocol: TCP, port: 8080}}, {{name: dns, protocol: UDP, port: 8080}}]
endpoints:
",
                family.to_lowercase()
            )
            .unwrap();
            for (octet, node, more) in *endpoints {
                let address = pod(is_v4, *node == "node-a", *octet);
                writeln!(text, "- {{addresses: ['{address}'], nodeName: {node}, {more}}}").unwrap();
            }
        }
        text
    }

    /// Where one of its frontends is, as `--to` has it.
    pub(crate) fn frontend(&self, kind: &str, is_v4: bool, protocol: &str) -> String {
        let number = self.number;
        let (four, six, port) = match kind {
            "ClusterIP" => (format!("10.96.0.{number}"), format!("fd00:96::{number}"), 80),
            "NodePort" => (
                "192.0.2.1".to_owned(),
                "2001:db8::1".to_owned(),
                30000 + u16::from(number),
            ),
            "LoadBalancer" => (
                format!("203.0.113.{number}"),
                format!("2001:db8:113::{number}"),
                80,
            ),
            _ => (
                format!("198.51.100.{number}"),
                format!("2001:db8:100::{number}"),
                80,
            ),
        };
        if is_v4 {
            format!("{four}:{port}/{protocol}")
        } else {
            format!("[{six}]:{port}/{protocol}")
        }
    }
}

/// A pod's address: of node-a or of node-b.
pub(crate) fn pod(is_v4: bool, is_here: bool, octet: u8) -> String {
    let node = if is_here { 1 } else { 2 };
    if is_v4 {
        format!("10.{node}.0.{octet}")
    } else {
        format!("fd00:{node}::{octet}")
    }
}

/// A backend as the answer names it; `h5` is the pod 5 of node-a, `r5` that of node-b.
pub(crate) fn backend(is_v4: bool, short: &str) -> String {
    let address = pod(is_v4, short.starts_with('h'), short[1..].parse().unwrap());
    if is_v4 {
        format!("{address}:8080")
    } else {
        format!("[{address}]:8080")
    }
}

/// All steps in one text.
pub(crate) fn steps(answer: &Value) -> String {
    let steps = answer["steps"].as_array().unwrap().iter();
    steps
        .map(|step| step.as_str().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}
