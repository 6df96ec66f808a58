//! Specs of Kubernetes' own suite with Shunt: what passed when docs/conformance.md was written passes still.

use lab::cluster::conformance::{self, Specs, Verdict};
use lab::cluster::{Cluster, Options, Proxy};

#[test]
fn specs_that_passed_pass_still() {
    let specs = Specs::subset().unwrap();
    let passed = conformance::read_passed(include_str!("../../docs/conformance.md"), "Shunt");
    let options = Options {
        nodes: 3,
        ..Options::of(Proxy::Shunt)
    };
    let mut cluster = Cluster::start(options).unwrap();
    cluster
        .control_plane_mut()
        .start_load_balancer(options.nodes)
        .unwrap();
    let folder = std::env::temp_dir().join(format!("shunt-conformance-{}", std::process::id()));
    let client = cluster.control_plane().client();
    let results = conformance::run(&client, options.nodes, &specs, &folder).unwrap();
    for (name, verdict) in &results {
        println!("{name}: {verdict}");
    }
    let lost: Vec<_> = results
        .iter()
        .filter(|(name, verdict)| passed.contains(*name) && **verdict != Verdict::Passed)
        .collect();
    assert!(
        lost.is_empty(),
        "passed before and do not now: {lost:#?}\nthe log is in {}",
        folder.display()
    );
    let still = results
        .values()
        .filter(|verdict| **verdict == Verdict::Passed)
        .count();
    assert!(still > 20, "only {still} of {} specs passed", results.len());
    std::fs::remove_dir_all(folder).unwrap();
}
