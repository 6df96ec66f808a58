//! What SCTP says of an association's life (RFC 9260), in TCP's words.
//!
//! A packet is known by its first chunk, which is the only one in INIT, INIT ACK and SHUTDOWN COMPLETE, and in practice in
//! ABORT. So the rules for connections hold for associations:
//!
//! ```text
//! INIT                        SYN        opens a flow
//! INIT ACK                    SYN, ACK   asks the client for a tag
//! any other, with that tag    ACK        proves the client: the tag is a random number of 32 bits
//! SHUTDOWN, SHUTDOWN ACK      FIN, ACK   the sender has no more data
//! ABORT, SHUTDOWN COMPLETE    RST        the association is over
//! ```
//!
//! As with TCP an end only shortens the flow's life, and what shows that the association goes on takes it back.

use crate::rules::headers::tcp;

/// Opens an association.
pub const INIT: u8 = 1;
/// Answers INIT, with the tag that the client's packets carry from then on.
pub const INIT_ACK: u8 = 2;
/// Ends the association at once.
pub const ABORT: u8 = 6;
/// No more data from the sender.
pub const SHUTDOWN: u8 = 7;
/// Nor from the other side.
pub const SHUTDOWN_ACK: u8 = 8;
/// Something was wrong with a packet.
pub const ERROR: u8 = 9;
/// Answers SHUTDOWN ACK: the association is over.
pub const SHUTDOWN_COMPLETE: u8 = 14;

/// The [`tcp`] flags of a packet with this first chunk, and whether it shows that the association goes on.
#[inline(always)]
pub const fn in_tcp_words(chunk: u8) -> (u8, bool) {
    match chunk {
        INIT => (tcp::SYN, false),
        INIT_ACK => (tcp::SYN | tcp::ACK, false),
        SHUTDOWN | SHUTDOWN_ACK => (tcp::FIN | tcp::ACK, false),
        ABORT | SHUTDOWN_COMPLETE => (tcp::RST, false),
        ERROR => (tcp::ACK, false),
        _ => (tcp::ACK, true),
    }
}

#[cfg(test)]
mod tests;
