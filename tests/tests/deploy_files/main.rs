//! What is shipped beside the binary: manifests, image. Checked as their readers check them, and against the binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod image;
mod manifests;
mod yaml;
