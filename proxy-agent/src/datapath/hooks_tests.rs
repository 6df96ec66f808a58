//! What others take from the hooks comes back, and what can't is told: with real links, filters and cgroups.

use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use proxy_common::layout::names::program;

use super::Datapath;
use super::clsact::{self, Side};
use super::instance::{Instance, list};
use super::netlink::Netlink;
use super::options::{AttachMode, DatapathOptions, XdpMode};
use super::sys::{self, LinkTarget};
use super::testing::{Namespace, Place, eventually, start, uplink};

/// A node with an uplink.
struct Node {
    here: Namespace,
    there: Namespace,
    place: Place,
}

impl Node {
    fn new() -> Self {
        let (here, there) = uplink();
        Self {
            here,
            there,
            place: Place::new(),
        }
    }

    fn instance(&self) -> Instance {
        Instance::new(&self.place.instance)
    }

    fn start(&self, attach: AttachMode, xdp: XdpMode) -> Datapath {
        let options = DatapathOptions {
            attach,
            xdp,
            hook_check_period: Duration::from_millis(20),
            ..self.place.options()
        };
        start(&self.here, options).unwrap()
    }

    /// Our filters at both sides of the uplink.
    fn filters(&self) -> usize {
        let index = self.here.index("up0");
        self.here.run(move || {
            let mut netlink = Netlink::route().unwrap();
            let filters = Side::BOTH.map(|side| clsact::filters(&mut netlink, index, side).unwrap());
            filters.iter().flatten().filter(|filter| filter.ours).count()
        })
    }
}

fn target(path: &std::path::Path) -> LinkTarget {
    let link = sys::object_get(path).unwrap();
    sys::link_info(link.as_fd()).unwrap().target
}

fn restored(datapath: &Datapath) -> u64 {
    let hooks = datapath.hooks().borrow().clone();
    assert_eq!(hooks.broken, [""; 0]);
    hooks.restored
}

/// As `bpftool link detach` does.
fn detach(path: &std::path::Path) {
    let link = sys::object_get(path).unwrap();
    sys::link_detach(link.as_fd()).unwrap();
}

#[test]
fn links_that_others_detach_are_made_anew() {
    let node = Node::new();
    let datapath = node.start(AttachMode::Tcx, XdpMode::Native);
    assert_eq!(restored(&datapath), 0);
    let instance = node.instance();
    let mut pins = Vec::new();
    for directory in [
        instance.tcx_links(),
        instance.xdp_links(),
        instance.cgroup_links(),
    ] {
        let names = list(&directory).unwrap();
        assert!(!names.is_empty(), "{}", directory.display());
        pins.extend(names.into_iter().map(|name| directory.join(name)));
    }
    for (pin, count) in pins.iter().zip(1..) {
        let before = target(pin);
        detach(pin);
        eventually(count, || restored(&datapath));
        assert_eq!(target(pin), before, "{}", pin.display());
    }
}

#[test]
fn a_removed_pin_and_a_cgroup_that_was_made_anew_get_their_programs() {
    let node = Node::new();
    let datapath = node.start(AttachMode::Tcx, XdpMode::Off);
    let index = node.here.index("up0");
    let pin = node.instance().tcx_links().join(format!("{index}-ingress"));
    std::fs::remove_file(&pin).unwrap();
    eventually(1, || restored(&datapath));
    assert!(pin.exists());
    let links = list(&node.instance().cgroup_links()).unwrap();
    std::fs::remove_dir(&node.place.cgroup).unwrap();
    eventually(1, || datapath.hooks().borrow().broken.len());
    let [broken] = &*datapath.hooks().borrow().broken.clone() else {
        panic!()
    };
    assert!(broken.starts_with("sockets: "), "{broken}");
    std::fs::create_dir(&node.place.cgroup).unwrap();
    eventually(0, || datapath.hooks().borrow().broken.len());
    assert_eq!(list(&node.instance().cgroup_links()).unwrap(), links);
    let before = target(&node.instance().cgroup_links().join(program::CGROUP[0]));
    let LinkTarget::Cgroup(id, _) = before else {
        panic!("{before:?}")
    };
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&node.place.cgroup).unwrap());
    assert_eq!(id, inode);
}

#[test]
fn filters_that_go_with_their_qdisc_come_back() {
    let node = Node::new();
    let datapath = node.start(AttachMode::Clsact, XdpMode::Off);
    assert_eq!(node.filters(), 2);
    node.here.command("tc", "qdisc del dev up0 clsact");
    eventually(2, || restored(&datapath));
    assert_eq!(node.filters(), 2);
    node.here.command("tc", "filter del dev up0 egress");
    eventually(3, || restored(&datapath));
    assert_eq!(node.filters(), 2);
}

#[test]
fn an_uplink_that_stays_without_programs_is_told() {
    let node = Node::new();
    let datapath = node.start(AttachMode::Clsact, XdpMode::Off);
    // Another's filter at our place, of a protocol that excludes ours.
    let file = std::env::temp_dir().join(format!("shunt-hook-{}", std::process::id()));
    std::fs::write(&file, "1,6 0 0 4294967295").unwrap();
    let batch = std::env::temp_dir().join(format!("shunt-hook-batch-{}", std::process::id()));
    let lines = [
        "qdisc del dev up0 clsact",
        "qdisc add dev up0 clsact",
        &format!(
            "filter add dev up0 ingress protocol ip prio 1 bpf bytecode-file {}",
            file.display()
        ),
    ];
    std::fs::write(&batch, lines.join("\n")).unwrap();
    // The agent may be faster than the third line.
    let is_taken = || {
        let batch = batch.clone();
        node.here.run(move || {
            let output = Command::new("tc").arg("-batch").arg(batch).output().unwrap();
            output.status.success()
        })
    };
    eventually(true, is_taken);
    let broken = || datapath.hooks().borrow().broken.clone();
    eventually(vec!["uplink up0: it has no programs".to_owned()], broken);
    node.here.command("tc", "filter del dev up0 ingress prio 1");
    eventually(Vec::new(), broken);
    assert_eq!(node.filters(), 2);
    for file in [file, batch] {
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn an_interface_that_goes_has_lost_nothing() {
    let node = Node::new();
    let datapath = node.start(AttachMode::Tcx, XdpMode::Native);
    for _ in 0..20 {
        node.here.ip("link del up0");
        node.here.veth("up0", &node.there, "far0");
        node.here.ip("addr add 192.0.2.1/24 dev up0");
        node.here.ip("route add default via 192.0.2.2");
        eventually(2, || list(&node.instance().tcx_links()).unwrap().len());
    }
    assert_eq!(restored(&datapath), 0);
}
