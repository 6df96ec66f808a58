//! What is told of which object.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;

use crate::agent::{Cause, Failure};
use crate::model::Warning;
use crate::name::ObjectName;

/// Which object a notice is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum About {
    /// This node.
    Node,
    /// A Service, with its UID if that is known.
    Service(ObjectName, Option<Arc<str>>),
}

/// Whether something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// No.
    Normal,
    /// Yes.
    Warning,
}

/// A notice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notice {
    /// What it is about.
    pub about: About,
    /// Whether something is wrong.
    pub severity: Severity,
    /// Why, in a word.
    pub reason: &'static str,
    /// What was done or tried, in a word.
    pub action: &'static str,
    /// Why, for people.
    pub note: String,
}

impl Notice {
    /// The agent has started.
    pub fn started() -> Self {
        Self {
            about: About::Node,
            severity: Severity::Normal,
            reason: "Starting",
            action: "StartShunt",
            note: String::new(),
        }
    }

    /// A server of the agent can't listen.
    pub fn of_server(name: &str, address: &str, error: &io::Error) -> Self {
        let (reason, action) = match name {
            "healthz" => ("FailedToStartProxierHealthcheck", "StartProxierHealthcheck"),
            _ => ("FailedToStartMetricServer", "StartMetricServer"),
        };
        Self {
            about: About::Node,
            severity: Severity::Warning,
            reason,
            action,
            note: format!("the {name} server can't listen at {address}: {error}"),
        }
    }

    /// This node's server at a Service's healthCheckNodePort can't listen.
    pub fn of_health_check(service: &ObjectName, port: u16, error: &io::Error) -> Self {
        Self {
            about: About::Service(service.clone(), None),
            severity: Severity::Warning,
            reason: "FailedToStartServiceHealthcheck",
            action: "StartServiceHealthcheck",
            note: format!("a node can't listen at port {port}: {error}"),
        }
    }

    /// Source ports run short, in these words.
    pub fn of_source_ports(text: String) -> Self {
        Self {
            about: About::Node,
            severity: Severity::Warning,
            reason: "SourcePortsScarce",
            action: "TranslateSource",
            note: text,
        }
    }

    /// A Service or the node does not get what it asks for; none for what belongs to neither.
    pub fn of_warning(warning: &Warning, uid: Option<&Arc<str>>) -> Option<Self> {
        if let Warning::RangesNotKnown { .. } = warning {
            return Some(Self {
                about: About::Node,
                severity: Severity::Warning,
                reason: "RangesNotKnown",
                action: "ProgramRanges",
                note: warning.to_string(),
            });
        }
        let (service, reason) = match warning {
            Warning::FrontendTaken { loser, .. } => (loser, "FrontendTaken"),
            Warning::HintsNotFollowed { service, .. } => (service, "HintsNotFollowed"),
            other => (other.service()?, "NotServedAsAsked"),
        };
        Some(Self {
            about: About::Service(service.clone(), uid.cloned()),
            severity: Severity::Warning,
            reason,
            action: "ProgramService",
            note: warning.to_string(),
        })
    }

    /// A Service stays as it was.
    pub fn of_failure(failure: &Failure) -> Self {
        Self {
            about: About::Service(failure.service.clone(), Some(failure.uid.clone())),
            severity: Severity::Warning,
            reason: match failure.cause {
                Cause::NoRoom => "NoRoom",
                Cause::Refused => "MapRefused",
            },
            action: "ProgramService",
            note: failure.text.clone(),
        }
    }

    /// What every node says of a Service is said once; what a node says of itself, by itself.
    pub(super) fn is_of_all_nodes(&self) -> bool {
        matches!(self.about, About::Service(..))
    }

    /// The same for the same notice.
    pub(super) fn key(&self) -> u64 {
        // Without a seed: the same on every node.
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use proxy_common::layout::Family;

    use super::*;
    use crate::plan::{Range, RangeKind, UnknownRanges};

    #[test]
    fn a_warning_is_told_at_the_service_that_does_without() {
        let (winner, loser) = (ObjectName::new("shop", "web"), ObjectName::new("shop", "late"));
        let frontend = crate::plan::Frontend {
            address: std::net::Ipv4Addr::new(203, 0, 113, 7).into(),
            port: proxy_common::layout::Port::new(80),
            protocol: 6,
        };
        let warning = Warning::FrontendTaken {
            frontend,
            winner,
            loser: loser.clone(),
        };
        let notice = Notice::of_warning(&warning, Some(&"uid".into())).unwrap();
        assert_eq!(notice.about, About::Service(loser, Some("uid".into())));
        assert!(notice.note.contains("TCP 203.0.113.7:80"), "{}", notice.note);
        let unknown = UnknownRanges {
            kind: RangeKind::Service,
            family: Family::V4,
            ranges: vec![Range::new([10, 96, 0, 0].into(), 16)],
        };
        let notice = Notice::of_warning(&Warning::RangesNotKnown { ranges: unknown }, None).unwrap();
        assert_eq!((notice.about, notice.reason), (About::Node, "RangesNotKnown"));
        assert!(notice.note.contains("10.96.0.0/16"), "{}", notice.note);
        let slice = ObjectName::new("shop", "web-1");
        assert_eq!(
            Notice::of_warning(&Warning::SliceWithoutService { slice }, None),
            None
        );
    }
}
