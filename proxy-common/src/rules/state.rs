//! How a packet changes its flow's state.

use crate::layout::{Addr, Direction, protocol, state};
use crate::rules::Headers;
use crate::rules::headers::tcp;

/// The state after a packet. Promotion ([`state::ESTABLISHED`]) is decided elsewhere.
///
/// RST and FIN only shorten a life: later data takes them back (a forged RST must not cut a connection).
#[inline(always)]
pub(crate) fn after<A: Addr>(bits: u8, direction: Direction, packet: &Headers<A>) -> u8 {
    if packet.protocol == protocol::UDP {
        return match direction {
            Direction::Forward => bits,
            Direction::Reverse => bits | state::REPLIED,
        };
    }
    let mut bits = bits;
    let fin = match direction {
        Direction::Forward => state::FIN_FORWARD,
        Direction::Reverse => state::FIN_REVERSE,
    };
    if packet.tcp_flags & tcp::FIN != 0 {
        bits |= fin;
    } else if packet.has_payload {
        bits &= !fin;
    }
    if packet.tcp_flags & tcp::RST != 0 {
        bits |= state::RESET;
    } else if packet.has_payload {
        bits &= !state::RESET;
    }
    if matches!(direction, Direction::Reverse) && packet.answers() {
        // From here on the client has to prove itself.
        bits = bits & !state::JOINED | state::REPLIED;
    }
    bits
}

/// Whether the connection is over, so that a SYN or an INIT starts a new one.
#[inline(always)]
pub(crate) const fn is_closing(bits: u8) -> bool {
    const BOTH_FINS: u8 = state::FIN_FORWARD | state::FIN_REVERSE;
    bits & state::RESET != 0 || bits & BOTH_FINS == BOTH_FINS
}

/// [`after`] a packet from the client of a flow that it may not have proven yet.
#[inline(always)]
pub(crate) fn after_call<A: Addr>(before: u8, packet: &Headers<A>) -> u8 {
    let bits = after(before, Direction::Forward, packet);
    if packet.protocol != protocol::TCP || before & (state::ESTABLISHED | state::JOINED) != 0 {
        return bits;
    }
    if packet.tcp_flags & tcp::RST != 0 {
        return bits | state::FIN_FORWARD;
    }
    if packet.opens() && is_refused(before) {
        return 0;
    }
    bits
}

/// Whether the last that a client did was to reset what answered its SYN: a backend that still knows an old connection of the
/// tuple answers for that one, the client resets it, and sends its SYN again (RFC 9293, section 3.5.1). By another source port that would meet the
/// next of the backend's memories; by the same one it meets what was just forgotten.
#[inline(always)]
pub(crate) const fn is_refused(bits: u8) -> bool {
    const REFUSED: u8 = state::RESET | state::FIN_FORWARD;
    bits & (REFUSED | state::FIN_REVERSE | state::ESTABLISHED | state::JOINED) == REFUSED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::V4;

    fn segment(flags: u8, has_payload: bool) -> Headers<V4> {
        Headers {
            protocol: protocol::TCP,
            tcp_flags: flags,
            has_payload,
            ..Headers::default()
        }
    }

    #[test]
    fn a_reset_shortens_a_life_and_data_restores_it() {
        let bits = state::REPLIED | state::ESTABLISHED;
        let reset = after(bits, Direction::Forward, &segment(tcp::RST, false));
        assert!(is_closing(reset));
        assert_eq!(after(reset, Direction::Reverse, &segment(tcp::ACK, false)), reset);
        assert_eq!(after(reset, Direction::Reverse, &segment(tcp::ACK, true)), bits);
    }

    #[test]
    fn both_fins_close_and_one_does_not() {
        let one = after(
            state::ESTABLISHED,
            Direction::Forward,
            &segment(tcp::FIN | tcp::ACK, false),
        );
        assert!(!is_closing(one));
        let data = after(one, Direction::Reverse, &segment(tcp::ACK, true));
        assert_eq!(data, one, "the other side may go on sending");
        assert!(is_closing(after(
            one,
            Direction::Reverse,
            &segment(tcp::FIN | tcp::ACK, true)
        )));
    }

    #[test]
    fn a_client_that_resets_the_answer_to_its_syn_may_send_that_again() {
        let (reset, syn) = (segment(tcp::RST, false), segment(tcp::SYN, false));
        for before in [0, state::REPLIED] {
            let refused = after_call(before, &reset);
            assert!(is_refused(refused) && is_closing(refused));
            assert_eq!(after_call(refused, &syn), 0);
        }
        // A backend's refusal, or a connection that was proven, is another matter.
        assert!(!is_refused(after(0, Direction::Reverse, &reset)));
        assert!(!is_refused(after_call(
            state::REPLIED | state::ESTABLISHED,
            &reset
        )));
        assert!(!is_refused(after_call(state::JOINED, &reset)));
    }

    #[test]
    fn a_reply_is_a_syn_ack_or_a_datagram() {
        assert_eq!(
            after(0, Direction::Reverse, &segment(tcp::SYN | tcp::ACK, false)),
            state::REPLIED
        );
        assert_eq!(after(0, Direction::Reverse, &segment(tcp::ACK, true)), 0);
        let datagram = Headers::<V4> {
            protocol: protocol::UDP,
            ..Headers::default()
        };
        assert_eq!(after(0, Direction::Forward, &datagram), 0);
        assert_eq!(after(0, Direction::Reverse, &datagram), state::REPLIED);
    }
}
