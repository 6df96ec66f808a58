//! What becomes of a packet on either side, and whether that is the same.

use std::collections::HashMap;

use lab::packet::REDIRECT;
use lab::packet::{Context, Error, Frame, Kin};
use proxy_common::host::FlowTables;
use proxy_common::layout::{
    Affinity, AffinityKey, BackendId, Counter, Flow, FragmentKey, FragmentPorts, Meta, names::program,
};
use proxy_common::rules::{Decision, Origin, Work, hook};

use crate::outcome::{Tuple, outcome, shown};
use crate::sent::Sent;
use crate::{Difference, SECOND};

/// What is compared of a packet's fate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fate<A: Kin> {
    verdict: i32,
    /// What leaves: whole packets as frames; pieces, refusals and malformed packets by their tuple, or not at all.
    frame: Option<Frame>,
    tuple: Option<Tuple<A>>,
    error: Option<Error>,
    flows: FlowTables<A>,
    fragments: HashMap<FragmentKey<A>, FragmentPorts>,
    affinities: HashMap<AffinityKey, Affinity>,
    /// Of the backends that have any.
    loads: HashMap<BackendId, i32>,
    pub(crate) counters: Vec<u64>,
}

/// A tag of 0 in place of the time.
fn timeless<A: Kin>(flow: Flow<A>) -> Flow<A> {
    Flow {
        meta: flow.meta.with(flow.meta.state(), 0),
        ..flow
    }
}

impl<A: Kin> Difference<A> {
    /// What the kernel makes of a packet.
    fn in_the_kernel(&mut self, sent: &Sent) -> Fate<A> {
        let interface = self.stage.interface(sent.name);
        let context = Context {
            interface,
            came_in_by: if sent.turns_back { interface } else { 0 },
            ..Context::default()
        };
        let output = if self.has_xdp && sent.name == program::FROM_NETWORK {
            self.stage.run_both(&sent.bytes(), context)
        } else {
            self.stage.run_in(sent.name, &sent.bytes(), context)
        };
        let counters = self.stage.kernel.counters();
        let delta = counters
            .iter()
            .zip(&self.counted)
            .map(|(now, then)| now - then)
            .collect();
        self.counted = counters;
        let flows = self.stage.kernel.flows::<A>();
        let fragments = self.stage.kernel.fragments::<A>();
        let flows = flows
            .into_iter()
            .map(|(table, key, flow)| ((table, key), flow))
            .collect();
        let affinities = self.stage.kernel.affinities().into_iter().collect();
        let loads = self.loads();
        let (frame, tuple, error) = shown(sent, &output);
        Fate {
            verdict: output.verdict,
            frame,
            tuple,
            error,
            flows,
            fragments: fragments.into_iter().collect(),
            affinities,
            loads,
            counters: delta,
        }
    }

    /// What the rules make of it, if the dice show this number.
    fn on_the_host(&mut self, sent: &Sent, number: u32) -> Fate<A> {
        let host = &self.stage.host;
        host.script([number; 32]);
        let before: Vec<_> = Counter::ALL
            .iter()
            .map(|counter| host.counted(*counter))
            .collect();
        let bytes = sent.bytes();
        let packet = &bytes[14..];
        let mut work = Work::<A>::default();
        let is_ignored = match sent.name {
            program::FROM_POD | program::FROM_NETWORK => hook::ingress_ignores(host, &host.config, &packet),
            program::TO_POD => hook::egress_pod_ignores(host, &packet),
            _ => hook::egress_uplink_ignores(host, &host.config, &packet, sent.turns_back),
        };
        let decision = if is_ignored {
            Decision::Pass
        } else {
            let verdict = match sent.name {
                program::FROM_POD => hook::ingress(host, Origin::Pod, &packet, &mut work),
                program::FROM_NETWORK => hook::ingress(host, Origin::Network, &packet, &mut work),
                program::TO_POD => hook::egress_pod(host, &packet, &mut work),
                _ => hook::egress_uplink(host, &packet, &mut work, sent.turns_back),
            };
            verdict.decision()
        };
        let mut counters: Vec<_> = Counter::ALL
            .iter()
            .zip(before)
            .map(|(counter, before)| host.counted(*counter) - before)
            .collect();
        let flows = host.flows.borrow().clone();
        let fragments = host.fragments.borrow().clone();
        let affinities = host.affinities.borrow().clone();
        let mut loads = host.loads.borrow().clone();
        loads.retain(|_, load| *load != 0);
        let (verdict, (frame, tuple, error)) = outcome(sent, decision, &work, &mut counters);
        Fate {
            verdict,
            frame,
            tuple,
            error,
            flows,
            fragments,
            affinities,
            loads,
            counters,
        }
    }

