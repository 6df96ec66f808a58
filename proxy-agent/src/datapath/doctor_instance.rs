//! The doctor's look at the cgroup, the BPF file system and the instance that is pinned there.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;

use proxy_common::layout::{CONFIG_FAST_WANTED, Config, LAYOUT_VERSION, Uplink};

use super::attach::{cgroup_programs, check_cgroup2};
use super::doctor::{Check, DoctorOptions};
use super::doctor_kernel::{budget, megabytes};
use super::error::DatapathError;
use super::instance::{Instance, list};
use super::sys::{LinkTarget, MapFd};
use super::tables::Tables;
use super::xdp::{Reason, Way};
use super::{config, follow, host_routing, links, netlink, reserved, sockets};

pub(super) fn checks(options: &DoctorOptions) -> Vec<Check> {
    let instance = Instance::new(&options.instance);
    let mut checks = vec![cgroup(options)];
    if let Err(error) = instance.check_file_system() {
        checks.push(Check::error("bpffs", &error));
        return checks;
    }
    checks.push(Check::ok(
        "bpffs",
        format!("{} is on a BPF file system", instance.root().display()),
    ));
    if !instance.maps().exists() {
        checks.push(nothing_pinned(&instance));
        return checks;
    }
    let mut config = Config::default();
    match Tables::open(&instance) {
        Err(error) => checks.push(Check::error("maps", &error)),
        Ok(tables) => {
            checks.push(Check::ok(
                "maps",
                format!("all pinned, layout version {LAYOUT_VERSION}"),
            ));
            checks.push(map_memory(&instance));
            checks.extend(configured(&tables, &mut config));
            checks.extend(xdp(&tables));
            checks.push(host_routing(&config));
        }
    }
    checks.extend(half_converted(&instance));
    checks.push(cgroup_links(&instance, &config, options));
    checks.push(interfaces(&instance));
    checks
}

fn cgroup(options: &DoctorOptions) -> Check {
    const NAME: &str = "cgroup";
    /// Id of the root of the hierarchy, in every kernel.
    const ROOT: u64 = 1;
    let path = options.cgroup.display();
    match (check_cgroup2(&options.cgroup), fs::metadata(&options.cgroup)) {
        (Err(error), _) => Check::error(NAME, &error),
        (Ok(()), Ok(metadata)) if metadata.ino() != ROOT => Check::warn(
            NAME,
            format!("{path} is not the root of the hierarchy: socket LB serves only what runs below it"),
            "in a container, mount the host's /sys/fs/cgroup and give it as --cgroup",
        ),
        _ => Check::ok(NAME, format!("{path} is the root of the cgroup v2 hierarchy")),
    }
}

fn nothing_pinned(instance: &Instance) -> Check {
    const NAME: &str = "maps";
    let others = list(instance.root()).unwrap_or_default();
    let others: Vec<&str> = others
        .iter()
        .filter(|name| name.starts_with('v'))
        .map(String::as_str)
        .collect();
    if others.is_empty() {
        return Check::warn(
            NAME,
            format!("nothing is pinned below {}", instance.root().display()),
            "start `shunt agent` with this --instance",
        );
    }
    Check::fail(
        NAME,
        format!("pinned by another version of Shunt: {}", others.join(", ")),
        format!("this version knows layout v{LAYOUT_VERSION}: use the one that runs here"),
    )
}

/// How new flows go, and why not as the operator wants.
fn host_routing(config: &Config) -> Check {
    const NAME: &str = "host routing";
    if config.flags & CONFIG_FAST_WANTED == 0 {
        let more = match config.has_bypassed() {
            true => "; flows that began around it keep their way",
            false => "",
        };
        return Check::ok(
            NAME,
            format!("stack: new flows go through the node's stack{more}"),
        );
    }
    match (host_routing::look_here(), config.is_fast()) {
        (None, true) => Check::ok(NAME, "fast: new flows go around the node's stack where they can"),
        (None, false) => Check::warn(
            NAME,
            "stack: what kept new flows from going around it is gone",
            "the agent notices within its --hook-check-period; with 0, restart it",
        ),
        (Some(refusal), is_fast) => {
            let way = if is_fast {
                "fast, still"
            } else {
                "stack, though fast is wanted"
            };
            Check::warn(NAME, format!("{way}: {refusal}"), refusal.way_out())
        }
    }
}

/// A line for each uplink.
fn xdp(tables: &Tables) -> Vec<Check> {
    const NAME: &str = "xdp";
    let uplinks = match follow::known(tables) {
        Ok(uplinks) => uplinks,
        Err(error) => return vec![Check::error(NAME, &error)],
    };
    let check = |uplink: &Uplink| {
        let name = netlink::text(&uplink.name);
        match (Way::of_byte(uplink.mode), Reason::of_byte(uplink.reason)) {
            (Some(way), _) => Check::ok(NAME, format!("{name}: {}", way.name())),
            (None, Some(reason)) if reason.way_out().is_empty() => {
                Check::ok(NAME, format!("{name}: TC only: {}", reason.text()))
            }
            (None, Some(reason)) => Check::warn(
                NAME,
                format!("{name}: TC only: {}", reason.text()),
                reason.way_out().replace("DEVICE", &name),
            ),
            (None, None) => Check::warn(
                NAME,
                format!("{name}: TC only, for a reason that this version does not know"),
                "use the doctor of the version that runs",
            ),
        }
    };
    uplinks.values().map(check).collect()
}

fn half_converted(instance: &Instance) -> Option<Check> {
    const NAME: &str = "layout";
    match instance.others() {
        Ok(others) if others.is_empty() => None,
        Ok(others) => Some(Check::warn(
            NAME,
            format!("a change between the versions {others:?} and {LAYOUT_VERSION} is not over"),
            "start the agent, which goes on with it, or run `shunt downgrade` again",
        )),
        Err(error) => Some(Check::error(NAME, &error)),
    }
}

