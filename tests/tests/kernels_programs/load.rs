//! Programs loaded one by one, with what the verifier says of their cost.

use std::ffi::{CStr, c_int};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use aya::maps::MapData;
use aya_obj::generated::{BPF_F_XDP_HAS_FRAGS, bpf_attach_type, bpf_attr, bpf_cmd, bpf_prog_type};
use aya_obj::{EbpfSectionKind, Map, Object, Program, ProgramSection};

/// BPF_LOG_STATS: the verifier's log holds its statistics alone.
const STATISTICS: u32 = 4;
const LOG: usize = 1 << 16;
/// Lines of a refusal that are shown.
const LINES: usize = 30;

/// What a program costs the verifier.
pub(crate) struct Cost {
    /// Instructions that it went through.
    pub(crate) instructions: u32,
    /// Bytes of stack of the program itself and of the function that takes most.
    pub(crate) stack: u32,
}

/// The object with its maps made.
pub(crate) struct Loader {
    object: Object,
    /// The types of its functions, by which the verifier knows the global ones.
    types: OwnedFd,
    /// They must live until the programs are loaded.
    _maps: Vec<MapData>,
}

impl Loader {
    pub(crate) fn new() -> Result<Self> {
        // Where `cargo xtask build-ebpf` leaves it.
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .with_file_name("target")
            .join("bpf/shunt.o");
        let bytes = std::fs::read(&path)
            .with_context(|| format!("reading {}: run `cargo xtask build-ebpf`", path.display()))?;
        let mut object = Object::parse(&bytes).context("reading the object")?;
        let types = load_types(&mut object).context("loading the object's types")?;
        let mut maps = Vec::new();
        for (name, map) in std::mem::take(&mut object.maps) {
            let made = MapData::create(map.clone(), &name, None)
                .with_context(|| format!("making the map {name}"))?;
            fill(&map, &made).with_context(|| format!("filling the map {name}"))?;
            maps.push((name, map, made));
        }
        let sections = object.functions.keys().map(|(section, _)| *section).collect();
        let made = maps
            .iter()
            .map(|(name, map, made)| (name.as_str(), made.fd().as_fd().as_raw_fd(), map));
        object
            .relocate_maps(made, &sections)
            .context("naming the maps to the programs")?;
        object.relocate_calls(&sections).context("linking the programs")?;
        Ok(Self {
            object,
            types,
            _maps: maps.into_iter().map(|(_, _, made)| made).collect(),
        })
    }

