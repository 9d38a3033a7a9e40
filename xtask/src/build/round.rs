//! The facts of a round, which do not change while it runs.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use xtask_core::context::tree_cache::TreeCache;
use xtask_core::ids::ComponentId;
use xtask_core::plan::steps::{Plan, Step};
use xtask_core::problem::Problem;
use xtask_core::workspace::components::{Component, Image, Workspace, WorkspaceOptions};
use xtask_core::workspace::registry_config::RegistryConfig;

use crate::build::mode::Mode;
use crate::build::options::BuildOptions;
use crate::build::prepare::Prepared;
use crate::command_context::CommandContext;
use crate::engine::Engine;
use crate::event::Event;
use crate::system::records::{Records, write_memory};
use crate::system::state;

/// What every part of the machine works from.
pub(crate) struct Round<'a, E> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) plan: &'a Plan,
    pub(crate) trees: &'a Arc<TreeCache>,
    pub(crate) engine: &'a E,
    pub(crate) registry: Option<&'a RegistryConfig>,
    pub(crate) reading: &'a WorkspaceOptions,
    pub(crate) options: &'a BuildOptions,
    pub(crate) mode: Mode<'a>,
    pub(crate) ctx: &'a CommandContext,
    distrusted: &'a BTreeSet<ComponentId>,
    /// What earlier rounds came to; written as this one goes on.
    pub(crate) records: RefCell<Records>,
    /// By image, the other names that Dockerfiles use for it.
    aliases: BTreeMap<String, BTreeSet<String>>,
    has_warned_of_state: Cell<bool>,
}

impl<'a, E: Engine> Round<'a, E> {
    pub(crate) fn new(
        prepared: &'a Prepared,
        engine: &'a E,
        registry: Option<&'a RegistryConfig>,
        options: &'a BuildOptions,
        mode: Mode<'a>,
        ctx: &'a CommandContext,
    ) -> Self {
        let Prepared { workspace, reading, plan, trees, distrusted, .. } = prepared;
        let mut round = Self {
            workspace,
            plan,
            trees,
            engine,
            registry,
            reading,
            options,
            mode,
            ctx,
            distrusted,
            records: RefCell::new(Records::read(&workspace.root, &engine.identity())),
            aliases: BTreeMap::new(),
            has_warned_of_state: Cell::new(false),
        };
        round.aliases = round.find_aliases();
        round
    }
}

impl<'a, E> Round<'a, E> {
    pub(crate) fn component(&self, step: &Step) -> &'a Component {
        &self.workspace.components[step.component]
    }

    /// The images of a step, in build order.
    pub(crate) fn images<'s>(
        &self,
        step: &'s Step,
    ) -> impl Iterator<Item = &'a Image> + use<'a, 's, E> {
        let component = self.component(step);
        step.images.iter().map(|image| &component.images[image.id])
    }

    /// The other names that Dockerfiles use for an image.
    pub(crate) fn aliases(&self, image: &str) -> impl Iterator<Item = &String> {
        self.aliases.get(image).into_iter().flatten()
    }

    fn find_aliases(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut aliases: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for used in self.workspace.images().flat_map(|(_, image)| &image.uses) {
            let repository = used.repository();
            if let Some(name) = used.local.as_ref().filter(|name| *name != repository) {
                aliases.entry(name.clone()).or_default().insert(repository.to_owned());
            }
        }
        aliases
    }

    /// The option that makes every image of a step stale, if one does.
    pub(crate) fn forced_by(&self, step: &Step) -> Option<&'static str> {
        if self.options.no_cache {
            Some("--no-cache")
        } else if self.options.force && step.is_named {
            Some("--force")
        } else {
            None
        }
    }

    /// Whether a step's hooks run even if nothing changed.
    pub(crate) fn runs_hooks_anyway(&self, step: &Step) -> bool {
        let needs_hooks = match self.mode {
            Mode::Build => false,
            Mode::Trace(_) | Mode::Show(_) => step.is_named,
            Mode::Export(_) => true,
        };
        needs_hooks || self.distrusted.contains(&step.component) || self.forced_by(step).is_some()
    }

    pub(crate) fn send(&self, event: Event) {
        self.ctx.events.send(event);
    }

    pub(crate) fn warn(&self, problem: Problem) {
        self.send(Event::Warning(problem));
    }

    /// Warns, once a round, that `target/xtask/` cannot be written. Nothing in it is needed.
    pub(crate) fn warn_unwritable(&self, written: io::Result<()>) {
        if let Err(error) = written
            && !self.has_warned_of_state.replace(true)
        {
            self.warn(state::unwritable(&error));
        }
    }

    /// Writes the digests of the files that were read.
    pub(crate) fn save_digests(&self) -> io::Result<()> {
        if self.trees.is_watched() {
            return Ok(());
        }
        self.trees
            .memory_to_save()
            .map_or(Ok(()), |memory| write_memory(&self.workspace.root, &memory))
    }

    /// Runs a hook or a build, and records how long it took.
    pub(crate) async fn timed<T>(
        &self,
        component: &Component,
        task: &str,
        work: impl Future<Output = T>,
    ) -> T {
        let (component, task) = (component.name.clone(), task.to_owned());
        self.send(Event::TaskStarted { component: component.clone(), task: task.clone() });
        let started = Instant::now();
        let ended = work.await;
        let duration = started.elapsed();
        self.records.borrow_mut().set_duration(&duration_key(&component, &task), duration);
        self.send(Event::TaskFinished { component, task, duration });
        ended
    }

    /// How long a hook or the build of an image took last.
    pub(crate) fn last_duration(&self, component: &str, task: &str) -> Option<Duration> {
        self.records.borrow().duration(&duration_key(component, task))
    }
}

fn duration_key(component: &str, task: &str) -> String {
    format!("{component}: {task}")
}
