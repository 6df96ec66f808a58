//! Who keeps which backend, and for how long.

use std::collections::HashMap;
use std::vec::Vec;

use proptest::prelude::*;

use crate::layout::{
    Affinity, AffinityKey, AffinityWord, BackendId, Counter, ListWord, NamespaceAddress, NamespaceKey, Port,
    ServiceId, V4, V6, protocol,
};
use crate::rules::scene::*;
use crate::rules::socket::{self, Choice, Socket};
use crate::rules::{Decision, Directory};

const TIMEOUT: u32 = 100;
const BACKENDS: [u16; 4] = [LOCAL, LOCAL + 1, REMOTE, REMOTE + 1];

in_both_families!(
    a_client_keeps_its_backend_at_every_frontend,
    clients_and_protocols_are_apart,
    the_time_is_exact_and_each_new_flow_renews_it,
    a_packet_of_a_flow_renews_nothing,
    a_backend_that_serves_no_more_is_kept_no_more,
    a_backend_outside_the_list_is_kept_no_more,
    a_list_of_any_length_is_searched,
    what_was_kept_before_a_pause_counts_no_more,
    a_taken_port_does_not_cost_the_backend,
    a_socket_keeps_its_clients_backend,
    the_loser_of_a_race_takes_the_winners_backend,
    a_full_table_costs_nothing_but_affinity,
    a_record_that_became_another_keys_is_none,
    a_record_of_the_future_is_young,
);

/// A node whose clients call from a new port each time.
struct Stage<A: Spoken> {
    scene: Scene<A>,
    port: u16,
}

impl<A: Spoken> Stage<A> {
    fn new(backends: &[u16]) -> Self {
        let mut stage = Self {
            scene: Scene::new(backends),
            port: 1000,
        };
        stage.switch(AffinityWord::new(TIMEOUT, 1, TAG));
        stage
    }

    fn switch(&mut self, word: AffinityWord) {
        for service in self.scene.node.services.values_mut() {
            service.affinity = word;
        }
    }

    fn open(&mut self, at: Hook, from: u16, to: (u16, u16), ip_protocol: u8) -> Decision {
        self.port += 1;
        let packet = Packet {
            protocol: ip_protocol,
            ..Packet::syn((from, self.port), to)
        };
        self.scene.send(at, packet)
    }

    /// The backend of a new TCP connection from outside.
    #[track_caller]
    fn call(&mut self, from: u16, to: (u16, u16)) -> BackendId {
        let decision = self.open(Hook::FromNetwork, from, to, protocol::TCP);
        assert!(matches!(decision, Decision::Translate(_)), "{decision:?}");
        self.scene.work.flow.backend
    }

    /// How many different backends answer so many calls.
    fn spread(&mut self, calls: u32, from: u16) -> usize {
        let ids = (0..calls).map(|_| self.call(from, (CLUSTER_IP, 80)));
        ids.collect::<std::collections::BTreeSet<_>>().len()
    }

    /// A socket of the host, which has cookie 1, or of a pod whose address is known.
    fn connect(&self, cookie: u64) -> Choice {
        let node = &self.scene.node;
        if let Client::Address(number) = Client::of_namespace(cookie) {
            let key = NamespaceKey::new(cookie, A::FAMILY);
            let address = NamespaceAddress::new(&key, &A::of(number), node.now());
            node.put_namespace(&key, &address);
        }
        let socket = Socket {
            netns_cookie: cookie,
            protocol: protocol::TCP,
        };
        let address = A::of(CLUSTER_IP);
        socket::choose(node, &node.config, &socket, &address, Port::new(80), false)
    }
}

fn a_client_keeps_its_backend_at_every_frontend<A: Spoken>() {
    let mut stage = Stage::<A>::new(&BACKENDS);
    let kept = stage.call(CLIENT, (CLUSTER_IP, 80));
    for _ in 0..10 {
        for to in [
            (CLUSTER_IP, 80),
            (OTHER_IP, 80),
            (LOAD_BALANCER, 80),
            (NODE, NODE_PORT),
        ] {
            assert_eq!(stage.call(CLIENT, to), kept);
        }
    }
    assert_eq!(stage.scene.counted(Counter::AffinityKept), 40);
    stage.switch(AffinityWord::OFF);
    assert_eq!(stage.spread(60, CLIENT), 4, "without affinity all serve");
}

