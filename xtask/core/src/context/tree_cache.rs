//! Caches the trees of a workspace's components, so that each is walked and digested once.
//!
//! Contexts share trees, because they contain the folders of other components. If a
//! Dockerfile can read only a part of its component's folder, only that part is walked. If
//! links leave the folder, dependents get a separate tree, in which the links are followed.
//!
//! A folder can contain components whose hooks fill `dependency/` and `generated/` during a round.
//! Only the component itself gets these, and its dependents below their own `dependency/`: for all
//! others, it would depend on what runs at the same time.
//!
//! Cached trees are valid until files may have changed. Call [`TreeCache::invalidate`] after
//! a hook ran, and [`TreeCache::invalidate_unless_watched`] after an image was built. Folders
//! are then walked again, but digests of unchanged files are reused. If a watcher reports all
//! changes, call [`TreeCache::invalidate_path`] for each.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::context::build_context::{Context, ContextPart};
use crate::context::dockerignore::Dockerignore;
use crate::context::hook_outputs::HookOutputs;
use crate::context::prune;
use crate::context::spec::{ContextSpec, DependencyFolder};
use crate::context::tree::{Entry, Kind, Remembered, Tree, Wanted, unreadable};
use crate::context::verified_reader::changed_while_sending;
use crate::dockerfile::context_reads::{ContextReads, Reach};
use crate::paths::{BUILD, IGNORE_FILE, SRC, STATE, TEMPORARY, join};
use crate::problem::Problem;
use crate::regular_file::{self, with_path};
use crate::saved;
use crate::workspace::components::{Workspace, stray_dockerfile};

/// Separates the parts of cache keys: no path has it.
const SEPARATOR: char = '\0';

/// The suffix of cache keys for lists of files.
const INPUTS: &str = "inputs";

/// The suffix of cache keys for folders whose outgoing links are followed.
const FOLLOWED: &str = "followed";

/// The saved digests of earlier runs, by cache key of the tree.
pub type Memory = BTreeMap<String, Vec<Remembered>>;

/// Reads what [`encode_memory`] wrote.
pub fn decode_memory(bytes: &[u8]) -> Option<Memory> {
    saved::decode(bytes)
}

/// The saved digests as bytes.
pub fn encode_memory(memory: &Memory) -> io::Result<Vec<u8>> {
    saved::encode(memory)
}

/// The cached trees and contexts of a workspace.
#[derive(Debug)]
pub struct TreeCache {
    root: PathBuf,
    is_watched: bool,
    /// The folders of components whose temporary folders are skipped.
    without_temporary: BTreeSet<String>,
    state: Mutex<CacheState>,
}

#[derive(Debug)]
struct CacheState {
    /// How often anything was dropped. What was read meanwhile may be from before the change,
    /// and is not cached.
    version: u64,
    trees: HashMap<TreeKey, Arc<Tree>>,
    contexts: HashMap<ContextSpec, Context>,
    /// The contexts that are read as a whole because of the bases of their Dockerfiles.
    reads_all: HashSet<ReadsKey>,
    /// The components, by folder, and whether they have hooks.
    components: BTreeMap<String, bool>,
    /// The outputs of hooks in components, by folder.
    outputs: HashMap<String, HookOutputs>,
    /// Outputs that a dry run excludes, because a build would move them away, by folder.
    hidden: HashMap<String, HookOutputs>,
    memory: HashMap<String, Arc<Vec<Remembered>>>,
    is_dirty: bool,
}

/// What a cached tree was read from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TreeKey {
    /// The folder, and what its digests are saved under.
    name: String,
    /// None if all of the folder was walked.
    filter: Option<Filter>,
}

impl TreeKey {
    fn whole(name: impl Into<String>) -> Self {
        Self { name: name.into(), filter: None }
    }
}

/// Which part of a context's folder is walked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Filter {
    reads: ContextReads,
    dockerfile: PathBuf,
    ignore: Dockerignore,
}

impl TreeCache {
    /// An empty cache that reuses the digests of earlier runs.
    pub fn new(root: &Path, memory: Memory) -> Self {
        let memory = memory.into_iter().map(|(name, known)| (name, Arc::new(known))).collect();
        let state = CacheState {
            version: 0,
            trees: HashMap::new(),
            contexts: HashMap::new(),
            reads_all: HashSet::new(),
            components: BTreeMap::new(),
            outputs: HashMap::new(),
            hidden: HashMap::new(),
            memory,
            is_dirty: false,
        };
        Self {
            root: root.to_owned(),
            is_watched: false,
            without_temporary: BTreeSet::new(),
            state: Mutex::new(state),
        }
    }

