//! A random workspace and random edits of it, from a seed.
//!
//! The model knows every file that somebody wrote, so that another checkout can be
//! made of it, and which components an edit can reach, so that needless builds are
//! seen. `tt-` stands for a prefix, as everywhere in the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use fastrand::Rng;

/// A file or link that somebody wrote.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Its text and its permissions.
    File(String, u32),
    /// Its target.
    Link(String),
}

/// A workspace, and all that a build is told besides.
#[derive(Clone, Debug)]
pub struct Model {
    rng: Rng,
    /// By path, relative to the root.
    pub files: BTreeMap<String, Node>,
    /// The environment variables that hooks read.
    pub variables: BTreeMap<String, String>,
    /// The value of the one build arg, `WORD`.
    pub word: String,
    /// The version of the external base image, `tt-outside`.
    pub outside: u32,
    components: BTreeMap<String, Component>,
    count: usize,
    /// Whether all hooks declare what they read.
    is_declared: bool,
}

#[derive(Clone, Debug, Default)]
struct Component {
    base: Option<String>,
    copied: Option<String>,
    declared: BTreeSet<String>,
    has_word: bool,
    notes: usize,
    hook: Hook,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Hook {
    #[default]
    None,
    Undeclared,
    Declared,
    /// Declared, and it writes into its own tree.
    Writing,
}

/// What is done to the engine, or to what is kept between builds.
#[derive(Clone, Debug)]
pub enum Action {
    /// Nothing.
    None,
    /// An image loses its name.
    Untag(String),
    /// An image's name is given to another one.
    Retag(String, String),
    /// An image is replaced by one that is made from it.
    Derive(String),
    /// The external base is another one.
    MoveOutside,
    /// `target/` is removed.
    Forget,
    /// A build is cut off in the middle.
    Interrupt,
}

/// An edit that was made.
#[derive(Clone, Debug)]
pub struct Edit {
    /// For whoever reads a failure.
    pub text: String,
    /// The components that may have to be built, those that need them included.
    pub reach: BTreeSet<String>,
    /// What else is to be done.
    pub action: Action,
}

const SHARED: [&str; 3] = ["shared/0", "shared/1", "shared/deep/2"];

impl Model {
    /// A few components that need each other.
    pub fn new(seed: u64) -> Self {
        Self::with(seed, false)
    }

    /// The same with hooks that all declare what they read.
    pub fn declared(seed: u64) -> Self {
        Self::with(seed, true)
    }

    fn with(seed: u64, is_declared: bool) -> Self {
        let mut model = Self {
            rng: Rng::with_seed(seed),
            files: BTreeMap::new(),
            variables: [("NAME".to_owned(), "one".to_owned())].into(),
            word: "word".to_owned(),
            outside: 0,
            components: BTreeMap::new(),
            count: 0,
            is_declared,
        };
        for path in SHARED {
            let text = model.text();
            model.files.insert(path.to_owned(), Node::File(text, 0o644));
        }
        for _ in 0..6 {
            model.add_component();
        }
        model
    }

    /// The components' names; each makes the image `tt-NAME`.
    pub fn components(&self) -> impl Iterator<Item = &String> {
        self.components.keys()
    }

    /// Writes everything below `root`; `own` puts the prefix in.
    pub fn write(&self, root: &Path, own: impl Fn(&str) -> String) {
        for (path, node) in &self.files {
            write(root, path, node, &own);
        }
    }

    /// Makes one edit, here and below `root`.
    pub fn edit(&mut self, root: &Path, own: impl Fn(&str) -> String) -> Edit {
        self.edit_among(0..24, root, own)
    }

    /// Makes one edit, of files only.
    pub fn edit_files(&mut self, root: &Path, own: impl Fn(&str) -> String) -> Edit {
        self.edit_among(0..17, root, own)
    }

