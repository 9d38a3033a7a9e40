//! The trees of a workspace's components, each walked and read once.
//!
//! What one component is made from is partly another's folder, so trees are shared.
//! They hold until something may have written into them: whoever runs a hook calls
//! [`Trees::forget`], whoever spends time on a build [`Trees::time_passed`], and the
//! next look walks again, with all the digests that are still good. Where somebody
//! watches the file system, time alone changes nothing: [`Trees::changed`] does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::context::{Context, Part, ignore_files};
use super::ignore::Ignore;
use super::lean;
use super::problem::Problem;
use super::sources::Sources;
use super::tree::{Digest, Kind, Remembered, Tree};
use super::workspace::{Component, Image, TEMPORARY, stray_dockerfile};

/// Ends the name of a list of files.
const INPUTS: &str = "inputs";

/// The digests that were right when they were kept, by the tree's name.
pub type Memory = BTreeMap<String, Vec<Remembered>>;

/// A component that another one gets under `dependency/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Needed {
    /// Its name.
    pub name: String,
    /// Where its `generated/` is kept, if that is not in its folder.
    pub generated: Option<PathBuf>,
}

/// What a context is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selection {
    /// The component's folder, relative to the root.
    pub dir: String,
    /// The Dockerfile, relative to that folder.
    pub dockerfile: PathBuf,
    /// What it can read.
    pub sources: Sources,
    /// Of the Dockerfile that says so.
    pub written: Digest,
    /// What is streamed under `dependency/`.
    pub needed: Vec<Needed>,
}

impl Selection {
    /// A component's own folder, for one of its images.
    pub fn own(component: &Component, image: &Image) -> Self {
        let dockerfile = PathBuf::from(component.in_context(image));
        Self {
            dir: component.dir(),
            dockerfile,
            sources: image.sources.clone(),
            written: image.digest,
            needed: Vec::new(),
        }
    }
}

/// All trees that were looked at.
#[derive(Debug)]
pub struct Trees {
    root: PathBuf,
    is_watched: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    trees: HashMap<String, Arc<Tree>>,
    contexts: HashMap<Selection, Context>,
    /// The folders and Dockerfiles whose bases read more than the Dockerfiles say.
    whole: HashSet<(String, PathBuf)>,
    memory: HashMap<String, Arc<Vec<Remembered>>>,
    has_news: bool,
}

impl Trees {
    /// None yet, with the digests of earlier days.
    pub fn new(root: &Path, memory: Memory) -> Self {
        let memory = memory.into_iter().map(|(name, known)| (name, Arc::new(known))).collect();
        let state = State {
            trees: HashMap::new(),
            contexts: HashMap::new(),
            whole: HashSet::new(),
            memory,
            has_news: false,
        };
        Self { root: root.to_owned(), is_watched: false, state: Mutex::new(state) }
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
    pub fn known_context(&self, of: &Selection) -> Option<Context> {
        self.state().contexts.get(of).cloned()
    }

    /// What the engine receives for a Dockerfile.
    pub fn context(&self, of: &Selection) -> Result<Context, Problem> {
        let context = self.read_context(of)?;
        self.state().contexts.insert(of.clone(), context.clone());
        Ok(context)
    }

    fn read_context(&self, of: &Selection) -> Result<Context, Problem> {
        let (ignore, ignore_file) = self.ignore(of)?;
        let read = || {
            let own = self.own(of, &ignore, ignore_file.as_deref())?;
            let mut parts = vec![Part::own(of.dir.clone(), own, &ignore, &of.dockerfile)];
            parts.extend(self.needed(&of.needed, &ignore)?);
            self.reduce(&mut parts, of)?;
            Context::read(parts)
        };
        read().map_err(|error| self.problem(&error))
    }

    /// Notes whether the bases of a Dockerfile can make its build read everything.
    pub fn set_whole(&self, of: &Selection, is_whole: bool) {
        let mut state = self.state();
        let key = (of.dir.clone(), of.dockerfile.clone());
        let is_new = if is_whole { state.whole.insert(key) } else { state.whole.remove(&key) };
        if is_new {
            let is_other = |it: &Selection| it.dir != of.dir || it.dockerfile != of.dockerfile;
            state.contexts.retain(|it, _| is_other(it));
        }
    }

    /// Takes away what cannot be read.
    fn reduce(&self, parts: &mut [Part], of: &Selection) -> io::Result<()> {
        let key = (of.dir.clone(), of.dockerfile.clone());
        let is_whole = self.state().whole.contains(&key);
        // A hook may have written another Dockerfile than the one that was read.
        if is_whole || parts[0].digest(&of.dockerfile)? != Some(of.written) {
            return Ok(());
        }
        let [first, second] = ignore_files(&of.dockerfile);
        lean::reduce(parts, &of.sources, &[of.dockerfile.clone(), first, second]);
        Ok(())
    }

    /// What the engine would receive if no hook ran: of a component and of these that it
    /// needs.
    pub fn at_rest(&self, of: &Selection, needed: &[String]) -> Result<Context, Problem> {
        let (ignore, ignore_file) = self.ignore(of)?;
        let read = || {
            let own = self.own(of, &ignore, ignore_file.as_deref())?;
            let mut parts = vec![Part::own(of.dir.clone(), own, &ignore, &of.dockerfile)];
            parts.extend(self.dependencies(needed, &ignore)?);
            self.reduce(&mut parts, of)?;
            Context::read(parts)
        };
        read().map_err(|error| self.problem(&error))
    }

    /// What hooks would find if no other hook ran.
    pub fn source_at_rest(&self, dir: &str, needed: &[String]) -> Result<Context, Problem> {
        let read = || {
            let mut parts = vec![Part::without(dir.to_owned(), self.whole(dir)?, &TEMPORARY)];
            parts.extend(self.dependencies(needed, &Ignore::default())?);
            Context::read(parts)
        };
        read().map_err(|error| self.problem(&error))
    }

    fn dependencies(&self, needed: &[String], ignore: &Ignore) -> io::Result<Vec<Part>> {
        let part = |name: &String| {
            let dir = format!("src/{name}");
            let tree = self.whole(&dir)?;
            Ok(Part::dependency(name, dir, tree, ignore))
        };
        needed.iter().map(part).collect()
    }

    /// What hooks find: the component's folder without what is there during a round
    /// only, and what it needs.
    pub fn source(&self, dir: &str, needed: &[Needed]) -> Result<Context, Problem> {
        let read = || {
            let mut parts = vec![Part::without(dir.to_owned(), self.whole(dir)?, &TEMPORARY)];
            parts.extend(self.needed(needed, &Ignore::default())?);
            Context::read(parts)
        };
        read().map_err(|error| self.problem(&error))
    }

    /// All of a folder, relative to the root.
    pub fn folder(&self, dir: &str) -> Result<Context, Problem> {
        let read = || Context::read(vec![Part::without(dir.to_owned(), self.whole(dir)?, &[])]);
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
            let part = Part::without(String::new(), self.tree(&name, tree)?, &[]);
            Context::read(vec![part])
        };
        read().map_err(|error| self.problem(&error))
    }

