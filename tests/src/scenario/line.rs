//! One call and what becomes of it: `FROM -> TO:PORT/PROTOCOL = VERDICT [BACKENDS] [SOURCE] [affinity]`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// A call and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Who calls.
    pub from: IpAddr,
    /// Whom.
    pub to: SocketAddr,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// `forward BACKEND,... SOURCE [affinity]`, `reject`, `drop` or `not-a-service`.
    pub answer: String,
}

/// Why a line is no call.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no call: write 10.1.0.9 -> 10.96.0.1:80/TCP = forward 10.4.0.1:8080 kept")]
pub struct LineError(String);

impl FromStr for Line {
    type Err = LineError;

    fn from_str(text: &str) -> Result<Self, LineError> {
        let wrong = || LineError(text.to_owned());
        let (call, answer) = text.split_once('=').ok_or_else(wrong)?;
        let (from, to) = call.split_once("->").ok_or_else(wrong)?;
        let (to, protocol) = to.trim().rsplit_once('/').ok_or_else(wrong)?;
        Ok(Self {
            from: from.trim().parse().map_err(|_| wrong())?,
            to: to.parse().map_err(|_| wrong())?,
            protocol: protocol.to_owned(),
            answer: answer.trim().to_owned(),
        })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            to,
            protocol,
            answer,
        } = self;
        write!(f, "{from} -> {to}/{protocol} = {answer}")
    }
}
