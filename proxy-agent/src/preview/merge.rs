//! The objects after applying some: as the API server has it, what a manifest leaves out and the server filled in stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::PreviewError;
use crate::name::ObjectName;
use crate::source::{
    Change, ClusterIp, Ingress, LoadBalancerStatus, Object, ObjectKey, Service, ServiceType,
};

/// The Services that these objects are about.
pub(super) fn services_of(objects: &[Object]) -> BTreeSet<ObjectName> {
    let names = objects.iter().filter_map(|object| match object {
        Object::Service(service) => Some(service.metadata.object_name()),
        Object::Slice(slice) => Some(ObjectName {
            namespace: slice.metadata.object_name().namespace,
            name: slice.metadata.labels.service_name.clone()?,
        }),
        Object::Node(_) | Object::ServiceCidr(_) => None,
    });
    names.collect()
}

/// All objects, those that are applied in the place of those that are there.
pub(super) fn merged(now: &[Object], applied: Vec<Object>) -> Vec<Change> {
    let mut objects: BTreeMap<ObjectKey, Object> =
        now.iter().map(|object| (object.key(), object.clone())).collect();
    for mut object in applied {
        let key = object.key();
        if let Object::Service(service) = &mut object
            && let Some(Object::Service(before)) = objects.get(&key)
            && let Some(service) = Arc::get_mut(service)
        {
            carry_over(service, before);
        }
        objects.insert(key, object);
    }
    objects.into_values().map(Change::Upsert).collect()
}

/// The objects of these names, and what is there without them.
pub(super) fn parted(
    now: &[Object],
    deleted: Vec<ObjectKey>,
) -> Result<(Vec<Object>, Vec<Change>), PreviewError> {
    let keys: BTreeSet<ObjectKey> = deleted.into_iter().collect();
    let there: BTreeSet<ObjectKey> = now.iter().map(Object::key).collect();
    let absent: Vec<ObjectKey> = keys.difference(&there).cloned().collect();
    if !absent.is_empty() {
        return Err(PreviewError::NotThere(absent));
    }
    let (gone, rest): (Vec<&Object>, Vec<&Object>) =
        now.iter().partition(|object| keys.contains(&object.key()));
    let rest = rest.into_iter().cloned().map(Change::Upsert).collect();
    Ok((gone.into_iter().cloned().collect(), rest))
}

/// What the API server keeps of a Service that a manifest updates.
pub(super) fn carry_over(service: &mut Service, before: &Service) {
    let metadata = &mut service.metadata;
    if metadata.uid.is_empty() {
        metadata.uid = before.metadata.uid.clone();
    }
    if metadata.creation_timestamp.is_none() {
        metadata.creation_timestamp = before.metadata.creation_timestamp.clone();
    }
    let (spec, old) = (&mut service.spec, &before.spec);
    if spec.kind != ServiceType::ExternalName
        && spec.cluster_ip == ClusterIp::Unset
        && spec.cluster_ips.is_empty()
    {
        spec.cluster_ip = old.cluster_ip;
        spec.cluster_ips = old.cluster_ips.clone();
    }
    if matches!(spec.kind, ServiceType::NodePort | ServiceType::LoadBalancer) {
        for port in spec.ports.iter_mut().filter(|port| port.node_port == 0) {
            let same = old
                .ports
                .iter()
                .find(|other| other.port == port.port && other.protocol == port.protocol);
            port.node_port = same.map_or(0, |other| other.node_port);
        }
        if spec.health_check_node_port == 0 && spec.kind == old.kind {
            spec.health_check_node_port = old.health_check_node_port;
        }
    }
    if service.status.load_balancer.ingress.is_empty() && spec.kind == ServiceType::LoadBalancer {
        let ingress = before.status.load_balancer.ingress.iter();
        service.status.load_balancer = LoadBalancerStatus {
            ingress: ingress
                .map(|ingress| Ingress {
                    ip: ingress.ip,
                    ip_mode: ingress.ip_mode,
                })
                .collect(),
        };
    }
}