    /// What a component gets under `dependency/`.
    pub fn needed(&self, needed: &[Needed], ignore: &Ignore) -> io::Result<Vec<Part>> {
        let mut parts = Vec::new();
        for Needed { name, generated } in needed {
            let dir = format!("src/{name}");
            let tree = self.whole(&dir)?;
            parts.push(Part::dependency(name, dir.clone(), Arc::clone(&tree), ignore));
            let tree = match generated {
                Some(kept) => self.whole(&kept.to_string_lossy())?,
                None => tree,
            };
            parts.push(Part::generated(name, dir, tree, generated.is_some(), ignore));
        }
        Ok(parts)
    }

    /// What is odd about the components that were looked at.
    pub fn warnings(&self) -> Vec<Problem> {
        let state = self.state();
        let components = state.trees.iter().filter(|(name, _)| name.starts_with("src/"));
        let mut warnings: Vec<Problem> = components
            .flat_map(|(name, tree)| {
                let dir = name.split('#').next().unwrap_or_default();
                let named = tree.entries().iter().filter(|entry| {
                    let name = entry.path.as_os_str().as_encoded_bytes();
                    entry.kind == Kind::File && name.ends_with(b".dockerfile")
                });
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
            Some((_, INPUTS)) => true,
            Some((dir, _)) => is_touched(dir),
            None => is_touched(name),
        };
        state.contexts.retain(|of, _| {
            let needed = of.needed.iter().any(|needed| is_touched(&format!("src/{}", needed.name)));
            !needed && !is_touched(&of.dir)
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
        let is_there = |name: &&String| {
            let dir = name.split_once('#').map_or(name.as_str(), |(dir, _)| dir);
            self.root.join(dir).exists()
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
        of: &Selection,
        ignore: &Ignore,
        ignore_file: Option<&Path>,
    ) -> io::Result<Arc<Tree>> {
        let whole = self.state().trees.get(&of.dir).cloned();
        let (Some(file), None) = (ignore_file, whole) else { return self.whole(&of.dir) };
        let name = format!("{}#{}", of.dir, file.display());
        self.tree(&name, |known| {
            let is_wanted = |path: &Path| {
                let text = path.to_string_lossy();
                path.starts_with("build")
                    || !ignore.ignores(&text)
                    || ignore.may_keep_below(&text)
                    || of.dockerfile.starts_with(path)
            };
            Tree::read(&self.root.join(&of.dir), is_wanted, known)
        })
    }

    fn whole(&self, dir: &str) -> io::Result<Arc<Tree>> {
        self.tree(dir, |known| Tree::read(&self.root.join(dir), |_| true, known))
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
    pub fn ignore(&self, of: &Selection) -> Result<(Ignore, Option<PathBuf>), Problem> {
        for file in ignore_files(&of.dockerfile) {
            let shown = format!("{}/{}", of.dir, file.display());
            match std::fs::read_to_string(self.root.join(&shown)) {
                Ok(text) => {
                    let ignore = Ignore::parse(&text)
                        .map_err(|error| Problem::of_line(&shown, error.line, error.to_string()))?;
                    return Ok((ignore, Some(file)));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(Problem::of_file(shown, format!("cannot be read: {error}")));
                }
            }
        }
        Ok((Ignore::default(), None))
    }

    /// Errors of trees begin with the path.
    fn problem(&self, error: &io::Error) -> Problem {
        let text = error.to_string();
        let root = format!("{}/", self.root.display());
        Problem::of_request(text.strip_prefix(&root).unwrap_or(&text))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remember(&mut self, name: String, tree: &Tree) {
        let before = self.memory.get(&name).map_or(0, |known| known.len());
        if tree.has_news(before) {
            self.has_news = true;
            self.memory.insert(name, Arc::new(tree.remember()));
        }
    }
}
