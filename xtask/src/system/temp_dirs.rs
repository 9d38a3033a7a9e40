//! The folders of a component that exist only during a round: `dependency/`, which the tool
//! fills, and `generated/`, which the component's hooks fill.
//!
//! Only what a round made is removed. So a round records, under `target/xtask/`, for which
//! components it makes these folders, before it does. A component's record is removed with its
//! folders: after a killed round, by the next one. A folder, file or link of that name that is not
//! on record was made by the user or another program: then the command fails and names it. Files
//! that git tracks are treated the same way, on record or not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use xtask_core::context::build_context::ContextPart;
use xtask_core::context::tree::{Entry, Kind, Tree};
use xtask_core::ids::ComponentId;
use xtask_core::paths::{self, TEMPORARY};
use xtask_core::problem::{Problem, Problems};
use xtask_core::workspace::components::{Component, Workspace};

use crate::system::git::Repository;
use crate::system::removal::remove;
use crate::system::state::{self, DIR};

/// The number of files of a folder that an error names.
const MAX_NAMED: usize = 3;

/// The components whose temporary folders exist or may exist.
#[derive(Debug)]
pub(crate) struct TempDirs {
    root: PathBuf,
    /// The components' folders, relative to the root.
    made: BTreeSet<String>,
    /// The same of a killed round. Its hooks may still run, and make the folders again before this
    /// round's hooks start.
    left: BTreeSet<String>,
    is_saved: bool,
}

impl TempDirs {
    /// Reads the record of the workspace at `root`.
    pub(crate) fn read(root: &Path) -> Self {
        let made = state::read(&Self::file(root)).unwrap_or_default();
        Self { root: root.to_owned(), made, left: BTreeSet::new(), is_saved: true }
    }

    fn file(root: &Path) -> PathBuf {
        root.join(DIR).join("temporary")
    }

