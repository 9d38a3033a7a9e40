//! Changes that belong together: a save, a checkout, an installation of packages.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use xtask_core::context::tree_cache::TreeCache;
use xtask_core::workspace::components::Workspace;

use crate::build::hook_activity::HookActivity;
use crate::system::watcher::{FsChange, FsEvent};

/// A batch is complete after this many debounces, however much else is written.
const MOST: u32 = 10;

/// How long a batch waits for git's lock to go: the lock can also be left behind.
const GIT: Duration = Duration::from_secs(10);

/// What changed since the last round.
#[derive(Debug, Default)]
pub(crate) struct ChangeBatch {
    paths: BTreeMap<PathBuf, PathChange>,
    is_lost: bool,
    is_first: bool,
    /// Whether components are to be compared although no file of theirs changed.
    is_again: bool,
    /// When the first and the last change came, of those that belong together.
    window: Option<(Instant, Instant)>,
}

#[derive(Clone, Copy, Debug)]
struct PathChange {
    /// It happened between `since` and `at`.
    at: Instant,
    since: Instant,
    is_structural: bool,
    /// Whether a hook of the component that the path is in may have made it.
    is_own: bool,
}

impl ChangeBatch {
    /// Anything may have changed before files were watched.
    pub(crate) fn everything() -> Self {
        Self { is_lost: true, is_first: true, ..Self::default() }
    }

