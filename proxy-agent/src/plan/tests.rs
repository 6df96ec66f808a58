//! The planner against a naive model of the maps, checked after every single operation.

pub(crate) mod kernel;
mod random;
mod world;

use std::collections::BTreeSet;

use kernel::Kernel;
use proxy_common::layout::{FrontendKind, HintFallback, Port, ServiceId, When, protocol};

use super::*;
use crate::name::ObjectName;

pub(super) const AMPLE: Capacity = Capacity {
    services: 64,
    backends: 128,
    slots: 4096,
    frontends4: 64,
    frontends6: 64,
    ranges4: 64,
    ranges6: 64,
};

pub(crate) fn name(text: &str) -> ObjectName {
    ObjectName::new("default", text)
}

fn endpoint(number: u8) -> Endpoint {
    Endpoint {
        address: [10, 1, 0, number].into(),
        port: Port::new(8080),
        local: false,
    }
}

pub(super) fn cluster_ip(number: u8) -> Frontend {
    Frontend {
        address: [10, 96, 0, number].into(),
        port: Port::new(80),
        protocol: protocol::TCP,
    }
}

/// A service port with all its endpoints in all lists.
pub(crate) fn port(service: &str, frontends: &[u8], endpoints: &[u8]) -> ServicePort {
    let all = List {
        members: (0..endpoints.len() as u32).collect(),
        when_empty: When::Reject,
    };
    ServicePort {
        key: PortKey {
            service: name(service),
            port_name: "".into(),
            protocol: protocol::TCP,
            family: proxy_common::layout::Family::V4,
        },
        uid: "uid".into(),
        frontends: frontends
            .iter()
            .map(|number| (cluster_ip(*number), FrontendKind::ClusterIp))
            .collect(),
        endpoints: endpoints.iter().map(|number| endpoint(*number)).collect(),
        internal: all.clone(),
        external: all.clone(),
        shortcut: all,
        rule: Rule::Random,
        weights: Vec::new(),
        slow_start: 0,
        forwarding: Forwarding::Snat,
        affinity: 0,
        hints: None,
        source_ranges: Vec::new(),
    }
}

/// A planner and the maps that its plans are carried out on.
pub(super) struct Bench {
    planner: Planner,
    pub(super) kernel: Kernel,
}

impl Bench {
    pub(super) fn new(capacity: Capacity) -> Self {
        let (planner, repairs) = Planner::adopt(&Snapshot::default(), capacity);
        assert!(repairs.is_empty(), "{repairs:?}");
        Self {
            planner,
            kernel: Kernel::new(capacity),
        }
    }

    fn apply(&mut self, service: &str, ports: &[ServicePort]) -> Plan {
        let plan = self.planner.apply(&[(name(service), ports.to_vec())]);
        self.kernel.carry_out(&plan.operations);
        plan
    }

    pub(super) fn install(&mut self, service: &str, ports: &[ServicePort]) {
        assert_eq!(self.apply(service, ports).failed, []);
    }

    fn rest(&mut self, plan: &Plan) {
        let token = plan.token.expect("something was taken away");
        self.planner.grace_passed(token);
        self.kernel.grace();
        let operations = self.planner.swept(token);
        self.kernel.carry_out(&operations);
    }
}

fn kinds(operations: &[Operation]) -> Vec<String> {
    let kind = |operation: &Operation| {
        let text = format!("{operation:?}");
        text.split(['(', ' ', '{']).next().unwrap_or_default().to_owned()
    };
    operations.iter().map(kind).collect()
}

