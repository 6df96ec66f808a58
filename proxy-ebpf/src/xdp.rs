//! XDP of an uplink: calls to remote backends, and replies of such flows back to their clients, before the kernel has made a
//! packet of the frame.
//!
//! The rule is TC's. What can't be sent on by it here passes as it came, and TC decides on it again by the same tables: so
//! nothing is written until everything is settled, and nothing is counted that TC will count.

use aya_ebpf::{
    bindings::{bpf_fib_lookup as FibLookup, xdp_action, xdp_md},
    helpers::generated::{bpf_fib_lookup, bpf_redirect, bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
};
use proxy_common::{
    layout::{
        Action, Addr, CONFIG_HOPS_BY_PORT, Config, Counter, Family as Ip, Flow, Twice, UPLINK_SENDS,
        UPLINK_SENDS_BUFFERS, UPLINK_TAKES, UPLINK_TURNS, Uplink, V4, V6, protocol,
    },
    rules::{Bytes, Headers, checksum, headers::Readable, hook, settled, step::Step},
};

use crate::{
    ETHERNET, global,
    maps::{HOPS, Hop, Maps, NEIGHBOURS, Tries, UPLINKS, WORK_TRIES},
    node::{Node, Tables, config, count, count_times},
    redirect::{Arrival, FIB_SUCCESS, Route, empty},
    tc::work,
};

/// EtherTypes as they stand in a frame.
const IPV4: u16 = 0x0800_u16.to_be();
const IPV6: u16 = 0x86dd_u16.to_be();

/// A frame. `BUFFERS`: its end may lie in other buffers than its headers.
pub(crate) struct Frame<const BUFFERS: bool> {
    md: *mut xdp_md,
}

/// A pointer to `T` at an offset into the frame; `None` beyond the end of its first buffer.
#[inline(always)]
fn at<T>(md: *mut xdp_md, offset: u32) -> Option<*mut T> {
    // SAFETY: `md` is the program's context; the verifier checks the bounds that are compared here.
    unsafe {
        let start = (*md).data as usize + offset as usize;
        (start + size_of::<T>() <= (*md).data_end as usize).then_some(start as *mut T)
    }
}

/// Bytes in the first buffer.
#[inline(always)]
fn first_buffer(md: *mut xdp_md) -> u32 {
    // SAFETY: `md` is the program's context.
    unsafe { (*md).data_end.wrapping_sub((*md).data) }
}

impl<const BUFFERS: bool> Frame<BUFFERS> {
    #[inline(always)]
    pub(crate) fn new(md: *mut xdp_md) -> Self {
        Self { md }
    }

    /// Bytes of the whole frame.
    #[inline(always)]
    fn size(&self) -> u32 {
        if BUFFERS {
            // SAFETY: `md` is the program's context.
            unsafe { bpf_xdp_get_buff_len(self.md) as u32 }
        } else {
            first_buffer(self.md)
        }
    }

    /// Counts what led to a flow.
    #[inline(always)]
    fn count_tries(&self) {
        let Some(tries) = tries() else { return };
        if tries.collisions != 0 {
            count_times(Counter::ReverseCollision as u32, tries.collisions);
        }
        if tries.kept != 0 {
            count_times(Counter::AffinityKept as u32, tries.kept);
        }
    }
}

/// What this CPU's packet has led to so far, and is not counted yet.
#[inline(always)]
fn tries() -> Option<&'static mut Tries> {
    // SAFETY: the value is this CPU's own, and no other program of ours runs on it before this one returns.
    unsafe { WORK_TRIES.get_ptr_mut(0)?.as_mut() }
}

