//! Ways to the API, and what may be wrong with them.

use std::path::{Path, PathBuf};

use lab::cluster::{ControlPlane, Controllers};
use proxy_agent::source::{ApiOptions, Watched};

use super::gate::Gate;
use super::plane::{apply, namespace, options, service, shared};
use super::source::Source;

/// The rules of docs/operations.md.
fn role(name: &str, with_ranges: bool) -> String {
    let ranges = "- {apiGroups: [networking.k8s.io], resources: [servicecidrs], verbs: [list, watch]}\n";
    format!(
        "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: {name}}}\nrules:\n\
         - {{apiGroups: [\"\"], resources: [services], verbs: [list, watch]}}\n\
         - {{apiGroups: [\"\"], resources: [nodes], verbs: [get, list, watch]}}\n\
         - {{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}}\n{}",
        if with_ranges { ranges } else { "" }
    )
}

fn bind(plane: &ControlPlane, name: &str, subject: &str) {
    let role = format!("--clusterrole={name}");
    plane
        .kubectl(&["create", "clusterrolebinding", name, &role, subject])
        .unwrap();
}

fn as_user(plane: &ControlPlane, user: &str) -> ApiOptions {
    ApiOptions {
        kubeconfig: Some(plane.kubeconfig_of(user, None).unwrap()),
        ..ApiOptions::default()
    }
}

#[test]
fn the_documented_rules_are_enough_and_without_service_cidrs_there_is_a_warning() {
    let plane = shared();
    namespace(plane, "roles");
    apply(
        plane,
        &(role("whole", true) + &role("less", false) + &service("roles", "a", "")),
    );
    for user in ["whole", "less"] {
        bind(plane, user, &format!("--user={user}"));
        let source = Source::start(plane, as_user(plane, user)).unwrap();
        source.expect("roles", &["+Service roles/a"]);
        if user == "less" {
            source.wait_log("ServiceCIDRs can't be watched");
            assert!(source.log().contains("servicecidrs"), "{}", source.log());
        }
        assert_eq!(
            source.status.broken(Watched::ServiceCidrs).is_some(),
            user == "less",
            "{user}: {}",
            source.log()
        );
        assert_eq!(source.status.broken_for(), None, "{user}: {}", source.log());
    }
}

#[test]
fn without_a_right_that_is_needed_nothing_comes_and_the_log_says_which() {
    let plane = shared();
    apply(plane, &role("no-slices", true).replace("endpointslices", "other"));
    bind(plane, "no-slices", "--user=no-slices");
    let source = Source::start(plane, as_user(plane, "no-slices")).unwrap();
    source.wait_log("the API can't be watched");
    assert!(source.is_silent() && !source.status.is_synced());
    let log = source.log();
    assert!(
        log.contains("endpointslices") && log.contains("no-slices") && log.contains("forbidden"),
        "{log}"
    );
    apply(plane, &role("no-slices", true));
    source.batch();
}

#[test]
fn a_server_that_does_not_answer_is_passed_over() {
    let plane = shared();
    namespace(plane, "masters");
    let gate = Gate::open(plane);
    let direct = lab::cluster::control_plane::server();
    let masters = ["https://127.0.0.1:1", &gate.master().to_string(), &direct];
    let source = Source::start(
        plane,
        ApiOptions {
            masters: masters.iter().map(|master| master.parse().unwrap()).collect(),
            ..options(plane)
        },
    )
    .unwrap();
    source.batch();
    gate.shut();
    apply(plane, &service("masters", "a", ""));
    source.expect("masters", &["+Service masters/a"]);
    assert!(
        source
            .log()
            .contains(&format!("another API server answers server=\"{direct}\"")),
        "{}",
        source.log()
    );
}

#[test]
fn a_server_with_another_name_than_its_certificates_is_not_trusted() {
    let plane = shared();
    gate_alias(plane);
    let source = Source::start(
        plane,
        ApiOptions {
            masters: vec!["https://127.0.0.2:6443".parse().unwrap()],
            ..options(plane)
        },
    )
    .unwrap();
    source.wait_log("the API can't be watched");
    let log = source.log();
    assert!(
        source.is_silent() && log.contains("certificate") && log.contains("127.0.0.2"),
        "{log}"
    );
}

/// The API server answers at an address that its certificate does not name.
fn gate_alias(plane: &ControlPlane) {
    let listener = plane
        .place()
        .namespace()
        .run(|| Ok(std::net::TcpListener::bind("127.0.0.2:6443")?))
        .unwrap();
    let namespace = plane.place().namespace().clone();
    std::thread::spawn(move || super::gate::serve(&namespace, listener));
}

