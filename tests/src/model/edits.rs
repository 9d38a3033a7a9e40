//! The edits: each changes the state, and some do more besides.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use super::{Action, Component, Edit, Hook, Kind, Model, Node, Planned, State, Writes};

const SHARED: [&str; 3] = ["shared/0", "shared/1", "shared/deep/2"];

/// Kept in every component, so that `COPY d` always has something to copy.
const KEPT: &str = "d/keep";

type Change = fn(&mut Model, &str) -> String;

/// Edits of files alone, each as often as it is here.
const FILES: [Change; 15] = [
    Model::change_text,
    Model::change_text,
    Model::change_text,
    Model::change_mode,
    Model::rename,
    Model::remove_file,
    Model::add_file,
    Model::link,
    |model, _| model.grow(),
    Model::remove_component,
    |model, name| model.change(name, |component| component.has_word = !component.has_word),
    Model::ignore,
    Model::need,
    Model::annotate,
    |model, _| model.change_shared(),
];

/// Edits that take a kind.
const SPECIAL: [(Kind, Change); 7] = [
    (Kind::Folders, Model::change_folder_mode),
    (Kind::Folders, Model::add_folder),
    (Kind::Folders, Model::remove_folder),
    (Kind::Undo, |model, _| model.undo()),
    (Kind::Undo, |model, _| model.undo()),
    (Kind::Nested, |model, _| model.next_version()),
    (Kind::Lean, |model, name| model.change(name, |component| component.is_lean ^= true)),
];

/// Edits of what a build is given besides files.
const SETTINGS: [(Option<Kind>, Change); 4] = [
    (None, |model, _| model.change_variable()),
    (None, |model, _| model.change_word()),
    (Some(Kind::Flavors), |model, _| model.change_flavor()),
    (Some(Kind::Whole), |model, _| model.toggle_whole_context()),
];

impl Model {
    /// Makes one edit, here and below `root`; what it asks for besides is left to the caller.
    pub fn edit(&mut self, root: &Path, own: impl Fn(&str) -> String) -> Edit {
        if let Some(planned) = self.planned.pop_front() {
            return self.carry_out(planned, root, own);
        }
        match self.rng.u8(0..10) {
            0..=5 => self.edit_files(root, own),
            6 | 7 => self.edit_settings(root, own),
            _ => self.act(root, own),
        }
    }

    /// Makes one edit, of files only.
    pub fn edit_files(&mut self, root: &Path, own: impl Fn(&str) -> String) -> Edit {
        let name = self.some_component();
        let special: Vec<Change> =
            SPECIAL.iter().filter(|(kind, _)| self.has(*kind)).map(|(_, change)| *change).collect();
        match self.rng.u8(0..10) {
            6.. if !special.is_empty() => {
                let change = *self.rng.choice(&special).expect("there are some");
                self.changed(change, &name, root, own)
            }
            0 => self.touch(root, &name),
            1 => self.change_behind_the_clock(root, &name),
            _ => {
                let change = self.rng.choice(FILES).expect("there are some");
                self.changed(change, &name, root, own)
            }
        }
    }

    fn edit_settings(&mut self, root: &Path, own: impl Fn(&str) -> String) -> Edit {
        let of_kind = |(kind, _): &&(Option<Kind>, Change)| kind.is_none_or(|it| self.has(it));
        let changes: Vec<Change> =
            SETTINGS.iter().filter(of_kind).map(|(_, change)| *change).collect();
        let change = *self.rng.choice(&changes).expect("there are some");
        let name = self.some_component();
        self.changed(change, &name, root, own)
    }

    fn changed(
        &mut self,
        change: Change,
        name: &str,
        root: &Path,
        own: impl Fn(&str) -> String,
    ) -> Edit {
        let before = self.state.clone();
        let text = change(self, name);
        self.past.push(before.clone());
        self.state.bring(&before, root, own);
        Edit { text, actions: Vec::new() }
    }

