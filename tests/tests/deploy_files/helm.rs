//! The chart: the same objects as the kustomize base, and the clean-up before it is taken away.

use clap::Parser;
use lab::cluster::binaries::kubernetes_version;
use proxy_agent::cli::{Arguments, Command};
use serde_json::{Value, json};

use super::tool::{complaint, output, with_file};
use super::yaml::{documents, object, objects, texts};

const CHART: &str = "deploy/helm/shunt";
const MASTERS: &str = "masters={https://192.0.2.10:6443,https://192.0.2.11:6443}";

/// A helm that is built from its module believes in an old Kubernetes unless it is told.
fn template(more: &[&str]) -> Vec<String> {
    let version = kubernetes_version().unwrap();
    let line = [
        "template",
        "shunt",
        CHART,
        "--namespace",
        "kube-system",
        "--kube-version",
        &version,
    ];
    line.iter().chain(more).map(ToString::to_string).collect()
}

/// What the chart renders, with the base's image.
pub(crate) fn rendered(more: &[&str]) -> Vec<Value> {
    let image = ["--set", MASTERS, "--set", "image.repository=shunt,image.tag=dev"];
    documents(&output("helm", &template(&[&image[..], more].concat())))
}

fn is_hook(object: &Value) -> bool {
    object["metadata"]["annotations"].get("helm.sh/hook").is_some()
}

#[test]
fn helm_finds_nothing_to_complain_of() {
    output("helm", &["lint", "--strict", CHART, "--set", MASTERS]);
}

