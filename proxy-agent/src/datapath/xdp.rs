//! XDP at uplinks: which of them get the program, and why the others go without. Pure.
//!
//! ```text
//! native   the driver runs the program. `auto` takes it on hardware
//! generic  the kernel runs it after it has made a packet of the frame: slower than TC, and only by hand
//! TC only  with a reason, which the log, `shunt doctor` and a metric show
//! ```

use super::classify::{Role, Target};
use super::observe::Link;
use super::options::XdpMode;

/// How the program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Way {
    Native = 1,
    Generic = 2,
}

impl Way {
    pub(super) const ALL: [Self; 2] = [Self::Native, Self::Generic];

    /// The name in pins, logs and metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    /// The flag of a link (`XDP_FLAGS_DRV_MODE`, `XDP_FLAGS_SKB_MODE`).
    pub(super) fn flag(self) -> u32 {
        match self {
            Self::Native => 1 << 2,
            Self::Generic => 1 << 1,
        }
    }

    /// From the byte in UPLINKS.
    pub(super) fn of_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|way| *way as u8 == byte)
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $byte:literal, $word:literal, $text:literal, $way_out:literal;)+) => {
        /// Why an uplink has no XDP program.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum Reason {
            $($(#[doc = $doc])+ $name = $byte,)+
        }

        impl Reason {
            /// All of them.
            pub(super) const ALL: &'static [Self] = &[$(Self::$name),+];

            /// One word, for metrics.
            pub(super) fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// In a sentence.
            pub(super) fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// What to do about it; empty where it is as it should be.
            pub(super) fn way_out(self) -> &'static str {
                match self { $(Self::$name => $way_out,)+ }
            }
        }
    };
}

reasons! {
    /// The operator does not want it.
    Off = 1, "off", "switched off (--xdp off)", "";
    /// A device without link-layer header.
    NoHeader = 2, "no_header", "it has no Ethernet header", "";
    /// A bond, bridge, VLAN, tunnel.
    Stacked = 3, "stacked", "it stands on other devices, whose driver would be asked", "";
    /// A veth, which loses its offloads.
    Veth = 4, "veth", "a veth has no hardware: XDP would cost it segmentation offload, and TC is faster", "";
    /// A veth whose peer drops what XDP sends.
    Peer = 5, "peer", "the other end of this veth takes no frames from XDP: they would be lost in silence",
        "turn GRO on at the other end: ethtool -K DEVICE gro on";
    /// Another's program is there.
    Other = 6, "other_program", "another XDP program is attached, and is left alone",
        "take it off (ip link set dev DEVICE xdp off) if it is not needed; the agent looks again every 30 s";
    /// The driver does not.
    Driver = 7, "driver", "the driver refuses native XDP",
        "see the agent's log for its error; many drivers need a smaller MTU or fewer queues";
    /// The kernel refuses the program, or the object has none.
    Program = 8, "program", "the kernel does not take the XDP program", "see the agent's log for its error";
    /// Tags can't be seen.
    Vlan = 9, "vlan_offload", "VLANs stand on it, and the driver hides their tags from XDP",
        "ethtool -K DEVICE rxvlan off; of a veth also, at its other end, txvlan off";
    /// The element of UPLINKS is taken.
    Clash = 10, "clash", "its index is that of another uplink, modulo 256", "";
    /// TC's programs are not there.
    NoTc = 11, "no_tc", "TC's programs could not be attached", "see the agent's log for the error";
}

impl Reason {
    /// From the byte in UPLINKS.
    pub(super) fn of_byte(byte: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| *reason as u8 == byte)
    }

    /// Whether it can pass without an event of the interface.
    pub(super) fn may_pass(self) -> bool {
        matches!(self, Self::Other | Self::Peer | Self::Vlan)
    }
}

/// What the kernel says of a driver's XDP (Linux 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Features {
    /// Frames that XDP redirects to it arrive.
    pub(super) sends: bool,
    /// So do those in several buffers.
    pub(super) sends_buffers: bool,
}

