//! The lab as a whole.

use std::collections::BTreeMap;
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

use crate::agent::Agent;
use crate::cgroup::Cgroup;
use crate::guard::Guard;
use crate::manifest::{self, Service};
use crate::network::{self, UPLINK, node_name};
use crate::options::{Options, Style, Xdp};
use crate::{Namespace, Place, Pod, clean, pod, tunnel};

/// How many nodes a lab has.
pub(crate) const NODES: u8 = 2;

/// Two nodes with their agents, a network, a client outside, and the pods added to them.
#[derive(Debug)]
pub struct Lab {
    id: String,
    options: Options,
    network: Namespace,
    /// The client outside.
    pub client: Place,
    nodes: Vec<Node>,
    pods: BTreeMap<String, Pod>,
    wire: Option<Child>,
    // The last field: agents and servers are ended before the guardian looks for what is left.
    _guard: Guard,
}

#[derive(Debug)]
struct Node {
    host: Place,
    cgroup: Cgroup,
    agent: Agent,
    pods_made: u8,
}

impl Lab {
    /// Builds it and starts the agents.
    pub fn start(options: Options) -> Result<Self> {
        let mut lab = Self::build(options).with_context(|| format!("building the lab {options}"))?;
        lab.start_agents()?;
        Ok(lab)
    }

    /// Starts all agents, side by side, and waits until they are ready.
    pub fn start_agents(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(|node| node.agent.launch())?;
        self.nodes.iter().try_for_each(|node| node.agent.wait_ready())
    }

