//! Taking Shunt off a cluster: the DaemonSet's agents give way to a clean-up on every node.

mod error;
mod progress;
mod takeover;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::watcher::watch_object;

pub use error::UninstallError;
pub use progress::Progress;

/// Turns the DaemonSet's agents into clean-ups, and waits until every node is clean; tells how far it is.
///
/// A node that can't be reached is waited for: the caller decides for how long.
pub async fn run(
    client: kube::Client,
    namespace: &str,
    name: &str,
    mut tell: impl FnMut(Progress),
) -> Result<(), UninstallError> {
    let sets: Api<DaemonSet> = Api::namespaced(client, namespace);
    let found = sets
        .get(name)
        .await
        .map_err(|error| UninstallError::of_call("reading", namespace, name, error))?;
    if let Some(patch) = takeover::patch(&found)? {
        sets.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(|error| UninstallError::of_call("changing", namespace, name, error))?;
    }
    let states = watch_object(sets, name);
    pin_mut!(states);
    let mut last = None;
    while let Some(state) = states.next().await {
        // The watch goes on after an outage by itself.
        let Ok(state) = state else { continue };
        let Some(progress) = progress::of(state.as_ref())? else {
            continue;
        };
        if last != Some(progress) {
            tell(progress);
            last = Some(progress);
        }
        if progress.is_complete() {
            return Ok(());
        }
    }
    Err(UninstallError::Ended)
}
