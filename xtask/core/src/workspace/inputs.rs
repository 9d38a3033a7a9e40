//! `build/inputs`: the files and values outside a component that its hooks read.
//!
//! A hook can read anything, so without this file it runs in every build. With it, the hook
//! is assumed to depend only on the listed inputs, the component's own folder and the
//! component's dependencies, and is skipped while these are unchanged. A line is one of:
//!
//! - a glob, relative to the workspace root. If it matches a folder, it includes everything
//!   in the folder;
//! - `!` and a glob: excludes the matches, regardless of the order of lines;
//! - `env:NAME`: an environment variable;
//! - `git:HEAD`: the id of the commit that is checked out;
//! - `~` and one of the above: an input that is read, but a change to it alone does not run
//!   the hook again. An example is a version stamp;
//! - blank, or a comment that begins with `#`.
//!
//! Globs have the syntax of `globset`: `*` and `?` do not match a slash, `**` does, and
//! `{a,b}` matches either. `.git/`, `target/xtask/` and the temporary folders of components are
//! never inputs, and what else is in `target/` is only for globs that begin with it.
//!
//! Hooks read through symbolic links. So a link that is declared is an input itself, and so is
//! what it leads to: a file, or what the glob matches in a folder, below the link's own path.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::paths::{GIT, SRC, STATE, TARGET, TEMPORARY};
use crate::problem::Problem;
use crate::regular_file::with_path;

/// The contents of a `build/inputs` file.
#[derive(Debug, Default)]
pub struct Inputs {
    globs: Vec<DeclaredGlob>,
    excluded: GlobSet,
    /// The folders that hooks fill during a round, relative to the root.
    temporary: Arc<BTreeSet<PathBuf>>,
    /// The names of environment variables that run the hook again when they change.
    pub variables: BTreeSet<String>,
    /// Whether the hook runs again when another commit is checked out.
    pub head: bool,
    /// Whether `git:HEAD` is listed, with or without `~`.
    pub mentions_head: bool,
}

#[derive(Debug)]
struct DeclaredGlob {
    line: usize,
    matcher: GlobSet,
    /// The literal part of the glob: all matches are at or below it. Relative to the root.
    base: PathBuf,
    /// Whether a change runs the hook again: it has no `~`.
    is_key: bool,
}

impl DeclaredGlob {
    fn is_match(&self, path: &Path) -> bool {
        self.matcher.is_match(path) && !self.leaves_out(path)
    }

    /// Builds fill `target/` with many files, so it is only for globs that begin with it.
    fn leaves_out(&self, path: &Path) -> bool {
        path.starts_with(TARGET) && !self.base.starts_with(TARGET)
    }
}

/// What a glob matches.
struct Matches<'a> {
    root: &'a Path,
    declared: &'a DeclaredGlob,
    /// Relative to the root.
    files: BTreeSet<PathBuf>,
    /// The canonical paths of what links lead to that are declared, or in which a file is.
    targets: BTreeSet<PathBuf>,
    /// The canonical paths of the folders that links lead to.
    followed: BTreeSet<PathBuf>,
}

impl Inputs {
    /// Parses a file. `shown` is its name in problems, one for each invalid line.
    pub fn parse(text: &str, shown: &str) -> Result<Self, Vec<Problem>> {
        Self::of_lines((1..).zip(text.lines()), shown)
    }

    /// Parses lines with their numbers in the file `shown`.
    pub fn of_lines<'l>(
        lines: impl Iterator<Item = (usize, &'l str)>,
        shown: &str,
    ) -> Result<Self, Vec<Problem>> {
        let mut inputs = Self::default();
        let mut excluded = GlobSetBuilder::new();
        let mut problems = Vec::new();
        for (line_number, line) in lines {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (is_key, declared) = match line.strip_prefix('~') {
                Some(rest) => (false, rest.trim()),
                None => (true, line),
            };
            let parsed = if let Some(name) = declared.strip_prefix("env:") {
                variable(name).map(|name| {
                    if is_key {
                        inputs.variables.insert(name);
                    }
                })
            } else if let Some(("ENV" | "Env" | "GIT" | "Git", _)) = declared.split_once(':') {
                Err("'env:' and 'git:' are written in lower case".to_owned())
            } else if declared.starts_with("git:") {
                inputs.head |= is_key;
                inputs.mentions_head = true;
                if declared == "git:HEAD" {
                    Ok(())
                } else {
                    Err("unknown git input: the only one is git:HEAD".to_owned())
                }
            } else if let Some(glob) = declared.strip_prefix('!') {
                globs(glob).map(|globs| {
                    for glob in globs {
                        excluded.add(glob);
                    }
                })
            } else {
                inputs.declare(declared, line_number, is_key)
            };
            if let Err(message) = parsed {
                problems.push(Problem::of_line(shown, line_number, message));
            }
        }
        inputs.excluded = excluded.build().unwrap_or_default();
        if problems.is_empty() { Ok(inputs) } else { Err(problems) }
    }

