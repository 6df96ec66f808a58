//! What the API server would refuse, and types can't: fields that contradict each other.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::IpAddr;

use super::locate::{Path, Segment::Index, Segment::Key};
use super::object::{ClusterIp, EndpointAddress, EndpointSlice, Service, SliceAddressType};
use super::{Object, Protocol};

type Problem = (Path<'static>, String);

/// Names the first field that can't be right, and why.
pub(super) fn validate(object: &Object) -> Result<(), Problem> {
    match object {
        Object::Service(service) => {
            name(&service.metadata.name)?;
            cluster_ips(service)?;
            ports(service)
        }
        Object::Slice(slice) => {
            name(&slice.metadata.name)?;
            endpoints(slice)
        }
        Object::Node(node) => name(&node.metadata.name),
        Object::ServiceCidr(cidr) => name(&cidr.metadata.name),
    }
}

fn name(name: &str) -> Result<(), Problem> {
    if name.is_empty() {
        return Err((
            Path::from([Key("metadata"), Key("name")]),
            "the name is empty".into(),
        ));
    }
    Ok(())
}

fn cluster_ips(service: &Service) -> Result<(), Problem> {
    let ips = &service.spec.cluster_ips;
    let first = service.spec.cluster_ip;
    if first != ClusterIp::Unset && ips.first().is_some_and(|ip| *ip != first) {
        let path = Path::from([Key("spec"), Key("clusterIPs"), Index(0)]);
        return Err((
            path,
            "it differs from spec.clusterIP; both name the same address".into(),
        ));
    }
    let mut families = HashSet::new();
    for (index, ip) in ips.iter().enumerate() {
        if let ClusterIp::Address(address) = ip
            && !families.insert(address.is_ipv4())
        {
            let path = Path::from([Key("spec"), Key("clusterIPs"), Index(index)]);
            return Err((path, "a Service has one cluster IP a family".into()));
        }
    }
    Ok(())
}

fn ports(service: &Service) -> Result<(), Problem> {
    let mut names = Unique::new("name");
    let mut numbers = Unique::new("port");
    let mut node_ports = Unique::new("nodePort");
    for (index, port) in service.spec.ports.iter().enumerate() {
        names.insert(index, port.name.as_ref(), || format!("`{}`", port.name))?;
        let number = (port.protocol, port.port.0.get());
        numbers.insert(index, number, || describe(number))?;
        let node_port = (port.protocol, port.node_port);
        if port.node_port != 0 {
            node_ports.insert(index, node_port, || describe(node_port))?;
        }
    }
    Ok(())
}

fn describe((protocol, port): (Protocol, u16)) -> String {
    format!("{protocol:?} {port}").to_uppercase()
}

/// Values of one field of spec.ports, none of which may come twice.
struct Unique<T> {
    field: &'static str,
    seen: HashSet<T>,
}

impl<T: Eq + Hash> Unique<T> {
    fn new(field: &'static str) -> Self {
        Self {
            field,
            seen: HashSet::new(),
        }
    }

    fn insert(&mut self, index: usize, value: T, text: impl Fn() -> String) -> Result<(), Problem> {
        if self.seen.insert(value) {
            return Ok(());
        }
        let path = Path::from([Key("spec"), Key("ports"), Index(index), Key(self.field)]);
        Err((
            path,
            format!(
                "another port of this Service has the same {}, {}",
                self.field,
                text()
            ),
        ))
    }
}

fn endpoints(slice: &EndpointSlice) -> Result<(), Problem> {
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        let message = match (slice.address_type, &endpoint.address) {
            (SliceAddressType::Name, _) | (_, EndpointAddress::Missing) => continue,
            (SliceAddressType::V4, EndpointAddress::Ip(IpAddr::V4(_))) => continue,
            (SliceAddressType::V6, EndpointAddress::Ip(IpAddr::V6(_))) => continue,
            (SliceAddressType::V4, EndpointAddress::Ip(address)) => {
                format!("{address} is no IPv4 address, as addressType says")
            }
            (SliceAddressType::V6, EndpointAddress::Ip(address)) => {
                format!("{address} is no IPv6 address, as addressType says")
            }
            (_, EndpointAddress::Other(text)) => {
                format!("invalid value: string \"{text}\", expected an IP address")
            }
        };
        return Err((
            Path::from([Key("endpoints"), Index(index), Key("addresses"), Index(0)]),
            message,
        ));
    }
    Ok(())
}
