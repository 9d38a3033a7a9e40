//! Removes the files from a context that no instruction can read.
//!
//! Symbolic links are sent as links, but builders follow those that a source names or passes
//! through, within the context. So if a readable link points to something that would not be
//! sent, or a source may pass through a link, the context cannot be pruned safely.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::context::build_context::ContextPart;
use crate::context::tree::{Entry, Kind};
use crate::dockerfile::context_reads::{ContextReads, Reach};

/// Keeps the readable entries and the paths in `always`. The folders above them are made by whoever
/// receives them, so that neither their modes count nor those of others with nothing in them; they
/// are kept if instructions copy them, or if nobody can know what is in them. Returns whether the result is safe to use. `on_disk` maps a path of the context to its path in the
/// file system.
pub(crate) fn prune(
    parts: &mut [ContextPart],
    reads: &ContextReads,
    always: &[PathBuf],
    on_disk: impl Fn(&Path) -> Option<PathBuf>,
) -> bool {
    let readable: Option<Vec<Vec<bool>>> =
        parts.iter().map(|part| readable(part, reads, always)).collect();
    let Some(readable) = readable else { return false };
    for (part, readable) in parts.iter_mut().zip(&readable) {
        part.retain(readable);
    }
    !parts.iter().any(|part| has_unsafe_link(part, reads, &on_disk))
}

/// For each entry, whether to keep it; `None` if a source may pass through a link.
fn readable(part: &ContextPart, reads: &ContextReads, always: &[PathBuf]) -> Option<Vec<bool>> {
    let mut keep = Vec::new();
    // The last folder that is readable as a whole, or not at all.
    let mut folder: Option<(PathBuf, bool)> = None;
    for entry in part.entries() {
        let path = part.path(entry);
        let parent = folder.as_ref().filter(|(folder, _)| path.starts_with(folder));
        let is_read = match parent {
            Some((_, is_read)) => *is_read,
            None => match reads.reach(&path) {
                Reach::Parent if entry.kind == Kind::Link => return None,
                Reach::Parent => {
                    entry.kind == Kind::Folder && (reads.keeps_parents() || entry.is_unreadable)
                }
                reach => {
                    let is_read = reach == Reach::Read;
                    if entry.kind == Kind::Folder {
                        folder = Some((path.clone(), is_read));
                    }
                    is_read
                }
            },
        };
        keep.push(is_read || always.contains(&path));
    }
    Some(keep)
}

/// Whether a link points to something that is not sent, or its target passes through
/// another link.
fn has_unsafe_link(
    part: &ContextPart,
    reads: &ContextReads,
    on_disk: &impl Fn(&Path) -> Option<PathBuf>,
) -> bool {
    let find = |path: &Path| fs::symlink_metadata(on_disk(path)?).ok();
    // No instruction reads what is only kept always.
    let is_read = |link: &Entry| reads.reach(&part.path(link)) == Reach::Read;
    let mut links = part.entries().filter(|entry| entry.kind == Kind::Link && is_read(entry));
    links.any(|link| {
        let Ok(target) = fs::read_link(part.source_path(link)) else { return true };
        let Some(target) = resolve(&part.path(link), &target, find) else { return true };
        let passes_link = target
            .ancestors()
            .skip(1)
            .any(|above| find(above).is_some_and(|above| above.is_symlink()));
        passes_link || reads.reach(&target) != Reach::Read && find(&target).is_some()
    })
}

/// The target of a link, with the context as the root folder; `None` if its `..` leads out of what
/// another link leads to: BuildKit goes back by the names, and the classic builder by the folders.
fn resolve(
    link: &Path,
    target: &Path,
    find: impl Fn(&Path) -> Option<fs::Metadata>,
) -> Option<PathBuf> {
    let mut path = link.parent().unwrap_or(Path::new("")).to_owned();
    for name in target.components() {
        match name {
            Component::RootDir | Component::Prefix(_) => path = PathBuf::new(),
            Component::CurDir => {}
            Component::ParentDir => {
                if find(&path).is_some_and(|above| above.is_symlink()) {
                    return None;
                }
                path.pop();
            }
            Component::Normal(name) => path.push(name),
        }
    }
    Some(path)
}
