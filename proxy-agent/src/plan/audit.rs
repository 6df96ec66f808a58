//! What should be in the maps against what is: each difference by name.
//!
//! The agent is the maps' only writer and plans from what it wrote; an audit looks at the maps themselves, so that what a
//! mistake, a foreign hand or a broken memory did to them does not stay unnoticed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use foldhash::HashMap;
use proxy_common::layout::{
    FilterBit, FrontendValue, HintFallback, ListWord, Networks, ServiceId, Vip, When,
};
use serde::Serialize;

use super::filter::{backend_bits, frontend_bits};
use super::installed::{IdentityKey, PortIdentity, frontend_value, words};
use super::rule::in_any_order;
use super::vips::Stand;
use super::{Endpoint, Forwarding, Frontend, List, Range, ServicePort, Snapshot, View, networks};

/// Something in the maps that should be otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Difference {
    /// The service port, as IDENTITY names it or as it should; or the frontend that nobody asks for.
    pub subject: String,
    /// The map.
    pub map: &'static str,
    /// What is wrong there.
    pub problem: String,
}

impl Difference {
    pub(super) const VIP_IS_OTHER: &str = "it says something else of the address than is so";
    pub(super) const VIP_IS_MISSING: &str = "the address is missing";
    pub(super) const VIP_IS_NOBODYS: &str = "no Service has the address";

    pub(super) fn of_vip(address: IpAddr, problem: &str) -> Self {
        Self {
            subject: address.to_string(),
            map: "VIPS",
            problem: problem.to_owned(),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.subject, self.map, self.problem)
    }
}

/// Compares one service port after another with what the maps held at one time.
#[derive(Debug)]
pub struct Audit<'a> {
    view: View<'a>,
    filter: HashMap<u32, u64>,
    /// Not yet asked for.
    identities: BTreeMap<IdentityKey, (ServiceId, u16, Option<HintFallback>, &'a str)>,
    frontends: HashMap<Frontend, &'a FrontendValue>,
    vips: BTreeMap<IpAddr, Vip>,
    networks: &'a Networks,
    /// What should stand at the addresses, of the service ports so far.
    stands: BTreeMap<IpAddr, Stand>,
    /// Where something that is not looked at stands, too.
    excused_addresses: BTreeSet<IpAddr>,
    differences: BTreeSet<Difference>,
}

const LISTS: [&str; 3] = ["internal", "external", "shortcut"];

impl<'a> Audit<'a> {
    /// Of the maps as they were.
    pub fn of(snapshot: &'a Snapshot) -> Self {
        let identities = snapshot.identities.iter();
        Self {
            view: View::of(snapshot),
            filter: snapshot.filter.iter().copied().collect(),
            identities: identities
                .map(|(id, identity)| {
                    let PortIdentity { key, tag, hints } = PortIdentity::from(identity);
                    (key, (*id, tag, hints, identity.name.as_str()))
                })
                .collect(),
            frontends: snapshot
                .frontends
                .iter()
                .map(|(key, value)| (*key, value))
                .collect(),
            vips: snapshot.vips.iter().copied().collect(),
            networks: &snapshot.networks,
            stands: BTreeMap::new(),
            excused_addresses: BTreeSet::new(),
            differences: BTreeSet::new(),
        }
    }

    /// What is not to be looked at: it is known to stay as it was.
    pub fn excuse(&mut self, is_excused: impl Fn(&str) -> bool) {
        let service_of = |name: &str| name.split(':').next().is_some_and(&is_excused);
        let excused: BTreeSet<ServiceId> = self
            .identities
            .values()
            .filter(|(_, _, _, name)| service_of(name))
            .map(|(id, ..)| *id)
            .collect();
        self.identities.retain(|_, (id, ..)| !excused.contains(id));
        let Self {
            frontends,
            excused_addresses,
            ..
        } = self;
        frontends.retain(|frontend, value| {
            let is_excused = excused.contains(&value.service);
            if is_excused {
                excused_addresses.insert(frontend.address);
            }
            !is_excused
        });
    }