    /// Makes an edit that is no edit of files; some edit files too.
    fn act(&mut self, root: &Path, own: impl Fn(&str) -> String) -> Edit {
        let before = self.state.clone();
        let kinds = [
            Kind::Names,
            Kind::Derived,
            Kind::Derived,
            Kind::Committed,
            Kind::Taken,
            Kind::Taken,
            Kind::Outside,
            Kind::Lost,
            Kind::RolledBack,
            Kind::RolledBack,
            Kind::Git,
            Kind::Git,
            Kind::Killed,
        ];
        let kinds: Vec<Kind> = kinds.into_iter().filter(|kind| self.has(*kind)).collect();
        let Some(kind) = self.rng.choice(&kinds).copied() else {
            return self.edit_files(root, own);
        };
        let actions = self.actions_of(kind);
        self.past.push(before.clone());
        // What git checks out is brought about by git first.
        if !matches!(actions[..], [Action::GitCheckout(_)]) {
            self.state.bring(&before, root, own);
        }
        Edit { text: format!("{actions:?}"), actions }
    }

    fn actions_of(&mut self, kind: Kind) -> Vec<Action> {
        let name = self.some_component();
        match kind {
            Kind::Names if self.rng.bool() => vec![Action::Untag(name)],
            Kind::Names => vec![Action::Retag { from: self.some_component(), to: name }],
            Kind::Derived => {
                let image = self.name_for_foreign(&name);
                vec![Action::Derive { from: name, name: image }]
            }
            Kind::Committed => {
                let image = self.name_for_foreign(&name);
                vec![Action::Commit { from: name, name: image }]
            }
            Kind::Taken => self.take(&name),
            Kind::Outside => {
                self.state.outside += 1;
                vec![Action::MoveOutside]
            }
            Kind::Lost => vec![Action::Lose],
            Kind::RolledBack if self.rng.bool() => vec![Action::RollBack],
            Kind::RolledBack => vec![Action::Keep],
            Kind::Git => self.use_git(),
            _ => {
                self.annotate(&name);
                vec![Action::Kill]
            }
        }
    }

    fn carry_out(&mut self, planned: Planned, root: &Path, own: impl Fn(&str) -> String) -> Edit {
        let before = self.state.clone();
        let (text, actions) = match planned {
            Planned::Annotate(name) => (self.annotate(&name), Vec::new()),
            Planned::Build => ("build".to_owned(), vec![Action::Build]),
            Planned::Restore(earlier) => {
                self.restore_files(&earlier);
                ("undo that".to_owned(), Vec::new())
            }
        };
        self.past.push(before.clone());
        self.state.bring(&before, root, own);
        Edit { text, actions }
    }

    /// A name for an image that is made from a component's. Often an edit of the component
    /// follows, and is undone: what was made from its image must not come back in its place.
    fn name_for_foreign(&mut self, component: &str) -> String {
        if self.has(Kind::Undo) && self.rng.bool() {
            let earlier = Planned::Restore(Box::new(self.state.clone()));
            let edit = Planned::Annotate(component.to_owned());
            self.planned.extend([Planned::Build, edit, Planned::Build, earlier]);
        }
        if self.rng.bool() {
            format!("tt-{component}")
        } else {
            format!("tt-foreign{}", self.rng.u8(0..3))
        }
    }

    /// Takes the name of a base whose dependent has a hook, which is sure to run.
    fn take(&mut self, name: &str) -> Vec<Action> {
        let takes = |(dependent, component): (&String, &Component)| {
            let base = component.base.clone().filter(|base| base != "outside")?;
            component.hook.is_some().then(|| (base, dependent.clone()))
        };
        let pairs: Vec<_> = self.state.components.iter().filter_map(takes).collect();
        let Some((base, dependent)) = self.rng.choice(&pairs).cloned() else {
            return vec![Action::Untag(name.to_owned())];
        };
        self.annotate(&dependent);
        vec![Action::Take { base, dependent, is_derived: self.rng.bool() }]
    }

    fn use_git(&mut self) -> Vec<Action> {
        if self.state.head.is_none() {
            return vec![Action::Build];
        }
        let number = self.commits.len();
        if self.rng.bool() {
            self.state.head = Some(number);
            self.commits.push(self.state.clone());
            return vec![Action::GitCommit(number)];
        }
        let number = self.rng.usize(0..number);
        let commit = self.commits[number].clone();
        self.restore_files(&commit);
        self.state.head = Some(number);
        vec![Action::GitCheckout(number)]
    }

