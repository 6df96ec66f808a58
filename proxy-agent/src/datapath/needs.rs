//! What the programs need of a kernel. Each is tried: distributions bring features back into versions that are older than they.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;

use super::error::DatapathError;
use super::sys::{self, attach_type, program_type};

/// The first version of the kernel that has it all.
pub(super) const OLDEST: (u32, u32) = (6, 1);

/// Something without which the programs can't do their work.
pub(super) struct Need {
    /// Its name as a check of the doctor's.
    pub(super) name: &'static str,
    /// What it is, in the field's words.
    pub(super) what: &'static str,
    /// Since which version kernels have it.
    pub(super) since: (u32, u32),
    /// What comes of it.
    pub(super) gives: &'static str,
    /// Tries it.
    pub(super) attempt: fn() -> io::Result<()>,
}

pub(super) const NEEDS: [Need; 4] = [
    Need {
        name: "compare_and_swap",
        what: "compare-and-swap in BPF programs",
        since: (5, 12),
        gives: "flows and affinity are noted without races",
        attempt: compare_and_swap,
    },
    Need {
        name: "netns_cookie",
        what: "SO_NETNS_COOKIE",
        since: (5, 14),
        gives: "the host's sockets are told from pods'",
        attempt: netns_cookie,
    },
    Need {
        name: "sock_ops",
        what: "bpf_get_netns_cookie in sock_ops",
        since: (5, 15),
        gives: "a pod's address is learnt for session affinity",
        attempt: cookie_in_sock_ops,
    },
    Need {
        name: "bpf_set_retval",
        what: "bpf_set_retval in connect hooks",
        since: (6, 1),
        gives: "a Service without endpoints refuses connections at once",
        attempt: set_retval,
    },
];

impl Need {
    /// It with its version.
    pub(super) fn text(&self) -> String {
        format!("{} (Linux {}.{})", self.what, self.since.0, self.since.1)
    }
}

/// Refuses a kernel that lacks some of it, before anything is touched. What could not be tried is not said to be missing.
pub(super) fn check() -> Result<(), DatapathError> {
    lack(&NEEDS).map_or(Ok(()), |lack| Err(DatapathError::Refused(lack)))
}

fn lack(needs: &[Need]) -> Option<String> {
    let is_missing = |need: &&Need| (need.attempt)().is_err_and(|error| !is_a_right(&error));
    let missing: Vec<_> = needs.iter().filter(is_missing).map(Need::text).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "this kernel lacks {}; Linux {}.{} and later have all that is needed: `shunt doctor` says what this one has",
            missing.join(", "),
            OLDEST.0,
            OLDEST.1
        )
    })
}

/// Whether an error is of missing rights.
pub(super) fn is_a_right(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error() == Some(libc::EPERM)
}

/// r0 = 0; exit
const NOTHING: [u64; 2] = [0xb7, 0x95];

fn compare_and_swap() -> io::Result<()> {
    // r0 = 0; r1 = 0; *(u64 *)(r10 - 8) = r1; r0 = cmpxchg(r10 - 8, r0, r1)
    let swap = [0xb7, 0x01b7, 0xfff8_1a7b, 0xf1 << 32 | 0xfff8_1adb];
    let program = [&swap[..], &NOTHING].concat();
    sys::program_load(program_type::SCHED_CLS, 0, &program).map(drop)
}

fn netns_cookie() -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    sys::netns_cookie(socket.as_fd()).map(drop)
}

fn cookie_in_sock_ops() -> io::Result<()> {
    // bpf_get_netns_cookie(r1)
    let program = [&[122 << 32 | 0x85][..], &NOTHING].concat();
    sys::program_load(program_type::SOCK_OPS, attach_type::SOCK_OPS, &program).map(drop)
}

fn set_retval() -> io::Result<()> {
    // r1 = -111; bpf_set_retval(r1)
    let program = [
        &[(-111_i32 as u32 as u64) << 32 | 0x01b7, 187 << 32 | 0x85][..],
        &NOTHING,
    ];
    sys::program_load(
        program_type::CGROUP_SOCK_ADDR,
        attach_type::CGROUP[0],
        &program.concat(),
    )
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEATURES: &str = include_str!("../../../docs/features.md");

    #[test]
    fn this_kernel_has_all_that_is_needed() {
        assert!(check().is_ok());
        for need in &NEEDS {
            assert!((need.attempt)().is_ok(), "{}", need.name);
        }
    }

    #[test]
    fn the_newest_need_says_which_kernels_are_served() {
        assert_eq!(NEEDS.iter().map(|need| need.since).max(), Some(OLDEST));
    }

    /// The doctor and the documentation say one thing.
    #[test]
    fn the_table_of_kernels_in_the_documentation_has_every_need() {
        let rows: Vec<_> = FEATURES
            .lines()
            .filter_map(|line| line.strip_suffix(" | needed |"))
            .collect();
        let needs: Vec<_> = NEEDS
            .iter()
            .map(|need| {
                format!(
                    "| {}.{} | {}: {}",
                    need.since.0, need.since.1, need.what, need.gives
                )
            })
            .collect();
        assert_eq!(rows, needs);
    }

    #[test]
    fn what_is_missing_is_named_with_its_version_and_missing_rights_are_not() {
        let need = |what, since, attempt| Need {
            name: "some",
            what,
            since,
            gives: "something",
            attempt,
        };
        let needs = [
            need("what it has", (5, 1), || Ok(())),
            need("one thing", (5, 12), || {
                Err(io::Error::from_raw_os_error(libc::EINVAL))
            }),
            need("what nobody may try", (5, 13), || {
                Err(io::Error::from_raw_os_error(libc::EPERM))
            }),
            need("another", (5, 14), || {
                Err(io::Error::from_raw_os_error(libc::ENOPROTOOPT))
            }),
        ];
        let said = lack(&needs).unwrap();
        assert!(
            said.starts_with(
                "this kernel lacks one thing (Linux 5.12), another (Linux 5.14); Linux 6.1 and later"
            ),
            "{said}"
        );
        assert_eq!(lack(&needs[..1]), None);
    }

    #[test]
    fn missing_rights_are_not_a_missing_feature() {
        assert!(is_a_right(&io::Error::from_raw_os_error(libc::EPERM)));
        assert!(!is_a_right(&io::Error::from_raw_os_error(libc::EACCES)));
        assert!(!is_a_right(&io::Error::from_raw_os_error(libc::EINVAL)));
    }
}
