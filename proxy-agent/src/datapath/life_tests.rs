//! Start, restart, interfaces that come and go: with real maps, links and namespaces, and programs of two instructions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proxy_common::layout::names::program;
use proxy_common::layout::{Config, INTERFACE_UPLINK};

use super::attach::{Attacher, Hook, Sockets};
use super::classify::{Role, Target};
use super::clsact::{self, Side};
use super::doctor::{self, DoctorOptions};
use super::instance::{Instance, list};
use super::links;
use super::netlink::Netlink;
use super::options::{AttachMode, PodInterfaces, SocketLb, XdpMode};
use super::programs::tests::tiny;
use super::sys::{self, LinkTarget, attach_type};
use super::testing::{Namespace, Place, eventually, start};
use super::{Datapath, snapshot};

/// A node with an uplink to a router, and a pod.
struct Node {
    here: Namespace,
    router: Namespace,
    pod: Namespace,
    place: Place,
}

impl Node {
    fn new() -> Self {
        let (here, router, pod) = (Namespace::new(), Namespace::new(), Namespace::new());
        here.veth("up0", &router, "node0");
        here.ip("addr add 192.0.2.10/24 dev up0");
        here.ip("addr add 2001:db8::10/64 dev up0 nodad");
        here.ip("route add default via 192.0.2.1");
        here.veth("pod0", &pod, "eth0");
        Self {
            here,
            router,
            pod,
            place: Place::new(),
        }
    }

    fn instance(&self) -> Instance {
        Instance::new(&self.place.instance)
    }

    /// The interfaces that have both TCX links, by name.
    fn tcx(&self) -> BTreeSet<String> {
        let pins = list(&self.instance().tcx_links()).unwrap();
        let attached = pins.iter().filter_map(|pin| {
            let path = self.instance().tcx_links().join(pin);
            let (index, side) = pin.split_once('-')?;
            let kind = if side == "ingress" {
                attach_type::TCX_INGRESS
            } else {
                attach_type::TCX_EGRESS
            };
            let expected = LinkTarget::Tcx(index.parse().ok()?, kind);
            (links::attached_to(&path).ok()? == Some(expected)).then(|| pin.clone())
        });
        let names = |index: &str| {
            let links = self.here.ip("-o link");
            let line = links
                .lines()
                .find(|line| line.starts_with(&format!("{index}: ")))
                .map(str::to_owned);
            line.and_then(|line| Some(line.split(": ").nth(1)?.split('@').next()?.to_owned()))
        };
        attached
            .map(|pin| names(pin.split('-').next().unwrap()).unwrap_or(pin))
            .collect()
    }

