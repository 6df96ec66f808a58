//! Events that agents post.

use std::time::{Duration, Instant};

use lab::cluster::ControlPlane;
use proxy_agent::announce::{About, Announcer, Notice, Severity};
use proxy_agent::name::ObjectName;
use proxy_agent::source::Kubernetes;
use serde_json::Value;

use crate::plane::{apply, namespace, options, service, shared};

/// Events in a namespace with this reason.
pub(crate) fn events(plane: &ControlPlane, namespace: &str, reason: &str) -> Vec<Value> {
    let selector = format!("--field-selector=reason={reason}");
    let text = plane
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

#[test]
fn what_every_node_says_is_said_once_and_what_a_node_says_by_each() {
    let plane = shared();
    namespace(plane, "announced");
    apply(plane, &service("announced", "web", ""));
    // In the control plane's own network, which is that of every thread begun here.
    let place = plane.place().namespace().clone();
    let told = std::thread::spawn(move || {
        place.run(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()?;
            runtime.block_on(tell(shared()));
            Ok(())
        })
    });
    told.join().unwrap().unwrap();
    let told = events(plane, "announced", "NotServedAsAsked");
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

/// Two nodes say the same of a Service, one after the other, and each that it has started.
async fn tell(plane: &ControlPlane) {
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
        let api = Kubernetes::prepare(&options(plane), node).await.unwrap();
        let announcer = Announcer::start(api.client(), node);
        announcer.tell(refused.clone());
        announcer.tell(refused.clone());
        announcer.tell(Notice::started());
        let deadline = Instant::now() + Duration::from_secs(60);
        let is_of_node = |event: &Value| event["involvedObject"]["name"] == node;
        while !events(plane, "default", "Starting").iter().any(is_of_node)
            || events(plane, "announced", "NotServedAsAsked").is_empty()
        {
            assert!(Instant::now() < deadline, "{node}: no event");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
