//! Reads the maps back, so that ids, slots and flows stay as they are over a restart.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proxy_common::layout::{
    Addr, FrontendKey, FrontendValue, ListWord, SOURCE_RANGE_SERVICE_BITS, ServiceId, SourceRangeKey, V6, Vip,
};

use super::error::DatapathError;
use super::tables::Tables;
use crate::plan::{Capacity, Frontend, Range, Snapshot};

pub(super) fn capacity(tables: &Tables) -> Capacity {
    Capacity {
        services: tables.services.len().min(tables.identity.capacity()),
        slots: tables.slots.len().min(ListWord::MAX),
        backends: tables.backends.len(),
        frontends4: tables.frontends4.capacity().min(tables.vips4.capacity()),
        frontends6: tables.frontends6.capacity().min(tables.vips6.capacity()),
        ranges4: tables.source_ranges4.capacity(),
        ranges6: tables.source_ranges6.capacity(),
    }
}

pub(super) fn read(tables: &Tables) -> Result<Snapshot, DatapathError> {
    let mut identities = tables.identity.entries()?;
    identities.sort_unstable_by_key(|(id, _)| *id);
    let services: Vec<_> = identities
        .iter()
        .filter_map(|(id, _)| Some((*id, tables.services.get(*id)?)))
        .collect();
    let lists = services
        .iter()
        .flat_map(|(_, service)| [service.internal, service.external, service.shortcut]);
    let runs: BTreeMap<u32, u32> =
        lists
            .filter(|list| list.count() > 0)
            .fold(BTreeMap::new(), |mut runs, list| {
                let count = runs.entry(list.first()).or_default();
                *count = list.count().max(*count);
                runs
            });
    Ok(Snapshot {
        slots: runs
            .into_iter()
            .map(|(first, count)| (first, tables.slots.get(first, count)))
            .collect(),
        backends: tables.backends.used(),
        frontends: frontends(tables)?,
        ranges: ranges(tables)?,
        vips: vips(tables)?,
        networks: tables.networks.get(&0)?.unwrap_or_default(),
        filter: tables.prefilter.used(),
        identities,
        services,
    })
}

/// All source ranges of both families.
fn ranges(tables: &Tables) -> Result<Vec<(ServiceId, Range, u32)>, DatapathError> {
    let four = tables.source_ranges4.entries()?;
    let six = tables.source_ranges6.entries()?;
    let four = four.into_iter().map(|(key, tag)| range(&key, tag));
    let mut all: Vec<_> = four
        .chain(six.into_iter().map(|(key, tag)| range(&key, tag)))
        .collect();
    all.sort_unstable();
    Ok(all)
}

fn range<A: Addr>(key: &SourceRangeKey<A>, tag: u32) -> (ServiceId, Range, u32) {
    let length = key.prefix_length.saturating_sub(SOURCE_RANGE_SERVICE_BITS);
    let range = Range::new(ip(key.range.address), u8::try_from(length).unwrap_or(u8::MAX));
    (key.range.service, range, tag)
}

/// All addresses at which Services are reached, of both families.
fn vips(tables: &Tables) -> Result<Vec<(IpAddr, Vip)>, DatapathError> {
    let four = tables.vips4.entries()?.into_iter();
    let six = tables.vips6.entries()?.into_iter();
    let four = four.map(|(address, vip)| (ip(address), vip));
    let mut all: Vec<_> = four.chain(six.map(|(address, vip)| (ip(address), vip))).collect();
    all.sort_unstable_by_key(|(address, _)| *address);
    Ok(all)
}

/// All frontends of both families.
pub(super) fn frontends(tables: &Tables) -> Result<Vec<(Frontend, FrontendValue)>, DatapathError> {
    let four = tables
        .frontends4
        .entries()?
        .into_iter()
        .map(|(key, value)| (frontend(&key), value));
    let six = tables
        .frontends6
        .entries()?
        .into_iter()
        .map(|(key, value)| (frontend(&key), value));
    let mut all: Vec<_> = four.chain(six).collect();
    all.sort_unstable_by_key(|(frontend, _)| *frontend);
    Ok(all)
}

fn frontend<A: Addr>(key: &FrontendKey<A>) -> Frontend {
    Frontend {
        address: ip(key.address),
        port: key.port,
        protocol: key.protocol,
    }
}

/// An address for people; `::` stays IPv6.
pub(super) fn ip<A: Addr>(address: A) -> IpAddr {
    V6::into(address.to_mapped())
}
