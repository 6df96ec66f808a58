//! A new flow: choose a backend, write the reverse and the forward entry.

use crate::layout::{
    Action, Addr, Affinity, AffinityKey, BackendId, ChoiceRule, Counter, Direction, Flow, FlowKey, FlowTable,
    Meta, Port, ServiceId, Via, When, protocol, state,
};
use crate::rules::affinity;
use crate::rules::choice::{self, Offer};
use crate::rules::forward::{find_step, live, note};
use crate::rules::headers::tcp;
use crate::rules::step::{
    DrawWaiting, FindWaiting, GoAround, Number, Publish, Reclaim, ReserveReverse, Settle,
};
use crate::rules::{FlowStore, Headers, Origin, Verdict, Work, bypass, dsr, lifetime, load};

/// How many backends are drawn until one serves and its reverse key is free.
const BACKENDS_TRIED: u32 = 3;
/// How many source ports are tried after that.
const PORTS_TRIED: u32 = 8;
/// How many flows that wait for their client are compared, if all those ports were in use.
const PORTS_COMPARED: u32 = 12;
/// For how many seconds a datagram's answer is awaited: as long as resolvers wait (resolv.conf(5)).
const ANSWER_AWAITED: u32 = 5;

/// What is to be done with a packet whose key has no flow.
#[inline(always)]
pub(crate) fn decide<A: Addr, N: FlowStore<A>>(node: &N, origin: Origin, work: &mut Work<A>) -> Verdict {
    let Some(found) = choice::frontend(
        node,
        &work.key.destination,
        work.key.destination_port,
        work.key.protocol,
    ) else {
        return Verdict::PASS;
    };
    if !choice::admits(node, &found, &work.key.source) {
        return Verdict::drop(Counter::SourceNotAllowed);
    }
    let caller = choice::caller(node, origin, &work.key.source);
    let offer = choice::offer(node, &found, caller);
    let is_empty = offer.list.count() == 0;
    if is_empty && offer.list.when_empty() == When::Pass {
        node.count(Counter::NoEndpointPassed);
        return Verdict::PASS;
    }
    work.hands_on = offer.hands_on && !dsr::is_exempt(node, work);
    work.is_taken_over = false;
    if !may_begin(&work.packet) && !may_join(offer) && !dsr::may_join(offer) {
        return without_flow(node, work);
    }
    if is_empty {
        return match offer.list.when_empty() {
            When::Reject => Verdict::reject(Counter::NoEndpoint),
            When::Drop | When::Pass => Verdict::drop(Counter::NoLocalEndpoint),
        };
    }
    begin(node, work, found.service);
    make(node, origin, work, offer, 0)
}

/// The flow of a packet that has none, but for its backend.
#[inline(always)]
pub(crate) fn begin<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>, service: ServiceId) {
    let begun = if may_begin(&work.packet) { 0 } else { state::JOINED };
    work.flow = Flow {
        meta: Meta::new(
            work.key.tag(),
            super::state::after(begun, Direction::Forward, &work.packet),
            node.now(),
        ),
        service,
        ..Flow::default()
    };
}

/// Whether the packet may begin a conversation: a connection begins with a SYN or an INIT.
#[inline(always)]
pub(crate) fn may_begin<A: Addr>(packet: &Headers<A>) -> bool {
    packet.protocol == protocol::UDP || packet.opens()
}

/// Whether packets of a connection that nobody knows here find its backend again: by their hash alone, whatever a client
/// keeps.
#[inline(always)]
fn may_join(Offer { list, affinity, .. }: Offer) -> bool {
    list.rule() == ChoiceRule::Maglev && list.count() != 0 && !affinity.is_on()
}

/// A packet of a connection that nobody knows here: netfilter may own it, after kube-proxy.
#[inline(always)]
fn without_flow<A: Addr, N: FlowStore<A>>(node: &N, work: &Work<A>) -> Verdict {
    node.count(if work.packet.protocol == protocol::TCP {
        Counter::TcpWithoutFlow
    } else {
        Counter::SctpWithoutFlow
    });
    Verdict::PASS
}

