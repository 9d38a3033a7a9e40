//! `build/inputs`: what a component's hooks read outside their own component.
//!
//! A hook can read anything, so without this file it runs at every build. With
//! it, the hook is taken for a function of what the file names, the component's
//! own tree and what the component needs, and is skipped as long as these are the
//! same. A line is one of
//!
//! - a glob, relative to the workspace root; one that matches a folder takes all
//!   that is in it;
//! - `!` and a glob: what it matches is taken out again, whatever the order;
//! - `env:NAME`: an environment variable;
//! - `git:HEAD`: the id of the commit that is checked out;
//! - `~` and one of these: the hook reads it, but it alone is no reason to run the
//!   hook again, as a stamp that is to be new when something else changes;
//! - blank, or a comment that begins with `#`.
//!
//! Globs are `globset`'s: `*` and `?` stay within a name, `**` goes across
//! folders, `{a,b}` is a choice. Folders of git and of the build (`.git/`,
//! `target/`) and the temporary folders of components are never taken.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::paths::TEMPORARY;
use crate::problem::Problem;
use crate::regular_file::naming;

/// What a `build/inputs` file declares.
#[derive(Debug, Default)]
pub struct Inputs {
    globs: Vec<Declared>,
    excluded: GlobSet,
    /// The names of environment variables.
    pub variables: BTreeSet<String>,
    /// Whether the checked out commit is an input.
    pub head: bool,
    /// Whether it is named at all, be it with a `~`.
    pub mentions_head: bool,
}

#[derive(Debug)]
struct Declared {
    line: usize,
    matcher: GlobSet,
    /// The folder, relative to the root, that all matches lie in.
    start: PathBuf,
    is_key: bool,
}

impl Inputs {
    /// Reads the text of the file `shown`; every line that is wrong is a problem.
    pub fn parse(text: &str, shown: &str) -> Result<Self, Vec<Problem>> {
        let mut inputs = Self::default();
        let mut excluded = GlobSetBuilder::new();
        let mut problems = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (is_key, declared) = match line.strip_prefix('~') {
                Some(rest) => (false, rest.trim()),
                None => (true, line),
            };
            let read = if let Some(name) = declared.strip_prefix("env:") {
                if is_key {
                    inputs.variables.insert(name.to_owned());
                }
                Ok(())
            } else if declared.starts_with("git:") {
                inputs.head |= is_key;
                inputs.mentions_head = true;
                if declared == "git:HEAD" { Ok(()) } else { Err("only git:HEAD is known".into()) }
            } else if let Some(glob) = declared.strip_prefix('!') {
                globs(glob).map(|globs| {
                    for glob in globs {
                        excluded.add(glob);
                    }
                })
            } else {
                inputs.declare(declared, line_number, is_key)
            };
            if let Err(message) = read {
                problems.push(Problem::of_line(shown, line_number, message));
            }
        }
        inputs.excluded = excluded.build().unwrap_or_default();
        if problems.is_empty() { Ok(inputs) } else { Err(problems) }
    }

    fn declare(&mut self, glob: &str, line: usize, is_key: bool) -> Result<(), String> {
        let mut set = GlobSetBuilder::new();
        for glob in globs(glob)? {
            set.add(glob);
        }
        let matcher = set.build().map_err(|error| error.to_string())?;
        let is_literal = |part: &&str| !part.contains(['*', '?', '[', '{', '\\']);
        let start = glob.split('/').take_while(is_literal).collect();
        self.globs.push(Declared { line, matcher, start, is_key });
        Ok(())
    }

    /// The files that decide, relative to the root. A glob that matches nothing is a
    /// warning.
    pub fn files(
        &self,
        root: &Path,
        shown: &str,
        warnings: &mut Vec<Problem>,
    ) -> io::Result<BTreeSet<PathBuf>> {
        let mut files = BTreeSet::new();
        for declared in &self.globs {
            let mut found = BTreeSet::new();
            self.find(root, &declared.start, declared, &mut found)?;
            if found.is_empty() {
                let message = "matches nothing: mend or remove it";
                warnings.push(Problem::of_line(shown, declared.line, message));
            }
            if declared.is_key {
                files.append(&mut found);
            }
        }
        Ok(files)
    }

    /// The folders or files, relative to the root, that everything declared lies in.
    pub fn starts(&self) -> impl Iterator<Item = &Path> {
        self.globs.iter().filter(|declared| declared.is_key).map(|it| it.start.as_path())
    }

    /// Whether a file is declared, be it as one that decides or not.
    pub fn covers(&self, path: &Path) -> bool {
        let is_declared = || self.globs.iter().any(|declared| declared.matcher.is_match(path));
        !is_never_taken(path) && !self.excluded.is_match(path) && is_declared()
    }

    fn find(
        &self,
        root: &Path,
        at: &Path,
        declared: &Declared,
        found: &mut BTreeSet<PathBuf>,
    ) -> io::Result<()> {
        if is_never_taken(at) || self.excluded.is_match(at) {
            return Ok(());
        }
        let full = root.join(at);
        // What this user may not read, hooks cannot read either.
        let is_hidden = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
        };
        let metadata = match fs::symlink_metadata(&full) {
            Err(error) if is_hidden(&error) => return Ok(()),
            metadata => metadata.map_err(naming(&full))?,
        };
        if !metadata.is_dir() {
            if declared.matcher.is_match(at) {
                found.insert(at.to_owned());
            }
            return Ok(());
        }
        let listed = match fs::read_dir(&full) {
            Err(error) if is_hidden(&error) => return Ok(()),
            listed => listed.map_err(naming(&full))?,
        };
        for child in listed {
            self.find(root, &at.join(child?.file_name()), declared, found)?;
        }
        Ok(())
    }
}

/// What a glob matches, and all that is in a folder that it matches.
fn globs(glob: &str) -> Result<[Glob; 2], String> {
    let glob = glob.trim().trim_end_matches('/');
    let is_outside = glob.starts_with('/') || glob.split('/').any(|part| part == "..");
    if glob.is_empty() || is_outside {
        return Err(format!("'{glob}' is not a path below the workspace root"));
    }
    let build = |glob: &str| {
        let built = GlobBuilder::new(glob).literal_separator(true).build();
        built.map_err(|error| format!("'{glob}' is not a glob: {}", error.kind()))
    };
    Ok([build(glob)?, build(&format!("{glob}/**"))?])
}

/// Whether a path is never an input: it lies in `.git`, or in a temporary folder of a
/// component.
pub fn is_never_taken(path: &Path) -> bool {
    let mut parts = path.iter();
    let first = parts.next();
    let is_temporary = first.is_some_and(|part| part == "src")
        && parts.nth(1).is_some_and(|part| TEMPORARY.iter().any(|name| part == *name));
    is_temporary || first.is_some_and(|part| part == ".git" || part == "target")
}
