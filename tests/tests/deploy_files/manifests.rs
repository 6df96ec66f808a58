//! The kustomize bases: what a container may, must and can't do.

use std::collections::BTreeSet;

use clap::Parser;
use lab::agent::CAPABILITIES;
use proxy_agent::cli::{Arguments, Command};
use proxy_agent::config;
use serde_json::{Value, json};

use super::tool::with_file;
use super::yaml::{object, objects, texts};

fn pod(folder: &str) -> Value {
    object(&objects(folder), "DaemonSet")["spec"]["template"]["spec"].clone()
}

fn container<'a>(pod: &'a Value, list: &str) -> &'a Value {
    let containers = pod[list].as_array().unwrap();
    assert_eq!(containers.len(), 1, "{list}");
    &containers[0]
}

/// What the binary makes of a container's arguments, the environment put in.
fn command(container: &Value) -> Command {
    let arguments = texts(&container["args"]).into_iter().map(|text| {
        text.replace("$(NODE_NAME)", "node-1")
            .replace("$(MASTERS)", "https://192.0.2.10:6443")
    });
    Arguments::try_parse_from(std::iter::once("shunt".to_owned()).chain(arguments))
        .unwrap_or_else(|error| panic!("{error}"))
        .command
}

#[test]
fn the_agent_has_the_capabilities_that_the_lab_gives_it_and_no_other_right() {
    let pod = pod("manifests");
    let agent = container(&pod, "containers");
    let security = &agent["securityContext"];
    let mut added = texts(&security["capabilities"]["add"]);
    added.sort_unstable();
    let given = CAPABILITIES.map(str::to_uppercase);
    assert_eq!(added, given);
    assert_eq!(texts(&security["capabilities"]["drop"]), ["ALL"]);
    assert_eq!(security["privileged"], false);
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
    for namespace in ["hostPID", "hostIPC"] {
        assert_eq!(pod[namespace], Value::Null, "{namespace}");
    }
}

#[test]
fn only_what_ends_is_privileged() {
    for folder in ["manifests", "cleanup"] {
        let pod = pod(folder);
        assert_eq!(
            container(&pod, "initContainers")["securityContext"]["privileged"],
            true
        );
        assert_ne!(
            container(&pod, "containers")["securityContext"]["privileged"],
            true
        );
    }
}

#[test]
fn every_node_gets_one_and_keeps_it() {
    for folder in ["manifests", "cleanup"] {
        let pod = pod(folder);
        assert_eq!(pod["hostNetwork"], true);
        assert_eq!(pod["priorityClassName"], "system-node-critical");
        assert_eq!(pod["tolerations"], json!([{ "operator": "Exists" }]));
    }
}

#[test]
fn what_containers_run_are_commands_of_the_binary() {
    let (agent, cleanup) = (pod("manifests"), pod("cleanup"));
    assert!(matches!(
        command(container(&agent, "initContainers")),
        Command::Init(_)
    ));
    assert!(matches!(
        command(container(&cleanup, "initContainers")),
        Command::Cleanup(_)
    ));
    assert!(matches!(
        command(container(&cleanup, "containers")),
        Command::Hold
    ));
}

#[test]
fn all_commands_speak_of_one_instance_that_all_see() {
    let (agent, cleanup) = (pod("manifests"), pod("cleanup"));
    let Command::Init(init) = command(container(&agent, "initContainers")) else {
        panic!("no init");
    };
    let Command::Cleanup(removal) = command(container(&cleanup, "initContainers")) else {
        panic!("no cleanup");
    };
    assert_eq!(init.instance.instance, removal.instance.instance);
    assert!(!removal.kube_proxy);
    for container in [
        container(&agent, "initContainers"),
        container(&agent, "containers"),
        container(&cleanup, "initContainers"),
    ] {
        assert!(
            !container["args"].to_string().contains("--instance"),
            "{container}"
        );
        let mounts = container["volumeMounts"].as_array().unwrap();
        let bpf = mounts.iter().find(|mount| mount["name"] == "bpf").unwrap();
        assert!(
            init.instance
                .instance
                .starts_with(bpf["mountPath"].as_str().unwrap())
        );
    }
}

#[test]
fn every_mount_has_its_volume_and_every_volume_its_mount() {
    for folder in ["manifests", "cleanup"] {
        let pod = pod(folder);
        let names = |list: &Value| -> BTreeSet<String> {
            let list = list.as_array().cloned().unwrap_or_default();
            list.iter()
                .map(|entry| entry["name"].as_str().unwrap().to_owned())
                .collect()
        };
        let mut mounted = names(&container(&pod, "initContainers")["volumeMounts"]);
        mounted.extend(names(&container(&pod, "containers")["volumeMounts"]));
        assert_eq!(mounted, names(&pod["volumes"]));
    }
}

#[test]
fn a_mount_made_by_the_init_container_reaches_the_node_and_the_agent() {
    let pod = pod("manifests");
    for (list, propagation) in [
        ("initContainers", "Bidirectional"),
        ("containers", "HostToContainer"),
    ] {
        let mounts = container(&pod, list)["volumeMounts"].as_array().unwrap();
        let bpf = mounts.iter().find(|mount| mount["name"] == "bpf").unwrap();
        assert_eq!(bpf["mountPropagation"], propagation);
    }
}

