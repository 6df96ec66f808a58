//! What the rules ask of the node: its tables, its clock, its dice.

use crate::layout::{
    Addr, Affinity, AffinityKey, Backend, BackendId, Config, Counter, FilterBit, Flow, FlowKey, FlowTable,
    FragmentKey, FragmentPorts, FrontendKey, FrontendValue, ListWord, Meta, NamespaceAddress, NamespaceKey,
    NetworkList, NodeAddress, Service, ServiceId, Vip,
};
use crate::rules::step::Step;
use crate::rules::{Origin, Work, affinity, choice};

/// The tables that say where Services are and who serves them.
pub trait Directory<A: Addr> {
    /// The word of PREFILTER that holds a bit; all ones if it can't be read.
    fn filter_word(&self, word: u32) -> u64;
    /// A frontend; `None` also if the element became another key's while it was read.
    fn frontend(&self, key: &FrontendKey<A>) -> Option<FrontendValue>;
    /// A service port's lists, each word read once.
    fn service(&self, id: ServiceId) -> Option<Service>;
    /// The backend in a slot.
    fn slot(&self, index: u32) -> Option<BackendId>;
    /// A backend.
    fn backend(&self, id: BackendId) -> Option<Backend>;
    /// How many connections a backend has, as far as is known; below 0 for a moment.
    fn load(&self, id: BackendId) -> i32;
    /// Whether an address is in one of a service port's source ranges.
    fn allows(&self, service: ServiceId, tag: u16, source: &A) -> bool;
    /// The node's primary address.
    fn primary_address(&self) -> Option<A>;
    /// What NODE_ADDRESSES says of this address; [`NodeAddress::Foreign`] if nothing.
    fn node_address(&self, address: &A) -> NodeAddress;
    /// What VIPS says of this address; `None` also if the element became another key's while it was read.
    fn vip(&self, address: &A) -> Option<Vip>;
    /// The ranges of cluster addresses.
    fn service_networks(&self) -> Option<&NetworkList<A>>;
    /// The ranges of pods that count as this node's own.
    fn local_networks(&self) -> Option<&NetworkList<A>>;
    /// A random number, uniform over all u32.
    fn random(&self) -> u32;
    /// What a flow with this hash draws where it could be any number: a tool that asks for all that could be drawn puts its own in
    /// its place.
    #[inline(always)]
    fn drawn_by(&self, hash: u32) -> u32 {
        hash
    }
    /// Counts an event.
    fn count(&self, counter: Counter);
    /// Now, in ticks: the low half of `bpf_jiffies64`.
    fn now(&self) -> u32;
    /// Ticks in a second.
    fn ticks_per_second(&self) -> u32;
    /// A client's record, maybe another key's by now: its tag tells.
    fn affinity(&self, key: &AffinityKey) -> Option<Affinity>;
    /// Inserts a client's record; `false` if there is one already, or if the table takes none.
    fn insert_affinity(&self, key: &AffinityKey, record: &Affinity) -> bool;
    /// Inserts or replaces a client's record, if the table takes it.
    fn put_affinity(&self, key: &AffinityKey, record: &Affinity);
    /// Replaces [`Affinity::meta`] of a client's record if it is still `old`.
    fn renew_affinity(&self, key: &AffinityKey, old: u64, new: u64);
    /// A network namespace's address, maybe another key's by now: its tag tells.
    fn namespace(&self, key: &NamespaceKey) -> Option<NamespaceAddress>;
    /// Inserts or replaces a network namespace's address, if the table takes it.
    fn put_namespace(&self, key: &NamespaceKey, address: &NamespaceAddress);

    /// Whether a list holds a backend.
    #[inline(always)]
    fn offers(&self, list: ListWord, id: BackendId) -> bool
    where
        Self: Sized,
    {
        affinity::offers(self, list, id)
    }

    /// A backend of a list by a number and by the list's rule; 0 if the one that was drawn no longer serves.
    #[inline(always)]
    fn draw(&self, list: ListWord, number: u32) -> u32
    where
        Self: Sized,
    {
        choice::draw_by(self, list, number)
    }

    /// Whether this is one of the node's own addresses.
    #[inline(always)]
    fn is_node_address(&self, address: &A) -> bool {
        self.node_address(address) != NodeAddress::Foreign
    }

    /// Whether an address is in a ServiceCIDR; `None` if none is known.
    #[inline(always)]
    fn in_service_network(&self, address: &A) -> Option<bool> {
        self.service_networks()?.contains(address)
    }

    /// Whether NodePorts answer at this address.
    #[inline(always)]
    fn has_node_ports(&self, address: &A) -> bool {
        self.node_address(address) == NodeAddress::NodePorts
    }

    /// Whether a bit of the prefilter is set.
    #[inline(always)]
    fn filter(&self, bit: FilterBit) -> bool {
        self.filter_word(bit.word()) & bit.mask() != 0
    }
}

/// The flow tables, and what making a flow needs. The table of a key follows from its protocol and family.
pub trait FlowStore<A: Addr>: Directory<A> {
    /// Takes a step. In the kernel the workspace is this CPU's.
    #[inline(always)]
    fn step<S: Step>(&self, step: S, work: &mut Work<A>) -> u32
    where
        Self: Sized,
    {
        step.take(self, work)
    }
    /// The node's configuration.
    fn config(&self) -> &Config;
    /// Copies a flow out; `false` without one, also if the element became another key's meanwhile.
    fn flow(&self, table: FlowTable, key: &FlowKey<A>, into: &mut Flow<A>) -> bool;
    /// Inserts a flow; `false` if there is one already, or if the table takes none.
    fn insert_flow(&self, table: FlowTable, key: &FlowKey<A>, flow: &Flow<A>) -> bool;
    /// Inserts or replaces a flow.
    fn put_flow(&self, table: FlowTable, key: &FlowKey<A>, flow: &Flow<A>) -> bool;
    /// Replaces a flow's meta if it is still `old`.
    fn exchange_meta(&self, table: FlowTable, key: &FlowKey<A>, old: Meta, new: Meta) -> bool;
    /// A backend has so many more connections; fewer, if negative.
    fn add_load(&self, id: BackendId, connections: i32);
    /// Removes a flow, if it is there.
    fn remove_flow(&self, table: FlowTable, key: &FlowKey<A>);
    /// The source address for a packet that this node sends to `destination` in its own name.
    ///
    /// # Errors
    /// [`Counter::NoRoute`] or [`Counter::NoSourceAddress`].
    fn source_towards(&self, destination: &A) -> Result<A, Counter>;
    /// The index of the interface that the packet came in by; 0 if that is not known.
    fn came_in_by(&self) -> u32;
    /// Whether the way to an address leads out of an interface at which our programs see what comes back, and that leads to
    /// pods, or to the network.
    fn leads_to(&self, destination: &A, place: Origin) -> bool;
    /// The ports of a fragmented datagram.
    fn fragment(&self, key: &FragmentKey<A>) -> Option<FragmentPorts>;
    /// Remembers the ports of a fragmented datagram.
    fn put_fragment(&self, key: &FragmentKey<A>, ports: &FragmentPorts);
}
