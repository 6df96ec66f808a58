//! nodePortAddresses: NodePorts answer where they are chosen and nowhere else, whoever asks, also after the configuration or
//! the node's addresses have changed.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use lab::address::{self, Family, Pair};
use lab::call::{Calls, Transport};
use lab::events::Mark;
use lab::manifest::Service;
use lab::{ECHO_PORT, Lab, Options};

const NODE_PORT: u16 = 30_080;

/// An address of n1 beside its first.
const SECOND: Pair = address::node(101);

/// A list, and where it lets NodePorts answer; the gateways of pods' networks are left aside.
const FORMS: [(&str, &[Place]); 8] = [
    ("[primary]", &[Place::First(Family::V4), Place::First(Family::V6)]),
    (
        "[primary, localhost]",
        &[
            Place::First(Family::V4),
            Place::First(Family::V6),
            Place::Loopback(Family::V4),
            Place::Loopback(Family::V6),
        ],
    ),
    (
        "[localhost]",
        &[Place::Loopback(Family::V4), Place::Loopback(Family::V6)],
    ),
    (
        "[192.168.10.101/32, 'fd00:10::65/128']",
        &[Place::Second(Family::V4), Place::Second(Family::V6)],
    ),
    // No entry names IPv6: all of its addresses.
    (
        "[192.168.10.96/28]",
        &[
            Place::Second(Family::V4),
            Place::First(Family::V6),
            Place::Second(Family::V6),
            Place::Loopback(Family::V6),
        ],
    ),
    (
        "['::1/128', 'fd00:10::1/128', 127.0.0.0/8]",
        &[
            Place::Loopback(Family::V4),
            Place::Loopback(Family::V6),
            Place::First(Family::V6),
        ],
    ),
    ("[all]", &ALL),
    ("[]", &ALL),
];

const ALL: [Place; 6] = [
    Place::First(Family::V4),
    Place::First(Family::V6),
    Place::Second(Family::V4),
    Place::Second(Family::V6),
    Place::Loopback(Family::V4),
    Place::Loopback(Family::V6),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    First(Family),
    Second(Family),
    Loopback(Family),
}

impl Place {
    fn at(self) -> SocketAddr {
        match self {
            Self::First(family) => address::node(1).at(family, NODE_PORT),
            Self::Second(family) => SECOND.at(family, NODE_PORT),
            Self::Loopback(family) => address::LOOPBACK.at(family, NODE_PORT),
        }
    }

    fn callers(self) -> &'static [&'static str] {
        match self {
            Self::Loopback(_) => &["n1"],
            Self::First(_) | Self::Second(_) => &["client", "a", "n1"],
        }
    }
}

#[test]
fn node_ports_answer_at_the_chosen_addresses_only() -> Result<()> {
    let mut lab = Lab::build(Options::default())?;
    lab.agent_mut(1).write_config("nodePortAddresses: [primary]\n")?;
    lab.start_agents()?;
    lab.add_pod("a", 1)?;
    lab.add_pod("c", 2)?;
    let service = Service::new("chosen", 1, 80, ECHO_PORT)
        .node_port(NODE_PORT)
        .over([lab.pod("a"), lab.pod("c")]);
    lab.apply(&service)?;
    // The node gets an address while the agent runs.
    let device = uplink(&lab)?;
    let added = Family::BOTH.map(|family| {
        let length = if family == Family::V4 { 32 } else { 128 };
        format!("address add {}/{length} dev {device} nodad", SECOND.of(family))
    });
    lab.host(1).namespace().ip(&added)?;
    for (index, (form, places)) in FORMS.into_iter().enumerate() {
        if index != 0 {
            let mark = lab.agent(1).mark();
            lab.agent_mut(1)
                .write_config(&format!("nodePortAddresses: {form}\n"))?;
            // The last form is the same as the one before.
            if form != "[]" {
                wait(&lab, mark, form)?;
            }
        }
        check(&lab, form, places)?;
    }
    Ok(())
}

/// Waits until the follower of addresses has taken the choice over.
fn wait(lab: &Lab, mark: Mark, form: &str) -> Result<()> {
    let what = format!("NodePorts to answer as {form} says");
    let matches = |event: &lab::events::Event| event.message() == "NodePorts answer at other addresses";
    lab.agent(1).events()?.wait(mark, &what, matches).map(drop)
}

/// The interface with the node's first address.
fn uplink(lab: &Lab) -> Result<String> {
    let output = lab
        .host(1)
        .output("ip", &["-o", "-4", "address", "show", "to", "192.168.10.1/32"])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let name = text.split_whitespace().nth(1).context("n1 has no uplink")?;
    Ok(name.to_owned())
}

fn check(lab: &Lab, form: &str, places: &[Place]) -> Result<()> {
    for place in ALL {
        let answers = places.contains(&place);
        for (caller, transport) in place.callers().iter().flat_map(|caller| {
            [Transport::Tcp, Transport::ConnectedUdp].map(|transport| (*caller, transport))
        }) {
            let outcomes = lab.place(caller)?.calls(Calls::new(transport, place.at(), 4))?;
            let as_expected = if answers {
                outcomes.all_answered()
            } else {
                outcomes.all_refused()
            };
            ensure!(
                as_expected,
                "{form}: {caller} -> {} by {transport}: answered should be {answers}, {outcomes:?}",
                place.at()
            );
        }
    }
    Ok(())
}
