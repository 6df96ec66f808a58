//! Shunt's kernel side: entry points only. What a hook decides is in `proxy_common::rules`; how it reads and writes
//! the kernel's tables and packets is in the modules here.
#![no_std]
#![no_main]
#![feature(core_intrinsics, asm_experimental_arch)]
#![expect(internal_features, reason = "compare-and-swap on this target")]

mod ahead;
mod answer;
mod encapsulate;
mod error;
mod global;
mod lru;
mod maps;
mod node;
mod probe;
mod redirect;
mod rewrite;
mod segment;
mod skb;
mod sock_ops;
mod sockets;
mod tc;
mod xdp;

use aya_ebpf::{
    macros::{self, cgroup_sock_addr, classifier, xdp},
    programs::{SockAddrContext, SockOpsContext, TcContext, XdpContext},
};
use proxy_common::rules::Origin;

/// Bytes of an Ethernet header.
const ETHERNET: u32 = 14;
/// An interface without a link-layer header.
const LAYER3: u32 = 0;

/// TC ingress of a pod interface.
#[classifier]
#[inline(always)]
fn from_pod(ctx: TcContext) -> i32 {
    tc::ingress::<ETHERNET>(ctx.skb.skb, Origin::Pod)
}

/// TC egress of a pod interface.
#[classifier]
#[inline(always)]
fn to_pod(ctx: TcContext) -> i32 {
    tc::egress_pod::<ETHERNET>(ctx.skb.skb)
}

/// TC ingress of an uplink.
#[classifier]
#[inline(always)]
fn from_network(ctx: TcContext) -> i32 {
    tc::ingress::<ETHERNET>(ctx.skb.skb, Origin::Network)
}

/// TC egress of an uplink.
#[classifier]
#[inline(always)]
fn to_network(ctx: TcContext) -> i32 {
    tc::egress_uplink::<ETHERNET>(ctx.skb.skb)
}

/// TC ingress of an uplink without a link-layer header.
#[classifier]
#[inline(always)]
fn from_network_l3(ctx: TcContext) -> i32 {
    tc::ingress::<LAYER3>(ctx.skb.skb, Origin::Network)
}

/// TC egress of an uplink without a link-layer header.
#[classifier]
#[inline(always)]
fn to_network_l3(ctx: TcContext) -> i32 {
    tc::egress_uplink::<LAYER3>(ctx.skb.skb)
}

/// XDP of an uplink, for kernels whose frames lie in one buffer.
#[xdp]
#[inline(always)]
fn xdp_uplink(ctx: XdpContext) -> u32 {
    xdp::uplink::<false>(ctx.ctx)
}

/// XDP of an uplink; the end of a frame may lie in other buffers than its headers.
#[xdp(frags)]
#[inline(always)]
fn xdp_uplink_frags(ctx: XdpContext) -> u32 {
    xdp::uplink::<true>(ctx.ctx)
}

/// connect() of an IPv4 socket.
#[cgroup_sock_addr(connect4)]
#[inline(always)]
fn connect4(ctx: SockAddrContext) -> i32 {
    sockets::connect4(ctx.sock_addr)
}

/// connect() of an IPv6 socket.
#[cgroup_sock_addr(connect6)]
#[inline(always)]
fn connect6(ctx: SockAddrContext) -> i32 {
    sockets::connect6(ctx.sock_addr)
}

/// sendmsg() of an unconnected IPv4 socket, or of an IPv6 socket to a mapped address.
#[cgroup_sock_addr(sendmsg4)]
#[inline(always)]
fn sendmsg4(ctx: SockAddrContext) -> i32 {
    sockets::sendmsg4(ctx.sock_addr)
}

/// sendmsg() of an unconnected IPv6 socket.
#[cgroup_sock_addr(sendmsg6)]
#[inline(always)]
fn sendmsg6(ctx: SockAddrContext) -> i32 {
    sockets::sendmsg6(ctx.sock_addr)
}

/// recvmsg() of an IPv4 socket.
#[cgroup_sock_addr(recvmsg4)]
#[inline(always)]
fn recvmsg4(ctx: SockAddrContext) -> i32 {
    sockets::show_frontend4(ctx.sock_addr)
}

/// recvmsg() of an IPv6 socket, also from mapped addresses.
#[cgroup_sock_addr(recvmsg6)]
#[inline(always)]
fn recvmsg6(ctx: SockAddrContext) -> i32 {
    sockets::show_frontend6(ctx.sock_addr)
}

/// getpeername() of an IPv4 socket.
#[cgroup_sock_addr(getpeername4)]
#[inline(always)]
fn getpeername4(ctx: SockAddrContext) -> i32 {
    sockets::show_frontend4(ctx.sock_addr)
}

/// getpeername() of an IPv6 socket.
#[cgroup_sock_addr(getpeername6)]
#[inline(always)]
fn getpeername6(ctx: SockAddrContext) -> i32 {
    sockets::show_frontend6(ctx.sock_addr)
}

/// What happens to a TCP socket.
#[macros::sock_ops]
#[inline(always)]
fn sock_ops(ctx: SockOpsContext) -> u32 {
    sock_ops::run(ctx.ops)
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // Nothing here panics: a call to this loop would make the verifier refuse the program.
    loop {}
}

/// The kernel gives GPL-only helpers to this text only; the sources are Apache-2.0 OR GPL-2.0.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