    /// Sets the folders of the workspace that hooks fill during a round: they are never inputs.
    pub(crate) fn set_temporary(&mut self, folders: Arc<BTreeSet<PathBuf>>) {
        self.temporary = folders;
    }

    fn is_excluded(&self, path: &Path) -> bool {
        is_never_input(path) || self.temporary.contains(path) || self.excluded.is_match(path)
    }

    fn declare(&mut self, glob: &str, line: usize, is_key: bool) -> Result<(), String> {
        let mut set = GlobSetBuilder::new();
        for glob in globs(glob)? {
            set.add(glob);
        }
        let matcher = set.build().map_err(|error| error.to_string())?;
        let is_literal = |part: &&str| !part.contains(['*', '?', '[', '{', '\\']);
        let base: PathBuf = glob.split('/').take_while(is_literal).collect();
        if base.starts_with(GIT) {
            return Err(format!("'{glob}' can never be an input: use git:HEAD"));
        }
        if base.starts_with(STATE) {
            return Err(format!("'{glob}' can never be an input: it is state of this tool"));
        }
        self.globs.push(DeclaredGlob { line, matcher, base, is_key });
        Ok(())
    }

    /// The files whose changes run the hook again, relative to the root. Adds a warning for
    /// each glob that matches nothing.
    pub fn files(
        &self,
        root: &Path,
        shown: &str,
        warnings: &mut Vec<Problem>,
    ) -> io::Result<BTreeSet<PathBuf>> {
        let mut files = BTreeSet::new();
        for declared in &self.globs {
            let found = self.matches(root, declared)?;
            if found.files.is_empty() {
                let message = "matches nothing: fix or remove it";
                warnings.push(Problem::of_line(shown, declared.line, message));
            }
            if declared.is_key {
                files.extend(found.files);
            }
        }
        Ok(files)
    }

    /// What links among the inputs lead to, relative to the root. What is outside of it, or cannot
    /// be read, is omitted.
    pub fn link_targets(&self, root: &Path) -> Vec<PathBuf> {
        let Ok(canonical) = root.canonicalize() else { return Vec::new() };
        let keys = self.globs.iter().filter(|declared| declared.is_key);
        let targets = keys.filter_map(|declared| self.matches(root, declared).ok());
        let targets = targets.flat_map(|found| found.targets);
        targets.filter_map(|it| Some(it.strip_prefix(&canonical).ok()?.to_owned())).collect()
    }

    fn matches<'a>(&self, root: &'a Path, declared: &'a DeclaredGlob) -> io::Result<Matches<'a>> {
        let mut found = Matches {
            root,
            declared,
            files: BTreeSet::new(),
            targets: BTreeSet::new(),
            followed: BTreeSet::new(),
        };
        let base = root.join(&declared.base);
        if let (Ok(base), Ok(root)) = (base.canonicalize(), root.canonicalize())
            && base != root.join(&declared.base)
        {
            found.targets.insert(base);
        }
        self.find(&declared.base, false, &mut found)?;
        Ok(found)
    }

    /// Folders or files, relative to the root, that contain all files whose changes run the
    /// hook again.
    pub fn base_paths(&self) -> impl Iterator<Item = &Path> {
        self.globs.iter().filter(|declared| declared.is_key).map(|declared| declared.base.as_path())
    }

    /// Whether a file is declared as an input, with or without `~`.
    pub fn declares(&self, path: &Path) -> bool {
        let is_declared = || self.globs.iter().any(|declared| declared.is_match(path));
        let is_temporary = || path.ancestors().any(|above| self.temporary.contains(above));
        !self.is_excluded(path) && !is_temporary() && is_declared()
    }