/// What the kernel says that the pinned maps take.
fn map_memory(instance: &Instance) -> Check {
    const NAME: &str = "map memory";
    let names = list(&instance.maps()).unwrap_or_default();
    let sizes = names.iter().filter_map(|name| {
        let map = MapFd::open(&instance.map(name)).ok()?;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd())).ok()?;
        let bytes = info.lines().find_map(|line| line.strip_prefix("memlock:"))?;
        bytes.trim().parse::<u64>().ok()
    });
    let used: u64 = sizes.sum();
    let found = format!("{} in {} maps", megabytes(used), names.len());
    match budget() {
        Some(budget) if used > budget => Check::warn(
            NAME,
            format!(
                "{found}, more than 1 % of the node's memory ({})",
                megabytes(budget)
            ),
            "the limit of the agent's memory cgroup must lie above it",
        ),
        _ => Check::ok(NAME, found),
    }
}

fn configured(tables: &Tables, config: &mut Config) -> Vec<Check> {
    *config = match tables.config.get(&0) {
        Ok(config) => config.unwrap_or_default(),
        Err(error) => return vec![Check::error("config", &error.into())],
    };
    vec![namespace(config), reserved_ports(config), addresses(tables)]
}

fn namespace(configured: &Config) -> Check {
    const NAME: &str = "network namespace";
    match config::own_netns_cookie() {
        Ok(cookie) if cookie == configured.host_netns_cookie => Check::ok(NAME, "the same as the agent's"),
        Ok(_) => Check::warn(
            NAME,
            "not the one in which the agent of this instance ran last",
            "run the agent and this in the host's network namespace (hostNetwork: true)",
        ),
        Err(error) => Check::error(NAME, &error),
    }
}

fn reserved_ports(config: &Config) -> Check {
    const NAME: &str = "snat ports";
    let last = config
        .snat_first
        .saturating_add(config.snat_count.saturating_sub(1));
    let range = format!("{}-{last}", config.snat_first);
    match reserved::holds(config.snat_first, config.snat_count) {
        Ok(true) => match sockets::bound(config.snat_first, config.snat_count) {
            Ok(bound) if bound.is_empty() => Check::ok(NAME, format!("{range}, reserved")),
            Ok(bound) => Check::warn(
                NAME,
                format!("{range}, reserved; sockets of the node hold {}", bound.join(", ")),
                "give these programs other ports, or the agent another --snat-ports",
            ),
            Err(error) => Check::error(NAME, &error),
        },
        Ok(false) => Check::fail(
            NAME,
            format!("{range} is not in net.ipv4.ip_local_reserved_ports"),
            "something else wrote it: add the range there, or restart the agent",
        ),
        Err(error) => Check::error(NAME, &error),
    }
}

fn addresses(tables: &Tables) -> Check {
    const NAME: &str = "node addresses";
    let count = || -> Result<usize, DatapathError> {
        Ok(tables.node_addresses4.entries()?.len() + tables.node_addresses6.entries()?.len())
    };
    match count() {
        Ok(0) => Check::warn(
            NAME,
            "none: NodePorts answer nowhere",
            "give an interface of the node an address",
        ),
        Ok(count) => Check::ok(NAME, format!("NodePorts answer at {count}")),
        Err(error) => Check::error(NAME, &error),
    }
}

fn cgroup_links(instance: &Instance, config: &Config, options: &DoctorOptions) -> Check {
    const NAME: &str = "socket programs";
    let id = fs::metadata(&options.cgroup)
        .map(|metadata| metadata.ino())
        .unwrap_or_default();
    let missing: Vec<&str> = cgroup_programs(config)
        .filter(|(name, kind)| {
            let attached = links::attached_to(&instance.cgroup_links().join(name));
            !matches!(attached, Ok(Some(target)) if target == LinkTarget::Cgroup(id, *kind))
        })
        .map(|(name, _)| name)
        .collect();
    let cgroup = options.cgroup.display();
    if missing.is_empty() {
        return Check::ok(
            NAME,
            format!("all {} attached to {cgroup}", cgroup_programs(config).count()),
        );
    }
    Check::fail(
        NAME,
        format!("not attached to {cgroup}: {}", missing.join(", ")),
        "start the agent with this --cgroup",
    )
}

fn interfaces(instance: &Instance) -> Check {
    const NAME: &str = "interfaces";
    let pins = match list(&instance.tcx_links()) {
        Ok(pins) => pins,
        Err(error) => return Check::error(NAME, &error),
    };
    let state = |pin: &String| links::attached_to(&instance.tcx_links().join(pin));
    let (attached, dead): (Vec<_>, Vec<_>) = pins
        .iter()
        .map(state)
        .partition(|target| matches!(target, Ok(Some(LinkTarget::Tcx(index, _))) if *index != 0));
    let marks = list(&instance.clsact_marks()).unwrap_or_default();
    let filtered = marks.iter().filter(|mark| !mark.contains('-')).count();
    let found = format!(
        "{} TCX links, clsact filters on {filtered} interfaces",
        attached.len()
    );
    if !dead.is_empty() {
        return Check::warn(
            NAME,
            format!("{found}; {} links of deleted interfaces", dead.len()),
            "the agent reaps them: is it running?",
        );
    }
    if attached.is_empty() && filtered == 0 {
        return Check::warn(
            NAME,
            found,
            "no pod interface and no uplink was found: see --pod-interfaces and --uplinks",
        );
    }
    Check::ok(NAME, found)
}
