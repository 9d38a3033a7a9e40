//! The trees of a workspace's components, each walked and read once.
//!
//! What one component is made from is partly another's folder, so trees are shared. Of a
//! folder of which a Dockerfile can read only some, only that is walked.
//! A component's folder is another tree for its dependents if links lead out of it.
//! They hold until something may have written into them: whoever runs a hook calls
//! [`TreeCache::forget`], whoever spends time on a build [`TreeCache::time_passed`], and the
//! next look walks again, with all the digests that are still good. Where somebody
//! watches the file system, time alone changes nothing: [`TreeCache::changed`] does.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::context::build_context::{Context, ContextPart, ignore_files};
use crate::context::dockerignore::Dockerignore;
use crate::context::hook_outputs::HookOutputs;
use crate::context::prune;
use crate::context::spec::{ContextSpec, DependencyFolder};
use crate::context::tree::{Entry, Kind, Remembered, Tree, Wanted, unreadable};
use crate::dockerfile::context_reads::{ContextReads, Reach};
use crate::paths::TEMPORARY;
use crate::problem::Problem;
use crate::regular_file;
use crate::regular_file::naming;
use crate::workspace::components::stray_dockerfile;

/// Ends the name of a list of files.
const INPUTS: &str = "inputs";

/// Ends the name of a folder whose links are followed where they leave it.
const FOLLOWED: &str = "followed";

/// The digests that were right when they were kept, by the tree's name.
pub type Memory = BTreeMap<String, Vec<Remembered>>;

/// All trees that were looked at.
#[derive(Debug)]
pub struct TreeCache {
    root: PathBuf,
    is_watched: bool,
    /// The components' folders whose temporary folders are not looked at.
    without_temporary: BTreeSet<String>,
    state: Mutex<CacheState>,
}

#[derive(Debug)]
struct CacheState {
    trees: HashMap<String, Arc<Tree>>,
    contexts: HashMap<ContextSpec, Context>,
    /// The folders and Dockerfiles whose bases read more than the Dockerfiles say.
    whole: HashSet<(String, PathBuf)>,
    /// What hooks left in components, by folder.
    outputs: HashMap<String, HookOutputs>,
    /// What of it is put aside before images are made, where nothing is.
    hidden: HashMap<String, HookOutputs>,
    memory: HashMap<String, Arc<Vec<Remembered>>>,
    has_news: bool,
}

impl TreeCache {
    /// None yet, with the digests of earlier days.
    pub fn new(root: &Path, memory: Memory) -> Self {
        let memory = memory.into_iter().map(|(name, known)| (name, Arc::new(known))).collect();
        let state = CacheState {
            trees: HashMap::new(),
            contexts: HashMap::new(),
            whole: HashSet::new(),
            outputs: HashMap::new(),
            hidden: HashMap::new(),
            memory,
            has_news: false,
        };
        Self {
            root: root.to_owned(),
            is_watched: false,
            without_temporary: BTreeSet::new(),
            state: Mutex::new(state),
        }
    }

    /// The same, as if the temporary folders of these components' folders were not there.
    pub fn without_temporary(self, without_temporary: BTreeSet<String>) -> Self {
        Self { without_temporary, ..self }
    }

    /// The same, for one who tells of every change.
    pub fn watched(self) -> Self {
        Self { is_watched: true, ..self }
    }

    /// Whether somebody tells of every change.
    pub fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// What the engine receives for a Dockerfile, if it was looked at before.
    pub fn known_context(&self, of: &ContextSpec) -> Option<Context> {
        self.state().contexts.get(of).cloned()
    }

    /// What the engine receives for a Dockerfile.
    pub fn context(&self, of: &ContextSpec) -> Result<Context, Problem> {
        let context = self.read(of, true)?;
        self.state().contexts.insert(of.clone(), context.clone());
        Ok(context)
    }

