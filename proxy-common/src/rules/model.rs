//! Random sequences of packets, against a model that knows nothing of tables.
//!
//! The model keeps a conversation's tuple as its backend saw it, who has said what, and when. What must hold:
//! - a client sees its frontend as peer, and nobody else's;
//! - a conversation that is alive keeps its backend and its tuple;
//! - one that is over is over, also where its entries still stand;
//! - two live conversations never share the tuple that a backend sees;
//! - what is rewritten on the way there comes back by the reverse, at once;
//! - only a client that answered its backend is established.

use std::collections::HashMap;
use std::vec::Vec;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::layout::{BackendId, Counter, Direction, FlowKey, FlowTable, V4, V6, protocol, state};
use crate::rules::headers::tcp;
use crate::rules::scene::*;
use crate::rules::{Decision, lifetime, state as rules_state};

/// What happens next; conversations are chosen by number.
#[derive(Clone, Debug)]
enum Event {
    /// The client sends.
    Call(usize, Segment),
    /// The backend that saw the last call sends.
    Answer(usize, Segment),
    /// Time passes.
    Wait(u32),
    /// A backend stops or starts serving.
    Toggle(usize),
    /// A table loses an entry.
    Evict(Index),
}

/// What a side sends; a datagram is a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment {
    Open,
    Acknowledge,
    AcknowledgeWrongly,
    Data,
    Finish,
    Reset,
}

#[derive(Clone, Debug)]
struct Conversation<A> {
    /// What the client sends to the frontend.
    call: Packet<A>,
    at: Hook,
    live: Option<Live<A>>,
    /// It lost an entry once: what is left of it decides when it is promoted, and so how long it lives.
    was_robbed: bool,
}

/// What the model knows of a conversation that has a flow.
#[derive(Clone, Debug)]
struct Live<A> {
    seen: Packet<A>,
    backend: BackendId,
    life: u32,
    bits: u8,
    /// The number that the last SYN-ACK wants acknowledged, the tag of the last INIT ACK.
    expected: u32,
    /// When the last packet passed.
    last: u32,
    /// An entry of it was evicted: only that nothing panics is known.
    is_tainted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Alive,
    Over,
    /// Within the second that an entry's time may be late.
    Unknown,
}

struct Model<A: Spoken> {
    scene: Scene<A>,
    conversations: Vec<Conversation<A>>,
    generation: u32,
    /// Number of the next SYN-ACK.
    sequence: u32,
    has_evicted: bool,
}

const BACKENDS: [u16; 4] = [LOCAL, LOCAL + 1, REMOTE, REMOTE + 1];

impl<A: Spoken> Model<A> {
    fn new() -> Self {
        let mut scene = Scene::new(&BACKENDS);
        scene.node.config.snat_count = 3;
        let mut conversations = Vec::new();
        for make in [Packet::<A>::syn, Packet::udp, Packet::init] {
            for (address, at) in [
                (POD, Hook::FromPod),
                (LOCAL, Hook::FromPod),
                (CLIENT, Hook::FromNetwork),
            ] {
                for port in [40000, CONFIG.snat_first + 1] {
                    for frontend in [
                        (CLUSTER_IP, 80),
                        (OTHER_IP, 80),
                        (LOAD_BALANCER, 80),
                        (NODE, NODE_PORT),
                    ] {
                        let call = make((address, port), frontend);
                        conversations.push(Conversation {
                            call,
                            at,
                            live: None,
                            was_robbed: false,
                        });
                    }
                }
            }
        }
        Self {
            scene,
            conversations,
            generation: 1,
            sequence: 0xffff_0000,
            has_evicted: false,
        }
    }

    fn now(&self) -> u32 {
        self.scene.node.clock.get()
    }

    fn life(&self, which: usize) -> Life {
        let conversation = &self.conversations[which];
        let Some(live) = &conversation.live else {
            return Life::Over;
        };
        if live.is_tainted || conversation.was_robbed {
            return Life::Unknown;
        }
        let age = self.now().wrapping_sub(live.last);
        let life = lifetime::of(&self.scene.node.config, conversation.call.protocol, live.bits);
        if age > life {
            Life::Over
        } else if age + SECOND <= life {
            Life::Alive
        } else {
            Life::Unknown
        }
    }

    fn serves(&self, live: &Live<A>) -> bool {
        self.scene.node.backends[&live.backend].life == live.life
    }

    /// Whether this call must choose anew although its conversation is alive.
    fn begins_anew(&self, which: usize, packet: &Packet<A>) -> bool {
        let Some(live) = &self.conversations[which].live else {
            return true;
        };
        if packet.protocol == protocol::UDP {
            return !self.serves(live);
        }
        let is_over = rules_state::is_closing(live.bits) && !rules_state::is_refused(live.bits);
        packet.flags == tcp::SYN && (is_over || !self.serves(live))
    }

