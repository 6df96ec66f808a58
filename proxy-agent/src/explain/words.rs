//! The words for what the model and the rules decide.

use proxy_common::layout::FrontendKind;

use crate::model::{HintUse, Standing, Topology};
use crate::source::TrafficPolicy;

/// The kind of a frontend, as Services name it.
pub(crate) fn kind(kind: FrontendKind) -> &'static str {
    match kind {
        FrontendKind::ClusterIp => "ClusterIP",
        FrontendKind::NodePort => "NodePort",
        FrontendKind::LoadBalancer | FrontendKind::GuardedLoadBalancer => "LoadBalancer",
        FrontendKind::ExternalIp => "ExternalIP",
    }
}

pub(super) fn policy(policy: TrafficPolicy) -> &'static str {
    match policy {
        TrafficPolicy::Cluster => "Cluster",
        TrafficPolicy::Local => "Local",
    }
}

/// Why an endpoint is in a list, or is not.
pub(super) fn standing(standing: Standing, is_local_list: bool, node: Option<&str>) -> String {
    let text = match standing {
        Standing::Ready(Topology::All) => "ready",
        Standing::Ready(Topology::Node) => "ready, and its hints name this node",
        Standing::Ready(Topology::Zone) => "ready, and its hints name this node's zone",
        Standing::LastResort if is_local_list => {
            "terminating but still serving, and no endpoint of this node is ready"
        }
        Standing::LastResort => "terminating but still serving, and no endpoint is ready",
        Standing::ForOthers(Topology::Node) => "ready, but its hints name other nodes",
        Standing::ForOthers(_) => "ready, but its hints name other zones",
        Standing::NotLocal => match node {
            Some(node) => return format!("not local: it is on node {node}"),
            None => "not local: it has no nodeName",
        },
        Standing::NotReady => "not ready",
        Standing::Terminating if is_local_list => "terminating, while endpoints of this node are ready",
        Standing::Terminating => "terminating, while others are ready",
        Standing::NotServing => "terminating, and not serving any more",
        Standing::Duplicate => "duplicate: another entry with this address and port counts",
    };
    text.to_owned()
}

/// What becomes of the hints of one sort; nothing to say where there are none.
pub(super) fn hints(sort: &str, used: HintUse, zone: Option<&str>) -> Option<String> {
    let ours = match (sort, zone) {
        ("zone", Some(zone)) => format!("this node's zone {zone}"),
        ("zone", None) => "this node's zone, which it has no label for".to_owned(),
        _ => "this node".to_owned(),
    };
    match used {
        HintUse::Absent => None,
        HintUse::Complete => Some(format!(
            "the hints for {sort}s are followed: every ready endpoint has them, and some name {ours}"
        )),
        HintUse::Incomplete(1) => Some(format!(
            "the hints for {sort}s are not followed: a ready endpoint has none"
        )),
        HintUse::Incomplete(count) => Some(format!(
            "the hints for {sort}s are not followed: {count} ready endpoints have none"
        )),
        HintUse::NotForUs => Some(format!(
            "the hints for {sort}s are not followed: none names {ours}"
        )),
    }
}
