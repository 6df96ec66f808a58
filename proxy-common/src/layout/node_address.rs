//! NODE_ADDRESSES4 and NODE_ADDRESSES6: the node's own addresses.

use super::{Addr, Family};

/// The value of an address in NODE_ADDRESSES: a tag of its key, which says also whether NodePorts answer there. It is
/// the address's last word (in the wire's order) where they do, and that word's complement where they do not.
#[inline(always)]
pub fn node_address_value<A: Addr>(address: &A, has_node_ports: bool) -> u32 {
    let word = last_word(address);
    if has_node_ports { word } else { !word }
}

/// The last 32 bits of an address, as they stand on the wire.
#[inline(always)]
fn last_word<A: Addr>(address: &A) -> u32 {
    let [.., last] = address.to_mapped().0;
    last
}

/// What a value of NODE_ADDRESSES says of the address that it was found under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeAddress {
    /// Nothing: the element became another key's while it was read.
    Foreign,
    /// The node's, and NodePorts answer there.
    NodePorts,
    /// The node's, without NodePorts.
    Silent,
}

impl NodeAddress {
    /// What a value found under an address says.
    #[inline(always)]
    pub fn read<A: Addr>(address: &A, value: u32) -> Self {
        if value == node_address_value(address, true) {
            Self::NodePorts
        } else if value == node_address_value(address, false) {
            Self::Silent
        } else {
            Self::Foreign
        }
    }
}

/// The flag of [`super::Config`] that takes the NodePorts of a family off its loopback addresses.
#[inline(always)]
pub const fn no_loopback(family: Family) -> u32 {
    match family {
        Family::V4 => super::CONFIG_NO_LOOPBACK4,
        Family::V6 => super::CONFIG_NO_LOOPBACK6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{V4, V6};

    #[test]
    fn a_value_tells_its_own_address_from_others_and_the_silent_from_the_others() {
        fn check<A: Addr>(mine: A, other: A) {
            let read = |value| NodeAddress::read(&mine, value);
            assert_eq!(read(node_address_value(&mine, true)), NodeAddress::NodePorts);
            assert_eq!(read(node_address_value(&mine, false)), NodeAddress::Silent);
            assert_eq!(read(node_address_value(&other, true)), NodeAddress::Foreign);
            assert_eq!(read(node_address_value(&other, false)), NodeAddress::Foreign);
        }
        check(V4::new([192, 0, 2, 1]), V4::new([192, 0, 2, 2]));
        let six = |last| V6::new([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        check(six(1), six(2));
        let four = V4::new([192, 0, 2, 1]);
        assert_eq!(node_address_value(&four, true), four.0);
        assert_eq!(node_address_value(&six(1), true), six(1).0[3]);
    }
}