    /// The programs' names, in order.
    pub(crate) fn programs(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.object.programs.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Loads a program and lets it go again. An error has the verifier's reason.
    pub(crate) fn load(&self, name: &str) -> Result<Cost> {
        let program = self
            .object
            .programs
            .get(name)
            .context("it is not in the object")?;
        let mut log = vec![0; LOG];
        let loaded = self.try_load(program, STATISTICS, &mut log);
        if let Err(error) = loaded {
            log.resize(16 << 20, 0);
            // Once more, for the reason.
            drop(self.try_load(program, STATISTICS | 1, &mut log));
            let lines: Vec<_> = text(&log).lines().collect();
            bail!(
                "{error}\n{}",
                lines[lines.len().saturating_sub(LINES)..].join("\n")
            );
        }
        cost(text(&log)).with_context(|| format!("reading the verifier's statistics: {}", text(&log)))
    }

    fn try_load(&self, program: &Program, level: u32, log: &mut [u8]) -> std::io::Result<OwnedFd> {
        let function = &self.object.functions[&program.function_key()];
        let (kind, attach, flags) = kind(&program.section);
        // SAFETY: a union of structs of integers, for which all zeroes are valid.
        let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
        // SAFETY: the member that BPF_PROG_LOAD reads; all of it is initialised.
        let load = unsafe { &mut attributes.__bindgen_anon_3 };
        load.prog_type = kind as u32;
        load.expected_attach_type = attach;
        load.prog_flags = flags;
        load.insns = function.instructions.as_ptr() as u64;
        load.insn_cnt = function.instructions.len() as u32;
        load.license = program.license.as_ptr() as u64;
        let functions = function.func_info.func_info_bytes();
        load.prog_btf_fd = self.types.as_raw_fd() as u32;
        load.func_info = functions.as_ptr() as u64;
        load.func_info_cnt = function.func_info.len() as u32;
        load.func_info_rec_size = function.func_info_rec_size as u32;
        load.log_level = level;
        load.log_buf = log.as_mut_ptr() as u64;
        load.log_size = log.len() as u32;
        let descriptor = bpf(bpf_cmd::BPF_PROG_LOAD, &mut attributes)?;
        // SAFETY: the kernel has just made it, for nobody else.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }
}

/// Gives the kernel the object's types, as the agent's loader does: without what it does not know.
fn load_types(object: &mut Object) -> Result<OwnedFd> {
    let known = aya::features().btf().context("this kernel has no BTF")?;
    let types = object
        .fixup_and_sanitize_btf(known)?
        .context("the object has none")?
        .to_bytes();
    // SAFETY: a union of structs of integers, for which all zeroes are valid.
    let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the member that BPF_BTF_LOAD reads; all of it is initialised.
    let load = unsafe { &mut attributes.__bindgen_anon_7 };
    load.btf = types.as_ptr() as u64;
    load.btf_size = types.len() as u32;
    let descriptor = bpf(bpf_cmd::BPF_BTF_LOAD, &mut attributes)?;
    // SAFETY: the kernel has just made it, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Type, expected attach type and flags of a program.
fn kind(section: &ProgramSection) -> (bpf_prog_type, u32, u32) {
    match section {
        ProgramSection::SchedClassifier => (bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, 0, 0),
        ProgramSection::Xdp { frags, .. } => (
            bpf_prog_type::BPF_PROG_TYPE_XDP,
            bpf_attach_type::BPF_XDP as u32,
            if *frags { BPF_F_XDP_HAS_FRAGS } else { 0 },
        ),
        ProgramSection::SockOps => (
            bpf_prog_type::BPF_PROG_TYPE_SOCK_OPS,
            bpf_attach_type::BPF_CGROUP_SOCK_OPS as u32,
            0,
        ),
        ProgramSection::CgroupSockAddr { attach_type } => (
            bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
            bpf_attach_type::from(*attach_type) as u32,
            0,
        ),
        other => panic!("a program of a kind that the object did not have: {other:?}"),
    }
}

/// Writes the content that the object gives a map; constants can't be written afterwards.
fn fill(map: &Map, made: &MapData) -> std::io::Result<()> {
    let (descriptor, content) = (made.fd().as_fd().as_raw_fd() as u32, map.data());
    if !content.is_empty() {
        let key = 0_u32;
        // SAFETY: a union of structs of integers, for which all zeroes are valid.
        let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
        // SAFETY: the member that BPF_MAP_UPDATE_ELEM reads; all of it is initialised.
        let update = unsafe { &mut attributes.__bindgen_anon_2 };
        update.map_fd = descriptor;
        update.key = (&raw const key) as u64;
        update.__bindgen_anon_1.value = content.as_ptr() as u64;
        bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attributes)?;
    }
    if map.section_kind() == EbpfSectionKind::Rodata {
        // SAFETY: a union of structs of integers, for which all zeroes are valid.
        let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
        attributes.__bindgen_anon_2.map_fd = descriptor;
        bpf(bpf_cmd::BPF_MAP_FREEZE, &mut attributes)?;
    }
    Ok(())
}

fn bpf(command: bpf_cmd, attributes: &mut bpf_attr) -> std::io::Result<c_int> {
    // SAFETY: the attributes and all that they point to live through the call, each as long as said.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as c_int,
            std::ptr::from_mut(attributes),
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(result as c_int)
}

fn text(log: &[u8]) -> &str {
    let log = CStr::from_bytes_until_nul(log).unwrap_or_default();
    log.to_str().unwrap_or_default()
}

/// Reads `stack depth 96+320+40`, a number for the program and one for each function, and `processed 1234 insns (limit ...`.
/// From 7.x on each function has a line of its own: `subprog 1 (name) static insns_self 1 insns_total 1 stack 320`.
fn cost(log: &str) -> Option<Cost> {
    let behind = |start: &str| log.lines().find_map(|line| line.strip_prefix(start));
    let depth = behind("stack depth ")?;
    let frames: Vec<&str> = if depth.starts_with("max ") {
        let functions = log.lines().filter(|line| line.starts_with("subprog "));
        functions
            .filter_map(|line| line.rsplit_once(" stack "))
            .map(|(_, frame)| frame)
            .collect()
    } else {
        depth.split('+').collect()
    };
    let frames = frames.iter().map(|frame| frame.trim().parse().ok());
    let frames = frames.collect::<Option<Vec<u32>>>()?;
    let (own, functions) = frames.split_first()?;
    Some(Cost {
        instructions: behind("processed ")?.split(' ').next()?.parse().ok()?,
        stack: own + functions.iter().max().unwrap_or(&0),
    })
}

#[test]
fn the_verifiers_statistics_are_read() {
    let read = |log: &str| cost(log).map(|cost| (cost.instructions, cost.stack));
    let log = "func#0 @0\nverification time 1205 usec\nstack depth 96+40+320+8\n\
               processed 1234 insns (limit 1000000) max_states_per_insn 4 total_states 20 peak_states 20 mark_read 9\n";
    assert_eq!(read(log), Some((1234, 416)));
    assert_eq!(
        read("stack depth 96\nprocessed 1 insns (limit 1000000)\n"),
        Some((1, 96))
    );
    let newer = "verification time 1102919 usec\nstack depth max 256\n\
                 subprog 0 (<unknown>) main insns_self 3651 insns_total 47804 stack 184\n\
                 subprog 1 (<unknown>) static insns_self 495 insns_total 495 stack 40\n\
                 processed 47804 insns (limit 1000000) max_states_per_insn 34 total_states 1720\n";
    assert_eq!(read(newer), Some((47_804, 224)));
    assert_eq!(read("stack depth 96+320\n"), None, "no number of instructions");
}
