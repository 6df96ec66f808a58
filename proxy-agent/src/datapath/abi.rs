//! The words of bpf(2): numbers and structs as the kernel's headers have them. Plain data.

use std::mem::offset_of;

/// Commands.
pub(crate) mod command {
    pub(crate) const MAP_CREATE: u32 = 0;
    pub(crate) const MAP_LOOKUP: u32 = 1;
    pub(crate) const MAP_UPDATE: u32 = 2;
    pub(crate) const MAP_DELETE: u32 = 3;
    pub(crate) const MAP_NEXT_KEY: u32 = 4;
    pub(crate) const PROG_LOAD: u32 = 5;
    pub(crate) const OBJ_PIN: u32 = 6;
    pub(crate) const OBJ_GET: u32 = 7;
    pub(crate) const PROG_TEST_RUN: u32 = 10;
    pub(crate) const OBJ_INFO: u32 = 15;
    pub(crate) const MAP_LOOKUP_BATCH: u32 = 24;
    pub(crate) const MAP_UPDATE_BATCH: u32 = 26;
    pub(crate) const LINK_CREATE: u32 = 28;
    pub(crate) const LINK_UPDATE: u32 = 29;
    pub(crate) const LINK_DETACH: u32 = 34;
}

/// Map types of bpf(2) that Shunt uses.
pub(crate) mod map_type {
    /// BPF_MAP_TYPE_HASH
    pub(crate) const HASH: u32 = 1;
    /// BPF_MAP_TYPE_ARRAY
    pub(crate) const ARRAY: u32 = 2;
    /// BPF_MAP_TYPE_PERCPU_ARRAY
    pub(crate) const PERCPU_ARRAY: u32 = 6;
    /// BPF_MAP_TYPE_LRU_HASH
    pub(crate) const LRU_HASH: u32 = 9;
    /// BPF_MAP_TYPE_LPM_TRIE
    pub(crate) const LPM_TRIE: u32 = 11;
    /// BPF_MAP_TYPE_ARRAY_OF_MAPS
    pub(crate) const ARRAY_OF_MAPS: u32 = 12;
}

/// BPF_F_NO_PREALLOC
pub(crate) const NO_PREALLOC: u32 = 1;
/// BPF_F_MMAPABLE
pub(crate) const MMAPABLE: u32 = 1 << 10;

/// Attach types of bpf(2) that Shunt uses.
pub(crate) mod attach_type {
    /// BPF_TCX_INGRESS
    pub(crate) const TCX_INGRESS: u32 = 46;
    /// BPF_TCX_EGRESS
    pub(crate) const TCX_EGRESS: u32 = 47;
    /// Attach types of the cgroup programs, in the order of `names::program::CGROUP`.
    pub(crate) const CGROUP: [u32; 9] = [10, 11, 14, 15, 19, 20, 29, 30, SOCK_OPS];
    /// BPF_XDP
    pub(crate) const XDP: u32 = 37;
    /// BPF_CGROUP_SOCK_OPS
    pub(crate) const SOCK_OPS: u32 = 3;
}

/// Program types of bpf(2) that Shunt loads without an ELF object.
pub(crate) mod program_type {
    /// BPF_PROG_TYPE_SCHED_CLS
    pub(crate) const SCHED_CLS: u32 = 3;
    /// BPF_PROG_TYPE_XDP
    #[cfg(test)]
    pub(crate) const XDP: u32 = 6;
    /// BPF_PROG_TYPE_SOCK_OPS
    pub(crate) const SOCK_OPS: u32 = 13;
    /// BPF_PROG_TYPE_CGROUP_SOCK_ADDR
    pub(crate) const CGROUP_SOCK_ADDR: u32 = 18;
}

/// What the kernel says of a map; the beginning of `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MapInfo {
    /// A [`map_type`].
    pub(crate) kind: u32,
    /// The map's id.
    pub(crate) id: u32,
    /// Bytes of a key.
    pub(crate) key_size: u32,
    /// Bytes of a value (of one CPU).
    pub(crate) value_size: u32,
    /// Capacity.
    pub(crate) max_entries: u32,
    /// Flags given at creation.
    pub(crate) flags: u32,
    /// The name given at creation, cut.
    pub(crate) name: [u8; 16],
}

