//! CONFIG: what the programs must know of the node.

/// Version of all layouts in this module; part of the pin path. A change of any key or value raises it.
pub const LAYOUT_VERSION: u32 = if cfg!(feature = "next-layout") { 2 } else { 1 };

/// [`Config::flags`]: socket LB serves pods as well (`--socket-lb enabled`); without it only the host's namespace.
pub const CONFIG_PODS_SOCKET_LB: u32 = 1;

/// [`Config::flags`]: the kernel knows `BPF_F_IPV6` of bpf_l4_csum_replace (6.16): IPv6 checksums stay right under
/// CHECKSUM_COMPLETE.
pub const CONFIG_CHECKSUM_IPV6: u32 = 2;

/// [`Config::flags`]: NodePorts do not answer at loopback addresses of IPv4.
pub const CONFIG_NO_LOOPBACK4: u32 = 4;

/// [`Config::flags`]: the same for IPv6.
pub const CONFIG_NO_LOOPBACK6: u32 = 8;

/// [`Config::flags`]: the addresses of Services do not answer ping (`--ping disabled`).
pub const CONFIG_NO_PING: u32 = 16;

/// [`Config::flags`]: which next hop a packet takes can depend on its ports (`fib_multipath_hash_policy`), so that XDP
/// remembers next hops by ports as well as by addresses.
pub const CONFIG_HOPS_BY_PORT: u32 = 32;

/// [`Config::flags`]: flows that are made from now on go around the stack in both directions where they can
/// (`--host-routing fast`).
pub const CONFIG_FAST: u32 = 64;

/// [`Config::flags`]: there may be flows that go around the stack to a backend at its own address: their replies are looked for
/// where packets come in. It stays while there is one, whatever [`CONFIG_FAST`] says.
pub const CONFIG_BYPASSED: u32 = 128;

/// [`Config::flags`]: the operator wants [`CONFIG_FAST`], whether it is so or not. For those who look at the node.
pub const CONFIG_FAST_WANTED: u32 = 256;

/// [`Config::flags`]: packets from an uplink to a backend of this node get one bit of the skb mark, whose number stands in
/// the bits from [`CONFIG_MARK_BIT`] on.
pub const CONFIG_MARK: u32 = 1 << 16;

/// [`Config::flags`]: where the number of the bit stands, in five bits.
pub const CONFIG_MARK_BIT: u32 = 17;

/// The one value of CONFIG (array of 1). Times are in ticks of `bpf_jiffies64`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Cookie of the host's network namespace, as `SO_NETNS_COOKIE` gives it.
    pub host_netns_cookie: u64,
    /// [`LAYOUT_VERSION`].
    pub layout_version: u32,
    /// [`CONFIG_PODS_SOCKET_LB`] | [`CONFIG_CHECKSUM_IPV6`] | [`CONFIG_NO_LOOPBACK4`] | [`CONFIG_NO_LOOPBACK6`] |
    /// [`CONFIG_NO_PING`] | [`CONFIG_HOPS_BY_PORT`] | [`CONFIG_FAST`] | [`CONFIG_BYPASSED`] |
    /// [`CONFIG_FAST_WANTED`] | [`CONFIG_MARK`].
    pub flags: u32,
    /// Ticks in a second (the kernel's HZ).
    pub ticks_per_second: u32,
    /// First port of the range for SNAT, in the machine's order.
    pub snat_first: u16,
    /// How many ports the range has; 0: no SNAT possible.
    pub snat_count: u16,
    /// Life of a TCP flow that is not yet established; SCTP's flows have TCP's lives.
    pub tcp_embryo: u32,
    /// Life of an established TCP flow without traffic.
    pub tcp_established: u32,
    /// Life after a FIN of one side.
    pub tcp_half_closed: u32,
    /// Life after a RST or the FINs of both sides; SCTP: after an ABORT or a SHUTDOWN COMPLETE.
    pub tcp_closing: u32,
    /// Life of a UDP flow without a reply.
    pub udp_embryo: u32,
    /// Life of a UDP flow with replies.
    pub udp_established: u32,
}

const _: () = assert!(size_of::<Config>() == 48);

impl Config {
    /// Whether flows that are made now may go around the stack.
    #[inline(always)]
    pub const fn is_fast(&self) -> bool {
        self.flags & CONFIG_FAST != 0
    }

    /// Whether there may be flows that do.
    #[inline(always)]
    pub const fn has_bypassed(&self) -> bool {
        self.flags & (CONFIG_FAST | CONFIG_BYPASSED) != 0
    }

    /// What the skb mark of a packet from an uplink to a backend of this node gets; 0: nothing.
    #[inline(always)]
    pub const fn mark(&self) -> u32 {
        if self.flags & CONFIG_MARK == 0 {
            return 0;
        }
        1 << (self.flags >> CONFIG_MARK_BIT & 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_one_bit_or_none() {
        let with = |flags| Config {
            flags,
            ..Config::default()
        };
        assert_eq!(with(!CONFIG_MARK).mark(), 0);
        for bit in 0..32 {
            assert_eq!(with(CONFIG_MARK | bit << CONFIG_MARK_BIT).mark(), 1 << bit);
        }
    }
}
