//! What hooks left in their components, on disk: the record, and where it is put aside
//! while they run again.
//!
//! `target/xtask/outputs/COMPONENT` is the record. What is put aside lies in
//! `target/xtask/aside/COMPONENT/` until the hooks ran, and what they did not make again in
//! `target/xtask/removed/COMPONENT/` until they run once more: nothing is lost that was
//! the user's after all. A build that was killed leaves things aside; the next one puts
//! them back first. It is recorded, too, when hooks begin, so that what was left by some
//! that failed or were killed is known.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xtask_core::context::build_context::{Context, ContextEntry};
use xtask_core::context::hook_outputs::HookOutputs;
use xtask_core::context::tree::Kind;
use xtask_core::context::tree_cache::TreeCache;
use xtask_core::regular_file::naming;
use xtask_core::workspace::components::{Component, Workspace};

use crate::system::state::{self, DIR};

/// So often a build whose hook runs gives a sign of life.
const SIGN: Duration = Duration::from_millis(200);

/// What is recorded of the hooks of a component.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Record {
    /// What they left when they came to their end last.
    pub outputs: HookOutputs,
    /// What was in the component's folder before they ran, as long as they have not come to
    /// their end: whatever else is there may be theirs.
    #[serde(serialize_with = "write_paths", deserialize_with = "read_paths")]
    pub before: Option<BTreeSet<PathBuf>>,
}

/// Paths need not be UTF-8.
#[expect(clippy::ref_option, reason = "serde gives it so")]
fn write_paths<S: Serializer>(
    paths: &Option<BTreeSet<PathBuf>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let bytes = |paths: &BTreeSet<PathBuf>| -> Vec<Vec<u8>> {
        paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect()
    };
    paths.as_ref().map(bytes).serialize(serializer)
}

fn read_paths<'d, D: Deserializer<'d>>(
    deserializer: D,
) -> Result<Option<BTreeSet<PathBuf>>, D::Error> {
    let paths = Option::<Vec<Vec<u8>>>::deserialize(deserializer)?;
    let path = |bytes| PathBuf::from(OsString::from_vec(bytes));
    Ok(paths.map(|paths| paths.into_iter().map(path).collect()))
}

/// What is recorded of the hooks of a component.
pub fn read(root: &Path, component: &str) -> Record {
    state::read(&place(root, "outputs", component)).unwrap_or_default()
}

/// Records it.
pub fn write(root: &Path, component: &str, record: &Record) -> io::Result<()> {
    state::write(&place(root, "outputs", component), record)
}

/// Gives signs of life while a component's hook runs, for the next build in case this one
/// is killed. Never ends.
pub async fn give_signs(root: &Path, component: &str) -> Infallible {
    let record = place(root, "outputs", component);
    loop {
        tokio::time::sleep(SIGN).await;
        let record = File::options().append(true).open(&record);
        // Without it less is known of what a killed hook left.
        drop(record.and_then(|record| record.set_modified(SystemTime::now())));
    }
}

/// A little after the last sign of life of the build that wrote a component's record.
pub fn last_sign(root: &Path, component: &str) -> SystemTime {
    let record = fs::metadata(place(root, "outputs", component));
    record.and_then(|it| it.modified()).map_or(UNIX_EPOCH, |last| last + SIGN * 5)
}

/// Tells `trees` what hooks left in the components of a workspace.
pub fn load(workspace: &Workspace, trees: &TreeCache) {
    let hooked = workspace.components.iter().filter(|component| component.has_hooks());
    for component in hooked {
        trees.set_outputs(&component.dir(), read(&workspace.root, &component.name).outputs);
    }
}

fn place(root: &Path, what: &str, component: &str) -> PathBuf {
    root.join(DIR).join(what).join(component)
}

/// Puts aside what hooks left in a component's folder, of which `found` is what is in it
/// now. What changed since is not theirs any more.
///
/// # Errors
/// Something cannot be moved; what was is back.
pub fn put_aside(
    root: &Path,
    component: &Component,
    found: &Context,
    outputs: &HookOutputs,
) -> io::Result<()> {
    let aside = place(root, "aside", &component.name);
    if aside.symlink_metadata().is_ok() {
        // It could not be put back, and may be the user's.
        return Err(naming(&aside)(io::Error::from(ErrorKind::AlreadyExists)));
    }
    let moved = move_aside(&root.join(component.dir()), &aside, found, outputs);
    if moved.is_err() {
        put_back(root, component, |_| true)?;
    }
    moved
}

