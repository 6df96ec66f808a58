//! What is asked of each Service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use proxy_common::layout::Family;

use super::lists::{self, Lists};
use super::objects;
use super::state::{InstalledServices, Uid};
use super::unknown::Unknown;
use crate::explain::Place;
use crate::name::ObjectName;
use crate::plan::{Endpoint, PortKey, ServicePort};
use crate::preview::{Intent, merge};
use crate::source::{EndpointAddress, EndpointSlice, Object, Service};

/// All that is asked.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// By the Service that it is about.
    pub(super) of: BTreeMap<ObjectName, Request>,
    /// What is about none: Nodes, slices without an owner.
    pub(super) others: Vec<Object>,
}

/// What is asked of a Service.
#[derive(Debug, Default)]
pub(super) struct Request {
    is_deleted: bool,
    pub(super) is_applied: bool,
    applied: Option<Arc<Service>>,
    slices: Vec<Arc<EndpointSlice>>,
    deleted_slices: Vec<Arc<EndpointSlice>>,
}

impl Requests {
    pub(super) fn of(intent: Intent<Object>, place: &Place, unknown: &mut Unknown) -> Self {
        let mut requests = Self::default();
        let (objects, is_deletion) = match intent {
            Intent::Apply(objects) => (objects, false),
            Intent::Delete(objects) => (objects, true),
        };
        let mut has_node = false;
        for object in objects {
            if let Object::Node(node) = &object
                && *node.metadata.name == *place.node
            {
                unknown.node(&place.node);
                has_node = !is_deletion;
            }
            requests.add(object, is_deletion, unknown);
        }
        let mut slices = requests.of.values().flat_map(|request| &request.slices);
        if !has_node && slices.any(|slice| objects::has_zone_hints(slice)) {
            unknown.zone(&place.node);
        }
        requests
    }

    fn add(&mut self, object: Object, is_deletion: bool, unknown: &mut Unknown) {
        let owner = merge::services_of(std::slice::from_ref(&object)).pop_first();
        let Some(name) = owner else {
            match object {
                Object::Slice(slice) if is_deletion => unknown.owner(&slice.metadata.object_name()),
                _ if is_deletion => {}
                other => self.others.push(other),
            }
            return;
        };
        let request = self.of.entry(name).or_default();
        match object {
            Object::Service(_) if is_deletion => request.is_deleted = true,
            Object::Service(service) => {
                request.is_applied = true;
                request.applied = Some(service);
            }
            Object::Slice(slice) if is_deletion => request.deleted_slices.push(slice),
            Object::Slice(slice) => request.slices.push(slice),
            Object::Node(_) | Object::ServiceCidr(_) => {}
        }
    }

    /// Endpoints that are on this node by the one and not by the other.
    pub(super) fn misplaced(&self, now: &InstalledServices, node: &str) -> Vec<String> {
        let mut misplaced = Vec::new();
        for (name, request) in &self.of {
            let installed = now.ports_of(name).iter().flat_map(|port| &port.endpoints);
            let installed: BTreeMap<_, _> = installed
                .map(|endpoint| (endpoint.address, endpoint.local))
                .collect();
            let entries = request.slices.iter().flat_map(|slice| &slice.endpoints);
            for entry in entries {
                let (EndpointAddress::Ip(address), Some(named)) = (&entry.address, entry.node_name()) else {
                    continue;
                };
                match installed.get(address) {
                    Some(here) if *here != (named == node) => misplaced.push(format!(
                        "Service {name}: its endpoint {address} is on {named} by its nodeName, and {} this node by the \
                         maps; is {node} this node's name (--node)?",
                        if *here { "on" } else { "not on" }
                    )),
                    _ => {}
                }
            }
        }
        misplaced
    }
}

