//! Keys and values of the maps as bytes, field by field.

use proxy_common::layout::{
    Affinity, AffinityKey, AffinityWord, Backend, BackendId, Config, Flow, FlowKey, FragmentKey,
    FragmentPorts, FrontendKey, FrontendValue, Interface, ListWord, Meta, NamespaceAddress, NamespaceKey,
    Network, NetworkList, Networks, Port, Service, ServiceId, SourceRange, Uplink, V4, V6, Via, Vip,
};

/// Something that stands in a map.
pub trait Bits: Sized {
    /// Writes its bytes.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads it from the front of some bytes.
    fn take(bytes: &mut &[u8]) -> Self;
}

/// The bytes of a value, as an array of the size that its map has.
pub fn pack<T: Bits, B: TryFrom<Vec<u8>>>(value: &T) -> B {
    let mut out = Vec::new();
    value.put(&mut out);
    let length = out.len();
    B::try_from(out).unwrap_or_else(|_| {
        panic!(
            "{length} bytes are not the size of {}",
            std::any::type_name::<B>()
        )
    })
}

/// A value out of its bytes.
pub fn unpack<T: Bits>(mut bytes: &[u8]) -> T {
    let value = T::take(&mut bytes);
    assert!(
        bytes.is_empty(),
        "{} bytes are left of {}",
        bytes.len(),
        std::any::type_name::<T>()
    );
    value
}

macro_rules! numbers {
    ($($type:ty),+) => {$(
        impl Bits for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend(self.to_ne_bytes());
            }
            fn take(bytes: &mut &[u8]) -> Self {
                let (front, rest) = bytes.split_at(size_of::<Self>());
                *bytes = rest;
                let mut own = [0; size_of::<Self>()];
                own.copy_from_slice(front);
                Self::from_ne_bytes(own)
            }
        }
    )+};
}
numbers!(u8, u16, u32, u64);

impl<T: Bits + Copy + Default, const N: usize> Bits for [T; N] {
    fn put(&self, out: &mut Vec<u8>) {
        for item in self {
            item.put(out);
        }
    }
    fn take(bytes: &mut &[u8]) -> Self {
        let mut items = [T::default(); N];
        for item in &mut items {
            *item = T::take(bytes);
        }
        items
    }
}

macro_rules! wrappers {
    ($($type:ident),+) => {$(
        impl Bits for $type {
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }
            fn take(bytes: &mut &[u8]) -> Self {
                Self(Bits::take(bytes))
            }
        }
    )+};
}
wrappers!(V4, V6, BackendId, ServiceId, Meta, ListWord, AffinityWord, Vip);

impl Bits for Port {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.number().to_be_bytes());
    }
    fn take(bytes: &mut &[u8]) -> Self {
        Self::new(u16::from_be(Bits::take(bytes)))
    }
}

impl Bits for Via {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.interface().to_le_bytes()[..3]);
    }
    fn take(bytes: &mut &[u8]) -> Self {
        let [a, b, c]: [u8; 3] = Bits::take(bytes);
        Self::new(u32::from_le_bytes([a, b, c, 0]))
    }
}

macro_rules! structs {
    ($($type:ident $(<$family:ident>)? { $($field:ident),+ })+) => {$(
        impl$(<$family: Bits>)? Bits for $type $(<$family>)? {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)+
            }
            fn take(bytes: &mut &[u8]) -> Self {
                Self { $($field: Bits::take(bytes)),+ }
            }
        }
    )+};
}
structs! {
    Config {
        host_netns_cookie, layout_version, flags, ticks_per_second, snat_first, snat_count, tcp_embryo,
        tcp_established, tcp_half_closed, tcp_closing, udp_embryo, udp_established
    }
    Interface { v4, v6, flags, mtu, index }
    Uplink { link, flags, index, mode, reason, pad, name }
    Networks { service4, service6, local4, local6 }
    Service { internal, external, shortcut, affinity }
    AffinityKey { client, service }
    Affinity { meta, target }
    NamespaceKey { cookie, family, pad }
    NamespaceAddress { address, seen, tag }
    Backend { address, port, protocol, flags, service, life, last_life }
    FrontendValue { service, tag, service_tag, kind, pad }
    FragmentPorts { source, destination, tag }
    FrontendKey<A> { address, port, protocol, pad }
    Network<A> { address, mask }
    SourceRange<A> { service, address }
    FragmentKey<A> { source, destination, id, protocol }
    FlowKey<A> { source, destination, source_port, destination_port, protocol, direction, pad }
    Flow<A> {
        meta, source, destination, source_port, destination_port, backend, generation, service,
        expected_acknowledgement, action, via
    }
}

impl<A: Bits + Copy + Default> Bits for NetworkList<A> {
    fn put(&self, out: &mut Vec<u8>) {
        self.networks.put(out);
        self.count.put(out);
        self.pad.put(out);
    }
    fn take(bytes: &mut &[u8]) -> Self {
        Self {
            networks: Bits::take(bytes),
            count: Bits::take(bytes),
            pad: Bits::take(bytes),
        }
    }
}