    /// The interfaces and sides that have our clsact filter.
    fn filters(&self, interface: u32) -> usize {
        self.here.run(move || {
            let mut netlink = Netlink::route().unwrap();
            let sides = Side::BOTH.into_iter();
            sides
                .map(|side| clsact::filters(&mut netlink, interface, side).unwrap())
                .map(|filters| filters.iter().filter(|filter| filter.ours).count())
                .sum()
        })
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn node_addresses(datapath: &Datapath) -> BTreeSet<String> {
    let four = datapath.tables.node_addresses4.entries().unwrap();
    let six = datapath.tables.node_addresses6.entries().unwrap();
    let four = four.into_iter().map(|(address, tag)| {
        assert_eq!(address.0, tag);
        snapshot::ip(address)
    });
    let six = six.into_iter().map(|(address, tag)| {
        assert_eq!(address.0[3], tag);
        snapshot::ip(address)
    });
    four.chain(six)
        .map(|address: IpAddr| address.to_string())
        .collect()
}

#[test]
fn programs_follow_the_interfaces_by_tcx() {
    let node = Node::new();
    let datapath = node.place.start(&node.here).unwrap();
    assert_eq!(node.tcx(), set(&["pod0", "up0"]));

    let second = Namespace::new();
    node.here.veth("pod1", &second, "eth0");
    eventually(set(&["pod0", "pod1", "up0"]), || node.tcx());
    // A bridge is neither, its port stays a pod interface.
    node.here.ip("link add name cni0 type bridge");
    node.here.ip("link set pod1 master cni0");
    node.here.ip("link del pod0");
    eventually(set(&["pod1", "up0"]), || node.tcx());
    eventually(4, || list(&node.instance().tcx_links()).unwrap().len());
    drop(second);
    eventually(set(&["up0"]), || node.tcx());
    drop(datapath);
}

#[test]
fn an_uplink_without_link_layer_header_gets_programs_of_its_own() {
    let node = Node::new();
    let datapath = node.place.start(&node.here).unwrap();
    node.here.ip("tuntap add tun0 mode tun");
    node.here.ip("addr add 198.51.100.10/24 dev tun0");
    node.here.ip("link set tun0 up");
    node.here.ip("route add 203.0.113.0/24 via 198.51.100.1");
    eventually(set(&["pod0", "tun0", "up0"]), || node.tcx());
    let program = |name: &str| {
        let path = format!("{}-ingress", node.here.index(name));
        let link = sys::object_get(&node.instance().tcx_links().join(path)).unwrap();
        sys::link_info(std::os::fd::AsFd::as_fd(&link)).unwrap().program
    };
    assert_ne!(program("tun0"), program("up0"));
    let tun = node.here.index("tun0");
    let flags = proxy_common::layout::INTERFACE_LAYER3 | proxy_common::layout::INTERFACE_UPLINK;
    eventually((flags, tun), || {
        let entry = datapath.tables.interfaces.get(&tun).unwrap().unwrap();
        (entry.flags, entry.index)
    });
    let primary = datapath.tables.interfaces.get(&0).unwrap().unwrap();
    assert_eq!(IpAddr::from(primary.v4).to_string(), "192.0.2.10");
}

#[test]
fn a_peer_that_moves_to_another_namespace_makes_a_pod_interface() {
    let node = Node::new();
    let _datapath = node.place.start(&node.here).unwrap();
    node.here.ip("link add late0 type veth peer name late1");
    node.here.ip(&format!("link set late1 netns {}", node.pod.path()));
    eventually(set(&["late0", "pod0", "up0"]), || node.tcx());
}

#[test]
fn an_uplink_comes_and_goes_with_its_routes() {
    let node = Node::new();
    let _datapath = node.place.start(&node.here).unwrap();
    node.here.veth("up1", &node.router, "node1");
    node.here.ip("addr add 198.51.100.10/24 dev up1");
    let role = |name: &str| {
        let index = node.here.index(name);
        let path = node.instance().tcx_links().join(format!("{index}-ingress"));
        let link = sys::object_get(&path).ok()?;
        Some(sys::link_info(std::os::fd::AsFd::as_fd(&link)).ok()?.program)
    };
    let pod_program = role("pod0").unwrap();
    eventually(Some(pod_program), || role("up1"));
    node.here.ip("route add 203.0.113.0/24 via 198.51.100.1");
    let uplink_program = role("up0").unwrap();
    assert_ne!(pod_program, uplink_program);
    eventually(Some(uplink_program), || role("up1"));
    // The route goes silently with the interface.
    node.here.ip("link set up1 down");
    eventually(Some(pod_program), || role("up1"));
}

#[test]
fn clsact_carries_the_programs_where_it_is_asked_for() {
    let node = Node::new();
    let mut options = node.place.options();
    options.attach = AttachMode::Clsact;
    let (up, pod) = (node.here.index("up0"), node.here.index("pod0"));
    let datapath = start(&node.here, options.clone()).unwrap();
    assert_eq!((node.filters(up), node.filters(pod), node.tcx().len()), (2, 2, 0));
    drop(datapath);

    // What is known of a deleted interface goes with it.
    let datapath = start(&node.here, options.clone()).unwrap();
    let second = Namespace::new();
    node.here.veth("pod1", &second, "eth0");
    eventually(6, || list(&node.instance().clsact_marks()).unwrap().len());
    node.here.ip("link del pod1");
    eventually(4, || list(&node.instance().clsact_marks()).unwrap().len());
    drop(datapath);

    // A restart replaces in place: there are never four.
    let datapath = start(&node.here, options.clone()).unwrap();
    assert_eq!((node.filters(up), node.filters(pod)), (2, 2));
    drop(datapath);

    // Another way of attaching takes over, and back.
    options.attach = AttachMode::Tcx;
    let datapath = start(&node.here, options.clone()).unwrap();
    assert_eq!((node.filters(up), node.filters(pod)), (0, 0));
    assert_eq!(node.tcx(), set(&["pod0", "up0"]));
    drop(datapath);
    options.attach = AttachMode::Clsact;
    drop(start(&node.here, options.clone()).unwrap());
    assert_eq!((node.filters(up), node.filters(pod), node.tcx().len()), (2, 2, 0));

    // A pod that is none any more loses its filters and the qdisc that was made for them.
    options.pod_interfaces = PodInterfaces::Patterns(vec!["nothing".to_owned()]);
    drop(start(&node.here, options).unwrap());
    assert_eq!((node.filters(up), node.filters(pod)), (2, 0));
    assert!(!node.here.command("tc", "qdisc show dev pod0").contains("clsact"));
    assert!(node.here.command("tc", "qdisc show dev up0").contains("clsact"));
}

/// Adds a filter that is not ours, at the ingress of the pod's interface.
fn add_foreign_filter(node: &Node, rest: &str) {
    let file = std::env::temp_dir().join(format!("shunt-filter-{}", std::process::id()));
    std::fs::write(&file, "1,6 0 0 4294967295").unwrap();
    let arguments = format!(
        "filter add dev pod0 ingress {rest} bpf bytecode-file {}",
        file.display()
    );
    node.here.command("tc", &arguments);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_qdisc_and_filters_of_others_stay() {
    let node = Node::new();
    node.here.command("tc", "qdisc add dev pod0 clsact");
    add_foreign_filter(&node, "protocol all prio 7");
    let mut options = node.place.options();
    options.attach = AttachMode::Clsact;
    let (pod, up) = (node.here.index("pod0"), node.here.index("up0"));
    drop(start(&node.here, options.clone()).unwrap());
    assert_eq!((node.filters(pod), node.filters(up)), (2, 2));
    options.pod_interfaces = PodInterfaces::Patterns(vec![]);
    drop(start(&node.here, options).unwrap());
    assert_eq!(node.filters(pod), 0);
    let left = node.here.command("tc", "filter show dev pod0 ingress");
    assert!(left.contains("pref 7 bpf"), "{left}");
}

#[test]
fn an_interface_that_refuses_keeps_no_other_from_its_programs() {
    let node = Node::new();
    node.here.command("tc", "qdisc add dev pod0 clsact");
    add_foreign_filter(&node, "protocol ip prio 1");
    let (pod, up) = (node.here.index("pod0"), node.here.index("up0"));
    let instance = node.instance();
    instance.prepare().unwrap();
    let target = |name: &str, role| Target {
        name: name.to_owned(),
        role,
        layer3: false,
    };
    let targets = BTreeMap::from([
        (pod, target("pod0", Role::Pod)),
        (up, target("up0", Role::Uplink)),
    ]);
    let sockets = Sockets {
        cgroup: node.place.cgroup.clone(),
        config: Config::default(),
    };
    let failures = node.here.run(move || {
        let mut attacher = Attacher::new(instance, tiny(), sockets, Hook::Clsact, XdpMode::Off).unwrap();
        attacher
            .reconcile(&targets)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    });
    let [failure] = failures.as_slice() else {
        panic!("{failures:?}")
    };
    assert!(
        failure.contains(&format!("RTM_NEWTFILTER of from_pod on interface {pod}")),
        "{failure}"
    );
    assert_eq!((node.filters(pod), node.filters(up)), (1, 2));
}

#[test]
fn a_restart_gives_the_links_new_programs_and_keeps_them() {
    let node = Node::new();
    drop(node.place.start(&node.here).unwrap());
    let links = || {
        let directories = [node.instance().cgroup_links(), node.instance().tcx_links()];
        let pins = directories.into_iter().flat_map(|directory| {
            let names = list(&directory).unwrap();
            names.into_iter().map(move |name| directory.join(name))
        });
        let info = |path: std::path::PathBuf| {
            let link = sys::object_get(&path).unwrap();
            let info = sys::link_info(std::os::fd::AsFd::as_fd(&link)).unwrap();
            (path, info.id, info.program, info.target)
        };
        pins.map(info).collect::<Vec<_>>()
    };
    let before = links();
    assert_eq!(
        before.len(),
        9 + 4,
        "nine on the cgroup, two on each of two interfaces"
    );
    drop(node.place.start(&node.here).unwrap());
    let after = links();
    for (old, new) in before.iter().zip(&after) {
        assert_eq!(
            (&old.0, old.1, old.3),
            (&new.0, new.1, new.3),
            "the link is the same"
        );
        assert_ne!(old.2, new.2, "its program is a new one");
    }
}

#[test]
fn links_of_interfaces_deleted_meanwhile_are_reaped_at_start() {
    let node = Node::new();
    drop(node.place.start(&node.here).unwrap());
    let index = node.here.index("pod0");
    let pin = node.instance().tcx_links().join(format!("{index}-ingress"));
    node.here.ip("link del pod0");
    assert_eq!(
        links::attached_to(&pin).unwrap(),
        Some(LinkTarget::Tcx(0, attach_type::TCX_INGRESS))
    );
    let _datapath = node.place.start(&node.here).unwrap();
    assert!(!pin.exists());
    assert_eq!(node.tcx(), set(&["up0"]));
}

#[test]
fn another_cgroup_takes_the_links_over() {
    let node = Node::new();
    drop(node.place.start(&node.here).unwrap());
    let other = Place::new();
    let mut options = node.place.options();
    options.cgroup = other.cgroup.clone();
    drop(start(&node.here, options).unwrap());
    let id = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&other.cgroup).unwrap());
    let pin = node.instance().cgroup_links().join("connect4");
    assert_eq!(
        links::attached_to(&pin).unwrap(),
        Some(LinkTarget::Cgroup(id, attach_type::CGROUP[0]))
    );
}

#[test]
fn nothing_is_learnt_of_pods_whose_sockets_are_not_served() {
    let node = Node::new();
    let pin = node.instance().cgroup_links().join(program::SOCK_OPS);
    for (socket_lb, is_there) in [
        (SocketLb::Enabled, true),
        (SocketLb::HostOnly, false),
        (SocketLb::Enabled, true),
    ] {
        let mut options = node.place.options();
        options.socket_lb = socket_lb;
        drop(start(&node.here, options).unwrap());
        assert_eq!(pin.exists(), is_there, "{socket_lb:?}");
        let options = DoctorOptions {
            instance: node.place.instance.clone(),
            cgroup: node.place.cgroup.clone(),
        };
        let checks = node.here.run(move || doctor::run(&options));
        let check = checks
            .iter()
            .find(|check| check.name == "socket programs")
            .unwrap();
        assert_eq!(check.state, doctor::State::Ok, "{check:?}");
    }
}

#[test]
fn addresses_are_followed() {
    let node = Node::new();
    let datapath = node.place.start(&node.here).unwrap();
    assert_eq!(node_addresses(&datapath), set(&["192.0.2.10", "2001:db8::10"]));
    let up = node.here.index("up0");
    let entry = datapath.tables.interfaces.get(&up).unwrap().unwrap();
    assert_eq!(IpAddr::from(entry.v4).to_string(), "192.0.2.10");
    assert_eq!(IpAddr::from(entry.v6).to_string(), "2001:db8::10");
    assert_eq!(
        (entry.mtu, entry.flags, entry.index),
        (1500, INTERFACE_UPLINK, up)
    );
    node.here.ip("addr add 192.0.2.11/24 dev up0");
    node.here.ip("link set up0 mtu 1400");
    eventually(set(&["192.0.2.10", "192.0.2.11", "2001:db8::10"]), || {
        node_addresses(&datapath)
    });
    eventually(1400, || datapath.tables.interfaces.get(&up).unwrap().unwrap().mtu);
    node.here.ip("addr del 2001:db8::10/64 dev up0");
    eventually(set(&["192.0.2.10", "192.0.2.11"]), || node_addresses(&datapath));
    node.here.ip("link del up0");
    eventually(set(&[]), || node_addresses(&datapath));
    eventually(None, || datapath.tables.interfaces.get(&up).unwrap());
}

#[test]
fn the_choice_of_node_port_addresses_is_followed() {
    use super::{Answering, NodePortAddresses};
    let node = Node::new();
    let mut options = node.place.options();
    options.node_ports = NodePortAddresses::parse(&["primary"]).unwrap();
    let datapath = start(&node.here, options).unwrap();
    let node_ports = datapath.node_ports();
    let answering = node_ports.answering();
    let at = |addresses: &[&str]| Answering::At(addresses.iter().map(|text| text.parse().unwrap()).collect());
    let silent = |datapath: &Datapath| -> BTreeSet<String> {
        let four = datapath.tables.node_addresses4.entries().unwrap().into_iter();
        let four = four.filter(|(address, value)| *value == !address.0);
        let six = datapath.tables.node_addresses6.entries().unwrap().into_iter();
        let six = six.filter(|(address, value)| *value == !address.0[3]);
        four.map(|(address, _)| snapshot::ip(address).to_string())
            .chain(six.map(|(address, _)| snapshot::ip(address).to_string()))
            .collect()
    };
    let flags = |datapath: &Datapath| datapath.tables.config.get(&0).unwrap().unwrap().flags & 12;
    assert_eq!(*answering.borrow(), at(&["192.0.2.10", "2001:db8::10"]));
    assert_eq!((silent(&datapath), flags(&datapath)), (set(&[]), 12));
    // A new address of the node is its own, and silent.
    node.here.ip("addr add 198.51.100.1/24 dev up0");
    node.here.ip("addr add 2001:db8::11/64 dev up0 nodad");
    eventually(set(&["198.51.100.1", "2001:db8::11"]), || silent(&datapath));
    // Another choice reaches what is there.
    node_ports
        .set(&NodePortAddresses::parse(&["198.51.100.0/24", "localhost", "2001:db8::11/128"]).unwrap())
        .unwrap();
    eventually(at(&["127.0.0.1", "198.51.100.1", "::1", "2001:db8::11"]), || {
        answering.borrow().clone()
    });
    assert_eq!(
        (silent(&datapath), flags(&datapath)),
        (set(&["192.0.2.10", "2001:db8::10"]), 0)
    );
    node_ports.set(&NodePortAddresses::default()).unwrap();
    eventually(Answering::Everywhere, || answering.borrow().clone());
    assert_eq!(silent(&datapath), set(&[]));
    drop(datapath);
    node_ports.set(&NodePortAddresses::default()).unwrap();
}

#[test]
fn a_storm_of_events_loses_nothing() {
    let node = Node::new();
    let datapath = node.place.start(&node.here).unwrap();
    let mut batch = String::new();
    for n in 0..400 {
        batch.push_str(&format!("addr add 10.1.{}.{}/32 dev up0\n", n / 250, n % 250 + 1));
    }
    for n in 0..399 {
        batch.push_str(&format!("addr del 10.1.{}.{}/32 dev up0\n", n / 250, n % 250 + 1));
    }
    let path = std::env::temp_dir().join(format!("shunt-storm-{}", std::process::id()));
    std::fs::write(&path, batch).unwrap();
    node.here.ip(&format!("-batch {}", path.display()));
    std::fs::remove_file(&path).unwrap();
    eventually(set(&["10.1.1.150", "192.0.2.10", "2001:db8::10"]), || {
        node_addresses(&datapath)
    });
}

#[test]
fn roles_have_names() {
    assert_eq!((Role::Pod.name(), Role::Uplink.name()), ("pod", "uplink"));
}

#[test]
fn the_embedded_object_loads_attaches_and_is_replaced_in_place() {
    let node = Node::new();
    let mut options = node.place.options();
    options.object = super::OBJECT;
    let run = |options: super::DatapathOptions| node.here.run(move || Datapath::start(&options).unwrap());
    for _ in 0..2 {
        let datapath = run(options.clone());
        assert_eq!(node.tcx(), set(&["pod0", "up0"]));
        assert_eq!(list(&node.instance().cgroup_links()).unwrap().len(), 9);
        let config = datapath.tables.config.get(&0).unwrap().unwrap();
        assert_eq!(config.layout_version, proxy_common::layout::LAYOUT_VERSION);
    }
}
