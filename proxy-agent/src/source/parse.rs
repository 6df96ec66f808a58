//! From the text of a manifest to objects: several documents a file, and Lists.

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::DeserializeSeed;
use serde_path_to_error::Track;
use serde_saphyr::MessageFormatter;

use super::identify::identify;
use super::locate::{Path, Segment, locate};
use super::seed::{Kind, ListSeed, ObjectSeed};
use super::validate::validate;
use super::{Object, Refusal};

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// Services, EndpointSlices, Nodes and ServiceCIDRs, in the order of the file.
    pub(super) objects: Vec<Object>,
    /// Kinds of objects that a node's proxy does not use.
    pub(super) ignored: Vec<String>,
}

/// Reads all objects of a file; the first thing that is wrong refuses the whole file.
pub(super) fn parse(file: &str, text: &str) -> Result<Parsed, Refusal> {
    let mut parsed = Parsed::default();
    let mut keys = HashSet::new();
    for document in documents(text) {
        let refuse = |fault: Fault| fault.of_object(document.text).refusal(file, document.line);
        for (path, object) in read_document(&document, &mut parsed.ignored).map_err(refuse)? {
            let problem = validate(&object)
                .err()
                .or_else(|| (!keys.insert(object.key())).then(|| second_of(&object)));
            if let Some((field, message)) = problem {
                return Err(refuse(Fault::located(document.text, path.join(field), message)));
            }
            parsed.objects.push(object);
        }
    }
    Ok(parsed)
}

/// The objects of a manifest's text that a node's proxy uses; `name` is what a refusal calls it.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn parse_manifest(name: &str, text: &str) -> Result<Vec<Object>, Refusal> {
    parse(name, text).map(|parsed| parsed.objects)
}

fn second_of(object: &Object) -> (Path<'static>, String) {
    let path = Path::from([Segment::Key("metadata"), Segment::Key("name")]);
    (path, format!("{} stands in this file twice", object.key()))
}

/// One document of a file, and the line before its first.
pub(super) struct Document<'a> {
    pub(super) text: &'a str,
    pub(super) line: u64,
}

/// Splits at `---` at the start of a line, which can be nothing else in YAML.
pub(super) fn documents(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if is_marker(line) && offset > start {
            documents.push(Document {
                text: &text[start..offset],
                line: start_line,
            });
            (start, start_line) = (offset, number as u64);
        }
        offset += line.len();
    }
    documents.push(Document {
        text: &text[start..],
        line: start_line,
    });
    documents
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// What is wrong with a document; the line counts from the document's first.
pub(super) struct Fault {
    position: Option<(u64, u64)>,
    field: String,
    message: String,
}

impl Fault {
    pub(super) fn located(text: &str, path: Path<'_>, message: String) -> Self {
        Self {
            position: locate(text, &path),
            field: path.to_string(),
            message,
        }
    }

    /// Names the object, where that can be read and is not named yet.
    pub(super) fn of_object(self, text: &str) -> Self {
        let object = identify(text, &self.field).filter(|object| !self.message.contains(object));
        let message = match object {
            Some(object) => format!("{} ({object})", self.message),
            None => self.message,
        };
        Self { message, ..self }
    }

