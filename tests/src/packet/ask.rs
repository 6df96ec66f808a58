//! What the programs do with a new flow, asked so often that every backend comes up.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use proxy_common::layout::{Counter, Port, names::program, protocol};

use super::bits::Bits;
use super::stage::Stage;
use super::{Context, Frame, Kin, Output, PASS, REDIRECT, SHOT};

/// Who opens the flow: where its packets are seen first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opener {
    /// A socket of the host's namespace.
    Host,
    /// A pod of this node.
    Pod,
    /// Anyone else, by the uplink.
    Outside,
}

/// What became of the flow, time after time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// It went on as it came.
    pub passed: usize,
    /// Its sender heard that nobody is there.
    pub rejected: usize,
    /// It was lost.
    pub dropped: usize,
    /// The backends that it got, and whether they see another source than the sender.
    pub forwarded: BTreeMap<SocketAddr, bool>,
}

/// How often a flow is opened. With at most four backends, that one of them never comes up is one case in 10^7.
const TIMES: u16 = 64;

/// Opens a flow again and again, each time from another port, on a stage whose tables are installed. Calls of the host go
/// by the rule of socket LB, which `sockets` has.
pub fn ask<A: Kin>(
    stage: &mut Stage<A>,
    sockets: &Stage<A>,
    opener: Opener,
    from: A,
    to: (A, u16),
    ip_protocol: u8,
) -> Outcomes {
    let mut outcomes = Outcomes::default();
    stage.kernel.forget_flows();
    // As many refusals as a CPU sends at once.
    stage.kernel.set_error_limit(0);
    for time in 0..TIMES {
        if opener == Opener::Host && call(sockets, to, ip_protocol, &mut outcomes) {
            continue;
        }
        let source = (from.mapped(), 20_000 + time);
        let to = (to.0.mapped(), to.1);
        let frame = match ip_protocol {
            protocol::TCP => Frame::syn(source, to),
            _ => Frame::udp(source, to),
        };
        send(stage, opener, &frame, &mut outcomes);
    }
    outcomes
}

/// The choice at the system call; whether there was one.
fn call<A: Kin>(
    sockets: &Stage<A>,
    (address, port): (A, u16),
    ip_protocol: u8,
    outcomes: &mut Outcomes,
) -> bool {
    let host = sockets.host.config.host_netns_cookie;
    let is_loopback = address.mapped().is_loopback();
    let (kind, value) = sockets.call(host, address, port, ip_protocol, is_loopback);
    match kind {
        0 => return false,
        1 if value == Counter::NoEndpoint as u32 => outcomes.rejected += 1,
        1 => outcomes.dropped += 1,
        _ => {
            let backends = &sockets.host.backends;
            let backend = &backends[&proxy_common::layout::BackendId(value)];
            let address = A::from_mapped(backend.address).mapped();
            let backend = SocketAddr::new(address, backend.port.number());
            outcomes.forwarded.insert(backend, false);
        }
    }
    true
}

fn send<A: Kin>(stage: &mut Stage<A>, opener: Opener, frame: &Frame, outcomes: &mut Outcomes) {
    let name = match opener {
        Opener::Host => program::TO_NETWORK,
        Opener::Pod => program::FROM_POD,
        Opener::Outside => program::FROM_NETWORK,
    };
    let mut output = stage.run(name, &frame.bytes());
    let destination = A::from_mapped(frame.destination.ip().into());
    if output.verdict == PASS && opener != Opener::Host && !stage.host.node_addresses.contains(&destination) {
        output = leave(stage, opener, output);
    }
    match output.verdict {
        SHOT => outcomes.dropped += 1,
        PASS | REDIRECT if is_refusal(&output.packet) => outcomes.rejected += 1,
        PASS | REDIRECT => {
            let sent = Frame::read(&output.packet);
            if sent.destination == frame.destination {
                outcomes.passed += 1;
            } else {
                let is_masqueraded = sent.source != frame.source;
                outcomes.forwarded.insert(sent.destination, is_masqueraded);
            }
        }
        other => panic!("{name} gave {other} for {frame:?}"),
    }
}

/// What has passed untouched leaves by the uplink, which may be the one that it came in by.
fn leave<A: Kin>(stage: &Stage<A>, opener: Opener, output: Output) -> Output {
    let interface = stage.interface(program::TO_NETWORK);
    let context = Context {
        interface,
        came_in_by: if opener == Opener::Outside { interface } else { 0 },
        ..Context::default()
    };
    let left = stage.run_in(program::TO_NETWORK, &output.packet, context);
    // Replies of backends are translated there, and this is none.
    if left.verdict == PASS { output } else { left }
}

/// An ICMP error, or a reset.
fn is_refusal(bytes: &[u8]) -> bool {
    let headers = PacketHeaders::from_ethernet_slice(bytes).expect("a whole packet");
    assert!(
        matches!(headers.net, Some(NetHeaders::Ipv4(..) | NetHeaders::Ipv6(..))),
        "{headers:?}"
    );
    match headers.transport {
        Some(TransportHeader::Icmpv4(_) | TransportHeader::Icmpv6(_)) => true,
        Some(TransportHeader::Tcp(header)) => header.rst,
        _ => false,
    }
}

impl<A: Kin> Stage<A> {
    /// Asks the rule of socket LB, in the object for tests: (0, 0) if the call goes on as it is, (1, counter) if it is
    /// refused, (2, id) if a backend takes the destination's place.
    pub fn call(
        &self,
        netns_cookie: u64,
        address: A,
        port: u16,
        ip_protocol: u8,
        is_loopback: bool,
    ) -> (u32, u32) {
        let mut bytes = vec![0; 14];
        netns_cookie.put(&mut bytes);
        address.to_mapped().put(&mut bytes);
        Port::new(port).put(&mut bytes);
        bytes.extend([ip_protocol, u8::from(is_loopback)]);
        [0_u32; 3].put(&mut bytes);
        let output = self.ask(["socket_choice4", "socket_choice6"], &bytes);
        let mut answer = &output[14 + 28..];
        (Bits::take(&mut answer), Bits::take(&mut answer))
    }

    /// Has the kernel learn of a connection of a network namespace that goes by packets, in the object for tests.
    pub fn learn(&self, netns_cookie: u64, source: A, destination: A, port: u16) {
        let mut bytes = vec![0; 14];
        netns_cookie.put(&mut bytes);
        source.to_mapped().put(&mut bytes);
        destination.to_mapped().put(&mut bytes);
        Port::new(port).put(&mut bytes);
        [0_u16; 3].put(&mut bytes);
        self.ask(["namespace4", "namespace6"], &bytes);
    }

    /// Runs the family's one of two programs of the object for tests.
    fn ask(&self, [four, six]: [&str; 2], bytes: &[u8]) -> Vec<u8> {
        let name = match A::FAMILY {
            proxy_common::layout::Family::V4 => four,
            proxy_common::layout::Family::V6 => six,
        };
        let output = self.run(name, bytes);
        assert_eq!(output.verdict, 0, "the test program itself");
        output.packet
    }
}
