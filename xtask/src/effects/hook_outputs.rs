//! The record of what hooks wrote into their components, and its removal before they run
//! again: `target/xtask/outputs/COMPONENT`.
//!
//! Only what is still as the hooks left it is removed, and only if git does not track it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::state::{self, DIR};
use crate::core::context::{Context, Item};
use crate::core::outputs::HookOutputs;
use crate::core::tree::{Kind, naming};
use crate::core::trees::Trees;
use crate::core::workspace::Workspace;

/// What the hooks of a component left.
pub fn read(root: &Path, component: &str) -> HookOutputs {
    state::read(&path(root, component)).unwrap_or_default()
}

/// Remembers what the hooks of a component left.
pub fn write(root: &Path, component: &str, outputs: &HookOutputs) -> io::Result<()> {
    let path = path(root, component);
    if outputs.is_empty() {
        return match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    state::write(&path, outputs)
}

fn path(root: &Path, component: &str) -> PathBuf {
    root.join(DIR).join("outputs").join(component)
}

/// Removes from `folder`, of which `found` is what is in it now, what hooks left there.
/// What changed since is not theirs any more.
pub fn remove(folder: &Path, found: &Context, outputs: &HookOutputs) -> io::Result<()> {
    let is_whole = |item: &Item<'_>| outputs.has(&item.entry.path, &item.value());
    let whole: Vec<Item<'_>> = found.items().filter(is_whole).collect();
    // What is in a folder goes before the folder.
    for entry in whole.iter().rev().map(|item| item.entry) {
        let path = folder.join(&entry.path);
        let is_folder = entry.kind == Kind::Folder;
        let removed = if is_folder { fs::remove_dir(&path) } else { fs::remove_file(&path) };
        match removed.map_err(naming(&path)) {
            // Something else was put into a folder of theirs.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}

/// Tells `trees` what hooks left in the components of a workspace.
pub fn load(workspace: &Workspace, trees: &Trees) {
    let hooked = workspace.components.iter().filter(|component| component.has_hooks());
    for component in hooked {
        trees.set_outputs(&component.dir(), read(&workspace.root, &component.name));
    }
}
