//! The capabilities of this process, as far as Shunt needs them.

use super::error::{Context, DatapathError};

const NET_ADMIN: u64 = 1 << 12;
/// Stands for the two that were split off it.
const SYS_ADMIN: u64 = 1 << 21;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;

/// Those that are missing, by name.
pub(super) fn missing() -> Result<Vec<&'static str>, DatapathError> {
    const PATH: &str = "/proc/thread-self/status";
    let status = std::fs::read_to_string(PATH).call("read", PATH)?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    let effective = effective.ok_or_else(|| DatapathError::Refused(format!("{PATH} has no line CapEff")))?;
    Ok(missing_of(effective))
}

fn missing_of(effective: u64) -> Vec<&'static str> {
    let needed = [
        ("CAP_BPF", BPF | SYS_ADMIN),
        ("CAP_PERFMON", PERFMON | SYS_ADMIN),
        ("CAP_NET_ADMIN", NET_ADMIN),
    ];
    needed
        .iter()
        .filter(|(_, any)| effective & any == 0)
        .map(|(name, _)| *name)
        .collect()
}

/// Refuses to go on without one of them: what the kernel says then does not name it.
pub(super) fn check() -> Result<(), DatapathError> {
    let missing = missing()?;
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    Err(DatapathError::Refused(format!(
        "the agent lacks {missing}: run it as root, or add {missing} to its container"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_and_the_old_capability_stands_for_the_new() {
        assert_eq!(missing_of(0), ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"]);
        assert_eq!(missing_of(BPF | NET_ADMIN), ["CAP_PERFMON"]);
        assert_eq!(missing_of(SYS_ADMIN), ["CAP_NET_ADMIN"]);
        assert!(missing_of(BPF | PERFMON | NET_ADMIN).is_empty());
        assert!(missing_of(SYS_ADMIN | NET_ADMIN).is_empty());
    }
}
