//! Frames that the agent sends through a hook to see whether they arrive.

use aya::maps::HashMap;
use proxy_common::layout::{PROBE_ETHERTYPE, ProbeKey, names};

use super::Kernel;

/// As the agent sends it: behind the link-layer header the interface, the direction and the token.
pub fn frame(token: u32) -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[12..14].copy_from_slice(&PROBE_ETHERTYPE.to_be_bytes());
    frame[22..26].copy_from_slice(&token.to_ne_bytes());
    frame
}

impl Kernel {
    /// Awaits this token.
    pub fn await_probe(&mut self, key: ProbeKey, token: u32) {
        let map = self
            .ebpf
            .map_mut(names::PROBES)
            .unwrap_or_else(|| panic!("no PROBES"));
        let mut map =
            HashMap::<_, [u32; 2], u32>::try_from(map).unwrap_or_else(|error| panic!("PROBES: {error}"));
        map.insert([key.interface, key.side], token, 0)
            .unwrap_or_else(|error| panic!("PROBES: {error}"));
    }

    /// The token that is still awaited, 0 once it has arrived.
    pub fn awaited_probe(&self, key: ProbeKey) -> u32 {
        let map = self
            .ebpf
            .map(names::PROBES)
            .unwrap_or_else(|| panic!("no PROBES"));
        let map =
            HashMap::<_, [u32; 2], u32>::try_from(map).unwrap_or_else(|error| panic!("PROBES: {error}"));
        map.get(&[key.interface, key.side], 0)
            .unwrap_or_else(|error| panic!("PROBES: {error}"))
    }
}
