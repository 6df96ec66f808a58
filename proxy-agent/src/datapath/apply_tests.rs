//! What is applied is what is read back: by the snapshot, and by the command line's readers.

use std::net::IpAddr;

use proxy_common::layout::{
    Action, AffinityWord, BACKEND_LOCAL, Backend, BackendId, Counter, Direction, FilterBit, Flow, FlowKey,
    FrontendKind, FrontendValue, Identity, ListWord, Meta, NameText, Port, Service, ServiceId, V4, V6, Via,
    When, protocol, state,
};

use super::clock::Clock;
use super::testing::{Namespace, Place};
use super::{Datapath, dump};
use crate::plan::{Frontend, Operation, Range};

fn running() -> (Namespace, Place, Datapath) {
    let (node, place) = (Namespace::new(), Place::new());
    let datapath = place.start(&node).unwrap();
    (node, place, datapath)
}

fn frontend(address: &str, port: u16) -> Frontend {
    Frontend {
        address: address.parse().unwrap(),
        port: Port::new(port),
        protocol: protocol::TCP,
    }
}

fn value(service: u32, kind: FrontendKind) -> FrontendValue {
    FrontendValue {
        service: ServiceId(service),
        tag: 0,
        service_tag: 7,
        kind: kind as u8,
        pad: 0,
    }
}

fn backend(address: &str, life: u32) -> Backend {
    Backend {
        address: V6::from(address.parse::<IpAddr>().unwrap()),
        port: Port::new(8080),
        protocol: protocol::TCP,
        flags: BACKEND_LOCAL,
        service: ServiceId(1),
        life,
        last_life: 0,
    }
}

fn service(first: u32, count: u32) -> Service {
    Service {
        internal: ListWord::new(first, count, 7),
        external: ListWord::empty(When::Drop, 7),
        shortcut: ListWord::new(first, count, 7),
        affinity: AffinityWord::OFF,
    }
}

fn identity(name: &str) -> Box<Identity> {
    Box::new(Identity {
        uid: [1, 2],
        name_hash: 3,
        service_tag: 7,
        hint_fallback: 0,
        without_hints: 0,
        pad: 0,
        name: NameText::new(name),
    })
}

/// One Service with two backends and a frontend of each kind.
fn whole() -> Vec<Operation> {
    let ids = [BackendId(1), BackendId(2)];
    vec![
        Operation::PutIdentity(ServiceId(1), identity("shop/cart:http")),
        Operation::SetFilter(FilterBit::node_port(Port::new(30_080), protocol::TCP)),
        Operation::PutBackend(ids[0], backend("10.1.0.4", 5)),
        Operation::PutBackend(ids[1], backend("fd00::4", 6)),
        Operation::PutSlots {
            first: 3,
            backends: ids.to_vec(),
        },
        Operation::PutService(ServiceId(1), service(3, 2)),
        Operation::PutFrontend(frontend("10.96.0.7", 80), value(1, FrontendKind::ClusterIp)),
        Operation::PutFrontend(frontend("0.0.0.0", 30_080), value(1, FrontendKind::NodePort)),
        Operation::PutFrontend(frontend("fd00:96::7", 80), value(1, FrontendKind::ClusterIp)),
        Operation::PutFrontend(frontend("::", 30_080), value(1, FrontendKind::NodePort)),
    ]
}

#[test]
fn a_snapshot_is_what_was_applied_also_after_a_restart() {
    let (node, place, mut datapath) = running();
    assert_eq!(datapath.snapshot().unwrap(), Default::default());
    datapath.apply(&whole()).unwrap();
    datapath.apply(&[Operation::KillBackend(BackendId(2))]).unwrap();
    let snapshot = datapath.snapshot().unwrap();
    assert_eq!(snapshot.identities, [(ServiceId(1), *identity("shop/cart:http"))]);
    assert_eq!(snapshot.services, [(ServiceId(1), service(3, 2))]);
    assert_eq!(snapshot.slots, [(3, vec![BackendId(1), BackendId(2)])]);
    let dead = Backend {
        life: 0,
        last_life: 6,
        ..backend("fd00::4", 6)
    };
    assert_eq!(
        snapshot.backends,
        [(BackendId(1), backend("10.1.0.4", 5)), (BackendId(2), dead)]
    );
    let found: Vec<String> = snapshot
        .frontends
        .iter()
        .map(|(frontend, _)| format!("{} {:?}", frontend.address, frontend.port))
        .collect();
    assert_eq!(
        found,
        ["0.0.0.0 30080", "10.96.0.7 80", ":: 30080", "fd00:96::7 80"]
    );
    let bit = FilterBit::node_port(Port::new(30_080), protocol::TCP);
    assert_eq!(snapshot.filter, [(bit.word(), bit.mask())]);
    drop(datapath);
    assert_eq!(place.start(&node).unwrap().snapshot().unwrap(), snapshot);
}

