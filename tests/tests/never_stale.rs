//! After any edit, an incremental build leaves what a build from scratch would,
//! builds nothing that the edit cannot reach, and builds nothing the second time.
//!
//! `SEED`, `SEEDS`, `STEPS` and `REAL_STEPS` in the environment choose other stories and
//! longer ones. A failure names its seed, and the edits that led to it.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use tempfile::TempDir;
use tests::Workspace;
use tests::engine::{self, docker, image_config, image_tree};
use tests::model::{Action, Model};
use tests::scripted::{Contents, ScriptedEngine};
use tokio::sync::mpsc;
use xtask::commands::Setting;
use xtask::commands::aim::Aim;
use xtask::commands::build::{self, BuildOptions};
use xtask::core::workspace::Options;
use xtask::effects::engine::Environment;
use xtask::effects::interrupt::Interrupt;
use xtask::event::{Event, Events, Outcome};

/// Where a model is built.
trait Site {
    /// Every how many edits all images are compared.
    const COMPARED: u64;

    fn root(&self) -> &Path;
    fn own(&self, text: &str) -> String;
    /// Builds, and tells which components were built, or why it failed.
    fn build(&self, model: &Model) -> Result<Vec<String>, String>;
    fn act(&self, action: &Action, model: &Model);
    fn contents(&self, component: &str) -> Contents;
    /// What every component's image comes to in a new checkout, from nothing.
    fn scratch(&self, model: &Model) -> BTreeMap<String, Contents>;
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn follow<S: Site>(site: &S, seed: u64, steps: u64) {
    let mut model = Model::new(seed);
    model.write(site.root(), |text| site.own(text));
    site.act(&Action::MoveOutside, &model);
    site.build(&model).expect("the first build");
    let mut story = vec![format!("SEED={seed}")];
    for step in 0..steps {
        let edit = model.edit(site.root(), |text| site.own(text));
        story.push(format!("{} -> {:?}", edit.text, edit.reach));
        let told = || story.join("\n");
        site.act(&edit.action, &model);
        let built = site.build(&model).unwrap_or_else(|error| panic!("{}\n{error}", told()));
        let needless: Vec<_> = built.iter().filter(|name| !edit.reach.contains(*name)).collect();
        assert!(needless.is_empty(), "{}\nneedless: {needless:?}", told());
        let is_compared = step % S::COMPARED == 0;
        let expected = if is_compared { site.scratch(&model) } else { BTreeMap::new() };
        for (component, expected) in expected {
            let found = site.contents(&component);
            assert_eq!(found, expected, "{}\n{component} is stale", told());
        }
        let again = site.build(&model).unwrap_or_else(|error| panic!("{}\n{error}", told()));
        assert!(again.is_empty(), "{}\nbuilt again: {again:?}", told());
    }
}

/// A checkout and an engine that plays one, in this process.
struct Played {
    dir: TempDir,
    engine: ScriptedEngine,
}

impl Played {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        Self { dir, engine: ScriptedEngine::default() }
    }

    fn import_outside(&self, version: u32) {
        let what = "outside".to_owned();
        self.engine.import("tt-outside", [(what, version.to_string())].into());
    }
}

impl Site for Played {
    const COMPARED: u64 = 1;

    fn root(&self) -> &Path {
        self.dir.path()
    }

    fn own(&self, text: &str) -> String {
        text.to_owned()
    }

    fn build(&self, model: &Model) -> Result<Vec<String>, String> {
        let (sender, mut events) = mpsc::unbounded_channel();
        let mut variables: BTreeMap<OsString, OsString> = env::vars_os().collect();
        variables.extend(model.variables.iter().map(|(name, value)| (name.into(), value.into())));
        let (_keep, interrupt) = Interrupt::manual();
        let setting = Setting {
            root: self.root().to_owned(),
            environment: Environment::default(),
            proxies: BTreeMap::new(),
            variables,
            store_limit: 1 << 20,
            events: Events::new(sender),
            interrupt,
            no_wait: true,
        };
        let build_args = [("WORD".to_owned(), model.word.clone())].into();
        let reading = Options { build_args, ..Options::default() };
        let options = BuildOptions { reading, ..BuildOptions::default() };
        let engine = self.engine.clone();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let ended =
            runtime.block_on(build::run_with(async { Ok(engine) }, &options, Aim::Build, &setting));
        drop(setting);
        ended.map_err(|error| error.to_string())?;
        let mut built = Vec::new();
        while let Ok(event) = events.try_recv() {
            if let Event::StepFinished { component, outcome: Outcome::Built, .. } = event {
                built.push(component);
            }
        }
        Ok(built)
    }

