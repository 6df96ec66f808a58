//! The host's connections when an endpoint goes: reset at once where the Service asks for it, and only then.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::address::{self, Family};
use lab::call::{Held, hold};
use lab::manifest::Service;
use lab::{ECHO_PORT, Lab, Options};

const PORT: u16 = 80;
const NODE_PORT: u16 = 30_080;
const PAUSE: Duration = Duration::from_millis(20);

/// A Service with one endpoint, and what is held to it from the host n1.
struct Case {
    service: Service,
    held: Vec<(String, Held)>,
}

impl Case {
    /// Over pod c of the other node; the host calls the cluster address and its own NodePort.
    fn start(lab: &Lab, name: &str, number: u8, annotation: Option<&'static str>) -> Result<Self> {
        let mut service = Service::new(name, number, PORT, ECHO_PORT)
            .node_port(NODE_PORT + u16::from(number))
            .over([lab.pod("c")]);
        let named = |value| ("shunt.dev/on-endpoint-gone", value);
        service.annotations = annotation.map(named).into_iter().collect();
        lab.apply(&service)?;
        let mut held = Vec::new();
        for family in Family::BOTH {
            for to in [
                address::cluster(number).at(family, PORT),
                address::LOOPBACK.at(family, NODE_PORT + u16::from(number)),
            ] {
                let what = format!("{name} at {to}");
                held.push((what, hold(lab.host(1), to, PAUSE)?));
            }
        }
        Ok(Self { service, held })
    }

    fn lives(&mut self) -> Result<()> {
        self.held
            .iter_mut()
            .try_for_each(|(what, held)| held.check().map(drop).with_context(|| what.clone()))
    }

    /// A client ends by itself once its connection is reset: it does not wait for its time to be up.
    fn is_reset(&mut self) -> Result<()> {
        for (what, held) in &mut self.held {
            let error = held.wait_broken()?;
            ensure!(error.contains("abort"), "{what}: {error}");
        }
        Ok(())
    }

    fn set(&mut self, lab: &Lab, change: impl FnOnce(&mut Service)) -> Result<()> {
        change(&mut self.service);
        lab.apply(&self.service)
    }
}

#[test]
fn connections_to_a_gone_endpoint_are_reset_where_the_service_asks_for_it() -> Result<()> {
    let mut lab = Lab::start(Options::default())?;
    lab.add_pod("c", 2)?;
    let mut reset = Case::start(&lab, "reset", 1, Some("reset"))?;
    let mut keep = Case::start(&lab, "keep", 2, Some("keep"))?;
    let mut plain = Case::start(&lab, "plain", 3, None)?;

    // Whether it serves meanwhile or not: an endpoint that terminates is there.
    for is_serving in [true, false] {
        reset.set(&lab, |service| {
            let endpoint = &mut service.endpoints[0];
            (endpoint.ready, endpoint.serving, endpoint.terminating) = (false, is_serving, true);
        })?;
        reset.lives()?;
    }

    for case in [&mut keep, &mut plain, &mut reset] {
        case.set(&lab, |service| service.endpoints.clear())?;
    }
    reset.is_reset()?;
    keep.lives()?;
    plain.lives()
}