    fn edit_among(&mut self, kinds: Range<u8>, root: &Path, own: impl Fn(&str) -> String) -> Edit {
        let before = self.clone();
        let name = self.some_component();
        let mut action = Action::None;
        let (text, touched) = match self.rng.u8(kinds) {
            0..=2 => self.change_text(&name),
            3 => return self.change_behind_the_clock(root, &name),
            4 => self.change_mode(&name),
            5 => self.rename(&name),
            6 => self.remove_file(&name),
            7 => self.add_file(&name),
            8 => self.link(&name),
            9 => return self.touch(root, &name),
            10 => {
                let name = self.add_component();
                (format!("add component {name}"), [name].into())
            }
            11 => self.remove_component(&name),
            12 => self.change(&name, |component| component.has_word = !component.has_word),
            13 => self.ignore(&name),
            14 => self.need(&name),
            15 => self.change(&name, |component| component.notes += 1),
            16 => self.change_shared(),
            17 => self.change_variable(),
            18 => self.change_word(),
            place => {
                let other = self.some_component();
                action = match place {
                    19 => Action::Untag(name.clone()),
                    20 => Action::Retag(other, name.clone()),
                    21 => Action::Derive(name.clone()),
                    22 if self.rng.bool() => Action::Forget,
                    22 => Action::MoveOutside,
                    _ => Action::Interrupt,
                };
                self.act(&action, name)
            }
        };
        self.sync(&before, root, own);
        let mut reach = self.dependents(&touched);
        reach.extend(before.dependents(&touched));
        Edit { text, reach, action }
    }

    fn act(&mut self, action: &Action, name: String) -> (String, BTreeSet<String>) {
        let reach = match action {
            Action::MoveOutside => {
                self.outside += 1;
                let uses = |component: &Component| component.base.as_deref() == Some("outside");
                self.named(uses)
            }
            Action::Interrupt => return self.change_text(&name),
            Action::Forget | Action::None => BTreeSet::new(),
            _ => [name].into(),
        };
        (format!("{action:?}"), reach)
    }

    fn some_component(&mut self) -> String {
        let place = self.rng.usize(0..self.components.len());
        self.components.keys().nth(place).expect("there is always one").clone()
    }

    fn text(&mut self) -> String {
        format!("text {}\n", self.rng.u32(1000..10000))
    }

    /// The names of the components for which something holds.
    fn named(&self, holds: impl Fn(&Component) -> bool) -> BTreeSet<String> {
        let found = self.components.iter().filter(|(_, component)| holds(component));
        found.map(|(name, _)| name.clone()).collect()
    }

    fn dependents(&self, of: &BTreeSet<String>) -> BTreeSet<String> {
        let mut found = of.clone();
        loop {
            let before = found.len();
            for (name, component) in &self.components {
                if component.needs().any(|needed| found.contains(needed)) {
                    found.insert(name.clone());
                }
            }
            if found.len() == before {
                return found;
            }
        }
    }

    fn add_component(&mut self) -> String {
        let name = format!("c{}", self.count);
        self.count += 1;
        let earlier: Vec<String> = self.components.keys().cloned().collect();
        let other = |rng: &mut Rng| rng.choice(&earlier).cloned();
        let mut component = Component {
            has_word: self.rng.bool(),
            hook: match self.rng.u8(0..8) {
                0..=3 => Hook::None,
                4 | 5 if !self.is_declared => Hook::Undeclared,
                4..=6 => Hook::Declared,
                _ => Hook::Writing,
            },
            ..Component::default()
        };
        component.base = match self.rng.u8(0..4) {
            0 => None,
            1 => Some("outside".to_owned()),
            _ => other(&mut self.rng),
        };
        if self.rng.u8(0..3) == 0 {
            component.copied = other(&mut self.rng);
        }
        if self.rng.u8(0..2) == 0 {
            component.declared.extend(other(&mut self.rng));
        }
        if self.rng.u8(0..3) == 0 {
            let node = Node::File("*.md\n".to_owned(), 0o644);
            self.files.insert(format!("src/{name}/.dockerignore"), node);
        }
        for path in ["a", "notes.md", "d/b", "d/e/c"] {
            let text = self.text();
            self.files.insert(format!("src/{name}/{path}"), Node::File(text, 0o644));
        }
        self.components.insert(name.clone(), component);
        self.describe(&name);
        name
    }

    fn remove_component(&mut self, name: &str) -> (String, BTreeSet<String>) {
        let is_needed = self.dependents(&[name.to_owned()].into()).len() > 1;
        if is_needed || self.components.len() < 4 {
            return self.change_text(name);
        }
        self.components.remove(name);
        let dir = format!("src/{name}/");
        self.files.retain(|path, _| !path.starts_with(&dir));
        (format!("remove component {name}"), BTreeSet::new())
    }

    /// Writes what a component's Dockerfile, hook and lists say now.
    fn describe(&mut self, name: &str) {
        let component = self.components[name].clone();
        let build = format!("src/{name}/build");
        let list: Vec<&str> = component.declared.iter().map(String::as_str).collect();
        self.put(&format!("{build}/component.dep"), &list.join("\n"), 0o644);
        self.put(&format!("{build}/tt-{name}.dockerfile"), &component.dockerfile(name), 0o644);
        let (hook, inputs) = component.scripts(name);
        if let Some(hook) = hook {
            self.put(&format!("{build}/build-pre.sh"), &hook, 0o755);
        }
        if let Some(inputs) = inputs {
            self.put(&format!("{build}/inputs"), inputs, 0o644);
        }
    }