    fn act(&self, action: &Action, model: &Model) {
        let image = |component: &String| format!("tt-{component}");
        match action {
            Action::None => {}
            Action::Untag(component) => self.engine.untag(&image(component)),
            Action::Retag(from, to) => self.engine.retag(&image(from), &image(to)),
            Action::Derive(component) => self.engine.derive(&image(component)),
            Action::MoveOutside => self.import_outside(model.outside),
            Action::Forget => fs::remove_dir_all(self.root().join("target")).expect("it was there"),
            Action::Interrupt => {
                self.engine.fail_after(Some(1));
                drop(self.build(model));
                self.engine.fail_after(None);
            }
        }
    }

    fn contents(&self, component: &str) -> Contents {
        self.engine.contents(&format!("tt-{component}")).unwrap_or_default()
    }

    fn scratch(&self, model: &Model) -> BTreeMap<String, Contents> {
        let other = Self::new();
        model.write(other.root(), str::to_owned);
        other.import_outside(model.outside);
        other.build(model).expect("a build from scratch");
        model.components().map(|name| (name.clone(), other.contents(name))).collect()
    }
}

/// A checkout, the binary and the engine of this machine.
struct Real(Workspace);

impl Real {
    fn arguments(model: &Model) -> Vec<String> {
        vec!["build".to_owned(), "--build-arg".to_owned(), format!("WORD={}", model.word)]
    }

    fn run(&self, model: &Model, more: &[&str]) -> tests::Output {
        let mut arguments = Self::arguments(model);
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.0.xtask_with(&model.variables, &arguments)
    }
}

impl Site for Real {
    const COMPARED: u64 = 3;

    fn root(&self) -> &Path {
        self.0.root()
    }

    fn own(&self, text: &str) -> String {
        self.0.own(text)
    }

    fn build(&self, model: &Model) -> Result<Vec<String>, String> {
        let output = self.run(model, &[]);
        if output.code != 0 {
            return Err(output.stderr);
        }
        Ok(output.built().into_iter().map(str::to_owned).collect())
    }

    fn act(&self, action: &Action, model: &Model) {
        let image = |component: &str| self.own(&format!("tt-{component}"));
        match action {
            Action::None => {}
            Action::Untag(component) => drop(docker(&["rmi", "-f", &image(component)])),
            Action::Retag(from, to) => drop(docker(&["tag", &image(from), &image(to)])),
            Action::Derive(component) => {
                let context = tempfile::tempdir().expect("a folder");
                let text = format!("FROM {}\nCOPY Dockerfile /derived\n", image(component));
                fs::write(context.path().join("Dockerfile"), text).expect("a file");
                engine::cli_build(context.path(), "Dockerfile", &image(component), &[]);
            }
            Action::MoveOutside => {
                engine::import_file(&image("outside"), "outside", &model.outside.to_string());
            }
            Action::Forget => fs::remove_dir_all(self.root().join("target")).expect("it was there"),
            Action::Interrupt => {
                let arguments = Self::arguments(model);
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let mut running = self.0.start(&arguments);
                running.wait_for("| building");
                running.signal(rustix::process::Signal::KILL);
                drop(running.finish());
            }
        }
    }

    fn contents(&self, component: &str) -> Contents {
        let image = self.own(&format!("tt-{component}"));
        let prefix = self.own("tt-");
        let plain = |text: String| text.replace(&prefix, "tt-");
        let tree = image_tree(&image).into_iter();
        let mut contents: Contents = tree.map(|(path, what)| (plain(path), plain(what))).collect();
        contents.insert("labels".to_owned(), image_config(&image)["Labels"].to_string());
        contents
    }

    fn scratch(&self, model: &Model) -> BTreeMap<String, Contents> {
        let other = Self(Workspace::new());
        model.write(other.root(), |text| other.own(text));
        other.act(&Action::MoveOutside, model);
        drop(other.run(model, &["--no-cache"]).exits_with(0));
        model.components().map(|name| (name.clone(), other.contents(name))).collect()
    }
}

#[test]
fn an_incremental_build_leaves_what_a_build_from_scratch_would() {
    let steps = number("STEPS", 60);
    let first = number("SEED", 1);
    for seed in first..first + number("SEEDS", 5) {
        follow(&Played::new(), seed, steps);
    }
}

#[test]
fn and_so_it_does_with_a_real_engine() {
    follow(&Real(Workspace::new()), number("SEED", 1), number("REAL_STEPS", 24));
}

#[test]
fn the_edits_reach_something_and_not_everything() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut model = Model::new(1);
    model.write(dir.path(), str::to_owned);
    let reached: BTreeSet<usize> =
        (0..200).map(|_| model.edit(dir.path(), str::to_owned).reach.len()).collect();
    assert!(reached.len() > 3, "{reached:?}");
}
