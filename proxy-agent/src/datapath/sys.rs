//! The agent's only unsafe code: bpf(2), memory of mmapable maps, and two socket options that no crate covers.
//!
//! Everything here is a thin, checked door: lengths are compared with what the kernel says of the map before a
//! pointer is handed over, and what comes back is owned. No policy; errors are plain `io::Error`, and the modules
//! above add the object and the way out.

use std::ffi::{CString, c_long, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use proxy_common::layout::{
    Affinity, AffinityKey, Backend, BackendId, Config, Flow, FlowKey, FragmentKey, FragmentPorts,
    FrontendKey, FrontendValue, Identity, Interface, NamespaceAddress, NamespaceKey, Networks, Service,
    ServiceId, SocketKey, SocketValue, SourceRangeKey, Uplink, V4, V6, Vip,
};

use super::abi::{
    Batch, BatchAttribute, CreateAttribute, ElementAttribute, InfoAttribute, LinkAttribute, LoadAttribute,
    ObjectAttribute, RawLinkInfo, TestRunAttribute, command,
};
pub(crate) use super::abi::{
    LinkInfo, LinkTarget, MMAPABLE, MapDefinition, MapInfo, NO_PREALLOC, attach_type, map_type, program_type,
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

/// One bpf(2) call.
///
/// # Safety
/// Every pointer in `attribute` is valid for what the command does with it.
unsafe fn bpf<T>(command: u32, attribute: &mut T) -> io::Result<c_long> {
    loop {
        // SAFETY: the attribute is a live, exclusively borrowed struct of the size given; its pointers are the
        // caller's promise.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command,
                std::ptr::from_mut(attribute),
                size_of::<T>(),
            )
        };
        if result >= 0 {
            return Ok(result);
        }
        let error = io::Error::last_os_error();
        if !matches!(error.raw_os_error(), Some(libc::EINTR)) {
            return Err(error);
        }
    }
}

/// A bpf(2) call that returns a file descriptor.
///
/// # Safety
/// As for [`bpf`]; and the command returns a new descriptor.
unsafe fn bpf_fd<T>(command: u32, attribute: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attribute)? };
    // SAFETY: the kernel has just made this descriptor for us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn path_string(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

fn pointer<T>(slice: &[T]) -> u64 {
    slice.as_ptr() as u64
}

fn pointer_mut<T>(slice: &mut [T]) -> u64 {
    slice.as_mut_ptr() as u64
}

fn info<T: Default>(fd: BorrowedFd<'_>) -> io::Result<T> {
    let mut info = T::default();
    let mut attribute = InfoAttribute {
        fd: fd.as_raw_fd() as u32,
        length: size_of::<T>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    // SAFETY: `info` is live and as long as `length` says; only the private structs above come here, of integers
    // only, so the kernel may write anything.
    unsafe { bpf(command::OBJ_INFO, &mut attribute)? };
    Ok(info)
}

/// Asks the kernel about a link.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    const CGROUP: u32 = 3;
    const XDP: u32 = 6;
    const TCX: u32 = 11;
    let raw: RawLinkInfo = info(link)?;
    let [a, b, c, _] = raw.detail;
    let target = match raw.kind {
        CGROUP => {
            let mut id = [0; 8];
            id[..4].copy_from_slice(&a.to_ne_bytes());
            id[4..].copy_from_slice(&b.to_ne_bytes());
            LinkTarget::Cgroup(u64::from_ne_bytes(id), c)
        }
        XDP => LinkTarget::Xdp(a),
        TCX => LinkTarget::Tcx(a, b),
        other => LinkTarget::Other(other),
    };
    Ok(LinkInfo {
        id: raw.id,
        program: raw.program,
        target,
    })
}

/// An open map, with what the kernel says of it.
#[derive(Debug)]
pub(crate) struct MapFd {
    fd: OwnedFd,
    info: MapInfo,
    value_length: usize,
}

impl MapFd {
    /// Makes a map; `inner` is the template of a map of maps.
    pub(crate) fn create(definition: &MapDefinition<'_>, inner: Option<&Self>) -> io::Result<Self> {
        let mut name = [0; 16];
        for (to, from) in name[..15].iter_mut().zip(definition.name.bytes()) {
            *to = from;
        }
        let mut attribute = CreateAttribute {
            kind: definition.kind,
            key_size: definition.key_size,
            value_size: definition.value_size,
            max_entries: definition.max_entries,
            flags: definition.flags,
            inner_map_fd: inner.map_or(0, |map| map.fd.as_raw_fd() as u32),
            numa_node: 0,
            name,
        };
        // SAFETY: the attribute holds no pointer.
        Self::from_fd(unsafe { bpf_fd(command::MAP_CREATE, &mut attribute)? })
    }