    fn put(&mut self, path: &str, text: &str, mode: u32) {
        self.files.insert(path.to_owned(), Node::File(text.to_owned(), mode));
    }

    fn change(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut Component),
    ) -> (String, BTreeSet<String>) {
        change(self.components.get_mut(name).expect("it is there"));
        self.describe(name);
        (format!("change what {name}'s build/ says"), [name.to_owned()].into())
    }

    fn need(&mut self, name: &str) -> (String, BTreeSet<String>) {
        let other = self.some_component();
        let is_below = self.dependents(&[name.to_owned()].into()).contains(&other);
        self.change(name, |component| {
            if !component.declared.remove(&other) && !is_below {
                component.declared.insert(other);
            }
        })
    }

    fn ignore(&mut self, name: &str) -> (String, BTreeSet<String>) {
        let path = format!("src/{name}/.dockerignore");
        let rules = ["*.md\n", "d\n!d/e\n", "dependency/*/notes.md\n", "**/c\n", ""];
        let rules = *self.rng.choice(&rules).expect("one of them");
        self.put(&path, rules, 0o644);
        (format!("{path}: {rules:?}"), [name.to_owned()].into())
    }

    fn change_shared(&mut self) -> (String, BTreeSet<String>) {
        let path = *self.rng.choice(&SHARED).expect("one of them");
        let text = self.text();
        self.put(path, &text, 0o644);
        (format!("change {path}"), self.named(|component| component.hook != Hook::None))
    }

    fn change_variable(&mut self) -> (String, BTreeSet<String>) {
        let value = self.text().trim().to_owned();
        self.variables.insert("NAME".to_owned(), value);
        ("NAME is another".to_owned(), self.named(|component| component.hook != Hook::None))
    }

    fn change_word(&mut self) -> (String, BTreeSet<String>) {
        self.word = self.text().trim().replace(' ', "-");
        // Hooks may read any arg, so those that are skipped run again.
        let reach = |component: &Component| component.has_word || component.hook != Hook::None;
        ("WORD is another".to_owned(), self.named(reach))
    }

    /// A file of a component's own that no rule of the tool is about.
    fn some_file(&mut self, name: &str) -> Option<String> {
        let (dir, build) = (format!("src/{name}/"), format!("src/{name}/build/"));
        let is_plain = |path: &&String| {
            path.starts_with(&dir) && !path.starts_with(&build) && !path.ends_with(".dockerignore")
        };
        let files: Vec<String> = self.files.keys().filter(is_plain).cloned().collect();
        self.rng.choice(&files).cloned()
    }

    fn change_text(&mut self, name: &str) -> (String, BTreeSet<String>) {
        let path = self.some_file(name).unwrap_or(format!("src/{name}/a"));
        let text = self.text();
        self.put(&path, &text, 0o644);
        (format!("change {path}"), [name.to_owned()].into())
    }

    fn change_mode(&mut self, name: &str) -> (String, BTreeSet<String>) {
        let path = self.some_file(name);
        if let Some(Node::File(_, mode)) = path.as_ref().and_then(|path| self.files.get_mut(path)) {
            *mode ^= 0o111;
        }
        (format!("chmod {path:?}"), [name.to_owned()].into())
    }

    fn rename(&mut self, name: &str) -> (String, BTreeSet<String>) {
        if let Some(path) = self.some_file(name) {
            let node = self.files.remove(&path).expect("it is there");
            self.files.insert(format!("{path}x"), node);
        }
        (format!("rename a file of {name}"), [name.to_owned()].into())
    }

    fn remove_file(&mut self, name: &str) -> (String, BTreeSet<String>) {
        let path = self.some_file(name);
        path.as_ref().map(|path| self.files.remove(path));
        (format!("remove {path:?}"), [name.to_owned()].into())
    }

    fn add_file(&mut self, name: &str) -> (String, BTreeSet<String>) {
        let text = self.text();
        let path = format!("src/{name}/new{}", self.rng.u8(..));
        self.put(&path, &text, 0o644);
        (format!("add {path}"), [name.to_owned()].into())
    }

