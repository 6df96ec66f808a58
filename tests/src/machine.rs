//! What `cargo xtask vm` starts: a virtual machine of a test's own, on an emulated processor.

/// Whether this is one.
pub fn is_own() -> bool {
    std::env::var_os("SHUNT_VM").is_some()
}
