//! One run of a plan, from its first step to the clean-up.
//!
//! The steps of one component: its dependencies are put under `dependency/`, its
//! `build-pre.sh` runs, its images are built, its `build-post.sh` runs. Only
//! hooks need the dependencies on disk; for a component without hooks they are
//! streamed into the context and nothing is copied. However a round ends, the
//! temporary folders of every component are gone afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use super::CommandError;
use super::build::BuildOptions;
use crate::core::config::RegistryConfig;
use crate::core::fingerprint::Fingerprint;
use crate::core::holdings::Holdings;
use crate::core::plan::{Plan, Step};
use crate::core::problem::Problem;
use crate::core::workspace::{Component, Workspace};
use crate::effects::engine::{Engine, EngineError};
use crate::effects::hooks::{self, HookError};
use crate::effects::interrupt::Interrupt;
use crate::effects::records::Records;
use crate::effects::temporary;
use crate::event::{Event, Events, Outcome, Summary};

/// Why a component was not built.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A hook failed.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// A file of the component is wrong.
    #[error("{0}")]
    File(Problem),
    /// Files of a component or of what it needs cannot be read or copied.
    #[error("component '{component}': {source}")]
    Tree {
        /// The component.
        component: String,
        /// Which file, and why.
        source: io::Error,
    },
    /// A base image is nowhere to be had.
    #[error(
        "{file}:{line}: base image '{reference}' is not in the engine and cannot be pulled: check its name, or make it first ({source})"
    )]
    Base {
        /// The Dockerfile.
        file: String,
        /// The line that names the base.
        line: usize,
        /// The base.
        reference: String,
        /// What the registry or the engine said.
        source: EngineError,
    },
    /// The engine did not make the image.
    #[error("{dockerfile}: image '{image}' failed to build: {source}")]
    Image {
        /// The Dockerfile.
        dockerfile: String,
        /// The image.
        image: String,
        /// What the engine said.
        source: EngineError,
    },
    /// What was built cannot be remembered.
    #[error("target/xtask/ cannot be written: {0}")]
    Records(io::Error),
    /// The engine did not answer.
    #[error(transparent)]
    Engine(EngineError),
    /// The user stopped it.
    #[error("interrupted")]
    Cancelled,
}

/// All that a run of a plan needs.
pub(super) struct Round<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) plan: &'a Plan,
    pub(super) engine: &'a Engine,
    pub(super) registry: Option<&'a RegistryConfig>,
    pub(super) options: &'a BuildOptions,
    pub(super) events: &'a Events,
    pub(super) interrupt: &'a Interrupt,
    pub(super) variables: &'a BTreeMap<String, String>,
}

