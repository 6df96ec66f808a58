//! The effects: maps, programs, links, interfaces. Nothing here knows Kubernetes.

mod abi;
mod apply;
mod attach;
mod capability;
mod classify;
pub mod cleanup;
mod clock;
mod clsact;
mod config;
mod conversion;
pub mod convert;
pub mod doctor;
mod doctor_instance;
mod doctor_kernel;
pub mod dump;
mod error;
mod events;
mod follow;
pub mod gauges;
mod glob;
mod grace;
mod growth;
mod hooks;
mod host_routing;
mod instance;
mod janitor;
#[cfg(feature = "next-layout")]
mod layout_shipped;
mod layouts;
mod links;
mod lives;
mod map;
mod memory;
mod migration;
mod migration_copy;
mod needs;
mod netfilter;
mod netlink;
mod node_ports;
mod object;
mod observe;
mod options;
pub mod picture;
mod pod_networks;
mod policy_engine;
pub mod prepare;
mod probe;
mod programs;
mod pushed_out;
mod release;
mod reserved;
mod room;
mod size;
mod snapshot;
pub mod snat;
mod sockets;
mod specification;
mod sweep;
mod sys;
mod tables;
#[cfg(test)]
pub(crate) mod testing;
mod xdp;
mod xdp_attach;

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use nix::fcntl::Flock;
use proxy_common::layout::{Backend, BackendId, FrontendValue, ServiceId};
use tokio::sync::watch;

pub use error::{ApplyError, CallError, DatapathError};
pub use grace::Grace;
pub use hooks::Hooks;
pub use host_routing::{HostRoutingState, Refusal};
pub use lives::{Lives, NodePorts};
pub use node_ports::{Answering, NodePortAddresses, NodePortAddressesError};
pub use object::OBJECT;
pub use options::{
    AttachMode, DatapathOptions, FlowLives, HostRouting, Mark, NodePortRange, PodInterfaces, SnatPorts,
    SocketLb, Uplinks, XdpMode,
};
pub use pod_networks::PodNetworks;
pub use size::{MapEntries, MapMemory, MapSizes};

use crate::agent::{Addresses, MapWriter, Room, Sweeps};
use crate::name::ObjectName;
use crate::plan::{Capacity, Frontend, Mortal, Operation, Part, Shortage, Snapshot};
use attach::{Attacher, Hook, Sockets};
use classify::Selection;
use error::Context;
use follow::Follower;
use gauges::Gauges;
use growth::Grower;
use instance::Instance;
use janitor::{Errand, Janitor};
use layouts::{Layout, OLDER};
use observe::Stale;
use programs::Programs;
use release::Released;
use snat::SnatReport;
use sweep::Sweeper;
use tables::{Current, Tables};

/// A running data path: maps, programs, attachments, and the threads that follow interfaces and sweep flows.
///
/// Dropping it ends the threads and detaches nothing.
#[derive(Debug)]
pub struct Datapath {
    tables: Arc<Tables>,
    released: Arc<Released>,
    grace: Grace,
    current: Current,
    grower: Grower,
    errands: Option<Sender<Errand>>,
    stop: Option<Arc<UnixStream>>,
    node_ports: NodePorts,
    pod_networks: PodNetworks,
    threads: Vec<JoinHandle<()>>,
    sweeps: watch::Receiver<Sweeps>,
    gauges: Gauges,
    source_ports: watch::Receiver<SnatReport>,
    hooks: watch::Receiver<Hooks>,
    _lock: Flock<File>,
}

impl Datapath {
    /// Opens or makes the maps, loads the programs, attaches them and follows the interfaces from now on; all in the
    /// calling thread's network namespace.
    pub fn start(options: &DatapathOptions) -> Result<Self, DatapathError> {
        let (object, xdp) = (options.object, options.xdp);
        Self::start_with(options, OLDER, move |instance| {
            Programs::load(object, instance, xdp)
        })
    }