#[test]
fn what_is_taken_away_is_gone() {
    let (_node, _place, mut datapath) = running();
    datapath.apply(&whole()).unwrap();
    datapath
        .apply(&[
            Operation::RemoveFrontend(frontend("10.96.0.7", 80)),
            Operation::RemoveFrontend(frontend("::", 30_080)),
            Operation::RemoveFrontend(frontend("fd00:96::99", 80)),
            Operation::RemoveIdentity(ServiceId(1)),
        ])
        .unwrap();
    let snapshot = datapath.snapshot().unwrap();
    assert_eq!((snapshot.identities.len(), snapshot.services.len()), (0, 0));
    let found: Vec<_> = snapshot
        .frontends
        .iter()
        .map(|(frontend, _)| frontend.address.to_string())
        .collect();
    assert_eq!(found, ["0.0.0.0", "fd00:96::7"]);
}

#[test]
fn source_ranges_come_are_read_back_and_go() {
    let (node, place, mut datapath) = running();
    let ranges: Vec<Range> = [
        ("10.0.0.0", 8),
        ("10.1.2.3", 32),
        ("0.0.0.0", 0),
        ("fd00::", 8),
        ("fd00::1", 128),
    ]
    .map(|(address, length)| Range::new(address.parse().unwrap(), length))
    .to_vec();
    let put = |id, range: &Range| Operation::PutRange(ServiceId(id), *range, 7);
    let operations: Vec<_> = (1..40)
        .flat_map(|id| ranges.iter().map(move |range| put(id, range)))
        .collect();
    datapath.apply(&operations).unwrap();
    let mut expected: Vec<_> = (1..40)
        .flat_map(|id| ranges.iter().map(move |range| (ServiceId(id), *range, 7)))
        .collect();
    expected.sort_unstable();
    assert_eq!(datapath.snapshot().unwrap().ranges, expected);
    drop(datapath);
    let mut datapath = place.start(&node).unwrap();
    assert_eq!(datapath.snapshot().unwrap().ranges, expected);
    let remove = |(id, range, _): &(ServiceId, Range, u32)| Operation::RemoveRange(*id, *range);
    datapath
        .apply(&expected.iter().skip(1).map(remove).collect::<Vec<_>>())
        .unwrap();
    assert_eq!(datapath.snapshot().unwrap().ranges, expected[..1]);
}

#[test]
fn ten_thousand_services_come_in_one_go() {
    let (node, place) = (Namespace::new(), Place::new());
    let mut datapath = place.start_with_memory(&node, 128 << 20).unwrap();
    let operations: Vec<Operation> = (1..=10_000_u32)
        .flat_map(|id| {
            let address = IpAddr::from([10, 96, (id >> 8) as u8, id as u8]);
            let front = Frontend {
                address,
                port: Port::new(80),
                protocol: protocol::TCP,
            };
            [
                Operation::PutIdentity(ServiceId(id), identity("a/b")),
                Operation::PutService(ServiceId(id), service(id, 1)),
                Operation::PutFrontend(front, value(id, FrontendKind::ClusterIp)),
            ]
        })
        .collect();
    datapath.apply(&operations).unwrap();
    let snapshot = datapath.snapshot().unwrap();
    assert_eq!(
        (snapshot.identities.len(), snapshot.frontends.len()),
        (10_000, 10_000)
    );
    for (frontend, value) in &snapshot.frontends {
        let IpAddr::V4(four) = frontend.address else {
            panic!("{frontend:?}")
        };
        assert_eq!(
            u32::from(four) & 0xffff,
            value.service.0,
            "every frontend leads to its own service"
        );
    }
}

/// A frontend moves to a new service port before the old one loses its list: a reader that follows the frontend never
/// meets the empty list. Shown with a later operation that fails: what came before it stands, what came after does not.
#[test]
fn a_frontend_moves_before_its_old_service_is_closed() {
    let (_node, _place, mut datapath) = running();
    datapath.apply(&whole()).unwrap();
    let moved = frontend("10.96.0.7", 80);
    let nowhere = ServiceId(u32::MAX);
    let beyond = Operation::PutService(nowhere, service(0, 0));
    let operations = [
        Operation::PutService(ServiceId(2), service(3, 2)),
        Operation::PutFrontend(moved, value(2, FrontendKind::ClusterIp)),
        Operation::PutService(ServiceId(1), Service::default()),
        beyond,
    ];
    let error = datapath.apply(&operations).unwrap_err();
    assert_eq!(error.index, 3);
    let text = error.to_string();
    assert!(
        text.contains("PutService") && text.contains("SERVICES has") && text.contains("full"),
        "{text}"
    );
    let snapshot = datapath.snapshot().unwrap();
    let (_, owner) = snapshot
        .frontends
        .iter()
        .find(|(frontend, _)| *frontend == moved)
        .unwrap();
    assert_eq!(owner.service, ServiceId(2));
}

