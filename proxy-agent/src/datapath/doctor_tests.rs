use super::doctor::{Check, DoctorOptions, State, run};
use super::testing::{Namespace, Place};

fn looked_at(node: &Namespace, place: &Place) -> Vec<Check> {
    let options = DoctorOptions {
        instance: place.instance.clone(),
        cgroup: place.cgroup.clone(),
    };
    node.run(move || run(&options))
}

fn check<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks
        .iter()
        .find(|check| check.name == name)
        .unwrap_or_else(|| panic!("{name} in {checks:?}"))
}

#[test]
fn a_running_node_is_well_but_for_what_it_lacks() {
    let (node, pod, place) = (Namespace::new(), Namespace::new(), Place::new());
    node.veth("pod0", &pod, "eth0");
    let datapath = place.start(&node).unwrap();
    let checks = looked_at(&node, &place);
    assert!(
        checks.iter().all(|check| check.state != State::Fail),
        "{checks:?}"
    );
    assert_eq!(
        check(&checks, "interfaces").found,
        "2 TCX links, clsact filters on 0 interfaces"
    );
    assert_eq!(check(&checks, "socket programs").state, State::Ok);
    for name in ["kernel", "tcx", "xdp_features", "checksum_ipv6", "bpf_set_retval"] {
        assert_eq!(
            check(&checks, name).state,
            State::Ok,
            "this kernel is new: {checks:?}"
        );
    }
    assert_eq!(check(&checks, "snat ports").found, "45000-60999, reserved");
    for (name, way_out) in [
        ("cgroup", "mount the host's /sys/fs/cgroup"),
        ("node addresses", "give an interface of the node an address"),
        ("ip_forward", "sysctl -w net.ipv4.ip_forward=1"),
    ] {
        let check = check(&checks, name);
        assert_eq!(check.state, State::Warn, "{check:?}");
        assert!(check.way_out.contains(way_out), "{check:?}");
    }
    drop(datapath);
    node.ip("link del pod0");
    let checks = looked_at(&node, &place);
    assert!(
        check(&checks, "interfaces")
            .found
            .contains("2 links of deleted interfaces"),
        "{checks:?}"
    );
    let elsewhere = looked_at(&Namespace::new(), &place);
    assert_eq!(check(&elsewhere, "network namespace").state, State::Warn);
    assert_eq!(check(&elsewhere, "snat ports").state, State::Fail);
}

#[test]
fn what_is_missing_is_named_with_the_way_out() {
    let (node, mut place) = (Namespace::new(), Place::new());
    let checks = looked_at(&node, &place);
    let maps = check(&checks, "maps");
    assert_eq!(
        (maps.state, maps.way_out.as_str()),
        (State::Warn, "start `shunt agent` with this --instance")
    );

    std::fs::create_dir_all(place.instance.join("v77")).unwrap();
    let checks = looked_at(&node, &place);
    assert_eq!(check(&checks, "maps").state, State::Fail);
    assert!(check(&checks, "maps").found.contains("v77"));

    let instance = std::mem::replace(&mut place.instance, std::env::temp_dir().join("shunt-doctor"));
    let cgroup = std::mem::replace(&mut place.cgroup, std::env::temp_dir());
    let checks = looked_at(&node, &place);
    (place.instance, place.cgroup) = (instance, cgroup);
    assert!(
        check(&checks, "bpffs").found.contains("mount -t bpf bpf"),
        "{checks:?}"
    );
    assert!(
        check(&checks, "cgroup").found.contains("no cgroup v2 hierarchy"),
        "{checks:?}"
    );
}

#[test]
fn sockets_that_hold_ports_of_the_range_are_named() {
    let (node, place) = (Namespace::new(), Place::new());
    let _datapath = place.start(&node).unwrap();
    let _sockets = node.run(|| {
        let listener = std::net::TcpListener::bind("[::]:45001").unwrap();
        let below = std::net::TcpListener::bind("0.0.0.0:44999").unwrap();
        let bound = std::net::UdpSocket::bind("127.0.0.1:60999").unwrap();
        let above = std::net::UdpSocket::bind("127.0.0.1:61000").unwrap();
        (listener, below, bound, above)
    });
    let checks = looked_at(&node, &place);
    let ports = check(&checks, "snat ports");
    assert_eq!(ports.state, State::Warn);
    assert!(ports.found.ends_with("hold 45001/tcp, 60999/udp"), "{ports:?}");
}
