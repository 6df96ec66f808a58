//! Services and Nodes as Kubernetes YAML.

use crate::address::{self, Family, Pair};
use crate::network::node_name;
use crate::pod::Pod;

/// One port of a Service.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name; also the name of the slices' port.
    pub name: String,
    /// `TCP` or `UDP`.
    pub protocol: &'static str,
    /// The Service's port.
    pub port: u16,
    /// The pods' port.
    pub target: u16,
    /// The NodePort; 0: none.
    pub node_port: u16,
}

/// One endpoint of a Service.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its addresses.
    pub address: Pair,
    /// Its node's number.
    pub node: u8,
    /// Condition.
    pub ready: bool,
    /// Condition.
    pub serving: bool,
    /// Condition.
    pub terminating: bool,
}

impl Endpoint {
    /// A ready one.
    pub fn of(pod: &Pod) -> Self {
        Self {
            address: pod.address,
            node: pod.node,
            ready: true,
            serving: true,
            terminating: false,
        }
    }
}

/// A dual-stack Service with its slices.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name; its file is `NAME.yaml`.
    pub name: String,
    /// metadata.annotations.
    pub annotations: Vec<(&'static str, &'static str)>,
    /// Its cluster addresses.
    pub cluster: Pair,
    /// Its ports. One with a NodePort makes the Service a NodePort one.
    pub ports: Vec<Port>,
    /// The load balancer's addresses, which make it a LoadBalancer one.
    pub load_balancer: Option<Pair>,
    /// externalIPs.
    pub external: Option<Pair>,
    /// externalTrafficPolicy Local.
    pub external_local: bool,
    /// internalTrafficPolicy Local.
    pub internal_local: bool,
    /// sessionAffinity ClientIP for so many seconds; 0: none.
    pub affinity: u32,
    /// loadBalancerSourceRanges.
    pub source_ranges: Vec<String>,
    /// What it balances over.
    pub endpoints: Vec<Endpoint>,
}

impl Service {
    /// One without endpoints, reached at its cluster addresses alone: TCP and UDP at `port`.
    pub fn new(name: &str, number: u8, port: u16, target: u16) -> Self {
        let one = |name: &str, protocol| Port {
            name: name.to_owned(),
            protocol,
            port,
            target,
            node_port: 0,
        };
        Self {
            name: name.to_owned(),
            annotations: Vec::new(),
            cluster: address::cluster(number),
            ports: vec![one("tcp", "TCP"), one("udp", "UDP")],
            load_balancer: None,
            external: None,
            external_local: false,
            internal_local: false,
            affinity: 0,
            source_ranges: Vec::new(),
            endpoints: Vec::new(),
        }
    }

    /// Gives every port this NodePort.
    #[must_use]
    pub fn node_port(mut self, number: u16) -> Self {
        for port in &mut self.ports {
            port.node_port = number;
        }
        self
    }

