//! One run of a plan, from its first step to the clean-up.
//!
//! The steps of one component: its dependencies are put under `dependency/`, its
//! `build-pre.sh` runs, its images are built, its `build-post.sh` runs. Only
//! hooks need the dependencies on disk; for a component without hooks they are
//! streamed into the context and nothing is copied. However a round ends, the
//! temporary folders of every component are gone afterwards.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::build::{BuildOptions, Prepared};
use super::{CommandError, Setting};
use crate::core::config::RegistryConfig;
use crate::core::dockerfile::ImageUse;
use crate::core::fingerprint::Fingerprint;
use crate::core::holdings::Holdings;
use crate::core::ignore::Ignore;
use crate::core::plan::{Plan, Step};
use crate::core::problem::Problem;
use crate::core::reference::Reference;
use crate::core::trees::{Needed, Trees};
use crate::core::workspace::{Component, Workspace};
use crate::effects::engine::{Engine, EngineError, FoundImage};
use crate::effects::hooks::{self, Hook, HookError};
use crate::effects::interrupt::Interrupt;
use crate::effects::records::{Records, write_memory};
use crate::effects::state;
use crate::effects::store::Store;
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
    /// The user stopped it.
    #[error("interrupted")]
    Cancelled,
}

/// All that a run of a plan needs.
pub(super) struct Round<'a, E> {
    pub(super) workspace: &'a Workspace,
    pub(super) plan: &'a Plan,
    pub(super) engine: &'a E,
    pub(super) registry: Option<&'a RegistryConfig>,
    pub(super) options: &'a BuildOptions,
    pub(super) events: &'a Events,
    pub(super) interrupt: &'a Interrupt,
    pub(super) variables: &'a BTreeMap<OsString, OsString>,
    /// Where the system calls of the hooks of what is named are written down, if
    /// they are to be.
    pub(super) trace: Option<&'a Path>,
    /// Nothing is done but told.
    pub(super) is_preview: bool,
    pub(super) trees: Arc<Trees>,
    pub(super) store: RefCell<Store>,
    pub(super) known: RefCell<Known>,
    /// The other names by which Dockerfiles call our images, by image.
    pub(super) aliases: BTreeMap<String, BTreeSet<String>>,
    names: HashSet<&'a str>,
}

/// What a round has learned so far.
pub(super) struct Known {
    pub(super) records: Records,
    pub(super) holdings: Holdings,
    pub(super) fingerprints: BTreeMap<String, Fingerprint>,
    /// External bases, as far as somebody asked.
    pub(super) externals: HashMap<String, Option<FoundImage>>,
    pub(super) pulled: BTreeSet<String>,
    /// The inputs files whose warnings were given.
    pub(super) warned: BTreeSet<String>,
    /// Where the `generated/` of components is that were skipped.
    pub(super) kept: BTreeMap<String, PathBuf>,
}

impl<'a, E: Engine> Round<'a, E> {
    /// A round that has not begun.
    pub(super) fn new(
        prepared: &'a Prepared,
        engine: &'a E,
        holdings: Holdings,
        registry: Option<&'a RegistryConfig>,
        options: &'a BuildOptions,
        trace: Option<&'a Path>,
        setting: &'a Setting,
    ) -> Self {
        let Prepared { workspace, plan, trees } = prepared;
        let known = Known {
            records: Records::read(&workspace.root),
            holdings,
            fingerprints: BTreeMap::new(),
            externals: HashMap::new(),
            pulled: BTreeSet::new(),
            warned: BTreeSet::new(),
            kept: BTreeMap::new(),
        };
        let mut round = Self {
            workspace,
            plan,
            engine,
            registry,
            options,
            events: &setting.events,
            interrupt: &setting.interrupt,
            variables: &setting.variables,
            trace,
            is_preview: options.dry_run,
            trees: Arc::clone(trees),
            store: RefCell::new(Store::new(&workspace.root, setting.store_limit)),
            known: RefCell::new(known),
            aliases: BTreeMap::new(),
            names: workspace.images().map(|(_, image)| image.name.as_str()).collect(),
        };
        round.aliases = round.find_aliases();
        round
    }

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
        let mut outcomes = Vec::new();
        let ended = self.steps(&mut outcomes).await;
        let cleaned = temporary::clean(self.workspace).map_err(CommandError::Unclean);
        self.end();
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

    /// Keeps what was learned.
    pub(super) fn end(&self) {
        self.warn_of(self.known.borrow_mut().records.write());
        if let Some(memory) = self.trees.memory() {
            self.warn_of(write_memory(&self.workspace.root, &memory));
        }
        if !self.is_preview {
            self.warn_of(self.store.borrow().tidy());
        }
    }

    /// What is kept in `target/xtask/` may be lost, so it may also not be written.
    pub(super) fn warn_of(&self, written: io::Result<()>) {
        if let Err(error) = written {
            let message = format!("cannot be written, so the next build takes longer: {error}");
            self.events.send(Event::Warning(Problem::of_file(state::DIR, message)));
        }
    }

