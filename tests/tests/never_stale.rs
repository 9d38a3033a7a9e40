//! After any edits, a build leaves what the model says that every image contains, builds
//! nothing that the edits cannot reach, and builds nothing the second time; and what
//! `build -n` calls up to date is not built.
//!
//!     SEED=7 STEPS=1000 REAL_STEPS=1000 cargo test -p tests --test never_stale -- --nocapture
//!
//! `SEED` chooses the story, else it is another one each time; `SEEDS` how many stories
//! follow with the scripted engine, of `STEPS` steps each, and `REAL_STEPS` the length of
//! the one with a real engine. `KINDS=undo,derived` allows only these kinds of edits besides
//! the plain ones, `KINDS=-git` all but this. A failure names its seed, and the edits that
//! led to it.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt;
use std::fs;
use std::sync::Mutex;
use std::thread;

use fastrand::Rng;
use tests::model::{Action, Edit, Kind, Model, State, kinds_of_environment};
use tests::reference;
use tests::scripted::ScriptedEngine;
use tests::sites::{Done, Played, Real, Site, setting};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use xtask::build::mode::Mode;
use xtask::build::options::{BuildOptions, Scope, Selection};
use xtask::build::run as build;
use xtask::event_channel::Events;
use xtask::system::signals::Interrupt;
use xtask_core::workspace::components::WorkspaceOptions;

/// How many stories are followed at the same time.
const AT_ONCE: usize = 5;

fn number(name: &str, default: impl FnOnce() -> u64) -> u64 {
    env::var(name).map_or_else(|_| default(), |text| text.parse().expect("a number"))
}

fn seed() -> u64 {
    number("SEED", || fastrand::u64(0..1_000_000))
}

/// What a story came to.
#[derive(Debug, Default)]
struct Figures {
    steps: u64,
    edits: u64,
    builds: u64,
    built: usize,
    compared: usize,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steps, edits, builds, built, compared } = self;
        write!(
            f,
            "{steps} steps, {edits} edits, {builds} builds of {built} components, \
             {compared} images compared"
        )
    }
}

/// A random story at a site.
struct Story<'a, S> {
    site: &'a S,
    model: Model,
    /// All that happened.
    told: Vec<String>,
    figures: Figures,
    asks_first: bool,
    /// What was built since `target/` was copied.
    built_since_kept: BTreeSet<String>,
    /// The components that may have to be built in this step.
    reach: BTreeSet<String>,
    /// The state of the last build in this step, or before it.
    built_from: State,
    /// Whether a name is to be taken during this step's build.
    is_taken: bool,
}

impl<'a, S: Site> Story<'a, S> {
    fn begin(site: &'a S, seed: u64, kinds: BTreeSet<Kind>) -> Self {
        let asks_first = kinds.contains(&Kind::Questions);
        let model = Model::new(seed, kinds);
        model.write(site.root(), |text| site.own(text));
        site.begin(&model.state);
        let story = Self {
            site,
            told: vec![format!("SEED={seed}")],
            figures: Figures::default(),
            asks_first,
            built_since_kept: BTreeSet::new(),
            reach: BTreeSet::new(),
            built_from: model.state.clone(),
            is_taken: false,
            model,
        };
        site.build(&story.model.state).unwrap_or_else(|error| panic!("{error}"));
        story.compare();
        story
    }

    /// A few edits, a build, and all that must hold after it.
    fn step(&mut self, edits: u64) {
        self.built_from = self.model.state.clone();
        self.reach.clear();
        self.is_taken = false;
        for _ in 0..edits {
            let before = self.model.state.clone();
            let edit = self.model.edit(self.site.root(), |text| self.site.own(text));
            self.act(&edit, &before);
        }
        self.end_build_of_state();
        let foreign = self.foreign();
        self.build();
        assert_eq!(self.foreign(), foreign, "{}\nforeign names were changed", self.story());
        self.figures.compared += self.compare();
        let again = self.try_build();
        let is_idle = again.built.is_empty() && again.restored.is_empty();
        assert!(is_idle, "{}\nin a second build: {again:?}", self.story());
        self.ask_last();
        self.figures.steps += 1;
        self.figures.edits += edits;
    }

    fn story(&self) -> String {
        self.told.join("\n")
    }

