//! News that belong together: a save, a checkout, an installation of packages.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use xtask_core::context::tree_cache::TreeCache;
use xtask_core::workspace::components::Workspace;

use crate::build::cancel::Cancellation;
use crate::system::watcher::{FsChange, FsEvent};

/// A batch is over after so many times the debounce, whatever else is written.
const MOST: u32 = 10;

/// Git is waited for that long. A lock can also be left behind.
const GIT: Duration = Duration::from_secs(10);

/// All that was heard since the last round.
#[derive(Debug, Default)]
pub(crate) struct ChangeBatch {
    heard: BTreeMap<PathBuf, Heard>,
    is_lost: bool,
    is_first: bool,
    /// Whether something is to be looked at although nothing was heard of it.
    is_again: bool,
    started: Option<Instant>,
    last: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    /// When it was heard of, and before that nothing was known since.
    at: Instant,
    since: Instant,
    is_structural: bool,
    /// Whether a hook of the component that it lies in may have done it.
    is_own: bool,
}

impl ChangeBatch {
    /// Anything may have changed before anybody listened.
    pub(crate) fn everything() -> Self {
        Self { is_lost: true, is_first: true, ..Self::default() }
    }

    /// Whether nothing was heard.
    pub(crate) fn is_empty(&self) -> bool {
        self.heard.is_empty() && !self.is_lost && !self.is_again
    }

    /// Whatever is doubtful is to be looked at.
    pub(crate) fn look_again(&mut self) {
        self.is_again = true;
    }

    /// Whether news were lost.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Whether it is of the time before anybody listened.
    pub(crate) fn is_first(&self) -> bool {
        self.is_first
    }

    pub(crate) fn add(&mut self, news: FsEvent) {
        let now = Instant::now();
        self.started.get_or_insert(now);
        self.last = Some(now);
        match news {
            FsEvent::Lost => self.is_lost = true,
            FsEvent::Changed(FsChange { paths, at, since, is_structural }) => {
                let heard = Heard { at, since, is_structural, is_own: false };
                for path in paths {
                    self.add_one(path, heard);
                }
            }
        }
    }

    fn add_one(&mut self, path: PathBuf, heard: Heard) {
        let known = self.heard.entry(path).or_insert(heard);
        known.is_structural |= heard.is_structural;
    }

    /// Takes what an earlier one held.
    pub(crate) fn merge(&mut self, earlier: Self) {
        self.is_lost |= earlier.is_lost;
        for (path, heard) in earlier.heard {
            self.add_one(path, heard);
        }
    }

    /// What comes from now on belongs to something else.
    pub(crate) fn is_answered(&mut self) {
        (self.started, self.last) = (None, None);
    }

    /// Takes out what others than these components' own hooks did to these and no
    /// other components.
    pub(crate) fn split_off(&mut self, workspace: &Workspace, places: &BTreeSet<usize>) -> Self {
        let is_theirs = |path: &PathBuf, heard: &mut Heard| {
            !heard.is_own && touched_by(path, workspace).is_subset(places)
        };
        Self { heard: self.heard.extract_if(.., is_theirs).collect(), ..Self::default() }
    }

    /// Whether nothing was heard for a while, or too much for too long.
    pub(crate) fn is_over(&self, root: &Path, debounce: Duration) -> bool {
        let (Some(started), Some(last)) = (self.started, self.last) else { return true };
        if root.join(".git/index.lock").exists() && started.elapsed() < GIT {
            return false;
        }
        last.elapsed() >= debounce || started.elapsed() >= debounce * MOST
    }

    /// When it may be over.
    pub(crate) fn next_look(&self, debounce: Duration) -> tokio::time::Instant {
        let quiet = self.last.unwrap_or_else(Instant::now) + debounce;
        // Git's lock is looked at again a little later.
        let soon = Instant::now() + Duration::from_millis(1);
        quiet.max(soon).into()
    }

