//! Files that hooks left in their components: the record of them, and where they are moved while
//! hooks run again.
//!
//! The record is `target/xtask/outputs/COMPONENT`. The files are in `target/xtask/aside/COMPONENT/`
//! while hooks run. Those that the hooks did not make again stay in
//! `target/xtask/removed/COMPONENT/` until the next run, so that a file of the user among them is
//! not lost. A killed build leaves files aside, and the next one puts them back first. The start of
//! a run is recorded too, so that files of failed or killed hooks are known.

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
use tracing::debug;
use xtask_core::context::build_context::{Context, ContextEntry};
use xtask_core::context::hook_outputs::HookOutputs;
use xtask_core::context::tree::Kind;
use xtask_core::context::tree_cache::TreeCache;
use xtask_core::paths::SRC;
use xtask_core::regular_file::with_path;
use xtask_core::workspace::components::{Component, Workspace};

use crate::system::removal::remove;
use crate::system::state::{self, DIR};

/// The interval at which a build updates the time of the record while a hook runs.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// The record of a component's hooks.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Record {
    /// The files that they left when they last completed.
    pub(crate) outputs: HookOutputs,
    /// The paths in the component's folder before a run that has not completed: all others may be
    /// outputs.
    #[serde(serialize_with = "write_paths", deserialize_with = "read_paths")]
    pub(crate) before: Option<BTreeSet<PathBuf>>,
}

/// Writes paths as bytes, as they need not be UTF-8.
#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
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

/// Reads a component's record; an empty one if there is none.
pub(crate) fn read(root: &Path, component: &Component) -> Record {
    state::read(&state_path(root, "outputs", component)).unwrap_or_default()
}

/// Writes a component's record.
pub(crate) fn write(root: &Path, component: &Component, record: &Record) -> io::Result<()> {
    state::write(&state_path(root, "outputs", component), record)
}

/// Updates the time of a component's record while its hook runs, so that the next build knows when
/// this one was killed. Never completes.
pub(crate) async fn heartbeat(root: &Path, component: &Component) -> Infallible {
    let record = state_path(root, "outputs", component);
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        let record = File::options().append(true).open(&record);
        // Without it, fewer outputs of a killed hook are recognized.
        drop(record.and_then(|record| record.set_modified(SystemTime::now())));
    }
}

/// A time shortly after the last heartbeat of the build that wrote a component's record.
pub(crate) fn last_heartbeat(root: &Path, component: &Component) -> SystemTime {
    let record = fs::metadata(state_path(root, "outputs", component));
    record.and_then(|it| it.modified()).map_or(UNIX_EPOCH, |last| last + HEARTBEAT * 5)
}

/// Adds the recorded outputs of a workspace's components to `trees`.
pub(crate) fn load(workspace: &Workspace, trees: &TreeCache) {
    let with_hooks = workspace.components.iter().filter(|component| component.has_hooks());
    for component in with_hooks {
        trees.set_outputs(&component.dir, read(&workspace.root, component).outputs);
    }
}

/// A component's state, by its folder: its name changes when another component gets the same.
fn state_path(root: &Path, kind: &str, component: &Component) -> PathBuf {
    let dir = Path::new(&component.dir).strip_prefix(SRC).unwrap_or(Path::new(&component.dir));
    // One can be the beginning of another one, and the root's is empty.
    let name = dir.to_string_lossy().replace('%', "%25").replace('/', "%2f");
    root.join(DIR).join(kind).join(if name.is_empty() { "%2e" } else { &name })
}

