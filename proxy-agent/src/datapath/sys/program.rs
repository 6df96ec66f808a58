//! Programs of a few instructions.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::super::abi::{LoadAttribute, RawProgramInfo, TestRunAttribute};
use super::{bpf, bpf_fd, command, info, pointer};

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

/// The id by which the kernel knows a program.
pub(crate) fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(info::<RawProgramInfo>(program)?.id)
}
