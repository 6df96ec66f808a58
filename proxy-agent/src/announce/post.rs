//! Posts a notice as an Event of events.k8s.io/v1.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};

use super::notice::{About, Notice, Severity};

/// How often it is tried: the API server may be away for a moment.
const TRIES: u32 = 5;
/// Before the second time; doubled from time to time.
const PAUSE: Duration = Duration::from_secs(2);
/// Longest note that the API takes.
const LONGEST_NOTE: usize = 1024;

pub(super) async fn post(client: kube::Client, node_name: String, notice: Notice) {
    let event = event(&node_name, &notice);
    let namespace = event.metadata.namespace.clone().unwrap_or_default();
    let events: Api<Event> = Api::namespaced(client, &namespace);
    let mut pause = PAUSE;
    for _ in 0..TRIES {
        match events.create(&PostParams::default(), &event).await {
            Ok(_) => return,
            // Another node, or this one before its restart, has said so.
            Err(kube::Error::Api(status)) if status.code == 409 => return,
            Err(kube::Error::Api(status)) if (400..500).contains(&status.code) && status.code != 429 => {
                let error = status.message;
                tracing::warn!(reason = notice.reason, error, "an event can't be posted");
                return;
            }
            Err(error) => tracing::debug!(%error, reason = notice.reason, "an event is posted later"),
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    tracing::warn!(
        reason = notice.reason,
        "an event is lost: the API can't be reached"
    );
}

/// The name of what all nodes say is the same on all of them: the first to say it is the only one.
fn event(node_name: &str, notice: &Notice) -> Event {
    let now = Timestamp::now();
    let mut regarding = ObjectReference {
        api_version: Some("v1".to_owned()),
        ..ObjectReference::default()
    };
    match &notice.about {
        About::Node => {
            regarding.kind = Some("Node".to_owned());
            regarding.name = Some(node_name.to_owned());
            // As kubelets and kube-proxy do: `kubectl describe node` looks for that.
            regarding.uid = Some(node_name.to_owned());
        }
        About::Service(name, uid) => {
            regarding.kind = Some("Service".to_owned());
            regarding.name = Some(name.name.to_string());
            regarding.namespace = Some(name.namespace.to_string());
            regarding.uid = uid.as_deref().filter(|uid| !uid.is_empty()).map(str::to_owned);
        }
    }
    let object = regarding.name.clone().unwrap_or_default();
    let suffix = if notice.is_of_all_nodes() {
        notice.key()
    } else {
        now.as_nanosecond() as u64
    };
    let mut note = notice.note.clone();
    note.truncate(note.floor_char_boundary(LONGEST_NOTE));
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{object}.{suffix:016x}")),
            namespace: Some(
                regarding
                    .namespace
                    .clone()
                    .unwrap_or_else(|| "default".to_owned()),
            ),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        reporting_controller: Some("shunt".to_owned()),
        reporting_instance: Some(node_name.to_owned()),
        action: Some(notice.action.to_owned()),
        reason: Some(notice.reason.to_owned()),
        note: Some(note).filter(|note| !note.is_empty()),
        type_: Some(
            match notice.severity {
                Severity::Normal => "Normal",
                Severity::Warning => "Warning",
            }
            .to_owned(),
        ),
        regarding: Some(regarding),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ObjectName;

    fn name(node: &str, notice: &Notice) -> String {
        event(node, notice).metadata.name.unwrap()
    }

    #[test]
    fn what_all_nodes_say_has_one_name_and_notes_fit() {
        let service = |note: String| Notice {
            about: About::Service(ObjectName::new("shop", "web"), None),
            severity: Severity::Warning,
            reason: "NotServedAsAsked",
            action: "ProgramService",
            note,
        };
        let (first, second) = (service("a".to_owned()), service("b".to_owned()));
        assert_eq!(name("n1", &first), name("n2", &first));
        assert_ne!(name("n1", &first), name("n1", &second));
        assert_ne!(name("n1", &Notice::started()), name("n2", &Notice::started()));
        let long = event("n1", &service("\u{e9}".repeat(1000))).note.unwrap();
        assert_eq!(long.len(), LONGEST_NOTE);
    }
}