    /// What the engine would receive if no hook ran.
    pub fn at_rest(&self, of: &ContextSpec) -> Result<Context, Problem> {
        self.read(of, false)
    }

    fn read(&self, of: &ContextSpec, has_generated: bool) -> Result<Context, Problem> {
        let (ignore, ignore_file) = self.ignore(of)?;
        let read = || {
            if let Some(parts) = self.lean(of, &ignore, has_generated)? {
                return Context::read(parts);
            }
            let own = self.own(of, &ignore, ignore_file.as_deref())?;
            let mut parts = vec![self.own_part(of, own, &ignore)?];
            parts.extend(self.others(&of.needed, &ignore, has_generated)?);
            Context::read(parts)
        };
        read().map_err(|error| self.problem(&error))
    }

    /// What a Dockerfile can read, if that is certain. Nothing else is walked.
    fn lean(
        &self,
        of: &ContextSpec,
        ignore: &Dockerignore,
        has_generated: bool,
    ) -> io::Result<Option<Vec<ContextPart>>> {
        let key = (of.dir.clone(), of.dockerfile.clone());
        if of.sources == ContextReads::All || self.state().whole.contains(&key) {
            return Ok(None);
        }
        let [first, second] = ignore_files(&of.dockerfile);
        let always = [of.dockerfile.clone(), first, second];
        let own = self.readable(of, ignore, &always)?;
        let mut parts = vec![self.own_part(of, own, ignore)?];
        // A hook may have written another Dockerfile than the one that was read.
        if parts[0].digest(&of.dockerfile)? != Some(of.written) {
            return Ok(None);
        }
        let is_read = |needed: &&DependencyFolder| of.sources.reach(&needed.at()) != Reach::Out;
        let needed: Vec<DependencyFolder> = of.needed.iter().filter(is_read).cloned().collect();
        parts.extend(self.others(&needed, ignore, has_generated)?);
        let on_disk = |path: &Path| of.on_disk(&self.root, path, has_generated);
        Ok(prune::reduce(&mut parts, &of.sources, &always, on_disk).then_some(parts))
    }

    fn others(
        &self,
        needed: &[DependencyFolder],
        ignore: &Dockerignore,
        has_generated: bool,
    ) -> io::Result<Vec<ContextPart>> {
        if has_generated {
            return self.needed(needed, ignore);
        }
        self.dependencies(needed.iter().map(|needed| needed.name.as_str()), ignore)
    }

    /// Notes whether the bases of a Dockerfile can make its build read everything.
    pub fn set_whole(&self, of: &ContextSpec, is_whole: bool) {
        let mut state = self.state();
        let key = (of.dir.clone(), of.dockerfile.clone());
        let is_new = if is_whole { state.whole.insert(key) } else { state.whole.remove(&key) };
        if is_new {
            let is_other = |it: &ContextSpec| it.dir != of.dir || it.dockerfile != of.dockerfile;
            state.contexts.retain(|it, _| is_other(it));
        }
    }

    /// What hooks would find if no other hook ran.
    pub fn source_at_rest(&self, dir: &str, needed: &[String]) -> Result<Context, Problem> {
        let read = || {
            let names = needed.iter().map(String::as_str);
            self.for_hooks(dir, self.dependencies(names, &Dockerignore::default())?)
        };
        read().map_err(|error| self.problem(&error))
    }