    /// Skips the temporary folders in these folders of components.
    pub fn without_temporary(self, without_temporary: BTreeSet<String>) -> Self {
        Self { without_temporary, ..self }
    }

    /// Keeps trees until [`TreeCache::invalidate_path`] or [`TreeCache::invalidate`] is called.
    /// For callers that report all changes.
    pub fn watched(self) -> Self {
        Self { is_watched: true, ..self }
    }

    /// Sets the components of the workspace.
    pub fn set_components(&self, workspace: &Workspace) {
        let components = workspace.components.iter();
        let components = components.map(|it| (it.dir.clone(), it.has_hooks())).collect();
        let mut state = self.state();
        if state.components != components {
            state.components = components;
            state.contexts.clear();
            state.version += 1;
        }
    }

    /// The folders below a folder, and relative to it, that hooks fill during a round, except
    /// for those of the component at `owner`.
    fn filled_by_others(&self, dir: &str, owner: &str) -> Vec<PathBuf> {
        let others = self.others(dir, owner);
        let filled = others.iter().flat_map(|it| TEMPORARY.map(|name| it.join(name)));
        filled.collect()
    }

    /// The components with hooks at a folder or below it, and relative to it, except for the one at
    /// `owner`.
    fn others(&self, dir: &str, owner: &str) -> Vec<PathBuf> {
        let state = self.state();
        let from = state.components.range(dir.to_owned()..);
        let with_hooks = from.take_while(|(it, _)| it.starts_with(dir));
        let others = with_hooks.filter(|(it, has_hooks)| **has_hooks && *it != owner);
        let below = |(it, _): (&String, _)| Some(Path::new(it).strip_prefix(dir).ok()?.to_owned());
        others.filter_map(below).collect()
    }

    /// The folder of the component that a Dockerfile, relative to the root, belongs to.
    fn owner(&self, dockerfile: &Path) -> String {
        let state = self.state();
        let is_component =
            |dir: &&Path| dir.to_str().is_some_and(|dir| state.components.contains_key(dir));
        let dir = dockerfile.ancestors().skip(1).find(is_component);
        dir.unwrap_or(Path::new("")).to_string_lossy().into_owned()
    }

    /// A number that changes whenever anything is dropped.
    pub fn version(&self) -> u64 {
        self.state().version
    }

    /// Whether the caller reports all changes.
    pub fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// The context of an image, if it is cached.
    pub fn cached_context(&self, of: &ContextSpec) -> Option<Context> {
        self.state().contexts.get(of).cloned()
    }

    /// The context of an image.
    pub fn context(&self, of: &ContextSpec) -> Result<Context, Problem> {
        let version = self.state().version;
        let context = self.read(of, true)?;
        let mut state = self.state();
        if state.version == version {
            state.contexts.insert(of.clone(), context.clone());
        }
        Ok(context)
    }

    /// The context of an image, without anything that the hooks of its dependencies wrote.
    pub fn context_without_generated(&self, of: &ContextSpec) -> Result<Context, Problem> {
        self.read(of, false)
    }

    fn read(&self, of: &ContextSpec, has_generated: bool) -> Result<Context, Problem> {
        let (ignore, ignore_file) = self.ignore(of)?;
        let all = || {
            let own = self.own(of, &ignore, ignore_file.as_deref())?;
            let mut parts = vec![self.own_part(of, own, &ignore)?];
            parts.extend(self.dependencies(&of.dependencies, &ignore, has_generated)?);
            Ok::<_, io::Error>(parts)
        };
        let read = || {
            let parts = match self.pruned(of, &ignore, has_generated)? {
                Some(parts) => parts,
                None => all()?,
            };
            let linked = self.linked_dockerfile(of, &parts[0])?;
            let context = Context::read(parts)?;
            match linked {
                Some(file) => context.with_linked_dockerfile(file),
                None => Ok(context),
            }
        };
        let mut context = read().map_err(|error| self.problem(&error))?;
        for (name, dir) in &of.named {
            context =
                context.with_named(name, self.named(dir, &self.owner(&of.dockerfile_path()))?);
        }
        Ok(context)
    }

