//! What is asked: who calls whom.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use proxy_common::layout::{Family, protocol};

use crate::plan::protocol_name;

/// A call that somebody may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who calls.
    pub from: IpAddr,
    /// Whom.
    pub to: SocketAddr,
    /// IP protocol number.
    pub protocol: u8,
}

/// Why a question can't be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// The source is no address.
    #[error("--from `{0}` is no IP address: give the caller's own, such as 10.1.0.5 or fd00::5")]
    From(String),
    /// The source is an address that no packet comes from.
    #[error("--from {0} is nobody's own address: give the caller's, such as 10.1.0.5 or fd00::5")]
    NobodysSource(IpAddr),
    /// The destination is no address with a port.
    #[error(
        "--to `{0}` is no address with a port: give ADDRESS:PORT/PROTOCOL, such as 10.96.0.10:53/UDP or [fd00::1]:80/TCP"
    )]
    To(String),
    /// An IPv6 address without brackets.
    #[error("--to `{0}`: an IPv6 address stands in brackets, such as [fd00::1]:80/TCP")]
    Brackets(String),
    /// No Service has port 0.
    #[error("--to `{0}`: the port is a number from 1 to 65535")]
    Port(String),
    /// Services know three protocols.
    #[error("--to `{0}`: `{1}` is no protocol of a Service: give TCP, UDP or SCTP")]
    Protocol(String, String),
    /// Two families.
    #[error(
        "--from {from} and --to {to} are of two IP families: a call has one; give both as IPv4 or both as IPv6"
    )]
    Families {
        /// The source.
        from: IpAddr,
        /// The destination.
        to: IpAddr,
    },
}

impl Question {
    /// From the two arguments: an address, and `ADDRESS:PORT/PROTOCOL`, the protocol in any case and TCP where none
    /// is given.
    pub fn parse(from: &str, to: &str) -> Result<Self, QuestionError> {
        let source: IpAddr = from.parse().map_err(|_| QuestionError::From(from.to_owned()))?;
        let source = source.to_canonical();
        if source.is_unspecified() || source.is_multicast() {
            return Err(QuestionError::NobodysSource(source));
        }
        let (address, protocol) = match to.rsplit_once('/') {
            Some((address, name)) => (address, protocol_number(to, name)?),
            None => (to, protocol::TCP),
        };
        let destination = destination(to, address)?;
        if source.is_ipv4() != destination.is_ipv4() {
            return Err(QuestionError::Families {
                from: source,
                to: destination.ip(),
            });
        }
        Ok(Self {
            from: source,
            to: destination,
            protocol,
        })
    }

    /// The family of both addresses.
    pub fn family(&self) -> Family {
        if self.to.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}/{}", self.from, self.to, protocol_name(self.protocol))
    }
}

fn protocol_number(whole: &str, name: &str) -> Result<u8, QuestionError> {
    match &*name.to_ascii_uppercase() {
        "TCP" => Ok(protocol::TCP),
        "UDP" => Ok(protocol::UDP),
        "SCTP" => Ok(protocol::SCTP),
        _ => Err(QuestionError::Protocol(whole.to_owned(), name.to_owned())),
    }
}

fn destination(whole: &str, text: &str) -> Result<SocketAddr, QuestionError> {
    let wrong = || QuestionError::To(whole.to_owned());
    let (address, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let is_bracketed = address.starts_with('[') && address.ends_with(']');
    if address.contains(':') && !is_bracketed {
        return Err(QuestionError::Brackets(whole.to_owned()));
    }
    let inner = address.trim_start_matches('[').trim_end_matches(']');
    let address: IpAddr = inner.parse().map_err(|_| wrong())?;
    let is_plain = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| is_plain && *port != 0);
    let port = port.ok_or_else(|| QuestionError::Port(whole.to_owned()))?;
    Ok(SocketAddr::new(address.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_in_both_families_and_any_case() {
        for (from, to, text) in [
            ("10.1.0.5", "10.96.0.1:80/TCP", "10.1.0.5 -> 10.96.0.1:80/TCP"),
            ("10.1.0.5", "10.96.0.1:53/uDp", "10.1.0.5 -> 10.96.0.1:53/UDP"),
            ("10.1.0.5", "10.96.0.1:9", "10.1.0.5 -> 10.96.0.1:9/TCP"),
            ("fd00::5", "[fd00::1]:80/sctp", "fd00::5 -> [fd00::1]:80/SCTP"),
            (
                "::ffff:10.1.0.5",
                "[::ffff:10.96.0.1]:80",
                "10.1.0.5 -> 10.96.0.1:80/TCP",
            ),
        ] {
            assert_eq!(Question::parse(from, to).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_question_is_named_with_the_way_out() {
        for (from, to, part) in [
            ("pod-a", "10.96.0.1:80", "--from `pod-a` is no IP address"),
            ("0.0.0.0", "10.96.0.1:80", "nobody's own address"),
            ("224.0.0.1", "10.96.0.1:80", "nobody's own address"),
            (
                "10.1.0.5",
                "10.96.0.1",
                "--to `10.96.0.1` is no address with a port",
            ),
            ("10.1.0.5", "web:80", "--to `web:80` is no address with a port"),
            ("fd00::5", "fd00::1:80", "in brackets"),
            ("10.1.0.5", "10.96.0.1:0", "from 1 to 65535"),
            ("10.1.0.5", "10.96.0.1:65536", "from 1 to 65535"),
            ("10.1.0.5", "10.96.0.1:+80", "from 1 to 65535"),
            ("10.1.0.5", "10.96.0.1:80/ICMP", "`ICMP` is no protocol"),
            ("10.1.0.5", "10.96.0.1:80/", "`` is no protocol"),
            ("10.1.0.5", "[fd00::1]:80", "two IP families"),
            ("fd00::5", "10.96.0.1:80", "two IP families"),
        ] {
            let error = Question::parse(from, to).unwrap_err().to_string();
            assert!(error.contains(part), "{from} {to}: {error}");
        }
    }
}
