//! One run of a plan, from its first step to the clean-up.
//!
//! The parts of all steps run as soon as what they need is done and a job is free.
//! By default the first failure ends the round: nothing new starts, and what runs is
//! cancelled. However a round ends, the temporary folders that it made are gone
//! afterwards.
//!
//! All parts run on one thread, which only waits for engines and hooks: what is
//! known is shared between them without locks. Whatever reads many files is sent to
//! another thread.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Mutex, OnceCell, watch};
use xtask_core::context::spec::DependencyFolder;
use xtask_core::context::tree_cache::TreeCache;
use xtask_core::dockerfile::parser::ImageUse;
use xtask_core::image_reference::RegistryNames;
use xtask_core::plan::schedule::{Schedule, ScheduledTask};
use xtask_core::plan::steps::{Plan, Step, Task, TaskKind};
use xtask_core::problem::{Problem, Problems};
use xtask_core::regular_file;
use xtask_core::staleness::engine_images::EngineImages;
use xtask_core::staleness::fingerprint::Fingerprint;
use xtask_core::workspace::components::{Component, Workspace};
use xtask_core::workspace::registry_config::RegistryConfig;

use crate::build::base_images::ExternalBases;
use crate::build::cancel::Cancellation;
use crate::build::mode::Mode;
use crate::build::options::BuildOptions;
use crate::build::prepare::Prepared;
use crate::build::step::{POST_HOOK, PRE_HOOK, StepState, part_name};
use crate::build::step_error::StepError;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::engine::Engine;
use crate::event::{Event, Events, Outcome, PlannedComponent, VERSION};
use crate::system::records::Records;
use crate::system::signals::Interrupt;
use crate::system::store::Store;
use crate::system::temp_dirs::TempDirs;

/// Even one CPU can wait for one build while it works at another.
const FEWEST_JOBS: usize = 2;

/// All that a run of a plan needs.
pub(crate) struct Round<'a, E> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) plan: &'a Plan,
    pub(crate) engine: &'a E,
    pub(crate) registry: Option<&'a RegistryConfig>,
    pub(crate) options: &'a BuildOptions,
    pub(crate) events: &'a Events,
    pub(crate) interrupt: &'a Interrupt,
    pub(crate) variables: &'a BTreeMap<OsString, OsString>,
    /// What it is for.
    pub(crate) mode: Mode<'a>,
    pub(crate) trees: Arc<TreeCache>,
    pub(crate) store: RefCell<Store>,
    pub(crate) temporary_folders: &'a RefCell<TempDirs>,
    /// Whether it was said that `target/xtask/` cannot be written.
    pub(crate) is_warned: Cell<bool>,
    pub(crate) state: RefCell<RoundState>,
    /// The other names by which Dockerfiles call our images, by image.
    pub(crate) aliases: BTreeMap<String, BTreeSet<String>>,
    names: HashSet<&'a str>,
    registry_names: Option<RegistryNames>,
    pub(crate) steps: RefCell<Vec<StepState>>,
    /// How long each part took that ran.
    pub(crate) took: RefCell<BTreeMap<usize, Duration>>,
    pub(crate) cancellation: &'a Cancellation,
    stop: watch::Sender<bool>,
    /// Whether all that the engine holds was asked for, where less was before.
    pub(crate) listed: OnceCell<()>,
}

/// What a round has learned so far.
pub(crate) struct RoundState {
    pub(crate) records: Records,
    pub(crate) engine_images: EngineImages,
    pub(crate) fingerprints: BTreeMap<String, Fingerprint>,
    /// External bases, as far as somebody asked.
    pub(crate) externals: ExternalBases,
    /// Whether a base was pulled; whoever pulls holds the lock.
    pub(crate) pulls: BTreeMap<String, Rc<Mutex<bool>>>,
    /// The inputs files whose warnings were given.
    pub(crate) warned: BTreeSet<String>,
    /// By image and id: whether one that is not on record proved to be ours.
    pub(crate) proved: BTreeMap<(String, String), bool>,
    /// Where the `generated/` of components is that were skipped.
    pub(crate) kept: BTreeMap<String, PathBuf>,
}