    fn dependencies<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
        ignore: &Dockerignore,
    ) -> io::Result<Vec<ContextPart>> {
        let part = |name: &str| {
            let dir = format!("src/{name}");
            let tree = self.followed(&dir)?;
            let mut part = ContextPart::dependency(name, dir.clone(), tree, ignore);
            part.leave_out(&self.outputs(&dir))?;
            Ok(part)
        };
        names.map(part).collect()
    }

    /// What hooks are given: the component's folder without what is there during a round
    /// only and what hooks left there, and what it needs.
    pub fn source(&self, dir: &str, needed: &[DependencyFolder]) -> Result<Context, Problem> {
        let read = || self.for_hooks(dir, self.needed(needed, &Dockerignore::default())?);
        read().map_err(|error| self.problem(&error))
    }

    /// A component's folder with what it needs. What this user may not read, its hooks
    /// cannot read either.
    fn for_hooks(&self, dir: &str, needed: Vec<ContextPart>) -> io::Result<Context> {
        let mut own = ContextPart::without(dir.to_owned(), self.whole(dir)?, &TEMPORARY);
        own.leave_out(&self.outputs(dir))?;
        let mut parts = vec![own];
        parts.extend(needed);
        parts.iter_mut().try_for_each(ContextPart::retain_readable)?;
        Context::read(parts)
    }

    /// A component's folder without what is there during a round only, as far as this user
    /// may read it.
    pub fn component(&self, dir: &str) -> Result<Context, Problem> {
        let read = || {
            let mut part = ContextPart::without(dir.to_owned(), self.whole(dir)?, &TEMPORARY);
            part.retain_readable()?;
            Context::read(vec![part])
        };
        read().map_err(|error| self.problem(&error))
    }

    /// What hooks left in a component's folder.
    pub fn outputs(&self, dir: &str) -> HookOutputs {
        self.state().outputs.get(dir).cloned().unwrap_or_default()
    }

    /// Notes what hooks left in a component's folder.
    pub fn set_outputs(&self, dir: &str, outputs: HookOutputs) {
        self.state().outputs.insert(dir.to_owned(), outputs);
    }

    /// Leaves these out of the contexts of a component's own images.
    pub fn hide(&self, dir: &str, outputs: HookOutputs) {
        let mut state = self.state();
        state.contexts.retain(|of, _| of.dir != dir);
        state.hidden.insert(dir.to_owned(), outputs);
    }

    /// What Dockerfiles get of their own component's folder.
    fn own_part(
        &self,
        of: &ContextSpec,
        tree: Arc<Tree>,
        ignore: &Dockerignore,
    ) -> io::Result<ContextPart> {
        let mut part = ContextPart::own(of.dir.clone(), tree, ignore, &of.dockerfile);
        let hidden = self.state().hidden.get(&of.dir).cloned();
        hidden.map_or(Ok(()), |hidden| part.leave_out(&hidden))?;
        Ok(part)
    }

    /// All of a folder, relative to the root.
    pub fn folder(&self, dir: &str) -> Result<Context, Problem> {
        let read =
            || Context::read(vec![ContextPart::without(dir.to_owned(), self.whole(dir)?, &[])]);
        read().map_err(|error| self.problem(&error))
    }

    /// The files of these paths, relative to the root, that the hooks of a component
    /// are declared to read.
    pub fn inputs(
        &self,
        dir: &str,
        paths: impl IntoIterator<Item = PathBuf>,
    ) -> Result<Context, Problem> {
        let name = format!("{dir}#{INPUTS}");
        let tree = |known: &[Remembered]| Tree::of_files(&self.root, paths, known);
        let read = || {
            let mut part = ContextPart::without(String::new(), self.tree(&name, tree)?, &[]);
            part.retain_readable()?;
            Context::read(vec![part])
        };
        read().map_err(|error| self.problem(&error))
    }

    /// What a component gets under `dependency/`.
    pub fn needed(
        &self,
        needed: &[DependencyFolder],
        ignore: &Dockerignore,
    ) -> io::Result<Vec<ContextPart>> {
        let mut parts = Vec::new();
        for DependencyFolder { name, generated } in needed {
            let dir = format!("src/{name}");
            let tree = self.followed(&dir)?;
            parts.push(ContextPart::dependency(name, dir.clone(), Arc::clone(&tree), ignore));
            let tree = match generated {
                Some(kept) => self.whole(&kept.to_string_lossy())?,
                None => tree,
            };
            parts.push(ContextPart::generated(name, dir, tree, generated.is_some(), ignore));
        }
        Ok(parts)
    }

    /// What hooks get under `dependency/`: all that this user may read. The rest must be
    /// nothing that the `images` of their component are sent.
    pub fn copied(
        &self,
        needed: &[DependencyFolder],
        images: &[ContextSpec],
    ) -> io::Result<Vec<ContextPart>> {
        let mut parts = self.needed(needed, &Dockerignore::default())?;
        let mut ignores = Vec::new();
        for of in images {
            let ignored = self.ignore(of);
            ignores.push(ignored.map_err(|problem| io::Error::other(problem.to_string()))?.0);
        }
        for part in &mut parts {
            let copy = part.clone();
            for entry in part.take_unreadable() {
                let path = copy.path(entry);
                let is_sent = images.iter().zip(&ignores).any(|(of, ignore)| {
                    ignore.may_keep(&path.to_string_lossy()) && self.can_read(of, &path)
                });
                if is_sent {
                    return Err(naming(&copy.source(entry))(unreadable()));
                }
            }
        }
        Ok(parts)
    }

    /// Whether a path of a context can be read by its Dockerfile or by its bases.
    fn can_read(&self, of: &ContextSpec, path: &Path) -> bool {
        let key = (of.dir.clone(), of.dockerfile.clone());
        of.sources.reach(path) != Reach::Out || self.state().whole.contains(&key)
    }

    /// What is odd about the components that were looked at.
    pub fn warnings(&self) -> Vec<Problem> {
        let state = self.state();
        let is_own = |name: &str| name.starts_with("src/") && !name.ends_with(FOLLOWED);
        let components = state.trees.iter().filter(|(name, _)| is_own(name));
        let mut warnings: Vec<Problem> = components
            .flat_map(|(name, tree)| {
                let dir = name.split('#').next().unwrap_or_default();
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

    /// Forgets the trees, not the digests.
    pub fn forget(&self) {
        let mut state = self.state();
        state.contexts.clear();
        let trees = std::mem::take(&mut state.trees);
        for (name, tree) in trees {
            state.remember(name, &tree);
        }
    }

    /// Forgets what may have changed meanwhile.
    pub fn time_passed(&self) {
        if !self.is_watched {
            self.forget();
        }
    }

    /// Forgets what a change of a path, relative to the root, may be a change of.
    pub fn changed(&self, path: &Path) {
        let mut state = self.state();
        let is_touched = |dir: &str| path.starts_with(dir) || Path::new(dir).starts_with(path);
        let is_stale = |name: &str| match name.split_once('#') {
            Some((_, INPUTS | FOLLOWED)) => true,
            Some((dir, _)) => is_touched(dir),
            None => is_touched(name),
        };
        let CacheState { trees, contexts, .. } = &mut *state;
        contexts.retain(|of, _| {
            let is_other = |needed: &DependencyFolder| {
                let dir = format!("src/{}", needed.name);
                is_touched(&dir) || trees.contains_key(&format!("{dir}#{FOLLOWED}"))
            };
            !of.needed.iter().any(is_other) && !is_touched(&of.dir)
        });
        let stale: Vec<String> =
            state.trees.keys().filter(|name| is_stale(name)).cloned().collect();
        for name in stale {
            if let Some(tree) = state.trees.remove(&name) {
                state.remember(name, &tree);
            }
        }
    }

    /// The digests to keep for another day, if there are new ones.
    pub fn memory(&self) -> Option<Memory> {
        self.forget();
        let state = self.state();
        let is_there = |name: &&String| match name.split_once('#') {
            Some((dir, INPUTS | FOLLOWED)) => self.root.join(dir).exists(),
            Some((dir, by)) => self.root.join(dir).join(by).exists(),
            None => self.root.join(name).exists(),
        };
        state.has_news.then(|| {
            let lasting = state.memory.iter().filter(|(name, _)| is_there(name));
            lasting.map(|(name, known)| (name.clone(), known.to_vec())).collect()
        })
    }

    /// A component's folder for one of its Dockerfiles; what is ignored is not
    /// walked.
    fn own(
        &self,
        of: &ContextSpec,
        ignore: &Dockerignore,
        ignore_file: Option<&Path>,
    ) -> io::Result<Arc<Tree>> {
        let Some(file) = ignore_file else { return self.whole(&of.dir) };
        self.some(&of.dir, file, |path| {
            let is_built_from = path.starts_with("build") || of.dockerfile.starts_with(path);
            Wanted::itself_if(is_built_from || ignore.may_keep(&path.to_string_lossy()))
        })
    }

    /// The same; what cannot be read is not walked either.
    fn readable(
        &self,
        of: &ContextSpec,
        ignore: &Dockerignore,
        always: &[PathBuf],
    ) -> io::Result<Arc<Tree>> {
        self.some(&of.dir, &of.dockerfile, |path| {
            let is_above = |always: &PathBuf| always.starts_with(path);
            if always.iter().any(is_above) || is_dockerfile(path) {
                return Wanted::Itself;
            }
            let is_kept = || ignore.may_keep(&path.to_string_lossy());
            match of.sources.reach(path) {
                Reach::Read if ignore.is_empty() => Wanted::All,
                Reach::Read | Reach::Above => Wanted::itself_if(is_kept()),
                Reach::Out => Wanted::Nothing,
            }
        })
    }

    /// What is `wanted` of a folder, or all of it, if that is known; `by` tells who wants
    /// it, relative to the folder.
    fn some(
        &self,
        dir: &str,
        by: &Path,
        wanted: impl Fn(&Path) -> Wanted,
    ) -> io::Result<Arc<Tree>> {
        if let Some(whole) = self.state().trees.get(dir) {
            return Ok(Arc::clone(whole));
        }
        let name = format!("{dir}#{}", by.display());
        self.tree(&name, |known| self.walk(dir, wanted, known))
    }

    fn whole(&self, dir: &str) -> io::Result<Arc<Tree>> {
        self.tree(dir, |known| self.walk(dir, |_| Wanted::All, known))
    }

    fn walk(
        &self,
        dir: &str,
        wanted: impl Fn(&Path) -> Wanted,
        known: &[Remembered],
    ) -> io::Result<Tree> {
        let folder = self.root.join(dir);
        if !self.without_temporary.contains(dir) {
            return Tree::read_some(&folder, wanted, known);
        }
        let is_temporary = |path: &Path| TEMPORARY.iter().any(|name| path.starts_with(name));
        let wanted = |path: &Path| if is_temporary(path) { Wanted::Nothing } else { wanted(path) };
        Tree::read_some(&folder, wanted, known)
    }

    /// A component's folder as another one gets it.
    fn followed(&self, dir: &str) -> io::Result<Arc<Tree>> {
        let whole = self.whole(dir)?;
        if !whole.has_links_out() {
            return Ok(whole);
        }
        let folder = self.root.join(dir);
        let name = format!("{dir}#{FOLLOWED}");
        self.tree(&name, |known| Tree::followed(&folder, |_| Wanted::All, known))
    }

    /// Where links that leave a component's folder lead, relative to the root, as far as
    /// that is below it.
    pub fn targets(&self, dir: &str) -> Vec<PathBuf> {
        let Ok(root) = self.root.canonicalize() else { return Vec::new() };
        let tree = self.followed(dir);
        let targets = tree.iter().flat_map(|tree| tree.targets());
        targets.filter_map(|target| Some(target.strip_prefix(&root).ok()?.to_owned())).collect()
    }

    fn tree(
        &self,
        name: &str,
        read: impl FnOnce(&[Remembered]) -> io::Result<Tree>,
    ) -> io::Result<Arc<Tree>> {
        let known = {
            let state = self.state();
            if let Some(tree) = state.trees.get(name) {
                return Ok(Arc::clone(tree));
            }
            state.memory.get(name).cloned().unwrap_or_default()
        };
        let tree = Arc::new(read(&known)?);
        Ok(Arc::clone(self.state().trees.entry(name.to_owned()).or_insert(tree)))
    }

    /// The ignore rules for a Dockerfile, and the file that says them.
    pub fn ignore(&self, of: &ContextSpec) -> Result<(Dockerignore, Option<PathBuf>), Problem> {
        for file in ignore_files(&of.dockerfile) {
            let shown = format!("{}/{}", of.dir, file.display());
            let path = self.root.join(&shown);
            match regular_file::read_to_string(&path) {
                Ok(text) => {
                    let ignore = Dockerignore::parse(&text)
                        .map_err(|error| Problem::of_line(&shown, error.line, error.to_string()))?;
                    return Ok((ignore, Some(file)));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(Problem::of_file(shown, regular_file::explain(&path, &error)));
                }
            }
        }
        Ok((Dockerignore::default(), None))
    }

    /// Errors of trees begin with the path.
    fn problem(&self, error: &io::Error) -> Problem {
        let text = error.to_string();
        let root = format!("{}/", self.root.display());
        Problem::of_request(text.strip_prefix(&root).unwrap_or(&text))
    }

    fn state(&self) -> MutexGuard<'_, CacheState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_dockerfile(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b".dockerfile")
}

impl CacheState {
    fn remember(&mut self, name: String, tree: &Tree) {
        let before = self.memory.get(&name).map_or(0, |known| known.len());
        if tree.has_news(before) {
            self.has_news = true;
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

    /// A component `a` that needs `b`, with a Dockerfile and links that lead anywhere.
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

    fn selection(dockerfile: &str) -> ContextSpec {
        let parsed = parse_dockerfile::parse(dockerfile).unwrap();
        ContextSpec {
            dir: "src/a".into(),
            dockerfile: "Dockerfile".into(),
            sources: ContextReads::of(&parsed, dockerfile, &BTreeMap::new()),
            written: blake3::hash(dockerfile.as_bytes()),
            needed: vec![DependencyFolder { name: "b".into(), generated: None }],
        }
    }

    fn paths(context: &Context) -> Vec<String> {
        context.items().map(|item| item.path().display().to_string()).collect()
    }

    #[test]
    fn what_can_be_read_is_the_same_whether_the_rest_was_walked_or_not() {
        let cases = [
            ("x", 2),
            ("d", 6),
            ("d/e/", 4),
            ("d/*/z", 15),
            ("f", 15),
            ("f d", 15),
            ("f d dependency/b/h", 12),
            ("f/g dependency/b/i", 6),
            (".", 15),
        ];
        for (sources, count) in cases {
            let text = format!("FROM scratch\nCOPY {sources} /\n");
            let (dir, of) = (workspace(&text), selection(&text));
            let fresh = TreeCache::new(dir.path(), Memory::new());
            let some = fresh.context(&of).unwrap();
            let walked = TreeCache::new(dir.path(), Memory::new());
            walked.folder("src/a").unwrap();
            walked.folder("src/b").unwrap();
            let all = walked.context(&of).unwrap();
            assert_eq!(paths(&some), paths(&all), "{sources}");
            assert_eq!(some.digest(), all.digest(), "{sources}");
            assert_eq!(paths(&some).len(), count, "{sources}: {:?}", paths(&some));
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_walked() {
        let text = "FROM scratch\nCOPY d/e /\n";
        let dir = workspace(text);
        let trees = TreeCache::new(dir.path(), Memory::new());
        trees.context(&selection(text)).unwrap();
        let state = trees.state();
        let walked = state.trees["src/a#Dockerfile"].entries().iter();
        let walked: Vec<String> = walked.map(|entry| entry.path.display().to_string()).collect();
        assert_eq!(walked, ["", "Dockerfile", "d", "d/e", "d/e/z"]);
        assert_eq!(state.trees.len(), 1);
    }
}
