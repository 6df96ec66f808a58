//! The cluster as a whole.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use super::address::pods;
use super::client::Client;
use super::cni::Cni;
use super::control_plane::{ControlPlane, Controllers};
use super::images;
use super::node::{self, Node};
use super::proxy::{self, Proxy};
use super::shunt_images::{self, TAGS};
use crate::place::Place;
use crate::programs;

/// What a cluster is made of.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Who serves Services
    #[arg(long, value_enum, default_value_t)]
    pub proxy: Proxy,
    /// How many nodes, each in a zone of its own
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub nodes: u8,
    /// Who connects pods
    #[arg(long, value_enum, default_value_t)]
    pub cni: Cni,
    /// Shunt as it is shipped, optimised, in place of the build for tests
    #[arg(long)]
    pub release: bool,
    /// Also the image shunt:next, whose maps have a layout that only tests have: to upgrade to, and to roll back from
    #[arg(long)]
    pub next_layout: bool,
}

impl Options {
    /// Two nodes, and pods' network as simple as can be.
    pub fn of(proxy: Proxy) -> Self {
        Self {
            proxy,
            nodes: 2,
            cni: Cni::default(),
            release: false,
            next_layout: false,
        }
    }

    /// As the cluster's program takes them.
    pub(crate) fn arguments(self) -> Vec<String> {
        let mut arguments = vec![
            "--proxy".into(),
            self.proxy.to_string(),
            "--nodes".into(),
            self.nodes.to_string(),
            "--cni".into(),
            self.cni.to_string(),
        ];
        let switches = [(self.release, "--release"), (self.next_layout, "--next-layout")];
        let given = switches.into_iter().filter(|(given, _)| *given);
        arguments.extend(given.map(|(_, switch)| switch.to_owned()));
        arguments
    }

    /// Archives of Shunt's images.
    fn images(self, folder: &Path) -> Result<Vec<PathBuf>> {
        let mut archives = Vec::new();
        let mut built = Vec::new();
        if self.release {
            archives.push(shunt_images::shipped()?);
        } else {
            built.push((TAGS[0], programs::shunt()?));
        }
        if self.next_layout {
            built.push((TAGS[1], programs::shunt_next()?));
        }
        if !built.is_empty() {
            archives.push(shunt_images::pack(folder, &built)?);
        }
        Ok(archives)
    }
}

/// A control plane, nodes, DNS, and who serves Services.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    options: Options,
    // The last field: its guardian looks for what is left.
    control_plane: ControlPlane,
}

impl Cluster {
    /// Builds what the cache does not have, starts all, and waits until Services are served and names resolved.
    pub fn start(options: Options) -> Result<Self> {
        let mut archives = vec![images::archive()?];
        let control_plane = ControlPlane::start(Controllers::All)?;
        // Beside kube-proxy it waits to be deployed.
        if options.proxy != Proxy::None {
            archives.extend(options.images(control_plane.folder())?);
        }
        let client = control_plane.client();
        register(&client, options.nodes)?;
        options.cni.allow(&client)?;
        let nodes = (1..=options.nodes)
            .map(|number| Node::start(&control_plane, number, options, &archives))
            .collect::<Result<Vec<_>>>()?;
        let mut cluster = Self {
            nodes,
            options,
            control_plane,
        };
        cluster.deploy(&client)?;
        Ok(cluster)
    }

    /// The control plane.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// The control plane, to end its API server and start it again.
    pub fn control_plane_mut(&mut self) -> &mut ControlPlane {
        &mut self.control_plane
    }

    /// What it was made of.
    pub fn options(&self) -> Options {
        self.options
    }

    /// A node itself, for programs run on it.
    pub fn host(&self, number: u8) -> &Place {
        self.nodes[usize::from(number) - 1].host()
    }

    /// Its nodes.
    pub fn hosts(&self) -> impl Iterator<Item = &Place> {
        self.nodes.iter().map(Node::host)
    }

    /// A node's root directory, as its own processes see it.
    pub fn root(&self, number: u8) -> PathBuf {
        self.nodes[usize::from(number) - 1].root()
    }

    /// Puts this cluster's `deploy/manifests`, `deploy/cleanup` and `deploy/downgrade` into a folder, with Shunt's image under
    /// this tag.
    pub fn write_deploy(&self, tag: &str) -> Result<()> {
        proxy::write_deploy(self.control_plane.folder(), tag)
    }

    fn deploy(&mut self, client: &Client) -> Result<()> {
        self.options.proxy.deploy(client, self.control_plane.folder())?;
        self.control_plane
            .apply(include_str!("../../cluster/manifests/coredns.yaml"))?;
        let ready = |number| {
            let node = format!("node/{}", node::name(number));
            vec!["wait".to_owned(), "--for=condition=Ready".to_owned(), node]
        };
        let mut waits: Vec<_> = (1..=self.options.nodes).map(ready).collect();
        let roll_out =
            |what: &str| ["rollout", "status", "--namespace=kube-system", what].map(ToOwned::to_owned);
        if let Some(name) = self.options.proxy.daemon_set() {
            waits.push(roll_out(&format!("daemonset/{name}")).into());
            waits.push(roll_out("deployment/coredns").into());
        }
        for wait in waits {
            self.wait(client, &wait)?;
        }
        Ok(())
    }

    /// Waits for what kubectl waits for; that a node ends meanwhile is an error.
    fn wait(&mut self, client: &Client, arguments: &[String]) -> Result<()> {
        let arguments: Vec<_> = arguments
            .iter()
            .map(String::as_str)
            .chain(["--timeout=2s"])
            .collect();
        let mut last = String::new();
        for node in &mut self.nodes {
            node.wait_until(&arguments.join(" "), || match client.output(&arguments, "") {
                Ok(_) => true,
                Err(error) => {
                    last = format!("{error:#}");
                    false
                }
            })
            .with_context(|| last.clone())?;
        }
        Ok(())
    }
}

/// Tells the API server of the nodes before their kubelets do: who they are, and which networks their pods have.
fn register(client: &Client, nodes: u8) -> Result<()> {
    let nodes = (1..=nodes).map(|number| {
        let name = node::name(number);
        let networks = pods(number);
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {
                "kubernetes.io/hostname": name,
                "topology.kubernetes.io/zone": format!("zone-{number}"),
            }},
            "spec": {"podCIDR": networks[0], "podCIDRs": networks},
        })
    });
    let list = json!({"apiVersion": "v1", "kind": "List", "items": nodes.collect::<Vec<_>>()});
    client
        .output(&["create", "--filename=-"], &list.to_string())
        .context("telling of the nodes")
        .map(drop)
}
