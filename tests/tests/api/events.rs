//! Events that agents post.

use std::time::{Duration, Instant};

use proxy_agent::announce::{About, Announcer, Notice, Severity};
use proxy_agent::name::ObjectName;
use proxy_agent::source::Kubernetes;
use serde_json::Value;

use crate::plane::{apply, namespace, options, service, shared};

/// Events in a namespace with this reason.
fn events(namespace: &str, reason: &str) -> Vec<Value> {
    let selector = format!("--field-selector=reason={reason}");
    let text = shared()
        .kubectl(&[
            "get",
            "events",
            "--namespace",
            namespace,
            &selector,
            "--output",
            "json",
        ])
        .unwrap();
    let list: Value = serde_json::from_str(&text).unwrap();
    list["items"].as_array().unwrap().clone()
}

// The agents post beside us while we wait for kubectl.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_every_node_says_is_said_once_and_what_a_node_says_by_each() {
    let plane = shared();
    namespace(plane, "announced");
    apply(plane, &service("announced", "web", ""));
    let uid = plane
        .kubectl(&[
            "get",
            "service",
            "web",
            "--namespace",
            "announced",
            "--output",
            "jsonpath={.metadata.uid}",
        ])
        .unwrap();
    let refused = Notice {
        about: About::Service(ObjectName::new("announced", "web"), Some(uid.trim().into())),
        severity: Severity::Warning,
        reason: "NotServedAsAsked",
        action: "ProgramService",
        note: "it asks for too much".to_owned(),
    };
    for node in ["announcer-1", "announcer-2"] {
        let client = Kubernetes::prepare(&options(plane), node).await.unwrap().client();
        let announcer = Announcer::start(client, node);
        announcer.tell(refused.clone());
        announcer.tell(refused.clone());
        announcer.tell(Notice::started());
        // All that this node says is posted before the other says the same.
        let deadline = Instant::now() + Duration::from_secs(60);
        let is_of_node = |event: &Value| event["involvedObject"]["name"] == node;
        while !events("default", "Starting").iter().any(is_of_node)
            || events("announced", "NotServedAsAsked").is_empty()
        {
            assert!(Instant::now() < deadline, "{node}: no event");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let told = events("announced", "NotServedAsAsked");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(
        (&told[0]["type"], &told[0]["message"]),
        (&"Warning".into(), &"it asks for too much".into())
    );
    // People see it where they look.
    let described = plane
        .kubectl(&["describe", "service", "web", "--namespace", "announced"])
        .unwrap();
    assert!(described.contains("it asks for too much"), "{described}");
}
