//! The two folders of a component that exist during a round only: `dependency/`,
//! which we fill, and `generated/`, which its hooks fill.
//!
//! They are temporary by contract, so a round begins and ends by removing them,
//! whoever left them there. Files in them that git tracks are somebody's work:
//! then nothing is done at all, and they are named.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::core::context::{self, Entry, Kind};
use crate::core::problem::{Problem, Problems};
use crate::core::workspace::{TEMPORARY, Workspace};

/// Refuses a workspace in which git tracks files in a temporary folder. Without
/// git, or outside a repository, nothing is tracked.
pub fn refuse_tracked(workspace: &Workspace) -> Result<(), Problems> {
    let output = Command::new("git")
        .current_dir(&workspace.root)
        .args(["ls-files", "-z", "--"])
        .args(TEMPORARY.map(|folder| format!(":(glob)src/*/{folder}/**")))
        .output();
    let Ok(output) = output else { return Ok(()) };
    let tracked = output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    let problems = tracked
        .map(|path| {
            Problem::of_file(
                String::from_utf8_lossy(path),
                "is tracked by git in a folder that every build empties: move it, or 'git rm --cached' it",
            )
        })
        .collect();
    Problems::check(problems)
}

/// Removes the temporary folders of every component; all that cannot be removed
/// is reported.
pub fn clean(workspace: &Workspace) -> Result<(), Problems> {
    let mut problems = Vec::new();
    for component in &workspace.components {
        for folder in TEMPORARY {
            let path = format!("{}/{folder}", component.dir());
            if let Err(error) = remove(&workspace.root.join(&path)) {
                let message = format!("cannot be removed: {error}. Remove it by hand");
                problems.push(Problem::of_file(path, message));
            }
        }
    }
    Problems::check(problems)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
}

/// The id of the commit that is checked out; empty without one.
pub fn checked_out_commit(root: &Path) -> String {
    let output = Command::new("git").current_dir(root).args(["rev-parse", "HEAD"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// Copies a dependency's folder to where its dependent's hooks look for it.
pub fn copy_dependency(from: &Path, to: &Path) -> io::Result<()> {
    copy(context::list_dependency(from)?, to)
}

/// Copies a whole folder.
pub fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    copy(context::list_tree(from)?, to)
}

fn copy(entries: Vec<Entry>, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let mut folders: Vec<(PathBuf, fs::Metadata)> = Vec::new();
    for entry in entries {
        let target = to.join(&entry.path);
        let metadata = fs::symlink_metadata(&entry.source)?;
        match entry.kind {
            Kind::Folder => {
                fs::create_dir(&target)?;
                folders.push((target, metadata));
            }
            Kind::Link => symlink(fs::read_link(&entry.source)?, &target)?,
            Kind::File => {
                fs::copy(&entry.source, &target)?;
                // A file that its owner may not write keeps its mode, and its time all the same.
                let times = fs::FileTimes::new().set_modified(metadata.modified()?);
                fs::File::open(&target)?.set_times(times)?;
            }
        }
    }
    // Last, and from the inside out: a folder may be read-only.
    for (target, metadata) in folders.into_iter().rev() {
        let mode = fs::Permissions::from_mode(metadata.permissions().mode() | 0o700);
        fs::set_permissions(&target, mode)?;
        let times = fs::FileTimes::new().set_modified(metadata.modified()?);
        fs::File::open(&target)?.set_times(times)?;
    }
    Ok(())
}
