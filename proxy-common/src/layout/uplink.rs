//! UPLINKS: what XDP must know of an uplink, and why one goes without.

/// [`Uplink::flags`]: XDP takes frames that come in here. Without it they all pass to TC.
pub const UPLINK_TAKES: u16 = 1;
/// [`Uplink::flags`]: frames that came in elsewhere can be redirected out of it.
pub const UPLINK_SENDS: u16 = 2;
/// [`Uplink::flags`]: the same for frames in several buffers.
pub const UPLINK_SENDS_BUFFERS: u16 = 4;
/// [`Uplink::flags`]: XDP_TX sends a frame back out of it. A veth leaves it in a queue until another comes, unless an XDP
/// program is at its other end; a redirect to itself goes at once.
pub const UPLINK_TURNS: u16 = 8;

/// Elements of UPLINKS.
pub const UPLINKS: u32 = 256;

/// A value of UPLINKS (array by [`Uplink::slot`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uplink {
    /// Its link-layer address, in memory order.
    pub link: [u16; 3],
    /// [`UPLINK_TAKES`], [`UPLINK_SENDS`], [`UPLINK_SENDS_BUFFERS`], [`UPLINK_TURNS`].
    pub flags: u16,
    /// The interface index: the tag of the value; 0 in an element that is no uplink's.
    pub index: u32,
    /// How its XDP program is attached: the agent's number, for people; 0: not at all.
    pub mode: u8,
    /// Why it has none: the agent's number, for people.
    pub reason: u8,
    /// Zero.
    pub pad: u16,
    /// Its name, filled up with zeroes, for people.
    pub name: [u8; 16],
}

const _: () = assert!(size_of::<Uplink>() == 32);

impl Uplink {
    /// The element of an interface. Two uplinks can't share one.
    #[inline(always)]
    pub const fn slot(index: u32) -> u32 {
        index % UPLINKS
    }
}
