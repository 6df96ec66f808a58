//! The cgroup hook at TCP sockets' events: learns with which address a pod's network namespace speaks.

use core::ptr::{addr_of, read_volatile};

use aya_ebpf::{
    bindings::{BPF_SOCK_OPS_TCP_CONNECT_CB, bpf_sock_ops},
    helpers::generated::bpf_get_netns_cookie,
};
use proxy_common::{
    layout::{Port, V4, V6},
    rules::client,
};

use crate::node::{Tables, config};

/// The kernel asks nothing of this program; other programs' answers stand.
const DONE: u32 = 1;
const AF_INET: u32 = 2;

#[inline(always)]
pub(crate) fn run(ops: *mut bpf_sock_ops) -> u32 {
    // Inside connect(), once the kernel has chosen the socket's own address.
    // SAFETY: `ops` is the program's context; the verifier wants whole words.
    if unsafe { read_volatile(addr_of!((*ops).op)) } != BPF_SOCK_OPS_TCP_CONNECT_CB {
        return DONE;
    }
    let Some(config) = config() else { return DONE };
    // SAFETY: `ops` is the program's context.
    let netns_cookie = unsafe { bpf_get_netns_cookie(ops.cast()) };
    if client::may_learn(config, netns_cookie) {
        learn(ops, netns_cookie);
    }
    DONE
}

#[inline(always)]
fn learn(ops: *mut bpf_sock_ops, netns_cookie: u64) {
    // SAFETY: `ops` is the program's context; the verifier wants whole words. The port's two bytes, as on the wire, are in
    // the high half of its word.
    let (family, port) = unsafe {
        (
            read_volatile(addr_of!((*ops).family)),
            Port::from_wire((read_volatile(addr_of!((*ops).remote_port)) >> 16) as u16),
        )
    };
    if family != AF_INET {
        let to = remote6(ops);
        // An IPv6 socket that calls an IPv4 address has an IPv4 address as well.
        if !to.is_mapped_v4() {
            return client::learn(&Tables, netns_cookie, &local6(ops), &to, port);
        }
    }
    // SAFETY: as above.
    let (from, to) = unsafe {
        (
            V4(read_volatile(addr_of!((*ops).local_ip4))),
            V4(read_volatile(addr_of!((*ops).remote_ip4))),
        )
    };
    client::learn(&Tables, netns_cookie, &from, &to, port);
}

#[inline(always)]
fn remote6(ops: *mut bpf_sock_ops) -> V6 {
    // SAFETY: `ops` is the program's context; the verifier wants whole words.
    unsafe {
        V6([
            read_volatile(addr_of!((*ops).remote_ip6[0])),
            read_volatile(addr_of!((*ops).remote_ip6[1])),
            read_volatile(addr_of!((*ops).remote_ip6[2])),
            read_volatile(addr_of!((*ops).remote_ip6[3])),
        ])
    }
}

#[inline(always)]
fn local6(ops: *mut bpf_sock_ops) -> V6 {
    // SAFETY: `ops` is the program's context; the verifier wants whole words.
    unsafe {
        V6([
            read_volatile(addr_of!((*ops).local_ip6[0])),
            read_volatile(addr_of!((*ops).local_ip6[1])),
            read_volatile(addr_of!((*ops).local_ip6[2])),
            read_volatile(addr_of!((*ops).local_ip6[3])),
        ])
    }
}
