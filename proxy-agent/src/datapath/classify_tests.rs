use super::*;

fn link(index: u32, name: &str, kind: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        kind: kind.to_owned(),
        header: ARPHRD_ETHER,
        mtu: 1500,
        peer_elsewhere: kind == "veth",
        ..Link::default()
    }
}

fn address(interface: u32, text: &str) -> Address {
    Address {
        interface,
        address: text.parse().unwrap(),
        scope: SCOPE_GLOBAL,
        flags: 0,
    }
}

fn auto() -> Selection {
    Selection {
        pods: PodInterfaces::Auto,
        uplinks: Uplinks::Auto,
        node_ports: NodePortAddresses::default(),
    }
}

/// A node in a container: its own eth0 is a veth; pods on a bridge and routed; a tunnel to other nodes.
fn node() -> Observed {
    let lo = Link {
        loopback: true,
        header: 772,
        ..link(1, "lo", "")
    };
    let here = Link {
        peer_elsewhere: false,
        ..link(6, "veth-here", "veth")
    };
    let tun = Link {
        header: 0xfffe,
        mtu: 1420,
        ..link(7, "tun0", "tun")
    };
    Observed {
        links: vec![
            lo,
            link(2, "eth0", "veth"),
            link(3, "cni0", "bridge"),
            link(4, "vethpod1", "veth"),
            link(5, "podrouted", "veth"),
            here,
            tun,
        ],
        addresses: vec![
            Address {
                scope: SCOPE_HOST,
                ..address(1, "127.0.0.1")
            },
            address(1, "10.99.0.1"),
            address(2, "192.0.2.10"),
            address(2, "2001:db8::10"),
            Address {
                scope: 253,
                ..address(2, "fe80::1")
            },
            address(3, "10.244.0.1"),
        ],
        default_routes: vec![2],
        gateway_routes: BTreeSet::from([2, 7]),
    }
}

fn roles(desired: &Desired) -> Vec<(&str, Role, bool)> {
    desired
        .targets
        .values()
        .map(|target| (target.name.as_str(), target.role, target.layer3))
        .collect()
}

#[test]
fn auto_finds_pods_and_uplinks() {
    assert_eq!(
        roles(&auto().judge(&node())),
        [
            ("eth0", Role::Uplink, false),
            ("vethpod1", Role::Pod, false),
            ("podrouted", Role::Pod, false),
            ("tun0", Role::Uplink, true),
        ],
    );
}

#[test]
fn names_and_patterns_choose_instead() {
    let selection = Selection {
        pods: PodInterfaces::Patterns(vec!["pod*".to_owned(), "veth-her?".to_owned()]),
        uplinks: Uplinks::Names(vec!["cni0".to_owned(), "absent".to_owned()]),
        ..auto()
    };
    assert_eq!(
        roles(&selection.judge(&node())),
        [
            ("cni0", Role::Uplink, false),
            ("podrouted", Role::Pod, false),
            ("veth-here", Role::Pod, false),
        ],
    );
}

#[test]
fn node_ports_answer_at_all_addresses_but_loopback_and_link_local() {
    let mut observed = node();
    observed.addresses.push(Address {
        flags: IFA_F_DAD_FAILED,
        ..address(2, "2001:db8::bad")
    });
    observed.links.push(link(9, "kube-ipvs0", "dummy"));
    observed.addresses.push(address(9, "10.96.0.1"));
    let found: Vec<String> = auto()
        .judge(&observed)
        .node_addresses
        .keys()
        .map(IpAddr::to_string)
        .collect();
    assert_eq!(found, ["10.99.0.1", "10.244.0.1", "192.0.2.10", "2001:db8::10"]);
}

#[test]
fn node_ports_answer_where_they_are_chosen_and_the_others_stay_the_nodes_own() {
    let judge = |texts: &[&str]| {
        let selection = Selection {
            node_ports: NodePortAddresses::parse(texts).unwrap(),
            ..auto()
        };
        let desired = selection.judge(&node());
        assert_eq!(desired.node_addresses.len(), 4);
        match selection.answering(&desired) {
            Answering::Everywhere => "everywhere".to_owned(),
            Answering::At(addresses) => {
                let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
                texts.join(" ")
            }
        }
    };
    assert_eq!(judge(&[]), "everywhere");
    // The primary ones are those of the first uplink.
    assert_eq!(judge(&["primary"]), "192.0.2.10 2001:db8::10");
    assert_eq!(
        judge(&["primary", "localhost"]),
        "127.0.0.1 192.0.2.10 ::1 2001:db8::10"
    );
    assert_eq!(
        judge(&["10.0.0.0/8", "primary"]),
        "10.99.0.1 10.244.0.1 192.0.2.10 2001:db8::10"
    );
    assert_eq!(judge(&["10.99.0.0/16", "fd00::/8"]), "10.99.0.1");
    assert_eq!(judge(&["10.99.0.0/16"]), "10.99.0.1 ::1 2001:db8::10");
}

