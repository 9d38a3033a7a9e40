//! What hooks left in their components, on disk: the record, and where it is put aside
//! while they run again.
//!
//! `target/xtask/outputs/COMPONENT` is the record. What is put aside lies in
//! `target/xtask/aside/COMPONENT/` until the hooks ran, and what they did not make again in
//! `target/xtask/removed/COMPONENT/` until they run once more: nothing is lost that was
//! somebody's after all. A build that was killed leaves things aside; the next one puts
//! them back first.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::state::{self, DIR};
use crate::core::context::{Context, Item};
use crate::core::outputs::HookOutputs;
use crate::core::tree::{Kind, naming};
use crate::core::trees::Trees;
use crate::core::workspace::{Component, Workspace};

/// What the hooks of a component left.
pub fn read(root: &Path, component: &str) -> HookOutputs {
    state::read(&place(root, "outputs", component)).unwrap_or_default()
}

/// Remembers what the hooks of a component left.
pub fn write(root: &Path, component: &str, outputs: &HookOutputs) -> io::Result<()> {
    let path = place(root, "outputs", component);
    if outputs.is_empty() {
        return match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    state::write(&path, outputs)
}

/// Tells `trees` what hooks left in the components of a workspace.
pub fn load(workspace: &Workspace, trees: &Trees) {
    let hooked = workspace.components.iter().filter(|component| component.has_hooks());
    for component in hooked {
        trees.set_outputs(&component.dir(), read(&workspace.root, &component.name));
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
    remove(&aside)?;
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
    let is_whole = |item: &Item<'_>| outputs.has(&item.entry.path, &item.value());
    let whole: Vec<Item<'_>> = found.items().filter(is_whole).collect();
    // What is in a folder goes before the folder.
    for entry in whole.iter().rev().map(|item| item.entry) {
        let (from, to) = (folder.join(&entry.path), aside.join(&entry.path));
        let moved = if entry.kind == Kind::Folder {
            fs::create_dir_all(&to)
                .and_then(|()| fs::metadata(&from))
                .and_then(|found| fs::set_permissions(&to, found.permissions()))
                .and_then(|()| fs::remove_dir(&from))
        } else {
            fs::create_dir_all(to.parent().unwrap_or(aside)).and_then(|()| fs::rename(&from, &to))
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

/// Puts back what was put aside, is not there again, and `is_wanted`; the rest is kept for
/// one more run. False if nothing was aside.
pub fn put_back(
    root: &Path,
    component: &Component,
    is_wanted: impl Fn(&Path) -> bool,
) -> io::Result<bool> {
    let aside = place(root, "aside", &component.name);
    let folder = root.join(component.dir());
    let mut open = vec![PathBuf::new()];
    let mut folders = Vec::new();
    while let Some(at) = open.pop() {
        let entries = match fs::read_dir(aside.join(&at)) {
            // Where this user may not look, nothing was put aside either.
            Err(_) if folders.is_empty() => return Ok(false),
            entries => entries?,
        };
        folders.push(at.clone());
        for entry in entries {
            let entry = entry?;
            let path = at.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                open.push(path);
            } else if is_wanted(&path) && folder.join(&path).symlink_metadata().is_err() {
                let to = folder.join(&path);
                fs::create_dir_all(to.parent().unwrap_or(&folder))?;
                fs::rename(entry.path(), to)?;
            }
        }
    }
    for at in folders.iter().filter(|at| !at.as_os_str().is_empty() && is_wanted(at)) {
        fs::create_dir_all(folder.join(at))?;
        fs::set_permissions(folder.join(at), fs::metadata(aside.join(at))?.permissions())?;
    }
    let removed = place(root, "removed", &component.name);
    remove(&removed)?;
    fs::create_dir_all(removed.parent().unwrap_or(root))?;
    fs::rename(aside, removed).map(|()| true)
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
