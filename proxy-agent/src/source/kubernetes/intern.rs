//! One copy of each text: names come many times, in Services, in slices, in each of their endpoints.

use std::hash::Hash;
use std::sync::Arc;

use foldhash::HashSet;

use crate::source::{EndpointSlice, Metadata, Object, Placement};

/// Fewest entries that are worth looking for those that nobody uses any more.
const FEWEST: usize = 1024;

/// What is shared.
#[derive(Debug, Default)]
pub(super) struct Interner {
    texts: Shared<str>,
    placements: Shared<Placement>,
}

/// Values in use. Those that are not are dropped when the set has doubled.
#[derive(Debug)]
struct Shared<T: ?Sized> {
    values: HashSet<Arc<T>>,
    sweep_at: usize,
}

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Self {
            values: HashSet::default(),
            sweep_at: FEWEST,
        }
    }
}

impl<T: ?Sized + Eq + Hash> Shared<T> {
    /// Puts the one copy in place of a value.
    fn share(&mut self, value: &mut Arc<T>) {
        if let Some(known) = self.values.get(value) {
            value.clone_from(known);
            return;
        }
        if self.values.len() >= self.sweep_at {
            self.values.retain(|value| Arc::strong_count(value) > 1);
            self.sweep_at = (self.values.len() * 2).max(FEWEST);
        }
        self.values.insert(value.clone());
    }
}

impl Interner {
    /// The one copy of a text.
    pub(super) fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.values.get(text) {
            return known.clone();
        }
        let mut text = text.into();
        self.texts.share(&mut text);
        text
    }

    /// Shares what an object that nobody else holds yet has in common with others, and drops what nobody reads.
    pub(super) fn object(&mut self, object: &mut Object) {
        match object {
            Object::Service(service) => {
                let Some(service) = Arc::get_mut(service) else {
                    return;
                };
                self.metadata(&mut service.metadata);
                for port in service.spec.ports.iter_mut() {
                    self.texts.share(&mut port.name);
                }
            }
            Object::Slice(slice) => {
                let Some(slice) = Arc::get_mut(slice) else { return };
                self.slice(slice);
            }
            Object::Node(_) | Object::ServiceCidr(_) => {}
        }
    }

    fn metadata(&mut self, metadata: &mut Metadata) {
        self.texts.share(&mut metadata.name);
        let labels = [&mut metadata.labels.service_name, &mut metadata.labels.zone];
        let others = [&mut metadata.namespace, &mut metadata.creation_timestamp];
        for text in labels.into_iter().chain(others).flatten() {
            self.texts.share(text);
        }
    }

    fn slice(&mut self, slice: &mut EndpointSlice) {
        // Only a Service's are read.
        slice.metadata.uid = self.text("");
        slice.metadata.creation_timestamp = None;
        self.metadata(&mut slice.metadata);
        for endpoint in slice.endpoints.iter_mut() {
            if let Some(placement) = &mut endpoint.placement {
                self.placements.share(placement);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::kubernetes::kind::{Kind, Slices};

    fn slice(name: &str) -> Object {
        let endpoint =
            r#"{"addresses": ["10.0.0.1"], "nodeName": "n", "hints": {"forZones": [{"name": "z"}]}}"#;
        Slices::read(&format!(
            r#"{{"metadata": {{"name": "{name}", "namespace": "s", "uid": "{name}", "labels": {{"kubernetes.io/service-name": "web"}}}},
                "addressType": "IPv4", "endpoints": [{endpoint}, {endpoint}]}}"#
        ))
        .unwrap()
    }

    #[test]
    fn what_slices_have_in_common_is_held_once() {
        let mut interner = Interner::default();
        let [mut a, mut b] = [slice("a"), slice("b")];
        interner.object(&mut a);
        interner.object(&mut b);
        let (Object::Slice(a), Object::Slice(b)) = (a, b) else {
            panic!()
        };
        assert!(Arc::ptr_eq(
            a.metadata.labels.service_name.as_ref().unwrap(),
            b.metadata.labels.service_name.as_ref().unwrap()
        ));
        let [first, last] = [&a.endpoints[0], &b.endpoints[1]];
        assert_eq!(first.node_name(), Some("n"));
        assert!(Arc::ptr_eq(
            first.placement.as_ref().unwrap(),
            last.placement.as_ref().unwrap()
        ));
        assert_eq!(&*a.metadata.uid, "");
    }

    #[test]
    fn what_nobody_uses_any_more_is_dropped() {
        let mut interner = Interner::default();
        let kept = interner.text("kept");
        for number in 0..10 * FEWEST {
            interner.text(&number.to_string());
        }
        assert!(
            interner.texts.values.len() <= FEWEST,
            "{}",
            interner.texts.values.len()
        );
        assert!(Arc::ptr_eq(&kept, &interner.text("kept")));
    }
}
