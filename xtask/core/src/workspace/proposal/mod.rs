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

use crate::dockerfile::parser::{self, ParseError};
use crate::dockerfile::platform_args::is_predefined;
use crate::regular_file;
use crate::workspace::strays::find_dockerfiles;

use known::Known;
use proposed::{Proposed, as_name};

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
    let found = find_dockerfiles(root);
    let dockerfiles: Vec<String> = found.into_iter().filter(|path| is_meant(path)).collect();
    let known = other_files::read(root, bake);
    let mut images = Vec::new();
    for dockerfile in &dockerfiles {
        let of_it: Vec<&Known> = known.iter().filter(|it| it.dockerfile == *dockerfile).collect();
        if of_it.is_empty() {
            let Some(name) = name_of(dockerfile, &dockerfiles, root) else { continue };
            images.push(Proposed {
                name,
                dockerfile: dockerfile.clone(),
                context: context::infer(root, dockerfile),
                args: BTreeMap::new(),
                args_file: None,
                target: None,
                comments: Vec::new(),
            });
        }
        images.extend(of_it.into_iter().map(|known| known.propose(dockerfile)));
    }
    make_unique(&mut images);
    name_bases(root, &mut images);
    let is_default = !images.is_empty() && images.iter().all(is_in_src);
    let text = if is_default { tables::default() } else { tables::write(&images) };
    let names: BTreeSet<String> = images.into_iter().map(|image| image.name).collect();
    Proposal { text, images: names.into_iter().collect() }
}

/// Whether a Dockerfile is likely to be for an image of the repository, and not for its tests.
fn is_meant(path: &str) -> bool {
    let is_test = |part: &str| {
        ["test", "tests", "example", "examples", "testdata", "fixtures"].contains(&part)
    };
    !path.split('/').any(is_test)
}

/// Whether an image is found without a file.
fn is_in_src(image: &Proposed) -> bool {
    let parts: Vec<&str> = image.dockerfile.split('/').collect();
    let ["src", component, "build", file] = *parts else { return false };
    let own = crate::paths::join("src", component);
    file.ends_with(".dockerfile")
        && image.context.as_ref().is_none_or(|context| *context == own)
        && image.args.is_empty()
        && image.args_file.is_none()
        && image.target.is_none()
}

/// The name of the image of a Dockerfile: that of its folder, or the part of the file's own name
/// that says more. `None` for a variant of a Dockerfile beside it.
fn name_of(path: &str, all: &[String], root: &Path) -> Option<String> {
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
        let plain = crate::paths::join(folder, "Dockerfile");
        if all.contains(&plain) {
            return None;
        }
        let beside = |other: &&String| other.starts_with(&format!("{folder}/Dockerfile."));
        let is_alone = all.iter().filter(beside).count() == 1;
        if is_alone { suffix.to_owned() } else { format!("{}-{suffix}", of_folder()) }
    } else {
        of_folder()
    };
    Some(as_name(&name))
}

fn is_version(folder: &str) -> bool {
    let number = folder.strip_prefix('v').unwrap_or(folder);
    number.starts_with(|first: char| first.is_ascii_digit())
}

/// Puts the folder above in front of names that several images have.
fn make_unique(images: &mut [Proposed]) {
    for depth in 2..6 {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for image in images.iter() {
            *counts.entry(image.name.clone()).or_default() += 1;
        }
        for image in images.iter_mut().filter(|image| counts[&image.name] > 1) {
            let folders: Vec<&str> = image.dockerfile.split('/').rev().skip(1).collect();
            if let Some(above) = folders.get(depth - 1) {
                image.name = as_name(&format!("{above}-{}", image.name));
            }
        }
    }
    let mut seen = BTreeSet::new();
    for image in images.iter_mut() {
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
                // Others take args that the Dockerfile does not declare.
                image.args.retain(|arg, _| parsed.args.contains(arg) || is_predefined(arg));
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
            image.comments.push(line);
        }
    }
}

/// The image of this name, or else of the folder of this name beside that of `image`, which is
/// another one.
fn base_named(named: &[(String, String)], image: &Proposed, meant: &str) -> Option<String> {
    let folder = |path: &str| path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
    let own = folder(&image.dockerfile);
    let beside = crate::paths::join(own.rsplit_once('/').map_or("", |(above, _)| above), meant);
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
