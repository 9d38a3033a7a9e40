//! A revision of the repository, checked out beside the workspace for a moment.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use xtask_core::paths::STATE;
use xtask_core::problem::Problem;
use xtask_core::workspace::components::Workspace;

use crate::system::git::{GitError, Repository};

/// A revision, checked out for as long as this is there.
pub(crate) struct Checkout {
    repository: Repository,
    folder: PathBuf,
    /// The root of the workspace in it.
    pub(crate) root: PathBuf,
    /// The branch that the revision is, if it is one.
    pub(crate) branch: Option<String>,
    /// The folders of submodules, relative to the root, which are empty.
    submodules: Vec<PathBuf>,
}

impl Checkout {
    pub(crate) fn new(root: &Path, revision: &str) -> Result<Self, Problem> {
        let repository = Repository::of(root)
            .ok_or_else(|| Problem::of_request("this is not a git repository"))?;
        let folder = root.join(STATE).join("checkout");
        let git = |arguments: &[&str]| repository.run(root, arguments);
        let check_out = || -> Result<(Vec<u8>, Vec<u8>), GitError> {
            remove(&repository, &folder);
            let commit = git(&[
                "rev-parse",
                "--verify",
                "--end-of-options",
                &format!("{revision}^{{commit}}"),
            ])?;
            let commit = String::from_utf8_lossy(&commit).trim().to_owned();
            let to = folder.to_string_lossy();
            git(&[
                "-c",
                "core.hooksPath=/dev/null",
                "worktree",
                "add",
                "--detach",
                "--force",
                &to,
                &commit,
            ])?;
            let name = git(&[
                "rev-parse",
                "--verify",
                "--symbolic-full-name",
                "--end-of-options",
                revision,
            ])?;
            Ok((name, git(&["ls-tree", "-r", "-z", "--full-tree", &commit])?))
        };
        let failed = |error: GitError| Problem::of_request(error.to_string());
        let (name, files) = check_out().map_err(failed)?;
        let canonical = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let below = canonical.strip_prefix(&repository.top).unwrap_or(Path::new("")).to_owned();
        let submodules = submodules(&files);
        let submodules = submodules.filter_map(|path| Some(path.strip_prefix(&below).ok()?.into()));
        Ok(Self {
            root: folder.join(&below),
            repository,
            folder,
            branch: branch(&String::from_utf8_lossy(&name)),
            submodules: submodules.collect(),
        })
    }

    /// Checks that everything is there that the images of a workspace may be made from.
    pub(crate) fn check_whole_for(&self, workspace: &Workspace) -> Result<(), Problem> {
        let components = workspace.components.iter();
        let mut folders: Vec<&str> = components.map(|component| component.dir.as_str()).collect();
        for (_, image) in workspace.images() {
            folders.extend([image.context.as_str(), &image.dockerfile]);
            folders.extend(image.named_folders().map(|(_, folder)| folder));
        }
        let is_read = |submodule: &&PathBuf| {
            let mut folders = folders.iter();
            folders.any(|it| submodule.starts_with(it) || Path::new(it).starts_with(submodule))
        };
        match self.submodules.iter().find(is_read) {
            None => Ok(()),
            Some(submodule) => Err(Problem::of_request(format!(
                "{} is a submodule, which is not checked out: it is unknown what images are made \
                 from",
                submodule.display()
            ))),
        }
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        remove(&self.repository, &self.folder);
    }
}

/// The folders of submodules in a list of files with their types, relative to its top.
fn submodules(files: &[u8]) -> impl Iterator<Item = PathBuf> {
    let entries = files.split(|byte| *byte == 0);
    entries.filter_map(|entry| {
        let (kind, path) = entry.split_at(entry.iter().position(|byte| *byte == b'\t')?);
        kind.starts_with(b"160000 ").then(|| PathBuf::from(OsStr::from_bytes(&path[1..])))
    })
}

/// The branch that a full name of git is, here or at a remote.
fn branch(name: &str) -> Option<String> {
    let name = name.trim();
    let at_remote = || name.strip_prefix("refs/remotes/")?.split_once('/').map(|(_, it)| it);
    name.strip_prefix("refs/heads/").or_else(at_remote).map(str::to_owned)
}

/// Removes a checked-out revision, if there is one. Only this one: others may be on disks that are
/// not mounted now, which git would take for removed (`worktree prune`).
fn remove(repository: &Repository, folder: &Path) {
    let worktree = folder.to_string_lossy();
    drop(repository.run(&repository.top, &["worktree", "remove", "--force", &worktree]));
    drop(fs::remove_dir_all(folder));
}
