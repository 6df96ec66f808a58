//! Established flows that a full table has pushed out. The kernel tells nobody of it, so each sweep of the tables looks for the
//! flows that the sweep before has met.
//!
//! A flow counts if it was open when it was last met, its time is not up yet, its table is full, and two sweeps in a row do not
//! meet it. Programs take flows away as well: where no endpoint is left, and to make them anew, when a flow may seem to be in
//! neither of two tables that are walked one after the other.

use proxy_common::layout::{Addr, Config, Direction, Flow, FlowKey, state};
use proxy_common::rules::{hash, lifetime, load};

/// Free entries that a CPU may keep to itself, so that a table pushes out although it has them: LOCAL_FREE_TARGET of
/// kernel/bpf/bpf_lru_list.c. Since 6.16 fewer in small tables.
const KEPT_BY_A_CPU: u64 = 128;

/// Whether a table with so many entries may push out.
pub(super) fn is_full(entries: u64, capacity: u32, cpus: u64) -> bool {
    entries.saturating_add(KEPT_BY_A_CPU.saturating_mul(cpus)) >= u64::from(capacity)
}

/// A flow by its forward entry. 8 bytes, for there is one for each flow of a full table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    /// Of the key; two flows have the same once in 2^32.
    hash: u32,
    /// Seconds that are left of its time, counted from the sweep that met it.
    left: u16,
    is_met: bool,
    was_missed: bool,
}

/// The established flows of one table.
#[derive(Debug, Default)]
pub(super) struct PushedOut {
    /// What the last whole sweep left, in the order of their hashes.
    known: Vec<Known>,
    /// What this one leaves.
    next: Vec<Known>,
    /// The tick at which the last whole sweep began.
    known_since: u32,
    /// Whether the table was full then.
    was_full: bool,
    total: u64,
}

impl PushedOut {
    /// A sweep begins, be the last one whole or not.
    pub(super) fn begin(&mut self) {
        self.next.clear();
        self.known.iter_mut().for_each(|known| known.is_met = false);
    }

    /// An entry that the sweep meets, in this table or among the embryos.
    pub(super) fn met<A: Addr>(&mut self, key: &FlowKey<A>) {
        if key.direction != Direction::Forward as u8 {
            return;
        }
        let hash = short_hash(key);
        if let Ok(index) = self.known.binary_search_by_key(&hash, |known| known.hash)
            && let Some(known) = self.known.get_mut(index)
        {
            known.is_met = true;
        }
    }

    /// A flow of this table whose time is not up.
    pub(super) fn stands<A: Addr>(&mut self, config: &Config, key: &FlowKey<A>, flow: &Flow<A>, now: u32) {
        let bits = flow.meta.state();
        let is_open = bits & state::ESTABLISHED != 0 && load::counts(bits);
        if key.direction != Direction::Forward as u8 || !is_open {
            return;
        }
        let life = lifetime::of(config, key.protocol, bits);
        let left = life.saturating_sub(lifetime::age(flow.meta, now)) / config.ticks_per_second.max(1);
        self.next.push(Known {
            hash: short_hash(key),
            left: u16::try_from(left).unwrap_or(u16::MAX),
            is_met: false,
            was_missed: false,
        });
    }

    /// The sweep, which began at one tick, is over at another: how many flows were pushed out since all this began.
    pub(super) fn end(&mut self, config: &Config, begun: u32, now: u32, is_full: bool) -> u64 {
        let passed = lifetime::since(self.known_since, now) / config.ticks_per_second.max(1);
        // What fills a table stands in it for longer than sweeps are apart.
        let may_push_out = is_full || self.was_full;
        self.was_full = is_full;
        for known in self.known.iter().filter(|known| !known.is_met) {
            if known.was_missed {
                self.total += 1;
            } else if may_push_out && u32::from(known.left) > passed {
                self.next.push(Known {
                    was_missed: true,
                    ..*known
                });
            }
        }
        self.next.sort_unstable_by_key(|known| known.hash);
        self.next.dedup_by_key(|known| known.hash);
        std::mem::swap(&mut self.known, &mut self.next);
        self.next = Vec::new();
        self.known_since = begun;
        self.total
    }
}

