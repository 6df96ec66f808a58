//! The decisions of the data path.
//!
//! Packets: [`headers`] reads them, [`hook`] says what a hook does with one, [`forward`] and [`reverse`] decide by the
//! flow table, [`create`] makes a new flow, [`quote`] finds the flow of an ICMP error. [`settled`] decides
//! alone on what most packets are; [`dsr`] on what nodes hand on to each other, [`bypass`] says what goes around the node's stack. Sockets: [`socket`], and
//! [`client`], which knows by what name they are remembered. What they read of the node comes through
//! [`Directory`] and [`FlowStore`].

pub mod affinity;
pub mod bypass;
pub mod checksum;
pub mod choice;
pub mod client;
pub mod crc32c;
pub mod create;
pub mod dsr;
pub mod forward;
pub mod fragment;
pub mod hash;
pub mod headers;
pub mod hook;
pub mod lifetime;
pub mod limit;
pub mod load;
#[cfg(test)]
mod model;
mod node;
pub mod quote;
pub mod reverse;
#[cfg(test)]
mod scene;
pub mod sctp;
pub mod segment;
pub mod settled;
pub mod socket;
mod state;
pub mod step;
mod verdict;
pub mod vip;

pub use headers::{Bytes, Headers};
pub use node::{Directory, FlowStore};
pub use verdict::{Decision, Origin, Verdict, Work};
