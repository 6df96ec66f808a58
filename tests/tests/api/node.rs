//! Nodes whose agents have the API as their source: what it says is what traffic does.

use anyhow::Result;
use lab::address::Family;
use lab::call::{Calls, Transport};
use lab::cluster::ControlPlane;
use lab::manifest::Service;
use lab::{ECHO_PORT, Lab, Options};

use super::gate::Gate;
use super::plane::{apply, shared};

const NODES: [u8; 2] = [1, 2];

#[test]
fn traffic_goes_where_the_api_says_and_goes_on_while_it_cannot_be_reached() -> Result<()> {
    let plane = shared();
    let mut lab = Lab::build(Options::default())?;
    let gates = NODES.map(|node| Gate::open_from(plane, lab.host(node).namespace()));
    for (node, gate) in NODES.into_iter().zip(&gates) {
        let kubeconfig = plane.kubeconfig().display().to_string();
        let master = gate.master().to_string();
        lab.agent_mut(node)
            .use_api(&["--kubeconfig", &kubeconfig, "--master", &master]);
    }
    lab.start_agents()?;
    for (name, node) in [("a", 1), ("c", 2), ("d", 2)] {
        lab.add_pod(name, node)?;
    }
    let over = |lab: &Lab, pod: &str| {
        Service::new("web", 60, 80, ECHO_PORT)
            .node_port(30_060)
            .over([lab.pod(pod)])
    };
    serve(plane, &over(&lab, "c"));
    for node in NODES {
        wait_for_backend(&lab, node, "c")?;
    }
    everyone_reaches(&lab, "c")?;

    gates.iter().for_each(Gate::shut);
    lab.agent_mut(1).kill()?;
    lab.agent_mut(1).launch()?;
    lab.agent(1)
        .events()?
        .wait(lab::events::Mark::START, "the outage to be told", |event| {
            event.message().starts_with("the API can't be watched")
        })?;
    everyone_reaches(&lab, "c")?;

    serve(plane, &over(&lab, "d"));
    gates.iter().for_each(Gate::reopen);
    lab.agent(1).wait_ready()?;
    for node in NODES {
        wait_for_backend(&lab, node, "d")?;
    }
    everyone_reaches(&lab, "d")
}

/// The API server gives UIDs itself.
fn serve(plane: &ControlPlane, service: &Service) {
    let manifest = service.manifest();
    let (before, after) = manifest.split_once(", uid: ").unwrap();
    let (_, after) = after.split_once('}').unwrap();
    apply(plane, &format!("{before}}}{after}"));
}

/// Waits until a node's maps have this pod as the only backend of the Service.
fn wait_for_backend(lab: &Lab, node: u8, pod: &str) -> Result<()> {
    let address = lab.pod(pod).address.v4.to_string();
    loop {
        let mark = lab.agent(node).mark();
        let backends = lab.agent(node).ask("backends")?;
        let all = backends.as_array().unwrap().iter();
        let here = all.filter(|backend| backend["alive"] == true && backend["address"] == address.as_str());
        if here.count() == 2 {
            return Ok(());
        }
        let events = lab.agent(node).events()?;
        events.wait(mark, &format!("{pod} to be a backend"), |event| {
            event.message() == "applied"
        })?;
    }
}

fn everyone_reaches(lab: &Lab, pod: &str) -> Result<()> {
    let service = lab::address::cluster(60);
    for (from, to) in [
        ("a", service.at(Family::V4, 80)),
        ("a", service.at(Family::V6, 80)),
        ("n1", service.at(Family::V4, 80)),
        ("client", lab::address::node(1).at(Family::V4, 30_060)),
        ("client", lab::address::node(2).at(Family::V6, 30_060)),
    ] {
        for transport in [Transport::Tcp, Transport::Udp] {
            let outcomes = lab.place(from)?.calls(Calls::new(transport, to, 3))?;
            assert_eq!(
                outcomes.by_name().get(pod),
                Some(&3),
                "{from} calls {to} by {transport}: {outcomes}"
            );
        }
    }
    Ok(())
}
