//! Files that hooks wrote into their component's folder, outside of its temporary folders.
//!
//! A hook that copies `version/` into its component would find the copy in its next run, and
//! might copy into it, whereas a fresh clone has none. So the outputs of hooks are recorded.
//! An output is not a source of the component while it is unchanged, and it is moved away
//! before the hooks run again.
//!
//! A file that appears while a hook runs may also have been saved by the user. It is certain
//! to be an output if it is a copy of another file of the workspace in a folder that appeared
//! with it, and of which the hook writes something again; or if the hook wrote the same again
//! twice after it was moved away: who saves a file in one run may well save it in the next. Other
//! files are moved back if the hook does not write them again.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::context::build_context::{Context, ContextPart};

/// An output is certain if this many runs in a row wrote the same.
const CERTAIN_RUNS: u8 = 3;

/// What is added to the number of runs that wrote a copy of another file.
const COPY: u8 = CERTAIN_RUNS;

/// The files, folders and links that hooks added, by path relative to the component's folder.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(from = "Vec<Serialized>", into = "Vec<Serialized>")]
pub struct HookOutputs(BTreeMap<PathBuf, Output>);

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Output {
    /// Its type, mode and digest: see `ContextEntry::value`.
    value: Vec<u8>,
    /// How many runs in a row wrote it, up to [`CERTAIN_RUNS`], and [`COPY`] more if it is a copy.
    evidence: u8,
    /// Whether `build-post.sh` wrote it.
    is_from_post_hook: bool,
}

/// The serialized form. Paths are bytes, because they need not be UTF-8.
type Serialized = (Vec<u8>, Output);

impl Output {
    /// Whether it was certainly written by a hook, and not by the user.
    fn is_certain(&self) -> bool {
        self.evidence >= CERTAIN_RUNS
    }

    /// How many runs in a row wrote it, up to [`CERTAIN_RUNS`].
    fn runs(&self) -> u8 {
        if self.evidence > COPY { self.evidence - COPY } else { self.evidence }
    }

    fn mark_copy(&mut self) {
        self.evidence = self.runs() + COPY;
    }
}

impl From<Vec<Serialized>> for HookOutputs {
    fn from(serialized: Vec<Serialized>) -> Self {
        let outputs = serialized.into_iter();
        Self(outputs.map(|(path, output)| (OsString::from_vec(path).into(), output)).collect())
    }
}

impl From<HookOutputs> for Vec<Serialized> {
    fn from(outputs: HookOutputs) -> Self {
        let outputs = outputs.0.into_iter();
        outputs.map(|(path, output)| (path.into_os_string().into_vec(), output)).collect()
    }
}

impl HookOutputs {
    /// The entries that were added to a component's folder between two snapshots. `moved` are
    /// the outputs of the previous run that were moved away before.
    pub fn added_between(before: &Context, after: &Context, moved: &Self) -> Self {
        let before: BTreeSet<&Path> =
            before.items().map(|item| item.entry.path.as_path()).collect();
        let added = after.items().filter(|item| !before.contains(item.entry.path.as_path()));
        let outputs = added.map(|item| {
            let (path, value) = (item.entry.path.clone(), item.value().to_vec());
            let earlier = moved.0.get(&path).filter(|earlier| earlier.value == value);
            let runs = earlier.map_or(0, Output::runs) + 1;
            let evidence = runs.min(CERTAIN_RUNS);
            (path, Output { value, evidence, is_from_post_hook: false })
        });
        Self(outputs.collect())
    }

    /// The possible outputs of hooks that were interrupted: entries that did not exist `before`
    /// and were not changed after the hooks' `end`. Those that are certain are known from
    /// `earlier` runs.
    pub fn of_interrupted(
        before: &BTreeSet<PathBuf>,
        found: &Context,
        end: SystemTime,
        earlier: &Self,
    ) -> Self {
        let new = found.items().filter(|item| {
            let path = &item.entry.path;
            let is_too_new = item.entry.is_changed_after(end) && !earlier.contains(path);
            !before.contains(path) && !is_too_new
        });
        let outputs = new.map(|item| {
            let path = item.entry.path.clone();
            let earlier_output = earlier.0.get(&path).filter(|output| output.is_certain());
            let evidence = earlier_output.map_or(1, |output| output.evidence);
            let is_from_post_hook = earlier.is_from_post_hook(&path);
            (path, Output { value: item.value().to_vec(), evidence, is_from_post_hook })
        });
        Self(outputs.collect())
    }

    /// Adds those of the `others` that still exist in the folder, with their current contents.
    pub fn add_existing(&mut self, others: Self, after: &Context) {
        let existing: BTreeMap<&Path, Vec<u8>> =
            after.items().map(|item| (item.entry.path.as_path(), item.value().to_vec())).collect();
        for (path, mut output) in others.0 {
            if let Some(value) = existing.get(path.as_path()) {
                output.value.clone_from(value);
                self.0.insert(path, output);
            }
        }
    }