    fn packet(&self, base: Packet<A>, segment: Segment, expected: u32) -> Packet<A> {
        if base.protocol == protocol::UDP {
            return base;
        }
        let (flags, number, payload) = match segment {
            Segment::Open => (tcp::SYN, 0, 0),
            Segment::Acknowledge => (tcp::ACK, expected, 0),
            Segment::AcknowledgeWrongly => (tcp::ACK, expected.wrapping_sub(1), 0),
            Segment::Data => (tcp::ACK, expected, 10),
            Segment::Finish => (tcp::FIN | tcp::ACK, expected, 0),
            Segment::Reset => (tcp::RST, 0, 0),
        };
        base.with_flags(flags).numbers(1001, number).with_payload(payload)
    }

    fn call(&mut self, which: usize, segment: Segment) -> Result<(), TestCaseError> {
        let Conversation { call, at, live, .. } = self.conversations[which].clone();
        let expected = live.as_ref().map_or(0, |live| live.expected);
        let packet = self.packet(call, segment, expected);
        let is_new = self.begins_anew(which, &packet);
        let life = self.life(which);
        let created = self.scene.counted(Counter::FlowCreated);
        let reclaimed = self.scene.counted(Counter::SourcePortReclaimed);
        let decision = self.scene.send(at, packet);
        let is_created = self.scene.counted(Counter::FlowCreated) > created;
        let Decision::Translate(_) = decision else {
            let may_make = packet.protocol == protocol::UDP || packet.flags == tcp::SYN;
            prop_assert!(
                life != Life::Alive || is_new,
                "{decision:?} of a live conversation: {packet:?}"
            );
            prop_assert!(may_make || decision == Decision::Pass);
            // What lost its forward entry alone is not over: the next answer puts it back.
            self.conversations[which].live = live.filter(|live| live.is_tainted);
            return Ok(());
        };
        let flow = self.scene.work.flow;
        let seen = Packet {
            source: (flow.source, flow.source_port.number()),
            destination: (flow.destination, flow.destination_port.number()),
            ..call
        };
        let (goes_on, mut live) = match live {
            Some(live) if life != Life::Over && !is_new && !is_created && same(&live.seen, &seen) => {
                (true, live)
            }
            _ => (false, self.begun(seen)),
        };
        if life == Life::Alive && !is_new {
            prop_assert!(goes_on, "a live conversation was moved: {packet:?} to {seen:?}");
        }
        if !goes_on {
            prop_assert!(
                packet.protocol == protocol::UDP || packet.flags == tcp::SYN,
                "a flow out of {packet:?}"
            );
            prop_assert!(self.scene.node.backends[&live.backend].is_alive());
            let is_reclaimed = self.scene.counted(Counter::SourcePortReclaimed) > reclaimed;
            self.take_over(which, &seen, is_reclaimed);
        }
        live.bits = rules_state::after_call(live.bits, &self.scene.work.packet);
        let is_proof = match packet.protocol {
            protocol::UDP => true,
            _ => {
                let ahead = packet.acknowledgement.wrapping_sub(live.expected);
                let window = if packet.protocol == protocol::TCP {
                    1 << 16
                } else {
                    1
                };
                let is_plain = packet.flags & (tcp::SYN | tcp::RST | tcp::ACK) == tcp::ACK;
                is_plain && ahead < window
            }
        };
        if goes_on && live.bits & state::REPLIED != 0 && is_proof {
            live.bits |= state::ESTABLISHED;
        }
        live.last = self.now();
        self.conversations[which].live = Some(live);
        self.comes_back(which)
    }

    /// A client that uses its port again takes the tuple from a connection of its own that is over. Where no port is free, one
    /// is taken from a conversation whose client has not answered.
    fn take_over(&mut self, which: usize, seen: &Packet<A>, is_reclaimed: bool) {
        let call = self.conversations[which].call;
        for (number, other) in self.conversations.iter_mut().enumerate() {
            let Some(live) = &mut other.live else { continue };
            let is_over = call.protocol != protocol::UDP && rules_state::is_closing(live.bits);
            let is_own = is_over && other.call.source == call.source;
            let waits = live.bits & state::ESTABLISHED == 0;
            if number != which && (is_own || is_reclaimed && waits) && same(&live.seen, seen) {
                live.is_tainted = true;
                other.was_robbed = true;
            }
        }
    }

    fn begun(&self, seen: Packet<A>) -> Live<A> {
        let flow = &self.scene.work.flow;
        Live {
            seen,
            backend: flow.backend,
            life: flow.generation,
            bits: 0,
            expected: 0,
            last: self.now(),
            is_tainted: false,
        }
    }

