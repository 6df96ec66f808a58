//! A pod is one client, whether socket LB or its packets choose; what is learnt, and for how long.

use super::*;
use crate::layout::{AffinityWord, BackendId, NamespaceKey, When};
use crate::rules::Decision;
use crate::rules::scene::*;
use crate::rules::socket::{self, Choice, Socket};

in_both_families!(
    an_unknown_namespace_goes_by_packets_and_is_known_from_then_on,
    sockets_and_packets_share_the_record_whoever_was_first,
    without_affinity_nothing_need_be_known,
    a_refusal_needs_no_client,
    the_host_is_its_namespace,
    an_address_is_believed_for_an_hour,
    an_address_that_became_another_keys_is_none,
    only_connections_to_frontends_teach,
    loopback_teaches_nothing,
    families_are_learnt_apart,
);

const COOKIE: u64 = 7;

struct Stage<A: Spoken> {
    scene: Scene<A>,
    port: u16,
}

impl<A: Spoken> Stage<A> {
    fn new() -> Self {
        let mut scene = Scene::<A>::new(&[LOCAL, LOCAL + 1, REMOTE, REMOTE + 1]);
        scene.node.config.flags = CONFIG_PODS_SOCKET_LB;
        let mut stage = Self { scene, port: 1000 };
        stage.switch(AffinityWord::new(100_000, 1, TAG));
        stage
    }

    fn switch(&mut self, word: AffinityWord) {
        for service in self.scene.node.services.values_mut() {
            service.affinity = word;
        }
    }

    /// What socket LB says to a connect() in a namespace.
    fn connect(&self, cookie: u64, to: (u16, u16)) -> Choice {
        let socket = Socket {
            netns_cookie: cookie,
            protocol: protocol::TCP,
        };
        let node = &self.scene.node;
        assert!(socket::serves(&node.config, &socket));
        socket::choose(node, &node.config, &socket, &A::of(to.0), Port::new(to.1), false)
    }

    /// A connection of a namespace to where socket LB leaves it.
    fn learn(&self, cookie: u64, from: A, to: (u16, u16)) {
        assert!(may_learn(&self.scene.node.config, cookie));
        learn(&self.scene.node, cookie, &from, &A::of(to.0), Port::new(to.1));
    }

    /// The backend of a connection as a real socket makes it: by socket LB, or else by packets.
    fn call(&mut self, cookie: u64, from: u16, to: (u16, u16)) -> BackendId {
        match self.connect(cookie, to) {
            Choice::Backend(id, backend) => {
                let address = A::from_mapped(backend.address);
                learn(&self.scene.node, cookie, &A::of(from), &address, backend.port);
                id
            }
            Choice::Untouched => {
                self.learn(cookie, A::of(from), to);
                self.send(from, to)
            }
            Choice::Refuse(counter) => panic!("{counter:?}"),
        }
    }

    /// The backend of a connection by packets alone.
    fn send(&mut self, from: u16, to: (u16, u16)) -> BackendId {
        self.port += 1;
        let decision = self.scene.send(Hook::FromPod, Packet::syn((from, self.port), to));
        assert!(matches!(decision, Decision::Translate(_)), "{decision:?}");
        self.scene.work.flow.backend
    }

    fn known(&self) -> usize {
        self.scene.node.namespaces.borrow().len()
    }
}

const TO: (u16, u16) = (CLUSTER_IP, 80);

fn an_unknown_namespace_goes_by_packets_and_is_known_from_then_on<A: Spoken>() {
    let mut stage = Stage::<A>::new();
    assert_eq!(stage.connect(COOKIE, TO), Choice::Untouched);
    let kept = stage.call(COOKIE, POD, TO);
    for _ in 0..20 {
        let choice = stage.connect(COOKIE, TO);
        assert!(
            matches!(choice, Choice::Backend(id, _) if id == kept),
            "{choice:?}"
        );
    }
}

fn sockets_and_packets_share_the_record_whoever_was_first<A: Spoken>() {
    let mut stage = Stage::<A>::new();
    for n in 0..20 {
        let (cookie, pod) = (100 + u64::from(n), POD + n);
        let kept = if n % 2 == 0 {
            stage.send(pod, TO)
        } else {
            stage.call(cookie, pod, TO)
        };
        for to in [TO, (NODE, NODE_PORT), (LOAD_BALANCER, 80), TO] {
            assert_eq!(stage.call(cookie, pod, to), kept);
            assert_eq!(stage.send(pod, to), kept);
        }
    }
    assert_eq!(
        stage.scene.node.affinities.borrow().len(),
        20,
        "one record a client"
    );
}

