//! Which files of a workspace can make an image stale, so that no others are watched.
//!
//! These are the files under `src/` except temporary folders; and hooks and their declared inputs,
//! folders that Dockerfiles call by names, what links in `build/` lead to, and the targets of links
//! out of a component that others depend on, wherever they are. A file that `.dockerignore` excludes
//! from every context does not count, unless a hook can read it or another component gets it under
//! `dependency/`. What `.gitignore` says does not matter: builders do not know it. Where
//! `xtask.toml` says which images there are, or that contexts are elsewhere, these are the files of
//! the contexts, and whatever may become a Dockerfile. Editors' scratch files can be in a context
//! like any other file, but only what comes with them starts a round. Of `target/`, which every
//! build with Cargo fills, only what a Dockerfile can read is watched, or an input that names it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use xtask_core::context::dockerignore::Dockerignore;
use xtask_core::context::spec::ContextSpec;
use xtask_core::context::tree_cache::TreeCache;
use xtask_core::dockerfile::context_reads::ContextReads;
use xtask_core::ids::ComponentId;
use xtask_core::paths::{BUILD, CONFIG_FILE, GIT, SRC, TARGET};
use xtask_core::plan::graph::{Direction, Graph};
use xtask_core::workspace::components::{Component, Image, Workspace};
use xtask_core::workspace::config::Config;
use xtask_core::workspace::hook::Hook;
use xtask_core::workspace::inputs::is_never_input;
use xtask_core::workspace::links::Links;

use crate::system::watcher::scratch::is_scratch;

/// Selects the files to watch.
#[derive(Debug, Default)]
pub(crate) struct WatchFilter {
    /// The base paths of declared inputs, and the targets of links.
    extra_paths: BTreeSet<PathBuf>,
    has_head: bool,
    /// By component, the Dockerfile and ignore rules of each image.
    ignored: BTreeMap<String, Vec<(PathBuf, Dockerignore)>>,
    /// What each Dockerfile reads, by its context.
    reads: Vec<(PathBuf, ContextReads)>,
    /// The folders of a workspace whose `xtask.toml` says where images or contexts are.
    configured: Option<Configured>,
    links: Links,
}

/// The folders to watch in a workspace whose `xtask.toml` says where images or contexts are.
#[derive(Debug, Default)]
struct Configured {
    /// The folders of components that hooks or other components read.
    whole: BTreeSet<PathBuf>,
    /// The context of each image, its Dockerfile, and what it leaves out.
    contexts: Vec<(PathBuf, PathBuf, Dockerignore)>,
    /// The folders in which Dockerfiles are looked for.
    searched: BTreeSet<PathBuf>,
    config: Config,
}

impl WatchFilter {
    pub(crate) fn new(workspace: &Workspace, graph: &Graph, trees: &TreeCache) -> Self {
        let mut filter = Self { has_head: workspace.config.names_branch, ..Self::default() };
        for (_, inputs) in workspace.components.iter().filter_map(|it| it.inputs.as_ref()) {
            filter.extra_paths.extend(inputs.base_paths().map(Path::to_owned));
            filter.has_head |= inputs.head;
        }
        let reads = workspace.images().map(|(_, image)| {
            filter.extra_paths.extend(image.settings.args_files.iter().map(PathBuf::from));
            filter.extra_paths.extend(image.named_folders().map(|(_, folder)| folder.into()));
            let has_root = image.named_folders().any(|(_, folder)| folder.is_empty());
            filter.extra_paths.extend(has_root.then(|| TARGET.into()));
            (image.context.clone().into(), image.context_reads.clone())
        });
        filter.reads = reads.collect();
        filter.links = Links::find(workspace);
        filter.extra_paths.extend(filter.links.files().cloned());
        let mut configured = Configured::default();
        for (id, component) in workspace.components.enumerate() {
            let linked = component.link_targets.iter().chain(&component.build_links);
            filter.extra_paths.extend(linked.cloned());
            let scripts = component.hooks().filter_map(Hook::script);
            filter.extra_paths.extend(scripts.map(PathBuf::from));
            let has_dependents = !graph.neighbors(id, Direction::Dependents).is_empty();
            let is_whole = component.has_hooks() || component.images.is_empty() || has_dependents;
            if is_whole {
                configured.whole.insert(component.dir.clone().into());
            }
            configured.add_contexts(component, trees);
            if is_whole {
                continue;
            }
            let ignored = component.images.iter().map(|image| {
                let selection = ContextSpec::own(image);
                let (ignore, _) = trees.ignore(&selection).ok()?;
                Some((selection.dockerfile, ignore))
            });
            if let Some(ignored) = ignored.collect() {
                filter.ignored.insert(component.name.clone(), ignored);
            }
        }
        let is_elsewhere =
            |(id, image): (ComponentId, &Image)| !image.is_within(&workspace.components[id].dir);
        let has_definitions = workspace.config.has_definitions();
        if has_definitions || workspace.images().any(is_elsewhere) {
            configured.searched = workspace.config.search_folders().map(PathBuf::from).collect();
            if !has_definitions {
                configured.whole.insert(SRC.into());
            }
            configured.config = workspace.config.clone();
            filter.configured = Some(configured);
        }
        filter
    }

    /// All paths to watch of what has a path, relative to the root.
    pub(crate) fn paths(&self, path: &Path) -> impl Iterator<Item = PathBuf> {
        self.links.paths(path).into_iter().filter(|path| self.matches(path))
    }