    fn start_with(
        options: &DatapathOptions,
        known: &[Layout],
        load: impl Fn(&Instance) -> Result<Programs, DatapathError> + Send + 'static,
    ) -> Result<Self, DatapathError> {
        let instance = Instance::new(&options.instance);
        capability::check()?;
        needs::check()?;
        attach::check_cgroup2(&options.cgroup)?;
        let hook = Hook::choose(options.attach)?;
        instance.check_file_system()?;
        convert::upgrade(options, known, &load)?;
        instance.prepare()?;
        let lock = instance.lock()?;
        // Another version may have begun to convert the maps before the lock was ours.
        instance.check_alone()?;
        let memory = MapMemory::of_options(options)?;
        let (tables, migration) = Tables::prepare(&instance, &specification::maps(&memory.sizes))?;
        let tables = Arc::new(tables);
        let programs = match load(&instance) {
            Ok(programs) => programs,
            Err(error) => {
                migration.abandon()?;
                return Err(error);
            }
        };
        reserved::reserve(&instance, options.snat_ports, options.node_port_range)?;
        warn_of_bound_ports(options.snat_ports);
        let mut config = config::of_node(options)?;
        config.flags |= host_routing::kept(&tables.config.get(&0)?.unwrap_or_default());
        tables.config.put(&0, &config)?;
        migration.catch_up()?;
        options.pod_networks.mark_all(&tables.backends)?;
        attach::attach_cgroup(&instance, &programs, &config, &options.cgroup)?;

        let (stop, stopped) = UnixStream::pair().call("socketpair", "the wish to stop")?;
        let sockets = Sockets {
            cgroup: options.cgroup.clone(),
            config,
        };
        let attacher = Attacher::new(instance.clone(), programs, sockets.clone(), hook, options.xdp)?;
        let selection = Selection {
            pods: options.pod_interfaces.clone(),
            uplinks: options.uplinks.clone(),
            node_ports: options.node_ports.clone(),
        };
        let (orders, obeyed) = mpsc::channel();
        let mut follower = Follower::new(
            tables.clone(),
            selection,
            attacher,
            options.host_routing,
            options.hook_check_period,
            stopped,
            obeyed,
        )?;
        follower.step(Stale::ALL)?;
        migration.finish()?;
        let grower = Grower {
            instance,
            load: Box::new(load),
            hook,
            xdp: options.xdp,
            sockets,
            limit: memory.limit,
            orders,
        };
        Self::run(lock, tables, follower, stop, grower, options.pod_networks.clone())
    }

    fn run(
        lock: Flock<File>,
        tables: Arc<Tables>,
        follower: Follower,
        stop: UnixStream,
        grower: Grower,
        pod_networks: PodNetworks,
    ) -> Result<Self, DatapathError> {
        let grace = Grace::new()?;
        let released = Arc::new(Released::default());
        let (errands, receiver) = mpsc::channel();
        let (sweeps, sweeps_seen) = watch::channel(Sweeps::default());
        let (counts, swept) = watch::channel(None);
        let stop = Arc::new(stop);
        let (chosen, answering) = follower.node_ports();
        let sweeper = Sweeper::new(tables.clone(), released.clone(), grace.clone())?;
        let source_ports = sweeper.source_ports();
        let hooks = follower.hooks();
        let host_routing = follower.host_routing();
        let current = Current::new(tables.clone());
        let janitor = Janitor {
            sweeps,
            counts,
            sweeper,
            tables: tables.clone(),
            released: released.clone(),
            errands: receiver,
            mortal: BTreeMap::new(),
        };
        let mut datapath = Self {
            gauges: Gauges::new(
                current.clone(),
                grower.instance.clone(),
                grower.limit,
                swept,
                source_ports.clone(),
                hooks.clone(),
                host_routing,
            ),
            source_ports,
            hooks,
            node_ports: NodePorts {
                tables: current.clone(),
                chosen,
                wake: Arc::downgrade(&stop),
                answering,
            },
            tables,
            current,
            grower,
            pod_networks,
            released,
            grace,
            errands: Some(errands),
            stop: Some(stop),
            threads: Vec::new(),
            sweeps: sweeps_seen,
            _lock: lock,
        };
        // Threads of their own: they stay in the network namespace of the caller, and block.
        datapath.spawn("interfaces", || follower.run())?;
        datapath.spawn("janitor", || janitor.run())?;
        Ok(datapath)
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), DatapathError> {
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
            .call("clone", name)?;
        self.threads.push(thread);
        Ok(())
    }

    /// Hands over what has time.
    fn tell_janitor(&self, errand: Errand) {
        if let Some(errands) = &self.errands
            && let Err(mpsc::SendError(errand)) = errands.send(errand)
        {
            tracing::error!(?errand, "the janitor is gone");
        }
    }