/// An uplink, as XDP sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) link: Link,
    /// Without a link-layer header.
    pub(super) layer3: bool,
    /// `None`: the kernel does not say.
    pub(super) features: Option<Features>,
    /// A tag can be hidden from XDP.
    pub(super) hides_tags: bool,
}

impl Candidate {
    /// Of a target that is an uplink.
    pub(super) fn of(target: &Target, link: &Link) -> Option<Self> {
        (target.role == Role::Uplink).then(|| Self {
            link: link.clone(),
            layer3: target.layer3,
            features: None,
            hides_tags: false,
        })
    }

    /// How the program is to be attached, or why not.
    pub(super) fn way(&self, mode: XdpMode) -> Result<Way, Reason> {
        let is_veth = self.link.kind == "veth";
        let sends = self.features.is_some_and(|features| features.sends);
        if mode == XdpMode::Off {
            return Err(Reason::Off);
        }
        if self.layer3 {
            return Err(Reason::NoHeader);
        }
        // Hardware has no kind; a tap is one end of a cable to a virtual machine or a test.
        if !is_veth && !self.link.kind.is_empty() && self.link.kind != "tun" {
            return Err(Reason::Stacked);
        }
        if self.hides_tags {
            return Err(Reason::Vlan);
        }
        match mode {
            XdpMode::Generic => Ok(Way::Generic),
            XdpMode::Auto if is_veth => Err(Reason::Veth),
            XdpMode::Native if is_veth && !sends => Err(Reason::Peer),
            _ => Ok(Way::Native),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(kind: &str, features: Option<Features>) -> Candidate {
        Candidate {
            link: Link {
                kind: kind.to_owned(),
                ..Link::default()
            },
            layer3: false,
            features,
            hides_tags: false,
        }
    }

    const ALL: Option<Features> = Some(Features {
        sends: true,
        sends_buffers: true,
    });

    #[test]
    fn auto_takes_hardware_and_never_generic() {
        for features in [None, ALL] {
            assert_eq!(candidate("", features).way(XdpMode::Auto), Ok(Way::Native));
            assert_eq!(candidate("veth", features).way(XdpMode::Auto), Err(Reason::Veth));
        }
        for kind in ["bond", "bridge", "vlan", "vxlan", "geneve", "macvlan"] {
            assert_eq!(
                candidate(kind, ALL).way(XdpMode::Auto),
                Err(Reason::Stacked),
                "{kind}"
            );
        }
    }

    #[test]
    fn a_veth_is_taken_by_hand_if_its_peer_gets_what_is_sent() {
        assert_eq!(candidate("veth", ALL).way(XdpMode::Native), Ok(Way::Native));
        for features in [None, Some(Features::default())] {
            assert_eq!(
                candidate("veth", features).way(XdpMode::Native),
                Err(Reason::Peer)
            );
            assert_eq!(
                candidate("veth", features).way(XdpMode::Generic),
                Ok(Way::Generic),
                "generic XDP sends as the stack does"
            );
        }
    }

    #[test]
    fn what_can_not_be_seen_or_is_not_wanted_is_named() {
        for mode in [XdpMode::Auto, XdpMode::Native, XdpMode::Generic] {
            let tun = Candidate {
                layer3: true,
                ..candidate("tun", ALL)
            };
            assert_eq!(tun.way(mode), Err(Reason::NoHeader));
            let tagged = Candidate {
                hides_tags: true,
                ..candidate("", ALL)
            };
            assert_eq!(tagged.way(mode), Err(Reason::Vlan));
        }
        assert_eq!(candidate("", ALL).way(XdpMode::Off), Err(Reason::Off));
    }

    #[test]
    fn numbers_and_words_are_unique_and_come_back() {
        let words: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.word()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(Reason::of_byte(*reason as u8), Some(*reason));
        }
        for way in Way::ALL {
            assert_eq!(Way::of_byte(way as u8), Some(way));
        }
        assert_eq!((Reason::of_byte(0), Way::of_byte(0)), (None, None));
    }
}
