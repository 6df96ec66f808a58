//! Cgroup hooks: socket LB.

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval},
};
use core::ptr::{addr_of, addr_of_mut, read_volatile, write_volatile};
use proxy_common::{
    layout::{
        Addr, Backend, BackendId, Counter, Direction, MappedAddress, Port, SocketKey, SocketValue, V4, V6,
        protocol,
    },
    rules::{
        Directory,
        socket::{self, Choice, Socket},
    },
};

use crate::{
    lru,
    maps::{Maps, SOCKETS},
    node::{Tables, config, count},
};

/// The call goes on.
const ALLOW: i32 = 1;
/// The call fails with what bpf_set_retval said.
const REFUSE: i32 = 0;
const ECONNREFUSED: i32 = 111;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Connect,
    Send,
}

pub(crate) fn connect4(ctx: *mut bpf_sock_addr) -> i32 {
    translate4(ctx, Call::Connect)
}

pub(crate) fn sendmsg4(ctx: *mut bpf_sock_addr) -> i32 {
    translate4(ctx, Call::Send)
}

pub(crate) fn connect6(ctx: *mut bpf_sock_addr) -> i32 {
    translate6(ctx, Call::Connect)
}

pub(crate) fn sendmsg6(ctx: *mut bpf_sock_addr) -> i32 {
    translate6(ctx, Call::Send)
}

#[inline(always)]
fn translate4(ctx: *mut bpf_sock_addr, call: Call) -> i32 {
    let address = read4(ctx);
    match translate(ctx, call, &address) {
        Outcome::Allow => ALLOW,
        Outcome::Refuse => REFUSE,
        Outcome::To(address, port) => {
            write4(ctx, V4::from_mapped(address), port);
            ALLOW
        }
    }
}

#[inline(always)]
fn translate6(ctx: *mut bpf_sock_addr, call: Call) -> i32 {
    let address = read6(ctx);
    if address.is_mapped_v4() {
        let four = address.mapped_v4();
        return match translate(ctx, call, &four) {
            Outcome::Allow => ALLOW,
            Outcome::Refuse => REFUSE,
            Outcome::To(address, port) => {
                write6(ctx, address, port);
                ALLOW
            }
        };
    }
    match translate(ctx, call, &address) {
        Outcome::Allow => ALLOW,
        Outcome::Refuse => REFUSE,
        Outcome::To(address, port) => {
            write6(ctx, address, port);
            ALLOW
        }
    }
}

enum Outcome {
    Allow,
    Refuse,
    To(MappedAddress, Port),
}

#[inline(always)]
fn translate<A: Maps>(ctx: *mut bpf_sock_addr, call: Call, address: &A) -> Outcome {
    let Some(config) = config() else {
        return Outcome::Allow;
    };
    // SAFETY: `ctx` is the program's context.
    let (netns_cookie, cookie, ip_protocol) = unsafe {
        (
            bpf_get_netns_cookie(ctx.cast()),
            bpf_get_socket_cookie(ctx.cast()),
            (*ctx).protocol as u8,
        )
    };
    let socket = Socket {
        netns_cookie,
        protocol: ip_protocol,
    };
    if !socket::serves(config, &socket) {
        return Outcome::Allow;
    }
    let port = read_port(ctx);
    let key = SocketKey {
        cookie,
        address: address.to_mapped(),
        port,
        protocol: ip_protocol,
        direction: Direction::Forward as u8,
        pad: 0,
    };
    if call == Call::Send
        && let Some((address, port)) = kept::<A>(&key)
    {
        return Outcome::To(address, port);
    }
    let is_own = address.is_loopback() || *address == A::UNSPECIFIED;
    match socket::choose(&Tables, config, &socket, address, port, is_own) {
        Choice::Untouched => Outcome::Allow,
        Choice::Refuse(counter) => refuse(call, ip_protocol, counter),
        Choice::Backend(id, backend) => {
            remember(&key, id, &backend, call == Call::Send);
            count(Counter::SocketTranslated as u32);
            Outcome::To(backend.address, backend.port)
        }
    }
}

/// Refuses a call; connect() of a UDP socket never fails, because getaddrinfo sorts addresses by it: its packets are
/// refused on the way.
#[inline(always)]
fn refuse(call: Call, ip_protocol: u8, counter: Counter) -> Outcome {
    if call == Call::Connect && ip_protocol == protocol::UDP {
        return Outcome::Allow;
    }
    count(counter as u32);
    // SAFETY: the helper has no preconditions. What it returns is 0 for an error number in range.
    let _set = unsafe { bpf_set_retval(-ECONNREFUSED) };
    Outcome::Refuse
}