#[test]
fn ranges_come_before_their_frontend_and_go_after_it() {
    let mut bench = Bench::new(AMPLE);
    let guarded = |kind, ranges: &[u8]| {
        let mut port = port("web", &[1], &[1]);
        port.frontends[0].1 = kind;
        let range = |number: &u8| Range::new([192, *number, 3, 9].into(), 16);
        port.source_ranges = ranges.iter().map(range).collect();
        port
    };
    let (open, closed) = (FrontendKind::LoadBalancer, FrontendKind::GuardedLoadBalancer);
    bench.install("web", &[guarded(open, &[])]);
    let plan = bench.apply("web", &[guarded(closed, &[1, 2])]);
    assert_eq!(kinds(&plan.operations), ["PutRange", "PutRange", "PutFrontend"]);
    let plan = bench.apply("web", &[guarded(closed, &[2, 3])]);
    assert_eq!(kinds(&plan.operations), ["PutRange", "RemoveRange"]);
    let plan = bench.apply("web", &[guarded(open, &[])]);
    assert_eq!(
        kinds(&plan.operations),
        ["PutFrontend", "RemoveRange", "RemoveRange"]
    );
    // Of nobody's ranges none is left for the next owner of the id.
    let mut snapshot = bench.kernel.snapshot();
    let (id, identity) = snapshot.identities[0];
    let range = Range::new([192, 9, 0, 0].into(), 16);
    let strangers = [
        (id, identity.service_tag + 1),
        (ServiceId(63), identity.service_tag),
    ];
    snapshot.ranges = strangers.map(|(id, tag)| (id, range, u32::from(tag))).to_vec();
    let (_, repairs) = Planner::adopt(&snapshot, AMPLE);
    assert_eq!(
        repairs,
        strangers.map(|(id, _)| Operation::RemoveRange(id, range))
    );
}

#[test]
fn a_new_epoch_begins_each_time_that_affinity_is_switched_on() {
    let mut bench = Bench::new(AMPLE);
    let mut epochs = Vec::new();
    for (seconds, endpoints) in [(0, 2), (60, 2), (90, 2), (90, 1), (0, 1), (60, 1)] {
        let endpoints: Vec<u8> = (0..endpoints).collect();
        let port = ServicePort {
            affinity: seconds,
            ..port("web", &[1], &endpoints)
        };
        let plan = bench.apply("web", &[port]);
        let word = plan.operations.iter().find_map(|operation| match operation {
            Operation::PutService(_, service) => Some(service.affinity),
            _ => None,
        });
        let word = word.expect("the service changes");
        assert_eq!(word.seconds(), seconds);
        assert_ne!(word.tag(), 0, "an owner's word");
        epochs.push(word.epoch());
        if plan.token.is_some() {
            bench.rest(&plan);
        }
    }
    assert_eq!(epochs, [0, 1, 1, 1, 1, 2]);
}

#[test]
fn a_service_comes_changes_and_goes_in_the_right_order() {
    let mut bench = Bench::new(AMPLE);
    let plan = bench.apply("web", &[port("web", &[1], &[1, 2])]);
    assert_eq!(
        kinds(&plan.operations),
        [
            "PutIdentity",
            "SetFilter",
            "SetFilter",
            "SetFilter",
            "SetFilter",
            "SetFilter",
            "SetFilter",
            "PutBackend",
            "PutBackend",
            "PutSlots",
            "PutService",
            "PutFrontend",
            "PutVip"
        ]
    );
    assert_eq!(plan.token, None);

    let plan = bench.apply("web", &[port("web", &[1], &[1, 2, 3])]);
    assert_eq!(
        kinds(&plan.operations),
        ["SetFilter", "SetFilter", "PutBackend", "PutSlots", "PutService"]
    );
    let plan = bench.apply("web", &[port("web", &[1], &[1, 3])]);
    assert_eq!(
        kinds(&plan.operations),
        [
            "PutSlots",
            "PutService",
            "KillBackend",
            "ReleaseFilter",
            "ReleaseFilter"
        ]
    );

    let same = bench.apply("web", &[port("web", &[1], &[1, 3])]);
    assert_eq!((same.operations, same.token), (Vec::new(), None));

    let plan = bench.apply("web", &[]);
    assert_eq!(
        kinds(&plan.operations)[..4],
        ["RemoveFrontend", "PutService", "KillBackend", "KillBackend"]
    );
    bench.rest(&plan);
    assert!(bench.kernel.is_empty());
}

#[test]
fn an_endpoint_that_leaves_the_lists_and_serves_keeps_its_life() {
    let mut bench = Bench::new(AMPLE);
    bench.install("web", &[port("web", &[1], &[1, 2])]);
    let before = bench.kernel.backends.clone();
    let mut local = port("web", &[1], &[1, 2]);
    local.internal.members = vec![1];
    let plan = bench.apply("web", &[local]);
    assert_eq!(kinds(&plan.operations), ["PutSlots", "PutService"]);
    assert_eq!(bench.kernel.backends, before);
}