    /// Writes the record, or removes it if that fails: by the next round the folders that an old
    /// record names may be gone, and the user may have made others in their place.
    pub(crate) fn save(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.is_saved, true) {
            return Ok(());
        }
        let file = Self::file(&self.root);
        let written = state::write(&file, &self.made);
        if written.is_err() {
            drop(fs::remove_file(file));
        }
        written
    }

    /// The root of the workspace.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The components' folders that are on record, relative to the root.
    pub(crate) fn made(&self) -> &BTreeSet<String> {
        &self.made
    }

    /// Fails on temporary folders that are not on record, of the components of a round, and on
    /// tracked files in any folder that the round would remove.
    pub(crate) fn check(
        &self,
        workspace: &Workspace,
        taking_part: &BTreeSet<ComponentId>,
    ) -> Result<(), Problems> {
        let taking_part = taking_part.iter().map(|id| workspace.components[*id].dir.clone());
        self.check_all(&taking_part.chain(self.made.iter().cloned()).collect())
    }

    /// Fails on tracked files in the folders that are on record.
    pub(crate) fn check_made(&self) -> Result<(), Problems> {
        self.check_all(&self.made)
    }

    fn check_all(&self, dirs: &BTreeSet<String>) -> Result<(), Problems> {
        let found: Vec<Existing> = dirs.par_iter().flat_map_iter(|dir| self.find(dir)).collect();
        let (tracked, mut problems) = self.tracked(&found);
        for folder in found {
            let none = BTreeSet::new();
            let tracked = tracked.get(&folder).unwrap_or(&none);
            problems.extend(tracked.iter().map(|file| {
                let path = Path::new(&folder.path()).join(file);
                // Joined with an empty path, it ends in a slash.
                let path = path.to_string_lossy().trim_end_matches('/').to_owned();
                Problem::of_file(
                    path,
                    "is tracked by git in a folder that every build removes: move it, or run \
                     'git rm --cached' on it",
                )
            }));
            if !self.made.contains(&folder.dir) {
                problems.extend(self.foreign(&folder, tracked));
            }
        }
        Problems::check(problems)
    }

    /// Removes the folders of a killed round, and returns the folders of their components.
    pub(crate) fn remove_leftovers(&mut self) -> Result<BTreeSet<String>, Problems> {
        let left = self.made.clone();
        self.remove_all()?;
        self.left.clone_from(&left);
        Ok(left)
    }

    /// Moves the folders of a killed round aside, where they are kept until the next time: the user
    /// may have put files there since, or made others in their place. Returns a warning for each.
    pub(crate) fn keep_leftovers(&self) -> Vec<Problem> {
        let left = self.made.iter().flat_map(|dir| self.find(dir));
        let moved = left.filter_map(|folder| {
            let to = Path::new(DIR).join("removed").join(&folder.dir).join(folder.name);
            let full = self.root.join(&to);
            let parent = full.parent()?;
            // A folder that cannot be moved is removed with the others.
            remove(&full).and_then(|()| fs::create_dir_all(parent)).ok()?;
            fs::rename(self.root.join(folder.path()), &full).ok()?;
            let message = format!(
                "was left by a killed build: it was moved to {}, and is kept there until this happens \
                 again",
                to.display()
            );
            Some(Problem::of_file(folder.path(), message))
        });
        moved.collect()
    }

    /// Records a component whose step is going to make temporary folders.
    pub(crate) fn register(&mut self, component: &Component) -> Result<(), Problem> {
        let dir = component.dir.clone();
        if self.made.contains(&dir) {
            return Ok(());
        }
        let problem = if self.left.contains(&dir) {
            self.remove_existing(&dir).into_iter().next()
        } else {
            // The user may have made one since the round started.
            self.find(&dir).iter().find_map(|it| self.foreign(it, &BTreeSet::new()))
        };
        if let Some(problem) = problem {
            return Err(problem);
        }
        self.made.insert(dir);
        self.is_saved = false;
        Ok(())
    }

    /// Removes the temporary folders of a component, if they are on record. Returns those that
    /// cannot be removed, which stay on record.
    pub(crate) fn remove(&mut self, dir: &str) -> Vec<Problem> {
        if !self.made.contains(dir) {
            return Vec::new();
        }
        let problems = self.remove_existing(dir);
        if problems.is_empty() {
            self.made.remove(dir);
            self.is_saved = false;
        }
        problems
    }

    /// Removes all temporary folders on record.
    pub(crate) fn remove_all(&mut self) -> Result<(), Problems> {
        let dirs = self.made.clone();
        Problems::check(dirs.iter().flat_map(|dir| self.remove(dir)).collect())
    }

    fn remove_existing(&self, dir: &str) -> Vec<Problem> {
        let remove = |folder: Existing| {
            let error = remove(&self.root.join(folder.path())).err()?;
            let message = format!("cannot be removed: {error}. Remove it manually");
            Some(Problem::of_file(folder.path(), message))
        };
        self.find(dir).into_iter().filter_map(remove).collect()
    }

    /// What exists in place of a component's temporary folders.
    fn find(&self, dir: &str) -> Vec<Existing> {
        let folders = TEMPORARY.map(|name| Existing { dir: dir.to_owned(), name });
        let is_there = |it: &Existing| self.root.join(it.path()).symlink_metadata().is_ok();
        folders.into_iter().filter(is_there).collect()
    }

    /// The tracked files, relative to each folder, and the errors of git. A component can be in a
    /// repository of its own.
    fn tracked(
        &self,
        existing: &[Existing],
    ) -> (BTreeMap<Existing, BTreeSet<PathBuf>>, Vec<Problem>) {
        let mut repositories: BTreeMap<Repository, BTreeMap<PathBuf, &Existing>> = BTreeMap::new();
        for folder in existing {
            let dir = self.root.join(&folder.dir);
            let dir = dir.canonicalize().unwrap_or(dir);
            if let Some(repository) = Repository::of(&dir)
                && let Ok(inside) = dir.strip_prefix(&repository.top)
            {
                let path = inside.join(folder.name);
                repositories.entry(repository).or_default().insert(path, folder);
            }
        }
        let mut tracked: BTreeMap<Existing, BTreeSet<PathBuf>> = BTreeMap::new();
        let mut problems = Vec::new();
        for (repository, folders) in repositories {
            let paths: Vec<PathBuf> = folders.keys().cloned().collect();
            match repository.tracked(&paths) {
                Ok(files) => {
                    for file in files {
                        let at = file.ancestors().find_map(|at| Some((at, folders.get(at)?)));
                        if let Some((at, folder)) = at
                            && let Ok(inside) = file.strip_prefix(at)
                        {
                            let files = tracked.entry((*folder).clone()).or_default();
                            files.insert(inside.to_owned());
                        }
                    }
                }
                Err(error) => {
                    let paths: Vec<String> = folders.values().map(|it| it.path()).collect();
                    problems.push(Problem::of_request(format!(
                        "{}: cannot determine whether git tracks files there: {error}",
                        paths.join(", ")
                    )));
                }
            }
        }
        (tracked, problems)
    }

    /// The error for something that is not on record, besides its tracked files.
    fn foreign(&self, folder: &Existing, tracked: &BTreeSet<PathBuf>) -> Option<Problem> {
        let path = self.root.join(folder.path());
        let metadata = path.symlink_metadata().ok()?;
        let files = if metadata.is_dir() { files_below(&path) } else { Vec::new() };
        let files: Vec<&PathBuf> = files.iter().filter(|file| !tracked.contains(*file)).collect();
        if files.is_empty() && !tracked.is_empty() {
            return None;
        }
        let what = if metadata.is_symlink() {
            "is a symbolic link that no build created".to_owned()
        } else if !metadata.is_dir() {
            "is a file that no build created".to_owned()
        } else if files.is_empty() {
            "is a folder that no build created".to_owned()
        } else {
            let named = files.iter().take(MAX_NAMED).map(|file| file.display().to_string());
            let mut named: Vec<String> = named.collect();
            if files.len() > MAX_NAMED {
                named.push("…".to_owned());
            }
            let noun = if files.len() == 1 { "file" } else { "files" };
            format!("contains {} {noun} that no build created ({})", files.len(), named.join(", "))
        };
        let message = format!(
            "{what}: builds create a folder of this name and remove it afterwards. Move it elsewhere, \
             or remove it"
        );
        Some(Problem::of_file(folder.path(), message))
    }
}

