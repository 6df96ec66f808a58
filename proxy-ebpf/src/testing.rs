//! Programs for tests and benches, an object of its own that is never shipped: the rule of socket LB behind a TC
//! hook (the kernel has no test run for cgroup programs), and what the data path's time is measured against.
#![no_std]
#![no_main]
#![feature(core_intrinsics, asm_experimental_arch)]
#![expect(internal_features, reason = "compare-and-swap on this target")]
#![allow(
    dead_code,
    reason = "the modules are the data path's own, and only some of each is used here"
)]

mod ahead;
mod answer;
mod encapsulate;
mod error;
mod global;
mod live;
mod lru;
mod maps;
mod node;
mod probe;
mod redirect;
mod rewrite;
mod segment;
mod skb;
mod tc;
mod xdp;

use aya_ebpf::{
    bindings::{TC_ACT_UNSPEC, xdp_action},
    helpers::generated::{bpf_skb_load_bytes, bpf_skb_store_bytes},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use proxy_common::{
    layout::{Addr, Direction, MappedAddress, Port, V4, V6, protocol},
    rules::{
        Bytes, client,
        headers::{Parsed, Readable},
        socket::{self, Choice, Socket},
    },
};

use maps::Maps;

/// Bytes of an Ethernet header.
const ETHERNET: u32 = 14;
/// An interface without a link-layer header.
const LAYER3: u32 = 0;

/// Does nothing: what the test run itself costs.
#[classifier]
#[inline(always)]
fn empty(_ctx: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// Parses an IPv4 TCP packet and looks its tuple up in one LRU: what any flow table costs at least.
#[classifier]
#[inline(always)]
fn bare(ctx: TcContext) -> i32 {
    let packet = skb::Packet::<ETHERNET>::new(ctx.skb.skb);
    let (Some([.., source, destination]), Some([ports])) = (packet.words::<5>(0), packet.words::<1>(20))
    else {
        return TC_ACT_UNSPEC;
    };
    let key = proxy_common::layout::FlowKey {
        source: V4(source),
        destination: V4(destination),
        source_port: Port::from_wire(ports as u16),
        destination_port: Port::from_wire((ports >> 16) as u16),
        protocol: protocol::TCP,
        direction: Direction::Forward as u8,
        pad: 0,
    };
    match V4::flows(proxy_common::layout::FlowTable::Flows, protocol::TCP).get_ptr(key) {
        Some(_) => 0,
        None => TC_ACT_UNSPEC,
    }
}

/// [`empty`] at XDP.
#[xdp]
#[inline(always)]
fn xdp_empty(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// [`bare`] at XDP.
#[xdp]
#[inline(always)]
fn xdp_bare(ctx: XdpContext) -> u32 {
    let start = ctx.data() + ETHERNET as usize;
    if start + 24 > ctx.data_end() {
        return xdp_action::XDP_PASS;
    }
    // SAFETY: the bounds were compared; BPF needs no alignment.
    let [.., source, destination, ports] = unsafe { *(start as *const [u32; 6]) };
    let key = proxy_common::layout::FlowKey {
        source: V4(source),
        destination: V4(destination),
        source_port: Port::from_wire(ports as u16),
        destination_port: Port::from_wire((ports >> 16) as u16),
        protocol: protocol::TCP,
        direction: Direction::Forward as u8,
        pad: 0,
    };
    match V4::flows(proxy_common::layout::FlowTable::Flows, protocol::TCP).get_ptr(key) {
        Some(_) => xdp_action::XDP_TX,
        None => xdp_action::XDP_PASS,
    }
}

/// Makes a frame of the bench of packets a second, and sends it.
#[xdp]
#[inline(always)]
fn xdp_make(ctx: XdpContext) -> u32 {
    live::make(ctx.ctx)
}

/// Where such frames leave the machine, as far as is measured.
#[classifier]
#[inline(always)]
fn sink(ctx: TcContext) -> i32 {
    live::sink(ctx.skb.skb)
}

/// [`sink`] at XDP.
#[xdp]
#[inline(always)]
fn xdp_sink(ctx: XdpContext) -> u32 {
    live::xdp_sink(ctx.ctx)
}

/// Parses a packet with the data path's own parser: 0 for TCP and UDP, else -1.
#[classifier]
#[inline(always)]
fn parse(ctx: TcContext) -> i32 {
    let Some(work) = V4::work().get_ptr_mut(0) else {
        return TC_ACT_UNSPEC;
    };
    // SAFETY: the value is this CPU's own, and no other TC program runs on it before this one returns.
    let work = unsafe { &mut *work };
    match V4::parse(&skb::Packet::<ETHERNET>::new(ctx.skb.skb), &mut work.packet) {
        Parsed::Transport => 0,
        Parsed::Error | Parsed::Message | Parsed::Other | Parsed::Malformed => TC_ACT_UNSPEC,
    }
}

/// A call as the test writes it behind the Ethernet header, and the answer in its place. Machine order but for address
/// and port.
#[repr(C)]
#[derive(Clone, Copy)]
struct Call {
    netns_cookie: u64,
    address: MappedAddress,
    port: Port,
    protocol: u8,
    is_loopback: u8,
    /// Answer: 0 untouched, 1 refused, 2 a backend.
    kind: u32,
    /// Answer: the index of the counter, or the backend's id.
    value: u32,
    /// Zero.
    pad: u32,
}

/// Socket LB's choice for a call to an IPv4 address.
#[classifier]
#[inline(always)]
fn socket_choice4(ctx: TcContext) -> i32 {
    choose::<V4>(&ctx)
}

/// Socket LB's choice for a call to an IPv6 address.
#[classifier]
#[inline(always)]
fn socket_choice6(ctx: TcContext) -> i32 {
    choose::<V6>(&ctx)
}

#[inline(always)]
fn choose<A: Maps>(ctx: &TcContext) -> i32 {
    let mut call = Call {
        netns_cookie: 0,
        address: V6::UNSPECIFIED,
        port: Port::new(0),
        protocol: 0,
        is_loopback: 0,
        kind: 0,
        value: 0,
        pad: 0,
    };
    let size = size_of::<Call>() as u32;
    // SAFETY: the buffer is `size` bytes long, and any bytes are a valid call.
    if unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), ETHERNET, (&raw mut call).cast(), size) } != 0 {
        return 1;
    }
    let Some(config) = node::config() else { return 2 };
    let socket = Socket {
        netns_cookie: call.netns_cookie,
        protocol: call.protocol,
    };
    (call.kind, call.value) = if !socket::serves(config, &socket) {
        (0, 0)
    } else {
        let address = A::from_mapped(call.address);
        match socket::choose(
            &node::Tables,
            config,
            &socket,
            &address,
            call.port,
            call.is_loopback != 0,
        ) {
            Choice::Untouched => (0, 0),
            Choice::Refuse(counter) => (1, counter as u32),
            Choice::Backend(id, _) => (2, id.0),
        }
    };
    // SAFETY: the buffer is `size` bytes long.
    if unsafe { bpf_skb_store_bytes(ctx.skb.skb, ETHERNET, (&raw const call).cast(), size, 0) } != 0 {
        return 3;
    }
    0
}