    fn act(&mut self, edit: &Edit, before: &State) {
        self.told.push(edit.text.clone());
        for action in &edit.actions {
            self.reach.extend(action.touched());
            match action {
                Action::Keep => self.built_since_kept.clear(),
                Action::RollBack => self.reach.extend(self.built_since_kept.iter().cloned()),
                Action::Take { .. } => self.is_taken = true,
                _ => {}
            }
            self.site.act(action, before, &self.model.state);
            if action.builds() {
                self.end_build_of_state();
                self.built_since_kept.extend(self.reach.iter().cloned());
            }
        }
    }

    /// Whatever the edits since the last build reach may be built, with its dependents.
    fn end_build_of_state(&mut self) {
        self.reach.extend(self.built_from.reach(&self.model.state));
        self.reach = self.model.state.dependents(&self.reach);
        self.built_from = self.model.state.clone();
    }

    fn build(&mut self) {
        self.told.push(format!("build -> {:?}", self.reach));
        let promised = self.ask_first();
        if self.is_taken {
            // It may fail, or leave to the next one what it made from a foreign image.
            let done = self.site.build(&self.model.state).unwrap_or_default();
            self.site.disarm();
            self.note(&done);
        }
        let done = self.try_build();
        self.note(&done);
        let changed: BTreeSet<&String> = done.built.union(&done.restored).collect();
        let broken: Vec<_> = changed.into_iter().filter(|it| promised.contains(*it)).collect();
        assert!(
            broken.is_empty() || self.is_taken,
            "{}\n'build -n' said up to date of {broken:?}, and then: {done:?}",
            self.story()
        );
    }

    fn try_build(&mut self) -> Done {
        self.figures.builds += 1;
        let done = self.site.build(&self.model.state);
        done.unwrap_or_else(|error| panic!("{}\nthe build failed: {error}", self.story()))
    }

    fn note(&mut self, done: &Done) {
        let needless: Vec<_> = done.built.difference(&self.reach).collect();
        assert!(needless.is_empty(), "{}\nneedless: {needless:?}", self.story());
        self.built_since_kept.extend(done.built.iter().cloned());
        self.figures.built += done.built.len();
    }

    /// The components that `build -n` says to be up to date; it changes nothing.
    fn ask_first(&self) -> BTreeSet<String> {
        if !self.asks_first {
            return BTreeSet::new();
        }
        let before = self.site.names();
        let said = self.ask();
        assert_eq!(self.site.names(), before, "{}\n'build -n' changed names", self.story());
        said
    }

    /// After a build, all is up to date that does not wait for an undeclared hook.
    fn ask_last(&self) {
        if !self.asks_first {
            return;
        }
        let is_undeclared =
            |it: &tests::model::Component| it.hook.as_ref().is_some_and(|hook| !hook.is_declared);
        let state = &self.model.state;
        let waiting = state.dependents(&state.named(is_undeclared));
        let said = self.ask();
        let missing: Vec<_> = state
            .components
            .keys()
            .filter(|name| !waiting.contains(*name) && !said.contains(*name))
            .collect();
        let story = self.story();
        assert!(missing.is_empty(), "{story}\n'build -n' does not say up to date of {missing:?}");
    }

    fn ask(&self) -> BTreeSet<String> {
        let said = self.site.up_to_date(&self.model.state);
        said.unwrap_or_else(|error| panic!("{}\n'build -n' failed: {error}", self.story()))
    }

    fn foreign(&self) -> BTreeMap<String, String> {
        let mut names = self.site.names();
        names.retain(|name, _| name.contains("-foreign"));
        names
    }

    /// Compares all images with what the model says; tells how many.
    fn compare(&self) -> usize {
        let expected = reference::images(&self.model.state);
        for (component, expected) in &expected {
            let found = self.site.contents(component);
            let paths: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
            let wrong: Vec<String> = paths
                .into_iter()
                .filter(|path| found.get(*path) != expected.get(*path))
                .map(|path| {
                    format!("{path}: {:?}, expected {:?}", found.get(path), expected.get(path))
                })
                .collect();
            assert!(
                wrong.is_empty(),
                "{}\n{component}'s image is wrong:\n{}",
                self.story(),
                wrong.join("\n")
            );
        }
        expected.len()
    }
}

