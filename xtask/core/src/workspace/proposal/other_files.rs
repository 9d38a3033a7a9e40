//! What other tools' files say about the images of a repository: Bake's, Compose's and
//! Skaffold's, and the commands in scripts and workflows, in this order.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::paths::join;
use crate::regular_file;
use crate::workspace::proposal::commands;
use crate::workspace::proposal::hcl;
use crate::workspace::proposal::known::{Known, clean};

const BAKE_FILES: [&str; 3] = ["docker-bake.json", "docker-bake.hcl", "docker-bake.override.hcl"];

const COMPOSE_FILES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

const SKAFFOLD_FILES: [&str; 2] = ["skaffold.yaml", "skaffold.yml"];

const WORKFLOWS: &str = ".github/workflows";

/// The folders of scripts that build images.
const SCRIPTS: [&str; 6] = ["", "scripts", "hack", "ci", "tools", "build"];

/// The images of all such files; the first file that knows a Dockerfile and its target counts.
pub(super) fn read(root: &Path, printed: Option<&Value>) -> Vec<Known> {
    let mut known: Vec<Known> = Vec::new();
    let mut add = |found: Vec<Known>| {
        let (mut new, mut names) = (Vec::new(), Vec::new());
        for image in found {
            let is_known = known.iter().any(|other| {
                let is_same = other.dockerfile == image.dockerfile && other.target == image.target;
                other.name == image.name || is_same
            });
            if !is_known && !names.contains(&image.name) {
                names.push(image.name.clone());
                new.push(image);
            }
        }
        known.extend(new);
    };
    // What Bake prints has the values of functions.
    add(printed.and_then(|printed| targets(printed, "docker-bake.hcl")).unwrap_or_default());
    for file in BAKE_FILES {
        add(bake(root, file).unwrap_or_default());
    }
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
            if ["Makefile", "makefile", "GNUmakefile"].contains(&name) || has_extension(name, "sh")
            {
                let text = regular_file::read_to_string(&root.join(&file)).unwrap_or_default();
                add(commands::images(&text, &file, folder));
            }
        }
    }
    known
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

fn read_yaml(root: &Path, file: &str) -> Vec<Value> {
    let text = regular_file::read_to_string(&root.join(file)).unwrap_or_default();
    let documents = serde_yaml::Deserializer::from_str(&text);
    documents.map_while(|document| Value::deserialize(document).ok()).collect()
}

fn bake(root: &Path, file: &str) -> Option<Vec<Known>> {
    let text = regular_file::read_to_string(&root.join(file)).ok()?;
    let document = if has_extension(file, "hcl") {
        hcl::read(&text)
    } else {
        serde_json::from_str(&text).ok()?
    };
    targets(&document, file)
}

fn targets(document: &Value, file: &str) -> Option<Vec<Known>> {
    let targets = document.get("target")?.as_object()?;
    let images = targets.keys().filter_map(|name| {
        let target = inherited(targets, name, 0)?;
        let tag = target.get("tags").and_then(|tags| tags.get(0)).and_then(Value::as_str);
        // Others only inherit from it.
        let is_image =
            ["context", "dockerfile", "tags"].iter().any(|key| target.get(key).is_some());
        is_image.then(|| Known::of(name, &target, tag, file)).flatten()
    });
    Some(images.collect())
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

fn compose(root: &Path, file: &str) -> Option<Vec<Known>> {
    let document = read_yaml(root, file).into_iter().next()?;
    let services = document.get("services")?.as_object()?.iter();
    let built = services.filter_map(|(name, service)| {
        let build = service.get("build")?;
        let short = build.as_str().map(|context| serde_json::json!({ "context": context }));
        let reference = service.get("image").and_then(Value::as_str);
        Known::of(name, short.as_ref().unwrap_or(build), reference, file)
    });
    Some(built.collect())
}

fn skaffold(root: &Path, file: &str) -> Vec<Known> {
    let documents = read_yaml(root, file);
    let artifacts = documents.iter().filter_map(|it| it.get("build")?.get("artifacts")?.as_array());
    let images = artifacts.flatten().filter_map(|artifact| {
        let reference = artifact.get("image")?.as_str()?;
        let docker = artifact.get("docker").cloned().unwrap_or_default();
        let build = serde_json::json!({
            "context": artifact.get("context").and_then(Value::as_str).unwrap_or("."),
            "dockerfile": docker.get("dockerfile").and_then(Value::as_str).unwrap_or("Dockerfile"),
            "args": docker.get("buildArgs"),
            "target": docker.get("target"),
        });
        Known::of(reference, &build, Some(reference), file)
    });
    images.collect()
}

/// The images of `docker/build-push-action`, and of commands.
fn workflow(root: &Path, file: &str) -> Option<Vec<Known>> {
    let document = read_yaml(root, file).into_iter().next()?;
    let jobs = document.get("jobs")?.as_object()?.values();
    let steps = jobs.filter_map(|job| job.get("steps")?.as_array()).flatten();
    let mut images = Vec::new();
    for step in steps {
        let text = |key: &str| step.get(key).and_then(Value::as_str);
        if text("uses").is_some_and(|action| action.starts_with("docker/build-push-action")) {
            images.extend(pushed(step.get("with")?, file));
        }
        images.extend(commands::images(text("run").unwrap_or_default(), file, ""));
    }
    Some(images)
}

/// The image of a `docker/build-push-action`, whose lists are lines.
fn pushed(with: &Value, file: &str) -> Option<Known> {
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
    Some(Known { dockerfile: clean(&dockerfile)?, ..image })
}