    fn restore_files(&mut self, of: &State) {
        self.state.files.clone_from(&of.files);
        self.state.components.clone_from(&of.components);
    }

    /// The files are what they were some edits ago; more often not long ago.
    fn undo(&mut self) -> String {
        let most = if self.rng.bool() { 2 } else { 12 };
        let back = self.rng.usize(1..=most);
        let Some(place) = self.past.len().checked_sub(back) else {
            return "undo nothing".to_owned();
        };
        let earlier = self.past[place].clone();
        self.restore_files(&earlier);
        format!("undo the last {back}")
    }

    /// The files that every workspace has.
    pub(super) fn furnish(&mut self) {
        self.state.variables = [("NAME".to_owned(), "one".to_owned())].into();
        "word".clone_into(&mut self.state.word);
        self.state.flavor = "k8s";
        for path in SHARED {
            let text = self.text();
            self.put(path, &text, 0o644);
        }
        self.put("version/0", "0\n", 0o644);
        if self.has(Kind::Git) && self.rng.bool() {
            self.state.head = Some(0);
            let ignored = "/target/\n/trap/\n/src/*/dependency/\n/src/*/generated/\n";
            self.put(".gitignore", ignored, 0o644);
        }
    }

    fn grow(&mut self) -> String {
        let name = self.add_component();
        format!("add component {name}")
    }

    pub(super) fn add_component(&mut self) -> String {
        let name = format!("c{}", self.count);
        self.count += 1;
        let mut component = Component {
            has_word: self.rng.bool(),
            hook: self.new_hook(),
            is_lean: self.has(Kind::Lean) && self.one_in(3),
            base: match self.rng.u8(0..5) {
                0 => None,
                1 => Some("outside".to_owned()),
                _ => self.earlier(),
            },
            ..Component::default()
        };
        if self.one_in(3) {
            component.copied = self.earlier();
        }
        if self.one_in(2) {
            component.declared.extend(self.earlier());
        }
        if self.has(Kind::Flavors) && self.one_in(3) {
            let flavors: [&[&str]; 3] = [&["k8s"], &["yarn"], &["k8s", "yarn"]];
            component.flavors.extend(*self.rng.choice(&flavors).expect("one of them"));
        }
        if self.one_in(3) {
            self.put(&format!("src/{name}/.dockerignore"), "*.md\n", 0o644);
        }
        for path in ["a", "notes.md", "d/b", "d/e/c", KEPT] {
            let text = self.text();
            self.put(&format!("src/{name}/{path}"), &text, 0o644);
        }
        self.state.components.insert(name.clone(), component);
        self.describe(&name);
        name
    }

    fn earlier(&mut self) -> Option<String> {
        (!self.state.components.is_empty()).then(|| self.some_component())
    }

    fn new_hook(&mut self) -> Option<Hook> {
        if self.rng.bool() {
            return None;
        }
        let is_nested = self.has(Kind::Nested);
        Some(Hook {
            is_declared: self.is_declared || !self.one_in(3),
            reads_head: self.state.head.is_some() && self.rng.bool(),
            writes: match self.rng.u8(0..6) {
                0 => Writes::OneFile,
                1 | 2 if is_nested => Writes::WholeFolder,
                3 if is_nested => Writes::IntoFolder,
                _ => Writes::Nothing,
            },
        })
    }

    fn remove_component(&mut self, name: &str) -> String {
        let is_needed = self.state.dependents(&[name.to_owned()].into()).len() > 1;
        if is_needed || self.state.components.len() < 4 {
            return self.change_text(name);
        }
        self.state.components.remove(name);
        let dir = format!("src/{name}/");
        self.state.files.retain(|path, _| !path.starts_with(&dir));
        format!("remove component {name}")
    }

