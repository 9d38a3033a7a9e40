//! Proposes an `xtask.toml` for a repository: what `init` writes.
//!
//! The Dockerfiles are found, and other tools' files say how images are called and built.
//! Images that differ only in one folder become one table with a pattern. Nothing is asked;
//! what cannot be found out is a comment with the line to fill in.

mod args_file;
mod commands;
mod context;
mod hcl;
mod known;
mod other_files;
mod proposed;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::dockerfile::parser::{self, ImageUse, ParseError};
use crate::dockerfile::platform_args::is_predefined;
use crate::image_reference::familiar;
use crate::paths::join;
use crate::regular_file;
use crate::workspace::strays::find_dockerfiles;

use known::{Found, Known};
use proposed::{Proposed, as_name, in_src, own_context};

/// What `init` writes.
#[derive(Debug)]
pub struct Proposal {
    /// The text of the file.
    pub text: String,
    /// The names of the images, sorted.
    pub images: Vec<String>,
}

/// Proposes a file for the repository at `root`. `bake` is what Bake itself says about its files.
pub fn propose(root: &Path, bake: Option<&Value>) -> Proposal {
    let Found { images: known, mut notes } = other_files::read(root, bake);
    let dockerfiles = dockerfiles(root, &known, &mut notes);
    let mut images = images(root, &dockerfiles, &known, &mut notes);
    images.retain(|image| {
        let Proposed { name, dockerfile, .. } = image;
        let is_found = tables::can_find(root, image);
        if !is_found {
            notes.push(format!("no table can find {dockerfile} of image '{name}': rename it"));
        }
        is_found
    });
    make_unique(&mut images);
    name_bases(root, &mut images);
    find_contexts(root, &mut images);
    let text = tables::write(root, &images, &notes);
    let names: BTreeSet<String> = images.into_iter().map(|image| image.name).collect();
    Proposal { text, images: names.into_iter().collect() }
}

/// The Dockerfiles that are found, and those that other tools' files name.
fn dockerfiles(root: &Path, known: &[Known], notes: &mut Vec<String>) -> Vec<String> {
    let mut dockerfiles = find_dockerfiles(root);
    dockerfiles.retain(|path| is_meant(path));
    for Known { name, dockerfile, file, .. } in known {
        if !root.join(dockerfile).is_file() {
            notes.push(format!("{file}: '{name}' is made from {dockerfile}, which does not exist"));
        } else if !dockerfiles.contains(dockerfile) {
            dockerfiles.push(dockerfile.clone());
        }
    }
    dockerfiles
}

/// The images of these Dockerfiles, as other tools' files describe them, or else one of each.
fn images(
    root: &Path,
    dockerfiles: &[String],
    known: &[Known],
    notes: &mut Vec<String>,
) -> Vec<Proposed> {
    let mut images: Vec<Proposed> = Vec::new();
    for dockerfile in dockerfiles {
        let own = own_context(dockerfile);
        let is_flavor = in_src(dockerfile).is_some_and(|(component, name)| {
            images.iter().any(|image| in_src(&image.dockerfile) == Some((component, name)))
        });
        let of_it: Vec<&Known> = known.iter().filter(|it| it.dockerfile == *dockerfile).collect();
        images.extend(of_it.iter().map(|known| known.propose(dockerfile, &own)));
        if !of_it.is_empty() || is_flavor {
            continue;
        }
        let name = name_of(dockerfile, dockerfiles, root);
        if is_variant(dockerfile, dockerfiles) {
            notes.push(format!(
                "if {dockerfile} makes an image of its own:\n[image.{name}]\ndockerfile = \
                 \"{dockerfile}\""
            ));
            continue;
        }
        let context = context::infer(root, dockerfile).filter(|context| *context != own);
        let dockerfile = dockerfile.clone();
        images.push(Proposed { name, dockerfile, context, ..Proposed::default() });
    }
    images
}

/// Whether a Dockerfile is likely to be for an image of the repository, and not for its tests.
fn is_meant(path: &str) -> bool {
    let is_test = |part: &str| {
        ["test", "tests", "example", "examples", "testdata", "fixtures"].contains(&part)
    };
    in_src(path).is_some() || !path.split('/').any(is_test)
}

