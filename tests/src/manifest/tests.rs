//! The agent reads what the lab writes.

use proxy_agent::source::{Change, Folder, Object};
use tokio::sync::mpsc;

use super::*;

/// What the agent reads of these manifests; it refuses none.
async fn read(manifests: &[(&str, String)]) -> Vec<Object> {
    let folder = std::env::temp_dir().join(format!("shunt-manifests-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, text) in manifests {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let (sender, mut batches) = mpsc::channel(1);
    let watch = tokio::spawn(Folder::watch(&folder).unwrap().run(sender));
    let batch = batches.recv().await.unwrap();
    watch.abort();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(batch.refusals.is_empty(), "{:?}", batch.refusals);
    let changes = batch.changes.into_iter();
    changes
        .filter_map(|change| {
            if let Change::Upsert(object) = change {
                Some(object)
            } else {
                None
            }
        })
        .collect()
}

#[tokio::test]
async fn the_agent_reads_the_labs_manifests() {
    let mut service = Service::new("web", 3, 80, 8080).node_port(30080);
    service.load_balancer = Some(address::LOAD_BALANCER);
    service.external = Some(address::EXTERNAL);
    service.external_local = true;
    service.endpoints = [1, 2]
        .map(|number| Endpoint {
            address: address::pod(number, 2),
            node: number,
            ready: true,
            serving: true,
            terminating: false,
        })
        .to_vec();
    let plain = Service::new("plain", 4, 80, 8080);
    let files = [
        ("web.yaml", service.manifest()),
        ("plain.yaml", plain.manifest()),
        ("nodes.yaml", nodes(2)),
    ];
    let objects = read(&files).await;
    let slices = objects.iter().filter_map(|object| {
        if let Object::Slice(slice) = object {
            Some(slice)
        } else {
            None
        }
    });
    assert_eq!(slices.map(|slice| slice.endpoints.len()).sum::<usize>(), 4);
    assert_eq!(
        objects
            .iter()
            .filter(|object| matches!(object, Object::Service(_)))
            .count(),
        2
    );
    assert_eq!(
        objects
            .iter()
            .filter(|object| matches!(object, Object::Node(_)))
            .count(),
        2
    );
    assert_eq!(objects.len(), 8);
}