    async fn steps(&self, outcomes: &mut Vec<Outcome>) -> Result<(), StepError> {
        for step in &self.plan.steps {
            let component = self.component(step);
            let started = Instant::now();
            self.events.send(Event::StepStarted { component: component.name.clone() });
            let ended = self.step(step, component).await;
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

    async fn step(&self, step: &Step, component: &Component) -> Result<Outcome, StepError> {
        let key = self.key(step, component)?;
        if let Some(key) = key.as_ref().filter(|_| !self.is_asked(step))
            && self.is_settled(component, &key.fingerprint()).await?
        {
            for image in &component.images {
                self.events.send(Event::ImageUpToDate {
                    component: component.name.clone(),
                    image: image.name.clone(),
                });
            }
            return Ok(Outcome::UpToDate);
        }
        if !component.has_hooks() {
            return self.images(step, component).await;
        }
        let before = self.own_tree(component)?;
        self.copy_dependencies(step, component).await?;
        self.hook(step, component, component.pre_hook.as_deref()).await?;
        let outcome = self.images(step, component).await?;
        self.hook(step, component, component.post_hook.as_deref()).await?;
        self.note_changes(component, &before)?;
        if let Some(key) = key
            && let Some(after) = self.key(step, component)?
            && after.fingerprint() == key.fingerprint()
        {
            self.warn_of(self.settle(component, &key));
        }
        Ok(outcome)
    }

    /// Whether its hooks must run, be it up to date or not.
    pub(super) fn is_asked(&self, step: &Step) -> bool {
        self.options.no_cache || ((self.options.force || self.trace.is_some()) && step.is_named)
    }

    async fn images(&self, step: &Step, component: &Component) -> Result<Outcome, StepError> {
        let mut outcome = Outcome::UpToDate;
        for image in step.images.iter().map(|place| &component.images[*place]) {
            tokio::select! {
                made = self.image(step, component, image) => {
                    if made? == Outcome::Built {
                        outcome = Outcome::Built;
                    }
                }
                () = self.interrupt.wait() => return Err(StepError::Cancelled),
            }
        }
        Ok(outcome)
    }

    async fn copy_dependencies(&self, step: &Step, component: &Component) -> Result<(), StepError> {
        let at = self.workspace.root.join(component.dir());
        let (trees, needed) = (Arc::clone(&self.trees), self.needed(step));
        let copying = tokio::task::spawn_blocking(move || {
            let parts = trees.needed(&needed, &Ignore::default())?;
            temporary::copy_parts(&parts, &at)
        });
        let copied = copying.await.map_err(io::Error::other).flatten();
        self.trees.forget();
        copied.map_err(|source| tree_error(component, source))
    }

    async fn hook(
        &self,
        step: &Step,
        component: &Component,
        hook: Option<&str>,
    ) -> Result<(), StepError> {
        if let Some(path) = hook {
            let hook = Hook {
                root: &self.workspace.root,
                path,
                component: &component.name,
                variables: self.variables,
                trace: self.trace.filter(|_| step.is_named),
            };
            let ended = hooks::run(hook, self.events, self.interrupt.wait()).await;
            self.trees.forget();
            if !self.interrupt.has_come() {
                ended?;
            }
        }
        if self.interrupt.has_come() {
            return Err(StepError::Cancelled);
        }
        Ok(())
    }

    /// The digests of a component's hooks, by path.
    pub(super) fn hook_digests(
        &self,
        component: &Component,
    ) -> Result<Vec<(String, [u8; 32])>, StepError> {
        let hooks = component.pre_hook.iter().chain(&component.post_hook);
        hooks
            .map(|hook| {
                let bytes = fs::read(self.workspace.root.join(hook)).map_err(|error| {
                    StepError::File(Problem::of_file(hook, format!("cannot be read: {error}")))
                });
                Ok((hook.clone(), *blake3::hash(&bytes?).as_bytes()))
            })
            .collect()
    }

    pub(super) fn component(&self, step: &Step) -> &'a Component {
        &self.workspace.components[step.component]
    }

    /// What a component gets of those that it needs.
    pub(super) fn needed(&self, step: &Step) -> Vec<Needed> {
        step.needed(self.workspace, &self.known.borrow().kept)
    }

    /// The name of the image of ours that a Dockerfile means, if it means one.
    pub(super) fn local_name<'u>(&self, used: &'u ImageUse) -> Option<&'u str> {
        let prefix = self.registry.map(RegistryConfig::prefix);
        let name = Reference::parse(&used.reference).local_name(prefix.as_deref())?;
        self.names.contains(name).then_some(name)
    }

    fn find_aliases(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut aliases: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for used in self.workspace.images().flat_map(|(_, image)| &image.uses) {
            let repository = used.reference.strip_suffix(":latest").unwrap_or(&used.reference);
            if let Some(name) = self.local_name(used).filter(|name| *name != repository) {
                aliases.entry(name.to_owned()).or_default().insert(repository.to_owned());
            }
        }
        aliases
    }
}

pub(super) fn tree_error(component: &Component, source: io::Error) -> StepError {
    StepError::Tree { component: component.name.clone(), source }
}
