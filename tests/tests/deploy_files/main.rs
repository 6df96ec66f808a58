//! What is shipped beside the binary: image, manifests, chart, workflows. Checked as their readers check them, and
//! against the binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod api;
mod downgrade;
mod files;
mod helm;
mod image;
mod kind;
mod manifests;
mod tool;
mod yaml;
