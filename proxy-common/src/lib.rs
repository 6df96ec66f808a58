//! What the kernel side, the agent, the tests and the tools of Shunt share.
//!
//! [`layout`] holds the keys and values of every BPF map, byte for byte; [`rules`] holds the decisions of the data
//! path, free of I/O and generic over the address family ([`layout::Addr`]) and over the tables they read
//! ([`rules::Node`]), so that the very same code runs in the kernel, in the tests and in tools that explain a packet.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "host"))]
extern crate std;

#[cfg(any(test, feature = "host"))]
pub mod host;
pub mod layout;
pub mod rules;
