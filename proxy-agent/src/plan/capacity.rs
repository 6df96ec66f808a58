//! How much the maps can hold, and what is said when that is not enough.

use std::sync::Arc;

use crate::name::ObjectName;

/// How much the maps can hold. Service ids, backend ids and slots are below these numbers; id 0 is never used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// SERVICES and IDENTITY.
    pub services: u32,
    /// BACKENDS.
    pub backends: u32,
    /// SLOTS.
    pub slots: u32,
    /// FRONTENDS4 and VIPS4: an address has a frontend at least.
    pub frontends4: u32,
    /// FRONTENDS6 and VIPS6.
    pub frontends6: u32,
    /// SOURCE_RANGES4.
    pub ranges4: u32,
    /// SOURCE_RANGES6.
    pub ranges6: u32,
}

/// A map that was full, and how many entries more than it has were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The map.
    pub map: &'static str,
    /// Entries that it must have more, at least.
    pub needed: u32,
}

/// A Service does not fit. It stays as it was; other Services are not affected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Service {service} stays as it was: the map {map} has no room ({needed} more of its {capacity} entries are \
     needed at once; --map-memory-limit says how far maps grow)"
)]
pub struct PlanError {
    /// The Service.
    pub service: ObjectName,
    /// Its metadata.uid.
    pub uid: Arc<str>,
    /// The map that is full.
    pub map: &'static str,
    /// Entries that were asked for at once.
    pub needed: u32,
    /// Entries of the map.
    pub capacity: u32,
}
