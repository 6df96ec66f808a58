//! The Kubernetes API as the agent's source, against a real API server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code; clippy's own exception ends at functions marked as tests"
)]

mod access;
mod agent;
mod changes;
mod events;
mod gate;
mod node;
mod outage;
mod plane;
mod source;
