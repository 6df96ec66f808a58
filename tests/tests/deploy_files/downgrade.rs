//! Back from a newer version whose maps have another layout: what the agents' pods do before their agent.

use std::collections::BTreeSet;

use clap::{Args, Parser};
use proxy_agent::cli::{Arguments, Command, HookArguments};
use proxy_common::layout::LAYOUT_VERSION;
use serde_json::{Value, json};

use super::helm::rendered;
use super::tool::output;
use super::yaml::{documents, object, texts};

/// As the kustomize base has it.
pub(crate) const BY_THE_CHART: [&str; 2] = ["--set", "downgradeFrom=shunt-newer:dev"];

pub(crate) fn objects() -> Vec<Value> {
    documents(&output("check", &["kustomize", "deploy/downgrade"]))
}

fn containers(objects: &[Value]) -> Vec<Value> {
    let pod = &object(objects, "DaemonSet")["spec"]["template"]["spec"];
    pod["initContainers"].as_array().unwrap().clone()
}

#[test]
fn this_versions_programs_and_the_newer_versions_knowledge_come_before_this_versions_init() {
    let found = containers(&objects());
    let found: Vec<_> = found
        .iter()
        .map(|one| (one["name"].as_str().unwrap(), one["image"].as_str().unwrap()))
        .collect();
    assert_eq!(
        found,
        [
            ("object", "shunt:dev"),
            ("downgrade", "shunt-newer:dev"),
            ("init", "shunt:dev")
        ]
    );
}

#[test]
fn it_goes_back_to_this_versions_layout_with_the_file_that_this_version_wrote() {
    let containers = containers(&objects());
    let command = |container: &Value| {
        let line = [&["shunt"][..], &texts(&container["args"])].concat();
        Arguments::try_parse_from(line).unwrap().command
    };
    let (Command::Object(object), Command::Downgrade(downgrade)) =
        (command(&containers[0]), command(&containers[1]))
    else {
        panic!("{containers:?}");
    };
    assert_eq!(downgrade.to, LAYOUT_VERSION);
    assert_eq!(downgrade.object, object.output);
    // A node may have come after the newer version's agents.
    assert!(downgrade.if_present);
    for container in &containers[..2] {
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["name"] == "downgrade").unwrap();
        let path = mount["mountPath"].as_str().unwrap();
        assert!(object.output.starts_with(path), "{path}");
    }
}

#[test]
fn it_has_the_agents_rights_mounts_configuration_and_cgroup() {
    let objects = objects();
    let agent = &object(&objects, "DaemonSet")["spec"]["template"]["spec"]["containers"][0];
    let downgrade = &containers(&objects)[1];
    assert_eq!(downgrade["securityContext"], agent["securityContext"]);
    let mut mounts = downgrade["volumeMounts"].as_array().unwrap().clone();
    mounts.retain(|mount| mount["name"] != "downgrade");
    assert_eq!(json!(mounts), agent["volumeMounts"]);
    for argument in texts(&downgrade["args"]) {
        let shared = ["--cgroup=", "--config="]
            .iter()
            .any(|name| argument.starts_with(name));
        assert!(!shared || texts(&agent["args"]).contains(&argument), "{argument}");
    }
}

#[test]
fn switches_of_the_agents_that_say_where_programs_are_reach_it_and_no_others() {
    let hooks = HookArguments::augment_args(clap::Command::new("hooks"));
    let mut switches: BTreeSet<String> = hooks
        .get_arguments()
        .filter_map(|argument| Some(argument.get_long()?.to_owned()))
        .collect();
    switches.insert("instance".to_owned());
    // A value of the chart's own.
    assert!(switches.remove("cgroup"));
    let extra: Vec<_> = switches.iter().map(|name| format!("--{name}=x")).collect();
    let all = format!("extraArgs={{{},--socket-lb=x,--map-memory=x}}", extra.join(","));
    let objects = rendered(&[&BY_THE_CHART[..], &["--set", &all]].concat());
    let arguments = containers(&objects)[1]["args"].clone();
    let given: Vec<_> = texts(&arguments)
        .into_iter()
        .filter(|one| one.ends_with("=x"))
        .collect();
    assert_eq!(given, extra);
}