    /// A folder that Dockerfiles call by a name, without what its `.dockerignore` excludes.
    fn named(&self, dir: &str, owner: &str) -> Result<Context, Problem> {
        let file = join(dir, IGNORE_FILE);
        let path = self.root.join(&file);
        let ignore = match regular_file::read_to_string(&path) {
            Ok(text) => Dockerignore::parse(&text)
                .map_err(|error| Problem::of_line(&file, error.line, error.to_string()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Dockerignore::default(),
            Err(error) => return Err(Problem::of_file(file, regular_file::explain(&path, &error))),
        };
        let read = || {
            let mut part = ContextPart::own(dir.to_owned(), self.whole(dir)?, &ignore, None);
            part.leave_out(&self.filled_by_others(dir, owner));
            Context::read(vec![part])
        };
        read().map_err(|error| self.problem(&error))
    }

    /// The file that links lead to at the Dockerfile's path, if it is no file of the folder.
    fn linked_dockerfile(
        &self,
        of: &ContextSpec,
        own: &ContextPart,
    ) -> io::Result<Option<ContextPart>> {
        if of.elsewhere.is_none() && own.has_file(&of.dockerfile) {
            return Ok(None);
        }
        let dir = of.elsewhere.as_ref().unwrap_or(&of.dir);
        let folder = self.root.join(dir);
        let tree = match Tree::of_linked_file(&folder, &of.dockerfile) {
            Ok(tree) => tree,
            // The engine reports it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let file = ContextPart::without(dir.clone(), Arc::new(tree), &[]);
        // The fingerprint has what was parsed.
        if file.digest(&of.dockerfile)? != Some(of.dockerfile_digest) {
            return Err(with_path(&folder.join(&of.dockerfile))(changed_while_sending()));
        }
        Ok(Some(file))
    }

    /// The parts that the Dockerfile can read, if this is certain. Nothing else is walked.
    fn pruned(
        &self,
        of: &ContextSpec,
        ignore: &Dockerignore,
        has_generated: bool,
    ) -> io::Result<Option<Vec<ContextPart>>> {
        let key = reads_key(of);
        if of.context_reads == ContextReads::All || self.state().reads_all.contains(&key) {
            return Ok(None);
        }
        let always = of.read_by_builders();
        let own = self.readable(of, ignore, &always)?;
        let mut parts = vec![self.own_part(of, own, ignore)?];
        // A hook may have changed the Dockerfile since it was parsed.
        let own = &parts[0];
        if of.elsewhere.is_none()
            && own.has_file(&of.dockerfile)
            && own.digest(&of.dockerfile)? != Some(of.dockerfile_digest)
        {
            return Ok(None);
        }
        let is_read = |dependency: &&DependencyFolder| {
            of.context_reads.reach(&dependency.path_in_context()) != Reach::Unread
        };
        let dependencies: Vec<DependencyFolder> =
            of.dependencies.iter().filter(is_read).cloned().collect();
        parts.extend(self.dependencies(&dependencies, ignore, has_generated)?);
        let on_disk = |path: &Path| of.on_disk(&self.root, path, has_generated);
        Ok(prune::prune(&mut parts, &of.context_reads, &always, on_disk).then_some(parts))
    }

    fn dependencies(
        &self,
        dependencies: &[DependencyFolder],
        ignore: &Dockerignore,
        has_generated: bool,
    ) -> io::Result<Vec<ContextPart>> {
        if has_generated {
            return self.dependency_parts(dependencies, ignore);
        }
        self.dependency_sources(dependencies, ignore)
    }

    /// Sets whether a Dockerfile reads its whole context because of its bases.
    pub fn set_reads_all(&self, of: &ContextSpec, reads_all: bool) {
        let mut state = self.state();
        let key = reads_key(of);
        let is_changed =
            if reads_all { state.reads_all.insert(key) } else { state.reads_all.remove(&key) };
        if is_changed {
            let is_other = |it: &ContextSpec| reads_key(it) != reads_key(of);
            state.contexts.retain(|it, _| is_other(it));
            state.version += 1;
        }
    }

    /// The input of a component's hooks, without anything that the hooks of its dependencies
    /// wrote.
    pub fn hook_context_without_generated(
        &self,
        dir: &str,
        dependencies: &[DependencyFolder],
    ) -> Result<Context, Problem> {
        let ignore = Dockerignore::default();
        let read = || self.for_hooks(dir, self.dependency_sources(dependencies, &ignore)?);
        read().map_err(|error| self.problem(&error))
    }

    fn dependency_sources(
        &self,
        dependencies: &[DependencyFolder],
        ignore: &Dockerignore,
    ) -> io::Result<Vec<ContextPart>> {
        let part = |DependencyFolder { name, dir, .. }: &DependencyFolder| {
            let tree = self.tree_for_dependents(dir)?;
            let mut part = ContextPart::dependency(name, dir.clone(), tree, ignore);
            part.leave_out(&self.filled_by_others(dir, dir));
            self.outputs(dir).exclude_from(&mut part)?;
            Ok(part)
        };
        dependencies.iter().map(part).collect()
    }

    /// The input of a component's hooks: its folder, without temporary folders and the outputs
    /// of its hooks, and its dependencies.
    pub fn hook_context(
        &self,
        dir: &str,
        dependencies: &[DependencyFolder],
    ) -> Result<Context, Problem> {
        let ignore = Dockerignore::default();
        let read = || self.for_hooks(dir, self.dependency_parts(dependencies, &ignore)?);
        read().map_err(|error| self.problem(&error))
    }

    /// A component's folder with its dependencies. Hooks run as the same user, so they cannot
    /// read what is unreadable here.
    fn for_hooks(&self, dir: &str, dependencies: Vec<ContextPart>) -> io::Result<Context> {
        let mut own = ContextPart::without(dir.to_owned(), self.whole(dir)?, &TEMPORARY);
        own.leave_out(&self.filled_by_others(dir, dir));
        self.outputs(dir).exclude_from(&mut own)?;
        for other in self.others(dir, dir) {
            let outputs = self.outputs(&join(dir, &other.to_string_lossy()));
            let in_other = |path: &Path| path.strip_prefix(&other).ok().map(Path::to_owned);
            own.exclude(
                |path| in_other(path).is_some_and(|path| outputs.contains(&path)),
                |path, value| in_other(path).is_some_and(|path| outputs.matches(&path, value)),
            )?;
        }
        let mut parts = vec![own];
        parts.extend(dependencies);
        parts.iter_mut().try_for_each(ContextPart::retain_readable)?;
        Context::read(parts)
    }

    /// The readable files of a component's folder, without temporary folders, and without other
    /// components in it whose hooks write as well.
    pub fn component_files(&self, dir: &str) -> Result<Context, Problem> {
        let read = || {
            let mut part = ContextPart::without(dir.to_owned(), self.whole(dir)?, &TEMPORARY);
            part.leave_out(&self.others(dir, dir));
            part.retain_readable()?;
            Context::read(vec![part])
        };
        read().map_err(|error| self.problem(&error))
    }

    /// The outputs of hooks in a component's folder.
    pub fn outputs(&self, dir: &str) -> HookOutputs {
        self.state().outputs.get(dir).cloned().unwrap_or_default()
    }

    /// Sets the outputs of hooks in a component's folder.
    pub fn set_outputs(&self, dir: &str, outputs: HookOutputs) {
        self.state().outputs.insert(dir.to_owned(), outputs);
    }

    /// Excludes outputs of hooks from the contexts of the component's own images.
    pub fn hide_outputs(&self, dir: &str, outputs: HookOutputs) {
        let mut state = self.state();
        state.contexts.retain(|of, _| of.dir != dir);
        state.version += 1;
        state.hidden.insert(dir.to_owned(), outputs);
    }

    /// The component's own folder in the context of its image.
    fn own_part(
        &self,
        of: &ContextSpec,
        tree: Arc<Tree>,
        ignore: &Dockerignore,
    ) -> io::Result<ContextPart> {
        let dockerfile = of.elsewhere.is_none().then_some(of.dockerfile.as_path());
        let mut part = ContextPart::own(of.dir.clone(), tree, ignore, dockerfile);
        part.leave_out(&self.filled_by_others(&of.dir, &self.owner(&of.dockerfile_path())));
        let hidden = self.state().hidden.get(&of.dir).cloned();
        hidden.map_or(Ok(()), |hidden| hidden.exclude_from(&mut part))?;
        Ok(part)
    }

    /// All files of a folder, relative to the root.
    pub fn folder(&self, dir: &str) -> Result<Context, Problem> {
        let read =
            || Context::read(vec![ContextPart::without(dir.to_owned(), self.whole(dir)?, &[])]);
        read().map_err(|error| self.problem(&error))
    }

    /// The readable files at these paths, relative to the root: the declared inputs of a
    /// component's hooks.
    pub fn inputs(
        &self,
        dir: &str,
        paths: impl IntoIterator<Item = PathBuf>,
    ) -> Result<Context, Problem> {
        let name = format!("{dir}{SEPARATOR}{INPUTS}");
        let read = || {
            let tree = |known: &[Remembered]| Tree::of_files(&self.root, paths, known);
            let tree = self.tree(TreeKey::whole(name), tree)?;
            let mut part = ContextPart::without(String::new(), tree, &[]);
            part.retain_readable()?;
            Context::read(vec![part])
        };
        read().map_err(|error| self.problem(&error))
    }

    /// The dependencies of a component, under `dependency/`.
    fn dependency_parts(
        &self,
        dependencies: &[DependencyFolder],
        ignore: &Dockerignore,
    ) -> io::Result<Vec<ContextPart>> {
        let mut parts = Vec::new();
        for DependencyFolder { name, dir, generated } in dependencies {
            let tree = self.tree_for_dependents(dir)?;
            let mut part = ContextPart::dependency(name, dir.clone(), Arc::clone(&tree), ignore);
            part.leave_out(&self.filled_by_others(dir, dir));
            parts.push(part);
            let tree = match generated {
                Some(cached) => self.whole(&cached.to_string_lossy())?,
                None => tree,
            };
            parts.push(ContextPart::generated(
                name,
                dir.clone(),
                tree,
                generated.is_some(),
                ignore,
            ));
        }
        Ok(parts)
    }

    /// The readable files to copy into `dependency/` for a component's hooks.
    ///
    /// # Errors
    /// An unreadable file would be sent for one of the component's `images`.
    pub fn dependency_copies(
        &self,
        dependencies: &[DependencyFolder],
        images: &[ContextSpec],
    ) -> io::Result<Vec<ContextPart>> {
        let mut parts = self.dependency_parts(dependencies, &Dockerignore::default())?;
        let mut ignores = Vec::new();
        for of in images {
            let ignore = self.ignore(of);
            ignores.push(ignore.map_err(|problem| io::Error::other(problem.to_string()))?.0);
        }
        for part in &mut parts {
            let before = part.clone();
            for entry in part.take_unreadable() {
                let path = before.path(entry);
                let is_sent = images.iter().zip(&ignores).any(|(of, ignore)| {
                    ignore.may_keep(&path.to_string_lossy()) && self.can_read(of, &path)
                });
                if is_sent {
                    return Err(with_path(&before.source_path(entry))(unreadable()));
                }
            }
        }
        Ok(parts)
    }

    /// Whether a path of a context can be read by its Dockerfile or its bases.
    fn can_read(&self, of: &ContextSpec, path: &Path) -> bool {
        let key = reads_key(of);
        of.context_reads.reach(path) != Reach::Unread || self.state().reads_all.contains(&key)
    }

    /// Warnings about the components that were read.
    pub fn warnings(&self) -> Vec<Problem> {
        let state = self.state();
        let is_own = |name: &str| name.starts_with(&format!("{SRC}/")) && !name.ends_with(FOLLOWED);
        let components = state.trees.iter().filter(|(key, _)| is_own(&key.name));
        let mut warnings: Vec<Problem> = components
            .flat_map(|(key, tree)| {
                let dir = key.name.split(SEPARATOR).next().unwrap_or_default();
                let is_file = |entry: &&Entry| entry.kind == Kind::File;
                let files = tree.entries().iter().filter(is_file);
                let named = files.filter(|entry| is_dockerfile(&entry.path));
                named.map(move |entry| format!("{dir}/{}", entry.path.display()))
            })
            .filter_map(|path| stray_dockerfile(&path))
            .collect();
        warnings.sort();
        warnings.dedup();
        warnings
    }

    /// Drops all trees and contexts, but keeps the digests of files.
    pub fn invalidate(&self) {
        let mut state = self.state();
        state.version += 1;
        state.contexts.clear();
        let trees = std::mem::take(&mut state.trees);
        for (key, tree) in trees {
            state.remember(key.name, &tree);
        }
    }

    /// Drops all trees and contexts, unless the caller reports changes.
    pub fn invalidate_unless_watched(&self) {
        if !self.is_watched {
            self.invalidate();
        }
    }

    /// Drops the trees and contexts that a changed path, relative to the root, may affect.
    pub fn invalidate_path(&self, path: &Path) {
        let mut state = self.state();
        state.version += 1;
        let is_touched = |dir: &str| path.starts_with(dir) || Path::new(dir).starts_with(path);
        let is_stale = |name: &str| match name.split_once(SEPARATOR) {
            Some((_, INPUTS | FOLLOWED)) => true,
            Some((dir, _)) => is_touched(dir),
            None => is_touched(name),
        };
        let CacheState { trees, contexts, .. } = &mut *state;
        contexts.retain(|of, _| {
            let is_affected = |dependency: &DependencyFolder| {
                let dir = &dependency.dir;
                is_touched(dir)
                    || trees.contains_key(&TreeKey::whole(format!("{dir}{SEPARATOR}{FOLLOWED}")))
            };
            let mut named = of.named.iter();
            !of.dependencies.iter().any(is_affected)
                && !is_touched(&of.dir)
                // The ignore file of a Dockerfile that is elsewhere is there, too.
                && !of.elsewhere.as_deref().is_some_and(is_touched)
                && !named.any(|(_, dir)| is_touched(dir))
        });
        let stale: Vec<TreeKey> =
            state.trees.keys().filter(|key| is_stale(&key.name)).cloned().collect();
        for key in stale {
            if let Some(tree) = state.trees.remove(&key) {
                state.remember(key.name, &tree);
            }
        }
    }

    /// The digests to save for later runs; `None` if they did not change. Drops all trees.
    pub fn memory_to_save(&self) -> Option<Memory> {
        self.invalidate();
        let state = self.state();
        let exists = |name: &&String| match name.split_once(SEPARATOR) {
            Some((dir, INPUTS | FOLLOWED)) => self.root.join(dir).exists(),
            Some((_, file)) => {
                let file = file.split_once(SEPARATOR).map_or(file, |(file, _)| file);
                self.root.join(file).exists()
            }
            None => self.root.join(name).exists(),
        };
        state.is_dirty.then(|| {
            let existing = state.memory.iter().filter(|(name, _)| exists(name));
            existing.map(|(name, known)| (name.clone(), known.to_vec())).collect()
        })
    }

    /// A component's folder for one of its Dockerfiles. Ignored files are not walked.
    fn own(
        &self,
        of: &ContextSpec,
        ignore: &Dockerignore,
        ignore_file: Option<&Path>,
    ) -> io::Result<Arc<Tree>> {
        let Some(file) = ignore_file else { return self.whole(&of.dir) };
        self.partial(of, file, ContextReads::All, ignore, |path| {
            let is_build_file = path.starts_with(BUILD) || of.dockerfile.starts_with(path);
            Wanted::itself_if(is_build_file || ignore.may_keep(&path.to_string_lossy()))
        })
    }

    /// Like [`Self::own`], but files that the Dockerfile cannot read are not walked either.
    fn readable(
        &self,
        of: &ContextSpec,
        ignore: &Dockerignore,
        always: &[PathBuf],
    ) -> io::Result<Arc<Tree>> {
        self.partial(of, &of.dockerfile_path(), of.context_reads.clone(), ignore, |path| {
            let is_parent = |always: &PathBuf| always.starts_with(path);
            if always.iter().any(is_parent) || is_dockerfile(path) {
                return Wanted::Itself;
            }
            let is_kept = || ignore.may_keep(&path.to_string_lossy());
            match of.context_reads.reach(path) {
                Reach::Read if ignore.is_empty() => Wanted::All,
                Reach::Read | Reach::Parent => Wanted::itself_if(is_kept()),
                Reach::Unread => Wanted::Nothing,
            }
        })
    }

    /// The part of a context's folder that is `wanted`, or all of it, if that is cached. What is
    /// wanted depends on the Dockerfile, what it `reads`, and the ignore rules. The digests are
    /// saved under the name of the `file`, relative to the root, that says most of it, with the
    /// image if others share that file.
    fn partial(
        &self,
        of: &ContextSpec,
        file: &Path,
        reads: ContextReads,
        ignore: &Dockerignore,
        wanted: impl Fn(&Path) -> Wanted,
    ) -> io::Result<Arc<Tree>> {
        let dir = &of.dir;
        if let Some(whole) = self.state().trees.get(&TreeKey::whole(dir)) {
            return Ok(Arc::clone(whole));
        }
        let mut name = format!("{dir}{SEPARATOR}{}", file.display());
        if let Some(variant) = &of.variant {
            name.push_str(&format!("{SEPARATOR}{variant}"));
        }
        let filter = Filter { reads, dockerfile: of.dockerfile.clone(), ignore: ignore.clone() };
        let key = TreeKey { name, filter: Some(filter) };
        self.tree(key, |known| self.walk(dir, wanted, known))
    }

    fn whole(&self, dir: &str) -> io::Result<Arc<Tree>> {
        self.tree(TreeKey::whole(dir), |known| self.walk(dir, |_| Wanted::All, known))
    }

    fn walk(
        &self,
        dir: &str,
        wanted: impl Fn(&Path) -> Wanted,
        known: &[Remembered],
    ) -> io::Result<Tree> {
        let folder = self.root.join(dir);
        let state = Path::new(STATE).strip_prefix(dir).ok();
        let has_temporary = !self.without_temporary.contains(dir);
        if state.is_none() && has_temporary {
            return Tree::read_filtered(&folder, wanted, known);
        }
        let is_temporary = |path: &Path| TEMPORARY.iter().any(|name| path.starts_with(name));
        let is_left_out = |path: &Path| {
            (!has_temporary && is_temporary(path)) || state.is_some_and(|it| path.starts_with(it))
        };
        // What holds for a folder holds for all in it, so the folders above the state are looked
        // at one by one.
        let may_hold = |path: &Path| state.is_some_and(|state| state.starts_with(path));
        let wanted = |path: &Path| match wanted(path) {
            _ if is_left_out(path) => Wanted::Nothing,
            Wanted::All if may_hold(path) => Wanted::Itself,
            other => other,
        };
        Tree::read_filtered(&folder, wanted, known)
    }

    /// A component's folder for its dependents, with links that leave it followed.
    fn tree_for_dependents(&self, dir: &str) -> io::Result<Arc<Tree>> {
        let whole = self.whole(dir)?;
        if !whole.has_links_out() {
            return Ok(whole);
        }
        let folder = self.root.join(dir);
        let name = format!("{dir}{SEPARATOR}{FOLLOWED}");
        let read = |known: &[_]| Tree::read_following_links(&folder, |_| Wanted::All, known);
        self.tree(TreeKey::whole(name), read)
    }

    /// The targets of links that leave a component's folder, relative to the root. Targets
    /// outside of the workspace are omitted.
    pub fn link_targets(&self, dir: &str) -> Vec<PathBuf> {
        let Ok(root) = self.root.canonicalize() else { return Vec::new() };
        let tree = self.tree_for_dependents(dir);
        let targets = tree.iter().flat_map(|tree| tree.link_targets());
        targets.filter_map(|target| Some(target.strip_prefix(&root).ok()?.to_owned())).collect()
    }

    fn tree(
        &self,
        key: TreeKey,
        read: impl FnOnce(&[Remembered]) -> io::Result<Tree>,
    ) -> io::Result<Arc<Tree>> {
        let (version, known) = {
            let state = self.state();
            if let Some(tree) = state.trees.get(&key) {
                return Ok(Arc::clone(tree));
            }
            (state.version, state.memory.get(&key.name).cloned().unwrap_or_default())
        };
        let tree = Arc::new(read(&known)?);
        let mut state = self.state();
        if state.version != version {
            return Ok(tree);
        }
        Ok(Arc::clone(state.trees.entry(key).or_insert(tree)))
    }

    /// The ignore rules for a Dockerfile, and the path of their file, relative to the root.
    pub fn ignore(&self, of: &ContextSpec) -> Result<(Dockerignore, Option<PathBuf>), Problem> {
        of.ignore_rules(&self.root)
    }

    /// Converts an error of a tree, which begins with the absolute path of the file.
    fn problem(&self, error: &io::Error) -> Problem {
        let text = error.to_string();
        let root = format!("{}/", self.root.display());
        Problem::of_request(text.strip_prefix(&root).unwrap_or(&text))
    }

    fn state(&self) -> MutexGuard<'_, CacheState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which context of which Dockerfile, for which image, if several share that.
type ReadsKey = (String, PathBuf, Option<String>);

fn reads_key(of: &ContextSpec) -> ReadsKey {
    (of.dir.clone(), of.dockerfile_path(), of.variant.clone())
}

fn is_dockerfile(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b".dockerfile")
}

impl CacheState {
    fn remember(&mut self, name: String, tree: &Tree) {
        let saved = self.memory.get(&name).map_or(0, |known| known.len());
        if tree.is_dirty(saved) {
            self.is_dirty = true;
            self.memory.insert(name, Arc::new(tree.remember()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::dockerfile::parser;

    /// A component `a` with links to various targets, and its dependency `b`.
    fn workspace(dockerfile: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in ["src/a/x", "src/a/d/y", "src/a/d/e/z", "src/a/f/g", "src/b/h", "src/b/i/j"] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        for (link, target) in [("d/in", "y"), ("f/out", "../d/e"), ("f/far", "/dependency/b/h")] {
            symlink(target, dir.path().join("src/a").join(link)).unwrap();
        }
        fs::write(dir.path().join("src/a/Dockerfile"), dockerfile).unwrap();
        dir
    }

    fn spec(dockerfile: &str) -> ContextSpec {
        let parsed = parser::parse(dockerfile.as_bytes(), &BTreeMap::new(), None).unwrap();
        ContextSpec {
            elsewhere: None,
            variant: None,
            dir: "src/a".into(),
            dockerfile: "Dockerfile".into(),
            context_reads: parsed.context_reads,
            dockerfile_digest: blake3::hash(dockerfile.as_bytes()),
            named: Vec::new(),
            dependencies: vec![DependencyFolder {
                name: "b".into(),
                dir: "src/b".into(),
                generated: None,
            }],
        }
    }

    fn paths(context: &Context) -> Vec<String> {
        context.items().map(|item| item.path().display().to_string()).collect()
    }

    #[test]
    fn the_context_does_not_depend_on_what_was_walked() {
        let cases = [
            ("x", 2),
            ("d", 6),
            ("d/e/", 3),
            ("d/*/z", 15),
            ("f", 15),
            ("f d", 15),
            ("f d dependency/b/h", 11),
            ("f/g dependency/b/i", 4),
            (".", 15),
        ];
        for (sources, count) in cases {
            let text = format!("FROM scratch\nCOPY {sources} /\n");
            let (dir, of) = (workspace(&text), spec(&text));
            let partial = TreeCache::new(dir.path(), Memory::new());
            let pruned = partial.context(&of).unwrap();
            let whole = TreeCache::new(dir.path(), Memory::new());
            whole.folder("src/a").unwrap();
            whole.folder("src/b").unwrap();
            let expected = whole.context(&of).unwrap();
            assert_eq!(paths(&pruned), paths(&expected), "{sources}");
            assert_eq!(pruned.digest(), expected.digest(), "{sources}");
            assert_eq!(paths(&pruned).len(), count, "{sources}: {:?}", paths(&pruned));
        }
    }

    #[test]
    fn what_was_read_while_a_change_was_reported_is_not_cached() {
        let dir = workspace("FROM scratch\n");
        let trees = TreeCache::new(dir.path(), Memory::new()).watched();
        let new = || PathBuf::from("src/a/new");
        let read_while_it_appears = [new()].into_iter().chain(std::iter::once_with(|| {
            fs::write(dir.path().join(new()), "").unwrap();
            trees.invalidate_path(&new());
            PathBuf::from("src/a/x")
        }));
        let before = trees.inputs("src/a", read_while_it_appears).unwrap();
        assert_eq!(paths(&before), ["src/a/x"]);
        let after = trees.inputs("src/a", [new(), "src/a/x".into()]).unwrap();
        assert_eq!(paths(&after), ["src/a/new", "src/a/x"]);
    }

    #[test]
    fn folders_that_no_instruction_reads_are_not_walked() {
        let text = "FROM scratch\nCOPY d/e /\n";
        let dir = workspace(text);
        let trees = TreeCache::new(dir.path(), Memory::new());
        trees.context(&spec(text)).unwrap();
        let state = trees.state();
        let walked = state.trees.values().next().unwrap().entries().iter();
        let walked: Vec<String> = walked.map(|entry| entry.path.display().to_string()).collect();
        assert_eq!(walked, ["", "Dockerfile", "d", "d/e", "d/e/z"]);
        assert_eq!(state.trees.len(), 1);
    }
}
