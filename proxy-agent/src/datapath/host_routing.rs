//! Whether new flows go around the node's stack (`--host-routing fast`), and what keeps them from it: a policy engine works in the
//! stack, and would not see them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use proxy_common::layout::{
    CONFIG_BYPASSED, CONFIG_FAST, CONFIG_FAST_WANTED, Config, INTERFACE_PEER, INTERFACE_PODS,
    INTERFACE_UPLINK, Interface,
};
use tracing::{info, warn};

use super::classify::{Role, Target};
use super::config;
use super::error::{Context, DatapathError};
use super::follow::Follower;
use super::netfilter;
use super::netlink::Netlink;
use super::observe::{Link, Observed, Stale};
use super::options::HostRouting;
use super::policy_engine::{self, Evidence, Found};

/// How new flows go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostRoutingState {
    /// Through the stack, as the operator says.
    #[default]
    Stack,
    /// Around it, where they can.
    Fast,
    /// Through the stack, though the operator wants them around it.
    Refused(Refusal),
}

/// Why flows don't go around the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This engine enforces policies there; by what it was told.
    PolicyEngine(&'static str, String),
    /// Whether there is one could not be found out.
    NotKnown(String),
}

impl HostRoutingState {
    /// The way, in a word.
    pub fn mode(&self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Stack | Self::Refused(_) => "stack",
        }
    }

    /// Why it is not the one that the operator wants, in a word; empty if it is.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Stack | Self::Fast => "",
            Self::Refused(Refusal::PolicyEngine(..)) => "policy-engine",
            Self::Refused(Refusal::NotKnown(_)) => "not-known",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PolicyEngine(engine, sign) => write!(
                f,
                "{engine} enforces policies in the node's stack ({sign}), and would not see what goes around it"
            ),
            Self::NotKnown(error) => write!(f, "whether a policy engine is there is not known: {error}"),
        }
    }
}

impl Refusal {
    /// What to do about it.
    pub(super) fn way_out(&self) -> &'static str {
        match self {
            Self::PolicyEngine(..) => {
                "flows go through the stack: set --host-routing stack, or take the engine away, with what it left"
            }
            Self::NotKnown(_) => "flows go through the stack: give the agent CAP_NET_ADMIN",
        }
    }
}

/// Looks for what keeps flows from going around the stack, in the calling thread's network namespace.
pub(super) fn look(links: impl Iterator<Item = String>) -> Option<Refusal> {
    let evidence = |names: netfilter::Names| Evidence {
        tables: names.tables,
        chains: names.chains,
        links: links.collect(),
    };
    match netfilter::names().map(evidence) {
        Ok(evidence) => {
            let Found { engine, sign } = policy_engine::detect(&evidence)?;
            Some(Refusal::PolicyEngine(engine, sign))
        }
        Err(error) => Some(Refusal::NotKnown(error.to_string())),
    }
}

/// [`look`] for those who do not follow the interfaces.
pub(super) fn look_here() -> Option<Refusal> {
    let mut observed = Observed::default();
    let stale = Stale {
        links: true,
        ..Stale::default()
    };
    let read = Netlink::route()
        .call("socket", "rtnetlink")
        .and_then(|mut netlink| observed.refresh(&mut netlink, stale));
    match read {
        Ok(()) => look(observed.links.into_iter().map(|link| link.name)),
        Err(error) => Some(Refusal::NotKnown(error.to_string())),
    }
}

/// What INTERFACES says of interfaces whose programs are there, beside what it says of all.
pub(super) fn ways(
    targets: &BTreeMap<u32, Target>,
    attached: &BTreeSet<u32>,
    observed: &Observed,
) -> BTreeMap<u32, u32> {
    let role = |link: &Link| {
        let target = targets.get(&link.index)?;
        attached.contains(&link.index).then_some(target.role)
    };
    let links = observed.links.iter();
    let flags = links.map(|link| {
        let flags = match role(link) {
            Some(Role::Uplink) => INTERFACE_UPLINK,
            Some(Role::Pod) if link.kind == "veth" && link.peer_elsewhere => INTERFACE_PODS | INTERFACE_PEER,
            Some(Role::Pod) => INTERFACE_PODS,
            None if link.kind == "bridge" && has_pods_alone(link, observed, role) => INTERFACE_PODS,
            None => 0,
        };
        (link.index, flags)
    });
    flags.filter(|(_, flags)| *flags != 0).collect()
}

/// Whether a bridge has ports that lead to pods, and our programs see what comes in by any of its ports that may lead to one.
fn has_pods_alone(bridge: &Link, observed: &Observed, role: impl Fn(&Link) -> Option<Role>) -> bool {
    let mut ports = observed
        .links
        .iter()
        .filter(|link| link.master == bridge.index)
        .peekable();
    ports.peek().is_some() && ports.all(|port| role(port) == Some(Role::Pod))
}

/// The flags of CONFIG: what the operator wants, and what is. Flows that went around the stack may be there for as long as the sweep
/// has not seen that there is none.
fn set_flags(config: &mut Config, state: &HostRoutingState) {
    config.flags &= !(CONFIG_FAST | CONFIG_FAST_WANTED);
    config.flags |= match state {
        HostRoutingState::Stack => 0,
        HostRoutingState::Fast => CONFIG_FAST | CONFIG_FAST_WANTED | CONFIG_BYPASSED,
        HostRoutingState::Refused(_) => CONFIG_FAST_WANTED,
    };
}

/// The flag that an agent's start leaves as its predecessor had it.
pub(super) fn kept(before: &Config) -> u32 {
    if before.has_bypassed() { CONFIG_BYPASSED } else { 0 }
}

/// After a whole sweep that was begun when no new flow went around the stack: with none left, their replies are looked for no more.
pub(super) fn forget_bypassed(tables: &super::tables::Tables) -> Result<(), DatapathError> {
    config::change(tables, |config| {
        if !config.is_fast() {
            config.flags &= !CONFIG_BYPASSED;
        }
    })
}

impl Follower {
    /// What INTERFACES is to say.
    pub(super) fn with_ways(
        &self,
        interfaces: &BTreeMap<u32, Interface>,
        targets: &BTreeMap<u32, Target>,
    ) -> BTreeMap<u32, Interface> {
        let attached = self.attacher.attached.iter();
        let attached = attached.filter(|(index, target)| targets.get(index) == Some(target));
        let attached = attached.map(|(index, _)| *index).collect();
        let ways = ways(targets, &attached, &self.observed);
        let interfaces = interfaces.iter().map(|(index, interface)| {
            let mut interface = *interface;
            interface.flags |= ways.get(index).copied().unwrap_or_default();
            (*index, interface)
        });
        interfaces.collect()
    }

    /// Settles how new flows go: once all that is there is attached, and whenever the node is looked at.
    pub(super) fn settle_host_routing(&mut self) -> Result<(), DatapathError> {
        let state = match self.host_routing {
            HostRouting::Stack => HostRoutingState::Stack,
            HostRouting::Fast => {
                let links = self.observed.links.iter().map(|link| link.name.clone());
                look(links).map_or(HostRoutingState::Fast, HostRoutingState::Refused)
            }
        };
        config::change(&self.tables, |config| set_flags(config, &state))?;
        let is_new = self.routed.send_if_modified(|before| {
            let is_new = *before != state;
            before.clone_from(&state);
            is_new
        });
        match &state {
            HostRoutingState::Refused(refusal) if is_new => {
                warn!(reason = %refusal, "--host-routing fast is refused: {}", refusal.way_out());
            }
            HostRoutingState::Fast if is_new => info!("new flows go around the node's stack"),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "host_routing_tests.rs"]
mod tests;
