//! What other tools' files say about the images of a repository: Bake's, Compose's and
//! Skaffold's, and the commands in scripts and workflows, in this order.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::paths::join;
use crate::regular_file;
use crate::workspace::proposal::commands::{self, Place};
use crate::workspace::proposal::hcl;
use crate::workspace::proposal::known::{Found, Known, clean};
use crate::workspace::proposal::proposed::as_name;

const BAKE_FILES: [&str; 3] = ["docker-bake.json", "docker-bake.hcl", "docker-bake.override.hcl"];

const COMPOSE_FILES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

const SKAFFOLD_FILES: [&str; 2] = ["skaffold.yaml", "skaffold.yml"];

const WORKFLOWS: &str = ".github/workflows";

/// The folders of scripts that build images.
const SCRIPTS: [&str; 6] = ["", "scripts", "hack", "ci", "tools", "build"];

/// What all such files say; the first file that knows a Dockerfile and its target counts.
pub(super) fn read(root: &Path, printed: Option<&Value>) -> Found {
    let mut found = Found::default();
    let mut add = |of_file: Found| {
        let Found { mut images, notes } = of_file;
        tell_apart(&mut images);
        images.retain(|image| {
            !found.images.iter().any(|other| {
                let is_same = other.dockerfile == image.dockerfile && other.target == image.target;
                other.name == image.name || is_same
            })
        });
        found.extend(Found { images, notes });
    };
    add(bake(root, printed));
    for file in COMPOSE_FILES {
        add(compose(root, file).unwrap_or_default());
    }
    for file in SKAFFOLD_FILES {
        add(skaffold(root, file));
    }
    for file in names_in(root, WORKFLOWS) {
        let is_yaml = has_extension(&file, "yml") || has_extension(&file, "yaml");
        add(is_yaml.then(|| workflow(root, &file)).flatten().unwrap_or_default());
    }
    for folder in SCRIPTS {
        for file in names_in(root, folder) {
            let name = file.rsplit('/').next().unwrap_or(&file);
            let is_makefile = ["Makefile", "makefile", "GNUmakefile"].contains(&name);
            if is_makefile || has_extension(name, "sh") {
                let text = regular_file::read_to_string(&root.join(&file)).unwrap_or_default();
                let start = Place::Start(folder.to_owned());
                add(commands::images(&text, &file, &start, is_makefile));
            }
        }
    }
    found
}

/// Tells images of one file that have the same name apart: by their tags, or else by what the file
/// calls them. What is then left is built again under its name.
fn tell_apart(images: &mut Vec<Known>) {
    let with_tag = |image: &Known| Some(format!("{}:{}", image.name, image.tag.as_ref()?));
    let with_key = |image: &Known| (!image.key.is_empty()).then(|| as_name(&image.key));
    rename_shared(images, with_tag);
    rename_shared(images, with_key);
    let mut kept: Vec<Known> = Vec::new();
    for image in images.drain(..) {
        let is_again = |other: &&mut Known| {
            other.name == image.name
                && other.dockerfile == image.dockerfile
                && other.target == image.target
        };
        match kept.iter_mut().find(is_again) {
            None => kept.push(image),
            Some(first) if first.args == image.args && first.context == image.context => {}
            Some(first) => {
                let Known { file, context, args, .. } = &image;
                let comment = format!("{file} also builds it in {context} with args {args:?}");
                first.comments.push(comment);
            }
        }
    }
    *images = kept;
}

/// Gives images that share a name another one, if there is one.
fn rename_shared(images: &mut [Known], other_name: impl Fn(&Known) -> Option<String>) {
    let names: Vec<String> = images.iter().map(|image| image.name.clone()).collect();
    let is_shared = |name: &String| names.iter().filter(|other| *other == name).count() > 1;
    for image in images.iter_mut().filter(|image| is_shared(&image.name)) {
        if let Some(name) = other_name(image) {
            image.name = name;
        }
    }
}

fn has_extension(file: &str, extension: &str) -> bool {
    Path::new(file).extension().is_some_and(|it| it == extension)
}

/// What is in a folder, relative to the root, sorted.
pub(super) fn names_in(root: &Path, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut paths: Vec<String> = names.map(|name| join(folder, &name)).collect();
    paths.sort();
    paths
}

/// The documents of a file, with what they merge by `<<`.
fn read_yaml(root: &Path, file: &str) -> Vec<Value> {
    let text = regular_file::read_to_string(&root.join(file)).unwrap_or_default();
    let documents = serde_yaml::Deserializer::from_str(&text);
    let merged = documents.map_while(|document| {
        let mut value = serde_yaml::Value::deserialize(document).ok()?;
        value.apply_merge().ok()?;
        serde_json::to_value(value).ok()
    });
    merged.collect()
}

/// The targets of Bake's files. The first that has a target counts: what Bake prints has the values
/// of functions.
fn bake(root: &Path, printed: Option<&Value>) -> Found {
    let printed = printed.map(|printed| (printed.clone(), "docker-bake.hcl"));
    let written = BAKE_FILES.iter().filter_map(|file| Some((bake_file(root, file)?, *file)));
    let (mut found, mut seen) = (Found::default(), BTreeSet::new());
    for (document, file) in printed.into_iter().chain(written) {
        let Some(targets) = document.get("target").and_then(Value::as_object) else { continue };
        for name in targets.keys().filter(|name| seen.insert((*name).clone())) {
            if let Some(target) = inherited(targets, name, 0).filter(is_image) {
                let tag = target.get("tags").and_then(|tags| tags.get(0)).and_then(Value::as_str);
                found.add(Known::of(name, &target, tag, file));
            }
        }
    }
    found
}

