//! Deletes tables of nftables by the kernel's own interface: an `nft` that is older than the one that made them may crash
//! on reading them, and then does not even delete (1.0.6 on tables of 1.1.3).

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Types of messages, as linux/netfilter/nfnetlink.h and nf_tables.h have them.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
/// The attribute with a table's name.
const TABLE_NAME: u16 = 1;

/// A family of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// As nft calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }
}

/// Deletes a table with all that is in it, in the calling thread's network namespace; false if there is none.
pub(super) fn delete_table(family: Family, name: &str) -> io::Result<bool> {
    match delete(family, name) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            // No such table, or a kernel without nftables.
            Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT) => Ok(false),
            _ => Err(error),
        },
    }
}

fn delete(family: Family, name: &str) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&batch(family, name), 0)?;
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let integer = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let kind = integer(4).map(|word| word as u16).map(i32::from);
        if kind != Some(libc::NLMSG_ERROR) {
            continue;
        }
        // Zero is the acknowledgement.
        return match integer(HEADER).map(u32::cast_signed) {
            Some(0) => Ok(()),
            code => Err(io::Error::from_raw_os_error(-code.unwrap_or(-libc::EPROTO))),
        };
    }
}

/// What changes tables is a batch, which the kernel carries out as a whole.
fn batch(family: Family, name: &str) -> Vec<u8> {
    let request = libc::NLM_F_REQUEST as u16;
    let mut attribute = Vec::new();
    let length = 4 + name.len() as u16 + 1;
    attribute.extend(length.to_ne_bytes());
    attribute.extend(TABLE_NAME.to_ne_bytes());
    attribute.extend(name.bytes());
    attribute.push(0);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    [
        message(BATCH_BEGIN, request, 0, SUBSYSTEM, &[]),
        message(
            DELETE_TABLE,
            request | libc::NLM_F_ACK as u16,
            family.number(),
            0,
            &attribute,
        ),
        message(BATCH_END, request, 0, SUBSYSTEM, &[]),
    ]
    .concat()
}

fn message(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + 4 + attributes.len());
    bytes.extend(((HEADER + 4 + attributes.len()) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::testing::Namespace;

    #[test]
    fn a_table_goes_with_all_that_is_in_it_and_no_other() {
        let node = Namespace::new();
        for table in ["ip kube-proxy", "ip6 kube-proxy", "ip others"] {
            node.command("nft", &format!("add table {table}"));
            node.command("nft", &format!("add chain {table} services"));
            node.command("nft", &format!("add chain {table} entry"));
            node.command("nft", &format!("add rule {table} entry jump services"));
            node.command("nft", &format!("add set {table} ports {{ type inet_service ; }}"));
        }
        let delete = |family| node.run(move || delete_table(family, "kube-proxy").unwrap());
        assert_eq!(Family::BOTH.map(delete), [true, true]);
        assert_eq!(node.command("nft", "list tables"), "table ip others\n");
        assert_eq!(Family::BOTH.map(delete), [false, false]);
    }
}
