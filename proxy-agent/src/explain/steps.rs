//! The way of a call in words: what was met, who is in, what was decided.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proxy_common::layout::{Counter, Family, FrontendKind, Port, When};

use super::answer::{Answer, EndpointAnswer, Source, Step};
use super::decide::{Chosen, ListName, Met, Ruling, Treatment, Verdict};
use super::node::Caller;
use super::scene::Scene;
use super::{Question, World, words};
use crate::model::{Reasons, Topology, Warning};
use crate::plan::{Frontend, Range, ServicePort, protocol_name};
use crate::source::TrafficPolicy;

/// Who calls, as the node of this world sees it.
pub(super) fn caller(world: &World, from: IpAddr) -> Caller {
    let facts = &world.scene.facts;
    if from.is_loopback() {
        return Caller::Host(format!("{from} is a loopback address"));
    }
    if facts.has(from) {
        return Caller::Host(format!("{from} is one of its addresses"));
    }
    if let Some(range) = facts.pod_range_of(from) {
        return Caller::Pod(format!(
            "{from} is in {}, of the Node's podCIDRs",
            range_text(&range)
        ));
    }
    if world.model.is_local_endpoint(from) {
        return Caller::Pod(format!(
            "{from} is the address of an endpoint whose nodeName is {}",
            facts.name
        ));
    }
    Caller::Outside(format!(
        "{from} is neither an address of this node nor of one of its pods"
    ))
}

/// The answer for a planned node, with its world, or for a running one.
pub(super) fn answer(
    scene: &Scene,
    world: Option<&World>,
    question: &Question,
    caller: &Caller,
    ruling: &Ruling,
) -> Answer {
    let met = ruling.met;
    let port = met.and_then(|met| world?.port_at(&met.frontend));
    let reasons = port.and_then(|port| world?.model.reasons(&port.key));
    let policy = met
        .zip(reasons.as_ref())
        .map(|(met, reasons)| policy_of(&met, reasons));
    let source = source_of(caller, ruling, policy);
    let endpoints = match (met, &reasons) {
        (Some(met), Some(reasons)) => endpoints(&met, reasons),
        (Some(met), None) => serving(scene, &met),
        (None, _) => Vec::new(),
    };
    let mut writer = Writer {
        scene,
        world,
        question,
        caller,
        ruling,
        steps: Vec::new(),
    };
    writer.node();
    writer.source_class();
    match met {
        Some(met) => {
            writer.frontend(&met);
            writer.guard(&met);
            writer.policy(&met, reasons.as_ref());
            if let Some(reasons) = &reasons {
                writer.hints(&met, reasons);
            }
            writer.endpoints(&endpoints, reasons.as_ref());
            writer.choice(&met);
            writer.affinity(&met);
            writer.way(source, policy);
            writer.interfaces();
        }
        None => writer.nowhere(),
    }
    writer.verdict();
    let mut backends: Vec<String> = ruling.backends.keys().map(ToString::to_string).collect();
    backends.sort_unstable();
    Answer {
        verdict: ruling.verdict,
        backends,
        source,
        affinity: met.is_some_and(|met| met.affinity != 0),
        service: met.map(|met| scene.name_of(met.service)),
        kind: met.map(|met| words::kind(met.kind)),
        counter: ruling.counter.map(Counter::name),
        caller: caller.class(),
        list: met.map(|met| list_name(met.list)),
        affinity_seconds: met.map_or(0, |met| met.affinity),
        endpoints,
        steps: writer.steps,
        warnings: world.map(|world| warnings(world, port)).unwrap_or_default(),
        difference: None,
    }
}

