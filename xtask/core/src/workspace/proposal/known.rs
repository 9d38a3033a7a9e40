//! An image as another tool's file describes it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::image_reference::{self, Reference};
use crate::paths::join;
use crate::workspace::proposal::proposed::{Proposed, as_name};

/// What determines an image and has no key here that means the same, in Bake's words and in
/// Compose's.
const NOT_TAKEN: [&str; 14] = [
    "annotations",
    "attest",
    "extra-hosts",
    "extra_hosts",
    "labels",
    "matrix",
    "network",
    "no-cache-filter",
    "platforms",
    "provenance",
    "sbom",
    "secret",
    "secrets",
    "ssh",
];

/// An image of another tool's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) name: String,
    /// The tag of its reference, if it is literal and says something.
    pub(super) tag: Option<String>,
    /// What its file calls it.
    pub(super) key: String,
    pub(super) dockerfile: String,
    /// Relative to the root, which is `.`.
    pub(super) context: String,
    pub(super) args: BTreeMap<String, String>,
    /// Args without a literal value, with what stands there.
    pub(super) unknown_args: BTreeMap<String, String>,
    pub(super) target: Option<String>,
    /// Other images, folders and URLs by the names that the Dockerfile has for them.
    pub(super) contexts: BTreeMap<String, String>,
    /// What is said of it and not taken.
    pub(super) comments: Vec<String>,
    /// The file that says so.
    pub(super) file: String,
}

/// What a file, or several, say: images, and what is said of others that cannot be read.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) images: Vec<Known>,
    pub(super) notes: Vec<String>,
}

impl Found {
    pub(super) fn add(&mut self, read: Result<Known, String>) {
        match read {
            Ok(image) => self.images.push(image),
            Err(note) => self.notes.push(note),
        }
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.images.extend(other.images);
        self.notes.extend(other.notes);
    }
}

impl Known {
    pub(super) fn propose(&self, dockerfile: &str, own: &str) -> Proposed {
        Proposed {
            name: self.name.clone(),
            dockerfile: dockerfile.to_owned(),
            context: (self.context != own).then(|| self.context.clone()),
            args: self.args.clone(),
            unknown_args: self.unknown_args.clone(),
            args_file: None,
            target: self.target.clone(),
            contexts: self.contexts.clone(),
            comments: self.comments.clone(),
            file: Some(self.file.clone()),
            key: self.key.clone(),
        }
    }

    /// An image with the keys that Bake and Compose share, and its reference, if that is known.
    /// Otherwise it is called `key`, as in its file.
    ///
    /// # Errors
    /// Why it cannot be said how it is built.
    pub(super) fn of(
        key: &str,
        build: &Value,
        reference: Option<&str>,
        file: &str,
    ) -> Result<Self, String> {
        let text = |key: &str| build.get(key).and_then(Value::as_str);
        if build.get("dockerfile-inline").or(build.get("dockerfile_inline")).is_some() {
            return Err(format!("{file}: '{key}' has its Dockerfile inline: write it to a file"));
        }
        let given = text("context").unwrap_or(".");
        let unknown = || format!("{file}: the folder of '{key}' is not known: {given}");
        let context = clean(given).ok_or_else(unknown)?;
        let folder = if context == "." { "" } else { &context };
        let dockerfile = text("dockerfile").unwrap_or("Dockerfile");
        let dockerfile = clean(&join(folder, dockerfile)).ok_or_else(|| {
            format!("{file}: the Dockerfile of '{key}' is not known: {dockerfile}")
        })?;
        let (args, unknown_args) = args(build.get("args"), file);
        let mut image = Self {
            name: as_name(&reference.and_then(name_in).unwrap_or_else(|| key.to_owned())),
            tag: reference.and_then(tag_in),
            key: key.to_owned(),
            dockerfile,
            context,
            args,
            unknown_args,
            target: None,
            contexts: BTreeMap::new(),
            comments: Vec::new(),
            file: file.to_owned(),
        };
        match text("target") {
            Some(target) if is_unknown(target, file) => image.comment("target", target),
            target => image.target = target.map(str::to_owned),
        }
        for (name, value) in pairs(build.get("contexts").or(build.get("additional_contexts"))) {
            match named_context(&value) {
                Some(context) => drop(image.contexts.insert(name, context)),
                None => image.comment(&format!("contexts.{name}"), &value),
            }
        }
        for key in NOT_TAKEN {
            if let Some(value) = build.get(key).filter(|value| !is_empty(value)) {
                image.comments.push(format!("{file} also has {key}: {value}"));
            }
        }
        Ok(image)
    }

    fn comment(&mut self, key: &str, value: &str) {
        self.comments.push(to_fill_in(key, &self.file, value));
    }
}

/// A line to be filled in by hand, with what another tool's file says.
pub(super) fn to_fill_in(key: &str, file: &str, value: &str) -> String {
    format!("{key} = \"\"  # {file} has: {value}")
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// The name in a reference, of which the tag may be a variable.
pub(super) fn name_in(reference: &str) -> Option<String> {
    let without_tag = reference.split(":$").next().unwrap_or(reference);
    let (repository, _) = image_reference::repository_and_tag(without_tag);
    let name = repository.rsplit('/').next().unwrap_or(repository);
    (!name.is_empty() && !name.contains(['$', '{', '('])).then(|| name.to_owned())
}

/// The tag in a reference, if it tells the image from others.
fn tag_in(reference: &str) -> Option<String> {
    let name = Reference::parse(reference);
    let (_, tag) = reference.strip_prefix(name.repository())?.split_once(':')?;
    (image_reference::is_tag(tag) && tag != "latest").then(|| tag.to_owned())
}

/// What a named context is here; `None` if that is not known. Images are called as in their file.
fn named_context(value: &str) -> Option<String> {
    if value.contains('$') || value.starts_with("oci-layout:") {
        return None;
    }
    match value.split_once(':') {
        Some(("target" | "service", key)) => Some(format!("target:{key}")),
        Some(_) if value.contains("://") => Some(value.to_owned()),
        _ => clean(value),
    }
}

/// Whether a value has variables of its tool in it.
fn is_unknown(value: &str, file: &str) -> bool {
    value.contains('$') || file.starts_with("skaffold") && value.contains("{{")
}

/// The args that have a literal value, and the others.
fn args(given: Option<&Value>, file: &str) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    pairs(given).into_iter().partition(|(_, value)| !is_unknown(value, file))
}

/// The texts of a table, or of a list of `NAME=VALUE`. One without a value is the variable of its
/// name.
fn pairs(given: Option<&Value>) -> Vec<(String, String)> {
    let variable = |name: &str| format!("${name}");
    let scalar = |name: &str, value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null => Some(variable(name)),
        _ => None,
    };
    match given {
        Some(Value::Object(map)) => map
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), scalar(name, value)?)))
            .collect(),
        Some(Value::Array(list)) => {
            let words = list.iter().filter_map(Value::as_str);
            let pair = |word: &str| match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => (word.to_owned(), variable(word)),
            };
            words.map(pair).collect()
        }
        _ => Vec::new(),
    }
}

/// A path from the root without `.` and `..`; `None` if it leaves the root, or is a URL.
pub(super) fn clean(path: &str) -> Option<String> {
    if path.contains("://") || path.contains('$') || path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}
