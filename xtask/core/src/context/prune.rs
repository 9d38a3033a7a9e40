//! Takes away from a context what no instruction can read.
//!
//! Links are sent as they are, but builders follow those that a source names or
//! passes through, inside the context. So where a link that can be read leads to
//! something that would not be sent, or a source may pass through a link, nothing is
//! certain.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::context::build_context::ContextPart;
use crate::context::tree::Kind;
use crate::dockerfile::context_reads::{ContextReads, Reach};

/// Keeps what can be read, the folders above it, and what is sent `always`; tells whether
/// that is certain. `on_disk` says where a path of the context lies.
pub(crate) fn reduce(
    parts: &mut [ContextPart],
    sources: &ContextReads,
    always: &[PathBuf],
    on_disk: impl Fn(&Path) -> Option<PathBuf>,
) -> bool {
    let wanted: Option<Vec<Vec<bool>>> =
        parts.iter().map(|part| readable(part, sources, always)).collect();
    let Some(wanted) = wanted else { return false };
    for (part, wanted) in parts.iter_mut().zip(&wanted) {
        part.retain(wanted);
    }
    !parts.iter().any(|part| leads_out(part, sources, &on_disk))
}

/// Which entries are wanted; none if a source may pass through a link.
fn readable(part: &ContextPart, sources: &ContextReads, always: &[PathBuf]) -> Option<Vec<bool>> {
    let mut wanted = Vec::new();
    // The last folder of which all or nothing can be read.
    let mut folder: Option<(PathBuf, bool)> = None;
    for entry in part.entries() {
        let path = part.path(entry);
        let known = folder.as_ref().filter(|(folder, _)| path.starts_with(folder));
        let is_read = match known {
            Some((_, is_read)) => *is_read,
            None => match sources.reach(&path) {
                Reach::Above if entry.kind == Kind::Link => return None,
                Reach::Above => entry.kind == Kind::Folder,
                reach => {
                    let is_read = reach == Reach::Read;
                    if entry.kind == Kind::Folder {
                        folder = Some((path.clone(), is_read));
                    }
                    is_read
                }
            },
        };
        wanted.push(is_read || always.contains(&path));
    }
    Some(wanted)
}

/// Whether a link that is kept leads to something that is not.
fn leads_out(
    part: &ContextPart,
    sources: &ContextReads,
    on_disk: &impl Fn(&Path) -> Option<PathBuf>,
) -> bool {
    let find = |path: &Path| fs::symlink_metadata(on_disk(path)?).ok();
    let mut links = part.entries().filter(|entry| entry.kind == Kind::Link);
    links.any(|link| {
        let Ok(target) = fs::read_link(part.source(link)) else { return true };
        let target = resolve(&part.path(link), &target);
        let passes_link = target
            .ancestors()
            .skip(1)
            .any(|above| find(above).is_some_and(|above| above.is_symlink()));
        passes_link || sources.reach(&target) != Reach::Read && find(&target).is_some()
    })
}

/// Where a link leads, with the context as the root of everything.
fn resolve(link: &Path, target: &Path) -> PathBuf {
    let mut place = link.parent().unwrap_or(Path::new("")).to_owned();
    for name in target.components() {
        match name {
            Component::RootDir | Component::Prefix(_) => place = PathBuf::new(),
            Component::CurDir => {}
            Component::ParentDir => {
                place.pop();
            }
            Component::Normal(name) => place.push(name),
        }
    }
    place
}
