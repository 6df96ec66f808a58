//! What becomes of the call, and what is near where nothing is met.

use std::net::{Ipv4Addr, Ipv6Addr};

use proxy_common::layout::{Family, Port};

use super::{Writer, join};
use crate::explain::decide::{Ruling, Verdict};
use crate::plan::{Frontend, protocol_name};

impl Writer<'_> {
    /// Why nothing was met.
    pub(super) fn nowhere(&mut self) {
        let to = self.question.to;
        let protocol = self.question.protocol;
        let asked = format!("{to}/{}", protocol_name(protocol));
        self.say("frontend", format!("{asked} is none of a Service's"));
        let name_at = |frontend: &Frontend| {
            let value = self.scene.store.frontends.get(frontend)?;
            Some(self.scene.name_of(value.service))
        };
        let frontends = self.scene.store.frontends.keys();
        let same_address = frontends.filter(|frontend| frontend.address == to.ip());
        let mut others: Vec<String> = same_address
            .filter_map(|frontend| {
                let number = frontend.port.number();
                let protocol = protocol_name(frontend.protocol);
                Some(format!("{number}/{protocol} of {}", name_at(frontend)?))
            })
            .collect();
        others.sort_unstable();
        let wildcard = Frontend {
            address: match self.question.family() {
                Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
                Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
            },
            port: Port::new(to.port()),
            protocol,
        };
        let node_port = name_at(&wildcard);
        let unserved = self.world.map(|world| world.model.unserved_at(to.ip()));
        if !others.is_empty() {
            self.say(
                "frontend",
                format!("{} is served at {}", to.ip(), others.join(", ")),
            );
        }
        if let Some(name) = node_port {
            let place = to.ip();
            let why = if place.is_loopback() || place.is_unspecified() {
                "answers for no more than the host's own calls, where nodePortAddresses have it"
            } else if self.scene.facts.has(place) {
                "is none of nodePortAddresses"
            } else {
                "is no address of this node"
            };
            let text = format!("{} is a NodePort of Service {name}, but {place} {why}", to.port());
            self.say("frontend", text);
        }
        for unserved in unserved.into_iter().flatten() {
            self.say(
                "frontend",
                format!("Service {} names it: {}", unserved.service, unserved.reason),
            );
        }
    }

    pub(super) fn verdict(&mut self) {
        let Ruling {
            verdict,
            counter,
            backends,
            ..
        } = self.ruling;
        let why = counter
            .map(|counter| format!(" Counted as {}.", counter.name()))
            .unwrap_or_default();
        let at_once = match self.ruling.is_by_socket {
            true => "the system call fails at once",
            false => "a TCP RST, or ICMP port unreachable, at once",
        };
        let text = match verdict {
            Verdict::Forward => format!("forward, to {}", join(backends.keys().map(ToString::to_string))),
            Verdict::Reject => format!("reject: {at_once}.{why}"),
            Verdict::Drop if self.ruling.is_by_socket => format!(
                "drop: the call goes nowhere; a socket that socket LB serves is told so by its system call.{why}"
            ),
            Verdict::Drop => format!("drop: no answer.{why}"),
            Verdict::NotAService => {
                "not-a-service: it goes on untouched, as if Shunt were not there".to_owned()
            }
        };
        self.say("verdict", text);
    }
}