#[test]
fn every_interface_sends_from_its_own_address_else_from_the_nodes() {
    let interfaces = auto().judge(&node()).interfaces;
    assert!(!interfaces.contains_key(&1));
    let four = |index: u32| IpAddr::from(interfaces[&index].v4).to_string();
    let six = |index: u32| IpAddr::from(interfaces[&index].v6).to_string();
    assert_eq!(
        (four(2), six(2)),
        ("192.0.2.10".to_owned(), "2001:db8::10".to_owned())
    );
    assert_eq!(
        (four(3), six(3)),
        ("10.244.0.1".to_owned(), "2001:db8::10".to_owned())
    );
    assert_eq!(
        four(7),
        "192.0.2.10",
        "the default route's interface comes before lo and cni0"
    );
    assert_eq!(
        (four(0), six(0)),
        (four(2), six(2)),
        "the node's primary addresses"
    );
    assert_eq!(interfaces[&0].index, 0);
    let tunnel = interfaces[&7];
    assert_eq!(
        (tunnel.flags, tunnel.mtu, tunnel.index),
        (INTERFACE_LAYER3, 1420, 7)
    );
    assert_eq!(interfaces[&2].flags, 0);
}

#[test]
fn ipv6_sources_are_stable_and_usable() {
    let mut observed = node();
    observed.addresses.retain(|address| address.address.is_ipv4());
    for (text, flags) in [
        ("2001:db8::1", IFA_F_TEMPORARY),
        ("2001:db8::2", IFA_F_DEPRECATED),
        ("2001:db8::3", IFA_F_TENTATIVE),
        ("2001:db8::4", IFA_F_DAD_FAILED),
        // Added after the next.
        ("2001:db8::9", 0),
        ("2001:db8::5", 0),
    ] {
        observed.addresses.push(Address {
            flags,
            ..address(2, text)
        });
    }
    let interfaces = auto().judge(&observed).interfaces;
    assert_eq!(IpAddr::from(interfaces[&2].v6).to_string(), "2001:db8::5");
}

#[test]
fn a_secondary_ipv4_address_serves_when_it_is_the_only_one() {
    let mut observed = node();
    observed.addresses.retain(|address| address.interface != 2);
    observed.addresses.push(Address {
        flags: IFA_F_TEMPORARY,
        ..address(2, "192.0.2.11")
    });
    assert_eq!(
        IpAddr::from(auto().judge(&observed).interfaces[&2].v4).to_string(),
        "192.0.2.11"
    );
}

#[test]
fn a_node_without_addresses_has_no_source() {
    let observed = Observed {
        addresses: Vec::new(),
        ..node()
    };
    let desired = auto().judge(&observed);
    assert!(desired.node_addresses.is_empty());
    assert_eq!(
        (desired.interfaces[&2].v4, desired.interfaces[&2].v6),
        (V4::default(), V6::default())
    );
}

#[test]
fn headers_that_the_programs_cannot_read_get_none() {
    let mut observed = node();
    observed.links[1].header = ARPHRD_INFINIBAND;
    observed.links[3].header = 0xfffe;
    let desired = auto().judge(&observed);
    assert!(!desired.targets.contains_key(&2), "no programs for InfiniBand");
    assert!(
        desired.concerns[0].starts_with("the uplink eth0 has link-layer headers"),
        "{:?}",
        desired.concerns
    );
    assert!(
        !desired.targets.contains_key(&4),
        "no programs for a pod interface without a link-layer header"
    );
}

#[test]
fn a_missing_uplink_is_a_concern() {
    assert!(auto().judge(&node()).concerns.is_empty());
    let concerns = auto().judge(&Observed::default()).concerns;
    assert!(
        concerns[0].contains("no interface carries a default route"),
        "{concerns:?}"
    );
    let named = Selection {
        uplinks: Uplinks::Names(vec!["eth0".to_owned(), "eth9".to_owned()]),
        ..auto()
    };
    assert_eq!(
        named.judge(&node()).concerns,
        ["the uplink eth9 does not exist (--uplinks)"]
    );
}

#[test]
fn a_bridge_or_a_prefix_says_which_interfaces_are_pods() {
    let mut node = node();
    node.links[3].master = 3;
    node.links.push(Link {
        master: 3,
        ..link(8, "eth9", "")
    });
    let pods = |pods: PodInterfaces| {
        let desired = Selection { pods, ..auto() }.judge(&node);
        let pods = desired
            .targets
            .into_values()
            .filter(|target| target.role == Role::Pod);
        let names: Vec<String> = pods.map(|target| target.name).collect();
        (names, desired.concerns)
    };
    assert_eq!(pods(PodInterfaces::Bridge("cni0".into())).0, ["vethpod1"]);
    assert_eq!(pods(PodInterfaces::Prefix("cni".into())).0, ["vethpod1"]);
    assert_eq!(pods(PodInterfaces::Prefix("pod".into())).0, ["podrouted"]);
    let (none, concerns) = pods(PodInterfaces::Bridge("br9".into()));
    assert!(
        none.is_empty() && concerns[0].contains("br9"),
        "{none:?} {concerns:?}"
    );
}
