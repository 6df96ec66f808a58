//! Takes everything of an instance away again; works with the agent dead, and twice.

use std::path::Path;

use proxy_common::layout::names;
use serde::Serialize;

use super::attach::{remove_filters, remove_links};
use super::conversion::{self, Place};
use super::error::{Context, DatapathError};
use super::instance::{Instance, list, remove};
use super::layouts::{self, Layout, OLDER};
use super::netlink::Netlink;
use super::xdp_attach::remove_xdp;
use super::{config, links, reserved};

/// What was taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Links that were detached.
    pub links: usize,
    /// Filters of ours on clsact qdiscs.
    pub filters: usize,
    /// Maps that were unpinned.
    pub maps: usize,
    /// Ranges that were taken out of net.ipv4.ip_local_reserved_ports.
    pub reserved_ports: Vec<String>,
}

/// Detaches all programs, removes all pins, filters, qdiscs and reserved ports of an instance, in the calling thread's
/// network namespace. What is not there is passed over; what can't be removed is named, after all else is gone.
pub fn run(instance: &Path) -> Result<Removed, DatapathError> {
    if !instance.exists() {
        return Ok(Removed::default());
    }
    clean(&Instance::new(instance), OLDER)
}

/// What an older layout has left goes too, be it there alone or half converted; what a newer one has is refused.
pub(super) fn clean(instance: &Instance, known: &[Layout]) -> Result<Removed, DatapathError> {
    instance.check_file_system()?;
    let older = layouts::other(instance, known)?.map(|older| Place::of_other(instance, older));
    let places: Vec<Place<'_>> = older.into_iter().chain([Place::of_this(instance)]).collect();
    for place in &places {
        check_namespace(place)?;
    }
    let mut work = Work::default();
    for Place { instance, .. } in &places {
        // The hooks first: programs without their maps' pins still work, pins without programs do not matter.
        work.detach_interfaces(instance);
        work.detach_cgroup(instance);
        let reserved = reserved::give_back(instance);
        let reserved = work.note(reserved).unwrap_or_default();
        work.removed.reserved_ports.extend(reserved);
        work.unpin_maps(instance);
        if work.failures.is_empty() {
            let directories = instance.remove_directories();
            work.note(directories);
        }
    }
    work.finish()
}

/// Filters and reserved ports are those of the agent's network namespace: elsewhere the same numbers mean other things.
fn check_namespace(place: &Place<'_>) -> Result<(), DatapathError> {
    let cookie = conversion::config(place)?.unwrap_or_default().host_netns_cookie;
    if cookie == 0 || cookie == config::own_netns_cookie()? {
        return Ok(());
    }
    let root = place.instance.root().display();
    Err(DatapathError::Refused(format!(
        "the agent of {root} ran in another network namespace: clean up there. If that one is gone, nothing but the \
         directory is left: rm -r {root}"
    )))
}

#[derive(Default)]
struct Work {
    removed: Removed,
    failures: Vec<DatapathError>,
}

impl Work {
    fn note<T>(&mut self, result: Result<T, DatapathError>) -> Option<T> {
        result.map_err(|error| self.failures.push(error)).ok()
    }

    fn detach_interfaces(&mut self, instance: &Instance) {
        let known = instance.interfaces();
        let Some(interfaces) = self.note(known) else {
            return;
        };
        let socket = Netlink::route()
            .call("socket", "rtnetlink")
            .map_err(DatapathError::from);
        let mut netlink = self.note(socket);
        for index in interfaces {
            for links in [remove_xdp(instance, index), remove_links(instance, index)] {
                self.removed.links += self.note(links).unwrap_or_default();
            }
            if let Some(netlink) = &mut netlink {
                let filters = remove_filters(instance, netlink, index);
                self.removed.filters += self.note(filters).unwrap_or_default();
            }
        }
    }

    fn detach_cgroup(&mut self, instance: &Instance) {
        for name in names::program::CGROUP {
            let released = links::release(&instance.cgroup_links().join(name));
            self.removed.links += usize::from(self.note(released).unwrap_or_default());
        }
    }

    fn unpin_maps(&mut self, instance: &Instance) {
        for directory in [instance.next(), instance.maps()] {
            let pins = list(&directory);
            for name in self.note(pins).unwrap_or_default() {
                let unpinned = remove(&directory.join(name));
                self.removed.maps += usize::from(self.note(unpinned).unwrap_or_default());
            }
        }
    }

    fn finish(mut self) -> Result<Removed, DatapathError> {
        if self.failures.is_empty() {
            return Ok(self.removed);
        }
        if self.failures.len() == 1 {
            return Err(self.failures.remove(0));
        }
        let texts: Vec<String> = self.failures.iter().map(ToString::to_string).collect();
        Err(DatapathError::Refused(texts.join("\n")))
    }
}