/// Whether a Dockerfile may be for another purpose than the one beside it.
fn is_variant(path: &str, all: &[String]) -> bool {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    file.starts_with("Dockerfile.") && all.contains(&join(folder, "Dockerfile"))
}

/// The name of the image of a Dockerfile: that of its folder, or the part of the file's own name
/// that says more.
fn name_of(path: &str, all: &[String], root: &Path) -> String {
    if let Some((_, name)) = in_src(path) {
        return as_name(name);
    }
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let of_folder = || {
        let mut parts = folder.rsplit('/').filter(|part| !["docker", "build", ""].contains(part));
        let of_root = || Some(root.canonicalize().ok()?.file_name()?.to_str()?.to_owned());
        match (parts.next(), parts.next()) {
            // A version is a tag.
            (Some(own), Some(above)) if is_version(own) && !is_version(above) => {
                format!("{above}:{own}")
            }
            (Some(own), _) => own.to_owned(),
            (None, _) => of_root().unwrap_or_else(|| "image".to_owned()),
        }
    };
    let lower = file.to_lowercase();
    let name = if let Some(stem) = lower.strip_suffix(".dockerfile") {
        stem.to_owned()
    } else if let Some(suffix) = file.strip_prefix("Dockerfile.") {
        let beside = |other: &&String| other.starts_with(&join(folder, "Dockerfile."));
        let is_alone = !is_variant(path, all) && all.iter().filter(beside).count() == 1;
        if is_alone { suffix.to_owned() } else { format!("{}-{suffix}", of_folder()) }
    } else {
        of_folder()
    };
    as_name(&name)
}

fn is_version(folder: &str) -> bool {
    let number = folder.strip_prefix('v').unwrap_or(folder);
    number.starts_with(|first: char| first.is_ascii_digit())
}

/// Puts the folder above in front of names that several images have. One that another tool's file
/// says stays, unless it says it of several.
fn make_unique(images: &mut [Proposed]) {
    for depth in 2..6 {
        let names: Vec<(String, bool)> =
            images.iter().map(|image| (image.name.clone(), image.file.is_some())).collect();
        for image in images.iter_mut() {
            let is_said = image.file.is_some();
            let others = names.iter().filter(|(name, _)| *name == image.name);
            let others = others.filter(|(_, is_other_said)| *is_other_said || !is_said);
            let folders: Vec<&str> = image.dockerfile.split('/').rev().skip(1).collect();
            if let Some(above) = folders.get(depth - 1).filter(|_| others.count() > 1) {
                image.name = as_name(&format!("{above}-{}", image.name));
            }
        }
    }
    let mut seen = BTreeSet::new();
    let (said, found): (Vec<_>, Vec<_>) = images.iter_mut().partition(|image| image.file.is_some());
    for image in said.into_iter().chain(found) {
        let (first, mut number) = (image.name.clone(), 2);
        while !seen.insert(image.name.clone()) {
            image.name = format!("{first}-{number}");
            number += 1;
        }
    }
}

