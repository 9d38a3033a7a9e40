//! Decides which symbolic links are replaced by their targets when a folder is copied.
//!
//! In `dependency/NAME/`, a link that leaves the component's folder would be broken, or
//! point to something else. So it is replaced by its target: a file, or a folder with its
//! contents. A link that works the same way in the copy stays a link. So does a dangling
//! link, and one to a device, to a kernel file system (such as `/proc`), or to a folder that
//! contains the link, directly or through other links: following it would not end.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// File systems whose files are provided by the kernel.
const KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Resolves the links of one folder during a walk.
#[derive(Debug)]
pub(crate) struct LinkFollower {
    folder: PathBuf,
    /// The canonical parents of the links that were followed to the current folder.
    parents: Vec<PathBuf>,
    /// The targets of links that leave the folder, including dangling ones.
    pub(crate) targets: BTreeSet<PathBuf>,
}

impl LinkFollower {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), parents: Vec::new(), targets: BTreeSet::new() }
    }

    /// The canonical target of the link at a path of the folder; `None` if it stays a link.
    pub(crate) fn target(&mut self, at: &Path) -> Option<PathBuf> {
        let link = self.folder.join(at);
        let text = fs::read_link(&link).ok()?;
        let parent = fs::canonicalize(link.parent()?).ok()?;
        let Ok(target) = fs::canonicalize(&link) else {
            self.targets.extend(resolve(&parent, &text).filter(|_| may_leave(at, &text)));
            return None;
        };
        let is_same = |path: PathBuf| {
            fs::canonicalize(self.folder.join(path)).is_ok_and(|path| path == target)
        };
        let above = at.parent().unwrap_or(Path::new(""));
        if text.is_relative() && resolve(above, &text).is_some_and(is_same) {
            return None;
        }
        let is_kernel = KERNEL.iter().any(|folder| target.starts_with(folder));
        let mut inside = self.parents.iter().chain([&parent]);
        if is_kernel || inside.any(|parent| parent.starts_with(&target)) {
            return None;
        }
        self.targets.insert(target.clone());
        Some(target)
    }

    /// Enters the folder that the link at a path points to.
    pub(crate) fn enter(&mut self, at: &Path) {
        let link = self.folder.join(at);
        self.parents.extend(link.parent().and_then(|parent| fs::canonicalize(parent).ok()));
    }

    /// Leaves the folder that was entered last.
    pub(crate) fn leave(&mut self) {
        self.parents.pop();
    }
}

/// Whether a link at a path of a folder may leave the folder, judged by its text alone.
pub(crate) fn may_leave(at: &Path, text: &Path) -> bool {
    let is_parent = |name: Component<'_>| name == Component::ParentDir;
    let mut names =
        text.components().skip_while(|name| is_parent(*name) || *name == Component::CurDir);
    let has_later_parent = names.any(is_parent);
    let above = at.parent().unwrap_or(Path::new(""));
    text.is_absolute() || has_later_parent || resolve(above, text).is_none()
}

/// Resolves the text of a link in a folder; `None` if it goes above the first component of
/// the folder's path.
fn resolve(from: &Path, text: &Path) -> Option<PathBuf> {
    let mut path = from.to_owned();
    for name in text.components() {
        match name {
            Component::RootDir => path = PathBuf::from("/"),
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_may_leave_are_recognized_by_their_text() {
        for (at, text, may) in [
            ("l", "f", false),
            ("d/l", "../f", false),
            ("d/e/l", "./../../f/g", false),
            ("l", "../f", true),
            ("d/l", "../../f", true),
            ("d/l", "../d/../../f", true),
            ("l", "d/../f", true),
            ("l", "/f", true),
        ] {
            assert_eq!(may_leave(Path::new(at), Path::new(text)), may, "{at} -> {text}");
        }
    }
}
