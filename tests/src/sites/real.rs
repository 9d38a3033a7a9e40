//! The engine of this machine, and the tool's binary.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::{Done, Site, act_on_files, kept};
use crate::engine::{self, docker, image_config, image_tree};
use crate::model::{Action, State};
use crate::reference::Contents;
use crate::{Output, Workspace};

/// What an engine puts into every container.
const OF_THE_ENGINE: [&str; 5] = [".dockerenv", "dev", "etc", "proc", "sys"];

/// A checkout and a real engine.
#[derive(Debug)]
pub struct Real {
    workspace: Workspace,
    /// What is in an image, by id.
    known: RefCell<BTreeMap<String, Contents>>,
    /// The images that ever had one of our names, in order.
    seen: RefCell<Vec<String>>,
}

impl Real {
    /// An empty folder.
    pub fn new() -> Self {
        let (known, seen) = (RefCell::default(), RefCell::default());
        Self { workspace: Workspace::new(), known, seen }
    }

    fn arguments(state: &State, command: &[&str]) -> Vec<String> {
        let mut arguments: Vec<String> = command.iter().map(|&it| it.to_owned()).collect();
        if let Some(word) = state.word() {
            arguments.extend(["--build-arg".to_owned(), format!("WORD={word}")]);
        }
        if let Some(flavor) = state.flavor() {
            arguments.extend(["--flavor".to_owned(), flavor.to_owned()]);
        }
        if state.is_whole {
            arguments.push("--whole-context".to_owned());
        }
        arguments
    }

    fn run(&self, state: &State, command: &[&str]) -> Result<Output, String> {
        let arguments = Self::arguments(state, command);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = self.workspace.xtask_with(&state.variables, &arguments);
        if output.code == 0 { Ok(output) } else { Err(output.stderr) }
    }

    fn image(&self, component: &str) -> String {
        self.own(&format!("tt-{component}"))
    }

    fn derive(&self, from: &str, name: &str) {
        let context = tempfile::tempdir().expect("a folder");
        let text = format!("FROM {}\nCOPY Dockerfile /derived\n", self.image(from));
        fs::write(context.path().join("Dockerfile"), text).expect("a file");
        engine::cli_build(context.path(), "Dockerfile", &self.own(name), &[]);
    }

    fn commit(&self, from: &str, name: &str) {
        let container = docker(&["create", &self.image(from), "/none"]);
        let container = String::from_utf8_lossy(&container).trim().to_owned();
        let change = "LABEL committed=yes";
        docker(&["commit", "-c", change, &container, &self.own(name)]);
        docker(&["rm", "-f", &container]);
    }

    /// Leaves word for the dependent's hook, which takes the base's name once.
    fn take(&self, base: &str, dependent: &str, is_derived: bool) {
        if is_derived {
            self.derive(base, "tt-taker");
        } else {
            engine::import_file(&self.own("tt-taker"), "taker", "");
        }
        let trap = format!("trap/{dependent}");
        let script = format!("rm {trap}\ndocker tag tt-taker tt-{base}\n");
        self.workspace.write(&trap, &script);
    }

    /// Kills a build as soon as it is at work.
    fn kill(&self, state: &State) {
        let arguments = Self::arguments(state, &["build"]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut running = self.workspace.start_with(&state.variables, &arguments);
        running.wait_for("| building");
        running.signal(Signal::KILL);
        drop(running.finish());
    }

    fn read_image(&self, image: &str) -> Contents {
        let prefix = self.own("tt-");
        let plain = |text: String| text.replace(&prefix, "tt-");
        let is_ours = |(path, _): &(String, String)| {
            OF_THE_ENGINE.iter().all(|top| path.split('/').next() != Some(top))
        };
        let tree = image_tree(image).into_iter().filter(is_ours);
        let mut contents: Contents = tree.map(|(path, what)| (plain(path), plain(what))).collect();
        if let Some(labels) = image_config(image)["Labels"].as_object() {
            for (label, value) in labels {
                let value = value.as_str().unwrap_or_default().to_owned();
                contents.insert(format!("label {label}"), value);
            }
        }
        contents
    }
}

impl Default for Real {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Real {
    /// What has a name goes with the workspace; what lost it goes here, the newest first.
    fn drop(&mut self) {
        drop(fs::remove_dir_all(kept(self)));
        let mut remove = Command::new("docker");
        remove.args(["rmi", "-f"]).args(self.seen.borrow().iter().rev());
        drop(remove.stdout(Stdio::null()).stderr(Stdio::null()).status());
    }
}

impl Site for Real {
    fn root(&self) -> &Path {
        self.workspace.root()
    }

    fn own(&self, text: &str) -> String {
        self.workspace.own(text)
    }

    fn build(&self, state: &State) -> Result<Done, String> {
        let output = self.run(state, &["build"])?;
        self.names();
        let ended = |how: &str| {
            let lines = output.stderr.lines().filter(|line| line.contains(how));
            lines.filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect()
        };
        Ok(Done { built: ended("| built in "), restored: ended("| restored in ") })
    }

    fn up_to_date(&self, state: &State) -> Result<BTreeSet<String>, String> {
        let output = self.run(state, &["build", "-n"])?;
        let lines = output.stdout.lines().filter_map(|line| line.strip_suffix("  up to date"));
        Ok(lines.filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect())
    }

    fn act(&self, action: &Action, before: &State, state: &State) {
        let is_there = |component: &str| self.names().contains_key(&self.image(component));
        if action.image().is_some_and(|component| !is_there(component)) {
            return;
        }
        match action {
            Action::Untag(component) => drop(docker(&["rmi", "-f", &self.image(component)])),
            Action::Retag { from, to } => {
                docker(&["tag", &self.image(from), &self.image(to)]);
            }
            Action::Derive { from, name } => self.derive(from, name),
            Action::Commit { from, name } => self.commit(from, name),
            Action::Take { base, dependent, is_derived } => {
                self.take(base, dependent, *is_derived);
            }
            Action::MoveOutside => {
                let version = state.outside.to_string();
                engine::import_file(&self.image("outside"), "outside", &version);
            }
            Action::Kill => self.kill(state),
            Action::Build => drop(self.build(state)),
            _ => act_on_files(self, action, before, state),
        }
        self.names();
    }

    fn disarm(&self) {
        drop(fs::remove_dir_all(self.root().join("trap")));
    }

    fn names(&self) -> BTreeMap<String, String> {
        let filter = format!("reference={}*", self.own("tt-"));
        let format = "{{.Repository}} {{.ID}}";
        let list = docker(&["images", "--no-trunc", "--filter", &filter, "--format", format]);
        let list = String::from_utf8_lossy(&list).into_owned();
        let pairs = list.lines().filter_map(|line| line.split_once(' '));
        let names: BTreeMap<String, String> =
            pairs.map(|(name, id)| (name.to_owned(), id.to_owned())).collect();
        let mut seen = self.seen.borrow_mut();
        for id in names.values() {
            if !seen.contains(id) {
                seen.push(id.clone());
            }
        }
        names
    }

    fn contents(&self, component: &str) -> Contents {
        let Some(id) = self.names().remove(&self.image(component)) else {
            return Contents::new();
        };
        if let Some(contents) = self.known.borrow().get(&id) {
            return contents.clone();
        }
        let contents = self.read_image(&id);
        self.known.borrow_mut().insert(id, contents.clone());
        contents
    }
}
