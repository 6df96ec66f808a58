//! Services and EndpointSlices as the API has them, made one by one.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, Result};
use proxy_agent::source::{Change, EndpointSlice, Object, Service};
use serde_json::json;

/// Endpoints that the controller puts into one slice at most.
const SLICE: u32 = 100;
/// Nodes that endpoints are on.
const NODES: u32 = 100;
/// The node that is measured.
pub(super) const NODE: &str = "node-1";

/// How many Services there are, and how many endpoints each has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) services: u32,
    pub(super) endpoints: u32,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Services x {} endpoints", self.services, self.endpoints)
    }
}

impl Size {
    /// All objects in the order of the API's lists, what they have in common held once.
    pub(super) fn objects(self) -> Result<Vec<Change>> {
        let slices = self.slices();
        let mut objects = Vec::with_capacity(self.services as usize * (1 + slices as usize));
        for number in 0..self.services {
            let service: Service = serde_json::from_str(&service(number)).context("a Service")?;
            objects.push(Object::Service(Arc::new(service)));
        }
        for number in 0..self.services {
            for part in 0..slices {
                objects.push(read_slice(&self.slice(number, part, false))?);
            }
        }
        proxy_agent::source::share(&mut objects);
        Ok(objects.into_iter().map(Change::Upsert).collect())
    }

    /// Slices of a Service.
    pub(super) fn slices(self) -> u32 {
        self.endpoints.div_ceil(SLICE)
    }

    /// A slice as the API sends it. `is_changed`: its first endpoint is another one.
    pub(super) fn slice(self, service: u32, part: u32, is_changed: bool) -> String {
        let first = part * SLICE;
        let last = self.endpoints.min(first + SLICE);
        let endpoint = |index: u32| {
            let number = service * self.endpoints + index;
            let base: u32 = if is_changed && index == first {
                Ipv4Addr::new(10, 160, 0, 0).to_bits()
            } else {
                Ipv4Addr::new(10, 128, 0, 0).to_bits()
            };
            json!({
                "addresses": [Ipv4Addr::from_bits(base + number)],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": format!("node-{}", number % NODES),
                "zone": "zone-1",
                "targetRef": {"kind": "Pod", "namespace": "default", "name": format!("s{service:06}-{number}")},
            })
        };
        json!({
            "kind": "EndpointSlice",
            "apiVersion": "discovery.k8s.io/v1",
            "metadata": {
                "name": format!("s{service:06}-{part:03}"),
                "namespace": "default",
                "uid": format!("00000000-0000-4000-9000-{service:06x}{part:06x}"),
                "labels": {"kubernetes.io/service-name": format!("s{service:06}")},
            },
            "addressType": "IPv4",
            "endpoints": (first..last).map(endpoint).collect::<Vec<_>>(),
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        })
        .to_string()
    }
}

/// From what the API sent to an object.
pub(super) fn read_slice(text: &str) -> Result<Object> {
    let slice: EndpointSlice = serde_json::from_str(text).context("an EndpointSlice")?;
    Ok(Object::Slice(Arc::new(slice)))
}

/// One cluster address, one port of TCP.
fn service(number: u32) -> String {
    let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 0, 1).to_bits() + number);
    json!({
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {
            "name": format!("s{number:06}"),
            "namespace": "default",
            "uid": format!("00000000-0000-4000-8000-{number:012x}"),
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "clusterIP": address,
            "clusterIPs": [address],
            "ipFamilies": ["IPv4"],
            "type": "ClusterIP",
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
        },
    })
    .to_string()
}
