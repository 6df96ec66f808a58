//! XDP at uplinks: attached where it is wanted and works, and a reason everywhere else.

use std::os::fd::AsFd;

use super::instance::{Instance, list};
use super::options::{DatapathOptions, XdpMode};
use super::sys::{self, attach_type, program_type};
use super::testing::{Namespace, Place, eventually, start, uplink};
use super::{Datapath, cleanup};

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

    fn start(&self, xdp: XdpMode) -> Datapath {
        let options = DatapathOptions {
            xdp,
            ..self.place.options()
        };
        start(&self.here, options).unwrap()
    }

    fn pins(&self) -> Vec<String> {
        list(&Instance::new(&self.place.instance).xdp_links()).unwrap()
    }

    /// Id of the link that is pinned.
    fn link(&self) -> u32 {
        let pin = self.pins().pop().unwrap();
        let path = Instance::new(&self.place.instance).xdp_links().join(pin);
        let link = sys::object_get(&path).unwrap();
        sys::link_info(link.as_fd()).unwrap().id
    }
}

/// Mode and reason of the only uplink.
fn state(datapath: &Datapath) -> (&'static str, &'static str) {
    let states = datapath.gauges().xdp().unwrap();
    assert_eq!((states.len(), states[0].interface.as_str()), (1, "up0"));
    (states[0].mode, states[0].reason)
}

#[test]
fn xdp_follows_the_switch_and_a_restart_keeps_its_link() {
    let node = Node::new();
    let index = node.here.index("up0");
    let native = vec![format!("{index}-native")];
    let datapath = node.start(XdpMode::Native);
    assert_eq!((state(&datapath), node.pins()), (("native", ""), native.clone()));
    let link = node.link();
    drop(datapath);
    assert_eq!(node.pins(), native, "an agent that ends leaves it attached");
    let datapath = node.start(XdpMode::Native);
    assert_eq!((state(&datapath), node.link()), (("native", ""), link));
    drop(datapath);
    for (mode, expected, pins) in [
        (
            XdpMode::Generic,
            ("generic", ""),
            vec![format!("{index}-generic")],
        ),
        (XdpMode::Auto, ("tc", "veth"), vec![]),
        (XdpMode::Native, ("native", ""), native.clone()),
        (XdpMode::Off, ("tc", "off"), vec![]),
        (XdpMode::Native, ("native", ""), native),
    ] {
        let datapath = node.start(mode);
        assert_eq!((state(&datapath), node.pins()), (expected, pins), "{mode:?}");
    }
    let instance = node.place.instance.clone();
    node.here.run(move || cleanup::run(&instance).unwrap());
    assert!(!node.here.ip("link show dev up0").contains("xdp"));
    assert!(!node.place.instance.exists());
}

#[test]
fn what_is_in_the_way_of_xdp_is_named_and_followed() {
    let node = Node::new();
    let index = node.here.index("up0");
    let other = sys::program_load(program_type::XDP, attach_type::XDP, &[2 << 32 | 0xb7, 0x95]).unwrap();
    let link = node
        .here
        .run(move || sys::link_xdp(other.as_fd(), index, 1 << 2).unwrap());
    let id = sys::link_info(link.as_fd()).unwrap().program;
    let datapath = node.start(XdpMode::Native);
    assert_eq!(state(&datapath), ("tc", "other_program"));
    assert!(
        node.here
            .ip("-d link show dev up0")
            .contains(&format!("id {id} "))
    );
    // Once it is gone, an event of the interface is enough.
    drop(link);
    node.here.ip("link set up0 txqueuelen 77");
    eventually(("native", ""), || state(&datapath));
    // An interface that goes takes its link along, and its pin is reaped.
    node.here.ip("link delete up0");
    eventually(Vec::<String>::new(), || node.pins());
    eventually(0, || datapath.gauges().xdp().unwrap().len());
}

#[test]
fn a_veth_whose_other_end_would_lose_frames_goes_by_tc() {
    let node = Node::new();
    node.there.command("ethtool", "-K far0 gro off");
    let datapath = node.start(XdpMode::Native);
    assert_eq!((state(&datapath), node.pins()), (("tc", "peer"), vec![]));
    node.there.command("ethtool", "-K far0 gro on");
    node.here.ip("link set up0 txqueuelen 77");
    eventually(("native", ""), || state(&datapath));
}

/// A dead agent's pin of an interface that is gone since.
#[test]
fn the_link_of_an_interface_deleted_meanwhile_is_reaped_at_start() {
    let node = Node::new();
    drop(node.start(XdpMode::Native));
    node.here.ip("link delete up0");
    assert_eq!(node.pins().len(), 1);
    drop(node.start(XdpMode::Native));
    assert!(node.pins().is_empty());
}
