//! Changes that belong together, such as those of a save, a checkout, or a package installation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use xtask_core::context::tree_cache::TreeCache;
use xtask_core::ids::ComponentId;
use xtask_core::paths::{CONFIG_FILE, GIT, SRC};
use xtask_core::plan::graph::Graph;
use xtask_core::workspace::components::{Component, Workspace};

use crate::build::hook_activity::HookActivity;
use crate::system::watcher::{FsChange, FsEvent};

/// A batch is complete after this many debounce periods, even if files still change.
const MAX_DEBOUNCES: u32 = 10;

/// A git that is killed leaves its lock behind, but changes nothing more: a batch waits for the
/// removal of the lock for so long after the last change.
const GIT_LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// The same, if others change files all the time.
const GIT_LOCK_LIMIT: Duration = Duration::from_mins(5);

/// The changes since the last round.
#[derive(Debug, Default)]
pub(crate) struct ChangeBatch {
    paths: BTreeMap<PathBuf, PathChange>,
    is_lost: bool,
    is_first: bool,
    /// Whether to compare uncertain components even if none of their files changed.
    is_recheck: bool,
    /// The times of the first and the last change that belong together.
    window: Option<(Instant, Instant)>,
    lock: Option<GitLock>,
}

/// Git's lock, if it was there while changes were collected.
#[derive(Clone, Copy, Debug)]
struct GitLock {
    /// When it was seen first.
    first: Instant,
    /// When it was seen last, or first found to be gone.
    last: Instant,
    is_gone: bool,
}

#[derive(Clone, Debug)]
struct PathChange {
    /// The change happened between `since` and `at`.
    at: Instant,
    since: Instant,
    is_structural: bool,
    /// Whether a hook of the component that contains the path may have caused the change.
    may_be_own: bool,
    /// The components whose hooks may have caused the change, by name.
    hooks: BTreeSet<String>,
}

/// What hooks wrote that makes components stale: for each a path, and the components whose hooks
/// may have written this and whatever else makes it stale, by name.
pub(crate) type WrittenByHooks<'a> = BTreeMap<ComponentId, (&'a Path, BTreeSet<String>)>;