    /// Opens a pinned map.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::from_fd(object_get(path)?)
    }

    fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let info: MapInfo = info(fd.as_fd())?;
        let value_length = match info.kind {
            map_type::PERCPU_ARRAY => info.value_size.next_multiple_of(8) as usize * possible_cpus()?,
            _ => info.value_size as usize,
        };
        Ok(Self {
            fd,
            info,
            value_length,
        })
    }

    /// What the kernel says of it.
    pub(crate) fn info(&self) -> &MapInfo {
        &self.info
    }

    /// Bytes of a value as a look-up gives it: of all CPUs for a per-CPU map.
    pub(crate) fn value_length(&self) -> usize {
        self.value_length
    }

    fn check(&self, key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
        let right_key = key.len() == self.info.key_size as usize;
        let right_value = value.is_none_or(|value| value.len() == self.value_length);
        if right_key && right_value {
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }

    fn element(&self, key: &[u8], value: u64, flags: u64) -> ElementAttribute {
        ElementAttribute {
            fd: self.fd.as_raw_fd() as u32,
            pad: 0,
            key: pointer(key),
            value,
            flags,
        }
    }

    /// Looks a key up; false if it is not there.
    pub(crate) fn lookup(&self, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
        self.check(key, Some(value))?;
        let mut attribute = self.element(key, pointer_mut(value), 0);
        // SAFETY: key and value are live and as long as the map's, compared above.
        found(unsafe { bpf(command::MAP_LOOKUP, &mut attribute) })
    }

    /// Writes a key. `flags`: 0 any, 1 only if absent, 2 only if present.
    pub(crate) fn update(&self, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
        self.check(key, Some(value))?;
        let mut attribute = self.element(key, pointer(value), flags);
        // SAFETY: key and value are live and as long as the map's, compared above; the kernel only reads them.
        unsafe { bpf(command::MAP_UPDATE, &mut attribute)? };
        Ok(())
    }

    /// Puts a map into a map of maps.
    pub(crate) fn update_inner(&self, key: u32, inner: &Self) -> io::Result<()> {
        self.update(
            &key.to_ne_bytes(),
            &(inner.fd.as_raw_fd() as u32).to_ne_bytes(),
            0,
        )
    }

    /// Removes a key; false if it was not there.
    pub(crate) fn delete(&self, key: &[u8]) -> io::Result<bool> {
        self.check(key, None)?;
        let mut attribute = self.element(key, 0, 0);
        // SAFETY: the key is live and as long as the map's, compared above.
        found(unsafe { bpf(command::MAP_DELETE, &mut attribute) })
    }

    /// The key after `key` (of any key that is gone, and of `None`: the first); false at the end.
    pub(crate) fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
        self.check(key.unwrap_or(next), None)?;
        self.check(next, None)?;
        let mut attribute = self.element(key.unwrap_or_default(), pointer_mut(next), 0);
        if key.is_none() {
            attribute.key = 0;
        }
        // SAFETY: both buffers are live and as long as a key, compared above; a null key means the first.
        found(unsafe { bpf(command::MAP_NEXT_KEY, &mut attribute) })
    }

    /// Looks up as many entries as the buffers hold. `position` is the kernel's cursor: `None` inside at the
    /// beginning, and to be handed back as it is.
    pub(crate) fn lookup_batch(
        &self,
        position: &mut Option<[u8; 64]>,
        keys: &mut [u8],
        values: &mut [u8],
    ) -> io::Result<Batch> {
        let room = keys.len() / (self.info.key_size as usize).max(1);
        if values.len() / self.value_length.max(1) < room || self.info.key_size as usize > 64 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut out = [0_u8; 64];
        let mut attribute = BatchAttribute {
            in_batch: position.as_ref().map_or(0, |position| pointer(position)),
            out_batch: pointer_mut(&mut out),
            keys: pointer_mut(keys),
            values: pointer_mut(values),
            count: room as u32,
            fd: self.fd.as_raw_fd() as u32,
            element_flags: 0,
            flags: 0,
        };
        // SAFETY: the buffers hold `count` keys and values of the map's sizes, computed above; the cursor is a u32
        // (hash) or a key (array), both of which fit into 64 bytes.
        let result = unsafe { bpf(command::MAP_LOOKUP_BATCH, &mut attribute) };
        let end = !found(result)?;
        *position = Some(out);
        Ok(Batch {
            count: (attribute.count as usize).min(room),
            end,
        })
    }

    /// Writes many entries; on failure says how many were written before it.
    pub(crate) fn update_batch(&self, keys: &[u8], values: &[u8]) -> Result<(), (usize, io::Error)> {
        let invalid = || (0, io::Error::from_raw_os_error(libc::EINVAL));
        let (key, value) = (self.info.key_size as usize, self.value_length);
        let count = keys.len() / key.max(1);
        if keys.len() != count * key || values.len() != count * value {
            return Err(invalid());
        }
        let mut attribute = BatchAttribute {
            in_batch: 0,
            out_batch: 0,
            keys: pointer(keys),
            values: pointer(values),
            count: count as u32,
            fd: self.fd.as_raw_fd() as u32,
            element_flags: 0,
            flags: 0,
        };
        // SAFETY: the buffers hold exactly `count` keys and values of the map's sizes; the kernel only reads them.
        match unsafe { bpf(command::MAP_UPDATE_BATCH, &mut attribute) } {
            Ok(_) => Ok(()),
            Err(error) => Err(((attribute.count as usize).min(count), error)),
        }
    }

    /// Maps a mmapable array into memory.
    pub(crate) fn memory(&self) -> io::Result<Memory> {
        let stride = (self.info.value_size as usize).next_multiple_of(8);
        let length = stride * self.info.max_entries as usize;
        if self.info.kind != map_type::ARRAY || self.info.flags & MMAPABLE == 0 || length == 0 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // SAFETY: a fresh shared mapping at an address that the kernel chooses; it touches no memory of ours.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                self.fd.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Memory {
            address,
            length,
            stride,
        })
    }
}

