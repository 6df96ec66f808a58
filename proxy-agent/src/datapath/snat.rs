//! Source ports in use: how near the range of `--snat-ports` is to its end towards each destination. Counted where the flow
//! tables are walked anyway, so that it costs packets nothing.

use std::net::{IpAddr, SocketAddr};

use foldhash::HashMap;
use proxy_common::layout::{Action, Addr, Config, Direction, Flow, FlowKey, ServiceId};
use serde::Serialize;

use super::dump::{protocol_name, socket_address};
use super::error::DatapathError;
use super::snapshot;
use super::tables::Tables;

/// Ports of one destination that are worth being told of: a quarter of the range. A new flow draws eleven ports before it is
/// dropped: at a quarter one in four million flows finds none, at half one in 2,000, at nine tenths one in three.
const SCARCE: u32 = 4;
/// Fewer than a fifth: they are scarce no more.
const NEAR: u32 = 5;

/// Between whom no two flows share a source port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ends {
    /// IP protocol number.
    pub protocol: u8,
    /// The backend.
    pub destination: SocketAddr,
    /// The node's address that packets to it have as their source.
    pub source: IpAddr,
}

/// How many source ports are in use towards a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnatUse {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// The backend.
    pub destination: SocketAddr,
    /// The node's address that packets to it have as their source.
    pub source: IpAddr,
    /// The Service of one of the flows; empty: netfilter's masquerade took ports of the range.
    pub service: String,
    /// Ports in use.
    pub used: u32,
    /// Ports of the range.
    pub of: u32,
}

impl SnatUse {
    /// Whether so many are in use that somebody should be told.
    pub fn is_scarce(&self) -> bool {
        self.used.saturating_mul(SCARCE) >= self.of
    }
}

/// What a whole walk over the flow tables found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnatReport {
    /// Ports of the range.
    pub of: u32,
    /// Ports in use towards the destination that uses the most.
    pub fullest: u32,
    /// The destinations that use a fifth of the range or more, those that use the most first.
    pub near: Vec<SnatUse>,
}

/// Counts ports while the flow tables are walked. A flow that is promoted meanwhile may be counted twice.
#[derive(Debug, Default)]
pub(super) struct Tally(HashMap<Ends, (u32, ServiceId)>);

impl Tally {
    /// Takes an entry that lives into account.
    pub(super) fn met<A: Addr>(&mut self, config: &Config, key: &FlowKey<A>, flow: &Flow<A>) {
        // With another, the port is the client's own.
        let is_ours = flow.action != Action::Stack as u8 && flow.action != Action::Bypass as u8;
        let port = key.destination_port.number();
        if key.direction != Direction::Reverse as u8
            || !is_ours
            || port.wrapping_sub(config.snat_first) >= config.snat_count
        {
            return;
        }
        let ends = Ends {
            protocol: key.protocol,
            destination: socket_address(key.source, key.source_port),
            source: snapshot::ip(key.destination),
        };
        let (used, service) = self.0.entry(ends).or_default();
        *used += 1;
        if flow.service.0 != 0 {
            *service = flow.service;
        }
    }

    /// All destinations of which at least the `least`th part of the range is in use; those that use the most first.
    fn rows(&self, of: u32, least: u32, tables: &Tables) -> Result<Vec<SnatUse>, DatapathError> {
        let found = self.0.iter();
        let mut found: Vec<_> = found
            .filter(|(_, (used, _))| used.saturating_mul(least) >= of)
            .collect();
        found.sort_unstable_by_key(|(ends, (used, _))| (u32::MAX - used, **ends));
        let rows = found.into_iter().map(|(ends, (used, service))| {
            let identity = tables.identity.get(service)?;
            Ok(SnatUse {
                protocol: protocol_name(ends.protocol),
                destination: ends.destination,
                source: ends.source,
                service: identity.map_or_else(String::new, |identity| identity.name.as_str().to_owned()),
                used: *used,
                of,
            })
        });
        rows.collect()
    }

    /// All of them.
    pub(super) fn all(&self, config: &Config, tables: &Tables) -> Result<Vec<SnatUse>, DatapathError> {
        self.rows(config.snat_count.into(), u32::MAX, tables)
    }