#[test]
fn a_token_that_was_replaced_is_read_again_when_the_old_one_is_refused() {
    let mut plane = ControlPlane::start(Controllers::None).unwrap();
    apply(&plane, &role("tokens", true));
    for name in ["old", "new"] {
        plane.kubectl(&["create", "serviceaccount", name]).unwrap();
        let subject = format!("--serviceaccount=default:{name}");
        let binding = format!("tokens-{name}");
        plane
            .kubectl(&[
                "create",
                "clusterrolebinding",
                &binding,
                "--clusterrole=tokens",
                &subject,
            ])
            .unwrap();
    }
    let folder = service_account(&plane, "old");
    let source = Source::start(
        &plane,
        ApiOptions {
            masters: vec![lab::cluster::control_plane::server().parse().unwrap()],
            service_account: folder.clone(),
            ..ApiOptions::default()
        },
    )
    .unwrap();
    source.batch();
    std::fs::write(folder.join("token"), token(&plane, "new")).unwrap();
    plane.kubectl(&["delete", "serviceaccount", "old"]).unwrap();
    plane.stop_api().unwrap();
    plane.start_api().unwrap();
    apply(&plane, &service("default", "later", ""));
    source.expect(
        "default",
        &["+Service default/later", "+EndpointSlice default/kubernetes"],
    );
    for watched in Watched::ALL {
        let error = source.status.error(watched);
        assert!(!error.contains("Unauthorized"), "{}: {error}", watched.name());
    }
}

fn token(plane: &ControlPlane, account: &str) -> String {
    plane.kubectl(&["create", "token", account]).unwrap()
}

fn service_account(plane: &ControlPlane, account: &str) -> PathBuf {
    let folder = plane.folder().join("account");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("token"), token(plane, account)).unwrap();
    std::fs::copy(
        plane.folder().join("secrets/authority.crt"),
        folder.join("ca.crt"),
    )
    .unwrap();
    folder
}

fn refusal(options: ApiOptions) -> String {
    match Source::start(shared(), options) {
        Ok(_) => panic!("it started"),
        Err(error) => error,
    }
}

#[test]
fn what_is_wrong_with_a_kubeconfig_is_named() {
    let plane = shared();
    let good = std::fs::read_to_string(plane.kubeconfig()).unwrap();
    let file = plane.folder().join("wrong.kubeconfig");
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} is not in {good}");
        std::fs::write(&file, good.replace(from, to)).unwrap();
        refusal(ApiOptions {
            kubeconfig: Some(file.clone()),
            ..ApiOptions::default()
        })
    };
    let authority = "secrets/authority.crt";
    for (error, part) in [
        (
            with(
                "\"current-context\": \"cluster\"",
                "\"current-context\": \"other\"",
            ),
            "no context `other`",
        ),
        (
            with("\"user\": \"admin\"", "\"user\": \"nobody\""),
            "no user `nobody`",
        ),
        (with(authority, "secrets/missing.crt"), "secrets/missing.crt"),
        (with(authority, "etcd.log"), "no certificate"),
        (with("https://172.31.99.1", "::"), "url"),
        (with("{", "["), "wrong.kubeconfig"),
    ] {
        assert!(
            error.contains(part) && error.contains("wrong.kubeconfig"),
            "{error}"
        );
    }
    let missing = refusal(ApiOptions {
        kubeconfig: Some("/nowhere/kubeconfig".into()),
        ..ApiOptions::default()
    });
    assert!(
        missing.contains("/nowhere/kubeconfig") && missing.contains("No such file"),
        "{missing}"
    );
}

#[test]
fn a_service_account_needs_its_files_and_the_servers_own_addresses() {
    let folder = shared().folder().join("no-account");
    let without_files = refusal(ApiOptions {
        masters: vec!["https://10.0.0.1:6443".parse().unwrap()],
        service_account: folder.clone(),
        ..ApiOptions::default()
    });
    assert!(without_files.contains("no-account/token"), "{without_files}");
    let nothing = refusal(ApiOptions {
        service_account: folder.clone(),
        ..ApiOptions::default()
    });
    assert!(
        nothing.contains("--kubeconfig FILE") && nothing.contains("--manifests DIR"),
        "{nothing}"
    );
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("token"), "t").unwrap();
    let without_address = refusal(ApiOptions {
        service_account: folder.clone(),
        ..ApiOptions::default()
    });
    assert!(
        without_address.contains("--master") && without_address.contains("cluster IP"),
        "{without_address}"
    );
}

#[test]
fn a_server_behind_a_cluster_ip_is_warned_about() {
    let plane = shared();
    assert!(Path::new(plane.kubeconfig()).exists());
    // The API server's own Service has this address, and its certificate names it.
    let listener = plane
        .place()
        .namespace()
        .run(|| {
            let namespace = plane.place().namespace();
            namespace.ip(&["address add 10.96.0.1/32 dev lo".to_owned()])?;
            Ok(std::net::TcpListener::bind("10.96.0.1:443")?)
        })
        .unwrap();
    let namespace = plane.place().namespace().clone();
    std::thread::spawn(move || super::gate::serve(&namespace, listener));
    let source = Source::start(
        plane,
        ApiOptions {
            masters: vec!["https://10.96.0.1".parse().unwrap()],
            ..options(plane)
        },
    )
    .unwrap();
    source.batch();
    source.wait_log("https://10.96.0.1 is reached at 10.96.0.1");
    let log = source.log();
    assert!(
        log.contains("--master") && (log.contains("default/kubernetes") || log.contains("ServiceCIDR")),
        "{log}"
    );
}
