//! The memory of a map that is mapped.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

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
    /// Maps an array of this length, with so many bytes from one element to the next.
    pub(super) fn of(map: BorrowedFd<'_>, length: usize, stride: usize) -> io::Result<Self> {
        // SAFETY: a fresh shared mapping at an address that the kernel chooses; it touches no memory of ours.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Self {
            address,
            length,
            stride,
        })
    }

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
