//! Pins, refusals, reserved ports and cleanup: with a real BPF file system and real namespaces.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use proxy_common::layout::{LAYOUT_VERSION, names};

use super::cleanup::{self, Removed};
use super::error::DatapathError;
use super::instance::{Instance, list};
use super::map;
use super::options::{AttachMode, SnatPorts};
use super::programs::tests::tiny;
use super::sys::{self, LinkTarget, MapDefinition, map_type};
use super::testing::{Namespace, Place, start};
use super::{Datapath, reserved};

/// All links of an instance, held open: only a real detachment ends them.
fn held_links(place: &Place) -> Vec<OwnedFd> {
    let instance = Instance::new(&place.instance);
    let directories = [instance.cgroup_links(), instance.tcx_links()];
    let open = |directory: PathBuf| {
        let names = list(&directory).unwrap();
        names
            .into_iter()
            .map(move |name| sys::object_get(&directory.join(name)).unwrap())
    };
    directories.into_iter().flat_map(open).collect()
}

fn refusal(result: Result<Datapath, DatapathError>) -> String {
    result.map(drop).unwrap_err().to_string()
}

fn pin(place: &Place, name: &str, definition: &MapDefinition<'_>) {
    let instance = Instance::new(&place.instance);
    instance.prepare().unwrap();
    let fd = map::create(definition).unwrap();
    sys::object_pin(&instance.map(name), fd.as_fd()).unwrap();
}

fn reserved_ports(node: &Namespace) -> String {
    node.run(|| {
        fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports")
            .unwrap()
            .trim()
            .to_owned()
    })
}

fn reserve_by_hand(node: &Namespace, ports: &'static str) {
    node.run(move || fs::write("/proc/sys/net/ipv4/ip_local_reserved_ports", ports).unwrap());
}

#[test]
fn a_pinned_map_that_does_not_fit_is_refused_by_name_and_nothing_is_made() {
    let (node, place) = (Namespace::new(), Place::new());
    let definition = MapDefinition {
        name: names::SERVICES,
        kind: map_type::ARRAY,
        key_size: 4,
        value_size: 40,
        max_entries: 8,
        flags: sys::MMAPABLE,
    };
    pin(&place, names::SERVICES, &definition);
    let text = refusal(place.start(&node));
    let path = place.instance.join(format!("v{LAYOUT_VERSION}/maps/SERVICES"));
    for part in [
        path.to_str().unwrap(),
        "value size 40 where this version has 32",
        "traffic goes on",
        "shunt cleanup",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let instance = Instance::new(&place.instance);
    assert_eq!(list(&instance.maps()).unwrap(), [names::SERVICES]);
    assert!(list(&instance.cgroup_links()).unwrap().is_empty());
}

#[test]
fn another_layout_is_refused_by_name() {
    for (version, age) in [(99, "newer"), (0, "older")] {
        let (node, place) = (Namespace::new(), Place::new());
        fs::create_dir_all(place.instance.join(format!("v{version}"))).unwrap();
        let text = refusal(place.start(&node));
        assert!(
            text.contains(&format!("{age} layout version {version}")),
            "{text}"
        );
        assert!(text.contains("traffic goes on"), "{text}");
        assert!(!place.instance.join(format!("v{LAYOUT_VERSION}")).exists());
    }
}

/// No socket stands between: who may open a pin may read and change what it is.
#[test]
fn an_instance_is_its_owners_alone() {
    let (node, pod, place) = (Namespace::new(), Namespace::new(), Place::new());
    node.veth("pod0", &pod, "eth0");
    let mut options = place.options();
    options.attach = AttachMode::Clsact;
    // An operator's usual mask, with which others could read.
    drop(node.run(move || {
        unshare(CloneFlags::CLONE_FS).unwrap();
        umask(Mode::from_bits_truncate(0o022));
        Datapath::start_with(&options, &[], |_| Ok(tiny())).unwrap()
    }));
    let (mut directories, mut pins) = (0, 0);
    let mut ways = vec![place.instance.clone()];
    while let Some(path) = ways.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let rights = metadata.permissions().mode() & 0o7777;
        assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "{}", path.display());
        if metadata.is_dir() {
            directories += 1;
            assert_eq!(rights, 0o700, "{}", path.display());
            ways.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            pins += 1;
            assert_eq!(rights, 0o600, "{}", path.display());
        }
    }
    assert!(directories >= 10 && pins >= 30, "{directories} {pins}");
}

