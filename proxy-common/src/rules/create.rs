//! A new flow: choose a backend, write the reverse and the forward entry.

use crate::layout::{
    Action, Addr, Backend, BackendId, Counter, Direction, Flow, FlowKey, FlowTable, ListWord, Meta, Port,
    ServiceId, When, protocol,
};
use crate::rules::choice::{self, Caller};
use crate::rules::{FlowStore, Headers, Origin, Verdict, lifetime};

/// How many backends are drawn until one serves and its reverse key is free.
const BACKENDS_TRIED: u32 = 4;
/// How many source ports are tried after that.
const PORTS_TRIED: u32 = 16;

/// The key of the flow to be made.
pub(crate) struct NewFlow<A> {
    /// Forward.
    pub(crate) key: FlowKey<A>,
}

/// What is to be done with a packet that has no flow.
#[inline(always)]
pub(crate) fn decide<A: Addr, N: FlowStore<A>>(
    node: &N,
    origin: Origin,
    packet: &Headers<A>,
    new: &NewFlow<A>,
) -> Verdict<A> {
    let key = &new.key;
    let Some(found) = choice::frontend(node, &key.destination, key.destination_port, key.protocol) else {
        return Verdict::Pass;
    };
    if packet.protocol == protocol::TCP && !packet.opens() {
        // Only a SYN makes a flow. Netfilter may own it, after kube-proxy.
        node.count(Counter::TcpWithoutFlow);
        return Verdict::Pass;
    }
    let caller = match origin {
        Origin::Pod => Caller::Node,
        Origin::Network => Caller::Outside,
    };
    let list = choice::list(node, &found, caller);
    if list.count() == 0 {
        return match list.when_empty() {
            When::Reject => Verdict::Reject(Counter::NoEndpoint),
            When::Drop => Verdict::Drop(Counter::NoLocalEndpoint),
        };
    }
    make(node, origin, key, list, found.service)
}

/// One attempt at a flow: where it goes and in whose name.
struct Attempt<A> {
    id: BackendId,
    backend: Backend,
    source: A,
    action: Action,
}

#[inline(always)]
fn make<A: Addr, N: FlowStore<A>>(
    node: &N,
    origin: Origin,
    key: &FlowKey<A>,
    list: ListWord,
    service: ServiceId,
) -> Verdict<A> {
    let mut attempt = None;
    let mut refusal = Counter::NoEndpoint;
    for round in 0..BACKENDS_TRIED + PORTS_TRIED {
        let drawing = round < BACKENDS_TRIED;
        if drawing {
            match draw(node, origin, key, list) {
                Ok(drawn) => attempt = Some(drawn),
                Err(counter) => {
                    refusal = counter;
                    continue;
                }
            }
        }
        let Some(Attempt {
            id,
            backend,
            source,
            action,
        }) = &attempt
        else {
            break;
        };
        let flow = Flow {
            meta: Meta::new(key.tag(), 0, node.now()),
            source: *source,
            destination: A::from_mapped(backend.address),
            source_port: source_port(node, key, *action, drawing),
            destination_port: backend.port,
            backend: *id,
            generation: backend.life,
            service,
            expected_acknowledgement: 0,
            action: *action as u8,
            pad: [0; 3],
        };
        if reserve_reverse(node, key, &flow) {
            return publish(node, key, &flow);
        }
        node.count(Counter::ReverseCollision);
        refusal = Counter::SourcePortsExhausted;
    }
    Verdict::Drop(refusal)
}

/// Draws a backend and settles how its packets go on.
#[inline(always)]
fn draw<A: Addr, N: FlowStore<A>>(
    node: &N,
    origin: Origin,
    key: &FlowKey<A>,
    list: ListWord,
) -> Result<Attempt<A>, Counter> {
    let (id, backend) = choice::draw(node, list).ok_or(Counter::NoEndpoint)?;
    let address = A::from_mapped(backend.address);
    let (source, action) = if address == key.source {
        (
            node.primary_address().ok_or(Counter::NoSourceAddress)?,
            Action::Hairpin,
        )
    } else if matches!(origin, Origin::Network) && !backend.is_local() {
        (node.source_towards(&address)?, Action::Redirect)
    } else {
        (key.source, Action::Stack)
    };
    Ok(Attempt {
        id,
        backend,
        source,
        action,
    })
}