fn without_affinity_nothing_need_be_known<A: Spoken>() {
    let mut stage = Stage::<A>::new();
    stage.switch(AffinityWord::OFF);
    assert!(matches!(stage.connect(COOKIE, TO), Choice::Backend(..)));
    assert_eq!(stage.known(), 0);
}

fn a_refusal_needs_no_client<A: Spoken>() {
    let mut stage = Stage::<A>::new();
    stage.scene.empty_lists(When::Reject);
    assert!(matches!(stage.connect(COOKIE, TO), Choice::Refuse(_)));
}

fn the_host_is_its_namespace<A: Spoken>() {
    let stage = Stage::<A>::new();
    let host = stage.scene.node.config.host_netns_cookie;
    assert!(!may_learn(&stage.scene.node.config, host));
    let kept = stage.connect(host, TO);
    assert!(matches!(kept, Choice::Backend(..)));
    for _ in 0..20 {
        assert_eq!(stage.connect(host, TO), kept);
    }
    let records = stage.scene.node.affinities.borrow();
    assert!(records.keys().all(|key| key.namespace() == Some(host)));
    let by_packets = Config {
        flags: 0,
        ..stage.scene.node.config
    };
    assert!(!may_learn(&by_packets, COOKIE), "pods' sockets are not served");
}

fn an_address_is_believed_for_an_hour<A: Spoken>() {
    let mut stage = Stage::<A>::new();
    stage.call(COOKIE, POD, TO);
    stage.scene.node.advance(BELIEVED * SECOND - 1);
    assert!(matches!(stage.connect(COOKIE, TO), Choice::Backend(..)));
    stage.scene.node.advance(1);
    assert_eq!(stage.connect(COOKIE, TO), Choice::Untouched);
    // It has got another one meanwhile.
    let other = stage.call(COOKIE, POD + 1, TO);
    assert_eq!(stage.send(POD + 1, TO), other);
    assert_eq!(stage.call(COOKIE, POD + 1, TO), other);
    assert_eq!(stage.known(), 1);
}

fn an_address_that_became_another_keys_is_none<A: Spoken>() {
    let mut stage = Stage::<A>::new();
    stage.call(COOKIE, POD, TO);
    for known in stage.scene.node.namespaces.borrow_mut().values_mut() {
        known.tag ^= 1;
    }
    assert_eq!(stage.connect(COOKIE, TO), Choice::Untouched);
}

/// Towards others a pod may have another address.
fn only_connections_to_frontends_teach<A: Spoken>() {
    let mut stage = Stage::<A>::new();
    for to in [(LOCAL, TARGET_PORT), (CLUSTER_IP, 443), (CLIENT, 80)] {
        stage.learn(COOKIE, A::of(POD), to);
        assert_eq!(
            stage.scene.node.accesses.get(),
            0,
            "{to:?}: a bit says that it is none"
        );
    }
    let bit = crate::layout::FilterBit::forward(&A::of(CLIENT), Port::new(80), protocol::TCP);
    stage.scene.node.set_filter(bit);
    stage.learn(COOKIE, A::of(POD), (CLIENT, 80));
    assert_eq!(stage.known(), 0);
}

fn loopback_teaches_nothing<A: Spoken>() {
    let stage = Stage::<A>::new();
    let loopback: A = match A::FAMILY {
        crate::layout::Family::V4 => A::from_mapped(core::net::IpAddr::from([127, 0, 0, 1]).into()),
        crate::layout::Family::V6 => {
            A::from_mapped(core::net::IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16]).into())
        }
    };
    for from in [loopback, A::UNSPECIFIED] {
        stage.learn(COOKIE, from, TO);
        assert_eq!(stage.known(), 0);
    }
    stage.learn(COOKIE, A::of(POD), TO);
    assert_eq!(stage.known(), 1);
}

fn families_are_learnt_apart<A: Spoken>() {
    let stage = Stage::<A>::new();
    let other = match A::FAMILY {
        crate::layout::Family::V4 => crate::layout::Family::V6,
        crate::layout::Family::V6 => crate::layout::Family::V4,
    };
    let key = NamespaceKey::new(COOKIE, other);
    let address = NamespaceAddress::new(&key, &A::of(POD), 0);
    stage.scene.node.namespaces.borrow_mut().insert(key, address);
    assert_eq!(stage.connect(COOKIE, TO), Choice::Untouched);
}
