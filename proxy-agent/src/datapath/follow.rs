//! Follows the interfaces, addresses and routes of the node: keeps programs on interfaces, and NODE_ADDRESSES and
//! INTERFACES as they should be. A change of addresses touches no Service.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use proxy_common::layout::{Interface, Uplink, V4, V6, node_address_value};
use tokio::sync::watch;
use tracing::{error, warn};

use super::attach::{Attacher, Hook, Sockets, attach_cgroup};
use super::classify::{Desired, Selection};
use super::error::{Context, DatapathError};
use super::events::{Event, Events};
use super::hooks::{Hooks, Lost};
use super::host_routing::HostRoutingState;
use super::instance::Instance;
use super::netlink::Netlink;
use super::node_ports::{Answering, NodePortAddresses};
use super::observe::{Observed, Stale};
use super::options::{HostRouting, XdpMode};
use super::probe::Probing;
use super::programs::Programs;
use super::snapshot;
use super::tables::Tables;
use super::xdp_attach::candidates;

/// When what failed is tried again without an event.
const RETRY: Duration = Duration::from_secs(5);

/// When what stands in the way of XDP is looked at again without an event.
const LOOK: Duration = Duration::from_secs(30);

/// Maps have grown: other programs are to be at all hooks, and these tables to be followed.
pub(super) struct Order {
    pub(super) tables: Arc<Tables>,
    pub(super) instance: Instance,
    pub(super) programs: Programs,
    pub(super) sockets: Sockets,
    pub(super) hook: Hook,
    pub(super) xdp: XdpMode,
    /// Is told once the programs are there.
    pub(super) done: Sender<Result<(), DatapathError>>,
}

/// Everything that the following needs.
pub(super) struct Follower {
    pub(super) tables: Arc<Tables>,
    selection: Selection,
    pub(super) attacher: Attacher,
    netlink: Netlink,
    events: Events,
    pub(super) observed: Observed,
    /// Address, value.
    node_addresses: BTreeMap<IpAddr, u32>,
    /// What the operator says now.
    chosen: Arc<Mutex<NodePortAddresses>>,
    answering: watch::Sender<Answering>,
    orders: Receiver<Order>,
    interfaces: BTreeMap<u32, Interface>,
    /// By element.
    uplinks: BTreeMap<u32, Uplink>,
    concerns: Vec<String>,
    /// Hooks whose program others have taken away, and that do not have it again.
    pub(super) lost: Vec<Lost>,
    pub(super) hooks: watch::Sender<Hooks>,
    pub(super) probing: Probing,
    /// What the operator says of the way of flows.
    pub(super) host_routing: HostRouting,
    pub(super) routed: watch::Sender<HostRoutingState>,
    /// Between two looks at the hooks; nought: never.
    hook_check_period: Duration,
    /// Something failed: everything is looked at again after a while.
    again: bool,
}

impl Follower {
    /// Subscribes to the events of the calling thread's network namespace; what it leads to there happens in `step`.
    pub(super) fn new(
        tables: Arc<Tables>,
        selection: Selection,
        attacher: Attacher,
        host_routing: HostRouting,
        hook_check_period: Duration,
        stop: UnixStream,
        orders: Receiver<Order>,
    ) -> Result<Self, DatapathError> {
        let four = tables
            .node_addresses4
            .entries()?
            .into_iter()
            .map(|(address, value)| (snapshot::ip(address), value));
        let six = tables
            .node_addresses6
            .entries()?
            .into_iter()
            .map(|(address, value)| (snapshot::ip(address), value));
        Ok(Self {
            node_addresses: four.chain(six).collect(),
            interfaces: tables.interfaces.entries()?.into_iter().collect(),
            uplinks: known(&tables)?,
            tables,
            orders,
            chosen: Arc::new(Mutex::new(selection.node_ports.clone())),
            answering: watch::Sender::new(Answering::Everywhere),
            selection,
            attacher,
            netlink: Netlink::route().call("socket", "rtnetlink")?,
            events: Events::open(stop)?,
            observed: Observed::default(),
            concerns: Vec::new(),
            lost: Vec::new(),
            hooks: watch::Sender::default(),
            probing: Probing::default(),
            host_routing,
            routed: watch::Sender::default(),
            hook_check_period,
            again: false,
        })
    }

