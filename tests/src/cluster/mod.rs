//! A real Kubernetes in namespaces: etcd, API server, controllers and scheduler, built from the Go module proxy.

pub mod address;
pub mod beside;
pub mod binaries;
mod certificates;
pub mod control_plane;
mod go;
mod modules;
mod process;

pub use binaries::binary;
pub use control_plane::{ControlPlane, Controllers};
