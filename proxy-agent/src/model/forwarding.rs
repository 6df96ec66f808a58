//! How packets from outside go to endpoints of other nodes: `--forwarding`, and the annotation `shunt.dev/forwarding` of a
//! Service.

use super::Warning;
use crate::plan::Forwarding;
use crate::source::{Service, TrafficPolicy};

/// # Errors
/// The annotation's value is none that is understood.
fn of_service(service: &Service) -> Result<Option<Forwarding>, &str> {
    let Some(value) = service.metadata.annotations.forwarding() else {
        return Ok(None);
    };
    match Forwarding::of(value) {
        Some(forwarding) => Ok(Some(forwarding)),
        None => Err(value),
    }
}

/// How a Service's packets go: as the annotation says, else, and where it says nothing that is understood, as the node's do.
/// With an external policy Local none goes to another node.
pub(super) fn forwarding(service: &Service, of_node: Forwarding) -> Forwarding {
    if service.spec.external_traffic_policy == TrafficPolicy::Local {
        return Forwarding::Snat;
    }
    of_service(service).ok().flatten().unwrap_or(of_node)
}

/// What of a Service's annotation is not understood.
pub(super) fn warning(service: &Service) -> Option<Warning> {
    let value = of_service(service).err()?;
    Some(Warning::UnknownForwarding {
        service: service.metadata.object_name(),
        value: value.to_owned(),
    })
}