impl<const BUFFERS: bool> Bytes for Frame<BUFFERS> {
    #[inline(always)]
    fn words<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        self.glance(offset).or_else(|| self.copied(offset))
    }

    #[inline(always)]
    fn glance<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        // The verifier wants a bound, and what XDP reads of whole packets is far below this one. It wants it of the very number
        // that is added: most kernels do not see that a sum is bounded since one of its parts is.
        const FARTHEST: u32 = 0xfff;
        let offset = ETHERNET.wrapping_add(offset);
        if offset > FARTHEST {
            return None;
        }
        let words = at::<[u32; N]>(self.md, offset)?;
        // SAFETY: `at` checked the bounds; BPF needs no alignment.
        Some(unsafe { *words })
    }

    #[inline(always)]
    fn copied<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        if !BUFFERS {
            return None;
        }
        let mut words = [0_u32; N];
        // SAFETY: `md` is the program's context, and the buffer is as long as said.
        let result = unsafe {
            bpf_xdp_load_bytes(
                self.md,
                ETHERNET.wrapping_add(offset),
                words.as_mut_ptr().cast(),
                (N * 4) as u32,
            )
        };
        (result == 0).then_some(words)
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.size().saturating_sub(ETHERNET)
    }

    #[inline(always)]
    fn reaches(&self, length: u32) -> bool {
        // The first buffer tells without a call.
        length.wrapping_add(ETHERNET) <= first_buffer(self.md) || BUFFERS && length <= self.length()
    }
}

impl<const BUFFERS: bool> Arrival for Frame<BUFFERS> {
    #[inline(always)]
    fn interface(&self) -> u32 {
        // SAFETY: it is the program's context.
        unsafe { (*self.md).ingress_ifindex }
    }

    #[inline(always)]
    fn look_up(&self, params: &mut FibLookup) -> i64 {
        params.ifindex = self.interface();
        // SAFETY: it is the program's context, and `params` is as long as said.
        unsafe { bpf_fib_lookup(self.md.cast(), params, size_of::<FibLookup>() as i32, 0) }
    }

    #[inline(always)]
    fn count(&self, counter: Counter) {
        match counter.twice() {
            Twice::Made => count(counter as u32),
            Twice::Tried => {
                // On the stack it would be a pointer that the verifier sees leave a function.
                if let Some(tries) = tries() {
                    if counter as u32 == Counter::AffinityKept as u32 {
                        tries.kept += 1;
                    } else {
                        tries.collisions += 1;
                    }
                }
            }
            Twice::Seen => {}
        }
    }

    #[inline(always)]
    fn step<A: Maps, S: Step>(&self, step: S) -> u32 {
        global::frame::<A, S>(self.md, step)
    }
}

/// Writes an address family's header.
trait Write: Addr {
    /// The header in halves of a word.
    type Halves;
    /// Writes addresses and hop limit.
    ///
    /// # Safety
    /// The whole header can be written.
    unsafe fn write(header: *mut Self::Halves, difference: u32, new: &Flow<Self>, hop_limit: u8);
}

impl Write for V4 {
    type Halves = [u16; 10];

    #[inline(always)]
    unsafe fn write(header: *mut [u16; 10], difference: u32, new: &Flow<V4>, hop_limit: u8) {
        // SAFETY: the caller's promise; BPF needs no alignment.
        unsafe {
            let old = (*header)[4];
            let [_, next] = old.to_ne_bytes();
            let limited = u16::from_ne_bytes([hop_limit, next]);
            (*header)[4] = limited;
            let difference = difference + checksum::difference(old as u32, limited as u32);
            (*header)[5] = checksum::update((*header)[5], difference);
            let words = header.cast::<[u32; 5]>();
            (*words)[3] = new.source.0;
            (*words)[4] = new.destination.0;
        }
    }
}

impl Write for V6 {
    type Halves = [u16; 20];

    #[inline(always)]
    unsafe fn write(header: *mut [u16; 20], _difference: u32, new: &Flow<V6>, hop_limit: u8) {
        // SAFETY: the caller's promise; BPF needs no alignment.
        unsafe {
            let [next, _] = (*header)[3].to_ne_bytes();
            (*header)[3] = u16::from_ne_bytes([next, hop_limit]);
            let addresses = header.cast::<[u32; 2]>().add(1).cast::<[[u32; 4]; 2]>();
            (*addresses)[0] = new.source.0;
            (*addresses)[1] = new.destination.0;
        }
    }
}

/// All that an address family needs here.
trait Family: Readable + Maps + Route + Write {}
impl Family for V4 {}
impl Family for V6 {}

