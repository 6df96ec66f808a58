//! The lab: two nodes, their pods, a network between and a client outside, as network namespaces.
//!
//! ```text
//!              client  192.168.20.1, fd00:20::1
//!                │
//!             network  routes; has no way out, and no route to the Services' cluster addresses
//!            ┌───┴───┐   192.168.10.0/24, fd00:10::/64
//!           n1       n2  a real agent each
//!          ┌─┴─┐   ┌─┴─┐
//!         pods       pods  10.244.N.0/24, fd00:244:N::/64
//! ```
//!
//! Nothing in it is simulated: the agents are the binary `shunt`, servers and clients are processes with real sockets.
//! A lab removes all that it made when it is dropped, and also when its process is killed.

pub mod address;
pub mod agent;
pub mod call;
mod cgroup;
mod clean;
pub mod cluster;
pub mod events;
pub mod file_system;
pub mod flood;
mod guard;
mod ip;
mod lab;
pub mod machine;
pub mod manifest;
mod metrics;
mod namespace;
mod network;
pub mod nonsense;
pub mod options;
pub mod oracle;
pub mod packet;
mod place;
mod pod;
pub mod programs;
pub mod scenario;
pub mod standing;
mod statistics;
mod tunnel;

pub use agent::Agent;
pub use clean::clean;
pub use guard::guard;
pub use lab::Lab;
pub use namespace::Namespace;
pub use options::Options;
pub use place::Place;
pub use pod::{ECHO_PORT, Pod};
pub use tunnel::wire;
