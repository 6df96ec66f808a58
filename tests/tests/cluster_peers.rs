//! kube-proxy in Shunt's place, in the mode that no other test runs: Services answer through it, so that comparisons with it
//! mean something.

use lab::address::Family;
use lab::cluster::echo::{Echo, Service, call, transfer};
use lab::cluster::{Cluster, Options, Proxy};

#[test]
fn services_answer_through_kube_proxy_with_iptables() {
    let cluster = Cluster::start(Options::of(Proxy::KubeProxyIptables)).unwrap();
    let echo = Echo::start(&cluster).unwrap();
    for family in Family::BOTH {
        for service in Service::BOTH {
            let frontend = service.at_cluster(&cluster, family).unwrap();
            call(&echo.client, frontend, service).unwrap();
            call(cluster.host(1), frontend, service).unwrap();
            let frontend = service.at_node(1, family);
            call(&echo.outside, frontend, service).unwrap();
            transfer(&echo.outside, frontend).unwrap();
        }
    }
    let mut rules = cluster.host(1).command("iptables-save");
    let rules = cluster.host(1).namespace().run(|| Ok(rules.output()?)).unwrap();
    let rules = String::from_utf8(rules.stdout).unwrap();
    assert!(rules.contains("default/one:tcp"), "{rules}");
}