    /// Whether there is nothing to act on.
    pub(crate) fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.is_lost && !self.is_again
    }

    /// Asks for a comparison of the components that are in doubt.
    pub(crate) fn look_again(&mut self) {
        self.is_again = true;
    }

    /// Whether events were lost, so that anything may have changed.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Whether it is the one from before files were watched.
    pub(crate) fn is_first(&self) -> bool {
        self.is_first
    }

    pub(crate) fn add(&mut self, event: FsEvent) {
        let now = Instant::now();
        let (first, _) = self.window.unwrap_or((now, now));
        self.window = Some((first, now));
        match event {
            FsEvent::Lost => self.is_lost = true,
            FsEvent::Changed(FsChange { paths, at, since, is_structural }) => {
                let change = PathChange { at, since, is_structural, is_own: false };
                for path in paths {
                    self.add_path(path, change);
                }
            }
        }
    }

    fn add_path(&mut self, path: PathBuf, change: PathChange) {
        let known = self.paths.entry(path).or_insert(change);
        known.is_structural |= change.is_structural;
    }

    /// Adds the changes of an earlier batch.
    pub(crate) fn merge(&mut self, earlier: Self) {
        self.is_lost |= earlier.is_lost;
        for (path, change) in earlier.paths {
            self.add_path(path, change);
        }
    }

    /// Whether changes are being collected.
    pub(crate) fn is_open(&self) -> bool {
        self.window.is_some()
    }

    /// Ends the collection: later changes belong to something else.
    pub(crate) fn close(&mut self) {
        self.window = None;
    }

    /// Takes out the changes that affect no components but these, and that were not made by
    /// their own hooks.
    pub(crate) fn split_off(&mut self, workspace: &Workspace, places: &BTreeSet<usize>) -> Self {
        let is_theirs = |path: &PathBuf, change: &mut PathChange| {
            !change.is_own && touched_by(path, workspace).is_subset(places)
        };
        Self { paths: self.paths.extract_if(.., is_theirs).collect(), ..Self::default() }
    }

    /// Whether no file changed for a while, or too many did for too long.
    pub(crate) fn is_complete(&self, root: &Path, debounce: Duration) -> bool {
        let Some((first, last)) = self.window else { return true };
        if root.join(".git/index.lock").exists() && first.elapsed() < GIT {
            return false;
        }
        last.elapsed() >= debounce || first.elapsed() >= debounce * MOST
    }

    /// When it may be complete.
    pub(crate) fn next_look(&self, debounce: Duration) -> tokio::time::Instant {
        let quiet = self.window.map_or_else(Instant::now, |(_, last)| last) + debounce;
        // Git's lock is looked at again a little later.
        let soon = Instant::now() + Duration::from_millis(1);
        quiet.max(soon).into()
    }

    /// Whether the workspace must be read again: its components, Dockerfiles, dependencies
    /// or links may be others now.
    pub(crate) fn needs_reload(&self, root: &Path) -> bool {
        self.is_lost
            || self.paths.iter().any(|(path, change)| {
                if change.is_structural && root.join(path).is_symlink() {
                    return true;
                }
                let names: Vec<_> = path.iter().collect();
                match *names {
                    [_] | [_, _] => change.is_structural,
                    [_, _, third, ..] => {
                        third == "build" || path.to_string_lossy().ends_with(".dockerignore")
                    }
                    [] => true,
                }
            })
    }

    /// The components that any change affects directly.
    pub(crate) fn touched(&self, workspace: &Workspace) -> BTreeSet<usize> {
        if self.is_lost {
            return (0..workspace.components.len()).collect();
        }
        self.paths.keys().flat_map(|path| touched_by(path, workspace)).collect()
    }

    /// The same without what their own hooks may have written.
    pub(crate) fn touched_by_others(&self, workspace: &Workspace) -> BTreeSet<usize> {
        if self.is_lost {
            return self.touched(workspace);
        }
        let others = self.paths.iter().filter(|(_, change)| !change.is_own);
        others.flat_map(|(path, _)| touched_by(path, workspace)).collect()
    }

    /// The components without hooks that something other than a hook changed. A component
    /// with hooks is judged by its contents alone, whenever the events of what its hooks wrote
    /// arrive.
    pub(crate) fn touched_by_no_hook(
        &self,
        workspace: &Workspace,
        hook_activity: &HookActivity,
    ) -> BTreeSet<usize> {
        let mut touched = if self.is_lost {
            self.touched(workspace)
        } else {
            let others = self.paths.iter();
            let others =
                others.filter(|(_, change)| !hook_activity.any_ran(change.since, change.at));
            others.flat_map(|(path, _)| touched_by(path, workspace)).collect()
        };
        touched.retain(|place| !workspace.components[*place].has_hooks());
        touched
    }

    /// Marks the changes that the hooks of a round may have made.
    pub(crate) fn find_own(
        &mut self,
        workspace: &Workspace,
        hook_activity: &HookActivity,
        trees: &TreeCache,
    ) {
        for (path, change) in &mut self.paths {
            let place = owner(path, workspace);
            let may_be = |place: usize| {
                let dir = workspace.components[place].dir();
                let below = path.strip_prefix(&dir);
                let is_output = below.is_ok_and(|below| trees.outputs(&dir).contains(below));
                hook_activity.may_have_changed(place, is_output, change.since, change.at)
            };
            change.is_own |= place.is_some_and(may_be);
        }
    }

    /// A changed path of a component, if its own hooks may have made all its changes.
    pub(crate) fn only_own(&self, workspace: &Workspace, place: usize) -> Option<&Path> {
        if self.is_lost {
            return None;
        }
        let touching =
            || self.paths.iter().filter(|(path, _)| touched_by(path, workspace).contains(&place));
        let is_own = touching().all(|(_, change)| change.is_own);
        touching().next().filter(|_| is_own).map(|(path, _)| path.as_path())
    }

    /// The changed paths of these components; all paths if none is of them.
    pub(crate) fn shown(&self, workspace: &Workspace, places: &BTreeSet<usize>) -> Vec<String> {
        let is_theirs = |path: &&PathBuf| !touched_by(path, workspace).is_disjoint(places);
        let mut shown: Vec<&PathBuf> = self.paths.keys().filter(is_theirs).collect();
        if shown.is_empty() {
            shown = self.paths.keys().collect();
        }
        // Files that came and went are mostly an editor's temporary files.
        let is_gone = |path: &&PathBuf| workspace.root.join(path).symlink_metadata().is_err();
        shown.sort_by_key(is_gone);
        shown.into_iter().map(|path| path.display().to_string()).collect()
    }
}

fn owner(path: &Path, workspace: &Workspace) -> Option<usize> {
    let name = path.strip_prefix("src").ok()?.iter().next()?;
    workspace.find(name.to_str()?)
}

fn touched_by(path: &Path, workspace: &Workspace) -> BTreeSet<usize> {
    if Path::new("src").starts_with(path) {
        return (0..workspace.components.len()).collect();
    }
    let is_head = path.starts_with(".git");
    let leads_to = |target: &PathBuf| path.starts_with(target) || target.starts_with(path);
    let declaring = workspace.components.iter().enumerate().filter(|(_, component)| {
        component.link_targets.iter().any(leads_to)
            || component.inputs.as_ref().is_some_and(|(_, inputs)| {
                (is_head && inputs.head)
                    || inputs.declares(path)
                    || inputs.base_paths().any(|start| start.starts_with(path))
            })
    });
    declaring.map(|(place, _)| place).chain(owner(path, workspace)).collect()
}
