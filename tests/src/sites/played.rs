//! The scripted engine, and the tool as a library in this process.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use tempfile::TempDir;
use tokio::sync::mpsc;
use xtask::build::mode::Mode;
use xtask::build::options::{BuildOptions, Scope, Selection};
use xtask::build::run as build;
use xtask::command_context::CommandContext;
use xtask::engine::Environment;
use xtask::event::Event;
use xtask::event_channel::Events;
use xtask::outcome::{ImageState, Outcome, PlannedStep};
use xtask::system::signals::Interrupt;
use xtask_core::workspace::components::WorkspaceOptions;

use super::{Done, Site, act_on_files, kept};
use crate::model::{Action, State};
use crate::reference::{self, Contents};
use crate::scripted::ScriptedEngine;

/// A checkout and a scripted engine.
#[derive(Debug)]
pub struct Played {
    dir: TempDir,
    engine: ScriptedEngine,
}

impl Played {
    /// An empty folder and an engine without images.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        Self { dir, engine: ScriptedEngine::default() }
    }

    fn run(&self, state: &State, is_dry: bool) -> Result<Vec<Event>, String> {
        let (sender, mut events) = mpsc::unbounded_channel();
        let (_keep, interrupt) = Interrupt::manual();
        let setting = setting(self.root(), state, Events::new(sender), interrupt);
        let scope = Scope { reading: reading(state), selection: Selection::All };
        let (how, engine) = (BuildOptions::default(), self.engine.clone());
        let engine = async { Ok(engine) };
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let ended = runtime.block_on(async {
            if is_dry {
                let steps = build::preview(engine, &scope, &how, "build", &setting).await?;
                setting.events.send(Event::Planned { steps });
                return Ok(());
            }
            build::run_with(engine, &scope, &how, Mode::Build, &setting).await
        });
        drop(setting);
        let mut heard = Vec::new();
        while let Ok(event) = events.try_recv() {
            heard.push(event.event);
        }
        ended.map_err(|error| {
            let failed = |event: &Event| match event {
                Event::StepFailed(failure) => Some(failure.message.clone()),
                _ => None,
            };
            let failures: Vec<String> = heard.iter().filter_map(failed).collect();
            format!("{error}\n{}", failures.join("\n"))
        })?;
        Ok(heard)
    }
}

impl Default for Played {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(kept(self)));
    }
}

impl Site for Played {
    fn root(&self) -> &Path {
        self.dir.path()
    }

    fn own(&self, text: &str) -> String {
        text.to_owned()
    }

    fn build(&self, state: &State) -> Result<Done, String> {
        let mut done = Done::default();
        for event in self.run(state, false)? {
            match event {
                Event::StepFinished { component, outcome: Outcome::Built, .. } => {
                    done.built.insert(component);
                }
                Event::StepFinished { component, outcome: Outcome::Restored, .. } => {
                    done.restored.insert(component);
                }
                _ => {}
            }
        }
        Ok(done)
    }

    fn up_to_date(&self, state: &State) -> Result<BTreeSet<String>, String> {
        let planned = self.run(state, true)?.into_iter().find_map(|event| match event {
            Event::Planned { steps } => Some(steps),
            _ => None,
        });
        let is_done = |step: &PlannedStep| {
            let mut images = step.images.iter();
            step.hooks.is_none() && images.all(|it| it.state == ImageState::UpToDate)
        };
        let steps = planned.ok_or("nothing was planned")?;
        Ok(steps.into_iter().filter(is_done).map(|step| step.component).collect())
    }

    fn act(&self, action: &Action, before: &State, state: &State) {
        let image = |component: &str| format!("tt-{component}");
        match action {
            Action::Untag(component) => self.engine.untag(&image(component)),
            Action::Retag { from, to } => self.engine.retag(&image(from), &image(to)),
            Action::Derive { from, name } => self.engine.derive(&image(from), name),
            Action::Commit { from, name } => self.engine.commit(&image(from), name),
            Action::Take { base, dependent, is_derived } => {
                if *is_derived {
                    self.engine.derive(&image(base), "tt-taker");
                } else {
                    self.engine.import("tt-taker", reference::outside(u32::MAX));
                }
                let (dependent, base) = (image(dependent), image(base));
                self.engine.retag_before_build_of(&dependent, "tt-taker", &base);
            }
            Action::MoveOutside => {
                self.engine.import("tt-outside", reference::outside(state.outside));
            }
            Action::Kill => {
                self.engine.fail_after(Some(1));
                drop(self.build(state));
                self.engine.fail_after(None);
            }
            Action::Build => drop(self.build(state)),
            _ => act_on_files(self, action, before, state),
        }
    }

    fn disarm(&self) {
        self.engine.disarm();
    }

    fn names(&self) -> BTreeMap<String, String> {
        self.engine.names()
    }

    fn contents(&self, component: &str) -> Contents {
        self.engine.contents(&format!("tt-{component}")).unwrap_or_default()
    }
}

/// What a command is run with.
pub fn setting(root: &Path, state: &State, events: Events, interrupt: Interrupt) -> CommandContext {
    let mut variables: BTreeMap<OsString, OsString> = env::vars_os().collect();
    variables.extend(state.variables.iter().map(|(name, value)| (name.into(), value.into())));
    CommandContext {
        proxies: BTreeMap::new(),
        root: root.to_owned(),
        environment: Environment::default(),
        variables,
        store_limit: 1 << 20,
        events,
        interrupt,
        no_wait: true,
    }
}

/// How a state is read.
pub fn reading(state: &State) -> WorkspaceOptions {
    let word = state.word().map(|word| ("WORD".to_owned(), word.to_owned()));
    WorkspaceOptions {
        config_dir: None,
        build_args: word.into_iter().collect(),
        flavor: state.flavor().map(str::to_owned),
        whole_context: state.is_whole,
        ..WorkspaceOptions::default()
    }
}