    /// Where the operator's choice of addresses stands, and where NodePorts answer by it.
    pub(super) fn node_ports(&self) -> (Arc<Mutex<NodePortAddresses>>, watch::Receiver<Answering>) {
        (self.chosen.clone(), self.answering.subscribe())
    }

    /// Tells which hooks are without their programs.
    pub(super) fn hooks(&self) -> watch::Receiver<Hooks> {
        self.hooks.subscribe()
    }

    /// Tells how new flows go.
    pub(super) fn host_routing(&self) -> watch::Receiver<HostRoutingState> {
        self.routed.subscribe()
    }

    /// Reads what is stale and does what follows. An interface that refuses its programs keeps no other from getting
    /// theirs: it is named in the log, and tried again.
    pub(super) fn step(&mut self, stale: Stale) -> Result<(), DatapathError> {
        self.observed.refresh(&mut self.netlink, stale)?;
        let desired = self.selection.judge(&self.observed);
        // A map that takes no more must not keep programs from interfaces.
        let written = self.write(&desired);
        let answering = self.selection.answering(&desired);
        self.answering.send_if_modified(|before| {
            let is_new = *before != answering;
            if is_new {
                tracing::info!(addresses = %answering, "NodePorts answer at other addresses");
            }
            *before = answering;
            is_new
        });
        if self.concerns != desired.concerns {
            for concern in &desired.concerns {
                warn!("{concern}");
            }
            self.concerns.clone_from(&desired.concerns);
        }
        let failures = self.attacher.reconcile(&desired.targets);
        for error in &failures {
            warn!(%error, "an interface is not as it should be; tried again in {} s", RETRY.as_secs());
        }
        self.again = !failures.is_empty();
        // What is attached now can be sent around the stack.
        let written = written.and(self.write_interfaces(&desired));
        self.settle_host_routing()?;
        let candidates = candidates(&desired.targets, &self.observed);
        let uplinks = self.attacher.reconcile_xdp(&candidates);
        let is_without = self.settle(&desired.targets);
        self.again |= is_without;
        self.probe();
        self.write_uplinks(uplinks)?;
        written
    }

    /// Runs until the other end of `stop` is dropped.
    pub(super) fn run(mut self) {
        let mut looked = Instant::now();
        loop {
            let waits = self.attacher.waits();
            let due = (!self.hook_check_period.is_zero())
                .then(|| self.hook_check_period.saturating_sub(looked.elapsed()));
            let pauses = [self.again.then_some(RETRY), waits.then_some(LOOK), due];
            let event = self.events.next(pauses.into_iter().flatten().min());
            let is_due = due.is_some() && looked.elapsed() >= self.hook_check_period;
            let has_lost = is_due && self.look();
            if is_due {
                self.probing.forget();
                self.probe();
                if let Err(error) = self.settle_host_routing() {
                    warn!(%error, "how new flows go could not be settled");
                }
                looked = Instant::now();
            }
            let stale = match event {
                Ok(Event::Stop) => return,
                Ok(Event::Chosen) => {
                    while let Ok(order) = self.orders.try_recv() {
                        self.obey(order);
                    }
                    let chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
                    self.selection.node_ports.clone_from(&chosen);
                    if self.again { Stale::ALL } else { Stale::default() }
                }
                Ok(Event::Stale(_)) if self.again || has_lost => Stale::ALL,
                Ok(Event::Stale(stale)) if !stale.any() && !waits => continue,
                Ok(Event::Stale(stale)) if !stale.any() => Stale { links: true, ..stale },
                Ok(Event::Stale(stale)) => stale,
                Err(failure) => {
                    error!(error = %failure, "events of the interfaces can't be read; subscribing anew");
                    if let Err(error) = self.events.reopen() {
                        error!(%error, "interfaces are followed no more: restart the agent");
                        return;
                    }
                    Stale::ALL
                }
            };
            if let Err(error) = self.step(stale) {
                warn!(%error, "following the interfaces failed; tried again in {} s", RETRY.as_secs());
                self.again = true;
            }
        }
    }