/// A temporary folder, or something in its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Existing {
    /// The component's folder, relative to the root.
    dir: String,
    name: &'static str,
}

impl Existing {
    /// Relative to the root.
    fn path(&self) -> String {
        paths::join(&self.dir, self.name)
    }
}

/// All files in a folder, as far as they can be listed.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(tree) = Tree::read(folder, &[]) else { return Vec::new() };
    let files = tree.entries().iter().filter(|entry| entry.kind != Kind::Folder);
    files.map(|entry| entry.path.clone()).collect()
}

/// Copies a component's dependencies to where its hooks read them.
pub(crate) fn copy_parts(parts: &[ContextPart], to: &Path) -> io::Result<()> {
    let mut folders: Vec<(PathBuf, fs::Metadata)> = Vec::new();
    for part in parts {
        let copies = part.entries().map(|entry| (entry, part.source_path(entry), part.path(entry)));
        copy(copies, to, &mut folders)?;
    }
    // Last, and subfolders first: a folder may be read-only.
    for (target, metadata) in folders.into_iter().rev() {
        let times = fs::FileTimes::new().set_modified(metadata.modified()?);
        fs::File::open(&target)?.set_times(times)?;
        fs::set_permissions(&target, metadata.permissions())?;
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
    folders: &mut Vec<(PathBuf, fs::Metadata)>,
) -> io::Result<()> {
    for (entry, source, path) in entries {
        let target = to.join(path);
        match entry.kind {
            Kind::Folder => {
                fs::create_dir_all(&target)?;
                // The metadata of the folder itself: `source` may be a link to it.
                folders.push((target, fs::metadata(&source)?));
            }
            Kind::Link => symlink(fs::read_link(&source)?, &target)?,
            Kind::File => {
                fs::copy(&source, &target)?;
                // Not opened for writing: the copy may be read-only.
                let times = fs::FileTimes::new().set_modified(fs::metadata(&source)?.modified()?);
                fs::File::open(&target)?.set_times(times)?;
            }
            Kind::Fifo => make(&target, FileType::Fifo, entry.mode, 0)?,
            Kind::CharDevice(number) => {
                make(&target, FileType::CharacterDevice, entry.mode, number)?;
            }
            Kind::BlockDevice(number) => make(&target, FileType::BlockDevice, entry.mode, number)?,
        }
    }
    Ok(())
}