    /// Finds the matches at or below a path, which may be `linked`: in a folder to which a link
    /// leads.
    fn find(&self, at: &Path, linked: bool, found: &mut Matches<'_>) -> io::Result<()> {
        if self.is_excluded(at) || found.declared.leaves_out(at) {
            return Ok(());
        }
        let full = found.root.join(at);
        let metadata = match fs::symlink_metadata(&full) {
            Err(error) if is_hidden(&error) => return Ok(()),
            metadata => metadata.map_err(with_path(&full))?,
        };
        if metadata.is_dir() {
            return self.find_below(at, linked, found);
        }
        if found.declared.matcher.is_match(at) {
            found.files.insert(at.to_owned());
        }
        if metadata.is_symlink() { self.follow(at, linked, found) } else { Ok(()) }
    }

    fn find_below(&self, at: &Path, linked: bool, found: &mut Matches<'_>) -> io::Result<()> {
        let full = found.root.join(at);
        let children = match fs::read_dir(&full) {
            Err(error) if is_hidden(&error) => return Ok(()),
            children => children.map_err(with_path(&full))?,
        };
        let names = children.map(|child| Ok(child?.file_name())).collect::<io::Result<Vec<_>>>();
        let mut names = names.map_err(with_path(&full))?;
        names.sort();
        names.iter().try_for_each(|name| self.find(&at.join(name), linked, found))
    }

    /// Finds what a link leads to. In folders that are `linked`, each folder is followed once:
    /// links can lead in circles, and to the same from everywhere.
    fn follow(&self, link: &Path, linked: bool, found: &mut Matches<'_>) -> io::Result<()> {
        let full = found.root.join(link);
        let (Ok(target), Ok(root)) = (full.canonicalize(), found.root.canonicalize()) else {
            return Ok(());
        };
        let path = relative_to(&root, &target);
        let has_state = Path::new(STATE).starts_with(&path) && path != Path::new("");
        if has_state
            || is_never_input(&path)
            || path.ancestors().any(|above| self.temporary.contains(above))
        {
            return Ok(());
        }
        if !target.is_dir() {
            if found.declared.matcher.is_match(link) {
                found.files.insert(path);
                found.targets.insert(target);
            }
            return Ok(());
        }
        let is_new = found.followed.insert(target.clone());
        let parent = full.parent().and_then(|parent| parent.canonicalize().ok());
        let is_above = parent.is_none_or(|parent| parent.starts_with(&target));
        if is_above || linked && !is_new {
            return Ok(());
        }
        let files = found.files.len();
        self.find_below(link, true, found)?;
        if found.files.len() > files {
            found.targets.insert(target);
        }
        Ok(())
    }
}

/// The name of an environment variable, which can be any text without `=`, but is not meant to be.
fn variable(text: &str) -> Result<String, String> {
    let name = text.trim();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !name.is_empty() && name.bytes().all(is_name) {
        return Ok(name.to_owned());
    }
    Err(format!("'{name}' is not the name of an environment variable: write env:NAME"))
}

/// Whether a file or folder is not there for hooks, which run as the same user.
fn is_hidden(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied
    )
}

/// A path relative to a folder, which need not contain it; both are canonical.
fn relative_to(folder: &Path, path: &Path) -> PathBuf {
    if let Ok(inside) = path.strip_prefix(folder) {
        return inside.to_owned();
    }
    let up = folder.iter().skip(1).map(|_| "..");
    up.map(OsStr::new).chain(path.iter().skip(1)).collect()
}

/// Compiles a glob, and another one for everything below a folder that it matches.
fn globs(glob: &str) -> Result<[Glob; 2], String> {
    let glob = glob.trim().trim_end_matches('/');
    let is_outside = glob.starts_with('/') || glob.split('/').any(|part| part == "..");
    if glob.is_empty() || is_outside {
        return Err(format!(
            "'{glob}' is not below the workspace root: use a relative path without '..'"
        ));
    }
    let build = |glob: &str| {
        let built = GlobBuilder::new(glob).literal_separator(true).build();
        built.map_err(|error| format!("'{glob}' is not a glob: {}", error.kind()))
    };
    Ok([build(glob)?, build(&format!("{glob}/**"))?])
}

/// Whether a path, relative to the root, is never an input: it is in `.git/`, in `target/xtask/`,
/// or in a temporary folder of a component.
pub fn is_never_input(path: &Path) -> bool {
    let mut parts = path.iter();
    let first = parts.next();
    let is_temporary = first.is_some_and(|part| part == SRC)
        && parts.nth(1).is_some_and(|part| TEMPORARY.iter().any(|name| part == *name));
    is_temporary || path.starts_with(GIT) || path.starts_with(STATE)
}
