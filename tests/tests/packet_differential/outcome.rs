//! What the kernel's side must make of a decision of the rules.

use lab::packet::pieces::fix_checksum;
use lab::packet::stage::*;
use lab::packet::{Error, Frame, Kin, Output, PASS, REDIRECT, SHOT};
use proxy_common::layout::{Action, Counter, Port, names::program, protocol};
use proxy_common::rules::headers::{Fragment, Parsed, echo, tcp};
use proxy_common::rules::quote::Said;
use proxy_common::rules::{Decision, Headers, Work};

use crate::sent::Sent;

/// Source, destination, and their ports.
pub(crate) type Tuple<A> = (A, A, Port, Port);

/// What the packet behind a program says: a whole packet as a frame, any by its tuple, an ICMP error.
pub(crate) type Shown<A> = (Option<Frame>, Option<Tuple<A>>, Option<Error>);

/// What the packet behind the program says, as far as it can be compared.
pub(crate) fn shown<A: Kin>(sent: &Sent, output: &Output) -> Shown<A> {
    if output.verdict == SHOT {
        return (None, None, None);
    }
    if sent.error.is_some() {
        return (None, None, Some(Error::read(&output.packet)));
    }
    let mut headers = Headers::<A>::default();
    let parsed = A::parse(&&output.packet[14..], &mut headers);
    if parsed != Parsed::Transport {
        return (None, None, None);
    }
    let tuple = (
        headers.source,
        headers.destination,
        headers.source_port,
        headers.destination_port,
    );
    let is_whole = sent.piece.is_none() && headers.fragment == Fragment::Whole;
    (is_whole.then(|| Frame::read(&output.packet)), Some(tuple), None)
}

/// An error that quotes a frame, with other addresses and ports.
fn rewritten<A: Kin>(error: &Error, said: &Said<A>, options: u8) -> Error {
    let mut quoted = error.quoted.clone();
    let (addresses, ports) = (said.addresses, said.ports);
    let [source, destination] = [addresses.0, addresses.1].map(|address| match address.mapped() {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    });
    let both = [source, destination].concat();
    let (start, transport) = if error.source.is_ipv4() {
        (12, 20 + 4 * usize::from(options))
    } else {
        (8, 40 + 8 * usize::from(options))
    };
    quoted[start..start + both.len()].copy_from_slice(&both);
    quoted[transport..transport + 2].copy_from_slice(&ports.0.number().to_be_bytes());
    quoted[transport + 2..transport + 4].copy_from_slice(&ports.1.number().to_be_bytes());
    if error.source.is_ipv4() {
        let mut header = quoted[..20 + 4 * usize::from(options)].to_vec();
        fix_checksum(&mut header);
        quoted[10..12].copy_from_slice(&header[10..12]);
    }
    Error {
        source: said.outer.0.mapped(),
        destination: said.outer.1.mapped(),
        quoted,
        ..error.clone()
    }
}

/// What becomes of an ICMP error.
fn relayed<A: Kin>(
    sent: &Sent,
    error: &Error,
    action: Action,
    work: &Work<A>,
    count: &mut impl FnMut(Counter),
) -> (i32, Shown<A>) {
    let said = work.error_after();
    let is_around = action != Action::Stack;
    if is_around && error.hop_limit <= 1 {
        count(Counter::HopLimit);
        return (SHOT, (None, None, None));
    }
    if action == Action::Redirect && !is_routed(said.outer.1) {
        count(Counter::NoRoute);
        return (SHOT, (None, None, None));
    }
    let mut shown = rewritten(error, &said, sent.frame.options);
    if is_around {
        shown.hop_limit -= 1;
    }
    if action == Action::Hairpin {
        shown.link.reverse();
    }
    let verdict = if is_around { REDIRECT } else { PASS };
    (verdict, (None, None, Some(shown)))
}

/// What the kernel's side must make of a decision.
pub(crate) fn outcome<A: Kin>(
    sent: &Sent,
    decision: Decision,
    work: &Work<A>,
    counters: &mut [u64],
) -> (i32, Shown<A>) {
    let is_egress = sent.name.starts_with("to_");
    let is_whole = sent.piece.is_none();
    let mut count = |counter: Counter| counters[counter as usize] += 1;
    let output = |bytes: Vec<u8>| Output {
        mark: 0,
        verdict: PASS,
        packet: bytes,
    };
    match decision {
        Decision::TranslateError(action) => match &sent.error {
            Some(error) => relayed(sent, error, action, work, &mut count),
            None => panic!("{sent:?} was taken for an ICMP error"),
        },
        Decision::AnswerEcho => {
            let Some(request) = &sent.error else {
                panic!("{sent:?} was taken for an echo request");
            };
            let reply = Error {
                link: [request.link[1], request.link[0]],
                source: request.destination,
                destination: request.source,
                hop_limit: 64,
                kind: (echo::reply(A::FAMILY), request.kind.1),
                ..request.clone()
            };
            (REDIRECT, (None, None, Some(reply)))
        }
        Decision::Drop(counter) => {
            count(counter);
            (SHOT, (None, None, None))
        }
        Decision::Reject(counter) => {
            count(counter);
            let is_reset = work.packet.tcp_flags & tcp::RST != 0 && work.packet.protocol == protocol::TCP;
            if work.packet.fragment == Fragment::Later || is_reset || sent.name == program::TO_POD {
                return (SHOT, (None, None, None));
            }
            count(Counter::ErrorSent);
            // The bytes of answers are compared in packet_refused.
            (REDIRECT, (None, None, None))
        }
        Decision::Translate(action) if !is_egress || action == Action::Stack => {
            let is_around = action != Action::Stack;
            if is_around && sent.frame.hop_limit <= 1 {
                count(Counter::HopLimit);
                count(Counter::ErrorSent);
                return (REDIRECT, (None, None, None));
            }
            let flow = &work.flow;
            if action == Action::Redirect && !is_routed(&flow.destination) {
                count(Counter::NoRoute);
                return (SHOT, (None, None, None));
            }
            let mut frame = Frame {
                source: (Kin::mapped(&flow.source), flow.source_port.number()).into(),
                destination: (Kin::mapped(&flow.destination), flow.destination_port.number()).into(),
                hop_limit: sent.frame.hop_limit - u8::from(is_around),
                ..sent.frame.clone()
            };
            if action == Action::Hairpin {
                frame.link.reverse();
            }
            let is_later = work.packet.fragment == Fragment::Later;
            let ports = |port| if is_later { Port::new(0) } else { port };
            let tuple = (
                flow.source,
                flow.destination,
                ports(flow.source_port),
                ports(flow.destination_port),
            );
            let verdict = if is_around { REDIRECT } else { PASS };
            (verdict, (is_whole.then_some(frame), Some(tuple), None))
        }
        _ => (PASS, shown(sent, &output(sent.bytes()))),
    }
}

/// Whether the namespace's routes send a packet for this address on.
fn is_routed<A: Kin>(address: &A) -> bool {
    let own = [node(), A::of(6, 1), A::of(4, 1)];
    let routed = [
        client(),
        A::of(1, 0x21),
        pod(),
        local(1),
        local(2),
        remote(1),
        remote(2),
    ];
    assert!(
        own.contains(address) || routed.contains(address) || *address == A::of(9, 1),
        "{address:?}"
    );
    routed.contains(address)
}
