//! What other tools' files say about the images of a repository: `compose.yaml` and
//! `docker-bake.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::image_reference;
use crate::paths::join;
use crate::regular_file;
use crate::workspace::proposal::proposed::{Proposed, as_name};

const COMPOSE_FILES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

const BAKE_FILES: [&str; 1] = ["docker-bake.json"];

/// An image of another tool's file.
#[derive(Debug)]
pub(super) struct Known {
    name: String,
    pub(super) dockerfile: String,
    /// Relative to the root, which is `.`.
    context: String,
    args: BTreeMap<String, String>,
    target: Option<String>,
    /// The file that says so.
    file: &'static str,
}

impl Known {
    pub(super) fn propose(&self, dockerfile: &str) -> Proposed {
        let own = dockerfile.rsplit_once('/').map_or(".", |(folder, _)| folder);
        Proposed {
            name: self.name.clone(),
            dockerfile: dockerfile.to_owned(),
            context: (self.context != own).then(|| self.context.clone()),
            args: self.args.clone(),
            target: self.target.clone(),
            comments: vec![format!("as in {}", self.file)],
        }
    }
}

/// The images of all such files; the first that names an image counts.
pub(super) fn read(root: &Path) -> Vec<Known> {
    let mut known: Vec<Known> = Vec::new();
    let mut add = |found: Vec<Known>| {
        for image in found {
            if !known.iter().any(|other| other.name == image.name) {
                known.push(image);
            }
        }
    };
    for file in BAKE_FILES {
        add(bake(root, file).unwrap_or_default());
    }
    for file in COMPOSE_FILES {
        add(compose(root, file).unwrap_or_default());
    }
    known
}

fn bake(root: &Path, file: &'static str) -> Option<Vec<Known>> {
    let text = regular_file::read_to_string(&root.join(file)).ok()?;
    let document: Value = serde_json::from_str(&text).ok()?;
    let targets = document.get("target")?.as_object()?.iter();
    Some(targets.filter_map(|(name, target)| image(name, target, target, file)).collect())
}

fn compose(root: &Path, file: &'static str) -> Option<Vec<Known>> {
    let text = regular_file::read_to_string(&root.join(file)).ok()?;
    let document: Value = serde_yaml::from_str(&text).ok()?;
    let services = document.get("services")?.as_object()?.iter();
    let built = services.filter_map(|(name, service)| {
        let build = service.get("build")?;
        let short = build.as_str().map(|context| serde_json::json!({ "context": context }));
        image(name, short.as_ref().unwrap_or(build), service, file)
    });
    Some(built.collect())
}

/// An image with the keys that Bake and Compose share. `named` has its `image` or `tags`.
fn image(name: &str, build: &Value, named: &Value, file: &'static str) -> Option<Known> {
    let text = |key: &str| build.get(key).and_then(Value::as_str);
    let context = clean(text("context").unwrap_or("."))?;
    let folder = if context == "." { "" } else { &context };
    let dockerfile = clean(&join(folder, text("dockerfile").unwrap_or("Dockerfile")))?;
    let tags = named.get("tags").and_then(|tags| tags.get(0)).and_then(Value::as_str);
    let reference = tags.or_else(|| named.get("image").and_then(Value::as_str));
    // A tag may be a variable.
    let reference = reference.map(|reference| reference.split(":$").next().unwrap_or(reference));
    let from_reference = reference.filter(|reference| !reference.contains('$')).map(|reference| {
        let (repository, _) = image_reference::repository_and_tag(reference);
        repository.rsplit('/').next().unwrap_or(repository).to_owned()
    });
    let name = as_name(&from_reference.unwrap_or_else(|| name.to_owned()));
    Some(Known {
        name,
        dockerfile,
        context,
        args: args(build),
        target: text("target").map(str::to_owned),
        file,
    })
}

/// The args that have a literal value.
fn args(build: &Value) -> BTreeMap<String, String> {
    let scalar = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    };
    let all: Vec<(String, String)> = match build.get("args") {
        Some(Value::Object(map)) => {
            map.iter().filter_map(|(name, value)| Some((name.clone(), scalar(value)?))).collect()
        }
        Some(Value::Array(list)) => {
            let words = list.iter().filter_map(Value::as_str);
            words
                .filter_map(|word| word.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect()
        }
        _ => Vec::new(),
    };
    all.into_iter().filter(|(_, value)| !value.contains('$')).collect()
}

/// A path from the root without `.` and `..`; `None` if it leaves the root, or is a URL.
fn clean(path: &str) -> Option<String> {
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
