//! The packets that both sides get to see.

use lab::packet::pieces::split;
use lab::packet::stage::*;
use lab::packet::{Error, Frame, Kin, Transport};
use proxy_common::layout::{Flow, FlowKey, names::program, protocol};
use proxy_common::rules::headers::tcp;

use crate::Difference;
use crate::tables::frontends;

const PROGRAMS: [&str; 4] = [
    program::FROM_POD,
    program::TO_POD,
    program::FROM_NETWORK,
    program::TO_NETWORK,
];

/// A packet and the place where it is seen.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) name: &'static str,
    pub(crate) frame: Frame,
    /// Of a datagram in pieces: its identification, and which piece it is.
    pub(crate) piece: Option<(u16, usize)>,
    /// Of an ICMP error: the error, which quotes the frame.
    pub(crate) error: Option<Error>,
    pub(crate) turns_back: bool,
}

impl Sent {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        if let Some(error) = &self.error {
            return error.bytes();
        }
        match self.piece {
            None => self.frame.bytes(),
            Some((id, index)) => split(&self.frame, 24, id)[index].clone(),
        }
    }
}

impl<A: Kin> Difference<A> {
    /// A call from somewhere, or a packet of a flow that there is, in either direction.
    pub(crate) fn packet(&mut self) -> Sent {
        let entries: Vec<_> = self
            .stage
            .host
            .flows
            .borrow()
            .iter()
            .map(|(key, flow)| (key.1, *flow))
            .collect();
        let dice = &mut self.dice;
        let (source, destination, ip_protocol, expected) = if !entries.is_empty() && !dice.one_in(3) {
            let mut sorted = entries;
            sorted.sort_by_key(|(key, flow)| (key.tag(), flow.meta.0));
            let (key, flow): (FlowKey<A>, Flow<A>) = dice.pick(&sorted);
            let source = (key.source, key.source_port.number());
            let destination = (key.destination, key.destination_port.number());
            (source, destination, key.protocol, flow.expected_acknowledgement)
        } else {
            let sources = [pod(), local(1), client(), A::of(1, 0x21), remote(1), node()];
            let source = (
                dice.pick(&sources),
                dice.pick(&[40_000, SNAT.0, SNAT.0 + 1, TARGET]),
            );
            let strangers = [
                (client(), 80),
                (remote(1), TARGET),
                (cluster_ip(), 81),
                (balancer(), 81),
                (A::of(0x60, 9), 80),
                (client(), NODE_PORT),
            ];
            let destination = if dice.one_in(6) {
                dice.pick(&strangers)
            } else {
                dice.pick(&frontends())
            };
            (source, destination, dice.pick(&PROTOCOLS), 0)
        };
        let mut frame = if ip_protocol != protocol::UDP {
            let flags = [
                tcp::SYN,
                tcp::SYN,
                tcp::SYN | tcp::ACK,
                tcp::ACK,
                tcp::ACK,
                tcp::ACK | tcp::FIN,
                tcp::RST,
            ];
            let acknowledgement =
                expected.wrapping_add(dice.pick(&[0, 0, 1, 0_u32.wrapping_sub(1), 1 << 20]));
            let flags = dice.pick(&flags);
            let frame = if ip_protocol == protocol::TCP {
                Frame::tcp(source, destination, flags)
            } else {
                Frame::init(source, destination)
            };
            Frame {
                payload: vec![7; dice.pick(&[0, 0, 1, 100])],
                ..frame.numbered(flags, 7000, acknowledgement)
            }
        } else {
            Frame {
                transport: Transport::Udp(source.0.mapped().is_ipv6() || !dice.one_in(8)),
                payload: vec![7; dice.pick(&[0, 1, 100])],
                ..Frame::udp(source, destination)
            }
        };
        frame.hop_limit = dice.pick(&[64, 64, 64, 2, 1]);
        let piece = dice.one_in(8).then(|| (dice.below(3) as u16, dice.below(2)));
        if piece.is_some() {
            frame.payload = vec![7; 100];
        } else {
            frame.options = dice.pick(&[0, 0, 0, 2]);
        }
        Sent {
            name: dice.pick(&PROGRAMS),
            frame,
            piece,
            error: None,
            turns_back: dice.one_in(3),
        }
    }

    /// An ICMP error about a packet of a flow that there is, as it was passed on, or about one of nobody.
    pub(crate) fn error(&mut self) -> Option<Sent> {
        let mut entries: Vec<_> = self
            .stage
            .host
            .flows
            .borrow()
            .iter()
            .map(|(key, flow)| (key.1, *flow))
            .collect();
        if entries.is_empty() {
            return None;
        }
        entries.sort_by_key(|(key, flow)| (key.tag(), flow.meta.0));
        let dice = &mut self.dice;
        let (key, flow): (FlowKey<A>, Flow<A>) = dice.pick(&entries);
        let strange = u16::from(dice.one_in(10));
        let source = (flow.source, flow.source_port.number() ^ strange);
        let destination = (flow.destination, flow.destination_port.number());
        let frame = match key.protocol {
            protocol::TCP => Frame::tcp(source, destination, tcp::ACK),
            protocol::UDP => Frame::udp(source, destination),
            _ => Frame::init(source, destination),
        };
        let frame = Frame {
            hop_limit: 9,
            options: dice.pick(&[0, 0, 2]),
            ..frame
        };
        let mut quoted = frame.bytes()[14..].to_vec();
        quoted.truncate(dice.pick(&[1000, 1000, 68, 48, 28, 21]));
        let error = Error {
            link: frame.link,
            source: dice
                .pick(&[flow.destination, flow.destination, A::of(1, 9)])
                .into(),
            destination: if dice.one_in(4) {
                dice.pick(&[client(), cluster_ip(), balancer::<A>(), A::of(0x60, 9), node()])
                    .into()
            } else {
                flow.source.into()
            },
            hop_limit: dice.pick(&[64, 64, 64, 2, 1]),
            options: dice.pick(&[0, 0, 0, 2]),
            kind: (dice.pick(&[1, 2, 3, 4, 11, 12, 0, 8, 128, 128]), 1),
            word: 1400,
            quoted,
        };
        Some(Sent {
            name: dice.pick(&PROGRAMS),
            frame,
            piece: None,
            error: Some(error),
            turns_back: dice.one_in(3),
        })
    }
}