impl Request {
    /// The objects of the Service after, as far as they are given or can be told.
    pub(super) fn objects(
        &mut self,
        name: &ObjectName,
        now: &[ServicePort],
        uid: Option<&Uid>,
        node: &str,
        unknown: &mut Unknown,
    ) -> Vec<Object> {
        if now.is_empty() && !self.is_applied {
            unknown.service(name);
            return Vec::new();
        }
        if self.is_deleted {
            return Vec::new();
        }
        let text = uid.map(|uid| uid.text.clone()).unwrap_or_default();
        let before = objects::service(name, text, now);
        let service = match self.applied.take() {
            None => {
                unknown.policies(name, lists::policies(now));
                Arc::new(before)
            }
            Some(mut service) => {
                if let (Some(service), false) = (Arc::get_mut(&mut service), now.is_empty()) {
                    if uid.is_some_and(|uid| uid.is(&service.metadata.uid)) {
                        service.metadata.uid = before.metadata.uid.clone();
                    }
                    merge::carry_over(service, &before);
                }
                service
            }
        };
        let mut objects = vec![Object::Service(service)];
        objects.extend(self.slices.iter().cloned().map(Object::Slice));
        for port in now.iter().filter(|port| !self.gives(port.key.family)) {
            if self.is_applied || self.takes_from(port.key.family) {
                let lists = Lists::of(port);
                unknown.standing(&port.key, lists.hidden(), lists.is_certain);
            }
            let gone = |endpoint: &Endpoint| is_named(&self.deleted_slices, &port.key, endpoint);
            let slices = objects::slices(port, node, gone).into_iter();
            objects.extend(slices.map(|slice| Object::Slice(Arc::new(slice))));
        }
        objects
    }

    /// Makes of the ports that were compiled those that there will be.
    pub(super) fn settle(&self, now: &[ServicePort], after: &mut Vec<ServicePort>, unknown: &mut Unknown) {
        for port in now.iter().filter(|port| self.gives(port.key.family)) {
            let others = port.endpoints.iter();
            let others = others.filter(|endpoint| !is_named(&self.slices, &port.key, endpoint));
            unknown.other_slices(&port.key, others);
        }
        let is_new = |port: &&ServicePort| now.iter().all(|other| other.key != port.key);
        for port in after.iter().filter(is_new) {
            if !self.gives(port.key.family) {
                unknown.endpoints(&port.key);
            }
        }
        for port in after.iter_mut().filter(|port| !self.gives(port.key.family)) {
            let before = now.iter().find(|other| other.key == port.key);
            port.hints = before.and_then(|before| before.hints);
        }
        if self.is_applied {
            return;
        }
        // The Service itself stays: no more than the lists of its ports change.
        let compiled = std::mem::take(after);
        after.extend(now.iter().map(|port| {
            let compiled = compiled.iter().find(|other| other.key == port.key);
            let is_touched = self.gives(port.key.family) || self.takes_from(port.key.family);
            match compiled.filter(|_| is_touched) {
                Some(compiled) => ServicePort {
                    endpoints: compiled.endpoints.clone(),
                    internal: compiled.internal.clone(),
                    external: compiled.external.clone(),
                    shortcut: compiled.shortcut.clone(),
                    forwarding: compiled.forwarding,
                    hints: compiled.hints,
                    ..port.clone()
                },
                None => port.clone(),
            }
        }));
    }

    /// Whether slices of a family are given.
    fn gives(&self, family: Family) -> bool {
        let mut slices = self.slices.iter();
        slices.any(|slice| slice.address_type == objects::address_type(family))
    }

    /// Whether slices of a family are taken away.
    fn takes_from(&self, family: Family) -> bool {
        let mut slices = self.deleted_slices.iter();
        slices.any(|slice| slice.address_type == objects::address_type(family))
    }
}

/// Whether one of these slices has an endpoint of a service port.
fn is_named(slices: &[Arc<EndpointSlice>], key: &PortKey, endpoint: &Endpoint) -> bool {
    let has = |slice: &EndpointSlice| {
        let mut ports = slice.ports.iter();
        let mut endpoints = slice.endpoints.iter();
        let is_port = ports.any(|port| {
            *port.name == *key.port_name
                && port.protocol.number() == key.protocol
                && port
                    .port
                    .is_some_and(|port| port.0.get() == endpoint.port.number())
        });
        is_port && endpoints.any(|entry| entry.address == EndpointAddress::Ip(endpoint.address))
    };
    slices.iter().any(|slice| has(slice))
}

/// Addresses and ports, for people.
pub(super) fn addresses<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) -> BTreeSet<SocketAddr> {
    endpoints
        .map(|endpoint| (endpoint.address, endpoint.port.number()).into())
        .collect()
}
