//! New endpoints get their share of new flows step by step, where their Service asks for it.
//!
//! The clock of an endpoint begins when this agent first puts it into a list. Endpoints that are there when the agent starts,
//! or when the Service begins to ask, have their whole share at once.

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use foldhash::HashMap;

use crate::name::ObjectName;
use crate::plan::{Endpoint, ServicePort, Weight};

/// In how many steps an endpoint gets its share.
const STEPS: u16 = 10;

/// Since when an endpoint has been there.
#[derive(Clone, Copy, Debug)]
enum Age {
    /// Long enough: it has its share.
    Grown,
    /// Not long enough: it has so many parts of its share until the next step.
    Growing {
        since: Instant,
        parts: u16,
        next: Instant,
    },
}

impl Age {
    fn of(since: Instant, window: Duration, now: Instant) -> Self {
        let step = window / u32::from(STEPS);
        let ends = (1..=STEPS).map(|parts| (parts, since + step * u32::from(parts)));
        let parts = ends.into_iter().find(|(_, end)| now < *end);
        match parts {
            Some((parts, next)) => Self::Growing { since, parts, next },
            None => Self::Grown,
        }
    }

    fn parts(self) -> u16 {
        match self {
            Self::Grown => STEPS,
            Self::Growing { parts, .. } => parts,
        }
    }
}

/// The endpoints of the Services that ask for it.
#[derive(Debug, Default)]
pub(super) struct SlowStart {
    services: HashMap<ObjectName, HashMap<Endpoint, Age>>,
}

impl SlowStart {
    /// Weighs a Service's endpoints by how long they have been there. `is_known`: the whole source is known, so that what is new
    /// is not so to the agent alone.
    pub(super) fn weigh(
        &mut self,
        name: &ObjectName,
        ports: &mut [ServicePort],
        now: Instant,
        is_known: bool,
    ) {
        let seconds = ports.iter().map(|port| port.slow_start).max().unwrap_or(0);
        let before = self.services.remove(name).filter(|_| is_known);
        if seconds == 0 {
            return;
        }
        let window = Duration::from_secs(seconds.into());
        let age = |endpoint: &Endpoint| match before.as_ref().map(|before| before.get(endpoint)) {
            None | Some(Some(Age::Grown)) => Age::Grown,
            Some(Some(Age::Growing { since, .. })) => Age::of(*since, window, now),
            Some(None) => Age::of(now, window, now),
        };
        let listed = ports.iter().flat_map(|port| {
            let lists = [&port.internal, &port.external, &port.shortcut];
            lists.into_iter().flat_map(|list| port.members(list))
        });
        let ages = listed.map(|endpoint| (*endpoint, age(endpoint))).collect();
        for port in ports {
            scale(port, &ages);
        }
        self.services.insert(name.clone(), ages);
    }

    /// When the next endpoint gets more.
    pub(super) fn next(&self) -> Option<Instant> {
        self.steps().map(|(_, next)| next).min()
    }

    /// The Services of which an endpoint gets more now.
    pub(super) fn due(&self, now: Instant) -> impl Iterator<Item = &ObjectName> {
        let due = self.steps().filter(move |(_, next)| *next <= now);
        due.map(|(name, _)| name)
    }

    fn steps(&self) -> impl Iterator<Item = (&ObjectName, Instant)> {
        self.services.iter().flat_map(|(name, ages)| {
            ages.values().filter_map(move |age| match age {
                Age::Growing { next, .. } => Some((name, *next)),
                Age::Grown => None,
            })
        })
    }
}