    fn obey(&mut self, order: Order) {
        let Order {
            tables,
            instance,
            programs,
            sockets,
            hook,
            xdp,
            done,
        } = order;
        // Here, because this thread puts back what is not as it knows it.
        let attached = attach_cgroup(&instance, &programs, &sockets.config, &sockets.cgroup);
        let attacher = attached.and_then(|()| Attacher::new(instance, programs, sockets, hook, xdp));
        let taken_over = attacher.and_then(|attacher| {
            self.attacher = attacher;
            self.tables = tables;
            self.step(Stale::ALL)
        });
        if done.send(taken_over).is_err() {
            error!("nobody waits for the programs of the larger maps");
        }
    }

    fn write_uplinks(&mut self, uplinks: BTreeMap<u32, Uplink>) -> Result<(), DatapathError> {
        for (slot, uplink) in &uplinks {
            if self.uplinks.get(slot) != Some(uplink) {
                self.tables.uplinks.put(slot, uplink)?;
            }
        }
        for slot in self.uplinks.keys().filter(|slot| !uplinks.contains_key(slot)) {
            self.tables.uplinks.put(slot, &Uplink::default())?;
        }
        self.uplinks = uplinks;
        Ok(())
    }

    fn write(&mut self, desired: &Desired) -> Result<(), DatapathError> {
        let value = |address: &IpAddr, has_node_ports| match address {
            IpAddr::V4(four) => node_address_value(&V4::from(*four), has_node_ports),
            IpAddr::V6(six) => node_address_value(&V6::from(*six), has_node_ports),
        };
        let addresses = desired.node_addresses.iter();
        let addresses: BTreeMap<IpAddr, u32> = addresses
            .map(|(address, has_node_ports)| (*address, value(address, *has_node_ports)))
            .collect();
        for (address, value) in &addresses {
            if self.node_addresses.get(address) != Some(value) {
                match address {
                    IpAddr::V4(four) => self.tables.node_addresses4.put(&V4::from(*four), value)?,
                    IpAddr::V6(six) => self.tables.node_addresses6.put(&V6::from(*six), value)?,
                }
            }
        }
        for address in self
            .node_addresses
            .keys()
            .filter(|address| !addresses.contains_key(address))
        {
            match address {
                IpAddr::V4(four) => self.tables.node_addresses4.remove(&V4::from(*four))?,
                IpAddr::V6(six) => self.tables.node_addresses6.remove(&V6::from(*six))?,
            };
        }
        self.node_addresses = addresses;
        self.write_interfaces(desired)
    }

    fn write_interfaces(&mut self, desired: &Desired) -> Result<(), DatapathError> {
        let interfaces = self.with_ways(&desired.interfaces, &desired.targets);
        for (index, interface) in &interfaces {
            if self.interfaces.get(index) != Some(interface) {
                self.tables.interfaces.put(index, interface)?;
            }
        }
        for index in self
            .interfaces
            .keys()
            .filter(|index| !interfaces.contains_key(index))
        {
            self.tables.interfaces.remove(index)?;
        }
        self.interfaces = interfaces;
        Ok(())
    }
}

/// What UPLINKS says of interfaces.
pub(super) fn known(tables: &Tables) -> Result<BTreeMap<u32, Uplink>, DatapathError> {
    let entries = tables.uplinks.entries()?.into_iter();
    Ok(entries.filter(|(_, uplink)| uplink.index != 0).collect())
}
