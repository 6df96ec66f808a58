use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use proxy_common::layout::{
    Addr, Affinity, AffinityKey, Family, NamespaceAddress, NamespaceKey, Port, V4, V6, protocol,
};
use proxy_common::rules::headers::Readable;
use proxy_common::rules::socket::{self, Choice, Socket};
use proxy_common::rules::{Decision, Directory, Origin, Work, hook};

use super::*;
use crate::source::{Change, objects};

/// An endpoint of a random Service: address, whether here, ready, serving, terminating, hinted zone.
type RandomEndpoint = (u8, bool, bool, bool, bool, u8);

/// A random Service, in both families.
#[derive(Clone, Debug)]
struct RandomService {
    endpoints: Vec<RandomEndpoint>,
    is_internal_local: bool,
    is_external_local: bool,
    is_guarded: bool,
    is_sticky: bool,
}

fn any_service() -> impl Strategy<Value = RandomService> {
    let endpoint = (
        1..8_u8,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        0..3_u8,
    );
    (prop::collection::vec(endpoint, 0..6), any::<[bool; 4]>()).prop_map(|(endpoints, flags)| RandomService {
        endpoints,
        is_internal_local: flags[0],
        is_external_local: flags[1],
        is_guarded: flags[2],
        is_sticky: flags[3],
    })
}

