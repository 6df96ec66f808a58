//! What was received, as far as it takes to tell what changed: names and versions.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Instant;

use foldhash::HashMap;

use super::intern::Interner;
use super::kind::Fault;
use crate::name::ObjectName;
use crate::source::{Batch, Change, Object, ObjectKey, Presence, Refusal};

/// The kinds whose objects are handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Services,
    Slices,
    Node,
    ServiceCidrs,
}

/// An object as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) object: Result<Object, Fault>,
}

/// What a watch says.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A full list begins.
    Begin,
    /// One of the list.
    Listed(Item),
    /// The list is whole: what was not in it is gone.
    End,
    /// An object came or changed.
    Changed(Item),
    /// An object is gone.
    Gone { namespace: String, name: String },
}

/// What is known of an object.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// None: it could not be told, so every list counts as a change.
    version: Option<NonZeroU64>,
    /// The list in which it was last.
    list: u32,
    /// Whether some state of it was handed on.
    is_handed_on: bool,
}

#[derive(Debug, Default)]
struct Objects {
    known: HashMap<ObjectName, Known>,
    list: u32,
    is_synced: bool,
}

/// From events to batches of what differs.
#[derive(Debug, Default)]
pub(super) struct Cache {
    services: Objects,
    slices: Objects,
    node: Objects,
    service_cidrs: Objects,
    interner: Interner,
    /// Whether Services were chosen by a proxy's name, so that the label is no reason to leave them.
    is_named: bool,
    pending: Pending,
    /// Objects that can't be read, of which there is no earlier state.
    unread: BTreeSet<ObjectKey>,
    is_sent: bool,
}

/// What waits to be handed on: the last change of each object.
#[derive(Debug, Default)]
struct Pending {
    changes: Vec<Change>,
    places: HashMap<ObjectKey, usize>,
    refusals: BTreeMap<ObjectKey, Refusal>,
    /// There is something to tell even if nothing changed.
    is_touched: bool,
    heard: Option<Instant>,
}

impl Pending {
    fn put(&mut self, key: ObjectKey, change: Change) {
        self.heard.get_or_insert_with(Instant::now);
        self.refusals.remove(&key);
        match self.places.get(&key) {
            Some(place) => self.changes[*place] = change,
            None => {
                self.places.insert(key, self.changes.len());
                self.changes.push(change);
            }
        }
    }
}

impl Cache {
    /// Of a proxy with a name of its own, or of the node's main one.
    pub(super) fn new(is_named: bool) -> Self {
        Self {
            is_named,
            ..Self::default()
        }
    }

    /// Takes an event over.
    pub(super) fn take(&mut self, family: Family, event: Event) {
        if self.is_named && family == Family::ServiceCidrs {
            // Most addresses in the ranges are of Services of other proxies: to this one they say nothing.
            return;
        }
        match event {
            Event::Begin => {
                let objects = self.objects(family);
                objects.list = objects.list.wrapping_add(1);
            }
            Event::Listed(item) | Event::Changed(item) => self.put(family, item),
            Event::End => self.end(family),
            Event::Gone { namespace, name } => {
                let name = ObjectName::new(&namespace, &name);
                if let Some(known) = self.objects(family).known.remove(&name) {
                    self.forget(family, name, known);
                }
            }
        }
    }

    /// Whether this watch has given everything that there is, once.
    pub(super) fn is_synced(&self, family: Family) -> bool {
        match family {
            Family::Services => self.services.is_synced,
            Family::Slices => self.slices.is_synced,
            Family::Node => self.node.is_synced,
            Family::ServiceCidrs => self.service_cidrs.is_synced,
        }
    }

    /// Whether there is something to hand on. The first batch is for the caller to time.
    pub(super) fn has_batch(&self) -> bool {
        let pending = &self.pending;
        !self.is_sent || !pending.changes.is_empty() || !pending.refusals.is_empty() || pending.is_touched
    }

    /// Takes what waits.
    pub(super) fn batch(&mut self) -> Batch {
        self.is_sent = true;
        let pending = std::mem::take(&mut self.pending);
        Batch {
            files: Vec::new(),
            changes: pending.changes,
            refusals: pending.refusals.into_values().collect(),
            has_unread_files: !self.unread.is_empty(),
            heard: pending.heard,
        }
    }

    fn objects(&mut self, family: Family) -> &mut Objects {
        match family {
            Family::Services => &mut self.services,
            Family::Slices => &mut self.slices,
            Family::Node => &mut self.node,
            Family::ServiceCidrs => &mut self.service_cidrs,
        }
    }

    fn put(&mut self, family: Family, item: Item) {
        let name = ObjectName {
            namespace: self.interner.text(&item.namespace),
            name: self.interner.text(&item.name),
        };
        let version = item.version.parse().ok();
        let objects = self.objects(family);
        let list = objects.list;
        let known = objects.known.get_mut(&name);
        if let Some(known) = &known
            && version.is_some()
            && known.version == version
        {
            objects.known.entry(name).and_modify(|known| known.list = list);
            return;
        }
        let was_handed_on = known.is_some_and(|known| known.is_handed_on);
        let is_handed_on = was_handed_on || item.object.is_ok();
        let entry = Known {
            version,
            list,
            is_handed_on,
        };
        objects.known.insert(name.clone(), entry);
        let key = key(family, name);
        match item.object {
            Ok(object) => self.hand_on(key, object),
            Err(fault) => self.refuse(key, fault, is_handed_on),
        }
    }

    fn hand_on(&mut self, key: ObjectKey, mut object: Object) {
        if self.is_named
            && let Object::Service(service) = &mut object
            && let Some(service) = Arc::get_mut(service)
        {
            service.metadata.labels.service_proxy_name = Presence(false);
        }
        self.interner.object(&mut object);
        self.pending.is_touched |= self.unread.remove(&key);
        self.pending.put(key, Change::Upsert(object));
    }

    fn refuse(&mut self, key: ObjectKey, fault: Fault, has_earlier: bool) {
        if !has_earlier {
            self.unread.insert(key.clone());
        }
        let refusal = Refusal {
            file: key.to_string(),
            line: 0,
            column: 0,
            field: fault.field,
            message: fault.message,
        };
        self.pending.refusals.insert(key, refusal);
    }

    fn end(&mut self, family: Family) {
        let objects = self.objects(family);
        objects.is_synced = true;
        let list = objects.list;
        let gone: Vec<_> = objects.known.extract_if(|_, known| known.list != list).collect();
        for (name, known) in gone {
            self.forget(family, name, known);
        }
    }

    fn forget(&mut self, family: Family, name: ObjectName, known: Known) {
        let key = key(family, name);
        self.pending.is_touched |= self.unread.remove(&key);
        self.pending.refusals.remove(&key);
        if known.is_handed_on {
            self.pending.put(key.clone(), Change::Delete(key));
        }
    }
}

fn key(family: Family, name: ObjectName) -> ObjectKey {
    match family {
        Family::Services => ObjectKey::Service(name),
        Family::Slices => ObjectKey::Slice(name),
        Family::Node => ObjectKey::Node(name.name),
        Family::ServiceCidrs => ObjectKey::ServiceCidr(name.name),
    }
}

#[cfg(test)]
mod tests;