impl AsFd for MapFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn found(result: io::Result<c_long>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// How many CPUs per-CPU maps have values for.
pub(crate) fn possible_cpus() -> io::Result<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = text.trim().rsplit(['-', ',']).next().unwrap_or_default();
    let last: usize = last
        .parse()
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    Ok(last + 1)
}

/// The values of a mmapable array, shared with the kernel. All access is by atomic words.
#[derive(Debug)]
pub(crate) struct Memory {
    address: NonNull<c_void>,
    length: usize,
    stride: usize,
}

// SAFETY: the mapping belongs to no thread, and it is only ever read and written by atomic operations.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// All of it as 64-bit words.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping lives as long as `self`, is page aligned and a multiple of 8 long (strides are), any
        // bit pattern is valid, and nothing reads or writes it but by atomics.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr().cast(), self.length / 8) }
    }

    /// One element as 32-bit words; `None` beyond the end.
    pub(crate) fn element(&self, index: u32) -> Option<&[AtomicU32]> {
        let halves = self.stride / 4;
        let first = index as usize * halves;
        // SAFETY: as in `words`, in halves; a program that mixes 32-bit and 64-bit stores to one word does so only
        // on different arrays.
        let all: &[AtomicU32] =
            unsafe { std::slice::from_raw_parts(self.address.as_ptr().cast(), self.length / 4) };
        all.get(first..first + halves)
    }

    /// One element as 64-bit words; `None` beyond the end.
    pub(crate) fn element_words(&self, index: u32) -> Option<&[AtomicU64]> {
        let words = self.stride / 8;
        let first = index as usize * words;
        self.words().get(first..first + words)
    }

    /// How many elements there are.
    pub(crate) fn len(&self) -> u32 {
        (self.length / self.stride) as u32
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and no borrow of it outlives `self`.
        unsafe { libc::munmap(self.address.as_ptr(), self.length) };
    }
}

/// Pins an object below a BPF file system.
pub(crate) fn object_pin(path: &Path, object: BorrowedFd<'_>) -> io::Result<()> {
    let path = path_string(path)?;
    let mut attribute = ObjectAttribute {
        path: path.as_ptr() as u64,
        fd: object.as_raw_fd() as u32,
        flags: 0,
    };
    // SAFETY: the path is a live string that ends with zero.
    unsafe { bpf(command::OBJ_PIN, &mut attribute)? };
    Ok(())
}

/// Opens a pinned object.
pub(crate) fn object_get(path: &Path) -> io::Result<OwnedFd> {
    let path = path_string(path)?;
    let mut attribute = ObjectAttribute {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    // SAFETY: the path is a live string that ends with zero; the command returns a new descriptor.
    unsafe { bpf_fd(command::OBJ_GET, &mut attribute) }
}

/// Attaches a program to a cgroup; detached when the last descriptor and pin are gone.
pub(crate) fn link_cgroup(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    link_create(program, cgroup.as_raw_fd() as u32, attach_type, 0)
}

/// Attaches a program to an interface of the calling thread's network namespace.
pub(crate) fn link_tcx(program: BorrowedFd<'_>, interface: u32, attach_type: u32) -> io::Result<OwnedFd> {
    link_create(program, interface, attach_type, 0)
}

/// Attaches an XDP program to an interface of the calling thread's network namespace, in the mode that the flag says. EBUSY:
/// another's program is there.
pub(crate) fn link_xdp(program: BorrowedFd<'_>, interface: u32, mode: u32) -> io::Result<OwnedFd> {
    link_create(program, interface, attach_type::XDP, mode)
}

fn link_create(program: BorrowedFd<'_>, target: u32, attach_type: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut attribute = LinkAttribute {
        program: program.as_raw_fd() as u32,
        target,
        attach_type,
        flags,
        tcx: [0; 4],
    };
    // SAFETY: the attribute holds no pointer; the command returns a new descriptor.
    unsafe { bpf_fd(command::LINK_CREATE, &mut attribute) }
}