#[test]
fn a_full_map_is_named_with_the_operation() {
    let (_node, _place, mut datapath) = running();
    let capacity = datapath.capacity().frontends4;
    let operations: Vec<Operation> = (0..=capacity)
        .map(|n| {
            let address = IpAddr::from((0x0a00_0000 + n).to_be_bytes());
            let front = Frontend {
                address,
                port: Port::new(80),
                protocol: protocol::TCP,
            };
            Operation::PutFrontend(front, value(1, FrontendKind::ClusterIp))
        })
        .collect();
    let error = datapath.apply(&operations).unwrap_err();
    assert_eq!(error.index, capacity as usize);
    let text = error.to_string();
    assert!(
        text.contains("of FRONTENDS4") && text.contains("the map is full"),
        "{text}"
    );
    for operation in [
        Operation::PutBackend(BackendId(u32::MAX), backend("10.1.0.4", 1)),
        Operation::KillBackend(BackendId(u32::MAX)),
        Operation::PutSlots {
            first: u32::MAX,
            backends: vec![BackendId(1)],
        },
    ] {
        let text = datapath.apply(&[operation]).unwrap_err().to_string();
        assert!(text.contains("the map is full"), "{text}");
    }
}

#[test]
fn the_command_line_reads_services_and_backends_with_the_agent_dead() {
    let (_node, place, mut datapath) = running();
    datapath.apply(&whole()).unwrap();
    datapath.apply(&[Operation::KillBackend(BackendId(2))]).unwrap();
    drop(datapath);
    let services = dump::services(&place.instance).unwrap();
    let [service] = services.as_slice() else {
        panic!("{services:?}")
    };
    assert_eq!((service.id, service.name.as_str()), (1, "shop/cart:http"));
    assert_eq!(
        (service.internal.backends.as_slice(), service.internal.when_empty),
        ([1, 2].as_slice(), "")
    );
    assert_eq!(
        (service.external.backends.len(), service.external.when_empty),
        (0, "drop")
    );
    let kinds: Vec<_> = service
        .frontends
        .iter()
        .map(|front| (front.address.to_string(), front.kind))
        .collect();
    assert_eq!(kinds[1], ("10.96.0.7".to_owned(), "ClusterIP"));
    assert_eq!(kinds[2], ("::".to_owned(), "NodePort"));
    let backends = dump::backends(&place.instance).unwrap();
    assert_eq!(
        (backends[0].address.to_string().as_str(), backends[0].alive),
        ("10.1.0.4", true)
    );
    assert_eq!(
        (backends[0].local, backends[0].generation, backends[0].protocol),
        (true, 5, "tcp")
    );
    assert_eq!(
        (backends[1].address.to_string().as_str(), backends[1].alive),
        ("fd00::4", false)
    );
    assert_eq!(backends[1].generation, 6);
}

#[test]
fn the_command_line_reads_flows_and_counters() {
    let (_node, place, datapath) = running();
    let config = datapath.tables.config.get(&0).unwrap().unwrap();
    let key = FlowKey {
        source: V4::new([10, 1, 0, 9]),
        destination: V4::new([10, 96, 0, 7]),
        source_port: Port::new(40_000),
        destination_port: Port::new(80),
        protocol: protocol::TCP,
        direction: Direction::Forward as u8,
        pad: 0,
    };
    let seen = Clock::new()
        .unwrap()
        .now()
        .unwrap()
        .wrapping_sub(10 * config.ticks_per_second);
    let flow = Flow {
        meta: Meta::new(key.tag(), state::REPLIED | state::ESTABLISHED, seen),
        source: key.source,
        destination: V4::new([10, 1, 0, 4]),
        source_port: key.source_port,
        destination_port: Port::new(8080),
        backend: BackendId(1),
        generation: 5,
        service: ServiceId(1),
        expected_acknowledgement: 0,
        action: Action::Stack as u8,
        via: Via::UNKNOWN,
    };
    datapath.tables.flows4.tcp_flows.put(&key, &flow).unwrap();
    let flows = dump::flows(&place.instance).unwrap();
    let [found] = flows.as_slice() else {
        panic!("{flows:?}")
    };
    assert_eq!(
        (found.table, found.direction, found.protocol),
        ("established", "forward", "tcp")
    );
    assert_eq!(
        (found.source.to_string(), found.destination.to_string()),
        ("10.1.0.9:40000".into(), "10.96.0.7:80".into())
    );
    assert_eq!(found.new_destination.to_string(), "10.1.0.4:8080");
    assert_eq!(
        (found.action, found.backend, found.generation, found.service),
        ("stack", 1, 5, 1)
    );
    assert_eq!(found.state, ["replied", "established"]);
    assert!((10..12).contains(&found.idle_seconds), "{found:?}");
    assert!((86_388..=86_390).contains(&found.expires_seconds), "{found:?}");

    let counters = dump::counters(&place.instance).unwrap();
    assert_eq!(counters.len(), Counter::ALL.len());
    assert!(
        counters
            .iter()
            .all(|counter| counter.value == 0 && !counter.help.is_empty())
    );
    assert!(
        counters
            .iter()
            .any(|counter| counter.name == "no_endpoint" && counter.drop)
    );
}

#[test]
fn reading_an_instance_that_is_not_there_says_so() {
    let place = Place::new();
    let text = dump::services(&place.instance).unwrap_err().to_string();
    assert!(text.contains("no agent runs or ran with --instance"), "{text}");
}