fn clients_and_protocols_are_apart<A: Spoken>() {
    let mut stage = Stage::<A>::new(&BACKENDS);
    let kept: Vec<_> = (0..40)
        .map(|n| stage.call(CLIENT + n, (CLUSTER_IP, 80)))
        .collect();
    assert_eq!(
        kept.iter().collect::<std::collections::BTreeSet<_>>().len(),
        4,
        "clients spread"
    );
    let again: Vec<_> = (0..40)
        .map(|n| stage.call(CLIENT + n, (LOAD_BALANCER, 80)))
        .collect();
    assert_eq!(again, kept);
    let records = stage.scene.node.affinities.borrow().len();
    stage.open(Hook::FromNetwork, CLIENT, (CLUSTER_IP, 80), protocol::UDP);
    assert_eq!(stage.scene.node.affinities.borrow().len(), records + 1);
}

fn the_time_is_exact_and_each_new_flow_renews_it<A: Spoken>() {
    let mut stage = Stage::<A>::new(&BACKENDS);
    let kept = stage.call(CLIENT, (CLUSTER_IP, 80));
    for _ in 0..20 {
        stage.scene.node.advance(TIMEOUT * SECOND - 1);
        assert_eq!(stage.call(CLIENT, (CLUSTER_IP, 80)), kept);
    }
    let counted = stage.scene.counted(Counter::AffinityKept);
    stage.scene.node.advance(TIMEOUT * SECOND);
    stage.call(CLIENT, (CLUSTER_IP, 80));
    assert_eq!(
        stage.scene.counted(Counter::AffinityKept),
        counted,
        "a tick too late"
    );
}

fn a_packet_of_a_flow_renews_nothing<A: Spoken>() {
    let mut stage = Stage::<A>::new(&BACKENDS);
    let datagram = Packet::udp((CLIENT, 999), (CLUSTER_IP, 80));
    stage.scene.translated(Hook::FromNetwork, datagram);
    let seen = stage.scene.node.clock.get();
    for _ in 0..10 {
        stage.scene.node.advance(10 * SECOND);
        stage.scene.translated(Hook::FromNetwork, datagram);
    }
    let records = stage.scene.node.affinities.borrow();
    assert!(
        records.values().all(|record| record.seen() == seen),
        "{records:?}"
    );
}

fn a_backend_that_serves_no_more_is_kept_no_more<A: Spoken>() {
    let mut stage = Stage::<A>::new(&[LOCAL, LOCAL + 1]);
    let gone = stage.call(CLIENT, (CLUSTER_IP, 80));
    let other = BackendId(3 - gone.0);
    stage.scene.node.kill_backend(gone);
    stage.scene.node.script([other.0 - 1]);
    assert_eq!(stage.call(CLIENT, (CLUSTER_IP, 80)), other);
    // Its id in use again is another endpoint.
    if let Some(backend) = stage.scene.node.backends.get_mut(&gone) {
        backend.life = 2;
    }
    for _ in 0..20 {
        assert_eq!(stage.call(CLIENT, (CLUSTER_IP, 80)), other);
    }
}

fn a_backend_outside_the_list_is_kept_no_more<A: Spoken>() {
    let mut stage = Stage::<A>::new(&[LOCAL, REMOTE]);
    let lists = [BackendId(1), BackendId(2)].map(|id| stage.scene.node.add_list(&[id], TAG));
    let set = |stage: &mut Stage<A>, internal, external| {
        stage.scene.set_lists(protocol::TCP, internal, external, external);
        stage.switch(AffinityWord::new(TIMEOUT, 1, TAG));
    };
    set(&mut stage, lists[1], lists[0]);
    // Cluster and local list share the record: each call that it does not fit replaces it.
    assert_eq!(stage.call(CLIENT, (CLUSTER_IP, 80)), BackendId(2));
    assert_eq!(stage.call(CLIENT, (LOAD_BALANCER, 80)), BackendId(1));
    assert_eq!(stage.scene.counted(Counter::AffinityKept), 0);
    let both = stage.scene.node.add_list(&[BackendId(1), BackendId(2)], TAG);
    set(&mut stage, both, lists[0]);
    for _ in 0..20 {
        assert_eq!(stage.call(CLIENT, (CLUSTER_IP, 80)), BackendId(1));
    }
}

