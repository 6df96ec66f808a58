//! Pinned links: kept over restarts, given a new program in one step, reaped when what they were attached to is gone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::error::{Context, DatapathError};
use super::instance::remove;
use super::sys::{self, LinkTarget};

/// Sees to it that the link pinned at `path` runs `program`: a link that fits gets the program in one step, any other
/// is replaced by one that `make` attaches. True if a new link was made.
pub(super) fn hold(
    path: &Path,
    program: BorrowedFd<'_>,
    fits: impl Fn(LinkTarget) -> bool,
    make: impl FnOnce() -> io::Result<OwnedFd>,
) -> Result<bool, DatapathError> {
    let old = open(path)?;
    if let Some(link) = &old
        && fits(target(link.as_fd(), path)?)
    {
        sys::link_update(link.as_fd(), program).file("BPF_LINK_UPDATE", path)?;
        return Ok(false);
    }
    let made = make().file("BPF_LINK_CREATE", path)?;
    if old.is_some() {
        remove(path)?;
    }
    sys::object_pin(path, made.as_fd()).file("BPF_OBJ_PIN", path)?;
    Ok(true)
}

/// Detaches the link pinned at `path` and removes the pin; false if there is none.
pub(super) fn release(path: &Path) -> Result<bool, DatapathError> {
    let Some(link) = open(path)? else { return Ok(false) };
    match sys::link_detach(link.as_fd()) {
        // What it was attached to is gone: there is nothing to detach.
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
        other => other.file("BPF_LINK_DETACH", path)?,
    }
    remove(path)
}

/// What the link pinned at `path` is attached to; `None` if there is no pin.
pub(super) fn attached_to(path: &Path) -> Result<Option<LinkTarget>, DatapathError> {
    match open(path)? {
        Some(link) => Ok(Some(target(link.as_fd(), path)?)),
        None => Ok(None),
    }
}

/// Whether a link is pinned at `path` that is attached to `target` and runs the program of this id.
pub(super) fn runs(path: &Path, target: LinkTarget, program: u32) -> Result<bool, DatapathError> {
    let Some(link) = open(path)? else { return Ok(false) };
    let found = sys::link_info(link.as_fd()).file("BPF_OBJ_GET_INFO_BY_FD", path)?;
    Ok(found.target == target && found.program == program)
}

fn target(link: BorrowedFd<'_>, path: &Path) -> Result<LinkTarget, DatapathError> {
    Ok(sys::link_info(link).file("BPF_OBJ_GET_INFO_BY_FD", path)?.target)
}

fn open(path: &Path) -> Result<Option<OwnedFd>, DatapathError> {
    match sys::object_get(path) {
        Ok(link) => Ok(Some(link)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).file("BPF_OBJ_GET", path)?,
    }
}
