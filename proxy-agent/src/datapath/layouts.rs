//! Layouts that maps have had, and how their entries become those of this version's and back.
//!
//! A change of a key or value raises [`LAYOUT_VERSION`] and puts what was before into
//! [`OLDER`]: all maps that changed, each with its sizes and two functions over bytes. An upgrade goes by it from any of
//! these layouts to this version's, and `shunt downgrade` goes back.

use proxy_common::layout::LAYOUT_VERSION;

use super::error::DatapathError;
use super::instance::Instance;
use super::sys::MapDefinition;

/// The layouts that this version converts, in ascending order.
pub(super) static OLDER: &[Layout] = &[
    #[cfg(feature = "next-layout")]
    super::layout_shipped::LAYOUT,
];

/// A key and its value, in bytes.
pub(super) type Entry = (Vec<u8>, Vec<u8>);

/// Turns an entry's bytes into those of another layout; `None`: there it means nothing.
pub(super) type Convert = fn(key: &[u8], value: &[u8]) -> Option<Entry>;

/// A layout that is not this version's.
#[derive(Debug)]
pub(super) struct Layout {
    /// Its number.
    pub(super) version: u32,
    /// The maps whose keys or values were others; each other map is as it is now.
    pub(super) changed: &'static [Form],
}

/// What the entries of one map were.
#[derive(Debug)]
pub(super) struct Form {
    /// The map.
    pub(super) name: &'static str,
    /// Bytes of a key.
    pub(super) key_size: u32,
    /// Bytes of a value.
    pub(super) value_size: u32,
    /// Into this version's.
    pub(super) upgrade: Convert,
    /// Out of this version's.
    pub(super) downgrade: Convert,
}

impl Layout {
    /// What the entries of a map were, if others than they are now.
    pub(super) fn form(&self, name: &str) -> Option<&Form> {
        self.changed.iter().find(|form| form.name == name)
    }
}

/// The layout of this number; refuses one that is not known.
pub(super) fn find(version: u32, known: &[Layout]) -> Result<&Layout, DatapathError> {
    known.iter().find(|layout| layout.version == version).ok_or_else(|| {
        let known: Vec<String> = known.iter().map(|layout| layout.version.to_string()).collect();
        DatapathError::Refused(format!(
            "this version of Shunt has layout version {LAYOUT_VERSION} and goes back to {}, not to {version}",
            if known.is_empty() {
                "no other".to_owned()
            } else {
                known.join(", ")
            }
        ))
    })
}

/// A map's definition in another layout.
pub(super) fn defined<'a>(form: Option<&Form>, now: &MapDefinition<'a>) -> MapDefinition<'a> {
    let mut definition = *now;
    if let Some(form) = form {
        definition.key_size = form.key_size;
        definition.value_size = form.value_size;
    }
    definition
}

/// The layout whose maps are there besides this version's, or in their place; refuses one that is not known.
pub(super) fn other<'a>(
    instance: &Instance,
    known: &'a [Layout],
) -> Result<Option<&'a Layout>, DatapathError> {
    let others = instance.others()?;
    let Some(last) = others.last() else {
        return Ok(None);
    };
    let find = |version: u32| known.iter().find(|layout| layout.version == version);
    match (others.len(), find(*last)) {
        (1, Some(layout)) => Ok(Some(layout)),
        // A change from one to the other was begun, by a version that knows both.
        _ => Err(instance.foreign(*last)),
    }
}

/// Where marks of what was changed on the node are: with this version's layout, or with the older one that is there alone.
pub(super) fn present(instance: &Instance, known: &[Layout]) -> Result<Instance, DatapathError> {
    let older = other(instance, known)?;
    Ok(match older {
        Some(older) if !instance.version().exists() => instance.of_layout(older.version),
        _ => instance.clone(),
    })
}
