//! How many ICMP errors a node sends (RFC 4443 §2.4 (f), RFC 1812 §4.3.2.8), so that it is no mirror for a flood from false
//! sources. Each CPU has a bucket of its own, as Linux has one for the machine (`icmp_global_allow`).
//!
//! Errors that path MTU discovery waits for are not limited, as in Linux (`icmpv4_xrlim_allow`); nor are TCP resets, which are
//! no longer than what they answer.

/// Errors a second, over time.
pub const PER_SECOND: u64 = 1000;
/// Errors at once, after a pause.
pub const BURST: u64 = 100;

/// Nanoseconds an error.
const COST: u64 = 1_000_000_000 / PER_SECOND;

/// Takes an error out of a bucket that will be full at `full` (nanoseconds of the kernel's monotonic clock; 0 is long ago).
/// When it will be full then, or `None` if it is empty.
#[inline(always)]
pub const fn admit(full: u64, now: u64) -> Option<u64> {
    let from = if full > now { full } else { now };
    if from - now > (BURST - 1) * COST {
        return None;
    }
    Some(from + COST)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use proptest::prelude::*;

    /// How many of the errors at these times are sent.
    fn sent(times: &[u64]) -> usize {
        let mut full = 0;
        let mut count = 0;
        for &now in times {
            if let Some(next) = admit(full, now) {
                full = next;
                count += 1;
            }
        }
        count
    }

    #[test]
    fn a_burst_goes_out_and_then_one_for_each_that_time_brings() {
        const HOUR: u64 = 3_600_000_000_000;
        let at_once = [HOUR; 1000];
        assert_eq!(sent(&at_once), 100);
        let and_a_millisecond_later = [HOUR + 1_000_000; 1000];
        assert_eq!(sent(&[at_once, and_a_millisecond_later].concat()), 101);
        let and_after_a_pause = [HOUR + 200_000_000; 1000];
        assert_eq!(sent(&[at_once, and_after_a_pause].concat()), 200);
    }

    proptest! {
        #[test]
        fn no_span_of_time_sees_more_than_a_burst_and_its_share(
            steps in prop::collection::vec(0..3_000_000_u64, 1..500),
        ) {
            let times: Vec<_> = steps.iter().scan(0, |now, step| { *now += step; Some(*now) }).collect();
            let span = times[times.len() - 1] - times[0];
            prop_assert!(sent(&times) as u64 <= BURST + span / COST + 1);
            // A slow sender loses nothing.
            let slow: Vec<_> = (0..times.len() as u64).map(|n| n * COST).collect();
            prop_assert_eq!(sent(&slow), slow.len());
        }
    }
}