/// What the kernel says of a link; the beginning of `struct bpf_link_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawLinkInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) program: u32,
    pub(crate) pad: u32,
    pub(crate) detail: [u32; 4],
}

/// The beginning of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawProgramInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
}

/// What a link is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkTarget {
    /// A cgroup by its id, 0 once it is gone; and the [`attach_type`].
    Cgroup(u64, u32),
    /// An interface by its index, 0 once it is gone; and the [`attach_type`].
    Tcx(u32, u32),
    /// XDP of an interface by its index, 0 once it is gone.
    Xdp(u32),
    /// A link of a type that Shunt does not make.
    Other(u32),
}

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    /// The link's id.
    pub(crate) id: u32,
    /// Id of its program.
    pub(crate) program: u32,
    /// What it is attached to.
    pub(crate) target: LinkTarget,
}

#[repr(C)]
pub(crate) struct InfoAttribute {
    pub(crate) fd: u32,
    pub(crate) length: u32,
    pub(crate) info: u64,
}

/// How to make a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MapDefinition<'a> {
    /// Its name (at most 15 bytes are shown by the kernel).
    pub(crate) name: &'a str,
    /// A [`map_type`].
    pub(crate) kind: u32,
    /// Bytes of a key.
    pub(crate) key_size: u32,
    /// Bytes of a value.
    pub(crate) value_size: u32,
    /// Capacity.
    pub(crate) max_entries: u32,
    /// Flags.
    pub(crate) flags: u32,
}

#[repr(C)]
pub(crate) struct CreateAttribute {
    pub(crate) kind: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
    pub(crate) inner_map_fd: u32,
    pub(crate) numa_node: u32,
    pub(crate) name: [u8; 16],
}

#[repr(C)]
pub(crate) struct ElementAttribute {
    pub(crate) fd: u32,
    pub(crate) pad: u32,
    pub(crate) key: u64,
    pub(crate) value: u64,
    pub(crate) flags: u64,
}

#[repr(C)]
pub(crate) struct BatchAttribute {
    pub(crate) in_batch: u64,
    pub(crate) out_batch: u64,
    pub(crate) keys: u64,
    pub(crate) values: u64,
    pub(crate) count: u32,
    pub(crate) fd: u32,
    pub(crate) element_flags: u64,
    pub(crate) flags: u64,
}

/// What a batch look-up gave: how many entries, and whether the map goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Entries in the buffers.
    pub(crate) count: usize,
    /// No entries follow.
    pub(crate) end: bool,
}

#[repr(C)]
pub(crate) struct ObjectAttribute {
    pub(crate) path: u64,
    pub(crate) fd: u32,
    pub(crate) flags: u32,
}

#[repr(C)]
pub(crate) struct LinkAttribute {
    pub(crate) program: u32,
    pub(crate) target: u32,
    pub(crate) attach_type: u32,
    pub(crate) flags: u32,
    pub(crate) tcx: [u32; 4],
}

#[repr(C)]
pub(crate) struct LoadAttribute {
    pub(crate) kind: u32,
    pub(crate) instruction_count: u32,
    pub(crate) instructions: u64,
    pub(crate) license: u64,
    pub(crate) log_level: u32,
    pub(crate) log_size: u32,
    pub(crate) log: u64,
    pub(crate) kernel_version: u32,
    pub(crate) flags: u32,
    pub(crate) name: [u8; 16],
    pub(crate) interface: u32,
    pub(crate) expected_attach_type: u32,
}

#[repr(C)]
pub(crate) struct TestRunAttribute {
    pub(crate) program: u32,
    pub(crate) result: u32,
    pub(crate) data_size_in: u32,
    pub(crate) data_size_out: u32,
    pub(crate) data_in: u64,
    pub(crate) data_out: u64,
    pub(crate) repeat: u32,
    pub(crate) duration: u32,
    pub(crate) context_size_in: u32,
    pub(crate) context_size_out: u32,
    pub(crate) context_in: u64,
    pub(crate) context_out: u64,
}

const _: () = assert!(offset_of!(LoadAttribute, expected_attach_type) == 68);
const _: () = assert!(size_of::<BatchAttribute>() == 56);
const _: () = assert!(size_of::<ElementAttribute>() == 32);
const _: () = assert!(offset_of!(TestRunAttribute, context_in) == 48);
