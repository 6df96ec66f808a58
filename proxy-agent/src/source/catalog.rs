//! The last good objects of every file, and which file gives which object.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Change, Object, ObjectKey, Refusal};

/// Pure state of the folder. An object that stands in several files is the first file's, by name.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    files: BTreeMap<String, BTreeSet<ObjectKey>>,
    objects: HashMap<ObjectKey, BTreeMap<String, Object>>,
}

/// The difference that a file made.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub(super) changes: Vec<Change>,
    pub(super) refusals: Vec<Refusal>,
}

impl Catalog {
    /// Names of the files that hold objects.
    pub(super) fn files(&self) -> impl Iterator<Item = &String> {
        self.files.keys()
    }

    /// Takes over a file's objects in place of those it had; none: the file is gone.
    pub(super) fn replace(&mut self, file: &str, objects: Vec<Object>) -> Difference {
        let mut difference = Difference::default();
        let mut new: BTreeMap<ObjectKey, Object> =
            objects.into_iter().map(|object| (object.key(), object)).collect();
        let keys: BTreeSet<ObjectKey> = new.keys().cloned().collect();
        let mut touched = self.files.remove(file).unwrap_or_default();
        touched.extend(keys.iter().cloned());
        for key in touched {
            let object = new.remove(&key);
            self.replace_object(file, key, object, &mut difference);
        }
        if !keys.is_empty() {
            self.files.insert(file.to_owned(), keys);
        }
        difference
    }

    fn replace_object(
        &mut self,
        file: &str,
        key: ObjectKey,
        object: Option<Object>,
        difference: &mut Difference,
    ) {
        let versions = self.objects.entry(key.clone()).or_default();
        let before = versions.first_key_value().map(|(_, object)| object.clone());
        match object {
            Some(object) => {
                versions.insert(file.to_owned(), object);
            }
            None => {
                versions.remove(file);
            }
        }
        if versions.contains_key(file) {
            difference.refusals.extend(duplicates(&key, versions, file));
        }
        let after = versions.first_key_value().map(|(_, object)| object);
        match after {
            Some(after) if before.as_ref() != Some(after) => {
                difference.changes.push(Change::Upsert(after.clone()));
            }
            None if before.is_some() => difference.changes.push(Change::Delete(key.clone())),
            _ => {}
        }
        if versions.is_empty() {
            self.objects.remove(&key);
        }
    }
}

/// Refuses the object in this file if an earlier one has it, else in the later files that have it.
fn duplicates(key: &ObjectKey, versions: &BTreeMap<String, Object>, file: &str) -> Vec<Refusal> {
    let Some((first, _)) = versions.first_key_value() else {
        return Vec::new();
    };
    let refused = versions
        .keys()
        .skip(1)
        .filter(|other| first == file || *other == file);
    refused
        .map(|refused| {
            Refusal::of_file(
                refused,
                format!("{key} stands in {first} already, whose version is used"),
            )
        })
        .collect()
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