impl<'a, E: Engine> Round<'a, E> {
    /// A round that has not begun.
    pub(crate) fn new(
        prepared: &'a Prepared,
        engine: &'a E,
        engine_images: EngineImages,
        registry: Option<&'a RegistryConfig>,
        options: &'a BuildOptions,
        mode: Mode<'a>,
        ctx: &'a CommandContext,
    ) -> Self {
        let Prepared { workspace, plan, trees, cancellation, temporary_folders } = prepared;
        let state = RoundState {
            records: Records::read(&workspace.root),
            engine_images,
            fingerprints: BTreeMap::new(),
            externals: ExternalBases::new(),
            pulls: BTreeMap::new(),
            warned: BTreeSet::new(),
            proved: BTreeMap::new(),
            kept: BTreeMap::new(),
        };
        let mut round = Self {
            workspace,
            plan,
            engine,
            registry,
            options,
            events: &ctx.events,
            interrupt: &ctx.interrupt,
            variables: &ctx.variables,
            mode,
            trees: Arc::clone(trees),
            store: RefCell::new(Store::new(&workspace.root, ctx.store_limit)),
            temporary_folders,
            is_warned: Cell::new(false),
            state: RefCell::new(state),
            aliases: BTreeMap::new(),
            names: workspace.images().map(|(_, image)| image.name.as_str()).collect(),
            registry_names: registry.map(RegistryConfig::names),
            steps: RefCell::new(plan.steps.iter().map(|_| StepState::default()).collect()),
            took: RefCell::default(),
            cancellation,
            stop: watch::channel(false).0,
            listed: OnceCell::new(),
        };
        round.aliases = round.find_aliases();
        round
    }

    /// Runs the parts of all steps, as many at a time as there are jobs, and cleans up.
    pub(crate) async fn run(&self) -> Result<(), CommandError> {
        let started = Instant::now();
        let jobs = match self.options.jobs {
            Some(jobs) => jobs,
            None => self.engine.cpus().await?.max(FEWEST_JOBS),
        };
        let parts = self.plan.parts();
        let places: HashSet<usize> = self.plan.steps.iter().map(|step| step.component).collect();
        self.events.send(Event::RoundStarted {
            version: VERSION,
            components: self.plan.steps.iter().map(|step| self.planned(step, &places)).collect(),
            jobs,
        });
        self.run_tasks(&parts, jobs).await;
        self.put_all_outputs_back();
        let cleaned = self.clean().map_err(CommandError::Unclean);
        let failed = self.note_failures();
        self.end();
        self.events.send(Event::RoundFinished(self.summary(&parts, started.elapsed())));
        if self.interrupt.has_come() {
            return cleaned.and(Err(CommandError::Interrupted));
        }
        if failed { cleaned.and(Err(CommandError::Failed)) } else { cleaned }
    }

    /// Removes the temporary folders that were made.
    fn clean(&self) -> Result<(), Problems> {
        let mut folders = self.temporary_folders.borrow_mut();
        let removed = folders.remove_all();
        self.warn_of(folders.save());
        removed
    }

    /// What the hooks of a step that failed or was cancelled did not make is as it was.
    fn put_all_outputs_back(&self) {
        let steps = self.steps.borrow();
        let begun = self.plan.steps.iter().zip(steps.iter());
        for (step, state) in begun {
            let component = self.component(step);
            let is_good = state.outcome.as_ref().is_some_and(Outcome::is_good);
            if component.has_hooks() && state.started.is_some() && !is_good {
                self.note_interrupted(component);
            }
        }
    }

