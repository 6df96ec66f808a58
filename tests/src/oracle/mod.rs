//! An independent reading of what Services mean: slow, obvious, and without a line in common with the proxy.
//!
//! It takes a [`World`] of plain facts and answers a [`Question`] by walking through kube-proxy's rules in the order in
//! which they are written down (choice of endpoints, traffic policies, source ranges, node ports). It knows no maps, no
//! ids and no changes: only what is so now. Property tests ask it and the proxy the same.

mod answer;
mod node_ports;
mod world;

pub use answer::{Answer, Question, Source, Verdict, answer};
pub use node_ports::NodePorts;
pub use world::{Endpoint, Ingress, Protocol, Service, ServicePort, Slice, SlicePort, World};
