//! What the maps do not say, and what is taken in its place.

use std::collections::{BTreeMap, BTreeSet};

use super::lists::Policy;
use super::request::{Request, addresses};
use super::state::InstalledServices;
use super::{Taken, join};
use crate::name::ObjectName;
use crate::plan::{Endpoint, PortKey};
use crate::preview::{Conflict, FrontendChange};
use crate::source::TrafficPolicy;

/// All that is not known and that the answer depends on, each once.
#[derive(Debug, Default)]
pub(super) struct Unknown {
    texts: BTreeSet<String>,
    has_no_zone: bool,
}

impl Unknown {
    pub(super) fn told(self) -> Vec<String> {
        self.texts.into_iter().collect()
    }

    pub(super) fn has_no_zone(&self) -> bool {
        self.has_no_zone
    }

    fn say(&mut self, text: String) {
        self.texts.insert(text);
    }

    pub(super) fn service(&mut self, name: &ObjectName) {
        self.say(format!(
            "whether there is a Service {name}: the maps have nothing of it; nothing is taken to change"
        ));
    }

    pub(super) fn owner(&mut self, slice: &ObjectName) {
        self.say(format!(
            "which Service EndpointSlice {slice} belongs to: its manifest has no label kubernetes.io/service-name"
        ));
    }

    pub(super) fn zone(&mut self, node: &str) {
        self.has_no_zone = true;
        self.say(format!(
            "the zone of {node}: hints for zones are taken as not followed; give its Node with -f"
        ));
    }

    pub(super) fn node(&mut self, node: &str) {
        self.say(format!(
            "what the zone of {node} is to Services whose EndpointSlices are not given: they are taken to stay"
        ));
    }

    pub(super) fn endpoints(&mut self, key: &PortKey) {
        self.say(format!(
            "the endpoints of {key}: the maps have no such port; give its EndpointSlices with -f"
        ));
    }

    pub(super) fn policies(&mut self, name: &ObjectName, policies: [Option<Policy>; 2]) {
        for (field, policy) in ["internalTrafficPolicy", "externalTrafficPolicy"]
            .iter()
            .zip(policies)
        {
            let Some(Policy {
                is,
                is_certain: false,
            }) = policy
            else {
                continue;
            };
            let taken = match is {
                TrafficPolicy::Local => "Local",
                TrafficPolicy::Cluster => "Cluster",
            };
            self.say(format!(
                "the {field} of {name}: its list has no endpoint of another node, which either makes; taken as \
                 {taken}; give the Service with -f"
            ));
        }
    }

    /// Endpoints that serve and take no new calls, or no others than they might.
    pub(super) fn standing<'a>(
        &mut self,
        key: &PortKey,
        hidden: impl Iterator<Item = &'a Endpoint>,
        is_certain: bool,
    ) {
        let hidden = addresses(hidden);
        if !hidden.is_empty() {
            self.say(format!(
                "why {} of {key} take no new calls: taken as terminating, hints may be why as well; give its \
                 EndpointSlices with -f",
                join(hidden)
            ));
        }
        if !is_certain {
            self.say(format!(
                "which endpoints of other nodes take new calls to {key}: its list has those of this node alone; all that \
                 serve are taken; give its EndpointSlices with -f"
            ));
        }
    }

    pub(super) fn other_slices<'a>(&mut self, key: &PortKey, others: impl Iterator<Item = &'a Endpoint>) {
        let others = addresses(others);
        if !others.is_empty() {
            self.say(format!(
                "whether another EndpointSlice of {key} has {}: those given are taken as all; give it with -f",
                join(others)
            ));
        }
    }

    /// Who would have an address that goes.
    pub(super) fn other_claims(&mut self, changes: &[FrontendChange]) {
        let is_shared = |change: &&FrontendChange| {
            change.change == "removed" && matches!(change.kind, "LoadBalancer" | "externalIP" | "ExternalIP")
        };
        let gone: BTreeSet<&String> = changes
            .iter()
            .filter(is_shared)
            .map(|change| &change.frontend)
            .collect();
        if !gone.is_empty() {
            self.say(format!(
                "whether another Service claims {}, and would have it: the maps know who has a frontend, and nobody \
                 who does without",
                join(gone)
            ));
        }
    }

    /// Which of several Services is the oldest.
    pub(super) fn ages(
        &mut self,
        taken: &[Taken],
        conflicts: &[Conflict],
        now: &InstalledServices,
        requests: &BTreeMap<ObjectName, Request>,
    ) {
        let is_there = |name: &ObjectName| !now.ports_of(name).is_empty();
        for Taken {
            frontend,
            winner,
            loser,
        } in taken.iter().filter(|taken| is_there(&taken.loser))
        {
            self.say(format!(
                "whether {loser} is older than {winner}: who has {frontend} now is taken to keep it"
            ));
        }
        for conflict in conflicts {
            let named = requests.keys().filter(|name| is_there(name));
            let names: Vec<String> = named.map(ToString::to_string).collect();
            let there = conflict.losers.iter().filter(|loser| names.contains(loser));
            for loser in there {
                self.say(format!(
                    "whether {loser} is older than {}, which is taken to have {}: the maps hold no times of creation",
                    conflict.winner, conflict.frontend
                ));
            }
        }
    }
}