fn short_hash<A: Addr>(key: &FlowKey<A>) -> u32 {
    (hash::flow(key) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy_common::layout::{Meta, Port, V4, protocol};

    const SECOND: u32 = 100;
    const OPEN: u8 = state::REPLIED | state::ESTABLISHED;
    const CONFIG: Config = Config {
        ticks_per_second: SECOND,
        tcp_established: 1000 * SECOND,
        tcp_half_closed: 1000 * SECOND,
        tcp_closing: 1000 * SECOND,
        udp_established: 40 * SECOND,
        host_netns_cookie: 0,
        layout_version: 1,
        flags: 0,
        snat_first: 0,
        snat_count: 0,
        tcp_embryo: 0,
        udp_embryo: 0,
    };

    fn key(port: u16, direction: Direction) -> FlowKey<V4> {
        FlowKey {
            source_port: Port::new(port),
            protocol: protocol::TCP,
            direction: direction as u8,
            ..FlowKey::default()
        }
    }

    /// A table and its time; each sweep takes a second, 30 seconds after the last.
    struct Sweeps {
        table: PushedOut,
        now: u32,
        is_full: bool,
    }

    impl Sweeps {
        fn new() -> Self {
            let table = PushedOut::default();
            // The clock comes round meanwhile.
            let now = u32::MAX - 40 * SECOND;
            Self {
                table,
                now,
                is_full: true,
            }
        }

        /// Sweeps over embryos, and flows with their protocols and states.
        fn sweep(&mut self, embryos: &[u16], flows: &[(u16, u8, u8)]) -> u64 {
            self.now = self.now.wrapping_add(30 * SECOND);
            let begun = self.now;
            self.table.begin();
            for port in embryos {
                self.table.met(&key(*port, Direction::Forward));
            }
            for (port, ip_protocol, bits) in flows {
                for direction in [Direction::Forward, Direction::Reverse] {
                    let key = FlowKey {
                        protocol: *ip_protocol,
                        ..key(*port, direction)
                    };
                    let flow = Flow {
                        meta: Meta::new(key.tag(), *bits, begun),
                        ..Flow::default()
                    };
                    self.table.met(&key);
                    self.table.stands(&CONFIG, &key, &flow, begun);
                }
            }
            self.now = self.now.wrapping_add(SECOND);
            self.table.end(&CONFIG, begun, self.now, self.is_full)
        }
    }

    fn tcp(port: u16) -> (u16, u8, u8) {
        (port, protocol::TCP, OPEN)
    }

    #[test]
    fn open_flows_that_two_sweeps_miss_were_pushed_out() {
        let mut sweeps = Sweeps::new();
        assert_eq!(sweeps.sweep(&[], &[tcp(1), tcp(2), tcp(3)]), 0);
        assert_eq!(sweeps.sweep(&[], &[tcp(3)]), 0);
        assert_eq!(sweeps.sweep(&[], &[tcp(3)]), 2);
        assert_eq!(sweeps.sweep(&[], &[]), 2);
        assert_eq!(sweeps.sweep(&[], &[]), 3, "and each counts once");
        assert_eq!(sweeps.sweep(&[], &[]), 3);
    }

    #[test]
    fn what_was_over_or_whose_time_is_up_was_not() {
        let mut sweeps = Sweeps::new();
        let over = [
            OPEN | state::RESET,
            OPEN | state::FIN_FORWARD | state::FIN_REVERSE,
        ];
        let over = over.map(|bits| (bits.into(), protocol::TCP, bits));
        // 40 seconds are less than two sweeps are apart, and more than one is.
        let short = (3, protocol::UDP, OPEN);
        assert_eq!(sweeps.sweep(&[], &[over[0], over[1], short, tcp(5)]), 0);
        assert_eq!(sweeps.sweep(&[], &[short]), 0, "the table is another's");
        assert_eq!(sweeps.sweep(&[], &[]), 1);
        assert_eq!(
            sweeps.sweep(&[], &[]),
            2,
            "pushed out while some seconds were left"
        );
        let mut sweeps = Sweeps::new();
        assert_eq!(sweeps.sweep(&[], &[short]), 0);
        sweeps.now = sweeps.now.wrapping_add(10 * SECOND);
        assert_eq!(
            [(); 3].map(|()| sweeps.sweep(&[], &[])),
            [0; 3],
            "its time was up"
        );
    }

    #[test]
    fn a_table_that_has_room_pushes_nothing_out() {
        let mut sweeps = Sweeps::new();
        sweeps.is_full = false;
        assert_eq!([(); 3].map(|()| sweeps.sweep(&[], &[tcp(1)])), [0; 3]);
        assert_eq!(
            [(); 3].map(|()| sweeps.sweep(&[], &[])),
            [0; 3],
            "programs took it"
        );
        for is_full_first in [true, false] {
            let mut sweeps = Sweeps::new();
            sweeps.is_full = is_full_first;
            assert_eq!(sweeps.sweep(&[], &[tcp(1)]), 0);
            sweeps.is_full = !is_full_first;
            assert_eq!(sweeps.sweep(&[], &[]), 0);
            sweeps.is_full = false;
            assert_eq!(sweeps.sweep(&[], &[]), 1);
        }
        assert!(is_full(1024, 1024, 2) && is_full(768, 1024, 2) && !is_full(767, 1024, 2));
        assert!(is_full(0, 256, 2), "CPUs may keep all of them");
    }

    #[test]
    fn a_flow_that_is_made_anew_was_not() {
        let mut sweeps = Sweeps::new();
        assert_eq!(sweeps.sweep(&[], &[tcp(1), tcp(2)]), 0);
        assert_eq!(sweeps.sweep(&[1], &[]), 0);
        assert_eq!(
            sweeps.sweep(&[1], &[tcp(2)]),
            0,
            "it came after its table was walked"
        );
        assert_eq!(sweeps.sweep(&[], &[tcp(1)]), 0);
    }

    #[test]
    fn a_sweep_that_came_to_nothing_does_not_count() {
        let mut sweeps = Sweeps::new();
        assert_eq!(sweeps.sweep(&[], &[tcp(1)]), 0);
        for _ in 0..3 {
            sweeps.table.begin();
        }
        assert_eq!(sweeps.sweep(&[], &[tcp(1)]), 0);
        assert_eq!(sweeps.sweep(&[], &[tcp(1)]), 0);
    }
}