fn a_list_of_any_length_is_searched<A: Spoken>() {
    let mut scene = Scene::<A>::new(&[LOCAL]);
    for length in (0..40).chain([255, 256, 257, 5000]) {
        let ids: Vec<_> = (0..length).map(|n| BackendId(10 + 3 * n)).collect();
        let list = scene.node.add_list(&ids, TAG);
        for n in 0..length {
            for (id, expected) in [(9 + 3 * n, false), (10 + 3 * n, true), (11 + 3 * n, false)] {
                assert_eq!(super::offers(&scene.node, list, BackendId(id)), expected);
            }
        }
        assert!(!super::offers(&scene.node, list, BackendId(u32::MAX)));
    }
    let beyond = ListWord::new(ListWord::MAX, ListWord::MAX_COUNT, TAG);
    assert!(!super::offers(&scene.node, beyond, BackendId(1)));
}

fn what_was_kept_before_a_pause_counts_no_more<A: Spoken>() {
    let mut stage = Stage::<A>::new(&BACKENDS);
    stage.call(CLIENT, (CLUSTER_IP, 80));
    stage.switch(AffinityWord::new(0, 1, TAG));
    stage.call(CLIENT, (CLUSTER_IP, 80));
    stage.switch(AffinityWord::new(TIMEOUT, 2, TAG));
    stage.call(CLIENT, (CLUSTER_IP, 80));
    assert_eq!(stage.scene.counted(Counter::AffinityKept), 0);
    stage.call(CLIENT, (CLUSTER_IP, 80));
    assert_eq!(stage.scene.counted(Counter::AffinityKept), 1);
    // The word of another owner of the id is none.
    stage.switch(AffinityWord::new(TIMEOUT, 2, TAG + 1));
    assert_eq!(stage.spread(60, CLIENT), 4);
}

fn a_taken_port_does_not_cost_the_backend<A: Spoken>() {
    let mut stage = Stage::<A>::new(&BACKENDS);
    let kept = stage.call(CLIENT, (CLUSTER_IP, 80));
    // One client port to two frontends of one backend.
    for to in [(CLUSTER_IP, 80), (OTHER_IP, 80), (LOAD_BALANCER, 80)] {
        stage.port = 2000;
        assert_eq!(stage.call(CLIENT, to), kept);
    }
}

fn a_socket_keeps_its_clients_backend<A: Spoken>() {
    let stage = Stage::<A>::new(&BACKENDS);
    let mut kept = HashMap::new();
    for _ in 0..10 {
        for cookie in 1..30 {
            let choice = stage.connect(cookie);
            assert!(matches!(choice, Choice::Backend(..)));
            assert_eq!(*kept.entry(cookie).or_insert(choice), choice);
        }
    }
    let ids = kept.values().filter_map(|choice| match choice {
        Choice::Backend(id, _) => Some(*id),
        _ => None,
    });
    assert_eq!(ids.collect::<std::collections::BTreeSet<_>>().len(), 4);
}

fn the_loser_of_a_race_takes_the_winners_backend<A: Spoken>() {
    let stage = Stage::<A>::new(&BACKENDS);
    let node = &stage.scene.node;
    let key = AffinityKey::of_address(&A::of(CLIENT), ServiceId(1));
    let service = node.service(ServiceId(1)).unwrap();
    let claim = |id: u32| {
        let record = Affinity::new(key.tag(1), node.now(), BackendId(id), 1);
        super::claim(node, &key, service.affinity, service.internal, &record)
    };
    assert_eq!(claim(3), 3);
    assert_eq!(claim(2), 3);
    node.advance(TIMEOUT * SECOND);
    assert_eq!(claim(2), 2, "what has expired gives way");
    assert_eq!(claim(3), 2);
}

