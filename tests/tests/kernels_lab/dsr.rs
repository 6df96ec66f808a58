//! DSR by IP in IP, IPv4 and IPv6, in the agents' own programs.

use anyhow::{Result, ensure};
use lab::Lab;
use lab::address::{self, Family};
use lab::manifest::Service;

use crate::{CALLS, TRANSPORTS, call, node_port, service};

/// Of no other Service.
const NUMBER: u8 = 5;

/// The client calls the first node, and the second answers it.
pub(crate) fn the_backends_node_answers(lab: &Lab) -> Result<()> {
    lab.apply(&Service {
        annotations: vec![("shunt.dev/forwarding", "dsr")],
        ..service(lab, "handed-on", NUMBER, &["far"])
    })?;
    for family in Family::BOTH {
        let to = address::node(1).at(family, node_port(NUMBER));
        for transport in TRANSPORTS {
            let counted = || -> Result<[u64; 2]> {
                Ok([
                    lab.agent(1).counter("encapsulated")?,
                    lab.agent(2).counter("decapsulated")?,
                ])
            };
            let before = counted()?;
            let outcomes = call(&lab.client, transport, to, 1)?;
            for answer in outcomes.answers() {
                let own = address::CLIENT.of(family);
                ensure!(
                    answer.peer.ip() == own,
                    "{transport} to {to}: the backend saw {}, not {own}",
                    answer.peer
                );
                ensure!(
                    answer.from == to,
                    "{transport} to {to}: answered from {}",
                    answer.from
                );
            }
            let after = counted()?;
            ensure!(
                (0..2).all(|side| after[side] >= before[side] + CALLS as u64),
                "{transport} to {to}: from {before:?} to {after:?} packets in an outer header"
            );
        }
    }
    Ok(())
}
