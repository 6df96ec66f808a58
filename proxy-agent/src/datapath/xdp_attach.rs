//! Keeps the XDP program on the uplinks that take it. What keeps it from one is a reason, never a failure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proxy_common::layout::{UPLINK_SENDS, UPLINK_SENDS_BUFFERS, UPLINK_TAKES, UPLINK_TURNS, Uplink};
use tracing::{info, warn};

use super::attach::Attacher;
use super::error::{Context, DatapathError};
use super::instance::{Instance, list};
use super::links;
use super::netlink::Netlink;
use super::observe::{Link, Observed};
use super::options::XdpMode;
use super::sys::{self, LinkTarget};
use super::xdp::{Candidate, Features, Reason, Way};

/// What became of an uplink.
pub(super) type Outcome = Result<Way, Reason>;

/// The XDP programs of this process.
pub(super) struct XdpAttacher {
    mode: XdpMode,
    /// What was tried, and what came of it.
    tried: BTreeMap<u32, (Candidate, Outcome)>,
}

impl XdpAttacher {
    pub(super) fn new(mode: XdpMode) -> Self {
        Self {
            mode,
            tried: BTreeMap::new(),
        }
    }

    /// How it takes part at an interface.
    pub(super) fn way(&self, index: u32) -> Option<Way> {
        self.tried.get(&index).and_then(|(_, outcome)| outcome.ok())
    }

    /// Tries anew at an interface.
    pub(super) fn forget(&mut self, index: u32) {
        self.tried.remove(&index);
    }

    /// Whether something stands in the way that can go without an event.
    pub(super) fn waits(&self) -> bool {
        let mut outcomes = self.tried.values().map(|(_, outcome)| outcome);
        outcomes.any(|outcome| outcome.is_err_and(Reason::may_pass))
    }
}

/// The uplinks among the observed interfaces, with what the kernel says of their drivers.
pub(super) fn candidates(
    targets: &BTreeMap<u32, super::classify::Target>,
    observed: &Observed,
) -> Vec<Candidate> {
    let uplinks = observed
        .links
        .iter()
        .filter_map(|link| Candidate::of(targets.get(&link.index)?, link));
    let mut uplinks: Vec<Candidate> = uplinks.collect();
    let mut netlink = Netlink::generic().ok();
    for uplink in &mut uplinks {
        let index = uplink.link.index;
        uplink.features = netlink.as_mut().and_then(|netlink| features(netlink, index));
        let has_vlans = observed
            .links
            .iter()
            .any(|link| link.kind == "vlan" && link.lower == index);
        uplink.hides_tags = has_vlans && sys::hides_vlan_tags(&uplink.link.name).unwrap_or(true);
    }
    uplinks
}

/// Whether the kernel says anything of drivers' XDP: asked of the loopback, which every network namespace has.
pub(super) fn kernel_tells_xdp_features() -> bool {
    const LOOPBACK: u32 = 1;
    Netlink::generic().is_ok_and(|mut netlink| features(&mut netlink, LOOPBACK).is_some())
}

/// What the kernel says of a driver's XDP; `None` before 6.3, which says nothing.
fn features(netlink: &mut Netlink, index: u32) -> Option<Features> {
    const NDO_XMIT: u64 = 1 << 2;
    const NDO_XMIT_BUFFERS: u64 = 1 << 6;
    let bits = netlink.xdp_features(index).ok()?;
    Some(Features {
        sends: bits & NDO_XMIT != 0,
        sends_buffers: bits & NDO_XMIT_BUFFERS != 0,
    })
}

impl Attacher {
    /// Attaches XDP where it can be, and takes it off where it is not wanted. Gives what UPLINKS must say, by element. TC's
    /// programs come first: XDP lets pass to them.
    pub(super) fn reconcile_xdp(&mut self, candidates: &[Candidate]) -> BTreeMap<u32, Uplink> {
        let mut elements = BTreeMap::new();
        let mut tried = BTreeMap::new();
        for candidate in candidates {
            let index = candidate.link.index;
            let slot = Uplink::slot(index);
            let outcome = if elements.contains_key(&slot) {
                Err(Reason::Clash)
            } else {
                self.try_xdp(candidate)
            };
            let before = self.xdp.tried.get(&index).map(|(_, outcome)| *outcome);
            if before != Some(outcome) {
                tell(&candidate.link, outcome);
            }
            elements
                .entry(slot)
                .or_insert_with(|| element(candidate, outcome, self.xdp.mode));
            tried.insert(index, (candidate.clone(), outcome));
        }
        self.xdp.tried = tried;
        if let Err(error) = self.release_unwanted() {
            warn!(%error, "an XDP program could not be taken off");
        }
        elements
    }

    /// Whether something stands in the way of XDP that can go without an event.
    pub(super) fn waits(&self) -> bool {
        self.xdp.waits()
    }

