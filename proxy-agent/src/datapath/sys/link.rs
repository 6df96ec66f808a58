//! Links: programs attached to cgroups and interfaces.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::super::abi::{LinkAttribute, RawLinkInfo};
use super::{LinkInfo, LinkTarget, attach_type, bpf, bpf_fd, command, info};

/// Asks the kernel about a link.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    const CGROUP: u32 = 3;
    const XDP: u32 = 6;
    const TCX: u32 = 11;
    let raw: RawLinkInfo = info(link)?;
    let [a, b, c, _] = raw.detail;
    let target = match raw.kind {
        CGROUP => {
            let mut id = [0; 8];
            id[..4].copy_from_slice(&a.to_ne_bytes());
            id[4..].copy_from_slice(&b.to_ne_bytes());
            LinkTarget::Cgroup(u64::from_ne_bytes(id), c)
        }
        XDP => LinkTarget::Xdp(a),
        TCX => LinkTarget::Tcx(a, b),
        other => LinkTarget::Other(other),
    };
    Ok(LinkInfo {
        id: raw.id,
        program: raw.program,
        target,
    })
}

/// Attaches a program to a cgroup; detached when the last descriptor and pin are gone.
pub(crate) fn link_cgroup(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    link_create(program, cgroup.as_raw_fd() as u32, attach_type, 0)
}

/// Attaches a program to an interface of the calling thread's network namespace.
pub(crate) fn link_tcx(program: BorrowedFd<'_>, interface: u32, attach_type: u32) -> io::Result<OwnedFd> {
    link_create(program, interface, attach_type, 0)
}

/// Attaches an XDP program to an interface of the calling thread's network namespace, in the mode that the flag says. EBUSY:
/// another's program is there.
pub(crate) fn link_xdp(program: BorrowedFd<'_>, interface: u32, mode: u32) -> io::Result<OwnedFd> {
    link_create(program, interface, attach_type::XDP, mode)
}

fn link_create(program: BorrowedFd<'_>, target: u32, attach_type: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut attribute = LinkAttribute {
        program: program.as_raw_fd() as u32,
        target,
        attach_type,
        flags,
        tcx: [0; 4],
    };
    // SAFETY: the attribute holds no pointer; the command returns a new descriptor.
    unsafe { bpf_fd(command::LINK_CREATE, &mut attribute) }
}

/// Replaces a link's program in one step.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attribute = [link.as_raw_fd() as u32, program.as_raw_fd() as u32, 0, 0];
    // SAFETY: the attribute holds no pointer.
    unsafe { bpf(command::LINK_UPDATE, &mut attribute)? };
    Ok(())
}

/// Detaches a link, whoever else holds it.
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attribute = [link.as_raw_fd() as u32];
    // SAFETY: the attribute holds no pointer.
    unsafe { bpf(command::LINK_DETACH, &mut attribute)? };
    Ok(())
}