    /// Sets the endpoints: these pods, all ready.
    #[must_use]
    pub fn over<'a>(mut self, pods: impl IntoIterator<Item = &'a Pod>) -> Self {
        self.endpoints = pods.into_iter().map(Endpoint::of).collect();
        self
    }

    /// The name of its file.
    pub fn file(&self) -> String {
        format!("{}.yaml", self.name)
    }

    /// The Service and a slice a family, as YAML.
    pub fn manifest(&self) -> String {
        let slices = Family::BOTH.map(|family| self.slice(family));
        format!("{}---\n{}---\n{}", self.service(), slices[0], slices[1])
    }

    fn service(&self) -> String {
        let kind = match (
            &self.load_balancer,
            self.ports.iter().any(|port| port.node_port != 0),
        ) {
            (Some(_), _) => "LoadBalancer",
            (None, true) => "NodePort",
            (None, false) => "ClusterIP",
        };
        let ports = join(&self.ports, |port| {
            let node_port = if port.node_port == 0 {
                String::new()
            } else {
                format!(", nodePort: {}", port.node_port)
            };
            format!(
                "{{name: {}, protocol: {}, port: {}, targetPort: {}{node_port}}}",
                port.name, port.protocol, port.port, port.target
            )
        });
        let mut text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {}, namespace: default, annotations: {{{}}}, uid: {}}}\n\
             spec:\n  type: {kind}\n",
            self.name,
            join(&self.annotations, |(name, value)| format!("{name}: {value}")),
            self.uid()
        );
        let Pair { v4, v6 } = self.cluster;
        line(
            &mut text,
            &format!("  clusterIP: {v4}\n  clusterIPs: [\"{v4}\", \"{v6}\"]"),
        );
        line(
            &mut text,
            "  ipFamilies: [IPv4, IPv6]\n  ipFamilyPolicy: RequireDualStack",
        );
        line(
            &mut text,
            &format!("  internalTrafficPolicy: {}", policy(self.internal_local)),
        );
        if kind != "ClusterIP" || self.external.is_some() {
            line(
                &mut text,
                &format!("  externalTrafficPolicy: {}", policy(self.external_local)),
            );
        }
        if let Some(Pair { v4, v6 }) = self.external {
            line(&mut text, &format!("  externalIPs: [\"{v4}\", \"{v6}\"]"));
        }
        if !self.source_ranges.is_empty() {
            let ranges = join(&self.source_ranges, |range| format!("\"{range}\""));
            line(&mut text, &format!("  loadBalancerSourceRanges: [{ranges}]"));
        }
        if self.affinity != 0 {
            let seconds = self.affinity;
            line(
                &mut text,
                &format!(
                    "  sessionAffinity: ClientIP\n  sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {seconds}}}}}"
                ),
            );
        }
        line(&mut text, &format!("  ports: [{ports}]"));
        if let Some(Pair { v4, v6 }) = self.load_balancer {
            line(
                &mut text,
                &format!("status: {{loadBalancer: {{ingress: [{{ip: \"{v4}\"}}, {{ip: \"{v6}\"}}]}}}}"),
            );
        }
        text
    }

    /// A UID as the API server's look, the same for the same name.
    fn uid(&self) -> String {
        let number = self.name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!(
            "00000000-0000-4000-{:04x}-{:012x}",
            number >> 48,
            number & 0xffff_ffff_ffff
        )
    }

    fn slice(&self, family: Family) -> String {
        let kind = match family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        };
        let ports = join(&self.ports, |port| {
            format!(
                "{{name: {}, protocol: {}, port: {}}}",
                port.name, port.protocol, port.target
            )
        });
        let endpoints = join(&self.endpoints, |endpoint| {
            let Endpoint {
                address,
                node,
                ready,
                serving,
                terminating,
            } = endpoint;
            format!(
                "{{addresses: [\"{}\"], nodeName: {}, \
                 conditions: {{ready: {ready}, serving: {serving}, terminating: {terminating}}}}}",
                address.of(family),
                node_name(*node)
            )
        });
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-{family}\n  \
             namespace: default\n  labels: {{kubernetes.io/service-name: {name}}}\naddressType: {kind}\n\
             ports: [{ports}]\nendpoints: [{endpoints}]\n",
            name = self.name
        )
    }
}

/// The lab's Nodes.
pub(crate) fn nodes(count: u8) -> String {
    let node = |number| {
        let Pair { v4, v6 } = address::node(number);
        let [pods4, pods6] = address::pod_networks(number);
        format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: {}}}\nspec: {{podCIDRs: [\"{pods4}\", \"{pods6}\"]}}\nstatus:\n  \
             addresses: [{{type: InternalIP, address: \"{v4}\"}}, {{type: InternalIP, address: \"{v6}\"}}]\n",
            node_name(number)
        )
    };
    (1..=count).map(node).collect::<Vec<_>>().join("---\n")
}

fn policy(local: bool) -> &'static str {
    if local { "Local" } else { "Cluster" }
}

fn join<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    items.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

#[cfg(test)]
mod tests;