#[test]
fn another_rule_or_weight_is_another_list_and_no_more() {
    let mut bench = Bench::new(AMPLE);
    let mut web = port("web", &[1], &[1, 2]);
    bench.install("web", &[web.clone()]);
    let before = bench.kernel.backends.clone();
    let even = vec![Weight::MIN; 2];
    let uneven = vec![Weight::MIN, Weight::new(3).unwrap()];
    for (rule, weights) in [
        (Rule::Maglev(TableSize::small(7)), &even),
        (Rule::Maglev(TableSize::small(11)), &even),
        (Rule::Maglev(TableSize::small(11)), &uneven),
        (Rule::LeastConnections, &uneven),
        (Rule::LeastConnections, &even),
        (Rule::Random, &uneven),
        (Rule::Random, &even),
    ] {
        web.rule = rule;
        web.weights.clone_from(weights);
        let plan = bench.apply("web", &[web.clone()]);
        assert_eq!(kinds(&plan.operations), ["PutSlots", "PutService"], "{rule:?}");
        assert_eq!(
            bench.kernel.backends, before,
            "flows that live keep their backends"
        );
        bench.rest(&plan);
        assert_eq!(bench.apply("web", &[web.clone()]).operations, [], "{rule:?}");
        // A restart finds the same.
        let (mut adopted, repairs) = Planner::adopt(&bench.kernel.snapshot(), AMPLE);
        assert_eq!(repairs, []);
        let again = adopted.apply(&[(name("web"), vec![web.clone()])]);
        assert_eq!(again.operations, [], "{rule:?}");
    }
}

#[test]
fn a_table_without_room_leaves_the_service_as_it_was() {
    let mut bench = Bench::new(Capacity { slots: 12, ..AMPLE });
    let mut web = port("web", &[1], &[1, 2]);
    bench.install("web", &[web.clone()]);
    let before = bench.kernel.meanings();
    web.rule = Rule::Maglev(TableSize::small(11));
    let plan = bench.apply("web", &[web]);
    assert_eq!((plan.failed[0].map, plan.failed[0].needed), ("SLOTS", 14));
    assert_eq!(bench.kernel.meanings(), before);
}

#[test]
fn an_id_used_again_has_a_new_life_and_waits_for_grace() {
    let mut bench = Bench::new(Capacity { backends: 3, ..AMPLE });
    bench.install("web", &[port("web", &[1], &[1, 2])]);
    let swap = port("web", &[1], &[1, 3]);
    let plan = bench.apply("web", std::slice::from_ref(&swap));
    assert_eq!(
        plan.failed[0].map, "BACKENDS",
        "the old endpoint's id is in use until the new list stands"
    );
    let fewer = bench.apply("web", &[port("web", &[1], &[1])]);
    assert_eq!(
        bench.apply("web", std::slice::from_ref(&swap)).failed[0].map,
        "BACKENDS",
        "a reader may hold the id"
    );
    bench.planner.grace_passed(fewer.token.unwrap());
    bench.kernel.grace();
    assert_eq!(bench.apply("web", &[swap]).failed, []);
    let lives: BTreeSet<u32> = bench
        .kernel
        .backends
        .values()
        .map(|backend| backend.life)
        .collect();
    assert_eq!(lives, BTreeSet::from([1, 2]));
}

#[test]
fn a_service_made_anew_gets_a_new_id_and_its_frontend_in_one_update() {
    let mut bench = Bench::new(AMPLE);
    bench.install("web", &[port("web", &[1], &[1])]);
    let mut anew = port("web", &[1], &[1]);
    anew.uid = "another".into();
    let plan = bench.apply("web", &[anew]);
    let frontends = kinds(&plan.operations)
        .into_iter()
        .filter(|kind| kind.ends_with("Frontend"));
    assert_eq!(frontends.collect::<Vec<_>>(), ["PutFrontend"]);
    assert_eq!(bench.kernel.identities.len(), 2, "the old id rests");
    bench.rest(&plan);
    assert_eq!(bench.kernel.identities.len(), 1);
}