    async fn run_tasks(&self, parts: &[Task], jobs: usize) {
        let median = self.state.borrow().records.median_duration();
        let tasks: Vec<ScheduledTask> = parts
            .iter()
            .map(|part| ScheduledTask {
                needs: part.needs.clone(),
                estimate: self.estimate(part, median),
            })
            .collect();
        let mut schedule = Schedule::new(&tasks, jobs);
        let mut running = FuturesUnordered::new();
        let mut news = self.cancellation.news();
        loop {
            self.start_over(parts, &mut schedule);
            while let Some(place) = schedule.start() {
                running.push(async move { (place, self.part(place, &parts[place]).await) });
            }
            tokio::select! {
                ended = running.next() => match ended {
                    Some((place, ended)) => self.task_ended(place, ended, parts, &mut schedule),
                    None => break,
                },
                Ok(()) = news.changed() => {}
            }
        }
        for step in 0..self.plan.steps.len() {
            self.finish(step, Outcome::NotTried { because: None });
        }
    }

    fn task_ended(
        &self,
        place: usize,
        ended: Result<(), StepError>,
        parts: &[Task],
        schedule: &mut Schedule,
    ) {
        let step = parts[place].step;
        let Err(error) = ended.map_err(StepError::or_cancelled) else {
            return schedule.succeed(place);
        };
        let lost = schedule.fail(place);
        if matches!(error, StepError::Outdated) && !self.cancellation.to_start_over().is_empty() {
            if self.steps.borrow()[step].started.is_some() {
                self.finish(step, Outcome::Outdated);
            }
            return;
        }
        self.fail(step, &error);
        for lost in lost {
            self.lose(parts[lost].step, step, &error);
        }
        let goes_on = match error {
            StepError::Cancelled => false,
            StepError::Outdated => true,
            _ => self.options.keep_going,
        };
        if !goes_on {
            schedule.stop();
            self.stop.send_replace(true);
        }
    }

    /// Steps whose components changed begin again, once none of their parts runs any
    /// more. What they do not affect goes on.
    fn start_over(&self, parts: &[Task], schedule: &mut Schedule) {
        let outdated = self.cancellation.to_start_over();
        if outdated.is_empty() {
            return;
        }
        let is_outdated = |place: &usize| {
            let step = &self.plan.steps[parts[*place].step];
            outdated.contains(&step.component)
        };
        let places: BTreeSet<usize> = (0..parts.len()).filter(is_outdated).collect();
        if places.is_empty() || places.iter().any(|place| schedule.is_running(*place)) {
            return;
        }
        for place in &places {
            self.took.borrow_mut().remove(place);
            let step = parts[*place].step;
            let component = self.component(&self.plan.steps[step]);
            let state = std::mem::take(&mut self.steps.borrow_mut()[step]);
            if component.has_hooks() && state.started.is_some() {
                let problems = self.temporary_folders.borrow_mut().remove(&component.dir());
                for problem in problems {
                    self.events.send(Event::Warning(problem));
                }
                self.trees.changed(Path::new(&component.dir()));
                self.state.borrow_mut().kept.remove(&component.name);
            }
        }
        schedule.reset(&places);
        self.cancellation.started_over(&outdated);
    }

    /// A part of a step failed: so did the step, unless it was told to stop.
    fn fail(&self, step: usize, error: &StepError) {
        match error {
            StepError::Cancelled => return self.finish(step, Outcome::Cancelled),
            StepError::Outdated => return self.finish(step, Outcome::Outdated),
            _ => {}
        }
        if self.steps.borrow()[step].outcome.is_none() {
            let component = self.component(&self.plan.steps[step]);
            let failure = error.describe(&self.workspace.root, component);
            self.events.send(Event::StepFailed(failure));
        }
        self.finish(step, Outcome::Failed);
    }

    /// A part of a step will never run because another step did not succeed.
    fn lose(&self, step: usize, because: usize, error: &StepError) {
        let because = self.component(&self.plan.steps[because]).name.clone();
        match error {
            StepError::Cancelled => {}
            StepError::Outdated => self.finish(step, Outcome::Outdated),
            _ => self.finish(step, Outcome::NotTried { because: Some(because) }),
        }
    }