fn move_aside(
    folder: &Path,
    aside: &Path,
    found: &Context,
    outputs: &HookOutputs,
) -> io::Result<()> {
    let is_whole = |item: &ContextEntry<'_>| outputs.has(&item.entry.path, &item.value());
    let whole: Vec<ContextEntry<'_>> = found.items().filter(is_whole).collect();
    // What is in a folder goes before the folder.
    for entry in whole.iter().rev().map(|item| item.entry) {
        let (from, to) = (folder.join(&entry.path), aside.join(&entry.path));
        let moved = if entry.kind == Kind::Folder {
            fs::create_dir_all(&to)
                .and_then(|()| fs::metadata(&from))
                .and_then(|found| fs::set_permissions(&to, found.permissions()))
                .and_then(|()| fs::remove_dir(&from))
        } else {
            fs::create_dir_all(to.parent().unwrap_or(aside)).and_then(|()| rename(&from, &to))
        };
        match moved.map_err(naming(&from)) {
            // Something else was put into a folder of theirs.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            moved => moved?,
        }
    }
    Ok(())
}

/// Moves a file or link, to another file system if need be: `target` may be a link.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {}
        renamed => return renamed,
    }
    let metadata = from.symlink_metadata()?;
    if metadata.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else if metadata.is_file() {
        fs::copy(from, to)?;
        let times = fs::FileTimes::new().set_modified(metadata.modified()?);
        File::open(to)?.set_times(times)?;
    } else {
        return Err(ErrorKind::CrossesDevices.into());
    }
    fs::remove_file(from)
}

/// Puts back what was put aside, is not there again, and `is_wanted`; the rest is kept for
/// one more run. Gives the files that are back, or nothing if nothing was aside.
pub fn put_back(
    root: &Path,
    component: &Component,
    is_wanted: impl Fn(&Path) -> bool,
) -> io::Result<Option<Vec<PathBuf>>> {
    let mut back = Vec::new();
    let aside = place(root, "aside", &component.name);
    let folder = root.join(component.dir());
    let mut open = vec![PathBuf::new()];
    let mut folders = Vec::new();
    while let Some(at) = open.pop() {
        let entries = match fs::read_dir(aside.join(&at)) {
            // Where this user may not look, nothing was put aside either.
            Err(_) if folders.is_empty() => return Ok(None),
            entries => entries?,
        };
        folders.push(at.clone());
        for entry in entries {
            let entry = entry?;
            let path = at.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                open.push(path);
            } else if is_wanted(&path) && is_free(&folder, &path) {
                let to = folder.join(&path);
                fs::create_dir_all(to.parent().unwrap_or(&folder))?;
                rename(&entry.path(), &to)?;
                back.push(path);
            }
        }
    }
    let is_free = |at: &Path| is_free(&folder, at) || folder.join(at).is_dir();
    for at in folders.iter().filter(|at| !at.as_os_str().is_empty()) {
        if !is_wanted(at) || !is_free(at) {
            continue;
        }
        fs::create_dir_all(folder.join(at))?;
        fs::set_permissions(folder.join(at), fs::metadata(aside.join(at))?.permissions())?;
    }
    let removed = place(root, "removed", &component.name);
    remove(&removed)?;
    fs::create_dir_all(removed.parent().unwrap_or(root))?;
    fs::rename(aside, removed).map(|()| Some(back))
}

/// Whether nothing is at a path of a folder, nor anything but folders above it.
fn is_free(folder: &Path, path: &Path) -> bool {
    // Below a file the error is another one.
    let is_there = |at: &Path| folder.join(at).symlink_metadata();
    let mut there = path.ancestors().map(is_there).skip_while(|at| {
        at.as_ref().is_err_and(|error| {
            matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        })
    });
    is_there(path).is_err() && there.next().is_some_and(|at| at.is_ok_and(|it| it.is_dir()))
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
