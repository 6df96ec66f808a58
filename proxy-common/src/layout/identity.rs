//! IDENTITY: which Service a service id belongs to, for the agent after a restart.

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
    /// Zero.
    pub pad: [u16; 3],
}

const _: () = assert!(size_of::<Identity>() == 32);

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