    /// Whether components, their Dockerfiles or dependencies may be others now, or where
    /// their links lead.
    pub(crate) fn touches_structure(&self, root: &Path) -> bool {
        self.heard.iter().any(|(path, heard)| {
            if heard.is_structural && root.join(path).is_symlink() {
                return true;
            }
            let names: Vec<_> = path.iter().collect();
            match *names {
                [_] | [_, _] => heard.is_structural,
                [_, _, third, ..] => {
                    third == "build" || path.to_string_lossy().ends_with(".dockerignore")
                }
                [] => true,
            }
        })
    }

    /// The places of the components that something was heard of.
    pub(crate) fn touched(&self, workspace: &Workspace) -> BTreeSet<usize> {
        if self.is_lost {
            return (0..workspace.components.len()).collect();
        }
        self.heard.keys().flat_map(|path| touched_by(path, workspace)).collect()
    }

    /// The same without what components may have done to themselves.
    pub(crate) fn touched_by_others(&self, workspace: &Workspace) -> BTreeSet<usize> {
        if self.is_lost {
            return self.touched(workspace);
        }
        let others = self.heard.iter().filter(|(_, heard)| !heard.is_own);
        others.flat_map(|(path, _)| touched_by(path, workspace)).collect()
    }

    /// The components without hooks of their own to which something was done that no hook
    /// did. What hooks write with the same contents is no news, whenever it is heard of:
    /// of their components contents alone decide.
    pub(crate) fn touched_by_no_hook(
        &self,
        workspace: &Workspace,
        cancellation: &Cancellation,
    ) -> BTreeSet<usize> {
        let mut touched = if self.is_lost {
            self.touched(workspace)
        } else {
            let others = self.heard.iter();
            let others =
                others.filter(|(_, heard)| !cancellation.may_be_a_hooks(heard.since, heard.at));
            others.flat_map(|(path, _)| touched_by(path, workspace)).collect()
        };
        touched.retain(|place| !workspace.components[*place].has_hooks());
        touched
    }

    /// Finds out what the hooks of a round may have done.
    pub(crate) fn find_own(
        &mut self,
        workspace: &Workspace,
        cancellation: &Cancellation,
        trees: &TreeCache,
    ) {
        for (path, heard) in &mut self.heard {
            let place = owner(path, workspace);
            let may_be = |place: usize| {
                let dir = workspace.components[place].dir();
                let below = path.strip_prefix(&dir);
                let is_output = below.is_ok_and(|below| trees.outputs(&dir).has_path(below));
                cancellation.may_be_its_own(place, is_output, heard.since, heard.at)
            };
            heard.is_own |= place.is_some_and(may_be);
        }
    }

    /// A path of a component, if its own hooks may have done all that was heard of it.
    pub(crate) fn only_own(&self, workspace: &Workspace, place: usize) -> Option<&Path> {
        if self.is_lost {
            return None;
        }
        let touching =
            || self.heard.iter().filter(|(path, _)| touched_by(path, workspace).contains(&place));
        let is_own = touching().all(|(_, heard)| heard.is_own);
        touching().next().filter(|_| is_own).map(|(path, _)| path.as_path())
    }

    /// The paths of these components, as people call them; all paths if none is of
    /// them.
    pub(crate) fn shown(&self, workspace: &Workspace, places: &BTreeSet<usize>) -> Vec<String> {
        let is_theirs = |path: &&PathBuf| !touched_by(path, workspace).is_disjoint(places);
        let mut shown: Vec<&PathBuf> = self.heard.keys().filter(is_theirs).collect();
        if shown.is_empty() {
            shown = self.heard.keys().collect();
        }
        // Files that came and went were mostly somebody's means to an end.
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
        component.targets.iter().any(leads_to)
            || component.inputs.as_ref().is_some_and(|(_, inputs)| {
                (is_head && inputs.head)
                    || inputs.covers(path)
                    || inputs.starts().any(|start| start.starts_with(path))
            })
    });
    declaring.map(|(place, _)| place).chain(owner(path, workspace)).collect()
}
