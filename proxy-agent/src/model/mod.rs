//! Services, EndpointSlices and this Node -> service ports with their frontends and chosen endpoints. Pure.

mod balancer;
mod choice;
mod claims;
mod compile;
mod endpoints;
mod external;
mod fallback;
mod forwarding;
mod frontends;
mod gone;
mod health_check;
mod networks;
mod nobody;
mod reasons;
mod rule;
mod warning;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use choice::{HintUse, Standing, Standings, Topology};
use claims::{Claims, Rank};
pub use external::ExternalIps;
use foldhash::HashMap;
use frontends::Served;
pub use health_check::HealthCheck;
pub use networks::DetectLocal;
pub use reasons::{Judged, Reasons, Unserved};
pub use warning::Warning;

use crate::name::ObjectName;
use crate::plan::{Forwarding, Range, ServicePort};
use crate::source::{Change, EndpointSlice, Node, Object, ObjectKey, Service};

/// All that a node's proxy knows of the cluster.
#[derive(Debug)]
pub struct Model {
    node_name: Arc<str>,
    zone: Option<Arc<str>>,
    services: HashMap<ObjectName, Arc<Service>>,
    /// By Service, in the order of the slices' names.
    slices: HashMap<ObjectName, Vec<Arc<EndpointSlice>>>,
    /// Which Service, of its own namespace, a slice belongs to.
    slice_owners: HashMap<ObjectName, Arc<str>>,
    claims: Claims,
    external_ips: ExternalIps,
    forwarding: Forwarding,
    /// By the ServiceCIDRs' names.
    service_cidrs: BTreeMap<Arc<str>, Vec<Range>>,
    /// Of this Node.
    pod_ranges: Vec<Range>,
    detect_local: DetectLocal,
}

/// What changes asked for.
#[derive(Debug, Default)]
pub struct Touched {
    /// The Services to compile again, those that are gone among them. They must reach the maps together: a frontend
    /// may have moved from one to another. In order, none twice.
    pub services: Vec<ObjectName>,
    /// The Services to compile again because the node changed, when there is time.
    pub later: BTreeSet<ObjectName>,
    /// What is not served as the objects ask.
    pub warnings: Vec<Warning>,
}

