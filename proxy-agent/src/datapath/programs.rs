//! The programs of the BPF object, loaded against the pinned maps.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::maps::Map as AyaMap;
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader};
use proxy_common::layout::ProbeKey;
use proxy_common::layout::names::{self, program};
use tracing::warn;

use super::error::{Context, DatapathError};
use super::instance::Instance;
use super::map::Map;
use super::options::XdpMode;
use super::size::MapSizes;
use super::specification;
use super::sys::MapFd;

/// Lines of the verifier's log that an error shows.
const LOG_LINES: usize = 12;

/// The loaded programs by name.
#[derive(Debug)]
pub(super) struct Programs {
    loaded: BTreeMap<&'static str, OwnedFd>,
    /// That of uplinks, where it is wanted and the kernel takes it.
    xdp: Option<OwnedFd>,
    /// What they tell of frames that the agent waits for, if they do.
    probes: Option<Map<ProbeKey, u32>>,
}

/// Programs on interfaces.
const INTERFACE: [&str; 6] = [
    program::FROM_POD,
    program::TO_POD,
    program::FROM_NETWORK,
    program::TO_NETWORK,
    program::FROM_NETWORK_L3,
    program::TO_NETWORK_L3,
];

impl Programs {
    /// Loads every program of the object; all or none, but for XDP, which TC does without.
    pub(super) fn load(object: &[u8], instance: &Instance, mode: XdpMode) -> Result<Self, DatapathError> {
        let maps = specification::maps(&MapSizes::for_budget(0, 1));
        let mut loader = EbpfLoader::new();
        // No program is relocated against the kernel's types: its BTF need not be read.
        loader.btf(None);
        for map in &maps {
            loader.map_pin_path(map.name, instance.newest(map.name));
        }
        let mut ebpf = loader.load(object).map_err(|error| {
            DatapathError::Refused(format!("the BPF object can't be loaded: {}", chain(&error)))
        })?;
        let probes = probes(&ebpf)?;
        let names = INTERFACE.into_iter().chain(program::CGROUP);
        let loaded = names.map(|name| Ok((name, load(&mut ebpf, name)?)));
        Ok(Self {
            loaded: loaded.collect::<Result<_, DatapathError>>()?,
            xdp: match mode {
                XdpMode::Off => None,
                // For a program that takes several buffers generic XDP copies the packet into one that has lost the length of
                // its link header (skb_pp_cow_data, seen on 6.18): TC would read what passes from the wrong place on.
                XdpMode::Generic => load_xdp(&mut ebpf, &[program::XDP_UPLINK]),
                _ => load_xdp(&mut ebpf, &[program::XDP_UPLINK_FRAGS, program::XDP_UPLINK]),
            },
            probes,
        })
    }

    /// The XDP program.
    pub(super) fn xdp(&self) -> Option<BorrowedFd<'_>> {
        self.xdp.as_ref().map(AsFd::as_fd)
    }

    /// PROBES of these programs.
    pub(super) fn probes(&self) -> Option<&Map<ProbeKey, u32>> {
        self.probes.as_ref()
    }

    /// A program.
    pub(super) fn get(&self, name: &'static str) -> Result<BorrowedFd<'_>, DatapathError> {
        let found = self.loaded.get(name).map(AsFd::as_fd);
        found.ok_or_else(|| missing(name))
    }
}

fn probes(ebpf: &Ebpf) -> Result<Option<Map<ProbeKey, u32>>, DatapathError> {
    let Some(AyaMap::HashMap(map)) = ebpf.map(names::PROBES) else {
        return Ok(None);
    };
    let fd = map.fd().as_fd().try_clone_to_owned().call("dup", names::PROBES)?;
    let fd = MapFd::from_fd(fd).call("BPF_OBJ_GET_INFO_BY_FD", names::PROBES)?;
    Ok(Some(Map::new(fd, names::PROBES)?))
}

fn missing(name: &str) -> DatapathError {
    DatapathError::Program {
        name: name.to_owned(),
        reason: "the BPF object holds no such program of the right type".to_owned(),
    }
}