    fn try_xdp(&self, candidate: &Candidate) -> Outcome {
        let index = candidate.link.index;
        let way = candidate.way(self.xdp.mode)?;
        if !self.has_tc(index) {
            return Err(Reason::NoTc);
        }
        match self.xdp.tried.get(&index) {
            Some((_, Ok(before))) if *before == way => return Ok(way),
            // It would say the same again.
            Some((before, Err(Reason::Driver))) if before == candidate => return Err(Reason::Driver),
            _ => {}
        }
        let Some(program) = self.programs.xdp() else {
            return Err(Reason::Program);
        };
        // Another way stands in the way of this one.
        for other in Way::ALL.into_iter().filter(|other| *other != way) {
            if let Err(error) = links::release(&xdp_path(&self.instance, index, other)) {
                warn!(interface = candidate.link.name, %error, "an XDP program could not be taken off");
            }
        }
        let path = xdp_path(&self.instance, index, way);
        let fits = |target| target == LinkTarget::Xdp(index);
        let held = links::hold(&path, program, fits, || sys::link_xdp(program, index, way.flag()));
        match held {
            Ok(_) => Ok(way),
            Err(error) => Err(self.refused(candidate, &error)),
        }
    }

    fn refused(&self, candidate: &Candidate, error: &DatapathError) -> Reason {
        let code = match error {
            DatapathError::Call(error) => error.source.raw_os_error(),
            _ => None,
        };
        if matches!(code, Some(libc::EBUSY | libc::EEXIST)) {
            return Reason::Other;
        }
        info!(interface = candidate.link.name, %error, "XDP was refused");
        Reason::Driver
    }

    /// Takes the program off wherever it is not wanted, and reaps what is left of deleted interfaces.
    fn release_unwanted(&self) -> Result<(), DatapathError> {
        for name in list(&self.instance.xdp_links())? {
            let mut wanted = self.xdp.tried.iter();
            if !wanted.any(|(index, (_, outcome))| outcome.is_ok_and(|way| pin_name(*index, way) == name)) {
                links::release(&self.instance.xdp_links().join(name))?;
            }
        }
        Ok(())
    }
}

fn tell(link: &Link, outcome: Outcome) {
    match outcome {
        Ok(way) => info!(
            interface = link.name,
            index = link.index,
            mode = way.name(),
            "XDP is attached"
        ),
        Err(reason) => {
            let (reason, other) = (reason.text(), link.xdp);
            info!(
                interface = link.name,
                index = link.index,
                reason,
                program = other,
                "TC only, no XDP"
            );
        }
    }
}

/// What UPLINKS says of an uplink.
fn element(candidate: &Candidate, outcome: Outcome, mode: XdpMode) -> Uplink {
    let Candidate { link, features, .. } = candidate;
    let features = match mode {
        // As the stack sends.
        XdpMode::Generic => Features {
            sends: true,
            sends_buffers: true,
        },
        _ => features.unwrap_or_default(),
    };
    let mut flags = 0;
    if outcome.is_ok() {
        flags |= UPLINK_TAKES;
    }
    if mode == XdpMode::Generic || link.kind != "veth" {
        flags |= UPLINK_TURNS;
    }
    if features.sends && !candidate.layer3 {
        flags |= UPLINK_SENDS;
    }
    if features.sends_buffers && !candidate.layer3 {
        flags |= UPLINK_SENDS_BUFFERS;
    }
    let [a, b, c, d, e, f] = link.address;
    let mut name = [0; 16];
    for (to, from) in name.iter_mut().zip(link.name.bytes()) {
        *to = from;
    }
    Uplink {
        link: [[a, b], [c, d], [e, f]].map(u16::from_ne_bytes),
        flags,
        index: link.index,
        mode: outcome.map_or(0, |way| way as u8),
        reason: outcome.err().map_or(0, |reason| reason as u8),
        pad: 0,
        name,
    }
}

fn pin_name(index: u32, way: Way) -> String {
    format!("{index}-{}", way.name())
}

pub(super) fn xdp_path(instance: &Instance, index: u32, way: Way) -> PathBuf {
    instance.xdp_links().join(pin_name(index, way))
}

/// Takes XDP off an interface; how many links there were.
pub(super) fn remove_xdp(instance: &Instance, index: u32) -> Result<usize, DatapathError> {
    let mut removed = 0;
    for way in Way::ALL {
        removed += usize::from(links::release(&xdp_path(instance, index, way))?);
    }
    Ok(removed)
}

/// Whether the kernel has a multipath policy by which a packet's ports can choose its next hop.
pub(super) fn hops_depend_on_ports() -> bool {
    ["ipv4/fib_multipath_hash_policy", "ipv6/fib_multipath_hash_policy"]
        .iter()
        .any(|name| {
            let text = std::fs::read_to_string(format!("/proc/sys/net/{name}")).call("read", *name);
            text.is_ok_and(|text| text.trim() != "0")
        })
}
