//! The agent's only unsafe code: bpf(2), memory of mmapable maps, and two socket options that no crate covers.
//!
//! Everything here is a thin, checked door: lengths are compared with what the kernel says of the map before a
//! pointer is handed over, and what comes back is owned. No policy; errors are plain `io::Error`, and the modules
//! above add the object and the way out.

mod bytes;
mod legacy_rules;
mod link;
mod map;
mod memory;
mod object;
mod program;
mod socket;

use std::ffi::{CString, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub(crate) use bytes::{Layout, bytes_of, bytes_of_slice, from_bytes};
pub(crate) use legacy_rules::legacy_rules;
pub(crate) use link::{link_cgroup, link_detach, link_info, link_tcx, link_update, link_xdp};
pub(crate) use map::{MapFd, possible_cpus};
pub(crate) use memory::Memory;
pub(crate) use object::{object_get, object_pin};
pub(crate) use program::{program_id, program_load, program_run};
#[cfg(test)]
pub(crate) use socket::socket_cookie;
pub(crate) use socket::{borrow_netlink, hides_vlan_tags, netns_cookie, wait_readable};

use super::abi::{InfoAttribute, command};
pub(crate) use super::abi::{
    LinkInfo, LinkTarget, MMAPABLE, MapDefinition, MapInfo, NO_PREALLOC, attach_type, map_type, program_type,
};

/// One bpf(2) call.
///
/// # Safety
/// Every pointer in `attribute` is valid for what the command does with it.
unsafe fn bpf<T>(command: u32, attribute: &mut T) -> io::Result<c_long> {
    loop {
        // SAFETY: the attribute is a live, exclusively borrowed struct of the size given; its pointers are the
        // caller's promise.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command,
                std::ptr::from_mut(attribute),
                size_of::<T>(),
            )
        };
        if result >= 0 {
            return Ok(result);
        }
        let error = io::Error::last_os_error();
        if !matches!(error.raw_os_error(), Some(libc::EINTR)) {
            return Err(error);
        }
    }
}

/// A bpf(2) call that returns a file descriptor.
///
/// # Safety
/// As for [`bpf`]; and the command returns a new descriptor.
unsafe fn bpf_fd<T>(command: u32, attribute: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attribute)? };
    // SAFETY: the kernel has just made this descriptor for us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn path_string(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

fn pointer<T>(slice: &[T]) -> u64 {
    slice.as_ptr() as u64
}

fn pointer_mut<T>(slice: &mut [T]) -> u64 {
    slice.as_mut_ptr() as u64
}

fn info<T: Default>(fd: BorrowedFd<'_>) -> io::Result<T> {
    let mut info = T::default();
    let mut attribute = InfoAttribute {
        fd: fd.as_raw_fd() as u32,
        length: size_of::<T>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    // SAFETY: `info` is live and as long as `length` says; only the private structs above come here, of integers
    // only, so the kernel may write anything.
    unsafe { bpf(command::OBJ_INFO, &mut attribute)? };
    Ok(info)
}
