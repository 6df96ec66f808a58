//! How a Service's new flows get their endpoints: the annotations `shunt.dev/choice` and `shunt.dev/slow-start` of the Service,
//! and `shunt.dev/weight` of its EndpointSlices.

use std::num::NonZeroU8;

use super::Warning;
use crate::name::ObjectName;
use crate::plan::{Rule, TableSize, Weight};
use crate::source::{EndpointSlice, Service};

/// What the annotation of a Service says.
///
/// # Errors
/// Its value is not understood.
fn of_service(service: &Service) -> Result<Rule, &str> {
    let Some(value) = service.metadata.annotations.choice() else {
        return Ok(Rule::Random);
    };
    let (name, size) = match value.split_once('/') {
        Some((name, size)) => (name, Some(size)),
        None => (value, None),
    };
    let size = size.map(|size| size.parse().ok().and_then(TableSize::new).ok_or(value));
    match (name, size) {
        ("random", None) => Ok(Rule::Random),
        ("least-connections", None) => Ok(Rule::LeastConnections),
        ("maglev", None) => Ok(Rule::Maglev(TableSize::default())),
        ("maglev", Some(size)) => size.map(Rule::Maglev),
        _ => Err(value),
    }
}

/// How new flows of a Service get their endpoints: at random where the annotation is not understood.
pub(super) fn rule(service: &Service) -> Rule {
    of_service(service).unwrap_or_default()
}

/// What of a Service's annotation is not understood.
pub(super) fn warning(service: &Service) -> Option<Warning> {
    let value = of_service(service).err()?;
    Some(Warning::UnknownChoice {
        service: service.metadata.object_name(),
        value: value.to_owned(),
    })
}

/// The longest time in which an endpoint may grow to its share: an hour.
const LONGEST_SLOW_START: u32 = 3600;

/// Seconds; `None` if it is none that is understood.
fn seconds(value: &str) -> Option<u32> {
    let seconds = value.strip_suffix('s')?.parse().ok()?;
    (1..=LONGEST_SLOW_START).contains(&seconds).then_some(seconds)
}

/// Seconds in which new endpoints of a Service grow to their share; 0: they have it at once.
pub(super) fn slow_start(service: &Service) -> u32 {
    let value = service.metadata.annotations.slow_start();
    value.and_then(seconds).unwrap_or(0)
}

/// What of a Service's annotation is not understood.
pub(super) fn slow_start_warning(service: &Service) -> Option<Warning> {
    let value = service.metadata.annotations.slow_start()?;
    seconds(value).is_none().then(|| Warning::UnknownSlowStart {
        service: service.metadata.object_name(),
        value: value.to_owned(),
    })
}

/// What may be written: one byte, so that a table stays short.
fn written_weight(value: &str) -> Option<Weight> {
    value.parse().ok().map(|weight: NonZeroU8| weight.into())
}

/// The weight of a slice's endpoints: 1 where nothing is said, or nothing that is understood.
pub(super) fn weight(slice: &EndpointSlice) -> Weight {
    let value = slice.metadata.annotations.weight();
    value.and_then(written_weight).unwrap_or(Weight::MIN)
}

/// What of a slice's annotation is not understood.
pub(super) fn slice_warning(name: &ObjectName, slice: &EndpointSlice) -> Option<Warning> {
    let value = slice.metadata.annotations.weight()?;
    written_weight(value).is_none().then(|| Warning::UnknownWeight {
        slice: name.clone(),
        value: value.to_owned(),
    })
}