fn follow<S: Site>(site: &S, seed: u64, steps: u64) -> Figures {
    eprintln!("SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let mut story = Story::begin(site, seed, kinds_of_environment());
    for step in 1..=steps {
        if step % 20 == 0 {
            eprintln!("SEED={seed}, step {step} of {steps}: {}", story.figures);
        }
        story.step(rng.u64(1..=3));
    }
    eprintln!("SEED={seed}: {}", story.figures);
    story.figures
}

#[test]
fn every_image_is_what_the_model_says_and_none_is_built_in_vain() {
    let (first, steps) = (seed(), number("STEPS", || 60));
    let seeds = Mutex::new(first..first + number("SEEDS", || 5));
    let next = || seeds.lock().expect("no story fails with it").next();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(seed) = next() {
                    follow(&Played::new(), seed, steps);
                }
            });
        }
    });
}

#[test]
fn and_so_it_is_with_a_real_engine() {
    let figures = follow(&Real::new(), seed(), number("REAL_STEPS", || 24));
    assert!(figures.compared > 0, "{figures}");
}

/// While `b` is built from a foreign image that took the name of its base, `c` begins, which has the
/// same base, and puts the name right.
#[test]
fn a_name_that_another_build_puts_right_proves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    for (name, base) in [("a", "scratch"), ("b", "tt-a"), ("c", "tt-a")] {
        write(
            &format!("src/{name}/build/tt-{name}.dockerfile"),
            &format!("FROM {base}\nCOPY text /{name}\n"),
        );
        write(&format!("src/{name}/text"), "first");
    }
    write("src/c/build/build-pre.sh", "#!/bin/sh\nsleep 0.2\n");
    let engine = ScriptedEngine::default();
    let build = || {
        let state = Model::new(0, BTreeSet::new()).state;
        let (sender, _events) = mpsc::unbounded_channel();
        let (_keep, interrupt) = Interrupt::manual();
        let setting = setting(dir.path(), &state, Events::new(sender), interrupt);
        let scope = Scope { reading: WorkspaceOptions::default(), selection: Selection::All };
        let (how, engine) = (BuildOptions::default(), engine.clone());
        let round = build::run_with(async { Ok(engine) }, &scope, &how, Mode::Build, &setting);
        Runtime::new().expect("a runtime").block_on(round).expect("a build");
    };
    build();
    engine.derive("tt-a", "tt-taker");
    engine.retag_before_build_of("tt-b", "tt-taker", "tt-a");
    for name in ["b", "c"] {
        write(&format!("src/{name}/text"), "second");
    }
    build();
    let names = engine.names();
    assert_ne!(names["tt-a"], names["tt-taker"]);
    let image = engine.contents("tt-b").expect("an image");
    assert!(image.contains_key("b") && !image.contains_key("derived"), "{image:?}");
}

#[test]
fn the_edits_reach_something_and_not_everything() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut model = Model::new(1, Kind::of_files());
    model.write(dir.path(), str::to_owned);
    let mut reached = BTreeSet::new();
    for _ in 0..200 {
        let before = model.state.clone();
        model.edit_files(dir.path(), str::to_owned);
        reached.insert(before.reach(&model.state).len());
    }
    assert!(reached.len() > 3, "{reached:?}");
}

#[test]
fn every_kind_of_edit_happens() {
    let all: BTreeSet<Kind> = Kind::ALL.iter().map(|(_, kind)| *kind).collect();
    let mut happened = BTreeSet::new();
    for seed in 0..8 {
        let mut model = Model::new(seed, all.clone());
        let dir = tempfile::tempdir().expect("a folder");
        model.write(dir.path(), str::to_owned);
        for _ in 0..100 {
            let edit = model.edit(dir.path(), str::to_owned);
            let name = |action: &Action| {
                let text = format!("{action:?}");
                text.split([' ', '(']).next().unwrap_or_default().to_owned()
            };
            happened.extend(edit.actions.iter().map(name));
            happened.extend(edit.text.split(' ').next().map(str::to_owned));
        }
    }
    let expected = [
        "Untag",
        "Retag",
        "Derive",
        "Commit",
        "Take",
        "MoveOutside",
        "Lose",
        "Keep",
        "RollBack",
        "Kill",
        "Build",
        "GitCommit",
        "GitCheckout",
        "undo",
        "chmod",
        "mkdir",
        "rm",
        "the",
        "--flavor",
        "--whole-context",
        "touch",
        "rename",
        "add",
        "remove",
    ];
    for name in expected {
        assert!(happened.contains(name), "{name} never happened: {happened:?}");
    }
}
