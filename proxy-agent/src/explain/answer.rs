//! What becomes of a call, and why.

use std::net::SocketAddr;

use serde::{Serialize, Serializer};

use super::decide::Verdict;

/// The source address that a backend sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The caller's own.
    Kept,
    /// One of the node's.
    Masqueraded,
    /// The caller's own to backends of this node, one of the node's to those of others.
    MasqueradedToRemote,
}

/// One step of the way, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it is about, in a word or two.
    pub topic: &'static str,
    /// What happens, and why.
    pub text: String,
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}: {}", self.topic, self.text))
    }
}

/// One entry of an EndpointSlice, and what it is to the list that serves the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointAnswer {
    /// Address and port.
    pub endpoint: SocketAddr,
    /// nodeName, if it is known.
    pub node: Option<String>,
    /// Whether it is in the list.
    pub used: bool,
    /// Why, or why not.
    pub reason: String,
}

/// What becomes of a call, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// What becomes of it.
    pub verdict: Verdict,
    /// Every backend that could be chosen, in the order of their texts.
    pub backends: Vec<String>,
    /// The source address that they see.
    pub source: Source,
    /// Whether the caller keeps its backend.
    pub affinity: bool,
    /// `namespace/name`, or `namespace/name:port`, of the Service.
    pub service: Option<String>,
    /// Where it was met: `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalIP`.
    pub kind: Option<&'static str>,
    /// The counter of the refusal.
    pub counter: Option<&'static str>,
    /// Who calls: `pod`, `host` or `outside`.
    pub caller: &'static str,
    /// The list that serves the call: `internal`, `external` or `shortcut`.
    pub list: Option<&'static str>,
    /// Seconds for which the caller keeps its backend; 0: not at all.
    pub affinity_seconds: u32,
    /// Every endpoint of the service port.
    pub endpoints: Vec<EndpointAnswer>,
    /// What happens, step by step.
    pub steps: Vec<Step>,
    /// What was not taken over, and what is not served as it is written.
    pub warnings: Vec<String>,
    /// Where manifests and running maps are both asked: in what their answers differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<Vec<String>>,
}
