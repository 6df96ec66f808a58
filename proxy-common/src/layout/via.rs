//! An interface that a flow came in by, in the three bytes that a flow has left.

/// The index of an interface; none if it is not known, or does not fit.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Via([u8; 3]);

impl Via {
    /// Not known: what a flow has that an older version made.
    pub const UNKNOWN: Self = Self([0; 3]);

    /// Of an interface. Indices grow by one with each interface that is made: those above 2^24 are not told.
    #[inline(always)]
    pub const fn new(interface: u32) -> Self {
        let [a, b, c, d] = interface.to_le_bytes();
        if d == 0 { Self([a, b, c]) } else { Self::UNKNOWN }
    }

    /// The interface; 0 if it is not known.
    #[inline(always)]
    pub const fn interface(self) -> u32 {
        let [a, b, c] = self.0;
        u32::from_le_bytes([a, b, c, 0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_comes_back_or_is_not_known() {
        for index in [0, 1, 255, 256, 0x01_02_03, 0xff_ff_ff] {
            assert_eq!(Via::new(index).interface(), index);
        }
        for index in [0x100_0000, u32::MAX] {
            assert_eq!(Via::new(index), Via::UNKNOWN);
        }
        assert_eq!(Via::default(), Via::UNKNOWN);
    }
}
