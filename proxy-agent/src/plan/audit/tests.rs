use proxy_common::layout::{AffinityWord, ChoiceRule, FrontendKind, Port, protocol};

use super::super::tests::{AMPLE, Bench, cluster_ip, port};
use super::*;
use crate::plan::{Rule, TableSize};

/// Two Services with two endpoints each, installed; the first keeps clients and is guarded.
fn installed() -> (Vec<ServicePort>, Snapshot) {
    let mut bench = Bench::new(AMPLE);
    let mut web = port("web", &[1], &[1, 2]);
    web.affinity = 60;
    web.frontends[0].1 = FrontendKind::GuardedLoadBalancer;
    web.source_ranges = vec![Range::new([192, 0, 2, 0].into(), 24)];
    let dns = port("dns", &[2], &[3, 4]);
    bench.install("web", std::slice::from_ref(&web));
    bench.install("dns", std::slice::from_ref(&dns));
    (vec![web, dns], bench.kernel.snapshot())
}

fn audit(desired: &[ServicePort], snapshot: &Snapshot) -> Vec<String> {
    let mut audit = Audit::of(snapshot);
    desired.iter().for_each(|port| audit.check(port));
    audit.check_vips();
    audit.finish().iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_as_it_should_be_has_no_differences() {
    let (desired, snapshot) = installed();
    assert_eq!(audit(&desired, &snapshot), [""; 0]);
    assert_eq!(audit(&[], &Snapshot::default()), [""; 0]);
}

/// Each damage to the maps, and the one difference that tells of it.
#[test]
fn every_damage_is_found_by_name() {
    type Damage = fn(&mut Snapshot);
    let damages: [(Damage, &str); 17] = [
        (
            |maps| maps.frontends.retain(|(frontend, _)| *frontend != cluster_ip(1)),
            "default/web: FRONTENDS: TCP 10.96.0.1:80 is missing",
        ),
        (
            |maps| maps.frontends[0].1.service = ServiceId(2),
            "default/web: FRONTENDS: TCP 10.96.0.1:80 leads to service id 2, not 1",
        ),
        (
            |maps| maps.frontends[0].1.kind = FrontendKind::LoadBalancer as u8,
            "default/web: FRONTENDS: TCP 10.96.0.1:80 has kind ",
        ),
        (
            |maps| maps.frontends[0].1.tag ^= 1,
            "default/web: FRONTENDS: TCP 10.96.0.1:80 carries the tag ",
        ),
        (
            |maps| maps.frontends.push((cluster_ip(9), maps.frontends[0].1)),
            "TCP 10.96.0.9:80: FRONTENDS: no Service asks for it",
        ),
        (
            |maps| {
                maps.services[0].1.internal = ListWord::empty(When::Reject, maps.identities[0].1.service_tag)
            },
            "default/web: SLOTS: remote endpoint 10.1.0.1:8080 of the internal list is missing",
        ),
        (
            |maps| maps.services[0].1.internal = ListWord::empty(When::Reject, 0),
            "default/web: SERVICES: the internal list carries another's tag",
        ),
        (
            |maps| maps.services[0].1.affinity = AffinityWord::OFF,
            "default/web: SERVICES: session affinity lasts 0 s, not 60 s",
        ),
        (
            |maps| maps.slots[0].1[1] = proxy_common::layout::BackendId(4),
            "default/web: SLOTS: remote endpoint 10.1.0.4:8080 of the internal list should not be there",
        ),
        (
            |maps| maps.slots[0].1.reverse(),
            "default/web: SLOTS: the internal list is out of order",
        ),
        (
            |maps| maps.backends[0].1.life = 0,
            "default/web: SLOTS: the internal list names backend 1, which does not serve",
        ),
        (
            |maps| maps.backends[0].1.port = Port::new(1),
            "default/web: BACKENDS: remote endpoint 10.1.0.1:8080 is missing",
        ),
        (
            |maps| maps.identities.retain(|(id, _)| id.0 != 1),
            "default/web (TCP IPv4): IDENTITY: it is not there",
        ),
        (
            |maps| maps.identities[0].1.hint_fallback = 3,
            "default/web: IDENTITY: it says `hints are not followed: none is for this node's zone`, not `hints are followed`",
        ),
        (
            |maps| maps.ranges.clear(),
            "default/web: SOURCE_RANGES: 192.0.2.0/24 is missing",
        ),
        (
            |maps| maps.filter.clear(),
            "default/web: PREFILTER: a bit of TCP 10.96.0.1:80 is not set",
        ),
        (
            |maps| maps.filter.clear(),
            "default/dns: PREFILTER: a bit of remote endpoint 10.1.0.3:8080 is not set",
        ),
    ];
    for (damage, expected) in damages {
        let (desired, mut snapshot) = installed();
        damage(&mut snapshot);
        let found = audit(&desired, &snapshot);
        assert!(
            found.iter().any(|text| text.starts_with(expected)),
            "{expected}: {found:#?}"
        );
    }
}

#[test]
fn what_an_empty_list_does_counts() {
    let mut bench = Bench::new(AMPLE);
    let mut web = port("web", &[1], &[]);
    web.internal.when_empty = When::Drop;
    bench.install("web", std::slice::from_ref(&web));
    web.internal.when_empty = When::Reject;
    let found = audit(&[web], &bench.kernel.snapshot());
    assert_eq!(
        found,
        ["default/web: SERVICES: the empty internal list drops, it should be one that rejects"]
    );
}

#[test]
fn a_service_that_nobody_asks_for_is_found_unless_it_is_excused() {
    let (desired, snapshot) = installed();
    let found = audit(&desired[1..], &snapshot);
    assert_eq!(
        found,
        [
            "10.96.0.1: VIPS: no Service has the address",
            "TCP 10.96.0.1:80: FRONTENDS: no Service asks for it",
            "default/web: IDENTITY: no Service asks for it",
        ]
    );
    let mut excused = Audit::of(&snapshot);
    excused.excuse(|service| service == "default/web");
    excused.check(&desired[1]);
    assert_eq!(excused.finish(), []);
}

/// An IPv4 and an IPv6 port of one name are two service ports.
#[test]
fn families_are_told_apart() {
    let (desired, snapshot) = installed();
    let mut other = desired[1].clone();
    other.key.protocol = protocol::UDP;
    assert_eq!(
        audit(&[desired[0].clone(), desired[1].clone(), other], &snapshot),
        ["default/dns (UDP IPv4): IDENTITY: it is not there"]
    );
}

#[test]
fn a_damaged_table_and_another_rule_are_found() {
    let mut bench = Bench::new(AMPLE);
    let mut web = port("web", &[1], &[1, 2]);
    web.rule = Rule::Maglev(TableSize::small(7));
    bench.install("web", std::slice::from_ref(&web));
    let desired = [web];
    let installed = bench.kernel.snapshot();
    assert_eq!(audit(&desired, &installed), [""; 0]);
    let three =
        |problem: &str| ["external", "internal", "shortcut"].map(|list| problem.replace("LIST", list));
    let mut damaged = installed.clone();
    let run = &mut damaged.slots[0].1;
    let last = run.len() - 1;
    run[last] = if run[last] == run[0] { run[1] } else { run[0] };
    assert_eq!(
        audit(&desired, &damaged),
        three("default/web: SLOTS: the LIST list's table is another one")
    );
    let mut damaged = installed;
    for service in damaged.services.iter_mut().map(|(_, service)| service) {
        let random = service.internal.with_rule(ChoiceRule::Random);
        (service.internal, service.external, service.shortcut) = (random, random, random);
    }
    assert_eq!(
        audit(&desired, &damaged),
        three("default/web: SERVICES: the LIST list is chosen from by the rule Random, it should be Maglev")
    );
}
