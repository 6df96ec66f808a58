//! Where a field stands in a document: read a second time, only to report what is wrong with it.

use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::parse::options;

/// One step into a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment<'a> {
    Key(&'a str),
    Index(usize),
}

/// A field's path within its document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Path<'a>(Vec<Segment<'a>>);

impl<'a, const N: usize> From<[Segment<'a>; N]> for Path<'a> {
    fn from(segments: [Segment<'a>; N]) -> Self {
        Self(segments.into())
    }
}

impl<'a> From<&'a serde_path_to_error::Path> for Path<'a> {
    fn from(path: &'a serde_path_to_error::Path) -> Self {
        let segment = |segment: &'a serde_path_to_error::Segment| match segment {
            serde_path_to_error::Segment::Seq { index } => Some(Segment::Index(*index)),
            serde_path_to_error::Segment::Map { key } => Some(Segment::Key(key)),
            serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => None,
        };
        Self(path.iter().map_while(segment).collect())
    }
}

impl<'a> Path<'a> {
    /// The path that keys with dots between them say.
    pub(crate) fn of_keys(keys: &'a str) -> Self {
        Self(keys.split('.').map(Segment::Key).collect())
    }
}

impl Path<'_> {
    pub(super) fn join(mut self, rest: Self) -> Self {
        self.0.extend(rest.0);
        self
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if position == 0 => write!(f, "{key}")?,
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Line and column of a field, from 1; of the nearest field around it where it is not given itself.
pub(crate) fn locate(text: &str, path: &Path<'_>) -> Option<(u64, u64)> {
    (0..=path.0.len()).rev().find_map(|length| {
        serde_saphyr::with_deserializer_from_str_with_options(text, options(), |deserializer| {
            Locate(&path.0[..length]).deserialize(deserializer)
        })
        .ok()
        .flatten()
    })
}

struct Locate<'a>(&'a [Segment<'a>]);

impl<'de> DeserializeSeed<'de> for Locate<'_> {
    type Value = Option<(u64, u64)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.0.first() {
            Some(Segment::Key(_)) => deserializer.deserialize_map(self),
            Some(Segment::Index(_)) => deserializer.deserialize_seq(self),
            None => {
                let place = Spanned::<IgnoredAny>::deserialize(deserializer)?.referenced;
                Ok(Some((place.line(), place.column())))
            }
        }
    }
}

impl<'de> Visitor<'de> for Locate<'_> {
    type Value = Option<(u64, u64)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the way to a field")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if matches!(self.0.first(), Some(Segment::Key(wanted)) if **wanted == key) {
                found = map.next_value_seed(Locate(&self.0[1..]))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let mut index = 0;
        loop {
            if self.0.first() == Some(&Segment::Index(index)) {
                let Some(place) = list.next_element_seed(Locate(&self.0[1..]))? else {
                    return Ok(found);
                };
                found = place;
            } else if list.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            index += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "kind: Service\nspec:\n  ports:\n  - port: 1\n  - name: b\n    port: 2\n";

    #[test]
    fn a_field_is_found_by_its_path() {
        use Segment::{Index, Key};
        let path = Path::from([Key("spec"), Key("ports"), Index(1), Key("port")]);
        assert_eq!(path.to_string(), "spec.ports[1].port");
        assert_eq!(locate(TEXT, &path), Some((6, 11)));
    }

    #[test]
    fn what_is_missing_is_placed_where_it_should_be() {
        use Segment::{Index, Key};
        let path = Path::from([Key("spec"), Key("ports"), Index(1), Key("protocol")]);
        assert_eq!(locate(TEXT, &path).map(|(line, _)| line), Some(5));
        assert_eq!(
            locate(TEXT, &Path::from([Key("metadata")])).map(|(line, _)| line),
            Some(1)
        );
    }
}
