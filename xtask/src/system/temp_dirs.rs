//! The two folders of a component that exist during a round only: `dependency/`,
//! which we fill, and `generated/`, which its hooks fill.
//!
//! Only what a round made is removed. So it is recorded, under `target/xtask/`, for which
//! components a round makes these folders, before it does; the record of a component goes
//! when its folders are removed, be it by the next round where this one was killed. A
//! folder, file or link of that name that is not on record was made by the user or another
//! program: then nothing is done at all, and it is named. So are files that git tracks, on
//! record or not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use xtask_core::context::build_context::ContextPart;
use xtask_core::context::tree::{Entry, Kind, Tree};
use xtask_core::paths::GENERATED;
use xtask_core::paths::TEMPORARY;
use xtask_core::problem::{Problem, Problems};
use xtask_core::workspace::components::{Component, Workspace};

use crate::system::git::Repository;
use crate::system::state::{self, DIR};

/// So many files of a folder are named.
const NAMED: usize = 3;

/// For which components a round made temporary folders that are not removed yet.
#[derive(Debug)]
pub struct TempDirs {
    root: PathBuf,
    /// The components' folders, relative to the root.
    made: BTreeSet<String>,
    /// The same, of an earlier round that was killed. Its hooks may live on for a moment
    /// and make them again before this round's begin.
    left: BTreeSet<String>,
    is_saved: bool,
}

impl TempDirs {
    /// Reads the record of the workspace at `root`.
    pub fn read(root: &Path) -> Self {
        let made = state::read(&Self::file(root)).unwrap_or_default();
        Self { root: root.to_owned(), made, left: BTreeSet::new(), is_saved: true }
    }

    fn file(root: &Path) -> PathBuf {
        root.join(DIR).join("temporary")
    }

