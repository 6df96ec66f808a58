//! The pages /healthz and /livez.

use std::time::Instant;

use hyper::StatusCode;
use jiff::Timestamp;

use super::{Health, Report};
use crate::metrics::HealthMetrics;
use crate::serve::Reply;

/// Where load balancers and the kubelet look for it.
pub const PORT: u16 = 10256;

/// Answers a path.
pub fn page(health: &Health, metrics: &HealthMetrics, path: &str) -> Reply {
    let (now, time) = (Instant::now(), Timestamp::now());
    match path {
        "/healthz" => {
            let reply = reply(&health.healthz(now, time));
            metrics.answered_healthz(reply.status);
            reply
        }
        "/livez" => {
            let reply = reply(&health.livez(now, time));
            metrics.answered_livez(reply.status);
            reply
        }
        _ => Reply::not_found(),
    }
}

fn reply(report: &Report) -> Reply {
    let status = if report.healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Reply::json(status, report)
}
