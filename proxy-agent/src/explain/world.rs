//! A folder of manifests as one node would serve it: model, plan, and the maps that come of them.

use std::collections::BTreeSet;
use std::hash::Hash;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proxy_common::host::HostNode;
use proxy_common::layout::{Addr, CONFIG_NO_LOOPBACK4, CONFIG_NO_LOOPBACK6, Config, ListWord};

use super::node::default_config;
use super::scene::Scene;
use super::{NodeFacts, Store};
use crate::config::LocalMode;
use crate::datapath::NodePortAddresses;
use crate::model::{ExternalIps, Model, Warning};
use crate::name::ObjectName;
use crate::plan::{Capacity, Forwarding, Frontend, PlanError, Planner, Range, ServicePort, Snapshot};
use crate::source::{self, Change, FolderError, Node, Object, Refusal};

/// Why a folder gives no node to ask.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// It can't be read.
    #[error("{0}; give the folder that holds the Services, EndpointSlices and Nodes with --manifests")]
    Folder(FolderError),
    /// Nothing in it could be read.
    #[error("no manifest in {} can be read: {}; correct it and ask again", .folder.display(), list(.refusals))]
    NothingRead {
        /// The folder.
        folder: PathBuf,
        /// Why.
        refusals: Vec<Refusal>,
    },
}

fn list(refusals: &[Refusal]) -> String {
    let texts: Vec<String> = refusals.iter().map(Refusal::to_string).collect();
    texts.join("; ")
}

impl From<FolderError> for WorldError {
    fn from(error: FolderError) -> Self {
        // Not its source: it would be told twice.
        Self::Folder(error)
    }
}

/// The node that is asked about, as the operator names it.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Its name.
    pub node: String,
    /// Addresses beyond those of its Node object.
    pub addresses: Vec<IpAddr>,
    /// Which external addresses it serves.
    pub external_ips: ExternalIps,
    /// How it forwards, where Services say nothing else.
    pub forwarding: Forwarding,
    /// Clients whose packets it never hands on whole.
    pub exempt: BTreeSet<Range>,
    /// At which of its addresses NodePorts answer.
    pub node_ports: NodePortAddresses,
    /// How pods of this node are told from other callers.
    pub local_mode: LocalMode,
}

/// What a node has of a cluster.
#[derive(Debug)]
pub struct World {
    pub(super) folder: PathBuf,
    /// Base names of the files that were read.
    pub(super) files: Vec<String>,
    /// All objects, in the order of their keys.
    pub(crate) objects: Vec<Object>,
    pub(crate) model: Model,
    /// Names of all Nodes, in order.
    pub(super) nodes: Vec<Arc<str>>,
    /// Every Service with its ports, in the order of names.
    pub(crate) services: Vec<(ObjectName, Vec<ServicePort>)>,
    planner: Planner,
    pub(super) scene: Scene,
    pub(super) local_mode: LocalMode,
    /// What of the folder was not taken over.
    pub(super) refusals: Vec<Refusal>,
    /// What is not served as its object asks.
    pub(crate) warnings: Vec<Warning>,
    /// Services that would not fit.
    pub(crate) failed: Vec<PlanError>,
}

impl World {
    /// Reads a folder as the agent of a node reads it.
    pub fn read(folder: &Path, place: &Place) -> Result<Self, WorldError> {
        let batch = source::read_folder(folder)?;
        if batch.changes.is_empty() && !batch.refusals.is_empty() {
            return Err(WorldError::NothingRead {
                folder: folder.to_owned(),
                refusals: batch.refusals,
            });
        }
        let mut world = Self::of(batch.changes, place);
        world.folder = folder.to_owned();
        world.files = batch.files;
        world.refusals = batch.refusals;
        Ok(world)
    }

