//! What a Service wants of the load balancer, and the addresses that it gets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::core::v1::Service;

/// What the service controller calls its finalizer.
pub(super) const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

/// What is to be done for a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// It gets addresses.
    Serve,
    /// What it has is taken away.
    Release,
    /// Another load balancer's.
    Foreign,
}

impl Wish {
    pub(super) fn of(service: &Service) -> Self {
        let Some(spec) = &service.spec else {
            return Self::Release;
        };
        if spec.load_balancer_class.is_some() {
            return Self::Foreign;
        }
        let wants = spec.type_.as_deref() == Some("LoadBalancer");
        if wants && service.metadata.deletion_timestamp.is_none() {
            Self::Serve
        } else {
            Self::Release
        }
    }
}

/// The addresses in its status.
pub(super) fn given(service: &Service) -> Vec<IpAddr> {
    let status = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let ingress = status
        .and_then(|status| status.ingress.as_ref())
        .into_iter()
        .flatten();
    ingress
        .filter_map(|ingress| ingress.ip.as_ref()?.parse().ok())
        .collect()
}

/// Who has which address: a number for each Service, by its UID, never given twice.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    numbers: BTreeMap<String, u16>,
    last: u16,
}

impl Addresses {
    /// The addresses that the Service shall have, one for each of its families.
    pub(super) fn of(&mut self, service: &Service, wish: Wish) -> Vec<IpAddr> {
        let uid = service.metadata.uid.clone().unwrap_or_default();
        match wish {
            Wish::Serve => {
                self.numbers.entry(uid).or_insert_with(|| {
                    self.last += 1;
                    self.last
                });
                self.of_known(service)
            }
            Wish::Release | Wish::Foreign => {
                self.numbers.remove(&uid);
                Vec::new()
            }
        }
    }

    /// The addresses that the Service has.
    pub(super) fn of_known(&self, service: &Service) -> Vec<IpAddr> {
        let uid = service.metadata.uid.as_deref().unwrap_or_default();
        let Some(&number) = self.numbers.get(uid) else {
            return Vec::new();
        };
        let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref());
        let families = families.into_iter().flatten();
        families
            .map(|family| {
                if family == "IPv6" {
                    v6(number).into()
                } else {
                    v4(number).into()
                }
            })
            .collect()
    }
}

fn v4(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(198, 18, high, low)
}

fn v6(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x98, 0, 0, 0, 0, 0, number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(uid: &str, kind: &str, families: &[&str]) -> Service {
        let service = json!({"metadata": {"uid": uid}, "spec": {"type": kind, "ipFamilies": families}});
        serde_json::from_value(service).unwrap()
    }

    #[test]
    fn each_service_has_an_address_of_each_of_its_families_and_none_has_anothers() {
        let mut addresses = Addresses::default();
        let mut of = |service| {
            let given = addresses.of(&service, Wish::of(&service));
            given.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of(service("a", "LoadBalancer", &["IPv4"])), ["198.18.0.1"]);
        let both = ["fd00:98::2", "198.18.0.2"];
        assert_eq!(of(service("b", "LoadBalancer", &["IPv6", "IPv4"])), both);
        assert!(of(service("a", "ClusterIP", &["IPv4"])).is_empty());
        assert_eq!(of(service("b", "LoadBalancer", &["IPv6", "IPv4"])), both);
        assert_eq!(of(service("a", "LoadBalancer", &["IPv4"])), ["198.18.0.3"]);
    }

    #[test]
    fn what_is_deleted_gives_up_and_what_has_a_class_is_left_alone() {
        let mut gone = service("a", "LoadBalancer", &["IPv4"]);
        gone.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-02T03:04:05Z")).unwrap();
        assert_eq!(Wish::of(&gone), Wish::Release);
        let mut foreign = service("a", "LoadBalancer", &["IPv4"]);
        foreign.spec.as_mut().unwrap().load_balancer_class = Some("test/other".to_owned());
        assert_eq!(Wish::of(&foreign), Wish::Foreign);
    }
}