/// The program.
#[inline(always)]
pub(crate) fn uplink<const BUFFERS: bool>(md: *mut xdp_md) -> u32 {
    // What follows 12 bytes of addresses: the tag of a VLAN is none of the two.
    let Some(kind) = at::<u16>(md, ETHERNET - 2) else {
        return xdp_action::XDP_PASS;
    };
    // SAFETY: `at` checked the bounds; BPF needs no alignment.
    let sent = match unsafe { *kind } {
        IPV4 => frame::<V4, BUFFERS>(md),
        IPV6 => frame::<V6, BUFFERS>(md),
        _ => None,
    };
    sent.unwrap_or(xdp_action::XDP_PASS)
}

/// How a frame leaves; `None`: it passes.
#[inline(always)]
fn frame<A: Family, const BUFFERS: bool>(md: *mut xdp_md) -> Option<u32> {
    let config = config()?;
    let frame = Frame::<BUFFERS> { md };
    let seen = A::glance(&frame)?;
    // A partial CRC can't be told from a complete one: SCTP is TC's.
    if seen.protocol == protocol::SCTP {
        return None;
    }
    let may_be_frontend = hook::may_be_frontend(&Tables, &seen);
    // What goes around the stack into a pod is TC's.
    if !may_be_frontend && !hook::in_snat_range(config, seen.destination_port) {
        return None;
    }
    let uplink = uplink_of(frame.interface())?;
    if uplink.flags & UPLINK_TAKES == 0 || !is_for(md, uplink) {
        return None;
    }
    match follow::<A, BUFFERS>(md, may_be_frontend as u32) {
        UNSETTLED => decide::<A, BUFFERS>(md, config),
        action => Some(action),
    }
}

/// What [`follow`] gives for a frame on which the whole rule must decide.
const UNSETTLED: u32 = u32::MAX;

/// What becomes of most frames: of those of a flow about which nothing is new. Not inlined: the whole rule needs the stack.
#[inline(never)]
fn follow<A: Family, const BUFFERS: bool>(md: *mut xdp_md, may_be_frontend: u32) -> u32 {
    let frame = Frame::<BUFFERS> { md };
    let (Some(config), Some(packet)) = (config(), A::plain(&frame)) else {
        return UNSETTLED;
    };
    let node = Node::new(frame, config);
    let mut flow = Flow::default();
    if settled::ingress(&node, &packet, may_be_frontend != 0, &mut flow).is_none() {
        return UNSETTLED;
    }
    let sent = if flow.action == Action::Redirect as u8 {
        forward(&node.arrival, config, &packet, &flow)
    } else {
        None
    };
    sent.unwrap_or(xdp_action::XDP_PASS)
}

/// Decides by the whole rule.
#[inline(always)]
fn decide<A: Family, const BUFFERS: bool>(md: *mut xdp_md, config: &'static Config) -> Option<u32> {
    if read::<A, BUFFERS>(md) == 0 {
        return None;
    }
    let work = work::<A>()?;
    *tries()? = Tries::default();
    let node = Node::new(Frame::<BUFFERS> { md }, config);
    let verdict = hook::ingress_whole(&node, work);
    let action = verdict.action()?;
    node.arrival.count_tries();
    if action != Action::Redirect as u8 {
        return None;
    }
    Some(send::<A, BUFFERS>(md, &work.packet, &work.flow))
}

/// Whether the workspace has what a whole packet says. Not inlined: the rules need the stack.
#[inline(never)]
fn read<A: Family, const BUFFERS: bool>(md: *mut xdp_md) -> u32 {
    match work::<A>() {
        Some(work) => hook::read_whole(&Frame::<BUFFERS> { md }, work) as u32,
        None => 0,
    }
}

/// Sends a frame on as its flow says, or lets it pass. Not inlined: the rules need the stack.
#[inline(never)]
fn send<A: Family, const BUFFERS: bool>(md: *mut xdp_md, packet: &Headers<A>, flow: &Flow<A>) -> u32 {
    let frame = Frame::<BUFFERS> { md };
    let sent = config().and_then(|config| forward(&frame, config, packet, flow));
    sent.unwrap_or(xdp_action::XDP_PASS)
}