/// Makes the flow that was begun, to the backend that was chosen, or, as long as that is 0, to one of the offer.
#[inline(always)]
pub(crate) fn make<A: Addr, N: FlowStore<A>>(
    node: &N,
    origin: Origin,
    work: &mut Work<A>,
    offer: Offer,
    chosen: u32,
) -> Verdict {
    let client = AffinityKey::of_address(&work.key.source, work.flow.service);
    // The backend that the client keeps, 0 as long as there is none.
    let mut kept = if chosen != 0 {
        chosen
    } else if offer.affinity.is_on() {
        affinity::recall(node, &client, offer.affinity, offer.list)
    } else {
        0
    };
    let mut refusal = Verdict::PASS;
    let mut has_collided = false;
    for attempt in 0..BACKENDS_TRIED {
        let elected = if kept == 0 {
            elect(node, origin, work, offer, attempt, &client, &mut kept)
        } else {
            towards(node, origin, work, BackendId(kept))
        };
        if elected != Verdict::PASS {
            refusal = elected;
            continue;
        }
        if work.flow.action == Action::Encapsulate as u8 {
            return dsr::publish(node, work);
        }
        if !may_begin(&work.packet)
            && (work.flow.action != Action::Stack as u8 || chosen == 0 && !may_join(offer))
        {
            // In another node's name it had another source.
            return without_flow(node, work);
        }
        if work.may_go_around {
            node.step(GoAround { origin }, work);
        }
        work.flow.source_port = own_or_random_port(node, work);
        if node.step(ReserveReverse {}, work) != 0 {
            return Verdict::of_number(node.step(Publish {}, work));
        }
        has_collided = true;
    }
    if !has_collided {
        return refusal;
    }
    if !may_begin(&work.packet) {
        // Its backend knows it by this port.
        return without_flow(node, work);
    }
    // Towards the last backend that could be had: a draw after it may have failed half-way.
    let backend = work.flow.backend;
    let again = towards(node, origin, work, backend);
    if again != Verdict::PASS {
        return again;
    }
    if work.may_go_around {
        node.step(GoAround { origin }, work);
    }
    for _ in 0..PORTS_TRIED {
        work.flow.source_port = random_port(node, work);
        if node.step(ReserveReverse {}, work) != 0 {
            return Verdict::of_number(node.step(Publish {}, work));
        }
    }
    // A flood of clients that never answer has no more than the range, and takes it from itself: of some ports the one that has
    // waited longest.
    if node.step(FindWaiting {}, work) != 0
        && node.step(Reclaim {}, work) != 0
        && node.step(ReserveReverse {}, work) != 0
    {
        return Verdict::of_number(node.step(Publish {}, work));
    }
    Verdict::drop(Counter::SourcePortsExhausted)
}

/// Draws a source port, and notes it if the flow that has it has waited for its client longer than those of ports before.
#[inline(always)]
pub(crate) fn draw_waiting<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>) {
    work.flow.source_port = random_port(node, work);
    work.partner = work.key.partner(&work.flow);
    if !waits(node, work) {
        return;
    }
    let waited = lifetime::age(work.spare.meta, node.now()).saturating_add(1);
    if waited > work.waited {
        (work.waited, work.waiting_port) = (waited, work.flow.source_port);
    }
}

/// Draws some source ports and gives the work the one whose flow has waited longest for its client; false if none waits.
#[inline(always)]
pub(crate) fn find_waiting<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>) -> bool {
    work.waited = 0;
    for _ in 0..PORTS_COMPARED {
        node.step(DrawWaiting {}, work);
    }
    work.flow.source_port = work.waiting_port;
    work.waited != 0
}

/// Takes the work's source port from the flow that has it and waits for its client; false if it does not, any more.
#[inline(always)]
pub(crate) fn reclaim<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>) -> bool {
    work.partner = work.key.partner(&work.flow);
    if !waits(node, work) {
        return false;
    }
    load::end(node, &work.spare);
    node.remove_flow(FlowTable::Embryos, &work.partner);
    // Its forward entry, unless it has become another's.
    work.partner = work.partner.partner(&work.spare);
    if node.flow(FlowTable::Embryos, &work.partner, &mut work.spare)
        && work.spare.source_port == work.flow.source_port
    {
        node.remove_flow(FlowTable::Embryos, &work.partner);
    }
    node.count(Counter::SourcePortReclaimed);
    true
}

/// Whether a flow has the reverse key whose client has not answered yet, and may go. What answers a datagram has no number to
/// tell whose it is: while one may be on its way, nobody else gets the port.
#[inline(always)]
fn waits<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>) -> bool {
    if !live(node, FlowTable::Embryos, &work.partner, &mut work.spare)
        || work.spare.action == Action::Foreign as u8
    {
        return false;
    }
    let meta = work.spare.meta;
    work.partner.protocol != protocol::UDP
        || meta.state() & state::REPLIED != 0
        || lifetime::age(meta, node.now()) >= ANSWER_AWAITED.wrapping_mul(node.config().ticks_per_second)
}

