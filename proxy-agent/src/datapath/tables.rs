//! All maps of an instance, open and typed.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use proxy_common::layout::{
    Affinity, AffinityKey, BackendId, Config, Flow, FlowKey, FrontendKey, FrontendValue, Identity, Interface,
    NamespaceAddress, NamespaceKey, Networks, ServiceId, SocketKey, SocketValue, SourceRangeKey, Uplink, V4,
    V6, Vip, names,
};

use super::error::{Context, DatapathError};
use super::instance::Instance;
use super::map::{self, CounterMap, Map};
use super::memory::{Backends, Prefilter, Services, Slots};
use super::migration::Migration;
use super::size::MapSizes;
use super::specification::{self, mismatch};
use super::sys::{self, Layout, MapDefinition, MapFd};

/// All maps of an instance.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) config: Map<u32, Config>,
    pub(super) frontends4: Map<FrontendKey<V4>, FrontendValue>,
    pub(super) frontends6: Map<FrontendKey<V6>, FrontendValue>,
    pub(super) services: Services,
    pub(super) slots: Slots,
    pub(super) backends: Backends,
    pub(super) loads: Map<BackendId, i32>,
    pub(super) prefilter: Prefilter,
    pub(super) node_addresses4: Map<V4, u32>,
    pub(super) node_addresses6: Map<V6, u32>,
    pub(super) vips4: Map<V4, Vip>,
    pub(super) vips6: Map<V6, Vip>,
    pub(super) networks: Map<u32, Networks>,
    pub(super) interfaces: Map<u32, Interface>,
    pub(super) uplinks: Map<u32, Uplink>,
    pub(super) identity: Map<ServiceId, Identity>,
    pub(super) flows4: FlowTables<V4>,
    pub(super) flows6: FlowTables<V6>,
    pub(super) source_ranges4: Map<SourceRangeKey<V4>, u32>,
    pub(super) source_ranges6: Map<SourceRangeKey<V6>, u32>,
    pub(super) affinity: Map<AffinityKey, Affinity>,
    pub(super) namespaces: Map<NamespaceKey, NamespaceAddress>,
    pub(super) sockets: Map<SocketKey, SocketValue>,
    pub(super) counters: CounterMap,
}

/// A family's flow tables. A sweep goes in this order: a flow that is promoted meanwhile is met in the later table.
#[derive(Debug)]
pub(super) struct FlowTables<A> {
    pub(super) tcp_embryos: Map<FlowKey<A>, Flow<A>>,
    pub(super) tcp_flows: Map<FlowKey<A>, Flow<A>>,
    pub(super) udp_embryos: Map<FlowKey<A>, Flow<A>>,
    pub(super) udp_flows: Map<FlowKey<A>, Flow<A>>,
}

