//! Services whose connections end with their endpoints: the annotation `shunt.dev/on-endpoint-gone`.

use super::frontends::family_of;
use super::{Model, Warning};
use crate::name::ObjectName;
use crate::plan::{Frontend, Mortal};
use crate::source::{Protocol, Service};

/// What becomes of TCP connections of the host whose endpoint has left the EndpointSlices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnEndpointGone {
    /// They live until one of their ends closes them.
    Keep,
    /// They are reset at once.
    Reset,
}

impl OnEndpointGone {
    /// # Errors
    /// The annotation's value is none of these.
    fn of(service: &Service) -> Result<Self, &str> {
        match service.metadata.annotations.on_endpoint_gone() {
            None | Some("keep") => Ok(Self::Keep),
            Some("reset") => Ok(Self::Reset),
            Some(other) => Err(other),
        }
    }
}

/// What of a Service's annotation is not understood.
pub(super) fn warning(service: &Service) -> Option<Warning> {
    let value = OnEndpointGone::of(service).err()?;
    Some(Warning::UnknownOnEndpointGone {
        service: service.metadata.object_name(),
        value: value.to_owned(),
    })
}

impl Model {
    /// Whether connections to a Service end with their endpoints.
    pub fn is_mortal(&self, name: &ObjectName) -> bool {
        let service = self.services.get(name);
        service.is_some_and(|service| OnEndpointGone::of(service) == Ok(OnEndpointGone::Reset))
    }

    /// The TCP service ports of a Service whose connections are to end with their endpoints.
    pub fn mortal(&self, name: &ObjectName) -> Vec<Mortal> {
        let Some(service) = self.services.get(name).filter(|_| self.is_mortal(name)) else {
            return Vec::new();
        };
        let served = self.served(service);
        let ports = service.spec.ports.iter().enumerate();
        let tcp = ports.filter(|(_, port)| port.protocol == Protocol::Tcp);
        let each = tcp.flat_map(|port| served.families.iter().map(move |family| (port, *family)));
        let mortal = each.map(|((index, _), family)| {
            let wanted = served.frontends.iter().filter(|wanted| wanted.port == index);
            let frontends: Vec<Frontend> = wanted
                .map(|wanted| wanted.frontend)
                .filter(|frontend| family_of(frontend.address) == family && self.claims.has(name, frontend))
                .collect();
            Mortal {
                frontends,
                endpoints: self.present(name, Protocol::Tcp, family),
            }
        });
        mortal.filter(|mortal| !mortal.frontends.is_empty()).collect()
    }
}
