//! What git knows of a folder.
//!
//! Whether a folder lies in a repository is decided by looking for `.git` from it upwards.
//! Without one nothing is tracked. With one git has to answer: if it does not, that is an
//! error with git's own words, and never taken for "nothing is tracked".
//!
//! The environment may name another repository, index or way to read paths, as it does in
//! a git hook or below `git rebase --exec`. Those variables are not passed on.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What would make git answer for another repository, or read paths in another way.
const DROPPED: [&str; 18] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_REPLACE_REF_BASE",
    "GIT_CONFIG",
    "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
];

/// How many paths git is asked about at a time; a command line is not endless.
const PATHS: usize = 1000;

/// Why git did not answer.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The program does not start.
    #[error("{}: git does not start, install it or add it to PATH: {source}", dot_git.display())]
    NotStarted {
        /// What shows that the folder lies in a repository.
        dot_git: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The answer is "no", for which git has an exit code and no words.
    #[error("git {command}: no")]
    No {
        /// What it was asked.
        command: String,
    },
    /// It failed.
    #[error("git {command}: {words}")]
    Failed {
        /// What it was asked.
        command: String,
        /// What it wrote to standard error, in one line.
        words: String,
    },
}

/// A folder with a `.git`, which is a file in worktrees and submodules.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repository {
    /// The folder, without links in its path.
    pub top: PathBuf,
}

impl Repository {
    /// The repository that `folder` lies in, if any.
    pub fn of(folder: &Path) -> Option<Self> {
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let has_git = |dir: &&Path| dir.join(".git").symlink_metadata().is_ok();
        folder.ancestors().find(has_git).map(|top| Self { top: top.to_owned() })
    }

    /// What a git command says in `folder`, which lies in this repository.
    pub fn ask<A: AsRef<OsStr>>(
        &self,
        folder: &Path,
        arguments: &[A],
    ) -> Result<Vec<u8>, GitError> {
        let mut git = Command::new("git");
        for name in DROPPED {
            git.env_remove(name);
        }
        // A broken repository must not hide behind the one around it, and one on another
        // file system than the folder is no less a repository.
        git.env("GIT_CEILING_DIRECTORIES", self.top.parent().unwrap_or(&self.top))
            .env("GIT_DISCOVERY_ACROSS_FILESYSTEM", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("LC_ALL", "C");
        let output = git.current_dir(folder).args(arguments).output();
        let output = output
            .map_err(|source| GitError::NotStarted { dot_git: self.top.join(".git"), source })?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let named = arguments.iter().map(|it| it.as_ref().to_string_lossy());
        let command = named.into_iter().find(|it| !it.starts_with('-')).unwrap_or_default();
        let command = command.into_owned();
        let words = String::from_utf8_lossy(&output.stderr);
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        Err(match (output.status.code(), words.is_empty()) {
            (Some(1), true) => GitError::No { command },
            (_, true) => GitError::Failed { command, words: output.status.to_string() },
            (_, false) => GitError::Failed { command, words },
        })
    }

    /// The tracked files at and below `paths`, all of them relative to the top.
    pub fn tracked(&self, paths: &[PathBuf]) -> Result<Vec<PathBuf>, GitError> {
        let mut tracked = Vec::new();
        for paths in paths.chunks(PATHS) {
            let options = ["--literal-pathspecs", "ls-files", "-z", "--"].map(OsStr::new);
            let paths = paths.iter().map(|path| path.as_os_str());
            let arguments: Vec<&OsStr> = options.into_iter().chain(paths).collect();
            tracked.extend(self::paths(&self.ask(&self.top, &arguments)?));
        }
        Ok(tracked)
    }
}

/// The paths of a list that was asked for with `-z`.
pub fn paths(listed: &[u8]) -> impl Iterator<Item = PathBuf> {
    let paths = listed.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    paths.map(|path| PathBuf::from(OsStr::from_bytes(path)))
}

/// The paths in a folder, relative to it, that git tracks; none without a repository.
pub fn tracked_below(folder: &Path) -> Result<BTreeSet<PathBuf>, GitError> {
    let Some(repository) = Repository::of(folder) else { return Ok(BTreeSet::new()) };
    Ok(paths(&repository.ask(folder, &["ls-files", "-z"])?).collect())
}

/// The id of the commit that is checked out; none without a repository, or before its
/// first commit.
pub fn head(root: &Path) -> Result<Option<String>, GitError> {
    let Some(repository) = Repository::of(root) else { return Ok(None) };
    // Unlike `rev-parse`, `log` tells a branch without commits from a broken one.
    let asked = repository.ask(root, &["log", "-1", "--no-show-signature", "--format=%H"]);
    match asked {
        Ok(id) => Ok(Some(String::from_utf8_lossy(&id).trim().to_owned())),
        Err(GitError::Failed { words, .. }) if words.contains("does not have any commits yet") => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
