//! What a component's hooks wrote into its folder, outside of the temporary ones.
//!
//! A hook that copies `version/` into its component finds the copy there at its next run,
//! and may copy into that; a fresh clone has none. So what hooks add is recorded: it is no
//! source of the component as long as it is what the hooks left, and it is not there when
//! they run again.
//!
//! A file that appears while a hook runs may as well be one that the user just saved. What is a copy
//! of another file of the workspace, and what the hook made at two runs is certainly the
//! hook's; anything else is put back if the hook does not make it again.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::context::build_context::Context;

/// The files, folders and links that hooks added, relative to the component's folder.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(from = "Vec<Written>", into = "Vec<Written>")]
pub struct HookOutputs(BTreeMap<PathBuf, Output>);

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Output {
    /// What it is and what is in it.
    value: Vec<u8>,
    /// Whether it is the hook's beyond doubt.
    is_certain: bool,
    /// Whether `build-post.sh` made it.
    is_late: bool,
}

/// A path, which need not be UTF-8, and what is there.
type Written = (Vec<u8>, Output);

impl From<Vec<Written>> for HookOutputs {
    fn from(written: Vec<Written>) -> Self {
        let outputs = written.into_iter();
        Self(outputs.map(|(path, output)| (OsString::from_vec(path).into(), output)).collect())
    }
}

impl From<HookOutputs> for Vec<Written> {
    fn from(outputs: HookOutputs) -> Self {
        let outputs = outputs.0.into_iter();
        outputs.map(|(path, output)| (path.into_os_string().into_vec(), output)).collect()
    }
}

impl HookOutputs {
    /// What was added to a component's folder between two looks. It is certainly a hook's if
    /// it was one's at the run before.
    pub fn between(before: &Context, after: &Context, earlier: &Self) -> Self {
        let before: BTreeSet<&Path> =
            before.items().map(|item| item.entry.path.as_path()).collect();
        let added = after.items().filter(|item| !before.contains(item.entry.path.as_path()));
        let outputs = added.map(|item| {
            let path = item.entry.path.clone();
            let is_certain = earlier.has_path(&path);
            (path, Output { value: item.value().to_vec(), is_certain, is_late: false })
        });
        Self(outputs.collect())
    }

    /// What may be left of hooks that did not come to their end: all that was not there
    /// `before` they ran, and to which nothing was done after their `end`. What of it is
    /// certain is known from `earlier` runs.
    pub fn of_interrupted(
        before: &BTreeSet<PathBuf>,
        found: &Context,
        end: SystemTime,
        earlier: &Self,
    ) -> Self {
        let new = found.items().filter(|item| {
            let path = &item.entry.path;
            let is_late = item.entry.is_changed_after(end) && !earlier.has_path(path);
            !before.contains(path) && !is_late
        });
        let outputs = new.map(|item| {
            let path = item.entry.path.clone();
            let (is_certain, is_late) = (earlier.is_certain(&path), earlier.is_late(&path));
            (path, Output { value: item.value().to_vec(), is_certain, is_late })
        });
        Self(outputs.collect())
    }

    /// Adds what is still there of others.
    pub fn add(&mut self, others: Self, after: &Context) {
        let there: BTreeMap<&Path, Vec<u8>> =
            after.items().map(|item| (item.entry.path.as_path(), item.value().to_vec())).collect();
        for (path, mut output) in others.0 {
            if let Some(value) = there.get(path.as_path()) {
                output.value.clone_from(value);
                self.0.insert(path, output);
            }
        }
    }

    /// Notes that those are certain for which something holds, and the folders in which
    /// nothing else is.
    pub fn ascertain(&mut self, holds: impl Fn(&Path) -> bool) {
        for (path, output) in &mut self.0 {
            output.is_certain |= holds(path);
        }
        let paths: Vec<PathBuf> = self.0.keys().rev().cloned().collect();
        for folder in paths {
            let mut below = self.0.range(folder.clone()..).skip(1);
            let mut below = below.by_ref().take_while(|(path, _)| path.starts_with(&folder));
            let first = below.next();
            if first.is_some_and(|(_, output)| output.is_certain)
                && below.all(|(_, output)| output.is_certain)
                && let Some(output) = self.0.get_mut(&folder)
            {
                output.is_certain = true;
            }
        }
    }

    /// Those that are certain.
    pub fn certain(self) -> Self {
        Self(self.0.into_iter().filter(|(_, output)| output.is_certain).collect())
    }

    /// The same, made after the images.
    pub fn late(mut self) -> Self {
        self.0.values_mut().for_each(|output| output.is_late = true);
        self
    }

    /// Whether what is at a path was made after the images.
    pub fn is_late(&self, path: &Path) -> bool {
        self.0.get(path).is_some_and(|output| output.is_late)
    }

    /// Those that are still as hooks left them, of what is `found`. What changed since is
    /// not theirs any more.
    pub fn whole(&self, found: &Context) -> Self {
        let whole = found.items().filter(|item| self.has(&item.entry.path, &item.value()));
        let whole = whole.filter_map(|item| self.0.get_key_value(&item.entry.path));
        Self(whole.map(|(path, output)| (path.clone(), output.clone())).collect())
    }

    /// The topmost of them that a path is, or is in.
    pub fn top<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        path.ancestors().filter(|above| self.has_path(above)).last()
    }

    /// The topmost folders of theirs in which something else is too, each with the first
    /// such path; what `is_source` is expected there.
    pub fn shared(
        &self,
        found: &Context,
        is_source: impl Fn(&Path) -> bool,
    ) -> BTreeMap<PathBuf, PathBuf> {
        let mut shared = BTreeMap::new();
        for item in found.items().filter(|item| !self.has(&item.entry.path, &item.value())) {
            let path = &item.entry.path;
            if let Some(top) = self.top(path).filter(|_| !is_source(path)) {
                shared.entry(top.to_owned()).or_insert_with(|| path.clone());
            }
        }
        shared
    }

    /// Both these and others.
    pub fn join(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// The paths of those that are not certain.
    pub fn uncertain(&self) -> impl Iterator<Item = &Path> {
        let uncertain = self.0.iter().filter(|(_, output)| !output.is_certain);
        uncertain.map(|(path, _)| path.as_path())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether hooks left just this at a path.
    pub fn has(&self, path: &Path, value: &[u8]) -> bool {
        self.0.get(path).is_some_and(|known| known.value == value)
    }

    /// Whether hooks left anything at a path, whatever it is now.
    pub fn has_path(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    /// Whether what is at a path is certainly a hook's.
    pub fn is_certain(&self, path: &Path) -> bool {
        self.0.get(path).is_some_and(|output| output.is_certain)
    }

    /// Whether hooks left the same.
    pub fn is_same(&self, other: &Self) -> bool {
        let values = |it: &Self| -> Vec<(PathBuf, Vec<u8>)> {
            it.0.iter().map(|(path, output)| (path.clone(), output.value.clone())).collect()
        };
        values(self) == values(other)
    }

    /// Whether all that hooks left is in a component's folder as they left it.
    pub fn are_whole(&self, folder: &Context) -> bool {
        let found = folder.items().filter(|item| self.has(&item.entry.path, &item.value()));
        found.count() == self.0.len()
    }

    /// Those for which something holds, and the others.
    pub fn partition(self, holds: impl Fn(&Path) -> bool) -> (Self, Self) {
        let (with, without) = self.0.into_iter().partition(|(path, _)| holds(path));
        (Self(with), Self(without))
    }
}
