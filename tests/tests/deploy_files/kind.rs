//! The kind clusters, and the script around them.

use std::process::Command;

use serde_json::Value;

use super::tool::{complaint, output, text, with_file};
use super::yaml::root;

fn cluster(family: &str) -> Value {
    serde_json::from_str(&output("check", &["kind", &format!("deploy/kind/{family}.yaml")])).unwrap()
}

#[test]
fn kind_takes_them_and_runs_no_kube_proxy() {
    for family in ["ipv4", "dual"] {
        let cluster = cluster(family);
        assert_eq!(cluster["networking"]["ipFamily"], family);
        assert_eq!(cluster["networking"]["kubeProxyMode"], "none");
        assert_eq!(cluster["nodes"].as_array().unwrap().len(), 3);
        assert_eq!(cluster["name"], "shunt", "the script calls it so");
    }
}

#[test]
fn what_kind_would_refuse_is_refused() {
    let good = text("deploy/kind/dual.yaml");
    for (from, to, part) in [
        ("kubeProxyMode", "kubeProxymode", "kubeProxymode"),
        ("ipFamily: dual", "ipFamily: both", "both"),
        ("kubeProxyMode: none", "kubeProxyMode: shunt", "shunt"),
        ("v1alpha4", "v1", "v1"),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good);
        let error = with_file(&bad, |path| complaint("check", &["kind", path]));
        assert!(error.contains(part), "{error}");
    }
}

fn script(arguments: &[&str], path: &str) -> (bool, String) {
    let bash = Command::new("/bin/bash")
        .arg(root().join("deploy/kind/run"))
        .args(arguments)
        .env("PATH", path)
        .output()
        .unwrap();
    (
        bash.status.success(),
        String::from_utf8_lossy(&bash.stderr).into_owned(),
    )
}

#[test]
fn the_script_names_a_step_that_it_does_not_know_and_a_program_that_is_missing() {
    let (success, said) = script(&["dual", "restart"], "/usr/bin:/bin");
    assert!(!success && said.contains("unknown step restart"), "{said}");
    let folder = std::env::temp_dir().join(format!("shunt-deploy-path-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink("/usr/bin/dirname", folder.join("dirname")).unwrap();
    let (success, said) = script(&["up"], folder.to_str().unwrap());
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(!success && said.contains("docker is missing"), "{said}");
}