/// Replaces a link's program in one step.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attribute = [link.as_raw_fd() as u32, program.as_raw_fd() as u32, 0, 0];
    // SAFETY: the attribute holds no pointer.
    unsafe { bpf(command::LINK_UPDATE, &mut attribute)? };
    Ok(())
}

/// Detaches a link, whoever else holds it.
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attribute = [link.as_raw_fd() as u32];
    // SAFETY: the attribute holds no pointer.
    unsafe { bpf(command::LINK_DETACH, &mut attribute)? };
    Ok(())
}

/// Loads a program given as raw instructions; for the handful of instructions that need no object.
pub(crate) fn program_load(kind: u32, attach_type: u32, instructions: &[u64]) -> io::Result<OwnedFd> {
    let mut name = [0; 16];
    name[..5].copy_from_slice(b"shunt");
    let mut attribute = LoadAttribute {
        kind,
        instruction_count: instructions.len() as u32,
        instructions: pointer(instructions),
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name,
        interface: 0,
        expected_attach_type: attach_type,
    };
    // SAFETY: instructions and licence are live and as long as said; the verifier judges the instructions.
    unsafe { bpf_fd(command::PROG_LOAD, &mut attribute) }
}

/// Runs a program once on a packet and gives its return value.
pub(crate) fn program_run(program: BorrowedFd<'_>, packet: &[u8]) -> io::Result<u32> {
    let mut attribute = TestRunAttribute {
        program: program.as_raw_fd() as u32,
        result: 0,
        data_size_in: packet.len() as u32,
        data_size_out: 0,
        data_in: pointer(packet),
        data_out: 0,
        repeat: 1,
        duration: 0,
        context_size_in: 0,
        context_size_out: 0,
        context_in: 0,
        context_out: 0,
    };
    // SAFETY: the packet is live and as long as said; nothing is written but the attribute.
    unsafe { bpf(command::PROG_TEST_RUN, &mut attribute)? };
    Ok(attribute.result)
}

/// The cookie of the network namespace that a socket belongs to (kernel 5.14).
pub(crate) fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    const SO_NETNS_COOKIE: i32 = 71;
    socket_option(socket, SO_NETNS_COOKIE)
}

/// A socket's cookie, the one that BPF programs see.
#[cfg(test)]
pub(crate) fn socket_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    socket_option(socket, libc::SO_COOKIE)
}

fn socket_option(socket: BorrowedFd<'_>, option: i32) -> io::Result<u64> {
    let mut value = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: value and length are live, and the length is that of the value.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_mut(&mut value).cast(),
            &mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value)
}

/// Whether an interface takes the tags of VLANs out of the frames that it receives (`rx-vlan-offload`), where XDP does not
/// see them.
pub(crate) fn hides_vlan_tags(interface: &str) -> io::Result<bool> {
    const ETHTOOL_GFLAGS: u32 = 0x25;
    const ETH_FLAG_RXVLAN: u32 = 1 << 8;
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    // struct ethtool_value: the command, and what it gives.
    let mut value = [ETHTOOL_GFLAGS, 0];
    // SAFETY: a struct of integers and arrays, for which all zeroes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1]
        .iter_mut()
        .zip(interface.bytes())
    {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    // SAFETY: the request and what it points to live through the call, and are what the command reads and writes.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value[1] & ETH_FLAG_RXVLAN != 0)
}

/// Waits until one of the descriptors can be read or is at its end, or the time is over. A signal ends it early.
pub(crate) fn wait_readable(
    fds: [BorrowedFd<'_>; 2],
    timeout: Option<std::time::Duration>,
) -> io::Result<[bool; 2]> {
    let mut polled = fds.map(|fd| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    let milliseconds = timeout.map_or(-1, |timeout| {
        i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
    });
    // SAFETY: the array is live and has the length given.
    let result = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, milliseconds) };
    if result < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
        return Ok([false; 2]);
    }
    Ok(polled.map(|polled| polled.revents != 0))
}

/// Borrows the descriptor of a netlink socket, whose crate gives only its number.
pub(crate) fn borrow_netlink(socket: &netlink_sys::Socket) -> BorrowedFd<'_> {
    // SAFETY: the socket owns an open descriptor, and the borrow keeps the socket alive.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}
