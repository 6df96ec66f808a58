//! IDENTITY: which Service a service id belongs to, for the agent after a restart and for people.

/// A value of IDENTITY (hash by [`super::ServiceId`]): written before the first slot, removed last.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// metadata.uid of the Service, see [`uid_words`].
    pub uid: [u64; 2],
    /// Hash of namespace, name, port name, protocol and family.
    pub name_hash: u64,
    /// The tag that its lists and frontends carry.
    pub service_tag: u16,
    /// Why its topology hints are not followed, see [`super::HintFallback`].
    pub hint_fallback: u16,
    /// How many of its ready endpoints have no hints, where that is why.
    pub without_hints: u16,
    /// Zero.
    pub pad: u16,
    /// `namespace/name` or `namespace/name:port`, for people.
    pub name: NameText,
}

const _: () = assert!(size_of::<Identity>() == 192);

/// A name of at most 160 bytes of UTF-8, filled up with zeroes; a longer one is cut. (A namespace and a name of 63
/// bytes each and a port name of 15 take 143.)
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NameText([u8; 160]);

impl Default for NameText {
    fn default() -> Self {
        Self([0; 160])
    }
}

impl NameText {
    /// From a text, cut where it is too long.
    pub fn new(text: &str) -> Self {
        let mut name = Self::default();
        let mut length = text.len().min(name.0.len());
        while !text.is_char_boundary(length) {
            length -= 1;
        }
        name.0[..length].copy_from_slice(&text.as_bytes()[..length]);
        name
    }

    /// The text; empty if the bytes are none.
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        core::str::from_utf8(&self.0[..length]).unwrap_or_default()
    }
}

impl core::fmt::Debug for NameText {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// FNV-1a with two offsets: 128 bits of any UID text (a UID need not be an RFC 4122 UUID).
pub fn uid_words(uid: &str) -> [u64; 2] {
    let mut words = [0xcbf2_9ce4_8422_2325_u64, 0x6c62_272e_07bb_0142];
    for byte in uid.bytes() {
        for word in &mut words {
            *word = (*word ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        words[1] = words[1].rotate_left(7);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_or_cut_between_characters() {
        assert_eq!(NameText::new("shop/web:http").as_str(), "shop/web:http");
        assert_eq!(NameText::default().as_str(), "");
        let long = "x".repeat(159) + "é";
        assert_eq!(NameText::new(&long).as_str(), "x".repeat(159));
    }
}
