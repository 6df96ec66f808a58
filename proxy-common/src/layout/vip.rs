//! VIPS4 and VIPS6: the addresses at which Services are reached.

use super::{Addr, Port};
use crate::rules::hash;

/// A value of VIPS4 and VIPS6 (hash by address, u32): bit 0 says that it is a cluster address, bit 1 that it answers ping;
/// bits 2 to 31 are a tag of the address, because a hash element may become another key's while it is read.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Vip(pub u32);

const _: () = assert!(size_of::<Vip>() == 4);

impl Vip {
    const CLUSTER: u32 = 1;
    const ANSWERS: u32 = 2;
    const SAYS: u32 = Self::CLUSTER | Self::ANSWERS;

    /// The value of an address.
    ///
    /// `is_cluster`: it is of spec.clusterIPs; else load balancers' or an external one. `answers`: some service port there has
    /// endpoints for who calls from outside (a cluster address: for anyone).
    #[inline(always)]
    pub fn new<A: Addr>(address: &A, is_cluster: bool, answers: bool) -> Self {
        let cluster = if is_cluster { Self::CLUSTER } else { 0 };
        let answers = if answers { Self::ANSWERS } else { 0 };
        Self(tag(address) | cluster | answers)
    }

    /// Whether this was the value of that address.
    #[inline(always)]
    pub fn is_of<A: Addr>(self, address: &A) -> bool {
        self.0 & !Self::SAYS == tag(address)
    }

    /// A cluster address leads nowhere but to the Service: what no frontend serves there is refused.
    #[inline(always)]
    pub const fn is_cluster(self) -> bool {
        self.0 & Self::CLUSTER != 0
    }

    /// Whether ping is answered, as long as the operator wants that.
    #[inline(always)]
    pub const fn answers(self) -> bool {
        self.0 & Self::ANSWERS != 0
    }
}

#[inline(always)]
fn tag<A: Addr>(address: &A) -> u32 {
    hash::endpoint(address, Port::new(0), 0) as u32 & !Vip::SAYS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{V4, V6};

    #[test]
    fn a_value_says_what_it_was_given_and_of_which_address() {
        fn check<A: Addr>(mine: A, other: A) {
            for (is_cluster, answers) in [(false, false), (false, true), (true, false), (true, true)] {
                let vip = Vip::new(&mine, is_cluster, answers);
                assert_eq!((vip.is_cluster(), vip.answers()), (is_cluster, answers));
                assert!(vip.is_of(&mine) && !vip.is_of(&other));
            }
        }
        check(V4::new([10, 96, 0, 1]), V4::new([10, 96, 0, 2]));
        check(V6([1, 2, 3, 4]), V6([1, 2, 3, 5]));
    }
}
