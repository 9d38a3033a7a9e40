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

use rayon::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::git;
use crate::core::context::Part;
use crate::core::problem::{Problem, Problems};
use crate::core::tree::{Entry, Kind};
use crate::core::workspace::{Component, TEMPORARY, Workspace};

/// The components that have a temporary folder, or anything of its name.
pub fn find(workspace: &Workspace) -> Vec<&Component> {
    let has_any = |component: &&Component| {
        let dir = workspace.root.join(component.dir());
        TEMPORARY.iter().any(|name| dir.join(name).symlink_metadata().is_ok())
    };
    workspace.components.par_iter().filter(has_any).collect()
}

/// Refuses a workspace in which git tracks files in the temporary folders that were
/// `found`. Without git, or outside a repository, nothing is tracked; where nothing was
/// found, git need not be asked.
pub fn refuse_tracked(workspace: &Workspace, found: &[&Component]) -> Result<(), Problems> {
    if found.is_empty() {
        return Ok(());
    }
    let patterns = TEMPORARY.map(|name| [format!("src/*/{name}"), format!("src/*/{name}/**")]);
    let patterns = patterns.as_flattened().iter().map(|pattern| format!(":(glob){pattern}"));
    let patterns: Vec<String> = patterns.collect();
    let arguments = ["ls-files", "-z", "--"].into_iter().chain(patterns.iter().map(String::as_str));
    let listed = git::run(&workspace.root, &arguments.collect::<Vec<_>>()).unwrap_or_default();
    let tracked = git::paths(&listed);
    let problems = tracked
        .map(|path| {
            Problem::of_file(
                path.to_string_lossy(),
                "is tracked by git in a folder that every build empties: move it, or 'git rm --cached' it",
            )
        })
        .collect();
    Problems::check(problems)
}

/// Removes the temporary folders that were `found`; all that cannot be removed is
/// reported.
pub fn clean(workspace: &Workspace, found: &[&Component]) -> Result<(), Problems> {
    let problems = found.iter().flat_map(|it| clean_one(&workspace.root, it));
    Problems::check(problems.collect())
}

/// Removes the temporary folders of a component; gives what cannot be removed.
pub fn clean_one(root: &Path, component: &Component) -> Vec<Problem> {
    let clean = |folder: &str| {
        let path = format!("{}/{folder}", component.dir());
        let error = remove(&root.join(&path)).err()?;
        let message = format!("cannot be removed: {error}. Remove it by hand");
        Some(Problem::of_file(path, message))
    };
    TEMPORARY.iter().filter_map(|folder| clean(folder)).collect()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
}

/// Copies what a component needs to where its hooks look for it.
pub fn copy_parts(parts: &[Part], to: &Path) -> io::Result<()> {
    for part in parts {
        let copies = part.entries().map(|entry| (entry, part.source(entry), part.path(entry)));
        copy(copies, to)?;
    }
    Ok(())
}

fn make(target: &Path, kind: FileType, mode: u32, number: u64) -> io::Result<()> {
    let mode = Mode::from_raw_mode(mode);
    mknodat(CWD, target, kind, mode, number).map_err(io::Error::from)
}

fn copy<'a>(
    entries: impl Iterator<Item = (&'a Entry, PathBuf, PathBuf)>,
    to: &Path,
) -> io::Result<()> {
    let mut folders: Vec<(PathBuf, fs::Metadata)> = Vec::new();
    for (entry, source, path) in entries {
        let target = to.join(path);
        match entry.kind {
            Kind::Folder => {
                fs::create_dir_all(&target)?;
                // The folder may be a link.
                folders.push((target, fs::metadata(&source)?));
            }
            Kind::Link => symlink(fs::read_link(&source)?, &target)?,
            Kind::File => {
                fs::copy(&source, &target)?;
                // A file that its owner may not write keeps its mode, and its time all the same.
                let times = fs::FileTimes::new().set_modified(fs::metadata(&source)?.modified()?);
                fs::File::open(&target)?.set_times(times)?;
            }
            Kind::Fifo => make(&target, FileType::Fifo, entry.mode, 0)?,
            Kind::Characters(number) => {
                make(&target, FileType::CharacterDevice, entry.mode, number)?;
            }
            Kind::Blocks(number) => make(&target, FileType::BlockDevice, entry.mode, number)?,
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
