//! The decision, made by the rules themselves: a packet, or a call of a socket, for every backend that could be drawn.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

use proxy_common::host::HostNode;
use proxy_common::layout::{
    Action, Addr, AffinityKey, Backend, ChoiceRule, Config, Counter, FrontendKind, ListWord,
    NamespaceAddress, NamespaceKey, Port, ServiceId, V4, V6, When,
};
use proxy_common::rules::choice::{self, Found};
use proxy_common::rules::headers::Readable;
use proxy_common::rules::socket::{self, Choice, Socket};
use proxy_common::rules::{self, Decision, Directory, Origin, Work, hook};
use serde::Serialize;

use super::node::Caller;
use super::packet::opening;
use super::scene::Scene;
use super::{Question, Store};
use crate::plan::Frontend;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It goes to a backend.
    Forward,
    /// It is refused at once.
    Reject,
    /// It is lost without an answer.
    Drop,
    /// It is none of a Service's: it goes on untouched.
    #[default]
    NotAService,
}

/// Which list of a service port serves a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListName {
    /// The ClusterIP's, by internal traffic policy.
    Internal,
    /// The other frontends' from outside, by external traffic policy.
    External,
    /// The other frontends' from this node: all endpoints, whatever the policy.
    Shortcut,
}

/// How a call's packets go on to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Treatment {
    /// The socket calls the backend in the Service's place.
    Socket,
    /// By the node's stack, the caller's address kept.
    Kept,
    /// With the node's address and a port of its range.
    Masqueraded,
    /// The same, back to the caller itself.
    Hairpin,
    /// Whole, to the backend's node, which answers the caller (DSR).
    HandedOn,
}

/// A backend that could be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) is_local: bool,
    pub(super) treatment: Treatment,
}

/// The frontend that was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Met {
    pub(super) service: ServiceId,
    pub(super) kind: FrontendKind,
    pub(super) frontend: Frontend,
    pub(super) list: ListName,
    /// Whether the call goes whole to backends of other nodes (DSR).
    pub(super) hands_on: bool,
    /// Backends in that list.
    pub(super) count: u32,
    /// How one of them is chosen.
    pub(super) rule: ChoiceRule,
    /// Entries of the list's table; 0: it has none.
    pub(super) table: u32,
    pub(super) when_empty: When,
    /// Seconds; 0: no affinity.
    pub(super) affinity: u32,
    /// Whether the source ranges let the caller in, if the frontend has any, and the address that was judged.
    pub(super) admitted: Option<(bool, IpAddr)>,
}

impl Met {
    /// Whether a Service without endpoints lets the call go on as it is.
    fn passes(&self) -> bool {
        let is_let_in = self.admitted.is_none_or(|(is_in, _)| is_in);
        self.count == 0 && self.when_empty == When::Pass && is_let_in
    }
}

/// The cookie of a pod's network namespace, which nothing here tells: one that the kernel, who counts, never gives.
const A_PODS_NAMESPACE: u64 = u64::MAX;

/// All that the rules say of a call.
#[derive(Clone, Debug, Default)]
pub(super) struct Ruling {
    pub(super) verdict: Verdict,
    /// Why, if it is refused or dropped.
    pub(super) counter: Option<Counter>,
    pub(super) met: Option<Met>,
    pub(super) backends: BTreeMap<SocketAddr, Chosen>,
    /// The same by packets, where sockets of the caller are served: for callers whose sockets are not.
    pub(super) by_packets: BTreeMap<SocketAddr, Chosen>,
    /// Whether the choice is made at the system call.
    pub(super) is_by_socket: bool,
    /// The backend that a record of session affinity keeps, with the seconds since it was used.
    pub(super) kept: Option<(SocketAddr, u32)>,
}

/// What one draw gives.
enum Outcome {
    Untouched,
    Refused(Verdict, Counter),
    To(SocketAddr, Chosen),
}

/// Asks the rules in the question's family.
pub(super) fn ask(scene: &Scene, question: &Question, caller: &Caller) -> Ruling {
    match question.to.ip() {
        IpAddr::V4(_) => Asking::<V4>::new(scene, question, caller).ask(),
        IpAddr::V6(_) => Asking::<V6>::new(scene, question, caller).ask(),
    }
}

struct Asking<'a, A: Addr + Hash> {
    node: HostNode<A>,
    config: Config,
    store: &'a Store,
    question: &'a Question,
    caller: &'a Caller,
    packet: Vec<u8>,
}