#[test]
fn the_cleanup_waits_for_the_nodes_agent_to_be_gone() {
    let (agent, cleanup) = (objects("manifests"), objects("cleanup"));
    let labels = &object(&agent, "DaemonSet")["spec"]["template"]["metadata"]["labels"];
    let affinity = &object(&cleanup, "DaemonSet")["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"];
    let term = &affinity["requiredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(term["labelSelector"]["matchLabels"], *labels);
    assert_eq!(term["topologyKey"], "kubernetes.io/hostname");
    let own = &object(&cleanup, "DaemonSet")["spec"]["template"]["metadata"]["labels"];
    assert_ne!(own, labels, "the two would keep each other away");
}

#[test]
fn selectors_pick_their_own_pods() {
    for folder in ["manifests", "cleanup"] {
        let objects = objects(folder);
        let spec = &object(&objects, "DaemonSet")["spec"];
        assert_eq!(
            spec["selector"]["matchLabels"],
            spec["template"]["metadata"]["labels"]
        );
    }
}

#[test]
fn the_api_servers_addresses_come_from_the_config_map() {
    let objects = objects("manifests");
    let config = object(&objects, "ConfigMap");
    let agent = &object(&objects, "DaemonSet")["spec"]["template"]["spec"]["containers"][0];
    let variables = agent["env"].as_array().unwrap();
    let masters = variables
        .iter()
        .find(|variable| variable["name"] == "MASTERS")
        .unwrap();
    let key = &masters["valueFrom"]["configMapKeyRef"];
    assert_eq!(key["name"], config["metadata"]["name"]);
    assert!(config["data"].get(key["key"].as_str().unwrap()).is_some());
    assert!(texts(&agent["args"]).contains(&"--master=$(MASTERS)"));
}

#[test]
fn the_configuration_of_the_config_map_is_taken_whole() {
    let objects = objects("manifests");
    let text = object(&objects, "ConfigMap")["data"]["config.yaml"]
        .as_str()
        .unwrap();
    let (document, _) = with_file(text, |file| config::read(file.as_ref())).unwrap();
    let advice: Vec<_> = config::advise(&document)
        .into_iter()
        .map(|advice| advice.field)
        .collect();
    assert!(advice.is_empty(), "{advice:?} does nothing");
}

#[test]
fn the_agent_reads_the_configuration_where_it_is_mounted() {
    let pod = pod("manifests");
    let Command::Agent(agent) = command(container(&pod, "containers")) else {
        panic!("no agent");
    };
    let file = agent.config.config.unwrap();
    let mounts = container(&pod, "containers")["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["name"] == "config").unwrap();
    assert_eq!(file.parent().unwrap().to_str(), mount["mountPath"].as_str());
    // A mount of a single file would not follow changes.
    assert!(mount.get("subPath").is_none());
    let volumes = pod["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == "config").unwrap();
    let item = &volume["configMap"]["items"][0];
    assert_eq!(
        (&item["key"], item["path"].as_str()),
        (&json!("config.yaml"), file.file_name().unwrap().to_str())
    );
}

#[test]
fn the_role_is_what_the_agent_reads() {
    let objects = objects("manifests");
    let mut rights = BTreeSet::new();
    for rule in object(&objects, "ClusterRole")["rules"].as_array().unwrap() {
        for resource in texts(&rule["resources"]) {
            for group in texts(&rule["apiGroups"]) {
                rights.insert(format!("{resource}.{group} {}", texts(&rule["verbs"]).join(",")));
            }
        }
    }
    let expected = [
        "endpointslices.discovery.k8s.io list,watch",
        "events.events.k8s.io create",
        "nodes. get,list,watch",
        "servicecidrs.networking.k8s.io list,watch",
        "services. list,watch",
    ];
    assert_eq!(rights, expected.map(str::to_owned).into());
}

#[test]
fn the_role_is_bound_to_the_account_that_the_pods_have() {
    let objects = objects("manifests");
    let account = &object(&objects, "ServiceAccount")["metadata"];
    let binding = object(&objects, "ClusterRoleBinding");
    let subject =
        json!({ "kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"] });
    assert_eq!(binding["subjects"], json!([subject]));
    assert_eq!(
        binding["roleRef"]["name"],
        object(&objects, "ClusterRole")["metadata"]["name"]
    );
    assert_eq!(pod("manifests")["serviceAccountName"], account["name"]);
}

#[test]
fn probes_ask_the_port_that_the_agent_serves() {
    let pod = pod("manifests");
    let agent = container(&pod, "containers");
    let port = &agent["ports"][0];
    assert_eq!(
        (&port["name"], &port["containerPort"]),
        (&json!("healthz"), &json!(10256))
    );
    for (probe, path) in [
        ("startupProbe", "/livez"),
        ("livenessProbe", "/livez"),
        // Of a node that goes away /healthz says no, and the agent must not be killed for it.
        ("readinessProbe", "/healthz"),
    ] {
        assert_eq!(
            agent[probe]["httpGet"],
            json!({ "path": path, "port": "healthz" }),
            "{probe}"
        );
    }
}