    /// Marks the outputs in other outputs that satisfy a condition as copies, and the folders that
    /// contain nothing that is uncertain.
    pub fn mark_copies(&mut self, condition: impl Fn(&Path) -> bool) {
        let folders: BTreeSet<PathBuf> = self.0.keys().cloned().collect();
        let is_inside = |path: &Path| path.parent().is_some_and(|above| folders.contains(above));
        for (path, output) in &mut self.0 {
            if is_inside(path) && condition(path) {
                output.mark_copy();
            }
        }
        let paths: Vec<PathBuf> = self.0.keys().rev().cloned().collect();
        for folder in paths {
            let mut below = self.0.range(folder.clone()..).skip(1);
            let mut below = below.by_ref().take_while(|(path, _)| path.starts_with(&folder));
            let first = below.next();
            if first.is_some_and(|(_, output)| output.is_certain())
                && below.all(|(_, output)| output.is_certain())
                && let Some(output) = self.0.get_mut(&folder)
                && !output.is_certain()
            {
                output.mark_copy();
            }
        }
    }

    /// The outputs that are certain.
    pub fn certain(self) -> Self {
        Self(self.0.into_iter().filter(|(_, output)| output.is_certain()).collect())
    }

    /// Marks all outputs as written by `build-post.sh`, after the images were built.
    pub fn mark_from_post_hook(mut self) -> Self {
        self.0.values_mut().for_each(|output| output.is_from_post_hook = true);
        self
    }

    /// Whether the output at a path was written by `build-post.sh`.
    pub fn is_from_post_hook(&self, path: &Path) -> bool {
        self.0.get(path).is_some_and(|output| output.is_from_post_hook)
    }

    /// The outputs that are unchanged in `found`. A changed file belongs to the user.
    pub fn unchanged_in(&self, found: &Context) -> Self {
        let unchanged = found.items().filter(|item| self.matches(&item.entry.path, &item.value()));
        let unchanged = unchanged.filter_map(|item| self.0.get_key_value(&item.entry.path));
        Self(unchanged.map(|(path, output)| (path.clone(), output.clone())).collect())
    }

    /// The topmost output that contains a path, or is at this path.
    pub fn topmost<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        path.ancestors().filter(|above| self.contains(above)).last()
    }

    /// The outputs that no other output contains.
    pub fn tops(&self) -> impl Iterator<Item = &Path> {
        let paths = self.0.keys().map(PathBuf::as_path);
        paths.filter(|path| self.topmost(path) == Some(*path))
    }

    /// The topmost output folders that also contain other entries, each with the first such
    /// entry. Entries that satisfy `is_source` are ignored.
    pub fn mixed_folders(
        &self,
        found: &Context,
        is_source: impl Fn(&Path) -> bool,
    ) -> BTreeMap<PathBuf, PathBuf> {
        let mut shared = BTreeMap::new();
        for item in found.items().filter(|item| !self.matches(&item.entry.path, &item.value())) {
            let path = &item.entry.path;
            if let Some(top) = self.topmost(path).filter(|_| !is_source(path)) {
                shared.entry(top.to_owned()).or_insert_with(|| path.clone());
            }
        }
        shared
    }

    /// Adds all of the `others`, which replace outputs at the same paths.
    pub fn merge(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// The paths of the outputs that are not certain.
    pub fn uncertain(&self) -> impl Iterator<Item = &Path> {
        let uncertain = self.0.iter().filter(|(_, output)| !output.is_certain());
        uncertain.map(|(path, _)| path.as_path())
    }

    /// Excludes those that are unchanged from a part of a context.
    pub(crate) fn exclude_from(&self, part: &mut ContextPart) -> io::Result<()> {
        part.exclude(|path| self.contains(path), |path, value| self.matches(path, value))
    }

    /// Their first path.
    pub fn first(&self) -> Option<&Path> {
        self.0.keys().next().map(PathBuf::as_path)
    }

    /// Whether there are no outputs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether hooks wrote exactly this entry.
    pub fn matches(&self, path: &Path, value: &[u8]) -> bool {
        self.0.get(path).is_some_and(|known| known.value == value)
    }

    /// Whether hooks wrote to a path, even if it changed since.
    pub fn contains(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    /// Whether the output at a path is certain.
    pub fn is_certain(&self, path: &Path) -> bool {
        self.0.get(path).is_some_and(Output::is_certain)
    }

    /// Whether the output at a path, which hooks did not write again, is certainly theirs: three runs
    /// in a row wrote it, or it is a copy in a folder that `exists` again. If nothing of that folder
    /// was written again, the user may have copied it there while a hook ran.
    pub fn is_certainly_gone(&self, path: &Path, exists: impl Fn(&Path) -> bool) -> bool {
        self.0.get(path).is_some_and(|output| {
            output.runs() >= CERTAIN_RUNS
                || output.is_certain() && self.topmost(path).is_some_and(exists)
        })
    }

    /// Whether the paths and contents are the same.
    pub fn is_same(&self, other: &Self) -> bool {
        let values = |it: &Self| -> Vec<(PathBuf, Vec<u8>)> {
            it.0.iter().map(|(path, output)| (path.clone(), output.value.clone())).collect()
        };
        values(self) == values(other)
    }

    /// Whether all outputs exist unchanged in a component's folder.
    pub fn are_unchanged_in(&self, folder: &Context) -> bool {
        let found = folder.items().filter(|item| self.matches(&item.entry.path, &item.value()));
        found.count() == self.0.len()
    }

    /// Splits the outputs into those that satisfy a condition, and the others.
    pub fn partition(self, condition: impl Fn(&Path) -> bool) -> (Self, Self) {
        let (with, without) = self.0.into_iter().partition(|(path, _)| condition(path));
        (Self(with), Self(without))
    }
}