impl<'a, A: Addr + Hash + Readable> Asking<'a, A>
where
    IpAddr: From<A>,
{
    fn new(scene: &'a Scene, question: &'a Question, caller: &'a Caller) -> Self {
        let node = scene.node();
        let namespace = NamespaceKey::new(A_PODS_NAMESPACE, A::FAMILY);
        let from = A::from_mapped(question.from.into());
        node.put_namespace(
            &namespace,
            &NamespaceAddress::new(&namespace, &from, scene.store.clock),
        );
        Self {
            node,
            config: scene.config,
            store: &scene.store,
            question,
            caller,
            packet: opening(question),
        }
    }

    fn ask(&self) -> Ruling {
        let met = self.meet();
        let draws = met.map_or(0, |met| met.count.max(met.table)).max(1);
        let by_socket = self
            .socket()
            .map(|socket| self.rule(draws, || self.call(&socket)));
        let by_packets = self.rule(draws, || self.send());
        let mut ruling = match by_socket {
            // The call goes on as it is: its packets are judged.
            Some(ruling) if ruling.verdict == Verdict::NotAService => by_packets,
            Some(mut ruling) => {
                ruling.is_by_socket = true;
                ruling.by_packets = by_packets.backends;
                ruling
            }
            None => by_packets,
        };
        // What goes on untouched has met nothing, whatever is there.
        let met = met.filter(|met| ruling.verdict != Verdict::NotAService || met.passes());
        ruling.kept = met.and_then(|met| self.kept(&met));
        ruling.met = met;
        ruling
    }

    /// The socket that calls, if socket LB serves it.
    fn socket(&self) -> Option<Socket> {
        let host = self.config.host_netns_cookie;
        let socket = Socket {
            netns_cookie: match self.caller {
                Caller::Host(_) => host,
                Caller::Pod(_) => A_PODS_NAMESPACE,
                Caller::Outside(_) => return None,
            },
            protocol: self.question.protocol,
        };
        socket::serves(&self.config, &socket).then_some(socket)
    }

    fn destination(&self) -> (A, Port) {
        let to = self.question.to;
        (A::from_mapped(to.ip().into()), Port::new(to.port()))
    }

    /// Loopback and wildcard addresses stand for the node itself, for its own sockets.
    fn is_loopback(&self) -> bool {
        let address = self.question.to.ip();
        address.is_loopback() || address.is_unspecified()
    }

    /// The frontend at the destination and what it has for the caller.
    fn meet(&self) -> Option<Met> {
        let (address, port) = self.destination();
        let protocol = self.question.protocol;
        let is_host = matches!(self.caller, Caller::Host(_));
        let found: Found = if self.is_loopback() {
            is_host
                .then(|| choice::node_port(&self.node, port, protocol))
                .flatten()?
        } else {
            choice::frontend(&self.node, &address, port, protocol)?
        };
        let caller = match self.caller {
            Caller::Host(_) => choice::Caller::Node,
            Caller::Pod(_) => self.by_address(Origin::Pod),
            Caller::Outside(_) => self.by_address(Origin::Network),
        };
        let offer = choice::offer(&self.node, &found, caller);
        let judged = match (is_host, self.node.primary_address()) {
            (true, Some(primary)) => primary,
            _ => A::from_mapped(self.question.from.into()),
        };
        let is_guarded = found.kind == FrontendKind::GuardedLoadBalancer;
        let is_node_port = found.kind == FrontendKind::NodePort;
        Some(Met {
            service: found.service,
            kind: found.kind,
            frontend: Frontend {
                address: if is_node_port {
                    A::UNSPECIFIED.into()
                } else {
                    self.question.to.ip()
                },
                port,
                protocol,
            },
            list: match (found.kind, caller) {
                (FrontendKind::ClusterIp, _) => ListName::Internal,
                (_, choice::Caller::Node) if !self.hands_on(&found) => ListName::Shortcut,
                (_, _) => ListName::External,
            },
            hands_on: offer.hands_on,
            count: offer.list.count(),
            rule: self.rule_of(found.service, offer.list),
            table: self.table(offer.list),
            when_empty: offer.list.when_empty(),
            affinity: offer.affinity.seconds(),
            admitted: is_guarded.then(|| (choice::admits(&self.node, &found, &judged), judged.into())),
        })
    }

    /// Whether the service port forwards by DSR.
    fn hands_on(&self, found: &Found) -> bool {
        let service = self.store.services.get(&found.service);
        service.is_some_and(|service| service.hands_on(found.tag))
    }

    /// A list's rule as the maps have it.
    fn rule_of(&self, service: ServiceId, list: ListWord) -> ChoiceRule {
        let service = self.store.services.get(&service).copied().unwrap_or_default();
        let lists = [service.internal, service.external, service.shortcut];
        let same = lists.into_iter().find(|other| other.first() == list.first());
        same.map_or(ChoiceRule::Random, ListWord::rule)
    }

    fn table(&self, list: ListWord) -> u32 {
        let length = list.table_length_slot().and_then(|slot| self.node.slot(slot));
        length.map_or(0, |length| length.0)
    }

    /// Whose call it is, where ranges of pods may say so.
    fn by_address(&self, origin: Origin) -> choice::Caller {
        choice::caller(&self.node, origin, &A::from_mapped(self.question.from.into()))
    }

    /// Runs a rule once for each number that can be drawn, each time on the node as it is.
    fn rule(&self, draws: u32, run: impl Fn() -> Outcome) -> Ruling {
        let mut ruling = Ruling::default();
        for draw in 0..draws {
            self.node.script([draw]);
            self.node.flows.borrow_mut().clear();
            *self.node.affinities.borrow_mut() = self.store.affinities.iter().copied().collect();
            match run() {
                Outcome::To(backend, chosen) => {
                    ruling.backends.insert(backend, chosen);
                }
                Outcome::Refused(verdict, counter) if ruling.counter.is_none() => {
                    (ruling.verdict, ruling.counter) = (verdict, Some(counter));
                }
                Outcome::Refused(..) | Outcome::Untouched => {}
            }
        }
        if !ruling.backends.is_empty() {
            (ruling.verdict, ruling.counter) = (Verdict::Forward, None);
        }
        ruling
    }

    fn call(&self, socket: &Socket) -> Outcome {
        let (address, port) = self.destination();
        match socket::choose(
            &self.node,
            &self.config,
            socket,
            &address,
            port,
            self.is_loopback(),
        ) {
            Choice::Untouched => Outcome::Untouched,
            Choice::Refuse(counter) => Outcome::Refused(verdict_of(counter), counter),
            Choice::Backend(_, backend) => Self::to(&backend, Treatment::Socket),
        }
    }

    fn send(&self) -> Outcome {
        let mut work = Work::default();
        let bytes = &&*self.packet;
        let arrived = match self.caller {
            Caller::Host(_) => None,
            Caller::Pod(_) => Some(hook::ingress(&self.node, Origin::Pod, bytes, &mut work)),
            Caller::Outside(_) => Some(hook::ingress(&self.node, Origin::Network, bytes, &mut work)),
        };
        // What goes on untouched is looked at once more if it leaves the node, by the uplink that brought it if one did.
        let verdict = match arrived {
            Some(verdict) if verdict != rules::Verdict::PASS => verdict,
            // It has arrived.
            Some(verdict) if self.node.is_node_address(&self.destination().0) => verdict,
            _ => {
                let turns_back = matches!(self.caller, Caller::Outside(_));
                hook::egress_uplink(&self.node, bytes, &mut work, turns_back)
            }
        };
        let action = match verdict.decision() {
            Decision::Reject(counter) => return Outcome::Refused(Verdict::Reject, counter),
            Decision::Drop(counter) => return Outcome::Refused(Verdict::Drop, counter),
            Decision::Translate(action) => action,
            Decision::Pass | Decision::TranslateError(_) | Decision::AnswerEcho | Decision::AwaitFirst => {
                return Outcome::Untouched;
            }
        };
        let treatment = match action {
            Action::Stack | Action::Bypass => Treatment::Kept,
            Action::Redirect => Treatment::Masqueraded,
            Action::Hairpin => Treatment::Hairpin,
            Action::Encapsulate => Treatment::HandedOn,
            Action::Foreign => return Outcome::Untouched,
        };
        match self.node.backend(work.flow.backend) {
            Some(backend) => Self::to(&backend, treatment),
            None => Outcome::Untouched,
        }
    }

    fn to(backend: &Backend, treatment: Treatment) -> Outcome {
        let address = IpAddr::from(A::from_mapped(backend.address));
        Outcome::To(
            SocketAddr::new(address, backend.port.number()),
            Chosen {
                is_local: backend.is_local(),
                treatment,
            },
        )
    }

    /// The client's record, as it stands.
    fn kept(&self, met: &Met) -> Option<(SocketAddr, u32)> {
        if met.affinity == 0 {
            return None;
        }
        let key = match self.caller {
            Caller::Host(_) => AffinityKey::of_namespace(self.config.host_netns_cookie, met.service),
            Caller::Pod(_) | Caller::Outside(_) => {
                AffinityKey::of_address(&A::from_mapped(self.question.from.into()), met.service)
            }
        };
        let (_, record) = self.store.affinities.iter().find(|(other, _)| *other == key)?;
        let age = self.store.clock.wrapping_sub(record.seen()) / self.config.ticks_per_second.max(1);
        let backend = self.store.backends.get(&record.backend())?;
        let address = IpAddr::from(A::from_mapped(backend.address));
        Some((SocketAddr::new(address, backend.port.number()), age))
    }
}

/// What a caller sees of a refusal at the system call, as the packet path tells the same reasons apart.
fn verdict_of(counter: Counter) -> Verdict {
    match counter {
        Counter::NoEndpoint | Counter::HostUntranslated => Verdict::Reject,
        _ => Verdict::Drop,
    }
}