    /// The hook that sees the backend's answer.
    fn way_back(conversation: &Conversation<A>, seen: &Packet<A>) -> Hook {
        let is_in_nodes_name = seen.source.0 != conversation.call.source.0;
        match conversation.at {
            at if is_in_nodes_name => at,
            Hook::FromPod => Hook::ToPod,
            _ => Hook::ToNetwork,
        }
    }

    /// An answer to what was just sent reaches the client; tried on a copy.
    fn comes_back(&mut self, which: usize) -> Result<(), TestCaseError> {
        let conversation = &self.conversations[which];
        let Some(live) = conversation.live.as_ref().filter(|live| !live.is_tainted) else {
            return Ok(());
        };
        let mut copy = Scene {
            node: self.scene.node.clone(),
            work: self.scene.work,
        };
        let answer = live.seen.turned().with_flags(tcp::ACK);
        let shown = copy.translated(Self::way_back(conversation, &live.seen), answer);
        prop_assert_eq!(shown.source, conversation.call.destination);
        prop_assert_eq!(shown.destination, conversation.call.source);
        Ok(())
    }

    fn answer(&mut self, which: usize, segment: Segment) -> Result<(), TestCaseError> {
        let conversation = self.conversations[which].clone();
        let Some(mut live) = conversation.live.clone() else {
            return Ok(());
        };
        let mut packet = self.packet(live.seen.turned(), segment, 1001);
        if segment == Segment::Open {
            self.sequence = self.sequence.wrapping_add(0x1_0001);
            packet.flags |= tcp::ACK;
        }
        packet.sequence = self.sequence;
        let life = self.life(which);
        let decision = self.scene.send(Self::way_back(&conversation, &live.seen), packet);
        let Decision::Translate(_) = decision else {
            // A backend opens anew what was over: to the client at its own address, past us. Once this conversation is
            // over, it may be another's that has taken the tuple.
            let is_opened = packet.flags == tcp::SYN | tcp::ACK;
            let is_over = |other: &Live<A>| {
                other.bits & state::ESTABLISHED != 0
                    && rules_state::is_closing(other.bits)
                    && same(&other.seen, &live.seen)
            };
            prop_assert!(
                life != Life::Alive || (is_opened && is_over(&live)),
                "{decision:?} of a live conversation's answer {packet:?}"
            );
            for number in 0..self.conversations.len() {
                let is_taken = self.conversations[number].live.as_ref().is_some_and(is_over);
                if is_opened && is_taken && self.life(number) == Life::Alive {
                    self.conversations[number].live = None;
                }
            }
            return Ok(());
        };
        let flow = self.scene.work.flow;
        let to = (flow.destination, flow.destination_port.number());
        let from = (flow.source, flow.source_port.number());
        if life == Life::Alive {
            prop_assert_eq!(
                (from, to),
                (conversation.call.destination, conversation.call.source)
            );
        }
        // Once it is over, another may have taken the tuple: then that one was answered.
        let owner = self.conversations.iter().position(|other| {
            (other.call.destination, other.call.source) == (from, to)
                && other.call.protocol == packet.protocol
                && other
                    .live
                    .as_ref()
                    .is_some_and(|other| same(&other.seen, &live.seen))
        });
        let Some(owner) = owner else {
            if self.has_evicted {
                // A conversation that lost its forward entry chose anew; its old reverse entry stands until it expires.
                return Ok(());
            }
            let shown = std::format!("{packet:?} was shown as {from:?} to {to:?}");
            return Err(TestCaseError::fail(shown));
        };
        prop_assert!(
            self.life(owner) != Life::Over,
            "{owner} is over, and was answered"
        );
        if let Some(other) = &self.conversations[owner].live {
            live = other.clone();
        }
        let is_embryo = live.bits & state::ESTABLISHED == 0;
        live.bits = rules_state::after(live.bits, Direction::Reverse, &self.scene.work.packet);
        if segment == Segment::Open && is_embryo {
            live.expected = packet
                .sequence
                .wrapping_add(u32::from(packet.protocol == protocol::TCP));
        }
        live.last = self.now();
        self.conversations[owner].live = Some(live);
        Ok(())
    }

    fn toggle(&mut self, nth: usize) {
        for ip_protocol in PROTOCOLS {
            let id = Scene::<A>::id(ip_protocol, nth as u32 + 1);
            if self.scene.node.backends[&id].is_alive() {
                self.scene.node.kill_backend(id);
            } else if let Some(backend) = self.scene.node.backends.get_mut(&id) {
                self.generation += 1;
                backend.life = self.generation;
            }
        }
    }

