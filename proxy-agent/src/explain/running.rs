//! The node that runs, by the maps of its agent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use proxy_common::layout::{Family, Port, ServiceId};

use super::node::Caller;
use super::scene::Scene;
use super::{NodeFacts, Question, Store};
use crate::datapath::DatapathError;
use crate::datapath::picture::{Picture, Way};
use crate::plan::Frontend;

/// A running node, and who calls.
#[derive(Debug)]
pub struct Running {
    pub(super) scene: Scene,
    pub(super) caller: Caller,
}

impl Running {
    /// Reads an instance's maps and the node's routes, as they are, `later` seconds from now.
    ///
    /// # Errors
    /// No agent runs or ran there, or the maps can't be read.
    pub fn read(instance: &Path, question: &Question, later: i64) -> Result<Self, DatapathError> {
        let mut picture = Picture::take(instance)?;
        let config = picture.config;
        let mut store = Store::from(std::mem::take(&mut picture.snapshot));
        store.affinities = std::mem::take(&mut picture.affinities);
        store.namespaces = std::mem::take(&mut picture.namespaces);
        // The clock is one of 32 bits that goes round.
        let ticks = later.wrapping_mul(i64::from(config.ticks_per_second));
        store.clock = picture.now.wrapping_add(ticks as u32);
        let facts = NodeFacts {
            name: "this node".to_owned(),
            is_known: true,
            addresses: std::mem::take(&mut picture.addresses),
            silent: std::mem::take(&mut picture.silent),
            pod_ranges: Vec::new(),
        };
        let mut ways = BTreeMap::new();
        for address in backends_at(&store, question).into_iter().chain([question.from]) {
            if let Some(way) = picture.way(address)? {
                ways.insert(address, way);
            }
        }
        let caller = caller(&store, &facts, question.from, ways.get(&question.from));
        let scene = Scene {
            store,
            facts,
            config,
            ways: Some(ways),
        };
        Ok(Self { scene, caller })
    }
}

fn caller(store: &Store, facts: &NodeFacts, from: IpAddr, way: Option<&Way>) -> Caller {
    let mut backends = store.backends.values();
    if from.is_loopback() {
        return Caller::Host(format!("{from} is a loopback address"));
    }
    if facts.has(from) {
        return Caller::Host(format!("{from} is one of its addresses"));
    }
    if backends
        .any(|backend| backend.is_alive() && backend.is_local() && IpAddr::from(backend.address) == from)
    {
        return Caller::Pod(format!("{from} is the address of a backend on this node"));
    }
    match way {
        Some(way) if way.is_uplink => {
            Caller::Outside(format!("{from} is reached by the uplink {}", way.interface))
        }
        Some(way) => Caller::Pod(format!(
            "{from} is reached by {}, which is no uplink",
            way.interface
        )),
        None => Caller::Outside(format!("the node has no way to {from}")),
    }
}

/// Addresses of the backends that a call may meet.
fn backends_at(store: &Store, question: &Question) -> BTreeSet<IpAddr> {
    let wildcard = match question.family() {
        Family::V4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let frontends = [question.to.ip(), wildcard].map(|address| Frontend {
        address,
        port: Port::new(question.to.port()),
        protocol: question.protocol,
    });
    let services: BTreeSet<ServiceId> = frontends
        .iter()
        .filter_map(|frontend| store.frontends.get(frontend))
        .map(|value| value.service)
        .collect();
    let backends = store.backends.values();
    let theirs = backends.filter(|backend| backend.is_alive() && services.contains(&backend.service));
    theirs.map(|backend| IpAddr::from(backend.address)).collect()
}
