//! A cluster as plain facts, and the same as manifests.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::node_ports::NodePorts;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    /// As manifests spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

/// All that one node's proxy can know.
#[derive(Clone, Debug)]
pub struct World {
    /// This node's name.
    pub node: String,
    /// Its label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// Its addresses; the first of each family is the one by which it speaks.
    pub node_addresses: Vec<IpAddr>,
    /// nodePortAddresses of its proxy.
    pub node_ports: Vec<NodePorts>,
    /// Where its pods' addresses come from.
    pub pod_ranges: Vec<(IpAddr, u8)>,
    /// All Services.
    pub services: Vec<Service>,
    /// All EndpointSlices.
    pub slices: Vec<Slice>,
}

/// A Service.
#[derive(Clone, Debug)]
pub struct Service {
    /// metadata.name; all are of one namespace.
    pub name: String,
    /// Second of metadata.creationTimestamp.
    pub created: u32,
    /// Whether the label `service.kubernetes.io/service-proxy-name` gives it to another proxy.
    pub is_another_proxys: bool,
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    pub kind: &'static str,
    /// One a family at most; empty: `None`.
    pub cluster_ips: Vec<IpAddr>,
    /// spec.ports
    pub ports: Vec<ServicePort>,
    /// spec.internalTrafficPolicy is `Local`.
    pub is_internal_local: bool,
    /// spec.externalTrafficPolicy is `Local`.
    pub is_external_local: bool,
    /// spec.externalIPs
    pub external_ips: Vec<IpAddr>,
    /// status.loadBalancer.ingress
    pub ingress: Vec<Ingress>,
    /// spec.loadBalancerSourceRanges
    pub source_ranges: Vec<(IpAddr, u8)>,
    /// Seconds of session affinity.
    pub affinity: Option<u32>,
}

/// One port of a Service.
#[derive(Clone, Debug)]
pub struct ServicePort {
    /// Its name; the slices' ports are found by it.
    pub name: &'static str,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
    /// 0: none.
    pub node_port: u16,
}

/// Where a load balancer is reached.
#[derive(Clone, Debug)]
pub struct Ingress {
    /// Its address, if it has one and not a name alone.
    pub ip: Option<IpAddr>,
    /// `ipMode: Proxy`.
    pub is_proxy: bool,
}

/// An EndpointSlice.
#[derive(Clone, Debug)]
pub struct Slice {
    /// metadata.name
    pub name: String,
    /// Label `kubernetes.io/service-name`.
    pub service: String,
    /// addressType is `IPv4`, or else `IPv6`.
    pub is_v4: bool,
    /// ports
    pub ports: Vec<SlicePort>,
    /// endpoints
    pub endpoints: Vec<Endpoint>,
}

/// A port of a slice.
#[derive(Clone, Debug)]
pub struct SlicePort {
    /// Its name.
    pub name: &'static str,
    /// Its protocol.
    pub protocol: Protocol,
    /// Where the endpoints listen.
    pub port: u16,
}

/// An endpoint of a slice.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// addresses\[0\]
    pub address: IpAddr,
    /// conditions.ready
    pub ready: Option<bool>,
    /// conditions.serving
    pub serving: Option<bool>,
    /// conditions.terminating
    pub terminating: Option<bool>,
    /// nodeName
    pub node: Option<String>,
    /// hints.forNodes
    pub node_hints: Vec<String>,
    /// hints.forZones
    pub zone_hints: Vec<String>,
}

impl World {
    /// The Node, the Services and the slices as objects of the API.
    pub fn manifests(&self) -> Vec<Value> {
        let mut all = vec![self.node_manifest()];
        all.extend(self.services.iter().map(Service::manifest));
        all.extend(self.slices.iter().map(Slice::manifest));
        all
    }

    fn node_manifest(&self) -> Value {
        let addresses = self.node_addresses.iter();
        let addresses: Vec<_> = addresses
            .map(|address| json!({"type": "InternalIP", "address": address}))
            .collect();
        let ranges: Vec<_> = self.pod_ranges.iter().map(range).collect();
        let mut labels = json!({"kubernetes.io/hostname": self.node});
        if let Some(zone) = &self.zone {
            labels["topology.kubernetes.io/zone"] = json!(zone);
        }
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": self.node, "labels": labels},
            "spec": {"podCIDR": ranges.first(), "podCIDRs": ranges},
            "status": {"addresses": addresses},
        })
    }
}

