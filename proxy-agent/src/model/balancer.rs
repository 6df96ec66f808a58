//! Where a Service's load balancer is reached (semantics A8): its status; and, for a load balancer that has a name and no
//! address there, the annotation `shunt.dev/load-balancer-ips`, without which pods' calls leave the cluster and come back (E31).

use std::net::IpAddr;

use super::{ExternalIps, Warning};
use crate::source::{Address, IpMode, Service, ServiceType};

/// A load balancer's addresses, and what of the annotation is left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Balancer {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) warnings: Vec<Warning>,
}

impl Balancer {
    /// Who may change a Service writes its annotations, while its status is the controller's: an annotation's addresses are
    /// served where those in spec.externalIPs would be, for the same reason.
    pub(super) fn of(service: &Service, allowed: &ExternalIps) -> Self {
        let mut balancer = Self::default();
        let is_load_balancer = service.spec.kind == ServiceType::LoadBalancer;
        if is_load_balancer {
            balancer.addresses.extend(by_status(service));
        }
        let Some(written) = service.metadata.annotations.load_balancer_ips() else {
            return balancer;
        };
        let name = service.metadata.object_name();
        let ignored = |why| Warning::LoadBalancerIpsIgnored {
            service: name.clone(),
            value: written.to_owned(),
            why,
        };
        if !is_load_balancer {
            balancer
                .warnings
                .push(ignored("the Service is not of the type LoadBalancer"));
            return balancer;
        }
        let Some(addresses) = parse(written) else {
            balancer.warnings.push(ignored(
                "write addresses of a load balancer with commas between, as `203.0.113.7,2001:db8::7`",
            ));
            return balancer;
        };
        let (served, refused): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|ip| allowed.allow(*ip));
        balancer.addresses.extend(served);
        if !refused.is_empty() {
            balancer.warnings.push(Warning::LoadBalancerIpsNotAllowed {
                service: name,
                addresses: refused,
            });
        }
        balancer
    }
}

fn by_status(service: &Service) -> impl Iterator<Item = IpAddr> {
    let ingress = service.status.load_balancer.ingress.iter();
    let ingress = ingress.filter(|ingress| ingress.ip_mode == IpMode::Vip);
    ingress.filter_map(|ingress| ingress.ip.map(|Address(address)| address))
}

/// Whether a Service's annotation names an address.
pub(super) fn is_named(service: &Service, address: IpAddr) -> bool {
    let written = service.metadata.annotations.load_balancer_ips();
    written.and_then(parse).is_some_and(|ips| ips.contains(&address))
}

/// All of them, or none: half a list would be served in silence.
fn parse(written: &str) -> Option<Vec<IpAddr>> {
    written
        .split(',')
        .map(|text| {
            text.trim()
                .parse()
                .ok()
                .map(|Address(ip)| ip)
                .filter(can_be_balancer)
        })
        .collect()
}

/// What the API server takes for an address that others can reach (ValidateNonSpecialIP).
fn can_be_balancer(address: &IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || is_link_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_whole_or_not_at_all() {
        for (written, read) in [
            ("203.0.113.7", Some(&["203.0.113.7"][..])),
            ("203.0.113.7, 2001:db8::7", Some(&["203.0.113.7", "2001:db8::7"])),
            ("", None),
            ("203.0.113.7,", None),
            ("203.0.113.7,balancer.example", None),
            ("0.0.0.0", None),
            ("127.0.0.1", None),
            ("::1", None),
            ("224.0.0.1", None),
            ("169.254.169.254", None),
            ("fe80::1", None),
            ("203.0.113.0/24", None),
        ] {
            let read = read.map(|read| read.iter().map(|ip| ip.parse().unwrap()).collect());
            assert_eq!(parse(written), read, "{written}");
        }
    }
}
