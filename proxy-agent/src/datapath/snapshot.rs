//! Reads the maps back, so that ids, slots and flows stay as they are over a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proxy_common::layout::{
    Addr, BackendId, FrontendKey, FrontendValue, ListWord, Networks, SOURCE_RANGE_SERVICE_BITS, ServiceId,
    SourceRangeKey, V6, Vip,
};

use super::error::DatapathError;
use super::tables::Tables;
use crate::agent::Addresses;
use crate::plan::{Capacity, Frontend, Part, Range, Snapshot};

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
    Ok(Snapshot {
        slots: runs(tables, lists),
        backends: tables.backends.used(),
        frontends: frontends(tables)?,
        ranges: ranges(tables)?,
        vips: vips(tables)?,
        networks: networks(tables)?,
        filter: tables.prefilter.used(),
        identities,
        services,
    })
}

/// A part of it, without ranges.
pub(super) fn part(tables: &Tables, part: &Part) -> Result<Snapshot, DatapathError> {
    let mut found = Snapshot::default();
    for id in &part.services {
        if let (Some(identity), Some(service)) = (tables.identity.get(id)?, tables.services.get(*id)) {
            found.identities.push((*id, identity));
            found.services.push((*id, service));
        }
    }
    let lists = found
        .services
        .iter()
        .flat_map(|(_, service)| Part::lists(service));
    found.slots = runs(tables, lists);
    let listed = found.slots.iter().flat_map(|(_, run)| run);
    let backends: BTreeSet<BackendId> = part.backends.iter().chain(listed).copied().collect();
    let backends = backends.into_iter();
    found.backends = backends
        .filter_map(|id| Some((id, tables.backends.get(id)?)))
        .filter(|(_, backend)| backend.life != 0 || backend.last_life != 0)
        .collect();
    for frontend in &part.frontends {
        let value = match frontend.address {
            IpAddr::V4(address) => {
                let key = FrontendKey::new(address.into(), frontend.port, frontend.protocol);
                tables.frontends4.get(&key)?
            }
            IpAddr::V6(address) => {
                let key = FrontendKey::new(address.into(), frontend.port, frontend.protocol);
                tables.frontends6.get(&key)?
            }
        };
        found.frontends.extend(value.map(|value| (*frontend, value)));
    }
    let words = part.words.iter();
    found.filter = words
        .filter_map(|word| Some((*word, tables.prefilter.word(*word)?)))
        .collect();
    Ok(found)
}

/// The runs of slots that lists show.
fn runs(tables: &Tables, lists: impl Iterator<Item = ListWord>) -> Vec<(u32, Vec<BackendId>)> {
    let mut runs: BTreeMap<u32, u32> = BTreeMap::new();
    for list in lists.filter(|list| list.count() > 0) {
        let length = runs.entry(list.first()).or_default();
        *length = tables.slots.length(list).max(*length);
    }
    let runs = runs.into_iter();
    runs.map(|(first, length)| (first, tables.slots.get(first, length)))
        .collect()
}

/// All source ranges of both families.
pub(super) fn ranges(tables: &Tables) -> Result<Vec<(ServiceId, Range, u32)>, DatapathError> {
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

/// What stands at the Services' addresses, and ranges of addresses.
pub(super) fn addresses(tables: &Tables) -> Result<Addresses, DatapathError> {
    Ok((vips(tables)?, networks(tables)?))
}

fn networks(tables: &Tables) -> Result<Networks, DatapathError> {
    Ok(tables.networks.get(&0)?.unwrap_or_default())
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