    /// From objects in memory.
    pub fn of(changes: Vec<Change>, place: &Place) -> Self {
        let mut objects: Vec<Object> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Upsert(object) => Some(object.clone()),
                Change::Delete(_) => None,
            })
            .collect();
        objects.sort_by_key(Object::key);
        let nodes = objects.iter().filter_map(|object| match object {
            Object::Node(node) => Some(node.clone()),
            Object::Service(_) | Object::Slice(_) | Object::ServiceCidr(_) => None,
        });
        let mut nodes: Vec<Arc<Node>> = nodes.collect();
        nodes.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
        let node = nodes.iter().find(|node| *node.metadata.name == *place.node);
        let mut model = Model::new(&place.node)
            .with_external_ips(place.external_ips.clone())
            .with_forwarding(place.forwarding)
            .with_detect_local(place.local_mode.detect());
        let mut warnings = model.apply(changes).warnings;
        let mut names: Vec<ObjectName> = model.services().cloned().collect();
        names.sort_unstable();
        let services: Vec<(ObjectName, Vec<ServicePort>)> = names
            .into_iter()
            .map(|name| {
                let ports = model.compile(&name);
                (name, ports)
            })
            .collect();
        let (mut planner, _) = Planner::adopt(&Snapshot::default(), enough_for(&services));
        let mut store = Store::default();
        store.carry_out(&planner.set_exempt(&place.exempt).operations);
        let plan = planner.apply(&services);
        store.carry_out(&plan.operations);
        let (networks, unknown) = model.ranges().networks();
        store.carry_out(&planner.set_networks(networks).operations);
        warnings.extend(
            unknown
                .into_iter()
                .map(|ranges| Warning::RangesNotKnown { ranges }),
        );
        Self {
            folder: PathBuf::new(),
            files: Vec::new(),
            objects,
            model,
            planner,
            nodes: nodes.iter().map(|node| node.metadata.name.clone()).collect(),
            services,
            scene: Scene {
                store,
                facts: NodeFacts::new(
                    &place.node,
                    node.map(|node| &**node),
                    &place.addresses,
                    &place.node_ports,
                ),
                config: default_config(&place.node_ports),
                ways: None,
            },
            local_mode: place.local_mode.clone(),
            refusals: Vec::new(),
            warnings,
            failed: plan.failed,
        }
    }

    /// What the maps hold.
    pub fn snapshot(&self) -> Snapshot {
        self.scene.store.snapshot()
    }

    /// The node as the rules see it, in one family. Where NodePorts answer at loopback is this place's, whatever the
    /// configuration says.
    pub fn node<A: Addr + Hash>(&self, config: Config) -> HostNode<A> {
        const PLACES: u32 = CONFIG_NO_LOOPBACK4 | CONFIG_NO_LOOPBACK6;
        let mut node = self.scene.node();
        node.config = Config {
            flags: config.flags & !PLACES | self.scene.config.flags & PLACES,
            ..config
        };
        node
    }

    /// What of the folder was not taken over.
    pub fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    /// How many writes to the maps bring this node from here to these ports.
    pub(crate) fn writes_to(mut self, batch: &[(ObjectName, Vec<ServicePort>)]) -> usize {
        self.planner.apply(batch).operations.len()
    }

    /// Whether a file was read, though an object of it may have been refused for another file's.
    pub(super) fn is_taken_over(&self, file: &str) -> bool {
        self.files.iter().any(|other| other == file)
    }

    /// The service port that has a frontend.
    pub(super) fn port_at(&self, frontend: &Frontend) -> Option<&ServicePort> {
        let mut ports = self.services.iter().flat_map(|(_, ports)| ports);
        ports.find(|port| port.frontends.iter().any(|(other, _)| other == frontend))
    }
}

/// Room for all of these, as if each were changed once more.
fn enough_for(services: &[(ObjectName, Vec<ServicePort>)]) -> Capacity {
    let ports = || services.iter().flat_map(|(_, ports)| ports);
    let twice = |count: usize| u32::try_from(count * 2 + 1024).unwrap_or(u32::MAX);
    let endpoints: usize = ports().map(|port| port.endpoints.len()).sum();
    let frontends = twice(ports().map(|port| port.frontends.len()).sum());
    let ranges = twice(ports().map(|port| port.source_ranges.len()).sum());
    Capacity {
        services: twice(ports().count()),
        backends: twice(endpoints),
        slots: ListWord::MAX,
        frontends4: frontends,
        frontends6: frontends,
        ranges4: ranges,
        ranges6: ranges,
    }
}