    /// Looks at what a service port has in the maps.
    pub fn check(&mut self, port: &ServicePort) {
        for (frontend, kind) in &port.frontends {
            let stand = self.stands.entry(frontend.address).or_default();
            let (internal, external) = (&port.internal.members, &port.external.members);
            stand.add(*kind as u8, !internal.is_empty(), !external.is_empty());
        }
        let PortIdentity { key, .. } = PortIdentity::of(port);
        let Some((id, tag, hints, name)) = self.identities.remove(&key) else {
            return self.find(&port.key.to_string(), "IDENTITY", "it is not there".to_owned());
        };
        if hints != port.hints {
            let text = |hints: Option<HintFallback>| match hints {
                None => "hints are followed".to_owned(),
                Some(why) => format!("hints are not followed: {why}"),
            };
            let problem = format!("it says `{}`, not `{}`", text(hints), text(port.hints));
            self.find(name, "IDENTITY", problem);
        }
        let service = self.view.service(id);
        for ((word, wanted), list) in words(&service)
            .into_iter()
            .zip([&port.internal, &port.external, &port.shortcut])
            .zip(LISTS)
        {
            self.check_list(name, tag, list, word, port, wanted);
        }
        if service.affinity.seconds() != port.affinity {
            let found = service.affinity.seconds();
            let problem = format!("session affinity lasts {found} s, not {} s", port.affinity);
            self.find(name, "SERVICES", problem);
        }
        if service.affinity.hands_on() != (port.forwarding == Forwarding::Dsr) {
            let problem = format!("forwarding is not {}", port.forwarding.name());
            self.find(name, "SERVICES", problem);
        }
        self.check_endpoints(name, id, port);
        let found = self.view.ranges(id);
        let wanted: BTreeSet<Range> = port.source_ranges.iter().copied().collect();
        self.compare(name, "SOURCE_RANGES", &wanted, &found, Range::to_string);
        for (frontend, kind) in &port.frontends {
            self.check_frontend(name, frontend, frontend_value(frontend, id, tag, *kind as u8));
        }
    }

    /// Looks at what stands at the addresses of all service ports that were looked at, which must be all that there are.
    pub fn check_vips(&mut self) {
        let stands = std::mem::take(&mut self.stands);
        let mut vips = std::mem::take(&mut self.vips);
        let excused = std::mem::take(&mut self.excused_addresses);
        let is_excused = |address: &IpAddr| address.is_unspecified() || excused.contains(address);
        vips.retain(|address, _| !is_excused(address));
        for (address, stand) in stands.into_iter().filter(|(address, _)| !is_excused(address)) {
            let problem = match vips.remove(&address) {
                Some(vip) if vip == stand.vip(address) => continue,
                Some(_) => Difference::VIP_IS_OTHER,
                None => Difference::VIP_IS_MISSING,
            };
            self.differences.insert(Difference::of_vip(address, problem));
        }
        let nobodys = |address| Difference::of_vip(address, Difference::VIP_IS_NOBODYS);
        self.differences.extend(vips.into_keys().map(nobodys));
    }

    /// Looks at the ranges of addresses that the programs know.
    pub fn check_networks(&mut self, wanted: &Networks) {
        let differences = networks::differences(self.networks, wanted);
        self.differences.extend(differences);
    }

    /// What nobody asked for is a difference as well.
    pub fn finish(mut self) -> Vec<Difference> {
        // The id of a service port that is gone rests as long as a flow may carry it: with nothing to its name.
        for (id, _, _, name) in std::mem::take(&mut self.identities).into_values() {
            if !self.view.endpoints(id).is_empty() || !self.view.ranges(id).is_empty() {
                self.find(name, "IDENTITY", "no Service asks for it".to_owned());
            }
        }
        let strays: Vec<Frontend> = self.frontends.keys().copied().collect();
        for frontend in strays {
            self.find(
                &frontend.to_string(),
                "FRONTENDS",
                "no Service asks for it".to_owned(),
            );
        }
        self.differences.into_iter().collect()
    }

    fn find(&mut self, subject: &str, map: &'static str, problem: String) {
        let subject = subject.to_owned();
        self.differences.insert(Difference {
            subject,
            map,
            problem,
        });
    }