/// Gives each endpoint the parts of its weight that it has grown to.
fn scale(port: &mut ServicePort, ages: &HashMap<Endpoint, Age>) {
    let parts = |endpoint: &Endpoint| ages.get(endpoint).map_or(STEPS, |age| age.parts());
    if port.endpoints.iter().all(|endpoint| parts(endpoint) == STEPS) {
        return;
    }
    let weights = (0..).zip(&port.endpoints).map(|(index, endpoint): (usize, _)| {
        let weight = port.weights.get(index).copied().unwrap_or(Weight::MIN);
        weight.saturating_mul(NonZeroU16::new(parts(endpoint)).unwrap_or(Weight::MIN))
    });
    port.weights = weights.collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{name, port};

    const WINDOW: u32 = 60;

    fn asked(endpoints: &[u8]) -> Vec<ServicePort> {
        vec![ServicePort {
            slow_start: WINDOW,
            ..port("web", &[1], endpoints)
        }]
    }

    struct Clock {
        slow_start: SlowStart,
        start: Instant,
    }

    impl Clock {
        fn weights(&mut self, seconds: u64, mut ports: Vec<ServicePort>, is_known: bool) -> Vec<u16> {
            let now = self.start + Duration::from_secs(seconds);
            self.slow_start.weigh(&name("web"), &mut ports, now, is_known);
            ports[0].weights.iter().map(|weight| weight.get()).collect()
        }

        fn next(&self) -> Option<u64> {
            Some(self.slow_start.next()?.duration_since(self.start).as_secs())
        }
    }

    fn clock() -> Clock {
        Clock {
            slow_start: SlowStart::default(),
            start: Instant::now(),
        }
    }

    #[test]
    fn a_new_endpoint_grows_in_steps() {
        let mut clock = clock();
        assert_eq!(clock.weights(0, asked(&[1, 2]), false), [0; 0]);
        assert_eq!(clock.weights(1, asked(&[1, 2]), true), [0; 0], "they were there");
        assert_eq!(clock.next(), None);
        assert_eq!(clock.weights(100, asked(&[1, 2, 3]), true), [10, 10, 1]);
        assert_eq!(clock.next(), Some(106));
        assert_eq!(clock.weights(105, asked(&[1, 2, 3]), true), [10, 10, 1]);
        assert_eq!(clock.next(), Some(106));
        let due: Vec<_> = clock
            .slow_start
            .due(clock.start + Duration::from_secs(106))
            .collect();
        assert_eq!(due, [&name("web")]);
        assert_eq!(clock.weights(106, asked(&[1, 2, 3]), true), [10, 10, 2]);
        assert_eq!(clock.weights(131, asked(&[1, 2, 3, 4]), true), [10, 10, 6, 1]);
        assert_eq!(clock.weights(160, asked(&[1, 2, 3, 4]), true), [10, 10, 10, 5]);
        assert_eq!(clock.weights(191, asked(&[1, 2, 3, 4]), true), [0; 0]);
        assert_eq!(clock.next(), None);
    }

    #[test]
    fn weights_are_grown_to_and_not_replaced() {
        let mut clock = clock();
        let weighed = |endpoints: &[u8]| {
            let mut ports = asked(endpoints);
            let weights = [7, 255, 3].into_iter().filter_map(Weight::new);
            ports[0].weights = weights.take(endpoints.len()).collect();
            ports
        };
        assert_eq!(clock.weights(0, weighed(&[1]), true), [7]);
        assert_eq!(clock.weights(0, weighed(&[1, 2, 3]), true), [70, 255, 3]);
        assert_eq!(clock.weights(90, weighed(&[1, 2, 3]), true), [7, 255, 3]);
    }

    #[test]
    fn who_leaves_and_comes_back_is_new() {
        let mut clock = clock();
        clock.weights(0, asked(&[1, 2]), true);
        clock.weights(1, asked(&[1]), true);
        assert_eq!(clock.weights(2, asked(&[1, 2]), true), [10, 1]);
    }

    #[test]
    fn a_service_that_asks_no_more_is_forgotten() {
        let mut clock = clock();
        clock.weights(0, asked(&[1]), true);
        assert_eq!(clock.weights(0, asked(&[1, 2]), true), [10, 1]);
        let plain = vec![port("web", &[1], &[1, 2])];
        assert_eq!(clock.weights(1, plain, true), [0; 0]);
        assert_eq!(clock.next(), None);
        assert_eq!(
            clock.weights(2, asked(&[1, 2]), true),
            [0; 0],
            "they were there when it asked again"
        );
    }
}