/// Without what Helm and a release add.
fn bare(mut object: Value) -> Value {
    if let Some(labels) = object["metadata"]["labels"].as_object_mut() {
        for key in [
            "app.kubernetes.io/instance",
            "app.kubernetes.io/version",
            "app.kubernetes.io/managed-by",
        ] {
            labels.remove(key);
        }
        labels.remove("helm.sh/chart");
    }
    if let Some(template) = object.pointer_mut("/spec/template") {
        let annotations = template["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("annotations");
        assert!(annotations.unwrap()["checksum/config"].is_string());
    }
    object
}

#[test]
fn it_renders_the_objects_of_the_kustomize_bases() {
    renders("deploy/manifests", &[]);
    renders("deploy/downgrade", &super::downgrade::BY_THE_CHART);
}

fn renders(base: &str, more: &[&str]) {
    let mut base = documents(&output("check", &["kustomize", base]));
    let config = base
        .iter_mut()
        .find(|object| object["kind"] == "ConfigMap")
        .unwrap();
    config["data"]["masters"] = json!("https://192.0.2.10:6443,https://192.0.2.11:6443");
    let chart: Vec<Value> = rendered(more)
        .into_iter()
        .filter(|object| !is_hook(object))
        .map(bare)
        .collect();
    for object in &base {
        let kind = object["kind"].as_str().unwrap();
        assert_eq!(super::yaml::object(&chart, kind), object, "{kind}");
    }
    assert_eq!(chart.len(), base.len());
}

#[test]
fn without_the_api_servers_addresses_it_is_refused() {
    for set in [
        "",
        "masters={}",
        "masters={http://192.0.2.10}",
        "masters=https://192.0.2.10:6443",
    ] {
        let error = complaint("helm", &template(&["--set", set]));
        assert!(error.contains("masters"), "{set}: {error}");
    }
}

#[test]
fn values_that_do_not_exist_or_can_not_be_are_refused_by_name() {
    for (set, part) in [
        ("master={https://a}", "master"),
        ("image.pullPolicy=Often", "pullPolicy"),
        ("snatPorts=45000", "snatPorts"),
        ("cgroup=relative", "cgroup"),
        ("downgradeFrom=shunt", "downgradeFrom"),
        ("cleanup.timeoutSeconds=0", "timeoutSeconds"),
    ] {
        let error = complaint("helm", &template(&["--set", MASTERS, "--set", set]));
        assert!(error.contains(part), "{set}: {error}");
    }
}

#[test]
fn the_reserved_ports_are_those_of_the_agent() {
    let objects = rendered(&[
        "--set",
        "snatPorts=33000-44999",
        "--set",
        "nodePortRange=20000-29999",
    ]);
    let pod = &object(&objects, "DaemonSet")["spec"]["template"]["spec"];
    for list in ["initContainers", "containers"] {
        let given = texts(&pod[list][0]["args"]);
        for wanted in ["--snat-ports=33000-44999", "--node-port-range=20000-29999"] {
            assert!(given.contains(&wanted), "{list}: {given:?}");
        }
    }
}

#[test]
fn fields_of_kube_proxys_configuration_reach_the_agent() {
    let objects = rendered(&["--set", "config.metricsBindAddress=0.0.0.0:10249"]);
    let text = object(&objects, "ConfigMap")["data"]["config.yaml"]
        .as_str()
        .unwrap();
    let (document, _) = with_file(text, |file| proxy_agent::config::read(file.as_ref())).unwrap();
    assert!(format!("{document:?}").contains("0.0.0.0:10249"), "{text}");
}

#[test]
fn before_it_is_deleted_every_node_is_cleaned() {
    let hooks: Vec<Value> = rendered(&[]).into_iter().filter(is_hook).collect();
    for hook in &hooks {
        assert_eq!(hook["metadata"]["annotations"]["helm.sh/hook"], "pre-delete");
    }
    let job = object(&hooks, "Job");
    let pod = &job["spec"]["template"]["spec"];
    let arguments = texts(&pod["containers"][0]["args"]);
    let line = Arguments::try_parse_from([&["shunt"][..], &arguments].concat()).unwrap();
    assert!(matches!(line.command, Command::Uninstall(_)), "{arguments:?}");
    assert!(arguments.contains(&"--namespace=kube-system"), "{arguments:?}");
    assert_eq!(
        pod["serviceAccountName"],
        object(&hooks, "ServiceAccount")["metadata"]["name"]
    );
    assert_eq!(job["spec"]["activeDeadlineSeconds"], 300);
}

#[test]
fn the_clean_up_may_change_this_daemon_set_alone() {
    let objects = rendered(&[]);
    let role = object(&objects, "Role");
    let name = &object(&objects, "DaemonSet")["metadata"]["name"];
    assert_eq!(
        role["rules"],
        json!([{
            "apiGroups": ["apps"], "resources": ["daemonsets"], "resourceNames": [name],
            "verbs": ["get", "list", "watch", "patch"],
        }])
    );
    let binding = object(&objects, "RoleBinding");
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    assert_eq!(binding["subjects"][0]["name"], "shunt-cleanup");
}

#[test]
fn rights_are_there_before_the_job_that_needs_them() {
    let weight = |hook: &Value| -> i32 {
        hook["metadata"]["annotations"]["helm.sh/hook-weight"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    };
    let hooks: Vec<Value> = rendered(&[]).into_iter().filter(is_hook).collect();
    let job = weight(object(&hooks, "Job"));
    for kind in ["ServiceAccount", "Role", "RoleBinding"] {
        assert!(weight(object(&hooks, kind)) < job, "{kind}");
    }
}

#[test]
fn the_clean_up_can_be_left_out() {
    assert!(!rendered(&["--set", "cleanup.enabled=false"]).iter().any(is_hook));
}

#[test]
fn its_version_is_the_binarys() {
    let chart = documents(&super::tool::text("deploy/helm/shunt/Chart.yaml")).remove(0);
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    let objects = documents(&output("helm", &template(&["--set", MASTERS])));
    let image = &object(&objects, "DaemonSet")["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(
        *image,
        concat!("ghcr.io/shunt-proxy/shunt:", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn the_kustomize_bases_render_with_the_images_name() {
    for folder in ["manifests", "cleanup"] {
        let rendered = documents(&output("check", &["kustomize", &format!("deploy/{folder}")]));
        assert_eq!(rendered.len(), objects(folder).len());
        let pod = &object(&rendered, "DaemonSet")["spec"]["template"]["spec"];
        for list in ["initContainers", "containers"] {
            assert_eq!(pod[list][0]["image"], "shunt:dev", "{folder}");
        }
    }
}