/// The backend that this socket's datagrams to this frontend go to, while it serves.
#[inline(always)]
fn kept<A: Maps>(key: &SocketKey) -> Option<(MappedAddress, Port)> {
    let value = read_socket(key)?;
    let backend = Directory::<A>::backend(&Tables, value.backend)?;
    (backend.life == value.generation).then_some((value.address, value.port))
}

#[inline(always)]
fn read_socket(key: &SocketKey) -> Option<SocketValue> {
    let value = SOCKETS.get_ptr(key)?;
    // SAFETY: map values stay readable while the program runs; the tag tells whether it is still the socket's.
    let value = unsafe { read_volatile(value) };
    (value.tag == key.cookie as u32).then_some(value)
}

/// Notes what was chosen: the way back always, the way there for sockets that name their destination anew each time.
#[inline(always)]
fn remember(key: &SocketKey, id: BackendId, backend: &Backend, keep: bool) {
    let reverse = SocketKey {
        address: backend.address,
        port: backend.port,
        direction: Direction::Reverse as u8,
        ..*key
    };
    let mut value = SocketValue {
        tag: key.cookie as u32,
        backend: id,
        generation: backend.life,
        port: key.port,
        pad: 0,
        address: key.address,
    };
    // An LRU makes room; without the entry the program sees the backend's address.
    let _inserted = lru::insert(&SOCKETS, &reverse, &value, 0);
    if keep {
        value.address = backend.address;
        value.port = backend.port;
        let _inserted = lru::insert(&SOCKETS, key, &value, 0);
    }
}

/// The frontend that stands for this backend in the eyes of the socket.
#[inline(always)]
fn frontend_of(ctx: *mut bpf_sock_addr, address: MappedAddress) -> Option<SocketValue> {
    // SAFETY: `ctx` is the program's context.
    let (cookie, ip_protocol) = unsafe { (bpf_get_socket_cookie(ctx.cast()), (*ctx).protocol as u8) };
    read_socket(&SocketKey {
        cookie,
        address,
        port: read_port(ctx),
        protocol: ip_protocol,
        direction: Direction::Reverse as u8,
        pad: 0,
    })
}

pub(crate) fn show_frontend4(ctx: *mut bpf_sock_addr) -> i32 {
    if let Some(value) = frontend_of(ctx, read4(ctx).to_mapped()) {
        write4(ctx, V4::from_mapped(value.address), value.port);
    }
    ALLOW
}

pub(crate) fn show_frontend6(ctx: *mut bpf_sock_addr) -> i32 {
    if let Some(value) = frontend_of(ctx, read6(ctx)) {
        write6(ctx, value.address, value.port);
    }
    ALLOW
}

#[inline(always)]
fn read4(ctx: *mut bpf_sock_addr) -> V4 {
    // SAFETY: `ctx` is the program's context; the verifier wants whole words.
    V4(unsafe { read_volatile(addr_of!((*ctx).user_ip4)) })
}

#[inline(always)]
fn read6(ctx: *mut bpf_sock_addr) -> V6 {
    // SAFETY: `ctx` is the program's context; the verifier wants whole words.
    unsafe {
        V6([
            read_volatile(addr_of!((*ctx).user_ip6[0])),
            read_volatile(addr_of!((*ctx).user_ip6[1])),
            read_volatile(addr_of!((*ctx).user_ip6[2])),
            read_volatile(addr_of!((*ctx).user_ip6[3])),
        ])
    }
}

/// The context holds the port's two bytes, as on the wire, in the low half of a word.
#[inline(always)]
fn read_port(ctx: *mut bpf_sock_addr) -> Port {
    // SAFETY: `ctx` is the program's context.
    Port::from_wire(unsafe { read_volatile(addr_of!((*ctx).user_port)) } as u16)
}

#[inline(always)]
fn write4(ctx: *mut bpf_sock_addr, address: V4, port: Port) {
    // SAFETY: `ctx` is the program's context; the verifier wants whole words.
    unsafe {
        write_volatile(addr_of_mut!((*ctx).user_ip4), address.0);
        write_volatile(addr_of_mut!((*ctx).user_port), port.wire() as u32);
    }
}

#[inline(always)]
fn write6(ctx: *mut bpf_sock_addr, address: V6, port: Port) {
    // SAFETY: `ctx` is the program's context; the verifier wants whole words.
    unsafe {
        write_volatile(addr_of_mut!((*ctx).user_ip6[0]), address.0[0]);
        write_volatile(addr_of_mut!((*ctx).user_ip6[1]), address.0[1]);
        write_volatile(addr_of_mut!((*ctx).user_ip6[2]), address.0[2]);
        write_volatile(addr_of_mut!((*ctx).user_ip6[3]), address.0[3]);
        write_volatile(addr_of_mut!((*ctx).user_port), port.wire() as u32);
    }
}
