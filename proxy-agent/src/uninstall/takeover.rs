//! What becomes of the DaemonSet: same pods, but they clean and then wait.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Container;
use serde_json::{Value, json};

use super::UninstallError;

/// The change; none if it was made before.
pub(super) fn patch(set: &DaemonSet) -> Result<Option<Value>, UninstallError> {
    let pod = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let agent = pod.and_then(|pod| pod.containers.first().cloned());
    // The last: those of a roll back come before it.
    let init = pod.and_then(|pod| pod.init_containers.as_ref()?.last().cloned());
    let (Some(agent), Some(init)) = (agent, init) else {
        return Err(foreign(set, "its pods have no init container"));
    };
    match (command(&init), command(&agent)) {
        (Some("cleanup"), Some("hold")) => Ok(None),
        (Some("init"), Some("agent")) => Ok(Some(taken_over(&init, &agent))),
        _ => Err(foreign(
            set,
            "its pods do not run `shunt init` and then `shunt agent`",
        )),
    }
}

fn command(container: &Container) -> Option<&str> {
    container.args.as_ref()?.first().map(String::as_str)
}

fn foreign(set: &DaemonSet, reason: &'static str) -> UninstallError {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    UninstallError::Foreign {
        name: format!("{}/{}", part(&set.metadata.namespace), part(&set.metadata.name)),
        reason,
    }
}

/// The init container has the mounts and rights that a clean-up needs.
fn taken_over(init: &Container, agent: &Container) -> Value {
    let mut cleanup = init.clone();
    cleanup.name = "cleanup".to_owned();
    let instance = agent
        .args
        .iter()
        .flatten()
        .filter(|argument| argument.starts_with("--instance="));
    cleanup.args = Some(
        std::iter::once("cleanup".to_owned())
            .chain(instance.cloned())
            .collect(),
    );
    json!({ "spec": {
        // Nothing is served any more: there is no reason to go slowly.
        "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": "100%", "maxSurge": 0 } },
        "template": { "spec": { "initContainers": [cleanup], "containers": [{
            "name": "done",
            "image": agent.image,
            "imagePullPolicy": agent.image_pull_policy,
            "args": ["hold"],
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "runAsNonRoot": true,
                "runAsUser": 65534,
                "capabilities": { "drop": ["ALL"] },
            },
        }] } },
    } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(init: &[&str], agent: &[&str]) -> DaemonSet {
        let container = |name: &str, args: &[&str]| json!({ "name": name, "image": "shunt:1", "args": args });
        let mut first = container("init", init);
        first["securityContext"] = json!({ "privileged": true });
        first["volumeMounts"] = json!([{ "name": "bpf", "mountPath": "/sys/fs/bpf" }]);
        let pod = json!({ "initContainers": [first], "containers": [container("shunt", agent)] });
        serde_json::from_value(json!({
            "metadata": { "namespace": "kube-system", "name": "shunt" },
            "spec": { "selector": {}, "template": { "spec": pod } },
        }))
        .unwrap()
    }

    #[test]
    fn the_pods_clean_with_the_rights_of_their_init_container_and_then_wait() {
        let patch = patch(&set(
            &["init"],
            &["agent", "--instance=/sys/fs/bpf/x", "--cgroup=/c"],
        ))
        .unwrap()
        .unwrap();
        let pod = &patch["spec"]["template"]["spec"];
        let cleanup = &pod["initContainers"][0];
        assert_eq!(cleanup["args"], json!(["cleanup", "--instance=/sys/fs/bpf/x"]));
        assert_eq!(cleanup["securityContext"]["privileged"], true);
        assert_eq!(cleanup["volumeMounts"][0]["mountPath"], "/sys/fs/bpf");
        assert_eq!(pod["containers"][0]["args"], json!(["hold"]));
        assert_eq!(pod["containers"][0]["image"], "shunt:1");
        assert_eq!(
            patch["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"],
            "100%"
        );
    }

    #[test]
    fn what_a_roll_back_does_before_is_not_done_any_more() {
        let mut set = set(&["init"], &["agent"]);
        let pod = set.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
        let downgrade = json!({ "name": "downgrade", "image": "shunt:2", "args": ["downgrade", "--to=1"] });
        let containers = pod.init_containers.as_mut().unwrap();
        containers.insert(0, serde_json::from_value(downgrade).unwrap());
        let patch = patch(&set).unwrap().unwrap();
        let containers = &patch["spec"]["template"]["spec"]["initContainers"];
        assert_eq!(containers.as_array().unwrap().len(), 1);
        assert_eq!(containers[0]["args"], json!(["cleanup"]));
    }

    #[test]
    fn a_second_time_nothing_is_changed() {
        assert_eq!(patch(&set(&["cleanup"], &["hold"])).unwrap(), None);
    }

    #[test]
    fn what_is_not_shunts_is_refused_by_name() {
        for set in [
            set(&["prepare"], &["run"]),
            set(&[], &[]),
            set(&["init"], &["run"]),
        ] {
            let error = patch(&set).unwrap_err().to_string();
            assert!(
                error.contains("kube-system/shunt is not Shunt's") && error.contains("--daemonset"),
                "{error}"
            );
        }
    }
}