/// The source port to try: the client's own while the client's address is kept, else one of the SNAT range.
#[inline(always)]
fn source_port<A: Addr, N: FlowStore<A>>(node: &N, key: &FlowKey<A>, action: Action, drawing: bool) -> Port {
    let config = node.config();
    let range = config.snat_count as u32;
    let inside = (key.source_port.number().wrapping_sub(config.snat_first) as u32) < range;
    if (matches!(action, Action::Stack) || inside) && drawing || range == 0 {
        return key.source_port;
    }
    Port::new(config.snat_first.wrapping_add((node.random() % range) as u16))
}

/// Inserts the reverse entry if its key is free in both tables (rules 3 and 7).
#[inline(always)]
fn reserve_reverse<A: Addr, N: FlowStore<A>>(node: &N, key: &FlowKey<A>, flow: &Flow<A>) -> bool {
    let reverse = key.partner(flow);
    let entry = key.partner_flow(flow, &reverse);
    if is_taken(node, FlowTable::Flows, &reverse) {
        return false;
    }
    if !node.insert_flow(FlowTable::Embryos, &reverse, &entry) {
        if is_taken(node, FlowTable::Embryos, &reverse) {
            return false;
        }
        // An expired entry does not exist.
        node.remove_flow(FlowTable::Embryos, &reverse);
        if !node.insert_flow(FlowTable::Embryos, &reverse, &entry) {
            return false;
        }
    }
    if is_taken(node, FlowTable::Flows, &reverse) {
        // Another flow was promoted to it meanwhile.
        node.remove_flow(FlowTable::Embryos, &reverse);
        return false;
    }
    true
}

#[inline(always)]
fn is_taken<A: Addr, N: FlowStore<A>>(node: &N, table: FlowTable, key: &FlowKey<A>) -> bool {
    node.flow(table, key)
        .is_some_and(|flow| !lifetime::expired(node.config(), key.protocol, flow.meta, node.now()))
}

/// Inserts the forward entry; who loses the race takes the winner's.
#[inline(always)]
fn publish<A: Addr, N: FlowStore<A>>(node: &N, key: &FlowKey<A>, flow: &Flow<A>) -> Verdict<A> {
    if node.insert_flow(FlowTable::Embryos, key, flow) {
        node.count(Counter::FlowCreated);
        return Verdict::of(flow);
    }
    if let Some(winner) = node.flow(FlowTable::Embryos, key)
        && !lifetime::expired(node.config(), key.protocol, winner.meta, node.now())
    {
        node.remove_flow(FlowTable::Embryos, &key.partner(flow));
        node.count(Counter::LostRace);
        return Verdict::of(&winner);
    }
    // An expired entry does not exist.
    if node.put_flow(FlowTable::Embryos, key, flow) {
        node.count(Counter::FlowCreated);
        return Verdict::of(flow);
    }
    node.remove_flow(FlowTable::Embryos, &key.partner(flow));
    Verdict::Drop(Counter::FlowTableRefused)
}

/// Enters a tuple that netfilter's masquerade took out of our range, so that no flow of ours uses it (rule 3).
#[inline(always)]
pub(crate) fn foreign<A: Addr, N: FlowStore<A>>(node: &N, packet: &Headers<A>) {
    let reply = FlowKey {
        source: packet.destination,
        destination: packet.source,
        source_port: packet.destination_port,
        destination_port: packet.source_port,
        protocol: packet.protocol,
        direction: Direction::Reverse as u8,
        pad: 0,
    };
    if is_taken(node, FlowTable::Flows, &reply) || is_taken(node, FlowTable::Embryos, &reply) {
        return;
    }
    let entry = Flow {
        meta: Meta::new(reply.tag(), 0, node.now()),
        source: reply.source,
        destination: reply.destination,
        source_port: reply.source_port,
        destination_port: reply.destination_port,
        action: Action::Foreign as u8,
        ..Flow::default()
    };
    if node.put_flow(FlowTable::Embryos, &reply, &entry) {
        node.count(Counter::ForeignPort);
    }
}
