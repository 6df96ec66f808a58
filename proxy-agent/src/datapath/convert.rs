//! The change of an instance's layout, with everything that belongs to it: locks, maps, programs and hooks.

use std::collections::BTreeSet;
use std::path::Path;

use aya_obj::Object;
use proxy_common::layout::{CONFIG_PODS_SOCKET_LB, Config, names::program};

use super::attach::{self, Attacher, Hook, Sockets};
use super::capability;
use super::classify::Selection;
use super::conversion::{self, Conversion, Place};
use super::error::{CallError, Context, DatapathError};
use super::instance::{Instance, list};
use super::layouts::{self, Layout, OLDER};
use super::netlink::Netlink;
use super::observe::{Observed, Stale};
use super::options::DatapathOptions;
use super::programs::Programs;
use super::size::{MapMemory, MapSizes};
use super::specification;
use super::sys::MapDefinition;
use super::xdp_attach::candidates;

/// Loads programs against the maps of an instance.
pub(super) type Load<'a> = dyn Fn(&Instance) -> Result<Programs, DatapathError> + 'a;

/// Gives an instance that has maps of an older layout those of this version, if that is so.
pub(super) fn upgrade(
    options: &DatapathOptions,
    known: &[Layout],
    load: &Load<'_>,
) -> Result<(), DatapathError> {
    let instance = Instance::new(&options.instance);
    let Some(older) = layouts::other(&instance, known)? else {
        return Ok(());
    };
    tracing::info!(
        from = older.version,
        to = instance.layout(),
        "the maps' layout changes; connections live on"
    );
    let maps = specification::maps(&MapMemory::of_options(options)?.sizes);
    let (from, to) = (Place::of_other(&instance, older), Place::of_this(&instance));
    run(options, from, to, &maps, load)
}

/// Whether an agent of any layout, or what prepares a node for one, has left something at an instance.
///
/// # Errors
/// If the directory can't be read.
pub fn is_present(instance: &Path) -> Result<bool, DatapathError> {
    Ok(!list(instance)?.is_empty())
}

/// Gives an instance that has maps of this version's layout those of an older one, with the programs of `object`, which a
/// version of that layout carries. That version's agent can be started then; until it is, nothing follows the Services.
///
/// # Errors
/// If this version does not know the layout, the object is not of it, an agent runs, or a call fails. What was begun can
/// be gone on with by another call, or turned round by this version's agent.
pub fn downgrade(options: &DatapathOptions, layout: u32, object: &[u8]) -> Result<(), DatapathError> {
    let older = layouts::find(layout, OLDER)?;
    let maps = held_by(object, older)?;
    downgrade_to(options, older, OLDER, &maps, &|instance| {
        Programs::load(object, instance, options.xdp)
    })
}

pub(super) fn downgrade_to(
    options: &DatapathOptions,
    older: &Layout,
    known: &[Layout],
    maps: &[MapDefinition<'static>],
    load: &Load<'_>,
) -> Result<(), DatapathError> {
    let instance = Instance::new(&options.instance);
    instance.check_file_system()?;
    let there = layouts::other(&instance, known)?;
    if !instance.version().exists() && there.is_some_and(|there| there.version == older.version) {
        // Done already.
        return Ok(());
    }
    if !instance.version().exists() {
        return Err(DatapathError::Refused(format!(
            "{} holds no maps of layout version {}: no agent runs or ran with --instance {}",
            instance.version().display(),
            instance.layout(),
            instance.root().display()
        )));
    }
    let (from, to) = (Place::of_this(&instance), Place::of_other(&instance, older));
    run(options, from, to, maps, load)
}

fn run(
    options: &DatapathOptions,
    from: Place<'_>,
    to: Place<'_>,
    maps: &[MapDefinition<'static>],
    load: &Load<'_>,
) -> Result<(), DatapathError> {
    capability::check()?;
    attach::check_cgroup2(&options.cgroup)?;
    let hook = Hook::choose(options.attach)?;
    let (old, new) = (from.instance.clone(), to.instance.clone());
    let _of_old = old.lock()?;
    if !old.is_whole()? && !old.incomplete().exists() {
        // Prepared for an agent that never ran.
        conversion::take_links(&old, &new)?;
        return old.remove_directories();
    }
    let conversion = Conversion::begin(from, to, maps)?;
    let _of_new = new.lock()?;
    let programs = match load(&new) {
        Ok(programs) => programs,
        Err(error) => {
            conversion.abandon()?;
            return Err(error);
        }
    };
    conversion.take_links()?;
    let sockets = Sockets {
        cgroup: options.cgroup.clone(),
        config: as_served(&new),
    };
    attach::attach_cgroup(&new, &programs, &sockets.config, &sockets.cgroup)?;
    let mut attacher = Attacher::new(new, programs, sockets, hook, options.xdp)?;
    let observed = observed()?;
    let targets = selection(options).judge(&observed).targets;
    if let Some(error) = attacher.reconcile(&targets).into_iter().next() {
        return Err(error);
    }
    // Last, because it lets pass to the others. What UPLINKS says stays as it was until an agent runs.
    attacher.reconcile_xdp(&candidates(&targets, &observed));
    conversion.finish()
}

/// Socket LB serves whom it served: the link of the program that is there for pods alone tells.
fn as_served(instance: &Instance) -> Config {
    let serves_pods = instance.cgroup_links().join(program::SOCK_OPS).exists();
    Config {
        flags: if serves_pods { CONFIG_PODS_SOCKET_LB } else { 0 },
        ..Config::default()
    }
}

fn selection(options: &DatapathOptions) -> Selection {
    Selection {
        pods: options.pod_interfaces.clone(),
        uplinks: options.uplinks.clone(),
        node_ports: options.node_ports.clone(),
    }
}

fn observed() -> Result<Observed, CallError> {
    let mut observed = Observed::default();
    let mut netlink = Netlink::route().call("socket", "rtnetlink")?;
    observed.refresh(&mut netlink, Stale::ALL)?;
    Ok(observed)
}

/// The maps that an object of another layout has, in this version's definitions; refuses an object of a layout that it is
/// not said to have.
pub(super) fn held_by(object: &[u8], layout: &Layout) -> Result<Vec<MapDefinition<'static>>, DatapathError> {
    let parsed = Object::parse(object)
        .map_err(|error| DatapathError::Refused(format!("the BPF object can't be read: {error}")))?;
    let held: BTreeSet<&String> = parsed.maps.keys().collect();
    let mut maps = specification::maps(&MapSizes::for_budget(0, 1));
    maps.retain(|map| held.iter().any(|name| *name == map.name));
    for now in &maps {
        let expected = layouts::defined(layout.form(now.name), now);
        let found = parsed
            .maps
            .get(now.name)
            .map(|map| (map.key_size(), map.value_size()));
        let sizes = (expected.key_size, expected.value_size);
        if found != Some(sizes) {
            return Err(DatapathError::Refused(format!(
                "the BPF object is not of layout version {}: its {} has keys and values of {:?} bytes, that layout {sizes:?}",
                layout.version,
                now.name,
                found.unwrap_or_default(),
            )));
        }
    }
    Ok(maps)
}
