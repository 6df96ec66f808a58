//! How far the clean-up is.

use k8s_openapi::api::apps::v1::DaemonSet;

use super::UninstallError;

/// Nodes that are clean, of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Nodes whose clean-up is done.
    pub clean: i32,
    /// Nodes that have a pod of the DaemonSet.
    pub all: i32,
}

impl Progress {
    pub(super) fn is_complete(self) -> bool {
        self.clean == self.all
    }
}

/// What the DaemonSet's state says; nothing while its controller has not seen the change.
pub(super) fn of(set: Option<&DaemonSet>) -> Result<Option<Progress>, UninstallError> {
    let set = set.ok_or(UninstallError::Deleted)?;
    let Some(status) = &set.status else {
        return Ok(None);
    };
    if status.observed_generation < set.metadata.generation {
        return Ok(None);
    }
    let updated = status.updated_number_scheduled.unwrap_or_default();
    let all = status.desired_number_scheduled;
    // Agents that are still there are ready too.
    let agents = status.current_number_scheduled - updated;
    Ok(Some(Progress {
        clean: (status.number_ready - agents).clamp(0, updated.min(all)),
        all,
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of_status(generation: i64, status: serde_json::Value) -> Option<Progress> {
        let set = json!({ "metadata": { "generation": generation }, "status": status });
        of(Some(&serde_json::from_value(set).unwrap())).unwrap()
    }

    fn status(all: i32, current: i32, updated: i32, ready: i32) -> serde_json::Value {
        json!({
            "observedGeneration": 2, "desiredNumberScheduled": all, "currentNumberScheduled": current,
            "updatedNumberScheduled": updated, "numberReady": ready, "numberMisscheduled": 0,
        })
    }

    #[test]
    fn a_state_from_before_the_change_says_nothing() {
        assert_eq!(of_status(3, status(2, 2, 2, 2)), None);
    }

    #[test]
    fn an_agent_that_is_ready_is_no_clean_node() {
        for (status, clean) in [
            (status(3, 3, 0, 3), 0),
            (status(3, 3, 1, 3), 1),
            (status(3, 3, 2, 2), 1),
            (status(3, 2, 2, 1), 1),
            (status(3, 3, 3, 3), 3),
        ] {
            assert_eq!(
                of_status(2, status.clone()),
                Some(Progress { clean, all: 3 }),
                "{status}"
            );
        }
    }

    #[test]
    fn it_is_complete_when_every_node_is_clean() {
        assert!(!of_status(2, status(3, 3, 3, 2)).unwrap().is_complete());
        assert!(of_status(2, status(3, 3, 3, 3)).unwrap().is_complete());
    }

    #[test]
    fn a_set_that_is_deleted_meanwhile_is_an_error() {
        assert!(of(None).unwrap_err().to_string().contains("deploy/cleanup"));
    }
}
