//! What a process takes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// CPU time and memory of a process.
pub(crate) struct Usage {
    /// CPU seconds: of itself and its ended children, or of all that have been in its cgroup.
    pub(crate) cpu: f64,
    /// Resident MiB.
    pub(crate) now: f64,
    /// The most there were.
    pub(crate) peak: f64,
    /// Those of them now that are its own data, and no file's or map's.
    pub(crate) data: f64,
    /// MiB of the BPF maps that it has mapped: resident, all of them.
    pub(crate) mapped: f64,
    /// MiB of all BPF maps that it has open, as the kernel charges them.
    pub(crate) maps: f64,
}

impl Usage {
    /// Of this process and its ended children.
    pub(crate) fn of_this() -> Result<Self> {
        let stat = read("/proc/self/stat".into())?;
        let (_, fields) = stat.rsplit_once(") ").context("/proc/self/stat")?;
        // utime, stime, cutime and cstime, counted from the state.
        let ticks: f64 = fields
            .split(' ')
            .skip(11)
            .take(4)
            .filter_map(|ticks| ticks.parse::<f64>().ok())
            .sum();
        Self::with(std::process::id(), ticks / 100.0)
    }

    /// Of a process, in a cgroup that nothing else is in.
    pub(crate) fn of(process: u32, cgroup: &Path) -> Result<Self> {
        Self::with(process, cpu(cgroup)?)
    }

    fn with(process: u32, cpu: f64) -> Result<Self> {
        let place = Path::new("/proc").join(process.to_string());
        let status = read(place.join("status"))?;
        let mebibytes = |key: &str| -> Result<f64> {
            of_line(&status, key).with_context(|| format!("{key} of a process"))
        };
        Ok(Self {
            cpu,
            now: mebibytes("VmRSS:")?,
            peak: mebibytes("VmHWM:")?,
            data: mebibytes("RssAnon:")?,
            mapped: mapped(&read(place.join("smaps"))?),
            maps: maps(&place)?,
        })
    }
}

/// CPU seconds that a cgroup of version 2 has used.
pub(crate) fn cpu(cgroup: &Path) -> Result<f64> {
    let stat = read(cgroup.join("cpu.stat"))?;
    let used = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
    let used: f64 = used
        .and_then(|text| text.parse().ok())
        .context("cpu.stat of a cgroup has no usage_usec")?;
    Ok(used / 1e6)
}

fn read(path: PathBuf) -> Result<String> {
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// MiB in the first line that begins with this.
fn of_line(text: &str, key: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kibibytes / 1024.0)
}

/// What of the mappings is a BPF map's.
fn mapped(smaps: &str) -> f64 {
    let mut is_map = false;
    let mut sum = 0.0;
    for line in smaps.lines() {
        // A mapping's first line begins with its addresses.
        if line.split(' ').next().is_some_and(|first| first.contains('-')) {
            is_map = line.ends_with("bpf-map");
        } else if is_map {
            sum += of_line(line, "Rss:").unwrap_or_default();
        }
    }
    sum
}

/// What the open maps are charged with, each once.
fn maps(place: &Path) -> Result<f64> {
    let mut seen = std::collections::BTreeSet::new();
    let mut bytes = 0.0;
    for entry in std::fs::read_dir(place.join("fdinfo")).context("reading /proc/PID/fdinfo")? {
        // Others come and go meanwhile.
        let Ok(text) = std::fs::read_to_string(entry.context("/proc/PID/fdinfo")?.path()) else {
            continue;
        };
        let of = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key))
                .map(str::trim)
        };
        if let (Some(id), Some(memory)) = (of("map_id:"), of("memlock:"))
            && seen.insert(id.to_owned())
        {
            bytes += memory.parse::<f64>().unwrap_or_default();
        }
    }
    Ok(bytes / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_mapped_of_a_map_counts() {
        let smaps = "7f00-7f08 rw-s 00000000 00:0e 12 anon_inode:bpf-map\nRss:  2048 kB\nPss: 9 kB\n\
                     7f10-7f18 rw-p 00000000 00:00 0 [heap]\nRss:  4096 kB\n\
                     7f20-7f28 rw-s 00000000 00:0e 12 anon_inode:bpf-map\nRss:  1024 kB\n";
        assert_eq!(mapped(smaps), 3.0);
    }

    #[test]
    fn this_process_has_used_something() {
        // A folder that has a cgroup's file.
        let folder = std::env::temp_dir().join(format!("shunt-usage-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("cpu.stat"), "usage_usec 1500000\nuser_usec 1000000\n").unwrap();
        let usage = Usage::of(std::process::id(), &folder);
        std::fs::remove_dir_all(&folder).unwrap();
        let usage = usage.unwrap();
        assert!(usage.peak >= usage.now && usage.now > usage.data && usage.data > 0.0);
        assert_eq!((usage.mapped, usage.maps, usage.cpu), (0.0, 0.0, 1.5));
    }
}
