//! What has to be done once on a node and needs more rights than the agent has: the BPF file system and the reserved
//! ports.

use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use super::error::{Context, DatapathError};
use super::instance::{Instance, is_bpf_file_system};
use super::layouts::{self, OLDER};
use super::options::{NodePortRange, SnatPorts};
use super::reserved;

/// What was done on the node; what was there already is not named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Where a BPF file system was mounted.
    pub mounted: Option<PathBuf>,
    /// Whether ports were reserved or given back.
    pub ports_changed: bool,
}

/// Prepares the node for an agent with this instance and these ports, in the calling thread's network namespace. A
/// second time there is nothing to do.
pub fn run(instance: &Path, ports: SnatPorts, node_ports: NodePortRange) -> Result<Prepared, DatapathError> {
    let mounted = ensure_file_system(instance)?;
    let instance = Instance::new(instance);
    instance.check_file_system()?;
    // An older layout is the agent's to convert: until it does, what is done here belongs to that one.
    let instance = layouts::present(&instance, OLDER)?;
    instance.make_directories()?;
    let lock = instance.lock();
    let before = reserved::text()?;
    match lock {
        Ok(_lock) => reserved::reserve(&instance, ports, node_ports)?,
        // Its range is in use: to take it away would hand its ports to others.
        Err(error) if !reserved::holds(ports.first(), ports.count())? => return Err(error),
        Err(_) => {}
    }
    Ok(Prepared {
        mounted,
        ports_changed: reserved::text()? != before,
    })
}

/// Mounts a BPF file system on the directory that holds the instance, unless it lies on one.
fn ensure_file_system(instance: &Path) -> Result<Option<PathBuf>, DatapathError> {
    let existing = instance
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    if is_bpf_file_system(existing)? {
        return Ok(None);
    }
    let parent = instance.parent().filter(|parent| parent.is_dir()).ok_or_else(|| {
        DatapathError::Refused(format!(
            "--instance {}: the directory that holds it is missing, so no BPF file system can be mounted there; /sys/fs/bpf \
             is where kernels with BPF have one",
            instance.display()
        ))
    })?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), parent, Some("bpf"), flags, Some("mode=0700"))
        .map_err(std::io::Error::from)
        .file("mount", parent)?;
    Ok(Some(parent.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::datapath::testing::{Namespace, Place};

    const NONE: Option<&str> = None;
    const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

    fn reserved_ports() -> String {
        fs::read_to_string(RESERVED).unwrap().trim().to_owned()
    }

    #[test]
    fn ports_are_reserved_once_and_the_agent_finds_nothing_left_to_write() {
        let (node, place) = (Namespace::new(), Place::new());
        let instance = place.instance.clone();
        let prepare = move || {
            (
                run(&instance, SnatPorts::default(), NodePortRange::default()).unwrap(),
                reserved_ports(),
            )
        };
        let (first, ports) = node.run(prepare.clone());
        assert_eq!(
            (first.mounted, first.ports_changed, ports.as_str()),
            (None, true, "30000-32767,45000-60999")
        );
        assert_eq!(node.run(prepare.clone()).0, Prepared::default());

        node.run(make_sysctls_read_only);
        drop(place.start(&node).unwrap());
        assert_eq!(node.run(prepare).0, Prepared::default());
    }

    /// From now on this thread's mounts are its own.
    fn private_mounts() {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).unwrap();
    }

    /// As a container has them: in this thread's mount namespace alone.
    fn make_sysctls_read_only() {
        private_mounts();
        let path = Path::new("/proc/sys");
        mount(Some(path), path, NONE, MsFlags::MS_BIND, NONE).unwrap();
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(NONE, path, NONE, flags, NONE).unwrap();
        assert!(fs::write(RESERVED, "80\n").is_err(), "/proc/sys can be written");
    }

    #[test]
    fn another_range_is_taken_when_no_agent_runs_and_refused_when_one_does() {
        let (node, place) = (Namespace::new(), Place::new());
        let agent = place.start(&node).unwrap();
        let instance = place.instance.clone();
        let other = move || {
            run(
                &instance,
                SnatPorts::new(33_000, 44_999).unwrap(),
                NodePortRange::default(),
            )
        };
        let refused = node.run({
            let other = other.clone();
            move || (other().unwrap_err().to_string(), reserved_ports())
        });
        assert!(refused.0.contains("another agent runs"), "{}", refused.0);
        assert_eq!(refused.1, "30000-32767,45000-60999");
        drop(agent);
        let taken = node.run(move || (other().unwrap().ports_changed, reserved_ports()));
        assert_eq!(taken, (true, "30000-32767,33000-44999".to_owned()));
    }

    #[test]
    fn a_missing_bpf_file_system_is_mounted_once() {
        let node = Namespace::new();
        let directory = std::env::temp_dir().join(format!("shunt-prepare-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let instance = directory.join("shunt");
        let (first, second, on_bpffs) = node.run(move || {
            private_mounts();
            let first = run(&instance, SnatPorts::default(), NodePortRange::default()).unwrap();
            let second = run(&instance, SnatPorts::default(), NodePortRange::default()).unwrap();
            (first, second, is_bpf_file_system(&instance).unwrap())
        });
        assert_eq!(first.mounted.as_deref(), Some(directory.as_path()));
        assert_eq!((second, on_bpffs), (Prepared::default(), true));
        assert_eq!(
            fs::read_dir(&directory).unwrap().count(),
            0,
            "the machine's own mounts are untouched"
        );
        fs::remove_dir(&directory).unwrap();
    }

    #[test]
    fn an_instance_whose_directory_is_missing_is_refused_by_name() {
        let error = run(
            Path::new("/tmp/shunt-nowhere/a/b"),
            SnatPorts::default(),
            NodePortRange::default(),
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("--instance /tmp/shunt-nowhere/a/b") && error.contains("/sys/fs/bpf"),
            "{error}"
        );
    }
}