/// Draws a backend and settles how its packets go on; with affinity the client keeps it.
#[inline(always)]
fn elect<A: Addr, N: FlowStore<A>>(
    node: &N,
    origin: Origin,
    work: &mut Work<A>,
    Offer { list, affinity, .. }: Offer,
    attempt: u32,
    client: &AffinityKey,
    kept: &mut u32,
) -> Verdict {
    let drawn = BackendId(choice::draw_for(node, list, work, attempt));
    if drawn.0 == 0 {
        return Verdict::drop(Counter::NoEndpoint);
    }
    let refusal = towards(node, origin, work, drawn);
    if refusal != Verdict::PASS || !affinity.is_on() {
        return refusal;
    }
    let record = Affinity::new(
        client.tag(affinity.epoch()),
        node.now(),
        drawn,
        work.flow.generation,
    );
    *kept = affinity::claim(node, client, affinity, list, &record);
    if *kept == drawn.0 {
        return Verdict::PASS;
    }
    towards(node, origin, work, BackendId(*kept))
}

#[inline(always)]
fn towards<A: Addr, N: FlowStore<A>>(node: &N, origin: Origin, work: &mut Work<A>, id: BackendId) -> Verdict {
    Verdict::of_number(node.step(Settle { origin, backend: id }, work))
}

/// Settles how packets to a backend go on; [`Verdict::PASS`], or what becomes of them if they can't.
#[inline(always)]
pub(crate) fn settle<A: Addr, N: FlowStore<A>>(
    node: &N,
    origin: Origin,
    work: &mut Work<A>,
    id: BackendId,
) -> Verdict {
    match way(node, origin, work, id) {
        Ok(()) => Verdict::PASS,
        Err(counter) => Verdict::drop(counter),
    }
}

#[inline(always)]
fn way<A: Addr, N: FlowStore<A>>(
    node: &N,
    origin: Origin,
    work: &mut Work<A>,
    id: BackendId,
) -> Result<(), Counter> {
    let backend = node.backend(id).filter(crate::layout::Backend::is_alive);
    let backend = backend.ok_or(Counter::NoEndpoint)?;
    // Where the flow has them: a copy of each would be room on the stack.
    work.flow.destination = A::from_mapped(backend.address);
    work.flow.source = work.key.source;
    let action = if work.flow.destination == work.key.source {
        work.flow.source = node.primary_address().ok_or(Counter::NoSourceAddress)?;
        Action::Hairpin
    } else if matches!(origin, Origin::Network) && !backend.is_local() {
        if work.hands_on {
            Action::Encapsulate
        } else {
            work.flow.source = node.source_towards(&work.flow.destination)?;
            Action::Redirect
        }
    } else {
        Action::Stack
    };
    let is_ours = matches!(action, Action::Redirect | Action::Hairpin);
    if is_ours && node.config().snat_count == 0 {
        return Err(Counter::SourcePortsExhausted);
    }
    work.may_go_around = action as u8 == Action::Stack as u8 && node.config().is_fast();
    let flow = &mut work.flow;
    flow.destination_port = backend.port;
    flow.backend = id;
    flow.generation = backend.life;
    flow.action = action as u8;
    flow.via = if action as u8 == Action::Redirect as u8 || work.is_taken_over {
        Via::new(node.came_in_by())
    } else {
        Via::UNKNOWN
    };
    Ok(())
}

/// The source port to try first: the client's own while its address is kept, or if it is of the SNAT range.
#[inline(always)]
fn own_or_random_port<A: Addr, N: FlowStore<A>>(node: &N, work: &Work<A>) -> Port {
    let config = node.config();
    let own = work.key.source_port;
    if bypass::keeps_the_source(work.flow.action)
        || own.number().wrapping_sub(config.snat_first) < config.snat_count
    {
        return own;
    }
    random_port(node, work)
}

/// Any port of the SNAT range; without a range the client's own.
#[inline(always)]
fn random_port<A: Addr, N: FlowStore<A>>(node: &N, work: &Work<A>) -> Port {
    let config = node.config();
    if config.snat_count == 0 {
        return work.key.source_port;
    }
    let offset = node.random() % config.snat_count as u32;
    Port::new(config.snat_first.wrapping_add(offset as u16))
}

/// Inserts the reverse entry if its key is free in both tables, or this very flow's (rules 3 and 7).
#[inline(always)]
pub(crate) fn reserve_reverse<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>) -> bool {
    work.derive_partner();
    if insert_reverse(node, work) {
        return true;
    }
    node.count(Counter::ReverseCollision);
    false
}