/// What is known of an uplink.
#[inline(always)]
fn uplink_of(index: u32) -> Option<&'static Uplink> {
    UPLINKS
        .get(Uplink::slot(index))
        .filter(|uplink| uplink.index == index)
}

/// Whether a frame is to this interface's own link-layer address.
#[inline(always)]
fn is_for(md: *mut xdp_md, uplink: &Uplink) -> bool {
    let Some(to) = at::<[u16; 3]>(md, 0) else {
        return false;
    };
    let own = &raw const uplink.link;
    // In two steps: a word, and the half behind it.
    // SAFETY: `at` checked the bounds; BPF needs no alignment.
    unsafe { *to.cast::<u32>() == *own.cast::<u32>() && (*to)[2] == (*own)[2] }
}

/// Writes a translation into a frame and sends it on; `None`, and nothing is written, if that can't be done here.
#[inline(always)]
fn forward<A: Family, const BUFFERS: bool>(
    frame: &Frame<BUFFERS>,
    config: &Config,
    old: &Headers<A>,
    new: &Flow<A>,
) -> Option<u32> {
    let md = frame.md;
    // Time exceeded is TC's to say.
    if old.hop_limit <= 1 {
        return None;
    }
    let is_udp = old.protocol == protocol::UDP;
    let transport = ETHERNET + A::HEADER;
    let check = at::<u16>(md, transport + if is_udp { 6 } else { 16 })?;
    // SAFETY: `at` checked the bounds; BPF needs no alignment.
    let field = unsafe { *check };
    if !is_complete(old, field) {
        return None;
    }
    let hop = next_hop(frame, config, old, new)?;
    // What may be an answer, and would leave by another uplink than the call came in by: whether there is a way by that one is
    // TC's to ask.
    let via = new.via.interface();
    if via != 0 && hop.interface != via && hook::in_snat_range(config, old.destination_port) {
        return None;
    }
    let action = leave(frame, hop)?;
    let link = at::<[u16; 6]>(md, 0)?;
    let header = at::<A::Halves>(md, ETHERNET)?;
    let ports = at::<[u16; 2]>(md, transport)?;
    let check = at::<u16>(md, transport + if is_udp { 6 } else { 16 })?;
    let addresses =
        checksum::address_difference((&old.source, &old.destination), (&new.source, &new.destination));
    let changed = checksum::port_difference(
        (old.source_port, old.destination_port),
        (new.source_port, new.destination_port),
    );
    // SAFETY: `at` checked the bounds; BPF needs no alignment.
    unsafe {
        *link = hop.link;
        A::write(header, addresses, new, old.hop_limit.wrapping_sub(1));
        *ports = [new.source_port.wire(), new.destination_port.wire()];
        *check = checksum::translated(field, addresses + changed, is_udp);
    }
    count(Counter::XdpForwarded as u32);
    Some(action)
}

/// Whether a checksum field covers the packet, or says that nothing does: not what a sender on this machine left for
/// hardware to finish.
#[inline(always)]
fn is_complete<A: Addr>(packet: &Headers<A>, field: u16) -> bool {
    if field == 0 && packet.protocol == protocol::UDP {
        // Over IPv6 it is wrong, and the stack's to judge (RFC 8200 §8.1).
        return A::FAMILY == Ip::V4;
    }
    let length = packet.length.wrapping_sub(packet.transport) as u16;
    let pseudo = checksum::pseudo_header((&packet.source, &packet.destination), packet.protocol, length);
    !checksum::may_be_partial(field, pseudo)
}

/// How a frame leaves towards a next hop; `None` if nobody knows that it would arrive.
#[inline(always)]
fn leave<A, const BUFFERS: bool>(frame: &Frame<BUFFERS>, hop: &Hop<A>) -> Option<u32> {
    let uplink = uplink_of(hop.interface)?;
    if hop.interface == frame.interface() && uplink.flags & UPLINK_TURNS != 0 {
        return Some(xdp_action::XDP_TX);
    }
    let has_buffers = BUFFERS && frame.size() != first_buffer(frame.md);
    let needed = if has_buffers {
        UPLINK_SENDS_BUFFERS
    } else {
        UPLINK_SENDS
    };
    if uplink.flags & needed == 0 {
        return None;
    }
    // SAFETY: the helper has no preconditions.
    Some(unsafe { bpf_redirect(hop.interface, 0) } as u32)
}