    /// What the maps hold.
    pub fn snapshot(&self) -> Result<Snapshot, DatapathError> {
        snapshot::read(&self.tables)
    }

    /// How much the maps can hold.
    pub fn capacity(&self) -> Capacity {
        snapshot::capacity(&self.tables)
    }

    /// Waits out the readers of what has been taken away. Its `wait` blocks for some milliseconds; a clone can wait on
    /// another thread.
    pub fn grace(&self) -> Grace {
        self.grace.clone()
    }

    /// Changes how long flows live.
    pub fn lives(&self) -> Lives {
        Lives(self.current.clone())
    }

    /// Changes at which addresses NodePorts answer, and tells which they are.
    pub fn node_ports(&self) -> NodePorts {
        self.node_ports.clone()
    }

    /// How full the maps are and what they count.
    pub fn gauges(&self) -> Gauges {
        self.gauges.clone()
    }

    /// Source ports in use, after each sweep of the flow tables.
    pub fn source_ports(&self) -> watch::Receiver<SnatReport> {
        self.source_ports.clone()
    }

    /// Tells which hooks are without their programs.
    pub fn hooks(&self) -> watch::Receiver<Hooks> {
        self.hooks.clone()
    }

    /// Tells how many sweeps of the flow tables have begun and ended since the start.
    pub fn sweeps(&self) -> watch::Receiver<Sweeps> {
        self.sweeps.clone()
    }
}

/// A socket that holds a port of the range can get packets that are none of its own, and lose some that are.
fn warn_of_bound_ports(range: SnatPorts) {
    match sockets::bound(range.first(), range.count()) {
        Ok(bound) if bound.is_empty() => {}
        Ok(bound) => tracing::warn!(
            ports = bound.join(","),
            "sockets of the node hold ports of --snat-ports"
        ),
        Err(error) => {
            tracing::warn!(%error, "whether sockets of the node hold ports of --snat-ports is not known")
        }
    }
}

impl MapWriter for Datapath {
    type Error = DatapathError;

    fn apply(&mut self, operations: &[Operation]) -> Result<(), DatapathError> {
        Ok(Self::apply(self, operations)?)
    }

    fn snapshot(&mut self) -> Result<Snapshot, DatapathError> {
        Self::snapshot(self)
    }

    fn part(&mut self, part: &Part) -> Result<Snapshot, DatapathError> {
        snapshot::part(&self.tables, part)
    }

    fn backends(&mut self, ids: Range<BackendId>) -> Result<Vec<(BackendId, Backend)>, DatapathError> {
        Ok(self.tables.backends.used_of(ids.start.0..ids.end.0))
    }

    fn frontends(&mut self) -> Result<Vec<(Frontend, FrontendValue)>, DatapathError> {
        snapshot::frontends(&self.tables)
    }

    fn ranges(&mut self) -> Result<Vec<(ServiceId, crate::plan::Range, u32)>, DatapathError> {
        snapshot::ranges(&self.tables)
    }

    fn addresses(&mut self) -> Result<Addresses, DatapathError> {
        snapshot::addresses(&self.tables)
    }

    fn capacity(&self) -> Capacity {
        Self::capacity(self)
    }

    fn make_room(&mut self, shortages: &[Shortage]) -> Result<Room, DatapathError> {
        Self::make_room(self, shortages)
    }

    fn wait_for_readers(&mut self) -> Result<(), DatapathError> {
        Ok(self.grace.wait()?)
    }

    fn end_with_endpoints(&mut self, service: &ObjectName, ports: Vec<Mortal>) {
        self.tell_janitor(Errand::EndWithEndpoints(service.clone(), ports));
    }
}

impl Drop for Datapath {
    fn drop(&mut self) {
        self.errands.take();
        self.stop.take();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the data path panicked");
            }
        }
    }
}

#[cfg(test)]
mod apply_tests;
#[cfg(test)]
mod connection_tests;
#[cfg(test)]
mod conversion_tests;
#[cfg(test)]
mod doctor_tests;
#[cfg(test)]
mod flow_tests;
#[cfg(test)]
mod hooks_tests;
#[cfg(test)]
mod life_tests;
#[cfg(test)]
mod migration_tests;
#[cfg(test)]
mod place_tests;
#[cfg(test)]
mod probe_tests;
#[cfg(test)]
mod xdp_tests;
