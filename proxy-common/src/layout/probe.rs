//! PROBES: what the agent waits for to arrive at a hook.

/// The protocol of the agent's own frames: IEEE 802's first one for local experiments (RFC 9542 §2.1.2). Behind the link-layer header
/// stand the interface and the direction that the frame is to be sent by, and its token; 4 bytes each, the first two big-endian.
pub const PROBE_ETHERTYPE: u16 = 0x88b5;

/// The side of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ProbeSide {
    /// What comes in.
    Ingress = 0,
    /// What leaves.
    Egress = 1,
}

/// Key of PROBES; its value is the token that is awaited (u32, never 0 when it is written), 0 once it has arrived.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProbeKey {
    /// The interface's index.
    pub interface: u32,
    /// A [`ProbeSide`].
    pub side: u32,
}

impl ProbeKey {
    /// The key of one side of an interface.
    #[inline(always)]
    pub const fn new(interface: u32, side: ProbeSide) -> Self {
        Self {
            interface,
            side: side as u32,
        }
    }
}