    /// Writes what a component's `build/` says now.
    fn describe(&mut self, name: &str) {
        let build = format!("src/{name}/build/");
        self.state.files.retain(|path, _| !path.starts_with(&build));
        for (file, (text, mode)) in self.state.components[name].build_files(name) {
            self.put(&format!("{build}{file}"), &text, mode);
        }
    }

    fn put(&mut self, path: &str, text: &str, mode: u32) {
        self.state.files.insert(path.to_owned(), Node::File(text.to_owned(), mode));
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Component)) -> String {
        change(self.state.components.get_mut(name).expect("it is there"));
        if self.state.components[name].is_lean {
            // Of what an ignore file may leave out, `COPY` needs something.
            self.put(&format!("src/{name}/.dockerignore"), "*.md\n", 0o644);
        }
        self.describe(name);
        format!("change what {name}'s build/ says")
    }

    fn annotate(&mut self, name: &str) -> String {
        self.change(name, |component| component.notes += 1)
    }

    fn need(&mut self, name: &str) -> String {
        let other = self.some_component();
        let is_below = self.state.dependents(&[name.to_owned()].into()).contains(&other);
        self.change(name, |component| {
            if !component.declared.remove(&other) && !is_below {
                component.declared.insert(other);
            }
        })
    }

    fn ignore(&mut self, name: &str) -> String {
        let path = format!("src/{name}/.dockerignore");
        let rules = ["*.md\n", "dependency/*/notes.md\n", "**/c\n", "", "d\n!d/e\n"];
        let count = if self.state.components[name].is_lean { 4 } else { 5 };
        let rules = rules[self.rng.usize(0..count)];
        self.put(&path, rules, 0o644);
        format!("{path}: {rules:?}")
    }

    fn change_shared(&mut self) -> String {
        let path = *self.rng.choice(&SHARED).expect("one of them");
        let text = self.text();
        self.put(path, &text, 0o644);
        format!("change {path}")
    }

    /// Another file takes the place of the one in `version/`, or its text is another.
    fn next_version(&mut self) -> String {
        let text = self.text();
        if self.one_in(3) {
            let path = self.state.files.keys().find(|path| path.starts_with("version/"));
            let path = path.expect("there is one").clone();
            self.put(&path, &text, 0o644);
            return format!("change {path}");
        }
        self.state.files.retain(|path, _| !path.starts_with("version/"));
        let path = format!("version/{}", self.rng.u8(0..5));
        self.put(&path, &text, 0o644);
        format!("the version is {path}")
    }

    fn change_variable(&mut self) -> String {
        let value = self.text().trim().to_owned();
        self.state.variables.insert("NAME".to_owned(), value);
        "NAME is another".to_owned()
    }

    fn change_word(&mut self) -> String {
        self.state.word = self.text().trim().replace(' ', "-");
        "WORD is another".to_owned()
    }

    fn change_flavor(&mut self) -> String {
        self.state.flavor = if self.state.flavor == "k8s" { "yarn" } else { "k8s" };
        format!("--flavor {}", self.state.flavor)
    }

    fn toggle_whole_context(&mut self) -> String {
        self.state.is_whole ^= true;
        format!("--whole-context {}", self.state.is_whole)
    }

    /// What is at some path of a component that no rule of the tool is about.
    fn some_path(&mut self, name: &str, is_wanted: impl Fn(&Node) -> bool) -> Option<String> {
        let mut own: BTreeMap<String, Node> = self.state.below(&format!("src/{name}"));
        own.retain(|path, node| {
            !path.starts_with("build/")
                && path != ".dockerignore"
                && path != KEPT
                && is_wanted(node)
        });
        let paths: Vec<String> = own.into_keys().collect();
        Some(format!("src/{name}/{}", self.rng.choice(&paths)?))
    }

    fn some_file(&mut self, name: &str) -> Option<String> {
        self.some_path(name, |node| !matches!(node, Node::Folder(_)))
    }

    fn change_text(&mut self, name: &str) -> String {
        let path = self.some_file(name).unwrap_or(format!("src/{name}/a"));
        let text = self.text();
        self.put(&path, &text, 0o644);
        format!("change {path}")
    }

    fn change_mode(&mut self, name: &str) -> String {
        let path = self.some_file(name);
        let node = path.as_ref().and_then(|path| self.state.files.get_mut(path));
        if let Some(Node::File(_, mode)) = node {
            *mode ^= 0o111;
        }
        format!("chmod {path:?}")
    }

    fn change_folder_mode(&mut self, name: &str) -> String {
        let own = super::state::with_parents(self.state.below(&format!("src/{name}")));
        let is_plain = |(path, node): &(String, Node)| {
            matches!(node, Node::Folder(_)) && !path.starts_with("build")
        };
        let folders: Vec<(String, Node)> = own.into_iter().filter(is_plain).collect();
        let Some((path, node)) = self.rng.choice(&folders).cloned() else {
            return self.change_text(name);
        };
        let mode = if node == Node::Folder(0o755) { 0o700 } else { 0o755 };
        self.state.files.insert(format!("src/{name}/{path}"), Node::Folder(mode));
        format!("chmod {mode:o} src/{name}/{path}")
    }

    fn add_folder(&mut self, name: &str) -> String {
        let number = self.rng.u8(0..4);
        let path = *self.rng.choice(&["empty", "d/empty", "n/n/empty"]).expect("one of them");
        let path = format!("src/{name}/{path}{number}");
        self.state.files.entry(path.clone()).or_insert(Node::Folder(0o755));
        format!("mkdir {path}")
    }

    fn remove_folder(&mut self, name: &str) -> String {
        let path = self.some_path(name, |node| matches!(node, Node::Folder(_)));
        if let Some(path) = &path {
            let below = format!("{path}/");
            let is_kept = |file: &String| file == &format!("src/{name}/{KEPT}");
            self.state
                .files
                .retain(|file, _| is_kept(file) || file != path && !file.starts_with(&below));
        }
        format!("rm -r {path:?}")
    }

    fn rename(&mut self, name: &str) -> String {
        if let Some(path) = self.some_file(name) {
            let node = self.state.files.remove(&path).expect("it is there");
            self.state.files.insert(format!("{path}x"), node);
        }
        format!("rename a file of {name}")
    }

    fn remove_file(&mut self, name: &str) -> String {
        let path = self.some_file(name);
        path.as_ref().map(|path| self.state.files.remove(path));
        format!("remove {path:?}")
    }

    fn add_file(&mut self, name: &str) -> String {
        let text = self.text();
        let path = format!("src/{name}/new{}", self.rng.u8(..));
        self.put(&path, &text, 0o644);
        format!("add {path}")
    }

    fn link(&mut self, name: &str) -> String {
        let path = format!("src/{name}/link");
        let target = self.text().trim().to_owned();
        self.state.files.insert(path.clone(), Node::Link(target));
        format!("link {path}")
    }

    /// Another content of the same size under the same time.
    fn change_behind_the_clock(&mut self, root: &Path, name: &str) -> Edit {
        let path = self.some_file(name);
        let node = path.as_ref().and_then(|path| self.state.files.get(path).cloned());
        if let (Some(path), Some(Node::File(text, mode))) = (&path, node) {
            self.past.push(self.state.clone());
            let full = root.join(path);
            let modified = fs::metadata(&full).and_then(|metadata| metadata.modified());
            let text: String = text.chars().rev().collect();
            fs::write(&full, &text).expect("a file");
            let file = File::open(&full).expect("a file");
            file.set_modified(modified.expect("a time")).expect("a time");
            self.state.files.insert(path.clone(), Node::File(text, mode));
        }
        Edit { text: format!("change {path:?} behind the clock"), actions: Vec::new() }
    }

    fn touch(&mut self, root: &Path, name: &str) -> Edit {
        let path = self.some_file(name);
        if let Some(Node::File(..)) = path.as_ref().and_then(|path| self.state.files.get(path)) {
            let full = root.join(path.as_ref().expect("it is there"));
            File::open(full).and_then(|it| it.set_modified(SystemTime::now())).expect("a time");
        }
        Edit { text: format!("touch {path:?}"), actions: Vec::new() }
    }
}
