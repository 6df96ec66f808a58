//! CoreDNS through its cluster address.

use crate::steps::standing;

#[test]
fn names_are_resolved_through_the_cluster_address_from_pods_and_hosts_over_udp_and_tcp() {
    let standing = standing().unwrap();
    for (pod, protocol) in [
        ("client", "+notcp"),
        ("client", "+tcp"),
        ("host", "+notcp"),
        ("host", "+tcp"),
    ] {
        let line = format!("dig {protocol} +short +tries=5 @10.96.0.10 kubernetes.default.svc.cluster.local");
        let answer = standing.shell(pod, &line).unwrap();
        assert_eq!(answer.trim(), "10.96.0.1", "{pod} {protocol}");
    }
}
