//! Pins below a BPF file system.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::super::abi::ObjectAttribute;
use super::{bpf, bpf_fd, command, path_string};

/// Pins an object below a BPF file system.
pub(crate) fn object_pin(path: &Path, object: BorrowedFd<'_>) -> io::Result<()> {
    let path = path_string(path)?;
    let mut attribute = ObjectAttribute {
        path: path.as_ptr() as u64,
        fd: object.as_raw_fd() as u32,
        flags: 0,
    };
    // SAFETY: the path is a live string that ends with zero.
    unsafe { bpf(command::OBJ_PIN, &mut attribute)? };
    Ok(())
}

/// Opens a pinned object.
pub(crate) fn object_get(path: &Path) -> io::Result<OwnedFd> {
    let path = path_string(path)?;
    let mut attribute = ObjectAttribute {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    // SAFETY: the path is a live string that ends with zero; the command returns a new descriptor.
    unsafe { bpf_fd(command::OBJ_GET, &mut attribute) }
}