    /// What is worth being watched.
    pub(super) fn report(&self, config: &Config, tables: &Tables) -> Result<SnatReport, DatapathError> {
        let of = config.snat_count.into();
        Ok(SnatReport {
            of,
            fullest: self.0.values().map(|(used, _)| *used).max().unwrap_or(0),
            near: self.rows(of, NEAR, tables)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proxy_common::layout::{Identity, NameText, Port, V4, V6, protocol};

    use super::*;
    use crate::datapath::testing::{Namespace, Place};

    const CONFIG: Config = Config {
        snat_first: 50_000,
        snat_count: 10_000,
        host_netns_cookie: 0,
        layout_version: 1,
        flags: 0,
        ticks_per_second: 1000,
        tcp_embryo: 0,
        tcp_established: 0,
        tcp_half_closed: 0,
        tcp_closing: 0,
        udp_embryo: 0,
        udp_established: 0,
    };

    /// The way back from a backend to a port of a node.
    fn reverse<A: Addr>(backend: A, node: A, port: u16) -> FlowKey<A> {
        FlowKey {
            source: backend,
            destination: node,
            source_port: Port::new(8080),
            destination_port: Port::new(port),
            protocol: protocol::TCP,
            direction: Direction::Reverse as u8,
            pad: 0,
        }
    }

    fn flow<A: Addr>(action: Action, service: u32) -> Flow<A> {
        Flow {
            action: action as u8,
            service: ServiceId(service),
            ..Flow::default()
        }
    }

    #[test]
    fn ports_are_counted_by_destination_and_source_and_named_long_before_the_end() {
        let (node, place) = (Namespace::new(), Place::new());
        let datapath = place.start(&node).unwrap();
        let tables = &datapath.tables;
        let identity = Identity {
            name: NameText::new("shop/web"),
            ..Identity::default()
        };
        tables.identity.put(&ServiceId(3), &identity).unwrap();
        let (a, b) = (V4::new([10, 1, 0, 1]), V4::new([10, 1, 0, 2]));
        let (first, second) = (V4::new([192, 168, 0, 1]), V4::new([192, 168, 9, 1]));
        let six = V6::from("fd00::7".parse::<IpAddr>().unwrap());
        let mut tally = Tally::default();
        for port in 50_000..52_500 {
            tally.met(&CONFIG, &reverse(a, first, port), &flow(Action::Redirect, 3));
        }
        for port in 50_000..52_000 {
            // From another address of the node the same ports are free.
            tally.met(&CONFIG, &reverse(a, second, port), &flow(Action::Redirect, 3));
        }
        for port in 50_000..51_999 {
            tally.met(&CONFIG, &reverse(b, first, port), &flow(Action::Redirect, 3));
        }
        tally.met(&CONFIG, &reverse(six, six, 59_999), &flow(Action::Foreign, 0));
        // Ports of clients, and flows whose client keeps its port, use up nothing.
        for port in 40_000..50_000 {
            tally.met(&CONFIG, &reverse(a, first, port), &flow(Action::Redirect, 3));
            tally.met(
                &CONFIG,
                &reverse(b, first, port + 10_000),
                &flow(Action::Stack, 3),
            );
        }
        let report = tally.report(&CONFIG, tables).unwrap();
        assert_eq!((report.of, report.fullest), (10_000, 2_500));
        let near: Vec<_> = report
            .near
            .iter()
            .map(|row| (row.source.to_string(), row.used, row.is_scarce()))
            .collect();
        assert_eq!(
            near,
            [
                ("192.168.0.1".to_owned(), 2_500, true),
                ("192.168.9.1".to_owned(), 2_000, false)
            ]
        );
        let all = tally.all(&CONFIG, tables).unwrap();
        let used: Vec<_> = all
            .iter()
            .map(|row| (row.used, row.destination.to_string(), row.service.as_str()))
            .collect();
        assert_eq!(
            used,
            [
                (2_500, "10.1.0.1:8080".to_owned(), "shop/web"),
                (2_000, "10.1.0.1:8080".to_owned(), "shop/web"),
                (1_999, "10.1.0.2:8080".to_owned(), "shop/web"),
                (1, "[fd00::7]:8080".to_owned(), ""),
            ]
        );
    }
}