impl ChangeBatch {
    /// The batch before files are watched: anything may have changed.
    pub(crate) fn everything() -> Self {
        Self { is_lost: true, is_first: true, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.is_lost && !self.is_recheck
    }

    /// Requests a comparison of uncertain components.
    pub(crate) fn request_recheck(&mut self) {
        self.is_recheck = true;
    }

    /// Whether it is known of a path that it changed.
    pub(crate) fn has_paths(&self) -> bool {
        !self.paths.is_empty()
    }

    /// Whether events were lost, so that anything may have changed.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Whether this is the batch before files are watched.
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
                let hooks = BTreeSet::new();
                let change = PathChange { at, since, is_structural, may_be_own: false, hooks };
                for path in paths {
                    self.add_path(path, change.clone());
                }
            }
        }
    }

    fn add_path(&mut self, path: PathBuf, change: PathChange) {
        let is_structural = change.is_structural;
        self.paths.entry(path).or_insert(change).is_structural |= is_structural;
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

    /// Ends the collection: later changes do not belong to this group.
    pub(crate) fn close(&mut self) {
        self.window = None;
        self.lock = None;
    }

    /// Removes and returns the changes that affect only these components, and were not caused by
    /// their own hooks.
    pub(crate) fn split_off(
        &mut self,
        workspace: &Workspace,
        components: &BTreeSet<ComponentId>,
    ) -> Self {
        let is_split_off = |path: &PathBuf, change: &mut PathChange| {
            !change.may_be_own && touched_by(path, workspace).is_subset(components)
        };
        Self { paths: self.paths.extract_if(.., is_split_off).collect(), ..Self::default() }
    }

    /// Whether no file changed during the debounce period, or changes have been collected for too
    /// long.
    pub(crate) fn is_complete(&mut self, git_lock: Option<&Path>, debounce: Duration) -> bool {
        let Some((first, last)) = self.window else { return true };
        if git_lock.is_some_and(Path::exists) {
            let now = Instant::now();
            let first = self.lock.map_or(now, |lock| lock.first);
            self.lock = Some(GitLock { first, last: now, is_gone: false });
            return last.elapsed() >= GIT_LOCK_TIMEOUT || first.elapsed() >= GIT_LOCK_LIMIT;
        }
        // The last changes may still be on their way when git is done.
        if let Some(lock) = self.lock.as_mut().filter(|lock| !lock.is_gone) {
            (lock.last, lock.is_gone) = (Instant::now(), true);
        }
        let done = self.lock.map_or(first, |lock| lock.last);
        last.max(done).elapsed() >= debounce
            || first.max(done).elapsed() >= debounce * MAX_DEBOUNCES
    }

    /// When to call [`Self::is_complete`] again.
    pub(crate) fn next_check(&self, debounce: Duration) -> tokio::time::Instant {
        let last = self.window.map_or_else(Instant::now, |(_, last)| last);
        // Git's lock is polled.
        let quiet = self.lock.map_or(last, |lock| last.max(lock.last)) + debounce;
        let soon = Instant::now() + Duration::from_millis(1);
        quiet.max(soon).into()
    }

    /// Whether the workspace must be reloaded: its components, Dockerfiles, dependencies or links
    /// may have changed.
    pub(crate) fn needs_reload(&self, workspace: &Workspace) -> bool {
        let links = || workspace.components.iter().flat_map(|component| &component.build_links);
        self.is_lost
            || self.paths.iter().any(|(path, change)| {
                let full = workspace.root.join(path);
                if path == Path::new(CONFIG_FILE) || self.brings_links(path, &full) {
                    return true;
                }
                if path.starts_with(GIT) {
                    return workspace.config.names_branch;
                }
                if links().any(|target| path.starts_with(target) || target.starts_with(path)) {
                    return true;
                }
                let is_ignore_file = || path.to_string_lossy().ends_with(".dockerignore");
                if workspace.config.has_definitions() {
                    let is_args_file = |file: &String| Path::new(file).starts_with(path);
                    let mut images = workspace.images().map(|(_, image)| image);
                    return is_ignore_file()
                        || path.iter().any(|name| name == "build")
                        || (change.is_structural
                            && workspace.config.may_define(path, full.is_dir()))
                        || images.any(|image| {
                            Path::new(&image.dockerfile).starts_with(path)
                                || image.settings.args_files.iter().any(is_args_file)
                        });
                }
                let names: Vec<_> = path.iter().collect();
                match *names {
                    [_] | [_, _] => change.is_structural,
                    [_, _, third, ..] => third == "build" || is_ignore_file(),
                    [] => true,
                }
            })
    }

    /// Whether a path is a link, or a folder with one, that came with a change. What is in a folder
    /// that came, too, is searched with that.
    fn brings_links(&self, path: &Path, full: &Path) -> bool {
        let came = |path: &Path| self.paths.get(path).is_some_and(|it| it.is_structural);
        came(path) && !path.ancestors().skip(1).any(came) && has_links(full)
    }

    /// The components that any change affects directly.
    pub(crate) fn touched(&self, workspace: &Workspace) -> BTreeSet<ComponentId> {
        if self.is_lost {
            return workspace.components.ids().collect();
        }
        self.paths.keys().flat_map(|path| touched_by(path, workspace)).collect()
    }

    /// The same without changes that their own hooks may have caused.
    pub(crate) fn touched_by_others(&self, workspace: &Workspace) -> BTreeSet<ComponentId> {
        if self.is_lost {
            return self.touched(workspace);
        }
        let others = self.paths.iter().filter(|(_, change)| !change.may_be_own);
        others.flat_map(|(path, _)| touched_by(path, workspace)).collect()
    }

    /// Marks the changes that the hooks of a round may have caused.
    pub(crate) fn mark_hooks(
        &mut self,
        workspace: &Workspace,
        hook_activity: &HookActivity,
        trees: &TreeCache,
    ) {
        for (path, change) in &mut self.paths {
            let running = hook_activity.running(change.since, change.at);
            if running.is_empty() {
                continue;
            }
            let owner = workspace.owner(path);
            for component in running {
                let is_own = owner == Some(component);
                let Component { name, dir, .. } = &workspace.components[component];
                let is_output = || {
                    let below = path.strip_prefix(dir);
                    below.is_ok_and(|below| trees.outputs(dir).contains(below))
                };
                let is_possible = !is_own
                    || is_output()
                    || hook_activity.may_have_changed(component, change.since, change.at);
                if is_possible {
                    change.may_be_own |= is_own;
                    change.hooks.insert(name.clone());
                }
            }
        }
    }

    /// The components of the `stale` ones that only hooks may have made stale.
    pub(crate) fn written_by_hooks(
        &self,
        workspace: &Workspace,
        graph: &Graph,
        stale: &BTreeSet<ComponentId>,
    ) -> WrittenByHooks<'_> {
        if self.is_lost || self.paths.values().all(|change| change.hooks.is_empty()) {
            return WrittenByHooks::new();
        }
        let paths = self.paths.iter();
        let changes = paths
            .map(|(path, change)| (path.as_path(), touched_by(path, workspace), &change.hooks));
        let changes: Vec<_> = changes.collect();
        let of_hooks = |component: &ComponentId| {
            let needed = graph.closure(&[*component].into());
            let mut found: Option<(&Path, BTreeSet<String>)> = None;
            for (path, touched, hooks) in &changes {
                if touched.is_disjoint(&needed) {
                    continue;
                }
                if hooks.is_empty() {
                    return None;
                }
                found.get_or_insert((path, BTreeSet::new())).1.extend(hooks.iter().cloned());
            }
            found.map(|found| (*component, found))
        };
        stale.iter().filter_map(of_hooks).collect()
    }

    /// The changed paths that affect these components, to print them; all paths if none does.
    pub(crate) fn paths_to_print(
        &self,
        workspace: &Workspace,
        components: &BTreeSet<ComponentId>,
    ) -> Vec<String> {
        let is_theirs = |path: &&PathBuf| !touched_by(path, workspace).is_disjoint(components);
        let mut paths: Vec<&PathBuf> = self.paths.keys().filter(is_theirs).collect();
        if paths.is_empty() {
            paths = self.paths.keys().collect();
        }
        // Files that no longer exist are last: most are temporary files of an editor.
        let is_gone = |path: &&PathBuf| workspace.root.join(path).symlink_metadata().is_err();
        paths.sort_by_key(is_gone);
        paths.into_iter().map(|path| path.display().to_string()).collect()
    }
}

