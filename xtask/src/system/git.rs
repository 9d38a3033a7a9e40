//! Runs git.
//!
//! A folder is in a repository if it or a parent has a `.git`. Without one nothing is tracked. With
//! one, a failure of git is an error with git's own message, and never means that nothing is
//! tracked.
//!
//! The environment can select another repository, index or pathspec syntax, as it does in a git
//! hook or below `git rebase --exec`. Those variables are removed.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use xtask_core::regular_file;

/// Variables that select another repository or pathspec syntax.
const REMOVED_VARIABLES: [&str; 18] = [
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

/// Paths on one command line, whose length is limited.
const MAX_PATHS: usize = 1000;

/// Why git gave no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    #[error(
        "{}: git is not installed or not in PATH: install it, or add it to PATH", dot_git.display()
    )]
    NotFound {
        /// What makes the folder a repository.
        dot_git: PathBuf,
    },
    #[error("cannot start git in {}: {source}", folder.display())]
    NotStarted { folder: PathBuf, source: io::Error },
    #[error("git {command}: cannot read its output: {source}")]
    Output { command: String, source: io::Error },
    /// Exit status 1 without a message, which means "no" for some commands.
    #[error("git {command}: exit status: 1")]
    Negative { command: String },
    #[error("git {command}: {message}")]
    Failed {
        command: String,
        /// Its standard error in one line, or its exit status.
        message: String,
    },
}

/// A folder with a `.git`, which is a file in worktrees and submodules.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Repository {
    /// The folder, without links in its path.
    pub(crate) top: PathBuf,
}

impl Repository {
    /// The repository that contains `folder`, if any.
    pub(crate) fn of(folder: &Path) -> Option<Self> {
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let has_git = |dir: &&Path| dir.join(".git").symlink_metadata().is_ok();
        folder.ancestors().find(has_git).map(|top| Self { top: top.to_owned() })
    }

    /// Runs a git command in a folder of this repository, and returns its standard output.
    pub(crate) fn run<A: AsRef<OsStr>>(
        &self,
        folder: &Path,
        arguments: &[A],
    ) -> Result<Vec<u8>, GitError> {
        let mut git = Command::new("git");
        for name in REMOVED_VARIABLES {
            git.env_remove(name);
        }
        // A broken repository must not be hidden by the one around it, and a folder on another
        // file system than its `.git` is in the repository all the same.
        git.env("GIT_CEILING_DIRECTORIES", self.top.parent().unwrap_or(&self.top))
            .env("GIT_DISCOVERY_ACROSS_FILESYSTEM", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("LC_ALL", "C");
        git.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = git.current_dir(folder).args(arguments).spawn().map_err(|source| {
            // A missing folder is the same error as a missing program.
            if source.kind() == io::ErrorKind::NotFound && folder.is_dir() {
                GitError::NotFound { dot_git: self.top.join(".git") }
            } else {
                GitError::NotStarted { folder: folder.to_owned(), source }
            }
        })?;
        let named = arguments.iter().map(|it| it.as_ref().to_string_lossy());
        let command = named.into_iter().find(|it| !it.starts_with('-')).unwrap_or_default();
        let command = command.into_owned();
        let output = match child.wait_with_output() {
            Ok(output) => output,
            Err(source) => return Err(GitError::Output { command, source }),
        };
        if output.status.success() {
            return Ok(output.stdout);
        }
        let message = String::from_utf8_lossy(&output.stderr);
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        Err(match (output.status.code(), message.is_empty()) {
            (Some(1), true) => GitError::Negative { command },
            (_, true) => GitError::Failed { command, message: output.status.to_string() },
            (_, false) => GitError::Failed { command, message },
        })
    }

    /// The tracked files at and below `paths`, all relative to the top.
    pub(crate) fn tracked(&self, paths: &[PathBuf]) -> Result<Vec<PathBuf>, GitError> {
        let mut tracked = Vec::new();
        for paths in paths.chunks(MAX_PATHS) {
            let options = ["--literal-pathspecs", "ls-files", "-z", "--"].map(OsStr::new);
            let paths = paths.iter().map(|path| path.as_os_str());
            let arguments: Vec<&OsStr> = options.into_iter().chain(paths).collect();
            tracked.extend(self::paths(&self.run(&self.top, &arguments)?));
        }
        Ok(tracked)
    }
}

/// The paths in the output of a command with `-z`.
pub(crate) fn paths(listed: &[u8]) -> impl Iterator<Item = PathBuf> {
    let paths = listed.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    paths.map(|path| PathBuf::from(OsStr::from_bytes(path)))
}

/// The tracked paths in a folder, relative to it; none without a repository.
pub(crate) fn tracked_below(folder: &Path) -> Result<BTreeSet<PathBuf>, GitError> {
    let Some(repository) = Repository::of(folder) else { return Ok(BTreeSet::new()) };
    Ok(paths(&repository.run(folder, &["ls-files", "-z"])?).collect())
}

/// The folder in which git keeps what is checked out; none outside of a repository.
pub(crate) fn folder(root: &Path) -> Option<PathBuf> {
    let top = Repository::of(root)?.top;
    let dot_git = top.join(".git");
    // In worktrees and submodules it is a file that names the folder.
    let text = regular_file::read_to_string(&dot_git).unwrap_or_default();
    Some(text.strip_prefix("gitdir:").map_or(dot_git, |path| top.join(path.trim())))
}

/// The branch that is checked out; none outside of a repository, or on a commit without one.
pub(crate) fn branch(root: &Path) -> Result<Option<String>, GitError> {
    let Some(repository) = Repository::of(root) else { return Ok(None) };
    match repository.run(root, &["symbolic-ref", "--quiet", "--short", "HEAD"]) {
        Ok(name) => Ok(Some(String::from_utf8_lossy(&name).trim().to_owned())),
        Err(GitError::Negative { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The ID of the checked-out commit; none without a repository or commits.
pub(crate) fn head(root: &Path) -> Result<Option<String>, GitError> {
    let Some(repository) = Repository::of(root) else { return Ok(None) };
    // Unlike `rev-parse`, `log` distinguishes a branch without commits from a broken one.
    match repository.run(root, &["log", "-1", "--no-show-signature", "--format=%H"]) {
        Ok(id) => Ok(Some(String::from_utf8_lossy(&id).trim().to_owned())),
        Err(GitError::Failed { message, .. })
            if message.contains("does not have any commits yet") =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether there are changes that are not committed, or files that git neither tracks nor ignores,
/// besides `except`; never outside of a repository.
pub(crate) fn is_dirty(root: &Path, except: &Path) -> Result<bool, GitError> {
    let Some(repository) = Repository::of(root) else { return Ok(false) };
    let mut arguments = ["status", "--porcelain", "--", ":/"].map(OsString::from).to_vec();
    let folder = std::path::absolute(except).ok().and_then(|it| it.parent()?.canonicalize().ok());
    let except = folder.unwrap_or_default().join(except.file_name().unwrap_or_default());
    if let Ok(except) = except.strip_prefix(&repository.top) {
        let mut pathspec = OsString::from(":(top,exclude,literal)");
        pathspec.push(except);
        arguments.push(pathspec);
    }
    repository.run(&repository.top, &arguments).map(|listed| !listed.is_empty())
}
