//! `lock`: reads the lock files that `push --lock` wrote. It needs neither a workspace nor an
//! engine.

use std::collections::BTreeSet;
use std::path::Path;

use xtask_core::problem::{Problem, did_you_mean};

use crate::commands::image_lock::{ImageLock, LockedImage};

/// How an image of one lock file differs in another.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Removed,
    /// It was made from something else.
    Changed,
    /// It was made from the same, again.
    Rebuilt,
    /// It is the same, pushed to other references.
    Retagged,
}

/// An image that differs.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) image: String,
    pub(crate) change: Change,
    pub(crate) old: Option<LockedImage>,
    pub(crate) new: Option<LockedImage>,
}

/// Where an image can be pulled from: `repository@digest`. `registry` is what its repository begins
/// with, if it was pushed to several.
pub(crate) fn get(image: &str, file: &Path, registry: Option<&str>) -> Result<String, Problem> {
    let lock = ImageLock::read(file)?;
    let problem = |message| Problem::of_file(file.display().to_string(), message);
    let Some(locked) = lock.images.get(image) else {
        let hint = did_you_mean(image, lock.images.keys().map(String::as_str));
        return Err(problem(format!("it has no image '{image}'{hint}")));
    };
    let all = locked.pinned();
    let is_chosen = |pinned: &&String| {
        let prefix = registry.unwrap_or_default().trim_end_matches('/');
        let rest = pinned.strip_prefix(prefix);
        prefix.is_empty() || rest.is_some_and(|rest| rest.starts_with(['/', '@']))
    };
    if all.is_empty() {
        return Err(problem(format!("it does not say where '{image}' was pushed")));
    }
    let chosen: Vec<&String> = all.iter().filter(is_chosen).collect();
    match chosen[..] {
        [one] => Ok(one.clone()),
        [] => {
            let message = format!(
                "'{image}' was not pushed to '{}': it is {}",
                registry.unwrap_or_default(),
                listed(&all)
            );
            Err(problem(message))
        }
        _ => Err(problem(format!(
            "'{image}' was pushed to several repositories: choose one with --registry: {}",
            listed(&all)
        ))),
    }
}

fn listed(pinned: &BTreeSet<String>) -> String {
    pinned.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The images of two lock files that differ, by name.
pub(crate) fn diff(old: &Path, new: &Path) -> Result<Vec<Difference>, Problem> {
    let (mut old, mut new) = (ImageLock::read(old)?, ImageLock::read(new)?);
    let names: BTreeSet<String> = old.images.keys().chain(new.images.keys()).cloned().collect();
    let differences = names.into_iter().filter_map(|image| {
        let (old, new) = (old.images.remove(&image), new.images.remove(&image));
        let change = change(old.as_ref(), new.as_ref())?;
        Some(Difference { image, change, old, new })
    });
    Ok(differences.collect())
}

fn change(old: Option<&LockedImage>, new: Option<&LockedImage>) -> Option<Change> {
    let (Some(old), Some(new)) = (old, new) else {
        return Some(if old.is_some() { Change::Removed } else { Change::Added });
    };
    if old.digests() == new.digests() {
        return (old.pushed != new.pushed).then_some(Change::Retagged);
    }
    let is_same = old.fingerprint.is_some() && old.fingerprint == new.fingerprint;
    Some(if is_same { Change::Rebuilt } else { Change::Changed })
}