    /// Whether a path, relative to the root, is a file to watch or a folder that can contain one.
    pub(crate) fn matches(&self, path: &Path) -> bool {
        if path.starts_with(GIT) {
            let is_head = path == Path::new(".git/HEAD") || path == Path::new(".git/logs/HEAD");
            return self.has_head && is_head;
        }
        if is_never_input(path) {
            return false;
        }
        if path == Path::new(CONFIG_FILE) {
            return true;
        }
        let is_in_target = path.starts_with(TARGET);
        let is_extra = |extra: &PathBuf| {
            let overlaps = path.starts_with(extra) || extra.starts_with(path);
            overlaps && (!is_in_target || extra.starts_with(TARGET))
        };
        self.extra_paths.iter().any(is_extra)
            || self.is_source(path) && (!is_in_target || self.is_read(path))
    }

    /// Whether a Dockerfile can read a path, or something below it.
    fn is_read(&self, path: &Path) -> bool {
        let may_read = |(dir, reads): &(PathBuf, ContextReads)| {
            let below = path.strip_prefix(dir);
            dir.starts_with(path) || below.is_ok_and(|below| reads.may_read(below))
        };
        self.reads.iter().any(may_read)
    }

    /// Whether a path is a scratch file of an editor, which no Dockerfile and no declared input
    /// names.
    pub(crate) fn is_scratch(&self, path: &Path) -> bool {
        let is_named = || {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let names = |(dir, reads): &(PathBuf, ContextReads)| {
                path.starts_with(dir) && reads.names_file(name)
            };
            self.extra_paths.contains(path) || self.reads.iter().any(names)
        };
        is_scratch(path) && !is_named()
    }

    /// Whether all files in a folder are to be watched, judging by its path.
    pub(crate) fn matches_all_in(&self, folder: &Path) -> bool {
        if self.configured.is_some() {
            return false;
        }
        let mut parts = folder.iter();
        let is_below = parts.next().is_some_and(|first| first == SRC);
        let component = parts.next().and_then(|name| name.to_str());
        let is_inside = parts.next().is_some();
        let has_rules = component.is_none_or(|name| self.ignored.contains_key(name));
        is_below && is_inside && !has_rules && self.matches(folder)
    }

    /// The top folders to watch, relative to the root.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &Path> {
        let configured = self.configured.iter().flat_map(Configured::folders);
        let src = self.configured.is_none().then_some(Path::new(SRC));
        src.into_iter().chain(configured).chain(self.extra_paths.iter().map(PathBuf::as_path))
    }

    /// Whether the checked-out commit is to be watched.
    pub(crate) fn has_head(&self) -> bool {
        self.has_head
    }

    fn is_source(&self, path: &Path) -> bool {
        if let Some(configured) = &self.configured {
            return configured.matches(path);
        }
        let Ok(path) = path.strip_prefix(SRC) else { return path.as_os_str().is_empty() };
        let mut parts = path.iter();
        let Some(component) = parts.next() else { return true };
        let below = parts.as_path();
        let is_always_watched = below.as_os_str().is_empty() || below.starts_with(BUILD);
        let ignored = component.to_str().and_then(|component| self.ignored.get(component));
        let (Some(ignored), false) = (ignored, is_always_watched) else { return true };
        let text = below.to_string_lossy();
        ignored
            .iter()
            .any(|(dockerfile, ignore)| ignore.may_keep(&text) || dockerfile.starts_with(below))
            || below.as_os_str().to_string_lossy().ends_with(".dockerignore")
    }
}

impl Configured {
    fn add_contexts(&mut self, component: &Component, trees: &TreeCache) {
        for image in &component.images {
            let spec = ContextSpec::own(image);
            match trees.ignore(&spec) {
                Ok((ignore, _)) => {
                    let dockerfile = PathBuf::from(&image.dockerfile);
                    self.contexts.push((spec.dir.into(), dockerfile, ignore));
                }
                Err(_) => drop(self.whole.insert(spec.dir.into())),
            }
        }
    }

    /// The top folders to watch.
    fn folders(&self) -> impl Iterator<Item = &Path> {
        let contexts = self.contexts.iter().flat_map(|(context, dockerfile, _)| {
            [context.as_path(), dockerfile.parent().unwrap_or(context)]
        });
        contexts.chain(self.whole.iter().chain(&self.searched).map(PathBuf::as_path))
    }

    fn matches(&self, path: &Path) -> bool {
        if self.folders().any(|folder| folder.starts_with(path)) {
            return true;
        }
        let is_kept = |(context, dockerfile, ignore): &(PathBuf, PathBuf, Dockerignore)| {
            let Ok(below) = path.strip_prefix(context) else { return false };
            ignore.may_keep(&below.to_string_lossy()) || dockerfile.starts_with(path)
        };
        let text = path.to_string_lossy();
        let is_in_build = path.iter().any(|name| name == BUILD);
        self.whole.iter().any(|dir| path.starts_with(dir))
            || self.contexts.iter().any(is_kept)
            || self.contexts.iter().any(|(_, dockerfile, _)| path == dockerfile)
            || text.ends_with(".dockerignore")
            || is_in_build
            || self.config.may_define(path, true)
            || self.config.may_define(path, false)
    }
}
