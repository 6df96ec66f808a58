//! `shunt plan`: what applying or deleting manifests would change on a node.
//!
//! The state after is a world of [`crate::explain`], compiled by the model and planned by the planner as the agent does it.
//! The state now is another such world, or what the maps of a running agent hold ([`installed`]); what is told is the
//! difference of the two.

mod concerns;
mod conflicts;
mod difference;
mod installed;
mod merge;
mod read;
mod report;
mod text;

use std::collections::BTreeSet;

pub use concerns::PortRange;
pub use installed::{InstalledServices, preview_installed};
pub use read::{PreviewError, read, read_names};
pub use report::{AffinityChange, BackendChange, Conflict, FrontendChange, Moved, Preview};

use crate::datapath::SnatPorts;
use crate::explain::{Place, World};
use crate::name::ObjectName;
use crate::source::{Object, ObjectKey};

/// What somebody is about to do; objects to delete are told by `D`.
#[derive(Clone, Debug)]
pub enum Intent<D> {
    /// `kubectl apply -f`
    Apply(Vec<Object>),
    /// `kubectl delete -f`
    Delete(Vec<D>),
}

/// What this would change on the node of a world.
///
/// # Errors
/// Something is to be deleted that is not there.
pub fn preview(
    now: World,
    place: &Place,
    intent: Intent<ObjectKey>,
    ephemeral: PortRange,
) -> Result<Preview, PreviewError> {
    let (named, changes) = match intent {
        Intent::Apply(objects) => {
            let named = merge::services_of(&objects);
            (named, merge::merged(&now.objects, objects))
        }
        Intent::Delete(keys) => {
            let (gone, rest) = merge::parted(&now.objects, keys)?;
            (merge::services_of(&gone), rest)
        }
    };
    let after = World::of(changes, place);
    let batch = difference::changed(&now.services, &after.services);
    let affected = affected(named, &batch);
    let taken = concerns::TakenPorts {
        ephemeral,
        snat: (&SnatPorts::default()).into(),
    };
    let mut preview = difference::between(&now.services, &after.services);
    preview.conflicts = conflicts::of(&after, &affected);
    preview.warnings = concerns::of(&now.warnings, &after, &affected, taken);
    preview.writes = now.writes_to(&batch);
    Ok(preview)
}

/// The Services that were named, and those that change with them.
fn affected(
    mut named: BTreeSet<ObjectName>,
    batch: &[(ObjectName, Vec<crate::plan::ServicePort>)],
) -> BTreeSet<ObjectName> {
    named.extend(batch.iter().map(|(name, _)| name.clone()));
    named
}

#[cfg(test)]
mod tests;
