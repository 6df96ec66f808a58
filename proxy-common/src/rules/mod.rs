//! The decisions of the data path.

pub mod hash;