impl Round<'_> {
    /// Runs every step, up to the first that fails, and cleans up.
    pub(super) async fn run(&self) -> Result<(), CommandError> {
        let started = Instant::now();
        self.events.send(Event::RoundStarted {
            components: self
                .plan
                .steps
                .iter()
                .map(|step| self.component(step).name.clone())
                .collect(),
        });
        let (outcomes, ended) = self.steps().await;
        let cleaned = temporary::clean(self.workspace).map_err(CommandError::Unclean);
        let count = |wanted| outcomes.iter().filter(|outcome| **outcome == wanted).count();
        let (built, up_to_date) = (count(Outcome::Built), count(Outcome::UpToDate));
        let failed = count(Outcome::Failed);
        self.events.send(Event::RoundFinished(Summary {
            built,
            up_to_date,
            failed,
            not_tried: self.plan.steps.len() - built - up_to_date - failed,
            duration: started.elapsed(),
        }));
        match ended {
            Err(StepError::Cancelled) => cleaned.and(Err(CommandError::Interrupted)),
            Err(error) => Err(error.into()),
            Ok(()) => cleaned,
        }
    }

    /// How each step that was begun ended, and why not all of them were.
    async fn steps(&self) -> (Vec<Outcome>, Result<(), StepError>) {
        let mut outcomes = Vec::new();
        let mut known = match self.engine.holdings().await {
            Ok(holdings) => Known {
                holdings,
                records: Records::read(&self.workspace.root),
                fingerprints: BTreeMap::new(),
                pulled: BTreeSet::new(),
                warned: BTreeSet::new(),
            },
            Err(error) => return (outcomes, Err(StepError::Engine(error))),
        };
        let ended = self.steps_with(&mut known, &mut outcomes).await;
        let written = known.records.write().map_err(StepError::Records);
        (outcomes, ended.and(written))
    }

    async fn steps_with(
        &self,
        known: &mut Known,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), StepError> {
        for step in &self.plan.steps {
            let component = self.component(step);
            let started = Instant::now();
            self.events.send(Event::StepStarted { component: component.name.clone() });
            let ended = self.step(step, component, known).await;
            let outcome = match &ended {
                Ok(outcome) => *outcome,
                Err(StepError::Cancelled) => Outcome::Cancelled,
                Err(_) => Outcome::Failed,
            };
            outcomes.push(outcome);
            self.events.send(Event::StepFinished {
                component: component.name.clone(),
                outcome,
                duration: started.elapsed(),
            });
            ended?;
        }
        Ok(())
    }

    async fn step(
        &self,
        step: &Step,
        component: &Component,
        known: &mut Known,
    ) -> Result<Outcome, StepError> {
        let key = self.key(step, component, known)?;
        if let Some(key) = key.as_ref().filter(|_| !self.options.no_cache)
            && self.is_settled(component, key, known).await?
        {
            return Ok(Outcome::UpToDate);
        }
        if component.has_hooks() {
            self.copy_dependencies(step, component).await?;
        }
        self.hook(component, component.pre_hook.as_deref()).await?;
        let mut outcome = Outcome::UpToDate;
        for image in step.images.iter().map(|place| &component.images[*place]) {
            tokio::select! {
                made = self.image(step, component, image, known) => {
                    if made? == Outcome::Built {
                        outcome = Outcome::Built;
                    }
                }
                () = self.interrupt.wait() => return Err(StepError::Cancelled),
            }
        }
        self.hook(component, component.post_hook.as_deref()).await?;
        if let Some(key) = key
            && self.key(step, component, known)?.as_ref() == Some(&key)
        {
            let settled = self.settle(component, key, known);
            settled.map_err(|source| tree_error(component, source))?;
        }
        Ok(outcome)
    }

    async fn copy_dependencies(&self, step: &Step, component: &Component) -> Result<(), StepError> {
        let at = self.workspace.root.join(component.dir()).join("dependency");
        let copies = self.dependency_folders(step);
        let copying = tokio::task::spawn_blocking(move || {
            copies
                .iter()
                .try_for_each(|(name, from)| temporary::copy_dependency(from, &at.join(name)))
        });
        let copied = copying.await.map_err(io::Error::other).flatten();
        copied.map_err(|source| tree_error(component, source))
    }

    async fn hook(&self, component: &Component, hook: Option<&str>) -> Result<(), StepError> {
        if let Some(hook) = hook {
            let root = &self.workspace.root;
            let cancelled = self.interrupt.wait();
            let ended = hooks::run(root, hook, &component.name, self.events, cancelled).await;
            if !self.interrupt.has_come() {
                ended?;
            }
        }
        if self.interrupt.has_come() {
            return Err(StepError::Cancelled);
        }
        Ok(())
    }

    fn component(&self, step: &Step) -> &Component {
        &self.workspace.components[step.component]
    }

    pub(super) fn dependency_folders(&self, step: &Step) -> Vec<(String, PathBuf)> {
        let dependencies = step.dependencies.iter().map(|place| &self.workspace.components[*place]);
        dependencies
            .map(|component| (component.name.clone(), self.workspace.root.join(component.dir())))
            .collect()
    }
}

/// What a round has learned of images so far.
pub(super) struct Known {
    pub(super) records: Records,
    pub(super) holdings: Holdings,
    pub(super) fingerprints: BTreeMap<String, Fingerprint>,
    pub(super) pulled: BTreeSet<String>,
    /// The inputs files whose warnings were given.
    pub(super) warned: BTreeSet<String>,
}

pub(super) fn tree_error(component: &Component, source: io::Error) -> StepError {
    StepError::Tree { component: component.name.clone(), source }
}