    fn link(&mut self, name: &str) -> (String, BTreeSet<String>) {
        let path = format!("src/{name}/link");
        let target = self.text().trim().to_owned();
        self.files.insert(path.clone(), Node::Link(target));
        (format!("link {path}"), [name.to_owned()].into())
    }

    /// Another content of the same size under the same time.
    fn change_behind_the_clock(&mut self, root: &Path, name: &str) -> Edit {
        let path = self.some_file(name);
        let node = path.as_ref().and_then(|path| self.files.get(path).cloned());
        if let (Some(path), Some(Node::File(text, mode))) = (&path, node) {
            let full = root.join(path);
            let modified = fs::metadata(&full).and_then(|metadata| metadata.modified());
            let text: String = text.chars().rev().collect();
            fs::write(&full, &text).expect("a file");
            let file = File::open(&full).expect("a file");
            file.set_modified(modified.expect("a time")).expect("a time");
            self.files.insert(path.clone(), Node::File(text, mode));
        }
        let reach = self.dependents(&[name.to_owned()].into());
        Edit { text: format!("change {path:?} behind the clock"), reach, action: Action::None }
    }

    fn touch(&mut self, root: &Path, name: &str) -> Edit {
        let path = self.some_file(name);
        if let Some(Node::File(..)) = path.as_ref().and_then(|path| self.files.get(path)) {
            let full = root.join(path.as_ref().expect("it is there"));
            let now = std::time::SystemTime::now();
            File::open(full).and_then(|file| file.set_modified(now)).expect("a time");
        }
        Edit { text: format!("touch {path:?}"), reach: BTreeSet::new(), action: Action::None }
    }

    /// Makes the files below `root` what they are here.
    fn sync(&self, before: &Self, root: &Path, own: impl Fn(&str) -> String) {
        for (path, node) in &before.files {
            if self.files.get(path) != Some(node) {
                let full = root.join(own(path));
                fs::remove_file(&full).expect("it was there");
                // A folder goes with its last file, as in a checkout.
                let mut folders = full.ancestors().skip(1);
                while folders.next().is_some_and(|folder| fs::remove_dir(folder).is_ok()) {}
            }
        }
        for name in before.components.keys().filter(|name| !self.components.contains_key(*name)) {
            drop(fs::remove_dir_all(root.join("src").join(name)));
        }
        for (path, node) in &self.files {
            if before.files.get(path) != Some(node) {
                write(root, path, node, &own);
            }
        }
    }
}

impl Component {
    fn needs(&self) -> impl Iterator<Item = &String> {
        self.declared.iter().chain(&self.base).chain(&self.copied)
    }

    fn dockerfile(&self, name: &str) -> String {
        let base = self.base.as_ref().map_or("scratch".to_owned(), |base| format!("tt-{base}"));
        let mut text = format!("# {}\nFROM {base}\n", self.notes);
        if self.has_word {
            text.push_str("ARG WORD=none\nLABEL word=$WORD\n");
        }
        text.push_str(&format!("COPY . /{name}/\n"));
        if let Some(copied) = &self.copied {
            text.push_str(&format!("COPY --from=tt-{copied} /{copied}/ /from/\n"));
        }
        text
    }

    /// The hook, and what it says that it reads.
    fn scripts(&self, name: &str) -> (Option<String>, Option<&'static str>) {
        let mut hook = format!(
            "#!/bin/sh -e\n# {}\nmkdir -p src/{name}/generated\n\
             cat shared/0 shared/deep/2 > src/{name}/generated/out\n\
             echo \"$NAME\" >> src/{name}/generated/out\nls src/{name}/dependency \
             >> src/{name}/generated/out 2>/dev/null || true\n",
            self.notes
        );
        match self.hook {
            Hook::None => (None, None),
            Hook::Undeclared => (Some(hook), None),
            Hook::Declared => (Some(hook), Some("shared/**\nenv:NAME\n")),
            Hook::Writing => {
                hook.push_str(&format!("cp shared/1 src/{name}/written\n"));
                (Some(hook), Some("shared/**\n!shared/none\nenv:NAME\n"))
            }
        }
    }
}

fn write(root: &Path, path: &str, node: &Node, own: impl Fn(&str) -> String) {
    let full = root.join(own(path));
    fs::create_dir_all(full.parent().expect("a file lies in a folder")).expect("a folder");
    match node {
        Node::File(text, mode) => {
            fs::write(&full, own(text)).expect("a file");
            fs::set_permissions(&full, fs::Permissions::from_mode(*mode)).expect("a mode");
        }
        Node::Link(target) => symlink(target, &full).expect("a link"),
    }
}
