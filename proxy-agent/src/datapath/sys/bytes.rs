//! Keys and values of maps, byte for byte.

use proxy_common::layout::{
    Affinity, AffinityKey, Backend, BackendId, Config, Flow, FlowKey, FragmentKey, FragmentPorts,
    FrontendKey, FrontendValue, Identity, Interface, NamespaceAddress, NamespaceKey, Networks, ProbeKey,
    Service, ServiceId, SocketKey, SocketValue, SourceRangeKey, Uplink, V4, V6, Vip,
};

/// A key or value of a BPF map, exchanged with the kernel byte for byte.
///
/// # Safety
/// The type is `#[repr(C)]` or `#[repr(transparent)]`, has no padding that is not a named field, no pointer or
/// reference inside, and any bit pattern is a valid value.
pub(crate) unsafe trait Layout: Copy + 'static {}

macro_rules! layouts {
    ($($type:ty),+ $(,)?) => {
        $(
            // SAFETY: plain integers in `repr(C)` with explicit padding; proxy-common asserts the sizes and promises
            // that any bit pattern is valid.
            unsafe impl Layout for $type {}
        )+
    };
}

layouts!(
    i32,
    u32,
    u64,
    V4,
    V6,
    ServiceId,
    BackendId,
    Service,
    Backend,
    Config,
    Identity,
    Interface,
    FrontendKey<V4>,
    FrontendKey<V6>,
    FrontendValue,
    FlowKey<V4>,
    FlowKey<V6>,
    Flow<V4>,
    Flow<V6>,
    FragmentKey<V4>,
    FragmentKey<V6>,
    FragmentPorts,
    AffinityKey,
    Affinity,
    NamespaceKey,
    NamespaceAddress,
    SocketKey,
    SocketValue,
    Vip,
    Networks,
    ProbeKey,
    SourceRangeKey<V4>,
    SourceRangeKey<V6>,
    Uplink,
);

/// The bytes of a value.
pub(crate) fn bytes_of<T: Layout>(value: &T) -> &[u8] {
    // SAFETY: `Layout` promises that every byte of the value is initialised; the slice lives as long as the borrow.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// The bytes of a run of values.
pub(crate) fn bytes_of_slice<T: Layout>(values: &[T]) -> &[u8] {
    // SAFETY: as in `bytes_of`; a slice has no bytes between its elements.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// A value out of its bytes; `None` if there are not exactly as many as it has.
pub(crate) fn from_bytes<T: Layout>(bytes: &[u8]) -> Option<T> {
    if bytes.len() != size_of::<T>() {
        return None;
    }
    // SAFETY: the length was compared, any bit pattern is valid, and an unaligned read needs no alignment.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