impl Tables {
    /// Opens what is pinned if it fits, and makes and pins what is missing. What has another size than wanted is replaced:
    /// that ends with [`Migration::finish`].
    pub(super) fn prepare(
        instance: &Instance,
        definitions: &[MapDefinition<'static>],
    ) -> Result<(Self, Migration), DatapathError> {
        // Everything pinned is judged before the first map is made: a refusal leaves no half of an instance.
        for definition in definitions {
            open_fitting(instance, &instance.map(definition.name), definition)?;
            open_fitting(instance, &instance.newest(definition.name), definition)?;
        }
        for definition in definitions {
            let path = instance.map(definition.name);
            if open_pin(&path)?.is_none() {
                let made = map::create(definition)?;
                sys::object_pin(&path, std::os::fd::AsFd::as_fd(&made)).file("BPF_OBJ_PIN", &path)?;
            }
        }
        let migration = Migration::begin(instance, definitions)?;
        Ok((Self::open(instance)?, migration))
    }

    /// Opens what is pinned; refuses if a map is missing or does not fit.
    pub(super) fn open(instance: &Instance) -> Result<Self, DatapathError> {
        let opener = Opener {
            instance,
            definitions: specification::maps(&MapSizes::for_budget(0, 1)),
        };
        Ok(Self {
            config: opener.map(names::CONFIG)?,
            frontends4: opener.map(names::FRONTENDS4)?,
            frontends6: opener.map(names::FRONTENDS6)?,
            services: Services(opener.memory(names::SERVICES)?),
            slots: Slots(opener.memory(names::SLOTS)?),
            backends: Backends(opener.memory(names::BACKENDS)?),
            loads: opener.map(names::LOADS)?,
            prefilter: Prefilter(opener.memory(names::PREFILTER)?),
            node_addresses4: opener.map(names::NODE_ADDRESSES4)?,
            node_addresses6: opener.map(names::NODE_ADDRESSES6)?,
            vips4: opener.map(names::VIPS4)?,
            vips6: opener.map(names::VIPS6)?,
            networks: opener.map(names::NETWORKS)?,
            interfaces: opener.map(names::INTERFACES)?,
            uplinks: opener.map(names::UPLINKS)?,
            identity: opener.map(names::IDENTITY)?,
            flows4: FlowTables {
                tcp_embryos: opener.map(names::TCP_EMBRYOS4)?,
                tcp_flows: opener.map(names::TCP_FLOWS4)?,
                udp_embryos: opener.map(names::UDP_EMBRYOS4)?,
                udp_flows: opener.map(names::UDP_FLOWS4)?,
            },
            flows6: FlowTables {
                tcp_embryos: opener.map(names::TCP_EMBRYOS6)?,
                tcp_flows: opener.map(names::TCP_FLOWS6)?,
                udp_embryos: opener.map(names::UDP_EMBRYOS6)?,
                udp_flows: opener.map(names::UDP_FLOWS6)?,
            },
            source_ranges4: opener.map(names::SOURCE_RANGES4)?,
            source_ranges6: opener.map(names::SOURCE_RANGES6)?,
            affinity: opener.map(names::AFFINITY)?,
            namespaces: opener.map(names::NAMESPACES)?,
            sockets: opener.map(names::SOCKETS)?,
            counters: CounterMap::new(opener.open(names::COUNTERS)?, names::COUNTERS),
        })
    }
}

/// The tables of the moment, for those who read them while maps grow.
#[derive(Clone, Debug)]
pub(super) struct Current(Arc<RwLock<Arc<Tables>>>);

impl Current {
    pub(super) fn new(tables: Arc<Tables>) -> Self {
        Self(Arc::new(RwLock::new(tables)))
    }

    pub(super) fn get(&self) -> Arc<Tables> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, tables: Arc<Tables>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = tables;
    }
}

struct Opener<'a> {
    instance: &'a Instance,
    definitions: Vec<MapDefinition<'static>>,
}

impl Opener<'_> {
    fn open(&self, name: &'static str) -> Result<MapFd, DatapathError> {
        let definition = self.definitions.iter().find(|definition| definition.name == name);
        let opened = match definition {
            Some(definition) => open_fitting(self.instance, &self.instance.newest(name), definition)?,
            None => None,
        };
        match opened {
            Some(map) => Ok(map),
            None => Err(self.missing(name)?),
        }
    }

    fn missing(&self, name: &str) -> Result<DatapathError, DatapathError> {
        Ok(match self.instance.others()?.last() {
            Some(other) => self.instance.foreign(*other),
            None => DatapathError::Refused(format!(
                "{} is not there: no agent runs or ran with --instance {}",
                self.instance.map(name).display(),
                self.instance.root().display()
            )),
        })
    }

    fn map<K: Layout, V: Layout>(&self, name: &'static str) -> Result<Map<K, V>, DatapathError> {
        Ok(Map::new(self.open(name)?, name)?)
    }

    fn memory(&self, name: &'static str) -> Result<sys::Memory, DatapathError> {
        Ok(self.open(name)?.memory().call("mmap", name)?)
    }
}

/// Opens a pinned map and compares it with its definition; `None` if nothing is pinned.
fn open_fitting(
    instance: &Instance,
    path: &Path,
    definition: &MapDefinition<'_>,
) -> Result<Option<MapFd>, DatapathError> {
    let Some(fd) = open_pin(path)? else {
        return Ok(None);
    };
    match mismatch(definition, fd.info()) {
        None => Ok(Some(fd)),
        Some(difference) => Err(DatapathError::Refused(format!(
            "{} does not fit this version of Shunt ({difference}); traffic goes on as it was. Run the version that \
             made it, or `shunt cleanup --instance {}` and start again",
            path.display(),
            instance.root().display()
        ))),
    }
}

pub(super) fn open_pin(path: &Path) -> Result<Option<MapFd>, DatapathError> {
    match MapFd::open(path) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).file("BPF_OBJ_GET", path)?,
    }
}