fn a_full_table_costs_nothing_but_affinity<A: Spoken>() {
    let stage = Stage::<A>::new(&BACKENDS);
    stage.scene.node.room.set(Some(0));
    for _ in 0..10 {
        assert!(matches!(stage.connect(5), Choice::Backend(..)));
    }
}

fn a_record_that_became_another_keys_is_none<A: Spoken>() {
    let mut stage = Stage::<A>::new(&BACKENDS);
    stage.call(CLIENT, (CLUSTER_IP, 80));
    for record in stage.scene.node.affinities.borrow_mut().values_mut() {
        record.meta ^= 1 << 40;
    }
    stage.call(CLIENT, (CLUSTER_IP, 80));
    assert_eq!(stage.scene.counted(Counter::AffinityKept), 0);
}

/// Another CPU was a tick ahead.
fn a_record_of_the_future_is_young<A: Spoken>() {
    let mut stage = Stage::<A>::new(&BACKENDS);
    let kept = stage.call(CLIENT, (CLUSTER_IP, 80));
    stage.scene.node.advance(u32::MAX);
    assert_eq!(stage.call(CLIENT, (CLUSTER_IP, 80)), kept);
}

/// What happens next.
#[derive(Clone, Debug)]
enum Event {
    /// A packet opens a flow: hook, client, frontend, protocol.
    Packet(Hook, u16, (u16, u16), u8),
    /// A socket of this namespace connects.
    Connect(u64),
    /// Seconds pass.
    Wait(u32),
    /// A backend stops or starts serving.
    Toggle(u32),
    /// The lists, as bits of backends.
    Lists([u8; 3]),
    /// The time; 0: off.
    Affinity(u32),
}

