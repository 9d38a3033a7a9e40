//! Which files of a workspace can make anything stale, so that nobody watches
//! others.
//!
//! That is all under `src/` but the temporary folders, and, wherever it lies, what hooks are
//! declared to read and what links lead to out of a component that others need. What
//! `.dockerignore` leaves out of every context does not count, unless a hook may read it or
//! another component gets it under `dependency/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use xtask_core::context::dockerignore::Dockerignore;
use xtask_core::context::spec::ContextSpec;
use xtask_core::context::tree_cache::TreeCache;
use xtask_core::plan::graph::{Direction, Graph};
use xtask_core::workspace::components::Workspace;
use xtask_core::workspace::inputs::is_never_taken;

/// The files that matter.
#[derive(Debug, Default)]
pub struct WatchFilter {
    starts: BTreeSet<PathBuf>,
    has_head: bool,
    /// By component: for each image its Dockerfile and what is ignored.
    ignored: BTreeMap<String, Vec<(PathBuf, Dockerignore)>>,
}

impl WatchFilter {
    /// Of a workspace that can be read.
    pub fn new(workspace: &Workspace, graph: &Graph, trees: &TreeCache) -> Self {
        let mut scope = Self::default();
        for (_, inputs) in workspace.components.iter().filter_map(|it| it.inputs.as_ref()) {
            scope.starts.extend(inputs.starts().map(Path::to_owned));
            scope.has_head |= inputs.head;
        }
        for (place, component) in workspace.components.iter().enumerate() {
            scope.starts.extend(component.targets.iter().cloned());
            let is_needed = !graph.next(place, Direction::Dependents).is_empty();
            if component.has_hooks() || component.images.is_empty() || is_needed {
                continue;
            }
            let ignored = component.images.iter().map(|image| {
                let selection = ContextSpec::own(component, image);
                let (ignore, _) = trees.ignore(&selection).ok()?;
                Some((selection.dockerfile, ignore))
            });
            if let Some(ignored) = ignored.collect() {
                scope.ignored.insert(component.name.clone(), ignored);
            }
        }
        scope
    }

    /// Whether a file, or anything in a folder, matters; relative to the root.
    pub fn is_wanted(&self, path: &Path) -> bool {
        if path.starts_with(".git") {
            let is_head = path == Path::new(".git/HEAD") || path == Path::new(".git/logs/HEAD");
            return self.has_head && is_head;
        }
        if is_never_taken(path) {
            return false;
        }
        let is_declared =
            self.starts.iter().any(|start| path.starts_with(start) || start.starts_with(path));
        is_declared || self.is_source(path)
    }

    /// Whether all that lies in a folder matters, as far as its name and place tell.
    pub fn is_whole(&self, folder: &Path) -> bool {
        let mut parts = folder.iter();
        let is_below = parts.next().is_some_and(|first| first == "src");
        let component = parts.next().and_then(|name| name.to_str());
        let is_inside = parts.next().is_some();
        let has_rules = component.is_none_or(|name| self.ignored.contains_key(name));
        is_below && is_inside && !has_rules && self.is_wanted(folder)
    }

    /// The folders, relative to the root, to watch with all that is wanted in them.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(Path::new("src")).chain(self.starts.iter().map(PathBuf::as_path))
    }

    /// Whether the commit that is checked out matters.
    pub fn has_head(&self) -> bool {
        self.has_head
    }

    fn is_source(&self, path: &Path) -> bool {
        let Ok(path) = path.strip_prefix("src") else { return path.as_os_str().is_empty() };
        let mut parts = path.iter();
        let Some(component) = parts.next() else { return true };
        let below = parts.as_path();
        let is_kept = below.as_os_str().is_empty() || below.starts_with("build");
        let ignored = component.to_str().and_then(|component| self.ignored.get(component));
        let (Some(ignored), false) = (ignored, is_kept) else { return true };
        let text = below.to_string_lossy();
        ignored
            .iter()
            .any(|(dockerfile, ignore)| ignore.may_keep(&text) || dockerfile.starts_with(below))
            || below.as_os_str().to_string_lossy().ends_with(".dockerignore")
    }
}
