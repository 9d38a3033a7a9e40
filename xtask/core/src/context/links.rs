//! Which links of a folder are followed where it is put at another place.
//!
//! Under `dependency/NAME/` a link that leads out of the component's folder would lead
//! nowhere, or to something else. So there is what it leads to in its place: a file, or a
//! folder with all in it. A link that leads to the same thing from its new place stays a
//! link; so does one to nothing, to a device, to what the kernel makes up, and to a folder
//! that it lies in itself, by whatever links that came about: following ends.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Nothing in these is a file that anybody wrote.
const MADE_UP: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Follows the links of one folder.
#[derive(Debug)]
pub(crate) struct LinkFollower {
    folder: PathBuf,
    /// Where the links lie that were followed to where the walk is, really.
    parents: Vec<PathBuf>,
    /// Where the links that leave the folder lead, or would if anything were there.
    pub(crate) targets: BTreeSet<PathBuf>,
}

impl LinkFollower {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), parents: Vec::new(), targets: BTreeSet::new() }
    }

    /// What is to be in the place of a link at a path of the folder, if it is followed.
    pub(crate) fn target(&mut self, at: &Path) -> Option<PathBuf> {
        let link = self.folder.join(at);
        let text = fs::read_link(&link).ok()?;
        let parent = fs::canonicalize(link.parent()?).ok()?;
        let Ok(target) = fs::canonicalize(&link) else {
            self.targets.extend(resolve(&parent, &text).filter(|_| may_leave(at, &text)));
            return None;
        };
        let is_same = |there: PathBuf| {
            fs::canonicalize(self.folder.join(there)).is_ok_and(|there| there == target)
        };
        let above = at.parent().unwrap_or(Path::new(""));
        if text.is_relative() && resolve(above, &text).is_some_and(is_same) {
            return None;
        }
        let is_made_up = MADE_UP.iter().any(|made_up| target.starts_with(made_up));
        let mut inside = self.parents.iter().chain([&parent]);
        if is_made_up || inside.any(|parent| parent.starts_with(&target)) {
            return None;
        }
        self.targets.insert(target.clone());
        Some(target)
    }

    /// Goes into what is in the place of a link.
    pub(crate) fn enter(&mut self, at: &Path) {
        let link = self.folder.join(at);
        self.parents.extend(link.parent().and_then(|parent| fs::canonicalize(parent).ok()));
    }

    /// Comes back.
    pub(crate) fn leave(&mut self) {
        self.parents.pop();
    }
}

/// Whether a link at a path of a folder may lead out of it, by its text alone.
pub(crate) fn may_leave(at: &Path, text: &Path) -> bool {
    let is_back = |name: Component<'_>| name == Component::ParentDir;
    let mut names = text.components().skip_while(|it| is_back(*it) || *it == Component::CurDir);
    let goes_back = names.any(is_back);
    let above = at.parent().unwrap_or(Path::new(""));
    text.is_absolute() || goes_back || resolve(above, text).is_none()
}

/// Where a text leads from a folder, if that is not above where the folder's path begins.
fn resolve(from: &Path, text: &Path) -> Option<PathBuf> {
    let mut place = from.to_owned();
    for name in text.components() {
        match name {
            Component::RootDir => place = PathBuf::from("/"),
            Component::ParentDir => {
                if !place.pop() {
                    return None;
                }
            }
            Component::Normal(name) => place.push(name),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_says_whether_a_link_may_leave() {
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
