//! Packets through the BPF programs by the kernel's own test run: packet and maps in, packet and maps out.
//!
//! [`Kernel`] is the object, loaded and unpinned; [`Frame`] a packet to build, or one that was read and whose checksums
//! were all computed again; [`bits`] the bytes of map keys and values, written down here a second time, so that a layout
//! that changes by mistake is noticed; [`Error`] an ICMP error; [`wire`] a network namespace with routes; [`stage`] a Service on a node;
//! [`pieces`] fragments; [`ask`] a new flow, opened again and again; [`dice`] random numbers.

#![allow(
    clippy::expect_used,
    reason = "only tests build packets, and a packet that can't be built is a wrong test"
)]

pub mod ask;
pub mod bits;
pub mod dice;
mod error;
mod family;
mod frame;
mod head;
mod kernel;
pub mod pieces;
pub mod probe;
pub mod stage;
pub mod wire;

pub use error::Error;
pub use family::Kin;
pub use frame::{Frame, Transport};
pub use kernel::{Context, Kernel, Output, PASS, REDIRECT, SHOT, XDP_PASS, XDP_REDIRECT, XDP_TX, ticks};

/// Makes a test for each family of functions over one: `v4::NAME` and `v6::NAME`.
#[macro_export]
macro_rules! in_both_families {
    ($($name:ident),+ $(,)?) => {
        mod v4 {
            $(#[test] fn $name() { super::$name::<proxy_common::layout::V4>(); })+
        }
        mod v6 {
            $(#[test] fn $name() { super::$name::<proxy_common::layout::V6>(); })+
        }
    };
}