    fn check_list(
        &mut self,
        name: &str,
        tag: u16,
        list: &str,
        word: ListWord,
        port: &ServicePort,
        wanted: &List,
    ) {
        if word.tag() != tag {
            return self.find(name, "SERVICES", format!("the {list} list carries another's tag"));
        }
        let run = self.view.run(word);
        let mut found = BTreeSet::new();
        for backend in run {
            match self.view.endpoint(*backend) {
                Some(endpoint) => _ = found.insert(endpoint),
                None => {
                    let problem = format!(
                        "the {list} list names backend {}, which does not serve",
                        backend.0
                    );
                    self.find(name, "SLOTS", problem);
                }
            }
        }
        if !run.is_sorted_by(|one, other| one < other) {
            self.find(name, "SLOTS", format!("the {list} list is out of order"));
        }
        let wanted_set: BTreeSet<Endpoint> = port.members(wanted).copied().collect();
        let text = |endpoint: &Endpoint| format!("{} of the {list} list", endpoint);
        self.compare(name, "SLOTS", &wanted_set, &found, text);
        if wanted_set == found {
            self.check_table(name, list, word, port, wanted);
        }
        if wanted_set.is_empty() && word.count() == 0 && word.when_empty() != wanted.when_empty {
            let name_of = |when| match when {
                When::Reject => "rejects",
                When::Drop => "drops",
                When::Pass => "passes",
            };
            let (found, wanted) = (name_of(word.when_empty()), name_of(wanted.when_empty));
            self.find(
                name,
                "SERVICES",
                format!("the empty {list} list {found}, it should be one that {wanted}"),
            );
        }
    }

    /// How one of a list is chosen. While endpoints grow to their shares, their weights are the agent's alone to know.
    fn check_table(&mut self, name: &str, list: &str, word: ListWord, port: &ServicePort, wanted: &List) {
        if word.count() == 0 || port.slow_start != 0 {
            return;
        }
        let (rule, table) = port.table(wanted);
        if word.rule() != rule {
            let problem = format!(
                "the {list} list is chosen from by the rule {:?}, it should be {rule:?}",
                word.rule()
            );
            return self.find(name, "SERVICES", problem);
        }
        let entries = self.view.table(word).iter();
        let found: Option<Vec<Endpoint>> = entries.map(|id| self.view.endpoint(*id)).collect();
        if found.map(|found| in_any_order(rule, found)) != Some(table) {
            self.find(name, "SLOTS", format!("the {list} list's table is another one"));
        }
    }

    fn check_endpoints(&mut self, name: &str, id: ServiceId, port: &ServicePort) {
        let found = self.view.endpoints(id).iter();
        let found: BTreeSet<Endpoint> = found.map(|(endpoint, _)| *endpoint).collect();
        let wanted: BTreeSet<Endpoint> = port.endpoints.iter().copied().collect();
        self.compare(name, "BACKENDS", &wanted, &found, Endpoint::to_string);
        for endpoint in &port.endpoints {
            let bits = backend_bits(endpoint.address, endpoint.port, port.key.protocol);
            self.check_bits(name, &endpoint.to_string(), bits);
        }
    }

    fn check_frontend(&mut self, name: &str, frontend: &Frontend, wanted: FrontendValue) {
        self.check_bits(name, &frontend.to_string(), frontend_bits(frontend));
        let problem = match self.frontends.remove(frontend) {
            Some(found) if *found == wanted => return,
            None => format!("{frontend} is missing"),
            Some(found) if found.service != wanted.service => {
                format!(
                    "{frontend} leads to service id {}, not {}",
                    found.service.0, wanted.service.0
                )
            }
            Some(found) if found.tag != wanted.tag => {
                format!(
                    "{frontend} carries the tag {} of another, not {}",
                    found.tag, wanted.tag
                )
            }
            Some(found) => format!(
                "{frontend} has kind {} and tag {}, not {} and {}",
                found.kind, found.service_tag, wanted.kind, wanted.service_tag
            ),
        };
        self.find(name, "FRONTENDS", problem);
    }

    fn check_bits(&mut self, name: &str, of: &str, bits: impl IntoIterator<Item = FilterBit>) {
        let is_set = |bit: FilterBit| {
            self.filter
                .get(&bit.word())
                .is_some_and(|word| word & bit.mask() != 0)
        };
        if !bits.into_iter().all(is_set) {
            self.find(name, "PREFILTER", format!("a bit of {of} is not set"));
        }
    }

    fn compare<T: Ord>(
        &mut self,
        name: &str,
        map: &'static str,
        wanted: &BTreeSet<T>,
        found: &BTreeSet<T>,
        text: impl Fn(&T) -> String,
    ) {
        for one in wanted.difference(found) {
            self.find(name, map, format!("{} is missing", text(one)));
        }
        for one in found.difference(wanted) {
            self.find(name, map, format!("{} should not be there", text(one)));
        }
    }
}

#[cfg(test)]
mod tests;
