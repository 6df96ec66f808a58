//! Which interfaces packets may go to around the stack, and what CONFIG says of it.

use super::*;

fn link(index: u32, name: &str, kind: &str, master: u32) -> Link {
    Link {
        index,
        name: name.to_owned(),
        kind: kind.to_owned(),
        master,
        peer_elsewhere: kind == "veth",
        ..Link::default()
    }
}

fn target(name: &str, role: Role) -> Target {
    Target {
        name: name.to_owned(),
        role,
        layer3: false,
    }
}

#[test]
fn only_interfaces_with_programs_are_ways() {
    let observed = Observed {
        links: vec![
            link(1, "lo", "", 0),
            link(2, "eth0", "", 0),
            link(3, "veth1", "veth", 0),
            link(4, "tap1", "tun", 0),
            link(5, "veth2", "veth", 0),
        ],
        ..Observed::default()
    };
    let targets = BTreeMap::from([
        (2, target("eth0", Role::Uplink)),
        (3, target("veth1", Role::Pod)),
        (4, target("tap1", Role::Pod)),
        (5, target("veth2", Role::Pod)),
    ]);
    let attached = |indices: &[u32]| ways(&targets, &indices.iter().copied().collect(), &observed);
    assert_eq!(
        attached(&[2, 3, 4]),
        BTreeMap::from([
            (2, INTERFACE_UPLINK),
            (3, INTERFACE_PODS | INTERFACE_PEER),
            (4, INTERFACE_PODS),
        ])
    );
    assert_eq!(attached(&[]), BTreeMap::new());
}

#[test]
fn a_bridge_is_a_way_if_all_its_ports_have_programs() {
    let mut observed = Observed {
        links: vec![
            link(2, "cni0", "bridge", 0),
            link(3, "veth1", "veth", 2),
            link(4, "veth2", "veth", 2),
            link(5, "br1", "bridge", 0),
        ],
        ..Observed::default()
    };
    let targets = BTreeMap::from([(3, target("veth1", Role::Pod)), (4, target("veth2", Role::Pod))]);
    let of_bridge = |observed: &Observed, indices: &[u32]| {
        let ways = ways(&targets, &indices.iter().copied().collect(), observed);
        (ways.get(&2).copied(), ways.get(&5).copied())
    };
    assert_eq!(of_bridge(&observed, &[3, 4]), (Some(INTERFACE_PODS), None));
    assert_eq!(of_bridge(&observed, &[3]), (None, None));
    // By this port other things than pods are reached.
    observed.links.push(link(6, "eth0", "", 2));
    assert_eq!(of_bridge(&observed, &[3, 4]), (None, None));
}

#[test]
fn flags_say_what_is_wanted_and_what_is() {
    let refused = HostRoutingState::Refused(Refusal::PolicyEngine("Calico", "chain cali-FORWARD".into()));
    let mut config = Config::default();
    set_flags(&mut config, &HostRoutingState::Fast);
    assert!(config.is_fast() && config.has_bypassed());
    // Flows that are there keep their way.
    for (state, wanted) in [(&refused, CONFIG_FAST_WANTED), (&HostRoutingState::Stack, 0)] {
        set_flags(&mut config, state);
        assert!(!config.is_fast() && config.has_bypassed());
        assert_eq!(config.flags & CONFIG_FAST_WANTED, wanted);
    }
    assert_eq!(kept(&config), CONFIG_BYPASSED);
    let mut other = Config::default();
    set_flags(&mut other, &refused);
    assert!(!other.has_bypassed());
    assert_eq!(kept(&other), 0);
}

#[test]
fn a_refusal_names_the_engine_and_its_sign() {
    let refusal = Refusal::PolicyEngine("Calico", "chain cali-FORWARD".into());
    let text = refusal.to_string();
    assert!(
        text.contains("Calico") && text.contains("chain cali-FORWARD"),
        "{text}"
    );
    let state = HostRoutingState::Refused(refusal);
    assert_eq!((state.mode(), state.reason()), ("stack", "policy-engine"));
}
