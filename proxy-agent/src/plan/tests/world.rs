//! Random worlds of a few Services that fight for a few frontends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use proptest::collection::vec;
use proptest::prelude::*;
use proxy_common::layout::{Family, FrontendKind, HintFallback, Port, When, protocol};

use super::super::{
    Endpoint, Forwarding, Frontend, List, PortKey, Range, Rule, ServicePort, TableSize, Weight,
};
use crate::name::ObjectName;

/// All Services that there are.
pub(super) type World = Vec<RandomPort>;

/// A service port, made of small numbers so that everything collides.
#[derive(Clone, Debug)]
pub(super) struct RandomPort {
    service: u8,
    name: u8,
    uid: u8,
    v6: bool,
    frontends: BTreeMap<u8, u8>,
    endpoints: BTreeMap<u8, bool>,
    lists: [(u8, bool); 3],
    affinity: u32,
    ranges: BTreeSet<u8>,
    rule: u8,
    weights: [u8; 5],
}

impl Arbitrary for RandomPort {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        let frontends = prop::collection::btree_map(0..6_u8, 1..6_u8, 0..3);
        let endpoints = prop::collection::btree_map(0..5_u8, any::<bool>(), 0..5);
        let lists = prop::array::uniform3((any::<u8>(), any::<bool>()));
        (
            0..4_u8,
            0..2_u8,
            0..2_u8,
            any::<bool>(),
            frontends,
            endpoints,
            lists,
            0..3_u32,
            (
                prop::collection::btree_set(0..4_u8, 0..3),
                0..4_u8,
                prop::array::uniform5(1..4_u8),
            ),
        )
            .prop_map(
                |(service, name, uid, v6, frontends, endpoints, lists, affinity, rest)| Self {
                    service,
                    name,
                    uid,
                    v6,
                    frontends,
                    endpoints,
                    lists,
                    affinity,
                    ranges: rest.0,
                    rule: rest.1,
                    weights: rest.2,
                },
            )
            .boxed()
    }
}

/// What happens to a planner.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Change(World),
    Grace,
    Sweep,
    Restart,
}

pub(super) fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let change = vec(any::<RandomPort>(), 0..6).prop_map(Step::Change);
    vec(
        prop_oneof![4 => change, 1 => Just(Step::Grace), 1 => Just(Step::Sweep), 1 => Just(Step::Restart)],
        1..12,
    )
}

/// The ports of every Service; of several that want one frontend the first has it, as the model sees to.
pub(super) fn desired_of(world: &World) -> BTreeMap<ObjectName, Vec<ServicePort>> {
    let mut desired: BTreeMap<ObjectName, Vec<ServicePort>> = BTreeMap::new();
    let mut taken = BTreeSet::new();
    let mut uids = BTreeMap::new();
    for random in world {
        let uid = *uids.entry(random.service).or_insert(random.uid);
        let mut port = random.port(uid);
        let ports = desired.entry(port.key.service.clone()).or_default();
        if ports.iter().all(|other| other.key != port.key) {
            port.frontends.retain(|(frontend, _)| taken.insert(*frontend));
            ports.push(port);
        }
    }
    desired
}

impl RandomPort {
    fn address(&self, v4: [u8; 4]) -> IpAddr {
        if self.v6 {
            Ipv6Addr::new(0xfd00, 0, 0, 0, 0, v4[1].into(), v4[2].into(), v4[3].into()).into()
        } else {
            v4.into()
        }
    }

    fn frontend(&self, number: u8) -> Frontend {
        // The last two are NodePorts.
        let (address, port) = match number {
            4.. if self.v6 => (Ipv6Addr::UNSPECIFIED.into(), 30000 + u16::from(number)),
            4.. => ([0; 4].into(), 30000 + u16::from(number)),
            _ => (self.address([10, 96, 0, number]), 80),
        };
        Frontend {
            address,
            port: Port::new(port),
            protocol: protocol::TCP,
        }
    }

    fn port(&self, uid: u8) -> ServicePort {
        let kind = |byte: u8| FrontendKind::from_byte(byte).unwrap();
        let endpoint = |number: u8, local: bool| Endpoint {
            address: self.address([10, 1, 0, number]),
            port: Port::new(8080),
            local,
        };
        let count = self.endpoints.len() as u32;
        let list = |(mask, reject): (u8, bool)| List {
            members: (0..count).filter(|index| mask >> index & 1 == 1).collect(),
            when_empty: if reject { When::Reject } else { When::Drop },
        };
        let [internal, external, shortcut] = self.lists.map(list);
        ServicePort {
            key: PortKey {
                service: ObjectName::new("default", &format!("s{}", self.service)),
                port_name: format!("p{}", self.name).into(),
                protocol: protocol::TCP,
                family: if self.v6 { Family::V6 } else { Family::V4 },
            },
            uid: format!("uid{uid}").into(),
            frontends: self
                .frontends
                .iter()
                .map(|(number, byte)| (self.frontend(*number), kind(*byte)))
                .collect(),
            endpoints: self
                .endpoints
                .iter()
                .map(|(number, local)| endpoint(*number, *local))
                .collect(),
            internal,
            external,
            shortcut,
            rule: match self.rule {
                0 | 1 => Rule::Random,
                2 => Rule::LeastConnections,
                // The maps are looked at between any two operations.
                _ => Rule::Maglev(TableSize::small(7)),
            },
            weights: match self.rule {
                0 => Vec::new(),
                _ => (0..self.endpoints.len())
                    .map(|index| Weight::new(self.weights[index].into()).unwrap())
                    .collect(),
            },
            slow_start: 0,
            forwarding: Forwarding::Snat,
            affinity: self.affinity,
            hints: HintFallback::from_fields(u16::from(self.lists[0].0 % 4), 1),
            source_ranges: self
                .ranges
                .iter()
                .map(|number| Range::new(self.address([192, *number, 0, 0]), 128))
                .collect(),
        }
    }
}