/// The first of these programs that the kernel takes, as before 5.18 it does not take the one for frames in several buffers;
/// none if it takes none, or the object has none.
fn load_xdp(ebpf: &mut Ebpf, names: &[&'static str]) -> Option<OwnedFd> {
    for name in names.iter().copied() {
        if ebpf.program(name).is_none() {
            continue;
        }
        match load(ebpf, name) {
            Ok(program) => return Some(program),
            Err(error) => warn!(%error, "an XDP program is not loaded"),
        }
    }
    None
}

fn load(ebpf: &mut Ebpf, name: &'static str) -> Result<OwnedFd, DatapathError> {
    let program = ebpf.program_mut(name).ok_or_else(|| missing(name))?;
    let (result, fd) = match program {
        Program::SchedClassifier(program) => (program.load(), program.fd()),
        Program::CgroupSockAddr(program) => (program.load(), program.fd()),
        Program::SockOps(program) => (program.load(), program.fd()),
        Program::Xdp(program) => (program.load(), program.fd()),
        _ => return Err(missing(name)),
    };
    result.map_err(|error| refused(name, &error))?;
    let fd = fd.map_err(|error| refused(name, &error))?;
    Ok(fd.as_fd().try_clone_to_owned().call("dup", name)?)
}

fn refused(name: &str, error: &ProgramError) -> DatapathError {
    let reason = match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            let log = verifier_log.to_string();
            let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
            let tail = lines
                .get(lines.len().saturating_sub(LOG_LINES)..)
                .unwrap_or_default();
            let hint = match io_error.raw_os_error() {
                Some(libc::EPERM) => " (needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN)",
                _ => "",
            };
            format!("{io_error}{hint}\n{}", tail.join("\n"))
        }
        other => chain(other),
    };
    DatapathError::Program {
        name: name.to_owned(),
        reason,
    }
}

/// An error with its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<String> = sources.map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::datapath::sys::{self, attach_type, program_type};
    use crate::datapath::testing::Place;
    use crate::datapath::{OBJECT, map};

    /// Programs of two instructions: those on interfaces let everything pass to the next, those on cgroups allow.
    pub(crate) fn tiny() -> Programs {
        let load = |kind, attach, result: i32| {
            sys::program_load(kind, attach, &[(result as u32 as u64) << 32 | 0xb7, 0x95]).unwrap()
        };
        let interface = INTERFACE
            .into_iter()
            .map(|name| (name, load(program_type::SCHED_CLS, 0, -1)));
        let cgroup = program::CGROUP.into_iter().zip(attach_type::CGROUP);
        let cgroup = cgroup.map(|(name, attach)| {
            let kind = match name {
                program::SOCK_OPS => program_type::SOCK_OPS,
                _ => program_type::CGROUP_SOCK_ADDR,
            };
            (name, load(kind, attach, 1))
        });
        Programs {
            loaded: interface.chain(cgroup).collect(),
            // XDP_PASS
            xdp: Some(load(program_type::XDP, attach_type::XDP, 2)),
            probes: None,
        }
    }

    /// CONFIG is too small for what the programs read of it: the verifier refuses.
    #[test]
    fn the_verifiers_refusal_names_the_program_and_shows_the_end_of_the_log() {
        let place = Place::new();
        let instance = Instance::new(&place.instance);
        instance.prepare().unwrap();
        for mut definition in specification::maps(&MapSizes::for_budget(0, 1)) {
            if definition.name == names::CONFIG {
                definition.value_size = 8;
            }
            let map = map::create(&definition).unwrap();
            sys::object_pin(&instance.map(definition.name), map.as_fd()).unwrap();
        }
        let error = Programs::load(OBJECT, &instance, XdpMode::Auto).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("program from_pod was refused by the kernel: "),
            "{text}"
        );
        assert!(
            text.contains("invalid access to map value, value_size=8"),
            "{text}"
        );
        assert!(text.lines().count() <= LOG_LINES + 1, "{text}");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let error =
            Programs::load(b"nonsense", &Instance::new("/nowhere".as_ref()), XdpMode::Auto).unwrap_err();
        assert!(
            error.to_string().starts_with("the BPF object can't be loaded: "),
            "{error}"
        );
    }
}