/// Whether a path is a link, or a folder with one.
fn has_links(path: &Path) -> bool {
    let entries = || fs::read_dir(path).into_iter().flatten().flatten();
    let is_or_has_link = |entry: DirEntry| {
        let kind = entry.file_type();
        kind.is_ok_and(|kind| kind.is_symlink() || kind.is_dir() && has_links(&entry.path()))
    };
    path.is_symlink() || entries().any(is_or_has_link)
}

/// The components that a changed path affects directly.
pub(crate) fn touched_by(path: &Path, workspace: &Workspace) -> BTreeSet<ComponentId> {
    if Path::new(SRC).starts_with(path) {
        return workspace.components.ids().collect();
    }
    let is_head = path.starts_with(GIT);
    if is_head && workspace.config.names_branch {
        return workspace.components.ids().collect();
    }
    let leads_to = |target: &PathBuf| path.starts_with(target) || target.starts_with(path);
    let affected = workspace.components.enumerate().filter(|(_, component)| {
        component.link_targets.iter().chain(&component.build_links).any(leads_to)
            || component.inputs.as_ref().is_some_and(|(_, inputs)| {
                (is_head && inputs.head)
                    || inputs.declares(path)
                    || inputs.base_paths().any(|start| start.starts_with(path))
            })
    });
    affected.map(|(component, _)| component).chain(workspace.touched_by(path)).collect()
}
