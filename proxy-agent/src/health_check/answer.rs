//! What such a server says, as kube-proxy says it.

use std::time::Instant;

use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use serde::Serialize;

use crate::health::Health;
use crate::name::ObjectName;
use crate::serve::Reply;

/// By it a load balancer can send nodes with more endpoints more.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    service: Service<'a>,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

#[derive(Serialize)]
struct Service<'a> {
    namespace: &'a str,
    name: &'a str,
}

/// The answer for a Service with so many ready endpoints on this node.
pub(super) fn of(service: &ObjectName, endpoints: usize, health: &Health) -> Reply {
    let is_live = health.is_live(Instant::now());
    let status = if endpoints > 0 && is_live {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = Body {
        service: Service {
            namespace: &service.namespace,
            name: &service.name,
        },
        local_endpoints: endpoints,
        service_proxy_healthy: is_live,
    };
    let mut reply = match serde_json::to_string_pretty(&body) {
        Ok(text) => Reply {
            content_type: "application/json",
            ..Reply::text(status, text)
        },
        Err(error) => Reply::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    reply.headers.push((WEIGHT, HeaderValue::from(endpoints)));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::NodeFitness;
    use std::time::Duration;

    fn said(endpoints: usize, health: &Health) -> (u16, String, String) {
        let reply = of(&ObjectName::new("shop", "web"), endpoints, health);
        assert_eq!(reply.content_type, "application/json");
        let [(name, weight)] = &reply.headers[..] else {
            panic!("{reply:?}")
        };
        assert_eq!(name.as_str(), "x-load-balancing-endpoint-weight");
        let weight = weight.to_str().unwrap().to_owned();
        (
            reply.status.as_u16(),
            weight,
            String::from_utf8(reply.body).unwrap(),
        )
    }

    #[test]
    fn the_answer_is_kube_proxys() {
        let health = Health::new(NodeFitness::Leaving);
        let body = |endpoints: &str, healthy: &str| {
            format!(
                "{{\n  \"service\": {{\n    \"namespace\": \"shop\",\n    \"name\": \"web\"\n  }},\n  \
                 \"localEndpoints\": {endpoints},\n  \"serviceProxyHealthy\": {healthy}\n}}"
            )
        };
        assert_eq!(said(2, &health), (200, "2".into(), body("2", "true")));
        assert_eq!(said(0, &health), (503, "0".into(), body("0", "true")));
        // A proxy that is stuck gives no node traffic.
        health.synced(jiff::Timestamp::now());
        if let Some(long_ago) = Instant::now().checked_sub(Duration::from_secs(61)) {
            health.queued(long_ago);
            assert_eq!(said(2, &health), (503, "2".into(), body("2", "false")));
        } else {
            panic!("the machine is up for less than a minute");
        }
    }
}