/// The next hop of a translated packet. What the routing table says is remembered for a sixteenth of a second: asking
/// costs more than all the rest.
#[inline(always)]
fn next_hop<A: Family, const BUFFERS: bool>(
    frame: &Frame<BUFFERS>,
    config: &Config,
    packet: &Headers<A>,
    new: &Flow<A>,
) -> Option<&'static Hop<A>> {
    let index = new.destination.mix(0) as u32 % HOPS;
    // SAFETY: the value is this CPU's own, and no other program of ours runs on it before this one returns.
    let hop = unsafe { A::hops().get_ptr_mut(index)?.as_mut()? };
    let ports = if config.flags & CONFIG_HOPS_BY_PORT != 0 {
        (new.source_port.wire() as u32) << 16 | new.destination_port.wire() as u32
    } else {
        0
    };
    let now = ticks();
    let is_known = hop.destination == new.destination
        && hop.source == new.source
        && hop.ports == ports
        && hop.came_in_by == frame.interface()
        && now.wrapping_sub(hop.asked) <= config.ticks_per_second / 16;
    if !is_known {
        hop.destination = A::UNSPECIFIED;
        if ask(frame, packet, new, ports, hop) != 0 || !is_confirmed(config, now, hop) {
            return None;
        }
        hop.asked = now;
    }
    (packet.length <= hop.mtu).then_some(hop)
}

#[inline(always)]
fn ticks() -> u32 {
    // SAFETY: the helper has no preconditions.
    unsafe { aya_ebpf::helpers::generated::bpf_jiffies64() as u32 }
}

/// Asks the routing table: 0 if it knows a next hop and that one's address. What it has no MTU for, it has no way for.
#[inline(always)]
fn ask<A: Family, const BUFFERS: bool>(
    frame: &Frame<BUFFERS>,
    packet: &Headers<A>,
    new: &Flow<A>,
    ports: u32,
    hop: &mut Hop<A>,
) -> i64 {
    let mut params = empty();
    params.family = A::AF;
    params.l4_protocol = packet.protocol;
    params.sport = new.source_port.wire();
    params.dport = new.destination_port.wire();
    params.__bindgen_anon_1.tot_len = packet.length as u16;
    A::fill(&mut params, &new.source, &new.destination);
    let result = frame.look_up(&mut params);
    if result != FIB_SUCCESS {
        return 1;
    }
    hop.source = new.source;
    hop.destination = new.destination;
    hop.ports = ports;
    hop.came_in_by = frame.interface();
    hop.interface = params.ifindex;
    // SAFETY: both members of the union are a u16.
    hop.mtu = unsafe { params.__bindgen_anon_1.mtu_result } as u32;
    let half = |high: u8, low: u8| u16::from_ne_bytes([high, low]);
    let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (params.dmac, params.smac);
    hop.link = [
        half(a, b),
        half(c, d),
        half(e, f),
        half(g, h),
        half(i, j),
        half(k, l),
    ];
    0
}

/// Whether the stack has sent a packet to this neighbour within a second. It alone finds out whether a neighbour is still
/// there: so one packet a second goes its way.
#[inline(always)]
fn is_confirmed<A>(config: &Config, now: u32, hop: &Hop<A>) -> bool {
    let [a, b, c, ..] = hop.link;
    let index = (a ^ b ^ c ^ hop.interface as u16) as u32;
    let Some(seen) = NEIGHBOURS.get_ptr_mut((index ^ index >> 8) % HOPS) else {
        return false;
    };
    // SAFETY: the value is this CPU's own, and map values live as long as the program.
    unsafe {
        if now.wrapping_sub(*seen) < config.ticks_per_second {
            return true;
        }
        *seen = now;
    }
    false
}