impl RandomService {
    fn world(&self) -> World {
        let policy = |is_local| if is_local { "Local" } else { "Cluster" };
        let mut text = format!(
            "apiVersion: v1
kind: Node
metadata: {{name: here, labels: {{topology.kubernetes.io/zone: z1}}}}
spec: {{podCIDRs: [10.1.0.0/24, 'fd00:1::/64']}}
status: {{addresses: [{{type: InternalIP, address: 192.0.2.1}}, {{type: InternalIP, address: '2001:db8::1'}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  type: LoadBalancer
  clusterIPs: [10.96.0.1, 'fd00:96::1']
  externalIPs: [198.51.100.1, '2001:db8:100::1']
  internalTrafficPolicy: {}
  externalTrafficPolicy: {}
  sessionAffinity: {}
  loadBalancerSourceRanges: {}
  ports: [{{name: a, port: 80, nodePort: 30080}}, {{name: b, protocol: UDP, port: 80, nodePort: 30080}}]
status: {{loadBalancer: {{ingress: [{{ip: 203.0.113.1}}, {{ip: '2001:db8:113::1'}}]}}}}
",
            policy(self.is_internal_local),
            policy(self.is_external_local),
            if self.is_sticky { "ClientIP" } else { "None" },
            if self.is_guarded { "[10.0.0.0/8, 'fd00::/16']" } else { "[]" },
        );
        for (family, prefix) in [("IPv4", "10."), ("IPv6", "fd00:")] {
            text += &format!(
                "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-{}, labels: {{kubernetes.io/service-name: web}}}}
addressType: {family}
ports: [{{name: a, port: 8080}}, {{name: b, protocol: UDP, port: 8080}}]
endpoints:
",
                family.to_lowercase()
            );
            for (number, is_here, ready, serving, terminating, zone) in &self.endpoints {
                let node = if *is_here { 1 } else { 2 };
                let address = match family {
                    "IPv4" => format!("{prefix}{node}.0.{number}"),
                    _ => format!("{prefix}{node}::{number}"),
                };
                let name = if *is_here { "here" } else { "there" };
                let hints = match zone {
                    0 => String::new(),
                    zone => format!(", hints: {{forZones: [{{name: z{zone}}}]}}"),
                };
                text += &format!(
                    "- {{addresses: ['{address}'], nodeName: {name}, conditions: {{ready: {ready}, serving: {serving}, \
                     terminating: {terminating}}}{hints}}}\n"
                );
            }
        }
        let place = Place {
            node: "here".to_owned(),
            ..Place::default()
        };
        World::of(objects(&text).into_iter().map(Change::Upsert).collect(), &place)
    }
}

/// What a family's rules draw for a caller in this many calls, each from a node without records.
fn drawn<A: Addr + Hash + Readable>(
    world: &World,
    question: &Question,
    caller: &Caller,
) -> BTreeSet<SocketAddr>
where
    IpAddr: From<A>,
{
    let config = world.scene.config;
    let rules = world.scene.node::<A>();
    let address = A::from_mapped(question.to.ip().into());
    let socket = Socket {
        netns_cookie: if matches!(caller, Caller::Host(_)) { 1 } else { 2 },
        protocol: question.protocol,
    };
    let is_served = !matches!(caller, Caller::Outside(_)) && socket::serves(&config, &socket);
    let packet = packet::opening(question);
    let draw = || {
        rules.flows.borrow_mut().clear();
        rules.affinities.borrow_mut().clear();
        if is_served {
            match socket::choose(
                &rules,
                &config,
                &socket,
                &address,
                Port::new(question.to.port()),
                false,
            ) {
                Choice::Untouched => {}
                Choice::Refuse(_) => return None,
                Choice::Backend(id, _) => return Some(id),
            }
        }
        let origin = match caller {
            Caller::Host(_) => return None,
            Caller::Pod(_) => Origin::Pod,
            Caller::Outside(_) => Origin::Network,
        };
        let mut work = Work::default();
        match hook::ingress(&rules, origin, &&*packet, &mut work).decision() {
            Decision::Translate(_) => Some(work.flow.backend),
            _ => None,
        }
    };
    let backends = (0..200).filter_map(|_| draw()).filter_map(|id| rules.backend(id));
    backends
        .map(|backend| SocketAddr::new(A::from_mapped(backend.address).into(), backend.port.number()))
        .collect()
}

fn any_question() -> impl Strategy<Value = Question> {
    let callers = ["10.1.0.99", "10.1.0.1", "10.2.0.2", "192.0.2.1", "198.18.0.9"];
    let callers6 = [
        "fd00:1::99",
        "fd00:1::1",
        "fd00:2::2",
        "2001:db8::1",
        "2001:db8:ffff::9",
    ];
    let places = [
        "10.96.0.1:80",
        "192.0.2.1:30080",
        "203.0.113.1:80",
        "198.51.100.1:80",
        "10.96.0.2:80",
    ];
    let places6 = [
        "[fd00:96::1]:80",
        "[2001:db8::1]:30080",
        "[2001:db8:113::1]:80",
        "[2001:db8:100::1]:80",
        "[fd00:96::2]:80",
    ];
    (any::<bool>(), any::<bool>(), 0..5_usize, 0..5_usize).prop_map(move |(is_v4, is_udp, caller, place)| {
        let (from, to) = match is_v4 {
            true => (callers[caller], places[place]),
            false => (callers6[caller], places6[place]),
        };
        let name = if is_udp { "UDP" } else { "TCP" };
        Question::parse(from, &format!("{to}/{name}")).unwrap()
    })
}

proptest! {
    #[test]
    fn the_answer_is_what_the_rules_draw(service in any_service(), question in any_question()) {
        let world = service.world();
        let answer = explain(&world, &question).unwrap();
        let caller = steps::caller(&world, question.from);
        let drawn = match question.to {
            SocketAddr::V4(_) => drawn::<V4>(&world, &question, &caller),
            SocketAddr::V6(_) => drawn::<V6>(&world, &question, &caller),
        };
        let mut drawn: Vec<String> = drawn.iter().map(ToString::to_string).collect();
        drawn.sort_unstable();
        prop_assert_eq!(&answer.backends, &drawn, "{:?}", &answer);
        prop_assert_eq!(answer.verdict == Verdict::Forward, !drawn.is_empty());
        if answer.verdict == Verdict::Forward {
            let used = answer.endpoints.iter().filter(|endpoint| endpoint.used);
            let mut used: Vec<String> = used.map(|endpoint| endpoint.endpoint.to_string()).collect();
            used.sort_unstable();
            prop_assert_eq!(&used, &drawn, "the reasons are those of the choice: {:?}", &answer);
        } else {
            prop_assert_eq!(answer.source, Source::Kept);
        }
        if matches!(answer.verdict, Verdict::Reject) {
            prop_assert!(answer.endpoints.iter().all(|endpoint| !endpoint.used));
        }
        prop_assert_eq!(answer.affinity, answer.service.is_some() && service.is_sticky);
    }
}

#[test]
fn a_protocol_that_is_no_services_is_refused_and_another_address_none() {
    let service = RandomService {
        endpoints: vec![(1, true, true, true, false, 0)],
        is_internal_local: false,
        is_external_local: false,
        is_guarded: false,
        is_sticky: false,
    };
    let question = Question::parse("10.1.0.99", "10.96.0.1:80/SCTP").unwrap();
    assert_eq!(question.protocol, protocol::SCTP);
    let answer = explain(&service.world(), &question).unwrap();
    assert_eq!((answer.verdict, answer.kind), (Verdict::Reject, None));
    assert_eq!(answer.counter, Some("unknown_port"));
    let question = Question::parse("10.1.0.99", "10.96.0.77:80/TCP").unwrap();
    let answer = explain(&service.world(), &question).unwrap();
    assert_eq!((answer.verdict, answer.kind), (Verdict::NotAService, None));
}

/// With an endpoint here and one there, both ready.
fn sticky() -> RandomService {
    RandomService {
        endpoints: vec![(1, true, true, true, false, 0), (2, false, true, true, false, 0)],
        is_internal_local: false,
        is_external_local: false,
        is_guarded: false,
        is_sticky: true,
    }
}

#[test]
fn a_pods_record_is_its_addresss_and_the_hosts_its_namespaces() {
    let mut world = sticky().world();
    let question = Question::parse("10.1.0.99", "10.96.0.1:80").unwrap();
    let store = &mut world.scene.store;
    let (id, words) = store.services.iter().next().unwrap();
    assert!(words.affinity.is_on());
    let (backend, life) = store
        .backends
        .iter()
        .find(|(_, backend)| backend.service == *id)
        .unwrap();
    let record = |key: AffinityKey| {
        let tag = key.tag(words.affinity.epoch());
        (key, Affinity::new(tag, 0, *backend, life.life))
    };
    let records: Vec<_> = (0..1000)
        .map(|cookie| record(AffinityKey::of_namespace(cookie, *id)))
        .collect();
    let of_the_pod = record(AffinityKey::of_address(&V4::new([10, 1, 0, 99]), *id));
    store.affinities = records.clone();
    let pod = explain(&world, &question).unwrap();
    assert_eq!(pod.backends.len(), 2);
    world.scene.store.affinities.push(of_the_pod);
    let pod = explain(&world, &question).unwrap();
    assert_eq!(pod.backends.len(), 1, "its own is by its address");
    world.scene.store.affinities = records;
    let host = Question::parse("192.0.2.1", "10.96.0.1:80").unwrap();
    assert_eq!(
        explain(&world, &host).unwrap().backends.len(),
        1,
        "the host's cookie is known"
    );
}

#[test]
fn whether_socket_lb_knows_a_pod_is_told_of_a_node_that_runs() {
    let mut world = sticky().world();
    world.scene.ways = Some(BTreeMap::new());
    let known = |address: [u8; 4], seen| {
        let key = NamespaceKey::new(7, Family::V4);
        NamespaceAddress::new(&key, &V4::new(address), seen)
    };
    let hour = 3600 * world.scene.config.ticks_per_second;
    for (known, is_told) in [
        (vec![], true),
        (vec![known([10, 1, 0, 98], 0)], true),
        (vec![known([10, 1, 0, 99], 0)], false),
        (vec![known([10, 1, 0, 99], 0_u32.wrapping_sub(hour))], true),
    ] {
        world.scene.store.namespaces = known;
        let question = Question::parse("10.1.0.99", "10.96.0.1:80").unwrap();
        let answer = explain(&world, &question).unwrap();
        assert_eq!(answer.backends.len(), 2);
        let told = answer
            .steps
            .iter()
            .any(|step| step.text.contains("does not know the caller's address yet"));
        assert_eq!(told, is_told, "{:?}", answer.steps);
    }
}
