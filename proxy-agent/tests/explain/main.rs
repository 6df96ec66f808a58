//! `shunt explain` on folders of manifests, by the real binary: the rows of the contract, in both families, TCP and UDP.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod calls;
mod cluster;
mod endpoints;
#[path = "../explaining/mod.rs"]
mod explaining;
mod frontends;
mod input;
mod node;
mod printed;
mod rows;
