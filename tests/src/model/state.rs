//! One state of the workspace: its files, and all that a build is given besides.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::Component;

/// What is at a path.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// A file: its text and its permissions.
    File(String, u32),
    /// A link: its target.
    Link(String),
    /// A folder: its permissions.
    Folder(u32),
}

/// A workspace, and all that a build is given besides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// By path, relative to the root. A folder is named if it is empty or has a mode of
    /// its own.
    pub files: BTreeMap<String, Node>,
    /// The environment variables that hooks read.
    pub variables: BTreeMap<String, String>,
    /// The value of the one build arg, `WORD`.
    pub word: String,
    /// The flavor that is asked for, if a component has one.
    pub flavor: &'static str,
    /// Whether contexts are sent whole.
    pub is_whole: bool,
    /// The version of the external base image, `tt-outside`.
    pub outside: u32,
    /// The number of the commit that is checked out, in a git repository.
    pub head: Option<usize>,
    /// By name; each makes the image `tt-NAME`.
    pub components: BTreeMap<String, Component>,
}

impl State {
    /// The `--flavor` of a build: one that a component has.
    pub fn flavor(&self) -> Option<&'static str> {
        let mut all = self.components.values().flat_map(|component| &component.flavors);
        let first = all.clone().next().copied();
        all.find(|flavor| **flavor == self.flavor).copied().or(first)
    }

    /// The `WORD` of a build, if a component has it.
    pub fn word(&self) -> Option<&str> {
        let is_there = self.components.values().any(|component| component.has_word);
        is_there.then_some(self.word.as_str())
    }

    /// Everything below a folder, by path relative to it.
    pub fn below(&self, folder: &str) -> BTreeMap<String, Node> {
        let prefix = format!("{folder}/");
        let inside = self.files.range(prefix.clone()..);
        inside
            .map_while(|(path, node)| Some((path.strip_prefix(&prefix)?.to_owned(), node.clone())))
            .collect()
    }

    /// All components, those that they depend on first.
    pub fn in_order(&self) -> Vec<&String> {
        let mut order: Vec<&String> = Vec::new();
        while order.len() < self.components.len() {
            let is_next = |(name, component): &(&String, &Component)| {
                !order.contains(name) && component.needs().iter().all(|it| order.contains(it))
            };
            order.push(self.components.iter().find(is_next).expect("there is no circle").0);
        }
        order
    }

    /// These components and all that depend on them.
    pub fn dependents(&self, of: &BTreeSet<String>) -> BTreeSet<String> {
        let mut found = of.clone();
        for name in self.in_order() {
            if self.components[name].needs().iter().any(|needed| found.contains(*needed)) {
                found.insert(name.clone());
            }
        }
        found
    }

    /// The components whose images may have to be built when this has become `after`.
    pub fn reach(&self, after: &Self) -> BTreeSet<String> {
        let mut touched = BTreeSet::new();
        for (name, component) in &after.components {
            if self.is_touched(after, name, component) {
                touched.insert(name.clone());
            }
            // What its own Dockerfile does not read is in its dependents' contexts.
            if self.below(&format!("src/{name}")) != after.below(&format!("src/{name}")) {
                let reads = |it: &Component| it.reads_all(after) && it.needs().contains(name);
                touched.extend(after.named(reads));
            }
        }
        after.dependents(&touched)
    }

    fn is_touched(&self, after: &Self, name: &str, component: &Component) -> bool {
        let Some(before) = self.components.get(name) else { return true };
        let hook_reads = [
            self.below("shared") != after.below("shared"),
            self.below("version") != after.below("version"),
            self.variables != after.variables,
            self.word() != after.word(),
            self.head != after.head,
        ];
        let own = |state: &Self| {
            let mut own = state.below(&format!("src/{name}"));
            let is_read = |path: &String| path == ".dockerignore" || path.starts_with("build/");
            own.retain(|path, _| component.reads_all(after) || is_read(path) || is_in_d(path));
            own
        };
        let chosen = |state: &Self| component.chosen(state.flavor());
        before != component
            || own(self) != own(after)
            || component.hook.is_some() && hook_reads.contains(&true)
            || component.has_word && self.word() != after.word()
            || component.base.as_deref() == Some("outside") && self.outside != after.outside
            || component.is_lean && self.is_whole != after.is_whole
            || chosen(self) != chosen(after)
    }

    /// The names of the components for which something holds.
    pub fn named(&self, holds: impl Fn(&Component) -> bool) -> BTreeSet<String> {
        let found = self.components.iter().filter(|(_, component)| holds(component));
        found.map(|(name, _)| name.clone()).collect()
    }

    /// Makes the files below `root`, which were `before`, what they are here. A folder
    /// goes with the last file in it, as in a checkout.
    pub fn bring(&self, before: &Self, root: &Path, own: impl Fn(&str) -> String) {
        let (old, new) = (with_parents(before.files.clone()), with_parents(self.files.clone()));
        for (path, node) in old.iter().rev() {
            match (node, new.get(path)) {
                (Node::Folder(_), Some(Node::Folder(_))) => {}
                // What hooks wrote keeps its folder.
                (Node::Folder(_), _) => drop(fs::remove_dir(root.join(own(path)))),
                (_, now) if now == Some(node) => {}
                _ => drop(fs::remove_file(root.join(own(path)))),
            }
        }
        for name in before.components.keys().filter(|name| !self.components.contains_key(*name)) {
            drop(fs::remove_dir_all(root.join("src").join(name)));
        }
        for (path, node) in &new {
            if old.get(path) != Some(node) {
                node.write(&root.join(own(path)), &own);
            }
        }
    }
}

impl Component {
    /// Whether anything in its folder, or in those that it depends on, may change its image.
    fn reads_all(&self, state: &State) -> bool {
        !self.is_lean || self.hook.is_some() || state.is_whole
    }
}

impl Node {
    /// It as it is in an image, in the words of [`crate::engine::image_tree`]. Contexts
    /// belong to root, and neither group nor others may write.
    pub fn in_image(&self) -> String {
        match self {
            Self::File(text, mode) => format!("Regular {:o} 0:0 None {text}", mode & !0o022),
            Self::Link(target) => format!("Symlink 777 0:0 {:?} ", Some(target)),
            Self::Folder(mode) => format!("Directory {:o} 0:0 None ", mode & !0o022),
        }
    }

    fn write(&self, path: &Path, own: impl Fn(&str) -> String) {
        let set_mode = |mode: u32| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
        };
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        match self {
            Self::Folder(mode) => {
                fs::create_dir_all(path).expect("a folder");
                set_mode(*mode);
            }
            Self::File(text, mode) => {
                fs::write(path, own(text)).expect("a file");
                set_mode(*mode);
            }
            Self::Link(target) => {
                drop(fs::remove_file(path));
                symlink(target, path).expect("a link");
            }
        }
    }
}

/// A tree with all the folders above what is in it.
pub fn with_parents(mut tree: BTreeMap<String, Node>) -> BTreeMap<String, Node> {
    let paths: Vec<String> = tree.keys().cloned().collect();
    for path in paths {
        let above = path.match_indices('/').map(|(place, _)| path[..place].to_owned());
        for folder in above {
            tree.entry(folder).or_insert(Node::Folder(0o755));
        }
    }
    tree
}

fn is_in_d(path: &str) -> bool {
    let rest = path.strip_prefix("d");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
