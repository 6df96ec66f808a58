//! What becomes of calls of which no endpoint of the Service is usable anywhere: the annotation `shunt.dev/without-endpoints`.

use proxy_common::layout::When;

use super::Warning;
use crate::source::Service;

/// # Errors
/// The annotation's value is none that is understood.
fn of_service(service: &Service) -> Result<When, &str> {
    match service.metadata.annotations.without_endpoints() {
        None | Some("reject") => Ok(When::Reject),
        Some("drop") => Ok(When::Drop),
        Some("pass") => Ok(When::Pass),
        Some(other) => Err(other),
    }
}

/// As kube-proxy does, where the annotation says nothing that is understood.
pub(super) fn without_endpoints(service: &Service) -> When {
    of_service(service).unwrap_or(When::Reject)
}

/// What of a Service's annotation is not understood.
pub(super) fn warning(service: &Service) -> Option<Warning> {
    let value = of_service(service).err()?;
    Some(Warning::UnknownWithoutEndpoints {
        service: service.metadata.object_name(),
        value: value.to_owned(),
    })
}
