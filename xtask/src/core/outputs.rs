//! What a component's hooks wrote into its folder, outside of the temporary ones.
//!
//! A hook that copies `version/` into its component finds the copy there at its next run,
//! and may copy into that; a fresh clone has none. So what hooks add is recorded: it is no
//! source of the component as long as it is what the hooks left, and it goes before they
//! run again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::context::Context;

/// The files, folders and links that hooks added, relative to the component's folder.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct HookOutputs(BTreeMap<PathBuf, Vec<u8>>);

impl HookOutputs {
    /// What was added to a component's folder between two looks. What hooks left earlier
    /// and was `kept` is theirs too.
    pub fn between(before: &Context, after: &Context, kept: &Self) -> Self {
        let before: BTreeSet<&Path> =
            before.items().map(|item| item.entry.path.as_path()).collect();
        let is_theirs =
            |path: &PathBuf| !before.contains(path.as_path()) || kept.0.contains_key(path);
        let items = after.items().map(|item| (item.entry.path.clone(), item.value().to_vec()));
        Self(items.filter(|(path, _)| is_theirs(path)).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether hooks left just this at a path.
    pub fn has(&self, path: &Path, value: &[u8]) -> bool {
        self.0.get(path).is_some_and(|known| known == value)
    }

    /// Whether hooks left anything at a path, whatever it is now.
    pub fn has_path(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    /// Whether all that hooks left is in a component's folder as they left it.
    pub fn are_whole(&self, folder: &Context) -> bool {
        let is_there = |path: &Path, value: &[u8]| self.has(path, value);
        let found = folder.items().filter(|item| is_there(&item.entry.path, &item.value()));
        found.count() == self.0.len()
    }

    /// Those for which something holds, and the others.
    pub fn partition(self, holds: impl Fn(&Path) -> bool) -> (Self, Self) {
        let (with, without) = self.0.into_iter().partition(|(path, _)| holds(path));
        (Self(with), Self(without))
    }
}