/// The backends of a service port that serve, as its maps have them.
fn serving(scene: &Scene, met: &Met) -> Vec<EndpointAnswer> {
    let store = &scene.store;
    let listed = store.services.get(&met.service).map(|service| match met.list {
        ListName::Internal => store.listed(service.internal),
        ListName::External => store.listed(service.external),
        ListName::Shortcut => store.listed(service.shortcut),
    });
    let listed = listed.unwrap_or_default();
    let theirs = store.backends.iter();
    let theirs = theirs.filter(|(_, backend)| backend.is_alive() && backend.service == met.service);
    let mut answers: Vec<EndpointAnswer> = theirs
        .map(|(id, backend)| {
            let used = listed.contains(id);
            let place = if backend.is_local() {
                "on this node"
            } else {
                "on another node"
            };
            let reason = match used {
                true => format!("in the list, {place}"),
                false => format!("it serves, {place}, but the list does not have it"),
            };
            EndpointAnswer {
                endpoint: (IpAddr::from(backend.address), backend.port.number()).into(),
                node: None,
                used,
                reason,
            }
        })
        .collect();
    answers.sort_by_key(|answer| answer.endpoint);
    answers
}

fn list_name(list: ListName) -> &'static str {
    match list {
        ListName::Internal => "internal",
        ListName::External => "external",
        ListName::Shortcut => "shortcut",
    }
}

/// The policy by which the list was made.
fn policy_of(met: &Met, reasons: &Reasons) -> TrafficPolicy {
    match met.list {
        ListName::Internal => reasons.internal,
        ListName::External => reasons.external,
        ListName::Shortcut => TrafficPolicy::Cluster,
    }
}

/// What the backends see as the source. A call from outside to all endpoints is masqueraded to those of other nodes,
/// whether there are any now or not.
pub(super) fn source_of(caller: &Caller, ruling: &Ruling, policy: Option<TrafficPolicy>) -> Source {
    if ruling.verdict != Verdict::Forward || matches!(caller, Caller::Host(_)) {
        return Source::Kept;
    }
    let packets = match ruling.is_by_socket {
        true => &ruling.by_packets,
        false => &ruling.backends,
    };
    let mut treatments = packets.values().map(|chosen| chosen.treatment);
    if !packets.is_empty()
        && treatments
            .clone()
            .all(|treatment| treatment == Treatment::Hairpin)
    {
        return Source::Masqueraded;
    }
    let is_for_all = match policy {
        Some(policy) => policy == TrafficPolicy::Cluster,
        None => treatments.any(|treatment| treatment == Treatment::Masqueraded),
    };
    if matches!(caller, Caller::Outside(_)) && is_for_all {
        Source::MasqueradedToRemote
    } else {
        Source::Kept
    }
}

fn endpoints(met: &Met, reasons: &Reasons) -> Vec<EndpointAnswer> {
    let is_local_list = policy_of(met, reasons) == TrafficPolicy::Local;
    let answer = |judged: &crate::model::Judged| {
        let standing = if is_local_list {
            judged.standings.local
        } else {
            judged.standings.cluster
        };
        EndpointAnswer {
            endpoint: (judged.endpoint.address, judged.endpoint.port.number()).into(),
            node: judged.node.clone(),
            used: standing.is_in(),
            reason: words::standing(standing, is_local_list, judged.node.as_deref()),
        }
    };
    reasons.endpoints.iter().map(answer).collect()
}

/// What of the folder was refused, and what of this Service is not served as it is written.
fn warnings(world: &World, port: Option<&ServicePort>) -> Vec<String> {
    let refusals = world.refusals.iter().map(|refusal| format!("refused: {refusal}"));
    let service = port.map(|port| &port.key.service);
    let is_about = |warning: &&Warning| match warning {
        Warning::FrontendTaken { winner, loser, .. } => {
            service.is_some_and(|service| service == winner || service == loser)
        }
        other => other.service().is_none() || other.service() == service,
    };
    let others = world.warnings.iter().filter(is_about).map(ToString::to_string);
    let failed = world.failed.iter().map(ToString::to_string);
    let mut warnings: Vec<String> = refusals.chain(others).chain(failed).collect();
    warnings.sort_unstable();
    warnings.dedup();
    warnings
}

