//! The packet that would open a conversation, byte for byte as the rules read it.

use std::net::IpAddr;

use proxy_common::layout::protocol;
use proxy_common::rules::headers::tcp;

use super::Question;

/// The source port of the packet: any, as the rules do not choose by it.
const SOURCE_PORT: u16 = 33_333;

/// A SYN, a datagram or an INIT from the caller to the destination.
pub(super) fn opening(question: &Question) -> Vec<u8> {
    let mut transport = [SOURCE_PORT.to_be_bytes(), question.to.port().to_be_bytes()].concat();
    match question.protocol {
        protocol::TCP => {
            transport.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, tcp::SYN, 0xff, 0xff, 0, 0, 0, 0]);
        }
        protocol::UDP => transport.extend([0, 12, 0, 0, 0, 0, 0, 0]),
        _ => {
            // Verification tag 0, checksum; a chunk INIT of 20 bytes: tag, window, one stream each way, first number.
            transport.extend([0; 8]);
            transport.extend([1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
        }
    }
    [header(question, transport.len() as u16), transport].concat()
}

fn header(question: &Question, length: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    match (question.from, question.to.ip()) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            bytes.extend([0x60, 0, 0, 0]);
            bytes.extend(length.to_be_bytes());
            bytes.extend([question.protocol, 64]);
            bytes.extend(from.octets());
            bytes.extend(to.octets());
        }
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            bytes.extend([0x45, 0]);
            bytes.extend((20 + length).to_be_bytes());
            bytes.extend([0, 0, 0, 0, 64, question.protocol, 0, 0]);
            bytes.extend(from.octets());
            bytes.extend(to.octets());
        }
        // A question has one family.
        _ => {}
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy_common::layout::{V4, V6};
    use proxy_common::rules::Headers;
    use proxy_common::rules::headers::{Parsed, Readable};

    fn read<A: Readable>(from: &str, to: &str) -> (Parsed, Headers<A>) {
        let question = Question::parse(from, to).unwrap();
        let mut headers = Headers::default();
        let parsed = A::parse(&&*opening(&question), &mut headers);
        (parsed, headers)
    }

    #[test]
    fn the_rules_read_what_was_asked() {
        for name in ["TCP", "UDP", "SCTP"] {
            let (parsed, four) = read::<V4>("10.1.0.5", &format!("10.96.0.1:80/{name}"));
            assert_eq!(parsed, Parsed::Transport);
            assert_eq!(four.source, V4::new([10, 1, 0, 5]));
            assert_eq!(
                (four.destination, four.destination_port.number()),
                (V4::new([10, 96, 0, 1]), 80)
            );
            assert_eq!(four.opens(), name != "UDP");
            let (parsed, six) = read::<V6>("fd00::5", &format!("[fd00::1]:81/{name}"));
            assert_eq!(parsed, Parsed::Transport);
            assert_eq!(six.destination_port.number(), 81);
        }
    }
}