fn event() -> impl Strategy<Value = Event> {
    let packet = (
        prop_oneof![Just((Hook::FromPod, POD)), Just((Hook::FromNetwork, CLIENT))],
        0_u16..2,
        prop_oneof![
            Just((CLUSTER_IP, 80)),
            Just((LOAD_BALANCER, 80)),
            Just((NODE, NODE_PORT))
        ],
        prop_oneof![Just(protocol::TCP), Just(protocol::UDP)],
    );
    prop_oneof![
        10 => packet.prop_map(|((at, from), n, to, ip_protocol)| {
            Event::Packet(at, from + n, to, ip_protocol)
        }),
        4 => (1_u64..4).prop_map(Event::Connect),
        3 => (1_u32..60).prop_map(Event::Wait),
        1 => (0_u32..4).prop_map(Event::Toggle),
        1 => prop::array::uniform3(1_u8..16).prop_map(Event::Lists),
        1 => prop_oneof![Just(0), Just(30), Just(TIMEOUT)].prop_map(Event::Affinity),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Client {
    Address(u16),
    Host,
}

impl Client {
    /// Pods, from cookie 2 on, have the addresses that packets of pods come from.
    fn of_namespace(cookie: u64) -> Self {
        match cookie {
            1 => Self::Host,
            _ => Self::Address(POD + cookie as u16 - 2),
        }
    }
}

/// What a client keeps, as a human would note it.
#[derive(Clone, Copy, Debug)]
struct Note {
    backend: u32,
    life: u32,
    second: u32,
}

/// The naive reading: a list of who was where and when, thrown away when affinity is switched off.
struct Model<A: Spoken> {
    stage: Stage<A>,
    notes: HashMap<(Client, u8), Note>,
    lives: [u32; 4],
    lists: [u8; 3],
    timeout: u32,
    epoch: u16,
    second: u32,
}

impl<A: Spoken> Model<A> {
    fn new() -> Self {
        Self {
            stage: Stage::new(&BACKENDS),
            notes: HashMap::new(),
            lives: [1; 4],
            lists: [15; 3],
            timeout: TIMEOUT,
            epoch: 1,
            second: 0,
        }
    }

    /// Which of the lists serves.
    fn list(at: Hook, to: (u16, u16)) -> usize {
        match (to.0, at) {
            (CLUSTER_IP, _) => 0,
            (_, Hook::FromNetwork) => 1,
            _ => 2,
        }
    }

    fn is_alive(&self, backend: u32) -> bool {
        self.stage.scene.node.backends[&Scene::<A>::id(protocol::TCP, backend)].life != 0
    }

    /// Judges where a new flow went; none: it was dropped or refused.
    fn judge(&mut self, client: Client, ip_protocol: u8, list: usize, got: Option<u32>) {
        let members: Vec<u32> = (1..=4)
            .filter(|n| self.lists[list] & (1 << (n - 1)) != 0)
            .collect();
        let kept = self.notes.get(&(client, ip_protocol)).filter(|note| {
            self.timeout != 0
                && self.second - note.second < self.timeout
                && self.lives[note.backend as usize - 1] == note.life
                && self.is_alive(note.backend)
                && members.contains(&note.backend)
        });
        if let Some(kept) = kept {
            assert_eq!(
                got,
                Some(kept.backend),
                "{client:?} of {kept:?} at {}",
                self.second
            );
        }
        let Some(got) = got else {
            assert!(members.iter().any(|n| !self.is_alive(*n)), "refused");
            return;
        };
        assert!(
            members.contains(&got) && self.is_alive(got),
            "{got} of {members:?}"
        );
        if self.timeout != 0 {
            let note = Note {
                backend: got,
                life: self.lives[got as usize - 1],
                second: self.second,
            };
            self.notes.insert((client, ip_protocol), note);
        }
    }

    fn install(&mut self) {
        for ip_protocol in [protocol::TCP, protocol::UDP] {
            let scene = &mut self.stage.scene;
            let [internal, external, shortcut] = self.lists.map(|bits| {
                let ids = (1..=4).filter(|n| bits & (1 << (n - 1)) != 0);
                let ids: Vec<_> = ids.map(|n| Scene::<A>::id(ip_protocol, n)).collect();
                scene.node.add_list(&ids, TAG)
            });
            scene.set_lists(ip_protocol, internal, external, shortcut);
        }
        self.stage
            .switch(AffinityWord::new(self.timeout, self.epoch, TAG));
    }

    fn toggle(&mut self, index: usize) {
        let was_alive = self.is_alive(index as u32 + 1);
        if !was_alive {
            self.lives[index] += 1;
        }
        for ip_protocol in [protocol::TCP, protocol::UDP] {
            let id = Scene::<A>::id(ip_protocol, index as u32 + 1);
            let node = &mut self.stage.scene.node;
            if was_alive {
                node.kill_backend(id);
            } else if let Some(backend) = node.backends.get_mut(&id) {
                backend.life = self.lives[index];
                backend.last_life = 0;
            }
        }
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Packet(at, from, to, ip_protocol) => {
                let decision = self.stage.open(at, from, to, ip_protocol);
                let first = Scene::<A>::id(ip_protocol, 0).0;
                let got = match decision {
                    Decision::Translate(_) => Some(self.stage.scene.work.flow.backend.0 - first),
                    other => {
                        assert_eq!(other, Decision::Drop(Counter::NoEndpoint));
                        None
                    }
                };
                self.judge(Client::Address(from), ip_protocol, Self::list(at, to), got);
            }
            Event::Connect(cookie) => {
                let got = match self.stage.connect(cookie) {
                    Choice::Backend(id, _) => Some(id.0),
                    other => {
                        assert_eq!(other, Choice::Refuse(Counter::NoEndpoint));
                        None
                    }
                };
                self.judge(Client::of_namespace(cookie), protocol::TCP, 0, got);
            }
            Event::Wait(seconds) => {
                self.second += seconds;
                self.stage.scene.node.advance(seconds * SECOND);
            }
            Event::Toggle(index) => self.toggle(index as usize),
            Event::Lists(lists) => {
                self.lists = lists;
                self.install();
            }
            Event::Affinity(timeout) => {
                if self.timeout == 0 && timeout != 0 {
                    self.epoch += 1;
                }
                self.timeout = timeout;
                if timeout == 0 {
                    self.notes.clear();
                }
                self.install();
            }
        }
    }
}

proptest! {
    #[test]
    fn whoever_calls_keeps_what_the_naive_list_says(events in prop::collection::vec(event(), 1..80)) {
        let (mut four, mut six) = (Model::<V4>::new(), Model::<V6>::new());
        for event in &events {
            four.happen(event);
            six.happen(event);
        }
    }
}
