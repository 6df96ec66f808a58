//! A real Kubernetes in namespaces: etcd, API server, controllers and scheduler, and nodes with kubelet and containerd, all
//! built from the Go module proxy.
//!
//! ```text
//!        control  172.31.99.1, fd00:99::1: etcd, kube-apiserver, kube-controller-manager, kube-scheduler
//!       ┌───┴───┐   has no way out
//!      n1       n2  172.31.99.1N, fd00:99::1N: kubelet, containerd, and Shunt or kube-proxy as a DaemonSet
//!     ┌─┴─┐   ┌─┴─┐
//!    pods       pods  10.244.N.0/24, fd00:244:N::/64, routed
//! ```
//!
//! A cluster removes all that it made when it is dropped, and also when its process is killed.

pub mod address;
mod archive;
pub mod beside;
pub mod binaries;
mod certificates;
mod client;
mod cni;
pub mod conformance;
pub mod control_plane;
mod debian;
pub mod echo;
mod go;
mod hierarchy;
mod images;
mod inside;
pub mod iptables;
pub mod load_balancer;
mod modules;
mod node;
mod outside;
mod pod;
mod process;
mod proxy;
mod settings;
mod shunt_images;
pub mod standing;
mod whole;

pub use binaries::binary;
pub use client::Client;
pub use cni::Cni;
pub use control_plane::{ControlPlane, Controllers};
pub(crate) use hierarchy::remove as remove_groups;
pub use inside::node as be_node;
pub use proxy::Proxy;
pub use shunt_images::TAGS;
pub use whole::{Cluster, Options};
