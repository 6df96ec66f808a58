//! Services as everywhere.

use anyhow::{Context, Result, ensure};
use lab::Lab;
use lab::address::{self, Family};
use lab::call::Transport;

use crate::{BOTH, NOBODY, TRANSPORTS, call, cluster, node_port, patient};

/// From a pod, from both nodes and from outside, to backends on either node; and the doctor finds nothing that fails.
pub(crate) fn are_reached(lab: &Lab) -> Result<()> {
    from_everywhere(lab)?;
    for check in lab
        .agent(1)
        .doctor()?
        .as_array()
        .context("doctor prints a list")?
    {
        println!("doctor: {} {}: {}", check["state"], check["name"], check["found"]);
        ensure!(check["state"] != "fail", "{check}");
    }
    Ok(())
}

pub(crate) fn from_everywhere(lab: &Lab) -> Result<()> {
    for family in Family::BOTH {
        for transport in TRANSPORTS {
            call(lab.place("near")?, transport, cluster(BOTH, family), 2)?;
            for node in [1, 2] {
                let to = address::node(node).at(family, node_port(BOTH));
                call(&lab.client, transport, to, 2)?;
                // SCTP of the host itself is not served.
                if transport != Transport::Sctp {
                    call(lab.host(node), transport, cluster(BOTH, family), 2)?;
                }
            }
        }
    }
    Ok(())
}

/// By ECONNREFUSED at connect(), TCP's RST and ICMP.
pub(crate) fn refuse(lab: &Lab) -> Result<()> {
    for family in Family::BOTH {
        for (place, to) in [
            (lab.place("near")?, cluster(NOBODY, family)),
            (lab.host(1), cluster(NOBODY, family)),
            (&lab.client, address::node(1).at(family, node_port(NOBODY))),
        ] {
            for transport in [Transport::Tcp, Transport::ConnectedUdp] {
                let outcomes = place.calls(patient(transport, to, 3))?;
                ensure!(
                    outcomes.all_refused(),
                    "{transport} from {} to {to}: {outcomes}",
                    place.name()
                );
            }
        }
    }
    Ok(())
}
