//! A Service that stays as it was, and why.

use std::error::Error;
use std::sync::Arc;

use crate::name::ObjectName;
use crate::plan::{PlanError, ServicePort};

/// What is asked for of a Service is not in the maps. It is tried again until it is, and told each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The Service.
    pub service: ObjectName,
    /// Its metadata.uid; empty if it has none.
    pub uid: Arc<str>,
    /// Why, in a word.
    pub cause: Cause,
    /// Why, for people: it names the Service, the map and the way out.
    pub text: String,
}

/// Why a Service stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A map has no room for all of it.
    NoRoom,
    /// A map refused a write.
    Refused,
}

impl Failure {
    /// No room, as the plan says, and why the map does not grow.
    pub(super) fn of_plan(error: &PlanError, why: &str) -> Self {
        Self {
            service: error.service.clone(),
            uid: error.uid.clone(),
            cause: Cause::NoRoom,
            text: format!("{error}: {why}"),
        }
    }

    /// A write of these ports was refused.
    pub(super) fn of_write(
        service: &ObjectName,
        ports: &[ServicePort],
        error: &(dyn Error + 'static),
    ) -> Self {
        // Which write of a plan it was is for the log.
        let cause = error.source().unwrap_or(error);
        Self {
            service: service.clone(),
            uid: ServicePort::uid_of(ports),
            cause: Cause::Refused,
            text: format!("Service {service} stays as it was: {cause}"),
        }
    }
}
