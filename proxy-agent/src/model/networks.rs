//! Ranges of addresses: which are allocated to Services, and which are this node's pods'.

use std::sync::Arc;

use super::Model;
use crate::plan::{Range, Ranges};
use crate::source::{ServiceCidr, SourceRange};

/// How a pod of this node is told from other callers (kube-proxy's detectLocalMode). What chooses interfaces chooses those
/// that get a pod's programs, and is none of the model's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DetectLocal {
    /// By the interface that its packets come in by.
    #[default]
    ByInterface,
    /// By its address (ClusterCIDR).
    ByRanges(Vec<Range>),
    /// By its address, in the ranges of this Node's spec.podCIDRs (NodeCIDR).
    ByNodeRanges,
}

impl Model {
    /// The ranges that the programs must know.
    pub fn ranges(&self) -> Ranges {
        let mut service: Vec<Range> = self.service_cidrs.values().flatten().copied().collect();
        service.sort_unstable();
        service.dedup();
        Ranges {
            service,
            local: match &self.detect_local {
                DetectLocal::ByInterface => Vec::new(),
                DetectLocal::ByRanges(ranges) => ranges.clone(),
                DetectLocal::ByNodeRanges => self.pod_ranges.clone(),
            },
        }
    }

    pub(super) fn set_service_cidr(&mut self, name: &Arc<str>, cidr: Option<&ServiceCidr>) {
        match cidr {
            Some(cidr) => {
                let ranges = cidr.spec.cidrs.iter().map(range).collect();
                self.service_cidrs.insert(name.clone(), ranges);
            }
            None => drop(self.service_cidrs.remove(name)),
        }
    }
}

/// As the plan has it.
pub(super) fn range(range: &SourceRange) -> Range {
    Range::new(range.address, range.length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Change, ObjectKey, objects};

    fn texts(ranges: &[Range]) -> Vec<String> {
        let text = |range: &Range| format!("{}/{}", range.address, range.length);
        ranges.iter().map(text).collect()
    }

    #[test]
    fn service_cidrs_come_and_go_and_the_node_says_where_its_pods_are() {
        let mut model = Model::new("here").with_detect_local(DetectLocal::ByNodeRanges);
        let text = "
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/16, 'fd00:96::/112']}
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: more}
spec: {cidrs: [10.97.0.0/16]}
---
apiVersion: v1
kind: Node
metadata: {name: here}
spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24, 'fd00:244:1::/64']}
";
        model.apply(objects(text).into_iter().map(Change::Upsert).collect());
        let ranges = model.ranges();
        assert_eq!(
            texts(&ranges.service),
            ["10.96.0.0/16", "10.97.0.0/16", "fd00:96::/112"]
        );
        assert_eq!(texts(&ranges.local), ["10.244.1.0/24", "fd00:244:1::/64"]);
        model.apply(vec![Change::Delete(ObjectKey::ServiceCidr("kubernetes".into()))]);
        assert_eq!(texts(&model.ranges().service), ["10.97.0.0/16"]);
    }

    #[test]
    fn by_interface_nothing_is_told_by_address() {
        let model = Model::new("here");
        assert_eq!(model.ranges(), Ranges::default());
        let range = Range::new([10, 244, 0, 0].into(), 16);
        let model = model.with_detect_local(DetectLocal::ByRanges(vec![range]));
        assert_eq!(texts(&model.ranges().local), ["10.244.0.0/16"]);
    }
}