fn range((address, length): &(IpAddr, u8)) -> String {
    format!("{address}/{length}")
}

fn policy(is_local: bool) -> &'static str {
    if is_local { "Local" } else { "Cluster" }
}

impl Service {
    fn manifest(&self) -> Value {
        let mut labels = json!({});
        if self.is_another_proxys {
            labels["service.kubernetes.io/service-proxy-name"] = json!("another");
        }
        let ports: Vec<_> = self.ports.iter().map(|port| port.manifest(self.kind)).collect();
        let mut spec = json!({
            "type": self.kind, "ports": ports,
            "internalTrafficPolicy": policy(self.is_internal_local),
            "externalIPs": self.external_ips,
        });
        match self.cluster_ips.first() {
            None => spec["clusterIP"] = json!("None"),
            Some(first) => {
                spec["clusterIP"] = json!(first);
                spec["clusterIPs"] = json!(self.cluster_ips);
            }
        }
        if self.kind != "ClusterIP" || !self.external_ips.is_empty() {
            spec["externalTrafficPolicy"] = json!(policy(self.is_external_local));
        }
        if self.kind == "LoadBalancer" {
            spec["loadBalancerSourceRanges"] = self.source_ranges.iter().map(range).collect();
        }
        if let Some(seconds) = self.affinity {
            spec["sessionAffinity"] = json!("ClientIP");
            spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": seconds}});
        }
        let ingress: Vec<_> = self.ingress.iter().map(Ingress::manifest).collect();
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": self.name, "namespace": "default", "uid": format!("uid-{}", self.name), "labels": labels,
                "creationTimestamp": format!("2026-01-01T00:{:02}:{:02}Z", self.created / 60 % 60, self.created % 60),
            },
            "spec": spec,
            "status": {"loadBalancer": {"ingress": ingress}},
        })
    }
}

impl ServicePort {
    fn manifest(&self, kind: &str) -> Value {
        let mut port = json!({"name": self.name, "protocol": self.protocol.name(), "port": self.port});
        if kind != "ClusterIP" && self.node_port != 0 {
            port["nodePort"] = json!(self.node_port);
        }
        port
    }
}

impl Ingress {
    fn manifest(&self) -> Value {
        match self.ip {
            None => json!({"hostname": "balancer.example"}),
            Some(ip) if self.is_proxy => json!({"ip": ip, "ipMode": "Proxy"}),
            Some(ip) => json!({"ip": ip, "ipMode": "VIP"}),
        }
    }
}

impl Slice {
    fn manifest(&self) -> Value {
        let ports = self.ports.iter();
        let ports: Vec<_> = ports
            .map(|port| json!({"name": port.name, "protocol": port.protocol.name(), "port": port.port}))
            .collect();
        let endpoints: Vec<_> = self.endpoints.iter().map(Endpoint::manifest).collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": self.name, "namespace": "default",
                "labels": {"kubernetes.io/service-name": self.service},
            },
            "addressType": if self.is_v4 { "IPv4" } else { "IPv6" },
            "ports": ports, "endpoints": endpoints,
        })
    }
}

impl Endpoint {
    fn manifest(&self) -> Value {
        let mut conditions = json!({});
        let named = [
            ("ready", self.ready),
            ("serving", self.serving),
            ("terminating", self.terminating),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                conditions[name] = json!(value);
            }
        }
        let names =
            |names: &[String]| -> Vec<Value> { names.iter().map(|name| json!({"name": name})).collect() };
        let mut endpoint = json!({"addresses": [self.address], "conditions": conditions});
        if let Some(node) = &self.node {
            endpoint["nodeName"] = json!(node);
        }
        if !self.node_hints.is_empty() || !self.zone_hints.is_empty() {
            endpoint["hints"] =
                json!({"forNodes": names(&self.node_hints), "forZones": names(&self.zone_hints)});
        }
        endpoint
    }
}
