//! Waits until no program runs that started before: a real RCU grace period, not a clock.

use std::sync::Arc;

use super::error::{CallError, Context};
use super::sys::{MapDefinition, MapFd, map_type};

/// Updating a map of maps from user space waits for RCU; this is a map of maps made for nothing else.
#[derive(Clone, Debug)]
pub struct Grace {
    maps: Arc<(MapFd, MapFd)>,
}

impl Grace {
    pub(super) fn new() -> Result<Self, CallError> {
        let definition = |name, kind| MapDefinition {
            name,
            kind,
            key_size: 4,
            value_size: 4,
            max_entries: 1,
            flags: 0,
        };
        let inner = definition("grace_inner", map_type::ARRAY);
        let inner = MapFd::create(&inner, None).call("BPF_MAP_CREATE", "grace_inner")?;
        let outer = definition("grace_outer", map_type::ARRAY_OF_MAPS);
        let outer = MapFd::create(&outer, Some(&inner)).call("BPF_MAP_CREATE", "grace_outer")?;
        Ok(Self {
            maps: Arc::new((outer, inner)),
        })
    }

    /// Blocks until every program that ran when it was called has ended; some milliseconds.
    pub fn wait(&self) -> Result<(), CallError> {
        let (outer, inner) = &*self.maps;
        outer
            .update_inner(0, inner)
            .call("BPF_MAP_UPDATE_ELEM", "grace_outer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_period_ends() {
        let grace = Grace::new().unwrap();
        grace.wait().unwrap();
        grace.clone().wait().unwrap();
    }
}
