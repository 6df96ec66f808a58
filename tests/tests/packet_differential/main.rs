//! The same decision on the host and in the kernel, for random tables and random packets in sequence.
//!
//! Both sides start from the same tables. The kernel sees a packet first; then the rules run on the host once for each
//! outcome that the dice could have had, until one gives the kernel's verdict, the kernel's bytes and the kernel's flows
//! (times apart, which differ by the ticks between). Then the host goes on from what the kernel did.
//!
//! A random number is used as `number % backends` and as `number % ports`. With one number for all draws of a packet,
//! and all numbers up to the least common multiple, every pair of a backend and a port comes up, whatever was tried and
//! found taken before.
//!
//! The same with XDP in front of the uplink's TC: together they must do what the rules say once.

mod fate;
mod outcome;
mod sent;
mod tables;

use std::collections::HashSet;

use lab::packet::dice::Dice;
use lab::packet::stage::*;
use lab::packet::{Kin, ticks};
use proxy_common::layout::{Counter, V4, V6};

use fate::Fate;

/// Ticks that stand for a second: so many that the test's own time does not count.
const SECOND: u32 = 1_000_000;
const SEQUENCES: u64 = 300;
/// The kernel's own dice decide what comes up: what is rare may take longer to.
const MOST_SEQUENCES: u64 = 10 * SEQUENCES;
const PACKETS: usize = 40;

struct Difference<A: Kin> {
    stage: Stage<A>,
    /// What comes from the network goes through XDP first.
    has_xdp: bool,
    dice: Dice,
    /// The kernel's counters are never reset.
    counted: Vec<u64>,
    seen: HashSet<&'static str>,
}

impl<A: Kin> Difference<A> {
    fn new(seed: u64, has_xdp: bool) -> Self {
        let mut difference = Self {
            stage: Stage::new(&[]),
            has_xdp,
            dice: Dice(seed),
            counted: Vec::new(),
            seen: HashSet::new(),
        };
        difference.stage.kernel.reset();
        difference.stage.kernel.set_neighbours(ticks());
        difference.prepare();
        difference
    }

    /// Which events have come up at all.
    fn note(&mut self, fate: &Fate<A>) {
        for (counter, times) in Counter::ALL.iter().zip(&fate.counters) {
            if *times > 0 {
                self.seen.insert(counter.name());
            }
        }
    }

    fn run(&mut self) {
        let mut history = Vec::new();
        for _ in 0..PACKETS {
            match self.dice.below(30) {
                0 | 1 => self.toggle_a_backend(),
                2 => self.change_a_service(),
                3 | 4 => self.wait(),
                5 => self.evict(),
                _ => {
                    let error = if self.dice.one_in(5) { self.error() } else { None };
                    let sent = error.unwrap_or_else(|| self.packet());
                    history.push(sent);
                    self.compare(&history);
                    continue;
                }
            }
            self.stage.install_tables();
        }
    }
}

/// What must come up at least once.
const WANTED: [Counter; 25] = [
    Counter::NoEndpoint,
    Counter::NoLocalEndpoint,
    Counter::SourcePortsExhausted,
    Counter::NoRoute,
    Counter::HopLimit,
    Counter::FragmentWithoutFirst,
    Counter::HostUntranslated,
    Counter::TurnedBack,
    Counter::FlowCreated,
    Counter::FlowPromoted,
    Counter::PartnerRestored,
    Counter::ReverseCollision,
    Counter::TcpWithoutFlow,
    Counter::UdpRebalanced,
    Counter::ReverseWithoutFlow,
    Counter::ForeignPort,
    Counter::ErrorSent,
    Counter::AffinityKept,
    Counter::ErrorTranslated,
    Counter::SourceNotAllowed,
    Counter::SctpWithoutFlow,
    Counter::SctpFragment,
    Counter::UnknownPort,
    Counter::UnallocatedAddress,
    Counter::PingAnswered,
];

impl<A: Kin> Difference<A> {
    fn unseen(&self) -> Vec<&'static str> {
        let by_xdp = self.has_xdp.then_some(Counter::XdpForwarded);
        let names = WANTED.iter().copied().chain(by_xdp).map(Counter::name);
        names.filter(|name| !self.seen.contains(*name)).collect()
    }
}

fn differ<A: Kin>(seed: u64, has_xdp: bool) {
    let mut difference = Difference::<A>::new(seed, has_xdp);
    for sequence in 0..MOST_SEQUENCES {
        if sequence >= SEQUENCES && difference.unseen().is_empty() {
            return;
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            difference.dice = Dice(seed ^ sequence << 32);
            difference.prepare();
            difference.run();
        }));
        if let Err(panic) = result {
            eprintln!("sequence {sequence} of seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
    // A generator that goes blind must not pass.
    let unseen = difference.unseen();
    assert!(unseen.is_empty(), "never came up: {}", unseen.join(", "));
}

#[test]
fn host_and_kernel_decide_alike_v4() {
    differ::<V4>(4, false);
}

#[test]
fn host_and_kernel_decide_alike_v6() {
    differ::<V6>(6, false);
}

#[test]
fn xdp_before_tc_changes_nothing_v4() {
    differ::<V4>(104, true);
}

#[test]
fn xdp_before_tc_changes_nothing_v6() {
    differ::<V6>(106, true);
}
