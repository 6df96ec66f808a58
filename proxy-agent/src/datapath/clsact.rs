//! Attachment for kernels without TCX: a cls_bpf filter in direct action on the interface's clsact qdisc, always with
//! the same priority and handle, so that a new program replaces the old one in place.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::netlink::{Body, Message, Netlink, attributes, integer, text};

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
const DIRECT_ACTION: u32 = 1;
/// Of the qdisc.
const QDISC_HANDLE: u32 = 0xffff_0000;
const QDISC_PARENT: u32 = 0xffff_fff1;
/// The first priority: nothing decides about a packet before us.
const PRIORITY: u32 = 1;
/// "SH"; tells our filter from others of the same priority.
const HANDLE: u32 = 0x5348;
/// Names of our filters begin with this.
const NAME: &str = "shunt_";

/// Which side of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Ingress,
    Egress,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    fn parent(self) -> u32 {
        match self {
            Self::Ingress => 0xffff_fff2,
            Self::Egress => 0xffff_fff3,
        }
    }
}

/// `struct tcmsg`.
fn header(interface: u32, handle: u32, parent: u32, info: u32) -> Body {
    let mut bytes = [0; 20];
    let words = [0, interface, handle, parent, info];
    for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    Body::new(&bytes)
}

/// Priority, and the protocol "all" in network byte order.
fn filter_info() -> u32 {
    PRIORITY << 16 | u32::from((libc::ETH_P_ALL as u16).to_be())
}

/// Makes the qdisc; false if the interface has one.
pub(super) fn make_qdisc(netlink: &mut Netlink, interface: u32) -> io::Result<bool> {
    let body = header(interface, QDISC_HANDLE, QDISC_PARENT, 0).attribute(TCA_KIND, b"clsact\0");
    match netlink.change(libc::RTM_NEWQDISC, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &body) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the qdisc with all that is on it; gone already is as good.
pub(super) fn remove_qdisc(netlink: &mut Netlink, interface: u32) -> io::Result<()> {
    gone(netlink.change(
        libc::RTM_DELQDISC,
        0,
        &header(interface, QDISC_HANDLE, QDISC_PARENT, 0),
    ))
    .map(|_| ())
}

/// Puts our filter there, or gives it a new program in place.
pub(super) fn put_filter(
    netlink: &mut Netlink,
    interface: u32,
    side: Side,
    name: &str,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    let options = Body::default()
        .attribute(TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes())
        .attribute(TCA_BPF_NAME, format!("{NAME}{name}\0").as_bytes())
        .attribute(TCA_BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes());
    let body = header(interface, HANDLE, side.parent(), filter_info())
        .attribute(TCA_KIND, b"bpf\0")
        .nested(TCA_OPTIONS, &options);
    netlink.change(libc::RTM_NEWTFILTER, libc::NLM_F_CREATE, &body)
}

/// Removes our filter; false if it was not there.
pub(super) fn remove_filter(netlink: &mut Netlink, interface: u32, side: Side) -> io::Result<bool> {
    if !filters(netlink, interface, side)?
        .iter()
        .any(|filter| filter.ours)
    {
        return Ok(false);
    }
    let body = header(interface, HANDLE, side.parent(), filter_info()).attribute(TCA_KIND, b"bpf\0");
    gone(netlink.change(libc::RTM_DELTFILTER, 0, &body))
}

/// A filter on one side of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// It has our handle and a name of ours.
    pub(super) ours: bool,
    /// Its program's id; 0 if it is of another kind.
    pub(super) program: u32,
}

/// The filters on one side of an interface; none if it has no clsact qdisc.
pub(super) fn filters(netlink: &mut Netlink, interface: u32, side: Side) -> io::Result<Vec<Filter>> {
    let dump = netlink.dump(libc::RTM_GETTFILTER, &header(interface, 0, side.parent(), 0));
    match dump {
        Ok(messages) => Ok(messages.iter().filter_map(filter).collect()),
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A filter of a dump. The kernel lists each priority once more with handle 0; that is no filter.
fn filter(message: &Message) -> Option<Filter> {
    let handle = u32::from_ne_bytes(integer(&message.body, 8)?);
    let options = attributes(message.body.get(20..)?).find(|(kind, _)| *kind == TCA_OPTIONS);
    let option = |wanted: u16| {
        let (_, inner) = options?;
        let (_, value) = attributes(inner).find(|(kind, _)| *kind == wanted)?;
        Some(value)
    };
    let named = option(TCA_BPF_NAME).is_some_and(|value| text(value).starts_with(NAME));
    let program = option(TCA_BPF_ID).and_then(|value| integer(value, 0));
    (handle != 0).then_some(Filter {
        ours: handle == HANDLE && named,
        program: program.map_or(0, u32::from_ne_bytes),
    })
}

/// False if what should be removed was not there, or its interface is gone.
fn gone(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENODEV | libc::EINVAL)
    )
}