/// Moves the files that hooks left out of a component's folder, whose contents are `found`. A file
/// that changed since no longer counts as an output.
///
/// # Errors
/// A file cannot be moved; those that were moved are back.
pub(crate) fn put_aside(
    root: &Path,
    component: &Component,
    found: &Context,
    outputs: &HookOutputs,
) -> io::Result<()> {
    let aside = state_path(root, "aside", component);
    if aside.symlink_metadata().is_ok() {
        // An earlier build could not put its files back, and they may be the user's.
        return Err(with_path(&aside)(io::Error::from(ErrorKind::AlreadyExists)));
    }
    let moved = move_aside(&root.join(component.dir.clone()), &aside, found, outputs);
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
    let is_whole = |item: &ContextEntry<'_>| outputs.matches(&item.entry.path, &item.value());
    let whole: Vec<ContextEntry<'_>> = found.items().filter(is_whole).collect();
    // The contents of a folder before the folder.
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
        match moved.map_err(with_path(&from)) {
            // The folder contains a file that is not an output.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            moved => {
                moved?;
                debug!(path = %from.display(), "set aside");
            }
        }
    }
    Ok(())
}

/// Moves a file or link, also to another file system: `target` may be a link.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {}
        renamed => return renamed,
    }
    let metadata = from.symlink_metadata()?;
    if metadata.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else if metadata.is_file() {
        // Never half of it, as on a full disk: the other half would be lost with `from`.
        let mut unfinished = to.to_owned().into_os_string();
        unfinished.push(".xtask-new");
        let times = fs::FileTimes::new().set_modified(metadata.modified()?);
        let copied = fs::copy(from, &unfinished)
            .and_then(|_| File::open(&unfinished)?.set_times(times))
            .and_then(|()| fs::rename(&unfinished, to));
        if copied.is_err() {
            drop(fs::remove_file(&unfinished));
        }
        copied?;
    } else {
        return Err(ErrorKind::CrossesDevices.into());
    }
    fs::remove_file(from)
}

/// Puts back the files that are aside, were not made again, and are wanted by `is_wanted`; keeps
/// the others until the next run. Returns the files and empty folders that are back, or none if
/// none were aside.
pub(crate) fn put_back(
    root: &Path,
    component: &Component,
    is_wanted: impl Fn(&Path) -> bool,
) -> io::Result<Option<Vec<PathBuf>>> {
    let mut back = Vec::new();
    let aside = state_path(root, "aside", component);
    let folder = root.join(component.dir.clone());
    let mut open = vec![PathBuf::new()];
    let mut folders = Vec::new();
    while let Some(at) = open.pop() {
        let entries = match fs::read_dir(aside.join(&at)) {
            // Nothing was moved to a folder that this user cannot read.
            Err(_) if folders.is_empty() => return Ok(None),
            entries => entries?,
        };
        folders.push((at.clone(), folder.join(&at).is_dir()));
        for entry in entries {
            let entry = entry?;
            let path = at.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                open.push(path);
            } else if is_wanted(&path) && is_free(&folder, &path) {
                let to = folder.join(&path);
                fs::create_dir_all(to.parent().unwrap_or(&folder))?;
                rename(&entry.path(), &to)?;
                debug!(path = %to.display(), "put back");
                back.push(path);
            } else {
                debug!(path = %folder.join(path).display(), "not put back");
            }
        }
    }
    let is_free = |at: &Path| is_free(&folder, at) || folder.join(at).is_dir();
    for (at, is_theirs) in &folders {
        if *is_theirs || !is_wanted(at) || !is_free(at) {
            continue;
        }
        let to = folder.join(at);
        if !to.is_dir() {
            fs::create_dir_all(&to)?;
            debug!(path = %to.display(), "put back");
            back.push(at.clone());
        }
        fs::set_permissions(&to, fs::metadata(aside.join(at))?.permissions())?;
    }
    let removed = state_path(root, "removed", component);
    remove(&removed)?;
    fs::create_dir_all(removed.parent().unwrap_or(root))?;
    fs::rename(aside, removed).map(|()| Some(back))
}

/// Whether a path in a folder does not exist, and only folders are above it.
fn is_free(folder: &Path, path: &Path) -> bool {
    // Below a file the error is `NotADirectory`.
    let is_there = |at: &Path| folder.join(at).symlink_metadata();
    let mut there = path.ancestors().map(is_there).skip_while(|at| {
        at.as_ref().is_err_and(|error| {
            matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        })
    });
    is_there(path).is_err() && there.next().is_some_and(|at| at.is_ok_and(|it| it.is_dir()))
}