fn bake_file(root: &Path, file: &str) -> Option<Value> {
    let text = regular_file::read_to_string(&root.join(file)).ok()?;
    if has_extension(file, "hcl") {
        Some(hcl::read(&text))
    } else {
        serde_json::from_str(&text).ok()
    }
}

/// Whether a target is more than what others inherit from.
fn is_image(target: &Value) -> bool {
    let keys = ["context", "dockerfile", "dockerfile-inline", "tags"];
    keys.iter().any(|key| target.get(key).is_some())
}

/// A target with what it inherits, of which the last counts.
fn inherited(targets: &serde_json::Map<String, Value>, name: &str, depth: usize) -> Option<Value> {
    const DEEPEST: usize = 16;
    let own = targets.get(name)?.as_object()?;
    let mut merged = serde_json::Map::new();
    let mut add = |from: &serde_json::Map<String, Value>| {
        for (key, value) in from {
            match (merged.get_mut(key), value) {
                (Some(Value::Object(before)), Value::Object(more)) => {
                    before.extend(more.clone());
                }
                _ => drop(merged.insert(key.clone(), value.clone())),
            }
        }
    };
    let parents = own.get("inherits").and_then(Value::as_array).into_iter().flatten();
    for parent in parents.filter_map(Value::as_str).filter(|_| depth < DEEPEST) {
        if let Some(Value::Object(parent)) = inherited(targets, parent, depth + 1) {
            add(&parent);
        }
    }
    add(own);
    Some(merged.into())
}

fn compose(root: &Path, file: &str) -> Option<Found> {
    let document = read_yaml(root, file).into_iter().next()?;
    let mut found = Found::default();
    for (name, service) in document.get("services")?.as_object()? {
        let Some(build) = service.get("build") else { continue };
        let short = build.as_str().map(|context| serde_json::json!({ "context": context }));
        let reference = service.get("image").and_then(Value::as_str);
        found.add(Known::of(name, short.as_ref().unwrap_or(build), reference, file));
    }
    Some(found)
}

fn skaffold(root: &Path, file: &str) -> Found {
    let documents = read_yaml(root, file);
    let artifacts = documents.iter().filter_map(|it| it.get("build")?.get("artifacts")?.as_array());
    let mut found = Found::default();
    for artifact in artifacts.flatten() {
        let Some(reference) = artifact.get("image").and_then(Value::as_str) else { continue };
        let docker = artifact.get("docker").cloned().unwrap_or_default();
        let build = serde_json::json!({
            "context": artifact.get("context").and_then(Value::as_str).unwrap_or("."),
            "dockerfile": docker.get("dockerfile").and_then(Value::as_str).unwrap_or("Dockerfile"),
            "args": docker.get("buildArgs"),
            "target": docker.get("target"),
        });
        found.add(Known::of(reference, &build, Some(reference), file));
    }
    found
}

/// The images of `docker/build-push-action`, and of commands.
fn workflow(root: &Path, file: &str) -> Option<Found> {
    let document = read_yaml(root, file).into_iter().next()?;
    let jobs = document.get("jobs")?.as_object()?.values();
    let steps = jobs.filter_map(|job| job.get("steps")?.as_array()).flatten();
    let mut found = Found::default();
    for step in steps {
        let text = |key: &str| step.get(key).and_then(Value::as_str);
        let is_action = text("uses").is_some_and(|it| it.starts_with("docker/build-push-action"));
        if let Some(with) = step.get("with").filter(|_| is_action) {
            found.add(pushed(with, file));
        }
        let root = Place::Start(String::new());
        let start = text("working-directory").map_or(root.clone(), |folder| root.after(folder));
        found.extend(commands::images(text("run").unwrap_or_default(), file, &start, false));
    }
    Some(found)
}

/// The image of a `docker/build-push-action`, whose lists are lines.
fn pushed(with: &Value, file: &str) -> Result<Known, String> {
    let text = |key: &str| with.get(key).and_then(Value::as_str);
    let lines = |key: &str| text(key).unwrap_or_default().lines().map(str::trim);
    let context = text("context").unwrap_or(".");
    // It is from the root, and elsewhere from the context.
    let dockerfile = text("file").map_or_else(|| join(context, "Dockerfile"), str::to_owned);
    let mut tags = text("tags").unwrap_or_default().split(['\n', ',']).map(str::trim);
    let args: Vec<&str> = lines("build-args").filter(|line| !line.is_empty()).collect();
    let build = serde_json::json!({ "context": context, "args": args, "target": text("target") });
    let name = dockerfile.rsplit('/').nth(1).unwrap_or("image").to_owned();
    let image = Known::of(&name, &build, tags.find(|tag| !tag.is_empty()), file)?;
    let unknown = || format!("{file}: the Dockerfile of '{name}' is not known: {dockerfile}");
    Ok(Known { dockerfile: clean(&dockerfile).ok_or_else(unknown)?, key: String::new(), ..image })
}