/// A connection as the test writes it behind the Ethernet header. Machine order but for addresses and port.
#[repr(C)]
#[derive(Clone, Copy)]
struct Connection {
    netns_cookie: u64,
    source: MappedAddress,
    destination: MappedAddress,
    port: Port,
    /// Zero.
    pad: [u16; 3],
}

/// What an IPv4 connection that goes by packets tells of its network namespace.
#[classifier]
#[inline(always)]
fn namespace4(ctx: TcContext) -> i32 {
    learn::<V4>(&ctx)
}

/// What an IPv6 connection that goes by packets tells of its network namespace.
#[classifier]
#[inline(always)]
fn namespace6(ctx: TcContext) -> i32 {
    learn::<V6>(&ctx)
}

#[inline(always)]
fn learn<A: Maps>(ctx: &TcContext) -> i32 {
    let mut connection = Connection {
        netns_cookie: 0,
        source: V6::UNSPECIFIED,
        destination: V6::UNSPECIFIED,
        port: Port::new(0),
        pad: [0; 3],
    };
    let size = size_of::<Connection>() as u32;
    // SAFETY: the buffer is `size` bytes long, and any bytes are a valid connection.
    if unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), ETHERNET, (&raw mut connection).cast(), size) } != 0 {
        return 1;
    }
    let Some(config) = node::config() else { return 2 };
    if client::may_learn(config, connection.netns_cookie) {
        let (source, destination) = (
            A::from_mapped(connection.source),
            A::from_mapped(connection.destination),
        );
        client::learn(
            &node::Tables,
            connection.netns_cookie,
            &source,
            &destination,
            connection.port,
        );
    }
    0
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // Nothing here panics: a call to this loop would make the verifier refuse the program.
    loop {}
}

/// The kernel gives GPL-only helpers to this text only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