#[test]
fn a_service_that_comes_back_gets_its_resting_id() {
    let mut bench = Bench::new(AMPLE);
    bench.install("web", &[port("web", &[1], &[1])]);
    let id = *bench.kernel.identities.keys().next().unwrap();
    let gone = bench.apply("web", &[]);
    let plan = bench.apply("web", &[port("web", &[1], &[1])]);
    assert!(!kinds(&plan.operations).contains(&"PutIdentity".to_owned()));
    assert_eq!(bench.planner.swept(gone.token.unwrap()), [], "it is in use again");
    assert_eq!(bench.kernel.frontends[&cluster_ip(1)].service, id);
}

#[test]
fn hints_that_are_not_followed_are_written_beside_the_name_and_nowhere_else() {
    let mut bench = Bench::new(AMPLE);
    let followed = port("web", &[1], &[1]);
    let mut ignored = followed.clone();
    ignored.hints = Some(HintFallback::Incomplete(2));
    bench.install("web", std::slice::from_ref(&followed));
    let told = |bench: &Bench| {
        let identity = bench.kernel.identities.values().next().unwrap();
        HintFallback::from_fields(identity.hint_fallback, identity.without_hints)
    };
    assert_eq!(told(&bench), None);
    let plan = bench.apply("web", std::slice::from_ref(&ignored));
    assert_eq!(kinds(&plan.operations), ["PutIdentity"]);
    assert_eq!(told(&bench), ignored.hints);
    assert_eq!(bench.apply("web", std::slice::from_ref(&ignored)).operations, []);
    // The id that rests is woken with what holds then.
    _ = bench.apply("web", &[]);
    _ = bench.apply("web", std::slice::from_ref(&followed));
    assert_eq!(told(&bench), None);
}

#[test]
fn a_frontend_moves_between_services_in_one_update() {
    let mut bench = Bench::new(AMPLE);
    bench.install("a", &[port("a", &[1, 3], &[1])]);
    bench.install("b", &[port("b", &[2], &[2])]);
    // Each takes one of the other's: whichever is planned first, no frontend is ever missing.
    let batch = [
        (name("a"), vec![port("a", &[2, 3], &[1])]),
        (name("b"), vec![port("b", &[1], &[2])]),
    ];
    let plan = bench.planner.apply(&batch);
    assert_eq!(kinds(&plan.operations), ["PutFrontend", "PutFrontend"]);
    bench.kernel.carry_out(&plan.operations);
    let again = bench.planner.apply(&batch);
    assert_eq!(again.operations, []);
}

#[test]
fn a_service_that_does_not_fit_stays_as_it_was() {
    for (capacity, map) in [
        (Capacity { slots: 5, ..AMPLE }, "SLOTS"),
        (Capacity { backends: 4, ..AMPLE }, "BACKENDS"),
        (
            Capacity {
                frontends4: 2,
                ..AMPLE
            },
            "FRONTENDS4",
        ),
    ] {
        let mut bench = Bench::new(capacity);
        bench.install("a", &[port("a", &[1], &[1])]);
        bench.install("b", &[port("b", &[2], &[2])]);
        let batch = [
            (name("a"), vec![port("a", &[1, 5], &[1, 3, 4, 5])]),
            (name("b"), Vec::new()),
        ];
        let plan = bench.planner.apply(&batch);
        bench.kernel.carry_out(&plan.operations);
        let text = plan.failed[0].to_string();
        assert!(text.contains("Service default/a stays as it was"), "{text}");
        assert!(text.contains(map) && text.contains("--map-memory"), "{text}");
        assert_eq!(bench.kernel.frontends.len(), 1, "others go on");
        bench.rest(&plan);
        assert_eq!(
            bench.apply("a", &[port("a", &[1, 5], &[1, 3])]).failed,
            [],
            "what was reserved came back"
        );
    }
    let mut bench = Bench::new(Capacity { services: 2, ..AMPLE });
    bench.install("a", &[port("a", &[1], &[1])]);
    assert_eq!(
        bench.apply("b", &[port("b", &[2], &[2])]).failed[0].map,
        "SERVICES"
    );
}