    /// Builds it without starting the agents.
    pub fn build(options: Options) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the lab makes network namespaces: run it as root"
        );
        let id = new_id();
        let guard = Guard::start(&id)?;
        let root = Cgroup::of_lab(&id)?;
        let network = Namespace::create(&format!("{id}-network"))?;
        let client = place(&id, &root, "client")?;
        let nodes = (1..=NODES)
            .map(|number| node(&id, &root, number, options))
            .collect::<Result<Vec<_>>>()?;
        let namespaces: Vec<_> = nodes.iter().map(|node| node.host.namespace.clone()).collect();
        network::connect(&network, &client.namespace, &namespaces, &options)?;
        let wire = options
            .tunnel
            .then(|| tunnel::connect(&root, &network, &namespaces))
            .transpose()?;
        network::route_pods(&network, &namespaces, &options)?;
        for (number, namespace) in (1..).zip(&namespaces) {
            if options.style == Style::Bridge {
                pod::bridge(namespace, number)?;
            }
            if !options.offloads {
                network::switch_offloads_off(namespace, UPLINK)?;
                network::switch_offloads_off(&network, &node_name(number))?;
            }
        }
        if !options.offloads {
            network::switch_offloads_off(&client.namespace, UPLINK)?;
            network::switch_offloads_off(&network, "client")?;
        }
        for number in 1..=NODES {
            if options.xdp == Xdp::Native {
                network::take_from_xdp(&network, &node_name(number))?;
            }
        }
        network::route_services_to(&network, 1)?;
        for node in &nodes {
            node.agent.apply("nodes.yaml", &manifest::nodes(NODES))?;
        }
        Ok(Self {
            id,
            options,
            network,
            client,
            nodes,
            pods: BTreeMap::new(),
            wire,
            _guard: guard,
        })
    }

    /// Its unique name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it was built with.
    pub fn options(&self) -> Options {
        self.options
    }

    /// The node itself: its network namespace and a cgroup of the host's.
    pub fn host(&self, node: u8) -> &Place {
        &self.nodes[usize::from(node) - 1].host
    }

    /// The node's agent.
    pub fn agent(&self, node: u8) -> &Agent {
        &self.nodes[usize::from(node) - 1].agent
    }

    /// The node's agent, to be started and ended.
    pub fn agent_mut(&mut self, node: u8) -> &mut Agent {
        &mut self.nodes[usize::from(node) - 1].agent
    }

    /// The network between the nodes and the client.
    pub fn network(&self) -> &Namespace {
        &self.network
    }

    /// Adds a pod with an echo server, and waits until the node's agent has attached to it.
    pub fn add_pod(&mut self, name: &str, node: u8) -> Result<&mut Pod> {
        ensure!(!self.pods.contains_key(name), "the lab has a pod {name} already");
        let entry = &mut self.nodes[usize::from(node) - 1];
        let number = entry.pods_made + 2;
        entry.pods_made += 1;
        let place = Place {
            name: name.to_owned(),
            namespace: Namespace::create(&format!("{}-{name}", self.id))?,
            cgroup: entry.cgroup.child(name)?,
        };
        let mark = entry.agent.mark();
        let mut pod = Pod::connect(place, node, number, &entry.host.namespace, &self.options)?;
        pod.serve(pod::ECHO_PORT)?;
        entry.agent.wait_attached(&pod.interface, mark)?;
        Ok(self.pods.entry(name.to_owned()).or_insert(pod))
    }

    /// A pod.
    pub fn pod(&self, name: &str) -> &Pod {
        &self.pods[name]
    }

    /// A pod, to start and stop its servers.
    pub fn pod_mut(&mut self, name: &str) -> Result<&mut Pod> {
        self.pods
            .get_mut(name)
            .with_context(|| format!("the lab has no pod {name}"))
    }

    /// All pods by name.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    /// Kills a pod's servers and takes its network away.
    pub fn remove_pod(&mut self, name: &str) -> Result<()> {
        let mut pod = self
            .pods
            .remove(name)
            .with_context(|| format!("the lab has no pod {name}"))?;
        pod.stop()?;
        self.nodes[usize::from(pod.node) - 1]
            .host
            .namespace
            .ip(&[format!("link delete {}", pod.interface)])?;
        crate::ip::ip(&["netns", "delete", pod.place.namespace.name()])
    }

    /// Gives a Service to all agents, and waits until those that run have it in their maps.
    pub fn apply(&self, service: &Service) -> Result<()> {
        self.nodes
            .iter()
            .try_for_each(|node| node.agent.apply(&service.file(), &service.manifest()).map(drop))
    }

    /// Takes a Service from all agents.
    pub fn delete(&self, service: &Service) -> Result<()> {
        self.nodes
            .iter()
            .try_for_each(|node| node.agent.delete(&service.file()).map(drop))
    }

    /// Lets the network route load balancer addresses and externalIPs to this node.
    pub fn route_services_to(&self, node: u8) -> Result<()> {
        network::route_services_to(&self.network, node)
    }

    /// The place with this name: `client`, a node or a pod.
    pub fn place(&self, name: &str) -> Result<&Place> {
        let hosts = self.nodes.iter().map(|node| &node.host);
        let pods = self.pods.values().map(|pod| &pod.place);
        let mut places = std::iter::once(&self.client).chain(hosts).chain(pods);
        places
            .find(|place| place.name == name)
            .with_context(|| format!("the lab has no {name}"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(wire) = &mut self.wire {
            // The guardian ends it if this does not.
            drop(wire.kill());
            drop(wire.wait());
        }
        for pod in self.pods.values_mut() {
            // The guardian ends what this does not; agents end with their own value.
            drop(pod.stop());
        }
    }
}

fn new_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "shunt-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

fn place(id: &str, parent: &Cgroup, name: &str) -> Result<Place> {
    Ok(Place {
        name: name.to_owned(),
        namespace: Namespace::create(&format!("{id}-{name}"))?,
        cgroup: parent.child(name)?,
    })
}

fn node(id: &str, root: &Cgroup, number: u8, options: Options) -> Result<Node> {
    let name = node_name(number);
    let cgroup = root.child(&name)?;
    let namespace = Namespace::create(&format!("{id}-{name}"))?;
    let host = Place {
        name: name.clone(),
        namespace: namespace.clone(),
        cgroup: cgroup.child("host")?,
    };
    let own = Place {
        name: name.clone(),
        namespace,
        cgroup: cgroup.child("agent")?,
    };
    let folder = clean::folder(id).join(&name);
    let agent = Agent::new(own, cgroup.path(), folder, clean::instance(id, &name), options)?;
    Ok(Node {
        host,
        cgroup,
        agent,
        pods_made: 0,
    })
}
