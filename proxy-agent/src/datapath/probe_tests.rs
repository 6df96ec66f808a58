//! Frames of the agent's own through real hooks, with and without another's program before ours.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::clsact::Side;
use super::options::{AttachMode, DatapathOptions};
use super::sys::{self, attach_type, program_type};
use super::testing::{Namespace, Place, eventually, uplink};
use super::{Datapath, OBJECT};

struct Node {
    here: Namespace,
    there: Namespace,
    place: Place,
}

impl Node {
    fn new() -> Self {
        let (here, there) = uplink();
        let node = Self {
            here,
            there,
            place: Place::new(),
        };
        node.here.veth("pod0", &node.there, "eth0");
        node.here.ip("route add 10.1.1.2 dev pod0");
        node.here.ip("tuntap add tun0 mode tun");
        node.here.ip("link set tun0 up");
        node.here.ip("addr add 198.51.100.1/24 dev tun0");
        node.here.ip("route add default dev tun0 metric 100");
        node
    }

    fn start(&self, attach: AttachMode) -> Datapath {
        let options = DatapathOptions {
            attach,
            object: OBJECT,
            hook_check_period: Duration::from_millis(20),
            ..self.place.options()
        };
        self.here.run(move || Datapath::start(&options).unwrap())
    }

    /// Another's program, which ends all that passes, or lets all pass to the next.
    fn foreign(&self, interface: &str, side: Side, ends: bool) -> OwnedFd {
        // TC_ACT_SHOT and TC_ACT_UNSPEC.
        let result: i32 = if ends { 2 } else { -1 };
        let index = self.here.index(interface);
        let kind = match side {
            Side::Ingress => attach_type::TCX_INGRESS,
            Side::Egress => attach_type::TCX_EGRESS,
        };
        self.here.run(move || {
            let instructions = [(result as u32 as u64) << 32 | 0xb7, 0x95];
            let program = sys::program_load(program_type::SCHED_CLS, 0, &instructions).unwrap();
            sys::link_tcx(program.as_fd(), index, kind).unwrap()
        })
    }
}

#[test]
fn a_program_before_ours_that_ends_frames_is_told_until_it_goes() {
    for attach in [AttachMode::Tcx, AttachMode::Clsact] {
        let node = Node::new();
        // What lets all pass is no obstacle.
        let _passing = node.foreign("up0", Side::Ingress, false);
        let hooks = [
            ("up0", Side::Ingress, "from_network at up0 (ingress)"),
            ("up0", Side::Egress, "to_network at up0 (egress)"),
            ("pod0", Side::Ingress, "from_pod at pod0 (ingress)"),
            ("pod0", Side::Egress, "to_pod at pod0 (egress)"),
            ("tun0", Side::Ingress, "from_network_l3 at tun0 (ingress)"),
            ("tun0", Side::Egress, "to_network_l3 at tun0 (egress)"),
        ];
        let mut others: Vec<(OwnedFd, String)> = hooks
            .iter()
            .map(|(interface, side, name)| (node.foreign(interface, *side, true), (*name).to_owned()))
            .collect();
        let datapath = node.start(attach);
        let named = |others: &[(OwnedFd, String)]| -> BTreeSet<String> {
            others.iter().map(|(_, name)| name.clone()).collect()
        };
        let unreached =
            || -> BTreeSet<String> { datapath.hooks().borrow().unreached.iter().cloned().collect() };
        eventually(named(&others), unreached);
        while others.pop().is_some() {
            eventually(named(&others), unreached);
        }
        assert_eq!(datapath.hooks().borrow().broken, [""; 0]);
    }
}

#[test]
fn an_interface_that_goes_is_told_no_more() {
    let node = Node::new();
    let other = node.foreign("pod0", Side::Ingress, true);
    let datapath = node.start(AttachMode::Tcx);
    let unreached = || datapath.hooks().borrow().unreached.len();
    eventually(1, unreached);
    node.here.ip("link del pod0");
    eventually(0, unreached);
    drop(other);
    assert_eq!(unreached(), 0);
}