    pub(super) fn refusal(self, file: &str, lines_before: u64) -> Refusal {
        let (line, column) = self
            .position
            .map_or((0, 0), |(line, column)| (line + lines_before, column));
        Refusal {
            file: file.to_owned(),
            line,
            column,
            field: self.field,
            message: self.message,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Shape {
    api_version: Option<String>,
    kind: Option<String>,
}

#[derive(Deserialize)]
struct ListShape {
    items: Option<Vec<Shape>>,
}

fn read_document(
    document: &Document<'_>,
    ignored: &mut Vec<String>,
) -> Result<Vec<(Path<'static>, Object)>, Fault> {
    let text = document.text;
    let Some((api_version, kind)) = type_of(text)? else {
        return Ok(Vec::new());
    };
    if let Some(kind) = Kind::of(&api_version, &kind) {
        let object = read(text, ObjectSeed(Some(kind)))?;
        return Ok(object
            .map(|object| (Path::default(), object))
            .into_iter()
            .collect());
    }
    match kind.strip_suffix("List") {
        Some(item_kind) => read_list(text, &api_version, item_kind, ignored),
        None => {
            ignored.push(format!("{api_version} {kind}"));
            Ok(Vec::new())
        }
    }
}

/// apiVersion and kind of a document; none if it is empty.
fn type_of(text: &str) -> Result<Option<(String, String)>, Fault> {
    if let (Some(api_version), Some(kind)) = (plain_value(text, "apiVersion: "), plain_value(text, "kind: "))
        && Kind::of(api_version, kind).is_some()
    {
        return Ok(Some((api_version.to_owned(), kind.to_owned())));
    }
    let Some(shape) = read(text, std::marker::PhantomData::<Option<Shape>>)? else {
        return Ok(None);
    };
    let missing = |field| Fault::located(text, Path::default(), format!("the document has no `{field}`"));
    let kind = shape.kind.ok_or_else(|| missing("kind"))?;
    let api_version = shape.api_version.ok_or_else(|| missing("apiVersion"))?;
    Ok(Some((api_version, kind)))
}

/// The value of a key that starts a line, if it is as plain as these two are wont to be: so that a document need not
/// be read twice.
fn plain_value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?.trim_end();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/' | b'-');
    (!value.is_empty() && value.bytes().all(is_plain)).then_some(value)
}

/// Items of a typed list, such as ServiceList, need not repeat their kind.
fn read_list(
    text: &str,
    list_version: &str,
    item_kind: &str,
    ignored: &mut Vec<String>,
) -> Result<Vec<(Path<'static>, Object)>, Fault> {
    let shape: ListShape = read(text, std::marker::PhantomData)?;
    let mut kinds = Vec::new();
    for item in shape.items.unwrap_or_default() {
        let version = item.api_version.as_deref().unwrap_or(list_version);
        let kind = item.kind.as_deref().unwrap_or(item_kind);
        let known = Kind::of(version, kind);
        if known.is_none() {
            ignored.push(format!("{version} {kind}"));
        }
        kinds.push(known);
    }
    let objects = read(text, ListSeed(&kinds))?;
    let with_path = |(index, object): (usize, Option<Object>)| {
        let path = Path::from([Segment::Key("items"), Segment::Index(index)]);
        object.map(|object| (path, object))
    };
    Ok(objects.into_iter().enumerate().filter_map(with_path).collect())
}

/// Reads a whole document; an error names the field and its place.
pub(super) fn read<'de, S: DeserializeSeed<'de>>(text: &'de str, seed: S) -> Result<S::Value, Fault> {
    let mut track = Track::new();
    let result = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |deserializer| {
        seed.deserialize(serde_path_to_error::Deserializer::new(deserializer, &mut track))
    });
    result.map_err(|error| {
        let path = track.path();
        let path = Path::from(&path);
        let place = || error.location().map(|place| (place.line(), place.column()));
        Fault {
            position: exact_place(text, &path).or_else(place),
            field: path.to_string(),
            message: serde_saphyr::DefaultMessageFormatter
                .format_message(error.without_snippet())
                .into_owned(),
        }
    })
}

/// A file is the operator's own, and may be as large as a cluster: only what grows beyond the file itself (aliases,
/// depth) is bounded.
pub(crate) fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_total_scalar_bytes: usize::MAX,
        },
        with_snippet: false,
    }
}

/// The place of the value itself, where the parser's error may name that of its key.
fn exact_place(text: &str, path: &Path<'_>) -> Option<(u64, u64)> {
    if *path == Path::default() {
        None
    } else {
        locate(text, path)
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(super) mod tests_support {
    /// The objects of a manifest, for the tests of other stages.
    pub(crate) fn objects(text: &str) -> Vec<crate::source::Object> {
        super::parse("test.yaml", text).unwrap().objects
    }
}
