//! The symbolic links on the way to what builds read. A file behind one has several paths: what
//! changes under one of them changes what is read under the others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::workspace::components::{Image, Workspace};

/// The links of a workspace that lead to other places in it.
#[derive(Debug, Default)]
pub struct Links {
    /// By the path of a link, where it leads; both relative to the root.
    targets: BTreeMap<PathBuf, PathBuf>,
    /// Where those lead that are files.
    files: BTreeSet<PathBuf>,
}

impl Links {
    /// Finds the links in the paths of components, and of what the builds of their images begin
    /// with.
    pub fn find(workspace: &Workspace) -> Self {
        let mut links = Self::default();
        let Ok(root) = workspace.root.canonicalize() else { return links };
        let sources = workspace.images().flat_map(|(_, image)| Image::sources(image));
        let dirs = workspace.components.iter().map(|component| component.dir.clone());
        let mut seen = BTreeSet::new();
        for path in sources.chain(dirs).map(PathBuf::from) {
            for part in path.ancestors().filter(|part| *part != Path::new("")) {
                if !seen.insert(part.to_owned()) {
                    break;
                }
                let full = root.join(part);
                let target = full.is_symlink().then(|| full.canonicalize().ok()).flatten();
                let Some(target) = target else { continue };
                let Ok(inside) = target.strip_prefix(&root) else { continue };
                if target.is_file() {
                    links.files.insert(inside.to_owned());
                }
                links.targets.insert(part.to_owned(), inside.to_owned());
            }
        }
        links
    }

    /// Where those lead that are files, relative to the root.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter()
    }

    /// All paths of what has a path, relative to the root.
    pub fn paths(&self, path: &Path) -> BTreeSet<PathBuf> {
        let lies_at = path
            .ancestors()
            .find_map(|part| Some(below(self.targets.get(part)?, path.strip_prefix(part).ok()?)));
        let lies_at = lies_at.unwrap_or_else(|| path.to_owned());
        let others = self.targets.iter().filter_map(|(link, target)| {
            let rest = lies_at.strip_prefix(target).ok()?;
            Some(below(link, rest))
        });
        others.chain([path.to_owned(), lies_at.clone()]).collect()
    }
}

/// A path in a folder, or the folder itself: joined, an empty path would leave a slash at the end.
fn below(folder: &Path, path: &Path) -> PathBuf {
    if path == Path::new("") { folder.to_owned() } else { folder.join(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_a_link_has_the_paths_of_all_links() {
        let path = |(link, target): &(&str, &str)| (PathBuf::from(link), PathBuf::from(target));
        let all = [("src/l", "away"), ("src/m", "away"), ("src/n", "away/in"), ("env", "away/e")];
        let links = Links { targets: all.iter().map(path).collect(), ..Links::default() };
        let paths = |of: &str| {
            let paths = links.paths(Path::new(of)).into_iter();
            paths.map(|path| path.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(paths("src/l/in/f"), "away/in/f src/l/in/f src/m/in/f src/n/f");
        assert_eq!(paths("env"), "away/e env src/l/e src/m/e");
        assert_eq!(paths("src/o/f"), "src/o/f");
    }
}
