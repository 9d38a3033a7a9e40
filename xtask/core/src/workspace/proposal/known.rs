//! An image as another tool's file describes it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::image_reference;
use crate::paths::join;
use crate::workspace::proposal::proposed::{Proposed, as_name};

/// An image of another tool's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) dockerfile: String,
    /// Relative to the root, which is `.`.
    pub(super) context: String,
    pub(super) args: BTreeMap<String, String>,
    pub(super) target: Option<String>,
    /// The file that says so.
    pub(super) file: String,
}

impl Known {
    pub(super) fn propose(&self, dockerfile: &str) -> Proposed {
        let own = dockerfile.rsplit_once('/').map_or(".", |(folder, _)| folder);
        Proposed {
            name: self.name.clone(),
            dockerfile: dockerfile.to_owned(),
            context: (self.context != own).then(|| self.context.clone()),
            args: self.args.clone(),
            args_file: None,
            target: self.target.clone(),
            comments: vec![format!("as in {}", self.file)],
        }
    }

    /// An image with the keys that Bake and Compose share, and its reference, if that is known.
    /// Otherwise it is called `name`.
    pub(super) fn of(
        name: &str,
        build: &Value,
        reference: Option<&str>,
        file: &str,
    ) -> Option<Self> {
        let text = |key: &str| build.get(key).and_then(Value::as_str);
        let context = clean(text("context").unwrap_or("."))?;
        let folder = if context == "." { "" } else { &context };
        let dockerfile = clean(&join(folder, text("dockerfile").unwrap_or("Dockerfile")))?;
        let name = reference.and_then(name_in).unwrap_or_else(|| name.to_owned());
        Some(Self {
            name: as_name(&name),
            dockerfile,
            context,
            args: args(build.get("args")),
            target: text("target").map(str::to_owned),
            file: file.to_owned(),
        })
    }
}

/// The name in a reference, of which the tag may be a variable.
pub(super) fn name_in(reference: &str) -> Option<String> {
    let without_tag = reference.split(":$").next().unwrap_or(reference);
    let (repository, _) = image_reference::repository_and_tag(without_tag);
    let name = repository.rsplit('/').next().unwrap_or(repository);
    (!name.is_empty() && !name.contains(['$', '{', '('])).then(|| name.to_owned())
}

/// The args that have a literal value: of a table, or of a list of `NAME=VALUE`.
fn args(given: Option<&Value>) -> BTreeMap<String, String> {
    let scalar = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    };
    let all: Vec<(String, String)> = match given {
        Some(Value::Object(map)) => {
            map.iter().filter_map(|(name, value)| Some((name.clone(), scalar(value)?))).collect()
        }
        Some(Value::Array(list)) => {
            let words = list.iter().filter_map(Value::as_str);
            let pairs = words.filter_map(|word| word.split_once('='));
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        }
        _ => Vec::new(),
    };
    all.into_iter().filter(|(_, value)| !value.contains('$')).collect()
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
