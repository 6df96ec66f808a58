//! Real SCTP sockets through a Service: `cargo xtask test --layer vm`, which runs this on a kernel that has SCTP.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::address::{self, Family};
use lab::call::{Calls, Transport, has_sctp};
use lab::manifest::Service;
use lab::{ECHO_PORT, Lab, Options, Place};

const PORT: u16 = 38_412;
const NODE_PORT: u16 = 30_080;

#[test]
fn associations_go_through_a_service() -> Result<()> {
    ensure!(
        has_sctp(),
        "this kernel has no SCTP: run `cargo xtask test --layer vm`, or this program by `cargo xtask vm run 6.12 -- PROGRAM`"
    );
    let mut lab = Lab::start(Options::default())?;
    lab.add_pod("a", 1)?;
    lab.add_pod("c", 2)?;
    let mut service = Service::new("signals", 1, PORT, ECHO_PORT).node_port(NODE_PORT);
    service.ports.truncate(1);
    service.ports[0].protocol = "SCTP";
    let service = service.over([lab.pod("a"), lab.pod("c")]);
    lab.apply(&service)?;
    for family in Family::BOTH {
        let cluster = service.cluster.at(family, PORT);
        // From a pod to itself, to its neighbour, and to the other node; from outside to both nodes.
        calls(lab.place("a")?, Calls::new(Transport::Sctp, cluster, 12))?;
        let node_port = address::node(1).at(family, NODE_PORT);
        calls(&lab.client, Calls::new(Transport::Sctp, node_port, 12))?;
        // One message, one packet; and one of many packets, which are handed on as a list.
        for payload in [1400, 20_000] {
            for place in [&lab.client, lab.place("a")?] {
                let long = Calls {
                    payload,
                    ..Calls::new(Transport::Sctp, node_port, 4)
                };
                calls(place, long)?;
            }
            // Past every Service: the programs see it and leave it whole.
            let direct = Calls {
                payload,
                ..Calls::new(Transport::Sctp, lab.pod("c").address.at(family, ECHO_PORT), 1)
            };
            calls(lab.place("a")?, direct)?;
        }
    }
    Ok(())
}

/// Every call is answered, and both pods answer some.
fn calls(place: &Place, calls: Calls) -> Result<()> {
    let calls = Calls {
        // The machine is emulated.
        timeout: Duration::from_secs(10),
        ..calls
    };
    let (to, payload, times) = (calls.to, calls.payload, calls.times);
    let outcomes = place.calls(calls)?;
    ensure!(
        outcomes.all_answered() && (times < 12 || outcomes.by_name().len() == 2),
        "{payload} bytes from {} to {to}: {outcomes}",
        place.name()
    );
    println!("{payload} bytes from {} to {to}: {outcomes}", place.name());
    Ok(())
}