impl Model {
    /// An empty model for a node.
    pub fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.into(),
            zone: None,
            services: HashMap::default(),
            slices: HashMap::default(),
            slice_owners: HashMap::default(),
            claims: Claims::default(),
            external_ips: ExternalIps::default(),
            forwarding: Forwarding::default(),
            service_cidrs: BTreeMap::new(),
            pod_ranges: Vec::new(),
            detect_local: DetectLocal::default(),
        }
    }

    /// Serves no more of the external addresses than these; to be said before anything is known.
    pub fn with_external_ips(self, external_ips: ExternalIps) -> Self {
        Self { external_ips, ..self }
    }

    /// Forwards so, where Services say nothing else; to be said before anything is known.
    pub fn with_forwarding(self, forwarding: Forwarding) -> Self {
        Self { forwarding, ..self }
    }

    /// Tells pods of this node from others by this; to be said before anything is known.
    pub fn with_detect_local(self, detect_local: DetectLocal) -> Self {
        Self { detect_local, ..self }
    }

    /// Takes changes over.
    pub fn apply(&mut self, changes: Vec<Change>) -> Touched {
        self.make_room(&changes);
        let mut touched = Touched::default();
        for change in changes {
            match change {
                Change::Upsert(Object::Service(service)) => {
                    self.set_service(service.metadata.object_name(), Some(service), &mut touched);
                }
                Change::Upsert(Object::Slice(slice)) => {
                    self.set_slice(slice.metadata.object_name(), Some(slice), &mut touched);
                }
                Change::Upsert(Object::Node(node)) => {
                    self.set_node(&node.metadata.name, Some(&node), &mut touched)
                }
                Change::Upsert(Object::ServiceCidr(cidr)) => {
                    self.set_service_cidr(&cidr.metadata.name, Some(&cidr));
                }
                Change::Delete(ObjectKey::ServiceCidr(name)) => self.set_service_cidr(&name, None),
                Change::Delete(ObjectKey::Service(name)) => self.set_service(name, None, &mut touched),
                Change::Delete(ObjectKey::Slice(name)) => self.set_slice(name, None, &mut touched),
                Change::Delete(ObjectKey::Node(name)) => self.set_node(&name, None, &mut touched),
            }
        }
        // Lists of the API are in order already.
        touched.services.sort();
        touched.services.dedup();
        touched
            .later
            .retain(|name| touched.services.binary_search(name).is_err());
        touched
    }

    /// At the start, for all that there is: tables that grow step by step are filled twice.
    fn make_room(&mut self, changes: &[Change]) {
        if !self.services.is_empty() || !self.slices.is_empty() {
            return;
        }
        let is_service = |change: &&Change| matches!(change, Change::Upsert(Object::Service(_)));
        let is_slice = |change: &&Change| matches!(change, Change::Upsert(Object::Slice(_)));
        let services = changes.iter().filter(is_service).count();
        let slices = changes.iter().filter(is_slice).count();
        self.services.reserve(services);
        self.slices.reserve(services.min(slices));
        self.slice_owners.reserve(slices);
        self.claims.reserve(services);
    }

    /// The service ports of a Service; none if it is gone or not served by us.
    pub fn compile(&self, name: &ObjectName) -> Vec<ServicePort> {
        let Some(service) = self.services.get(name) else {
            return Vec::new();
        };
        compile::compile(self, name, service)
    }

    /// All Services.
    pub fn services(&self) -> impl Iterator<Item = &ObjectName> {
        self.services.keys()
    }

    /// The UID of a Service, while it is there.
    pub fn uid(&self, service: &ObjectName) -> Option<&Arc<str>> {
        Some(&self.services.get(service)?.metadata.uid)
    }

    fn served(&self, service: &Service) -> Served {
        Served::by(service, &self.external_ips)
    }

    fn set_service(&mut self, name: ObjectName, service: Option<Arc<Service>>, touched: &mut Touched) {
        let before = match &service {
            Some(service) => self.services.insert(name.clone(), service.clone()),
            None => self.services.remove(&name),
        };
        if before == service {
            return;
        }
        let old = before.map(|service| self.served(&service)).unwrap_or_default();
        let new = service
            .as_deref()
            .map(|service| self.served(service))
            .unwrap_or_default();
        touched.warnings.extend(new.warnings);
        let annotations = service.as_deref().map(warning::of_annotations);
        touched.warnings.extend(annotations.into_iter().flatten());
        let rank = service.as_deref().map(|service| Rank::of(&service.metadata));
        let others = self
            .claims
            .replace(&name, rank, &old.frontends, &new.frontends, &mut touched.warnings);
        touched.services.extend(others);
        touched.services.push(name);
    }

    fn set_slice(&mut self, name: ObjectName, slice: Option<Arc<EndpointSlice>>, touched: &mut Touched) {
        let owner = slice.as_deref().and_then(|slice| owner_of(&name, slice));
        if let Some(slice) = &slice {
            touched.warnings.extend(warning::of_slice(&name, slice));
        }
        let old_owner = match &owner {
            Some(owner) => self.slice_owners.insert(name.clone(), owner.name.clone()),
            None => self.slice_owners.remove(&name),
        };
        let old_owner = old_owner.map(|service| ObjectName {
            namespace: name.namespace.clone(),
            name: service,
        });
        if let Some(old_owner) = old_owner.filter(|old_owner| Some(old_owner) != owner.as_ref()) {
            if let Some(slices) = self.slices.get_mut(&old_owner) {
                slices.retain(|slice| slice.metadata.name != name.name);
                if slices.is_empty() {
                    self.slices.remove(&old_owner);
                }
            }
            self.touch(old_owner, touched);
        }
        if let (Some(owner), Some(slice)) = (owner, slice) {
            let slices = self.slices.entry(owner.clone()).or_default();
            if put_slice(slices, slice) {
                self.touch(owner, touched);
            }
        }
    }

    fn touch(&self, service: ObjectName, touched: &mut Touched) {
        if self.services.contains_key(&service) {
            touched.services.push(service);
        }
    }

    fn set_node(&mut self, name: &str, node: Option<&Node>, touched: &mut Touched) {
        if name != &*self.node_name {
            return;
        }
        let pod_ranges = node.map(Node::pod_ranges).unwrap_or_default();
        self.pod_ranges = pod_ranges.iter().map(networks::range).collect();
        let zone = node.and_then(|node| node.metadata.labels.zone.clone());
        if zone == self.zone {
            return;
        }
        self.zone = zone;
        let depend = |slices: &[Arc<EndpointSlice>]| slices.iter().any(|slice| has_zone_hints(slice));
        let services = self
            .slices
            .iter()
            .filter(|(_, slices)| depend(slices))
            .map(|(name, _)| name);
        touched
            .later
            .extend(services.filter(|name| self.services.contains_key(name)).cloned());
    }
}

/// Puts a slice in its place; whether anything changed.
fn put_slice(slices: &mut Vec<Arc<EndpointSlice>>, slice: Arc<EndpointSlice>) -> bool {
    match slices.binary_search_by(|other| other.metadata.name.cmp(&slice.metadata.name)) {
        Ok(place) if slices[place] == slice => return false,
        Ok(place) => slices[place] = slice,
        Err(place) => {
            slices.reserve_exact(1);
            slices.insert(place, slice);
        }
    }
    true
}

/// The Service that a slice belongs to; none if a proxy has no use for it.
fn owner_of(name: &ObjectName, slice: &EndpointSlice) -> Option<ObjectName> {
    let labels = &slice.metadata.labels;
    let service = labels.service_name.clone().filter(|_| !labels.headless.0)?;
    Some(ObjectName {
        namespace: name.namespace.clone(),
        name: service,
    })
}

fn has_zone_hints(slice: &EndpointSlice) -> bool {
    let hinted = |hints: &crate::source::Hints| !hints.for_zones.is_empty();
    slice
        .endpoints
        .iter()
        .any(|endpoint| endpoint.hints().is_some_and(hinted))
}

#[cfg(test)]
mod tests;
