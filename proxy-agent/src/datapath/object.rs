//! The BPF object that the binary carries.

/// The embedded BPF object, for [`super::DatapathOptions::object`].
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("SHUNT_BPF_OBJECT"));
