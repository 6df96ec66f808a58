//! The last good objects of every file, and which file gives which object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use foldhash::HashMap;

use super::{Change, Object, ObjectKey, Refusal};

/// Pure state of the folder. An object that stands in several files is the first file's, by name.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    files: BTreeMap<Arc<str>, BTreeSet<ObjectKey>>,
    objects: HashMap<ObjectKey, Versions>,
}

/// The versions of an object, by the names of their files. Nearly always there is one: that costs little.
#[derive(Debug, Default)]
struct Versions(Vec<(Arc<str>, Object)>);

impl Versions {
    fn first(&self) -> Option<&(Arc<str>, Object)> {
        self.0.first()
    }

    fn set(&mut self, file: &Arc<str>, object: Option<Object>) {
        let place = self.0.binary_search_by(|(other, _)| other.cmp(file));
        match (place, object) {
            (Ok(place), Some(object)) => self.0[place].1 = object,
            (Ok(place), None) => drop(self.0.remove(place)),
            (Err(place), Some(object)) => {
                self.0.reserve_exact(1);
                self.0.insert(place, (file.clone(), object));
            }
            (Err(_), None) => {}
        }
    }

    /// Refuses the object in this file if an earlier one has it, else in the later files that have it.
    fn duplicates(&self, key: &ObjectKey, file: &str) -> Vec<Refusal> {
        let Some((first, _)) = self.first() else {
            return Vec::new();
        };
        let others = self.0.iter().skip(1).map(|(other, _)| other);
        let refused = others.filter(|other| **first == *file || ***other == *file);
        let message = format!("{key} stands in {first} already, whose version is used");
        refused
            .map(|refused| Refusal::of_file(refused, message.clone()))
            .collect()
    }
}

/// The difference that a file made.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub(super) changes: Vec<Change>,
    pub(super) refusals: Vec<Refusal>,
}

impl Catalog {
    /// Names of the files that hold objects.
    pub(super) fn files(&self) -> impl Iterator<Item = &Arc<str>> {
        self.files.keys()
    }

    /// Takes over a file's objects in place of those it had; none: the file is gone.
    pub(super) fn replace(&mut self, file: &str, objects: Vec<Object>) -> Difference {
        let file: Arc<str> = file.into();
        let mut difference = Difference::default();
        let mut new: BTreeMap<ObjectKey, Object> =
            objects.into_iter().map(|object| (object.key(), object)).collect();
        let keys: BTreeSet<ObjectKey> = new.keys().cloned().collect();
        let mut touched = self.files.remove(&file).unwrap_or_default();
        touched.extend(keys.iter().cloned());
        for key in touched {
            let object = new.remove(&key);
            self.replace_object(&file, key, object, &mut difference);
        }
        if !keys.is_empty() {
            self.files.insert(file, keys);
        }
        difference
    }

    fn replace_object(
        &mut self,
        file: &Arc<str>,
        key: ObjectKey,
        object: Option<Object>,
        difference: &mut Difference,
    ) {
        let versions = self.objects.entry(key.clone()).or_default();
        let before = versions.first().map(|(_, object)| object.clone());
        let is_there = object.is_some();
        versions.set(file, object);
        if is_there {
            difference.refusals.extend(versions.duplicates(&key, file));
        }
        match versions.first() {
            Some((_, after)) if before.as_ref() != Some(after) => {
                difference.changes.push(Change::Upsert(after.clone()));
            }
            Some(_) => {}
            None => {
                self.objects.remove(&key);
                difference.changes.extend(before.map(|_| Change::Delete(key)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::parse::parse;

    fn node(name: &str, zone: &str) -> Vec<Object> {
        let text = format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: {name}, labels: {{topology.kubernetes.io/zone: {zone}}}}}}}"
        );
        parse("x", &text).unwrap().objects
    }

    fn upserts(difference: &Difference) -> Vec<&Change> {
        difference.changes.iter().collect()
    }

    #[test]
    fn only_what_differs_is_a_change() {
        let mut catalog = Catalog::default();
        let both = |zone| [node("a", "1"), node("b", zone)].concat();
        assert_eq!(catalog.replace("x.yaml", both("1")).changes.len(), 2);
        assert_eq!(catalog.replace("x.yaml", both("1")).changes, []);
        let second = Change::Upsert(node("b", "2").remove(0));
        assert_eq!(upserts(&catalog.replace("x.yaml", both("2"))), [&second]);
        let gone = Change::Delete(ObjectKey::Node("b".into()));
        assert_eq!(upserts(&catalog.replace("x.yaml", node("a", "1"))), [&gone]);
        assert_eq!(
            catalog.replace("x.yaml", Vec::new()).changes,
            [Change::Delete(ObjectKey::Node("a".into()))]
        );
        assert_eq!(catalog.files().count(), 0);
        assert!(catalog.objects.is_empty());
    }

    #[test]
    fn of_two_files_the_first_by_name_wins_and_the_other_takes_over() {
        let mut catalog = Catalog::default();
        catalog.replace("b.yaml", node("n", "of-b"));
        let difference = catalog.replace("a.yaml", node("n", "of-a"));
        assert_eq!(difference.changes, [Change::Upsert(node("n", "of-a").remove(0))]);
        assert_eq!(
            difference.refusals[0].to_string(),
            "b.yaml: Node n stands in a.yaml already, whose version is used"
        );
        let difference = catalog.replace("b.yaml", node("n", "of-b-again"));
        assert_eq!(difference.changes, []);
        assert_eq!(difference.refusals[0].file, "b.yaml");
        let difference = catalog.replace("a.yaml", Vec::new());
        assert_eq!(
            difference.changes,
            [Change::Upsert(node("n", "of-b-again").remove(0))]
        );
        assert_eq!(difference.refusals, []);
    }
}