    pub(crate) fn compare(&mut self, history: &[Sent]) {
        let sent = &history[history.len() - 1];
        let kernel = self.in_the_kernel(sent);
        let flows = self.stage.host.flows.borrow().clone();
        let fragments = self.stage.host.fragments.borrow().clone();
        let affinities = self.stage.host.affinities.borrow().clone();
        let loads = self.stage.host.loads.borrow().clone();
        let ports = u32::from(self.stage.host.config.snat_count.max(1));
        let mut nearest = None;
        for number in 0..12 * ports {
            let host = self.on_the_host(sent, number);
            *self.stage.host.flows.borrow_mut() = flows.clone();
            *self.stage.host.fragments.borrow_mut() = fragments.clone();
            *self.stage.host.affinities.borrow_mut() = affinities.clone();
            *self.stage.host.loads.borrow_mut() = loads.clone();
            if is_same(&kernel, &host) {
                self.note(&kernel);
                self.adopt();
                return;
            }
            nearest.get_or_insert(host);
        }
        let named = |fate: &Fate<A>| -> Vec<_> {
            let counters = Counter::ALL.iter().zip(&fate.counters);
            counters
                .filter(|(_, times)| **times > 0)
                .map(|(counter, times)| (counter.name(), *times))
                .collect()
        };
        let host = nearest.unwrap_or_else(|| kernel.clone());
        let shown = |fate: &Fate<A>| std::format!("{} {:?} {:?}", fate.verdict, fate.tuple, named(fate));
        let changes = |fate: &Fate<A>| {
            let is_new = |(key, flow): &(&_, &Flow<A>)| {
                flows.get(*key).map(|old| timeless(*old)) != Some(timeless(**flow))
            };
            let new: Vec<_> = fate.flows.iter().filter(is_new).collect();
            let gone: Vec<_> = flows
                .keys()
                .filter(|key| !fate.flows.contains_key(*key))
                .collect();
            std::format!("written {new:?}\ngone {gone:?}")
        };
        panic!(
            "{sent:?}\n\nkernel: {}\n{}\n{:?} {:?}\n\nhost: {}\n{}\n{:?} {:?}\n\n",
            shown(&kernel),
            changes(&kernel),
            kernel.frame,
            kernel.error,
            shown(&host),
            changes(&host),
            host.frame,
            host.error
        );
    }
}

fn is_same<A: Kin>(kernel: &Fate<A>, host: &Fate<A>) -> bool {
    // How often a taken key was drawn before the last draw is the dice's alone.
    let countable = |counters: &[u64]| {
        let mut counters = counters.to_vec();
        counters[Counter::ReverseCollision as usize] = 0;
        // The rules do not know which hook sends a packet on.
        counters[Counter::XdpForwarded as usize] = 0;
        counters
    };
    let has_refusal =
        kernel.verdict == REDIRECT && host.frame.is_none() && host.tuple.is_none() && host.error.is_none();
    let is_near = |left: Meta, right: Meta| left.seen().abs_diff(right.seen()) < SECOND / 4;
    let flows = kernel.flows.len() == host.flows.len()
        && kernel.flows.iter().all(|(key, flow)| {
            let other = host.flows.get(key);
            other.is_some_and(|other| timeless(*flow) == timeless(*other) && is_near(flow.meta, other.meta))
        });
    let affinities = kernel.affinities.len() == host.affinities.len()
        && kernel.affinities.iter().all(|(key, record)| {
            let other = host.affinities.get(key);
            other.is_some_and(|other| {
                (record.tag(), record.target) == (other.tag(), other.target)
                    && record.seen().abs_diff(other.seen()) < SECOND / 4
            })
        });
    kernel.verdict == host.verdict
        && kernel.loads == host.loads
        && (has_refusal
            || (kernel.frame == host.frame && kernel.tuple == host.tuple && kernel.error == host.error))
        && flows
        && kernel.fragments == host.fragments
        && affinities
        && countable(&kernel.counters) == countable(&host.counters)
}