    /// Writes the record. If that fails none is left: what it names may be gone by the next
    /// round, and the user may have made folders in the same places.
    pub fn save(&mut self) -> io::Result<()> {
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

    /// The components' folders that are on record, relative to the root.
    pub fn made(&self) -> &BTreeSet<String> {
        &self.made
    }

    /// Refuses temporary folders that are not on record, of the components that take part
    /// in a round, and files that git tracks in any that a round would remove.
    pub fn check(
        &self,
        workspace: &Workspace,
        taking_part: &BTreeSet<usize>,
    ) -> Result<(), Problems> {
        let taking_part = taking_part.iter().map(|place| workspace.components[*place].dir());
        let dirs: BTreeSet<String> = taking_part.chain(self.made.iter().cloned()).collect();
        let found: Vec<Found> = dirs.par_iter().flat_map_iter(|dir| self.find(dir)).collect();
        let (tracked, mut problems) = self.tracked(&found);
        for folder in found {
            let none = BTreeSet::new();
            let tracked = tracked.get(&folder).unwrap_or(&none);
            problems.extend(tracked.iter().map(|file| {
                let path = Path::new(&folder.path()).join(file);
                // Joined with nothing, a path ends in a slash.
                let path = path.to_string_lossy().trim_end_matches('/').to_owned();
                Problem::of_file(
                    path,
                    "is tracked by git in a folder that every build empties: move it, or \
                     'git rm --cached' it",
                )
            }));
            if !self.made.contains(&folder.dir) {
                problems.extend(self.foreign(&folder, tracked));
            }
        }
        Problems::check(problems)
    }

    /// Removes what an earlier round left behind, before a new one begins. Gives the
    /// components' folders that it was in.
    pub fn remove_leftovers(&mut self) -> Result<BTreeSet<String>, Problems> {
        let left = self.made.clone();
        self.remove_all()?;
        self.left.clone_from(&left);
        Ok(left)
    }

    /// Moves what a killed round left in `generated/` to where it is kept until the next one
    /// that is killed: since then somebody may have put files there. Gives what was moved.
    pub fn keep_leftovers(&self) -> Vec<Problem> {
        let left = self.made.iter().flat_map(|dir| self.find(dir));
        let moved = left.filter(|folder| folder.name == GENERATED).filter_map(|folder| {
            let to = Path::new(DIR).join("removed").join(&folder.dir).join(GENERATED);
            let full = self.root.join(&to);
            let parent = full.parent()?;
            // Where it cannot be kept, it is removed with the rest.
            remove(&full).and_then(|()| fs::create_dir_all(parent)).ok()?;
            fs::rename(self.root.join(folder.path()), &full).ok()?;
            let message = format!(
                "was left by a build that was killed: it is in {} until that happens again",
                to.display()
            );
            Some(Problem::of_file(folder.path(), message))
        });
        moved.collect()
    }

    /// Puts a component on record, whose step makes temporary folders from now on.
    pub fn begin(&mut self, component: &Component) -> Result<(), Problem> {
        let dir = component.dir();
        if self.made.contains(&dir) {
            return Ok(());
        }
        let problem = if self.left.contains(&dir) {
            self.remove_found(&dir).into_iter().next()
        } else {
            // Made since the round began.
            self.find(&dir).iter().find_map(|it| self.foreign(it, &BTreeSet::new()))
        };
        if let Some(problem) = problem {
            return Err(problem);
        }
        self.made.insert(dir);
        self.is_saved = false;
        Ok(())
    }

    /// Removes the temporary folders of a component, if they are on record; gives what
    /// cannot be removed, and stays on record.
    pub fn remove(&mut self, dir: &str) -> Vec<Problem> {
        if !self.made.contains(dir) {
            return Vec::new();
        }
        let problems = self.remove_found(dir);
        if problems.is_empty() {
            self.made.remove(dir);
            self.is_saved = false;
        }
        problems
    }

    /// The same for all components.
    pub fn remove_all(&mut self) -> Result<(), Problems> {
        let dirs = self.made.clone();
        Problems::check(dirs.iter().flat_map(|dir| self.remove(dir)).collect())
    }

    fn remove_found(&self, dir: &str) -> Vec<Problem> {
        let remove = |folder: Found| {
            let error = remove(&self.root.join(folder.path())).err()?;
            let message = format!("cannot be removed: {error}. Remove it by hand");
            Some(Problem::of_file(folder.path(), message))
        };
        self.find(dir).into_iter().filter_map(remove).collect()
    }

    /// What is in the place of temporary folders.
    fn find(&self, dir: &str) -> Vec<Found> {
        let folders = TEMPORARY.map(|name| Found { dir: dir.to_owned(), name });
        let is_there = |it: &Found| self.root.join(it.path()).symlink_metadata().is_ok();
        folders.into_iter().filter(is_there).collect()
    }

    /// The files that git tracks, relative to each folder, and where git does not answer. A
    /// component may lie in a repository of its own.
    fn tracked(&self, found: &[Found]) -> (BTreeMap<Found, BTreeSet<PathBuf>>, Vec<Problem>) {
        let mut repositories: BTreeMap<Repository, BTreeMap<PathBuf, &Found>> = BTreeMap::new();
        for folder in found {
            let dir = self.root.join(&folder.dir);
            let dir = dir.canonicalize().unwrap_or(dir);
            if let Some(repository) = Repository::of(&dir)
                && let Ok(inside) = dir.strip_prefix(&repository.top)
            {
                let path = inside.join(folder.name);
                repositories.entry(repository).or_default().insert(path, folder);
            }
        }
        let mut tracked: BTreeMap<Found, BTreeSet<PathBuf>> = BTreeMap::new();
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
                        "{}: whether git tracks files there is not known: {error}",
                        paths.join(", ")
                    )));
                }
            }
        }
        (tracked, problems)
    }

    /// Why something that is not on record is in the way, besides what git tracks of it.
    fn foreign(&self, folder: &Found, tracked: &BTreeSet<PathBuf>) -> Option<Problem> {
        let path = self.root.join(folder.path());
        let metadata = path.symlink_metadata().ok()?;
        let files = if metadata.is_dir() { files_below(&path) } else { Vec::new() };
        let files: Vec<&PathBuf> = files.iter().filter(|file| !tracked.contains(*file)).collect();
        if files.is_empty() && !tracked.is_empty() {
            return None;
        }
        let what = if metadata.is_symlink() {
            "is a link that no build made".to_owned()
        } else if !metadata.is_dir() {
            "is a file that no build made".to_owned()
        } else if files.is_empty() {
            "is a folder that no build made".to_owned()
        } else {
            let named = files.iter().take(NAMED).map(|file| file.display().to_string());
            let mut named: Vec<String> = named.collect();
            if files.len() > NAMED {
                named.push("…".to_owned());
            }
            let noun = if files.len() == 1 { "file" } else { "files" };
            format!("holds {} {noun} that no build made ({})", files.len(), named.join(", "))
        };
        let message = format!(
            "{what}: builds make a folder of this name and remove it afterwards. Move it \
             elsewhere, or remove it"
        );
        Some(Problem::of_file(folder.path(), message))
    }
}

/// Something in the place of a temporary folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    /// The component's folder, relative to the root.
    dir: String,
    name: &'static str,
}

impl Found {
    /// Relative to the root.
    fn path(&self) -> String {
        format!("{}/{}", self.dir, self.name)
    }
}

/// All but folders, as far as they can be listed.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(tree) = Tree::read(folder, &[]) else { return Vec::new() };
    let files = tree.entries().iter().filter(|entry| entry.kind != Kind::Folder);
    files.map(|entry| entry.path.clone()).collect()
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
pub fn copy_parts(parts: &[ContextPart], to: &Path) -> io::Result<()> {
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
