//! Every program of the object on this kernel, with what the DaemonSet may do and nothing else: `cargo xtask test kernels`,
//! which runs this in virtual machines and compares what it prints with the table.

mod load;

use caps::{CapSet, Capability, CapsHashSet};
use lab::agent::CAPABILITIES;

use load::Loader;

/// From this version on maps are not charged to `ulimit -l`, which only CAP_SYS_RESOURCE could raise.
const CHARGED_TO_CGROUP: (u32, u32) = (5, 11);

#[test]
fn every_program_loads_with_the_daemon_sets_capabilities() {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    keep_capabilities(&release);
    let loader = Loader::new().unwrap_or_else(|error| panic!("{release}: {error:?}"));
    let mut refused = Vec::new();
    for name in loader.programs() {
        match loader.load(name) {
            Ok(cost) => println!("verified: {name} {} {}", cost.instructions, cost.stack),
            Err(error) => refused.push(format!("{name}: {error:?}")),
        }
    }
    assert!(refused.is_empty(), "{release}refuses:\n{}", refused.join("\n"));
}

/// Takes all other capabilities from this thread.
fn keep_capabilities(release: &str) {
    let capability = |name: &str| {
        let name = format!("CAP_{}", name.to_uppercase());
        name.parse::<Capability>()
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let mut kept: CapsHashSet = CAPABILITIES.into_iter().map(capability).collect();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    if (numbers.next(), numbers.next()) < (Some(CHARGED_TO_CGROUP.0), Some(CHARGED_TO_CGROUP.1)) {
        kept.insert(Capability::CAP_SYS_RESOURCE);
    }
    for (set, kept) in [
        (CapSet::Effective, &kept),
        (CapSet::Inheritable, &CapsHashSet::new()),
        (CapSet::Permitted, &kept),
    ] {
        caps::set(None, set, kept).unwrap_or_else(|error| panic!("{set:?}: {error}"));
    }
    let left = caps::read(None, CapSet::Permitted).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(left, kept);
}