#[test]
fn a_restart_takes_over_what_stands_and_prunes_the_rest() {
    let mut bench = Bench::new(AMPLE);
    bench.install("a", &[port("a", &[1], &[1, 2])]);
    bench.install("b", &[port("b", &[2], &[3])]);
    let snapshot = bench.kernel.snapshot();
    let (mut planner, repairs) = Planner::adopt(&snapshot, AMPLE);
    assert_eq!(repairs, []);
    let plan = planner.apply(&[(name("a"), vec![port("a", &[1], &[1, 2])])]);
    assert_eq!(plan.operations, []);
    let plan = planner.prune();
    assert_eq!(
        kinds(&plan.operations)[..3],
        ["RemoveFrontend", "PutService", "KillBackend"]
    );
    bench.kernel.carry_out(&plan.operations);
    assert_eq!(bench.kernel.frontends.len(), 1);
    assert_eq!(planner.prune().operations, []);
}

#[test]
fn a_frontend_that_carries_anothers_tag_is_repaired_at_once() {
    let mut bench = Bench::new(AMPLE);
    bench.install("a", &[port("a", &[1], &[1])]);
    let mut snapshot = bench.kernel.snapshot();
    let (frontend, whole) = snapshot.frontends[0];
    snapshot.frontends[0].1.tag ^= 1;
    let (_, repairs) = Planner::adopt(&snapshot, AMPLE);
    assert_eq!(repairs, [Operation::PutFrontend(frontend, whole)]);
}

#[test]
fn missing_filter_bits_are_repaired_at_once() {
    let mut bench = Bench::new(AMPLE);
    bench.install("a", &[port("a", &[1], &[1])]);
    let mut snapshot = bench.kernel.snapshot();
    let words = std::mem::take(&mut snapshot.filter);
    let bits: u32 = words.iter().map(|(_, word)| word.count_ones()).sum();
    let (_, repairs) = Planner::adopt(&snapshot, AMPLE);
    assert_eq!(kinds(&repairs), vec!["SetFilter"; bits as usize]);
}

#[test]
fn a_service_port_is_forwarded_as_it_asks() {
    let mut bench = Bench::new(AMPLE);
    for (forwarding, seconds) in [
        (Forwarding::Snat, 0),
        (Forwarding::Dsr, 0),
        (Forwarding::Dsr, 60),
        (Forwarding::Snat, 60),
    ] {
        let port = ServicePort {
            forwarding,
            affinity: seconds,
            ..port("web", &[1], &[1, 2])
        };
        let plan = bench.apply("web", &[port]);
        let word = plan.operations.iter().find_map(|operation| match operation {
            Operation::PutService(_, service) => Some(service.affinity),
            _ => None,
        });
        let word = word.expect("the service changes");
        assert_eq!(
            (word.hands_on(), word.seconds()),
            (forwarding == Forwarding::Dsr, seconds)
        );
        assert_ne!(word.tag(), 0, "an owner's word");
    }
}

#[test]
fn clients_stay_exempt_across_a_restart() {
    use proxy_common::layout::{NEVER_HANDED_ON, NEVER_HANDED_ON_TAG};

    let range = |text: &str, length| Range::new(text.parse().unwrap(), length);
    let [a, b, c] = [
        range("192.0.2.0", 24),
        range("2001:db8::", 64),
        range("198.18.0.0", 15),
    ];
    let put = |range| Operation::PutRange(NEVER_HANDED_ON, range, NEVER_HANDED_ON_TAG);
    let (mut planner, _) = Planner::adopt(&Snapshot::default(), AMPLE);
    assert_eq!(planner.set_exempt(&[a, b].into()).operations, [put(a), put(b)]);
    let changed = planner.set_exempt(&[b, c].into()).operations;
    assert_eq!(changed, [put(c), Operation::RemoveRange(NEVER_HANDED_ON, a)]);
    let held: Vec<_> = planner.all_ranges().into_iter().collect();
    assert_eq!(held.len(), 2);
    let snapshot = Snapshot {
        ranges: held,
        ..Snapshot::default()
    };
    let (mut planner, repairs) = Planner::adopt(&snapshot, AMPLE);
    assert_eq!(repairs, []);
    assert!(planner.set_exempt(&[b, c].into()).operations.is_empty());
    let gone = planner.set_exempt(&BTreeSet::new()).operations;
    assert_eq!(gone.len(), 2);
}