    /// Notes how a step ended; the first word counts.
    pub(crate) fn finish(&self, step: usize, outcome: Outcome) {
        let mut steps = self.steps.borrow_mut();
        let state = &mut steps[step];
        if state.outcome.is_none() {
            let duration = state.started.map_or(Duration::ZERO, |started| started.elapsed());
            let component = self.component(&self.plan.steps[step]).name.clone();
            if outcome == Outcome::Built {
                self.state.borrow_mut().records.set_duration(&component, duration);
            }
            state.outcome = Some(outcome.clone());
            self.events.send(Event::StepFinished { component, outcome, duration });
        }
    }

    /// Waits until a step is to end before its time.
    pub(crate) async fn stopped(&self, step: &Step) {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            () = self.interrupt.wait() => {}
            _ = stop.wait_for(|stop| *stop) => {}
            () = self.cancellation.outdated(step.component) => {}
        }
    }

    /// Whether a step may go on.
    pub(crate) fn check(&self, step: &Step) -> Result<(), StepError> {
        if *self.stop.borrow() || self.interrupt.has_come() {
            return Err(StepError::Cancelled);
        }
        if self.cancellation.is_outdated(step.component) {
            return Err(StepError::Outdated);
        }
        Ok(())
    }

    fn planned(&self, step: &Step, places: &HashSet<usize>) -> PlannedComponent {
        let component = self.component(step);
        let needs = step.dependencies.iter().filter(|place| places.contains(place));
        let state = self.state.borrow();
        PlannedComponent {
            component: component.name.clone(),
            needs: needs.map(|place| self.workspace.components[*place].name.clone()).collect(),
            estimate: state.records.duration(&component.name),
        }
    }

    /// What a part took last; the median of all for an image that was never built.
    fn estimate(&self, part: &Task, median: Duration) -> Duration {
        let component = self.component(&self.plan.steps[part.step]);
        let state = self.state.borrow();
        let took = |part: &str| state.records.duration(&part_name(&component.name, part));
        match part.kind {
            TaskKind::Begin => took(PRE_HOOK).unwrap_or_default(),
            TaskKind::Image(place) => took(&component.images[place].name).unwrap_or(median),
            TaskKind::End => took(POST_HOOK).unwrap_or_default(),
        }
    }

    /// Whether its hooks must run, be it up to date or not.
    pub(crate) fn is_asked(&self, step: &Step) -> bool {
        let is_built_only = matches!(self.mode, Mode::Build);
        self.options.no_cache || ((self.options.force || !is_built_only) && step.is_named)
    }

    /// The digests of a component's hooks, by path.
    pub(crate) fn hook_digests(
        &self,
        component: &Component,
    ) -> Result<Vec<(String, [u8; 32])>, StepError> {
        let hooks = component.pre_hook.iter().chain(&component.post_hook);
        hooks
            .map(|hook| {
                let path = self.workspace.root.join(hook);
                let bytes = regular_file::read(&path).map_err(|error| {
                    StepError::File(Problem::of_file(hook, regular_file::explain(&path, &error)))
                });
                Ok((hook.clone(), *blake3::hash(&bytes?).as_bytes()))
            })
            .collect()
    }

    pub(crate) fn component(&self, step: &Step) -> &'a Component {
        &self.workspace.components[step.component]
    }

    /// What a component gets of those that it needs.
    pub(crate) fn needed(&self, step: &Step) -> Vec<DependencyFolder> {
        step.needed(self.workspace, &self.state.borrow().kept)
    }

    /// The name of the image of ours that a Dockerfile means, if it means one.
    pub(crate) fn local_name<'u>(&self, used: &'u ImageUse) -> Option<&'u str> {
        let name = used.local_name(self.registry_names.as_ref())?;
        self.names.contains(name).then_some(name)
    }

    fn find_aliases(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut aliases: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for used in self.workspace.images().flat_map(|(_, image)| &image.uses) {
            let repository = used.repository();
            if let Some(name) = self.local_name(used).filter(|name| *name != repository) {
                aliases.entry(name.to_owned()).or_default().insert(repository.to_owned());
            }
        }
        aliases
    }
}