/// Gives values to args without which a `FROM` names nothing, if a default in `<>` is the name of
/// one of the images or of their folders; otherwise a comment says what is missing.
fn name_bases(root: &Path, images: &mut [Proposed]) {
    let named: Vec<(String, String)> =
        images.iter().map(|image| (image.name.clone(), image.dockerfile.clone())).collect();
    for image in images {
        let Ok(bytes) = regular_file::read(&root.join(&image.dockerfile)) else { continue };
        let parse =
            |args: &BTreeMap<String, String>| parser::parse(&bytes, args, image.target.as_deref());
        let error = match parse(&image.args) {
            Ok(parsed) => {
                // Others take args that the Dockerfile does not declare, and contexts that it does
                // not name.
                let is_declared = |arg: &String| parsed.args.contains(arg) || is_predefined(arg);
                image.args.retain(|arg, _| is_declared(arg));
                image.unknown_args.retain(|arg, _| is_declared(arg));
                image.contexts.retain(|name, _| {
                    let is_it = |used: &ImageUse| familiar(&used.reference) == familiar(name);
                    parsed.uses.iter().any(is_it)
                });
                continue;
            }
            Err(error) => error,
        };
        if let Some((file, args)) = args_file::find(root, &image.dockerfile)
            && parse(&args).is_ok()
        {
            image.args_file = Some(file);
            continue;
        }
        let (ParseError::Reference { line, .. } | ParseError::EmptyFrom { line, .. }) = error
        else {
            image.comments.push(format!("{}: {error}", image.dockerfile));
            continue;
        };
        let text = String::from_utf8_lossy(&bytes);
        let from = text.lines().nth(line - 1).unwrap_or_default();
        let args = args_of(from);
        let default = |arg: &str| default_of(&text, arg).unwrap_or_default();
        let meant =
            args.first().map(|arg| default(arg).trim_matches(['<', '>', '"', '\'']).to_owned());
        let base = meant.and_then(|meant| base_named(&named, image, &meant));
        if let (Some(base), [arg]) = (base, args.as_slice()) {
            image.args.insert(arg.clone(), base);
            continue;
        }
        for arg in args.iter().filter(|arg| !is_value(&default(arg))) {
            let file = &image.dockerfile;
            let line = format!("args.{arg} = \"\"  # {file}:{line} needs a value: {from}");
            image.unknown_args.remove(arg);
            image.comments.push(line);
        }
    }
}

/// Calls the images among the contexts by their names here. Folders that do not exist, and images
/// that are none here, become comments.
fn find_contexts(root: &Path, images: &mut [Proposed]) {
    let named: Vec<(Option<String>, String, String)> =
        images.iter().map(|it| (it.file.clone(), it.key.clone(), it.name.clone())).collect();
    for image in images {
        let file = image.file.clone();
        let of_key = |key: &str| {
            let of_file = named.iter().find(|(of, other, _)| *of == file && other == key);
            of_file.or_else(|| named.iter().find(|(_, other, _)| other == key))
        };
        for (name, context) in std::mem::take(&mut image.contexts) {
            let found = match context.strip_prefix("target:") {
                Some(key) => of_key(key).map(|(.., name)| format!("target:{name}")),
                None if context.contains("://") || root.join(&context).is_dir() => {
                    Some(context.clone())
                }
                None => None,
            };
            if let Some(found) = found {
                image.contexts.insert(name, found);
                continue;
            }
            let key = format!("contexts.{name}");
            let file = file.as_deref().unwrap_or_default();
            image.comments.push(known::to_fill_in(&key, file, &context));
        }
    }
}

/// The image of this name, or else of the folder of this name beside that of `image`, which is
/// another one.
fn base_named(named: &[(String, String)], image: &Proposed, meant: &str) -> Option<String> {
    let folder = |path: &str| path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
    let own = folder(&image.dockerfile);
    let beside = join(own.rsplit_once('/').map_or("", |(above, _)| above), meant);
    let others = || named.iter().filter(|(name, _)| *name != image.name);
    let by_name = others().find(|(name, _)| name == meant);
    let found = by_name.or_else(|| others().find(|(_, path)| folder(path) == beside));
    found.map(|(name, _)| name.clone())
}

/// Whether a default is a part of a reference, and not a placeholder or nothing.
fn is_value(default: &str) -> bool {
    !default.is_empty() && !default.contains(['<', '$'])
}

/// The variables of a `FROM`.
fn args_of(from: &str) -> Vec<String> {
    let after = from.split('$').skip(1).map(|rest| rest.trim_start_matches('{'));
    let names = after.map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        rest[..end.unwrap_or(rest.len())].to_owned()
    });
    names.filter(|name| !name.is_empty()).collect()
}

/// The default of an `ARG`.
fn default_of(text: &str, arg: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim);
    lines.find_map(|line| {
        Some(line.strip_prefix("ARG ")?.trim().strip_prefix(arg)?.strip_prefix('=')?.to_owned())
    })
}