#[test]
fn a_second_agent_is_kept_out() {
    let (node, place) = (Namespace::new(), Place::new());
    let first = place.start(&node).unwrap();
    let text = refusal(place.start(&node));
    assert!(text.contains("another agent runs with --instance"), "{text}");
    drop(first);
    drop(place.start(&node).unwrap());
}

#[test]
fn an_instance_on_no_bpf_file_system_is_refused_with_the_mount() {
    let (node, place) = (Namespace::new(), Place::new());
    let mut options = place.options();
    options.instance = std::env::temp_dir().join("shunt-no-bpffs/instance");
    let text = refusal(start(&node, options.clone()));
    assert!(
        text.contains("shunt-no-bpffs/instance is on no BPF file system"),
        "{text}"
    );
    assert!(text.contains("mount -t bpf bpf "), "{text}");
    assert!(!options.instance.exists());
}

#[test]
fn a_cgroup_of_version_1_is_refused() {
    let (node, place) = (Namespace::new(), Place::new());
    let mut options = place.options();
    options.cgroup = std::env::temp_dir();
    let text = refusal(start(&node, options));
    assert!(text.contains("no cgroup v2 hierarchy"), "{text}");
    assert!(!place.instance.exists(), "nothing was made");
}

#[test]
fn ports_are_reserved_beside_those_of_others_and_given_back() {
    let (node, place) = (Namespace::new(), Place::new());
    reserve_by_hand(&node, "8080,50000-50010");
    drop(place.start(&node).unwrap());
    assert_eq!(reserved_ports(&node), "8080,30000-32767,45000-60999");
    drop(place.start(&node).unwrap());
    assert_eq!(reserved_ports(&node), "8080,30000-32767,45000-60999");

    let mut options = place.options();
    options.snat_ports = SnatPorts::new(48_000, 61_999).unwrap();
    drop(start(&node, options).unwrap());
    assert_eq!(
        reserved_ports(&node),
        "8080,30000-32767,48000-61999",
        "the old range is taken back"
    );
    assert!(node.run(|| reserved::holds(48_000, 14_000).unwrap()));
    assert!(node.run(|| !reserved::holds(47_999, 2).unwrap()));

    let instance = place.instance.clone();
    let removed = node.run(move || cleanup::run(&instance).unwrap());
    assert_eq!(
        removed.reserved_ports,
        ["30000-32767", "48000-49999", "50011-61999"]
    );
    assert_eq!(
        reserved_ports(&node),
        "8080,50000-50010",
        "what was reserved before stays"
    );
}

#[test]
fn cleanup_takes_all_away_with_the_agent_dead_and_twice() {
    for (attach, links, filters) in [(AttachMode::Tcx, 9 + 2, 0), (AttachMode::Clsact, 9, 2)] {
        let (node, pod, place) = (Namespace::new(), Namespace::new(), Place::new());
        node.veth("pod0", &pod, "eth0");
        let mut options = place.options();
        options.attach = attach;
        drop(start(&node, options).unwrap());
        let held = held_links(&place);
        assert_eq!(held.len(), links);
        let instance = place.instance.clone();
        let clean = move || cleanup::run(&instance).unwrap();
        let removed = node.run(clean.clone());
        assert_eq!((removed.links, removed.filters), (links, filters));
        assert!(removed.maps >= 20, "{removed:?}");
        assert!(!place.instance.exists());
        for link in &held {
            let target = sys::link_info(link.as_fd()).unwrap().target;
            assert!(
                matches!(target, LinkTarget::Tcx(0, _) | LinkTarget::Cgroup(0, _)),
                "{target:?}"
            );
        }
        assert!(!node.command("tc", "qdisc show dev pod0").contains("clsact"));
        assert_eq!(reserved_ports(&node), "");
        assert_eq!(
            node.run(clean),
            Removed::default(),
            "a second time there is nothing to do"
        );
    }
}

#[test]
fn cleanup_in_another_network_namespace_is_refused_and_touches_nothing() {
    let (node, other, place) = (Namespace::new(), Namespace::new(), Place::new());
    drop(place.start(&node).unwrap());
    reserve_by_hand(&other, "45000-60999");
    let instance = place.instance.clone();
    let text = other.run(move || cleanup::run(&instance).unwrap_err().to_string());
    assert!(
        text.contains("another network namespace") && text.contains("rm -r "),
        "{text}"
    );
    assert_eq!(reserved_ports(&other), "45000-60999");
    assert_eq!(held_links(&place).len(), 9);
}