    fn evict(&mut self, which: &Index) {
        let mut keys: Vec<_> = self.scene.node.flows.borrow().keys().copied().collect();
        if keys.is_empty() {
            return;
        }
        keys.sort_by_key(|(table, key)| (*table as u8, key.tag(), key.source_port, key.destination_port));
        let (table, key) = *which.get(&keys);
        self.scene.node.flows.borrow_mut().remove(&(table, key));
        self.has_evicted = true;
        for conversation in &mut self.conversations {
            let forward = conversation.call.key(Direction::Forward);
            if let Some(live) = &mut conversation.live
                && (key == forward || key == live.seen.turned().key(Direction::Reverse))
            {
                live.is_tainted = true;
                conversation.was_robbed = true;
            }
        }
    }

    /// What must hold between packets.
    fn check(&self) -> Result<(), TestCaseError> {
        let mut tuples = HashMap::<FlowKey<A>, usize>::new();
        for (which, conversation) in self.conversations.iter().enumerate() {
            let Some(live) = conversation.live.as_ref().filter(|live| !live.is_tainted) else {
                continue;
            };
            let key = conversation.call.key(Direction::Forward);
            let in_flows = self.scene.node.entry(FlowTable::Flows, &key).is_some_and(|flow| {
                !lifetime::expired(&self.scene.node.config, key.protocol, flow.meta, self.now())
            });
            let is_established = live.bits & state::ESTABLISHED != 0;
            prop_assert!(
                !in_flows || is_established || conversation.was_robbed,
                "{key:?} was promoted"
            );
            if self.life(which) != Life::Alive {
                continue;
            }
            prop_assert_eq!(in_flows, is_established, "{:?}", key);
            let other = tuples.insert(live.seen.turned().key(Direction::Reverse), which);
            prop_assert!(other.is_none(), "{other:?} and {which} share {:?}", live.seen);
        }
        Ok(())
    }

    fn happen(&mut self, event: &Event) -> Result<(), TestCaseError> {
        match event {
            Event::Call(which, segment) => self.call(*which % self.conversations.len(), *segment)?,
            Event::Answer(which, segment) => self.answer(*which % self.conversations.len(), *segment)?,
            Event::Wait(ticks) => self.scene.node.advance(*ticks),
            Event::Toggle(nth) => self.toggle(nth % BACKENDS.len()),
            Event::Evict(which) => self.evict(which),
        }
        self.check()
    }
}

/// Whether a backend sees both as one conversation.
fn same<A: Spoken>(left: &Packet<A>, right: &Packet<A>) -> bool {
    left.key(Direction::Forward) == right.key(Direction::Forward)
}

fn segment() -> impl Strategy<Value = Segment> {
    prop_oneof![
        4 => Just(Segment::Open),
        4 => Just(Segment::Acknowledge),
        1 => Just(Segment::AcknowledgeWrongly),
        4 => Just(Segment::Data),
        2 => Just(Segment::Finish),
        1 => Just(Segment::Reset),
    ]
}

fn events(evictions: u32) -> impl Strategy<Value = Vec<Event>> {
    const WAITS: [u32; 10] = [0, 1, 10, 29, 31, 59, 61, 121, 181, 3601];
    // Few conversations at a time, so that they get somewhere; the numbers are spread over all of them.
    let which = || {
        select(
            (0..6)
                .map(|n| n * 7)
                .chain(24..30)
                .chain(48..54)
                .collect::<Vec<usize>>(),
        )
    };
    let event = prop_oneof![
        12 => (which(), segment()).prop_map(|(which, segment)| Event::Call(which, segment)),
        9 => (which(), segment()).prop_map(|(which, segment)| Event::Answer(which, segment)),
        3 => (select(&WAITS[..]), 0..SECOND).prop_map(|(seconds, ticks)| Event::Wait(seconds * SECOND + ticks)),
        1 => (0..BACKENDS.len()).prop_map(Event::Toggle),
        evictions => any::<Index>().prop_map(Event::Evict),
    ];
    prop::collection::vec(event, 1..120)
}

fn run<A: Spoken>(events: &[Event], first: usize) -> Result<(), TestCaseError> {
    let mut model = Model::<A>::new();
    let count = model.conversations.len();
    model.conversations.rotate_left(first % count);
    for event in events {
        model.happen(event)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn conversations_are_kept_whole(events in events(0), first: usize) {
        run::<V4>(&events, first)?;
        run::<V6>(&events, first)?;
    }

    #[test]
    fn conversations_are_kept_whole_while_entries_are_lost(events in events(2), first: usize) {
        run::<V4>(&events, first)?;
        run::<V6>(&events, first)?;
    }
}
