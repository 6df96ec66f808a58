//! What the backends see, and by which interface they are reached.

use super::Writer;
use crate::explain::answer::Source;
use crate::explain::decide::{Chosen, Ruling, Treatment, Verdict};
use crate::explain::node::Caller;
use crate::source::TrafficPolicy;

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
    if ruling.met.is_some_and(|met| met.hands_on) {
        return Source::Kept;
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

impl Writer<'_> {
    pub(super) fn way(&mut self, source: Source, policy: Option<TrafficPolicy>) {
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
        if count_of(Treatment::HandedOn) > 0 {
            let text = format!(
                "{from} is kept towards backends of other nodes: the packets are handed on whole to the backend's node (DSR), \
                 which answers the caller itself"
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
    pub(super) fn interfaces(&mut self) {
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
}