#[inline(always)]
fn insert_reverse<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>) -> bool {
    let Work {
        partner,
        other,
        spare,
        ..
    } = work;
    if live(node, FlowTable::Flows, partner, spare) {
        if !gives_way(partner, spare, other) {
            return renew(node, FlowTable::Flows, partner, other, spare);
        }
        node.remove_flow(FlowTable::Flows, partner);
    }
    if !node.insert_flow(FlowTable::Embryos, partner, other) {
        if live(node, FlowTable::Embryos, partner, spare) && !gives_way(partner, spare, other) {
            return renew(node, FlowTable::Embryos, partner, other, spare);
        }
        // An expired entry does not exist, and one that gives way goes.
        node.remove_flow(FlowTable::Embryos, partner);
        if !node.insert_flow(FlowTable::Embryos, partner, other) {
            return false;
        }
    }
    if live(node, FlowTable::Flows, partner, spare) && !spare.same_tuple(other) {
        // Another flow was promoted to it meanwhile.
        node.remove_flow(FlowTable::Embryos, partner);
        return false;
    }
    true
}

/// Whether the connection that has the reverse key is over and leaves it to a new one of the same client and port: the
/// client's kernel uses the port again, so nobody knows the old connection any more. Else a client that opens and
/// closes many connections to one backend by several frontends would fill the range with what is over.
#[inline(always)]
fn gives_way<A: Addr>(key: &FlowKey<A>, entry: &Flow<A>, new: &Flow<A>) -> bool {
    entry.action != Action::Foreign as u8
        && entry.destination == new.destination
        && entry.destination_port == new.destination_port
        && (key.protocol != protocol::UDP && super::state::is_closing(entry.meta.state())
            || bypass::goes_another_way(entry, new))
}

/// Whether the entry under the reverse key is this very flow's, whose forward entry was lost, or is being made by
/// another CPU too: then its life begins anew.
#[inline(always)]
fn renew<A: Addr, N: FlowStore<A>>(
    node: &N,
    table: FlowTable,
    partner: &FlowKey<A>,
    other: &Flow<A>,
    entry: &Flow<A>,
) -> bool {
    let meta = entry.meta;
    entry.same_tuple(other) && node.exchange_meta(table, partner, meta, meta.with(meta.state(), node.now()))
}

/// Inserts the forward entry; who loses the race takes the winner's.
#[inline(always)]
pub(crate) fn publish<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>) -> Verdict {
    if node.insert_flow(FlowTable::Embryos, &work.key, &work.flow) {
        load::begin(node, &work.flow);
        count_made(node, work);
        return work.verdict();
    }
    if live(node, FlowTable::Embryos, &work.key, &mut work.spare) {
        if !work.spare.same_tuple(&work.flow) {
            node.remove_flow(FlowTable::Embryos, &work.partner);
        }
        work.flow = work.spare;
        node.count(Counter::LostRace);
        return work.verdict();
    }
    // An expired entry does not exist.
    if node.put_flow(FlowTable::Embryos, &work.key, &work.flow) {
        load::begin(node, &work.flow);
        count_made(node, work);
        return work.verdict();
    }
    node.remove_flow(FlowTable::Embryos, &work.partner);
    Verdict::drop(Counter::FlowTableRefused)
}

#[inline(always)]
pub(crate) fn count_made<A: Addr, N: FlowStore<A>>(node: &N, work: &Work<A>) {
    node.count(Counter::FlowCreated);
    if work.flow.meta.state() & state::JOINED != 0 {
        node.count(Counter::FlowJoined);
    }
}

/// Enters a tuple that netfilter's masquerade took out of our range, so that no flow of ours uses it (rule 3). It lives as
/// long as a flow of ours whose client has answered: netfilter keeps its tuples through pauses, too.
///
/// A reset is nobody's flow: so the node's own stack answers what comes back to one of ours that was pushed out.
#[inline(always)]
pub(crate) fn foreign<A: Addr, N: FlowStore<A>>(node: &N, work: &mut Work<A>) {
    let packet = &work.packet;
    work.key = FlowKey {
        source: packet.destination,
        destination: packet.source,
        source_port: packet.destination_port,
        destination_port: packet.source_port,
        protocol: packet.protocol,
        direction: Direction::Reverse as u8,
        pad: 0,
    };
    if let Some(table) = find_step(node, work) {
        if work.flow.action == Action::Foreign as u8 {
            let bits = super::state::after(work.flow.meta.state(), Direction::Forward, &work.packet);
            note(node, work, table, bits);
        }
        return;
    }
    if work.packet.tcp_flags & tcp::RST != 0 {
        return;
    }
    work.flow = Flow {
        meta: Meta::new(work.key.tag(), state::ESTABLISHED, node.now()),
        source: work.key.source,
        destination: work.key.destination,
        source_port: work.key.source_port,
        destination_port: work.key.destination_port,
        action: Action::Foreign as u8,
        ..Flow::default()
    };
    if node.put_flow(FlowTable::Embryos, &work.key, &work.flow) {
        node.count(Counter::ForeignPort);
    }
}

#[cfg(test)]
mod tests;