fn range_text(range: &Range) -> String {
    format!("{}/{}", range.address, range.length)
}

fn join(texts: impl IntoIterator<Item = String>) -> String {
    texts.into_iter().collect::<Vec<_>>().join(", ")
}

struct Writer<'a> {
    scene: &'a Scene,
    world: Option<&'a World>,
    question: &'a Question,
    caller: &'a Caller,
    ruling: &'a Ruling,
    steps: Vec<Step>,
}

impl Writer<'_> {
    fn say(&mut self, topic: &'static str, text: impl Into<String>) {
        self.steps.push(Step {
            topic,
            text: text.into(),
        });
    }

    fn node(&mut self) {
        let facts = &self.scene.facts;
        let name = &facts.name;
        let addresses = match &*facts.addresses {
            [] => "no addresses, so that no NodePort answers".to_owned(),
            addresses => join(addresses.iter().map(ToString::to_string)),
        };
        let Some(World { nodes, model, .. }) = self.world else {
            self.say(
                "node",
                format!("its agent's maps have {addresses} as the node's addresses"),
            );
            return;
        };
        let zone = model
            .zone()
            .map_or_else(|| "no zone".to_owned(), |zone| format!("zone {zone}"));
        if facts.is_known {
            self.say("node", format!("{name} has {addresses}; {zone}"));
            return;
        }
        let others = match &**nodes {
            [] => "the manifests have no Node object".to_owned(),
            nodes => format!(
                "the manifests have no Node named {name}, but {}",
                join(nodes.iter().map(ToString::to_string))
            ),
        };
        let assumed = format!(
            "{others}: assumed are {addresses}, no zone, and no pods but the endpoints whose nodeName is {name}; add the \
             Node object, or give its addresses with --node-address"
        );
        self.say("node", assumed);
    }

    fn source_class(&mut self) {
        let text = match self.caller {
            Caller::Host(why) => format!("this host itself: {why}"),
            Caller::Pod(why) => format!("a pod of this node: {why}"),
            Caller::Outside(why) => format!("outside: {why}"),
        };
        self.say("source", text);
    }

    fn frontend(&mut self, met: &Met) {
        let kind = words::kind(met.kind);
        let name = self.scene.name_of(met.service);
        let asked = format!("{}/{}", self.question.to, protocol_name(self.question.protocol));
        let text = if met.kind == FrontendKind::NodePort {
            let place = if self.question.to.ip().is_loopback() || self.question.to.ip().is_unspecified() {
                "the host itself"
            } else {
                "an address of this node"
            };
            format!("{asked} is a NodePort of Service {name}, met at {place}")
        } else {
            format!("{asked} is the {kind} of Service {name}")
        };
        self.say("frontend", text);
        let claimants = self.world.map(|world| world.model.claimants(&met.frontend));
        let others = claimants.iter().flatten().skip(1);
        let others = join(others.map(ToString::to_string));
        if !others.is_empty() {
            let text = format!("{others} claims it too and does without: the older Service has it");
            self.say("conflict", text);
        }
    }

    fn guard(&mut self, met: &Met) {
        let Some((is_in, judged)) = met.admitted else {
            return;
        };
        let ranges = join(self.scene.store.ranges_of(met.service).iter().map(range_text));
        let text = if is_in {
            format!("loadBalancerSourceRanges {ranges} let {judged} in")
        } else {
            format!(
                "loadBalancerSourceRanges {ranges} do not let {judged} in: dropped before anything is translated"
            )
        };
        self.say("source ranges", text);
        if judged != self.question.from {
            let text = format!("a call of the host is judged by the node's own address, {judged}");
            self.say("source ranges", text);
        }
    }

    fn policy(&mut self, met: &Met, reasons: Option<&Reasons>) {
        let Some(reasons) = reasons else {
            let text = match met.list {
                ListName::Internal => "the internal list serves a ClusterIP",
                ListName::External => "the external list serves calls from outside",
                ListName::Shortcut => "the shortcut list, of all endpoints, serves calls from this node",
            };
            self.say("policy", text);
            return;
        };
        let (internal, external) = (words::policy(reasons.internal), words::policy(reasons.external));
        let text = match (met.list, reasons.external) {
            (ListName::Internal, _) => {
                format!("internalTrafficPolicy {internal} rules a ClusterIP: the internal list")
            }
            (ListName::External, _) => {
                format!("externalTrafficPolicy {external} rules calls from outside: the external list")
            }
            (ListName::Shortcut, TrafficPolicy::Local) => {
                "externalTrafficPolicy Local does not rule calls from this \
                 node: the shortcut list, of all endpoints"
                    .to_owned()
            }
            (ListName::Shortcut, TrafficPolicy::Cluster) => {
                "externalTrafficPolicy Cluster; a call from this node: the shortcut list, of all endpoints"
                    .to_owned()
            }
        };
        self.say("policy", text);
    }

    fn hints(&mut self, met: &Met, reasons: &Reasons) {
        if policy_of(met, reasons) == TrafficPolicy::Local {
            return;
        }
        let zone = self
            .world
            .and_then(|world| world.model.zone())
            .map(|zone| &**zone);
        let node = words::hints("node", reasons.node_hints, zone);
        let is_by_node = reasons
            .endpoints
            .iter()
            .any(|judged| judged.standings.cluster == crate::model::Standing::Ready(Topology::Node));
        let zones = match is_by_node {
            true => None,
            false => words::hints("zone", reasons.zone_hints, zone),
        };
        for text in node.into_iter().chain(zones) {
            self.say("hints", text);
        }
    }

    fn endpoints(&mut self, endpoints: &[EndpointAnswer], reasons: Option<&Reasons>) {
        for answer in endpoints {
            let place = match &answer.node {
                Some(node) if *node == self.scene.facts.name => " (this node)".to_owned(),
                Some(node) => format!(" ({node})"),
                None => String::new(),
            };
            let used = if answer.used { "in" } else { "out" };
            let text = format!("{}{place}: {used}: {}", answer.endpoint, answer.reason);
            self.say("endpoint", text);
        }
        for (slice, why) in reasons.iter().flat_map(|reasons| &reasons.unused_slices) {
            self.say("endpoint", format!("none of EndpointSlice {slice}: {why}"));
        }
        if endpoints.is_empty() {
            let text = if self.world.is_some() {
                "the Service has none"
            } else {
                "none serves"
            };
            self.say("endpoint", text);
        }
    }

    fn choice(&mut self, met: &Met) {
        let text = match (met.count, met.when_empty) {
            (0, When::Reject) => "nobody to choose: no endpoint is usable anywhere".to_owned(),
            (0, When::Drop) => "nobody to choose here, though other nodes have endpoints".to_owned(),
            (1, _) => "one backend: it is taken".to_owned(),
            (count, _) => format!("one of {count} at random, each as likely as the others"),
        };
        self.say("choice", text);
        let place = match (self.caller, self.ruling.is_by_socket) {
            (_, true) => "made once, at the system call (socket LB): the socket calls the backend itself",
            (Caller::Host(_), false) => "the host's calls of this protocol are not translated",
            (Caller::Pod(_), false) => "made for the first packet, where it leaves the pod",
            (Caller::Outside(_), false) => "made for the first packet, where it enters the node",
        };
        if met.count > 0 {
            self.say("choice", place);
        }
    }

    fn affinity(&mut self, met: &Met) {
        let seconds = met.affinity;
        if seconds == 0 {
            return;
        }
        let key = match self.caller {
            Caller::Host(_) => "its network namespace",
            Caller::Pod(_) | Caller::Outside(_) => "its address",
        };
        let text = format!(
            "ClientIP: the caller, known by {key}, keeps its backend for {seconds} s from its last new connection to any \
             frontend of this service port, as long as the backend is in the list"
        );
        self.say("affinity", text);
        let is_of_a_pod = self.ruling.is_by_socket && matches!(self.caller, Caller::Pod(_));
        if is_of_a_pod && self.scene.is_running() && !self.scene.knows(self.question.from) {
            let text = "socket LB does not know the caller's address yet: this call goes by packets, with the same choice, and \
                        makes it known";
            self.say("affinity", text);
        }
        if let Some((backend, age)) = self.ruling.kept {
            let text = if age < seconds {
                format!("a record names {backend}, used {age} s ago")
            } else {
                format!("a record names {backend}, but it was used {age} s ago: it holds no more")
            };
            self.say("affinity", text);
        }
    }

    fn way(&mut self, source: Source, policy: Option<TrafficPolicy>) {
        let Ruling {
            backends,
            by_packets,
            is_by_socket,
            ..
        } = self.ruling;
        if self.ruling.verdict != Verdict::Forward {
            return;
        }
        let from = self.question.from;
        let (first, count) = (self.scene.config.snat_first, self.scene.config.snat_count);
        let ports = format!("{first}-{}", first.saturating_add(count.saturating_sub(1)));
        let primary = self.scene.facts.primary(self.question.family());
        let ours = primary.map_or_else(|| "this node's address".to_owned(), |address| address.to_string());
        let count_of = |treatment| {
            let packets = if *is_by_socket { by_packets } else { backends };
            packets
                .values()
                .filter(|chosen: &&Chosen| chosen.treatment == treatment)
                .count()
        };
        if *is_by_socket {
            let text = match self.caller {
                Caller::Host(_) => "kept: the socket has the host's own address",
                _ => "kept: the socket has the pod's own address",
            };
            self.say("source address", text);
        }
        if matches!(self.caller, Caller::Host(_)) {
            return;
        }
        if count_of(Treatment::Kept) > 0 && !is_by_socket {
            let who = match self.caller {
                Caller::Pod(_) => "every backend but the caller itself",
                _ => "backends of this node",
            };
            self.say("source address", format!("{from} is kept towards {who}"));
        }
        let masqueraded = count_of(Treatment::Masqueraded);
        if masqueraded > 0 {
            let text = format!(
                "towards backends of other nodes it becomes this node's address on the way there ({ours}), with a free \
                 port of {ports}; the caller's own port is kept if it is of these"
            );
            self.say("source address", text);
        }
        if count_of(Treatment::Hairpin) > 0 {
            let which = match source {
                Source::Masqueraded => "the only backend is",
                _ => "one of the backends is",
            };
            let text = format!(
                "{which} the caller itself: towards it, a packet's source becomes {ours} with a port of {ports}{}",
                if *is_by_socket {
                    "; a socket that socket LB serves calls its own address, and nothing is masqueraded"
                } else {
                    ""
                }
            );
            self.say("hairpin", text);
        }
        if source == Source::MasqueradedToRemote && masqueraded == 0 && policy.is_some() {
            let text = "all backends are of this node now: nothing is masqueraded until one of another node is chosen";
            self.say("source address", text);
        }
    }

    /// By which interfaces a running node reaches the backends.
    fn interfaces(&mut self) {
        let backends: Vec<_> = self.ruling.backends.keys().copied().collect();
        for backend in backends.into_iter().filter(|_| self.scene.is_running()) {
            let text = match self.scene.way(backend.ip()) {
                Some(way) => match way.source {
                    Ok(source) => format!("{backend} by {}, where this node is {source}", way.interface),
                    Err(_) => format!("{backend} by {}", way.interface),
                },
                None => format!("{backend}: the routing table knows no way"),
            };
            self.say("interface", text);
        }
    }

    /// Why nothing was met.
    fn nowhere(&mut self) {
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

    fn verdict(&mut self) {
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
