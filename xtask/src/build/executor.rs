//! The loop that runs a round's tasks: as many in parallel as there are jobs, each as soon as
//! what it needs is done.
//!
//! By default the first failure ends the round: nothing new starts, and what runs is
//! cancelled. A step whose inputs change while it runs is restarted; what the change does
//! not affect goes on.
//!
//! All tasks run on one thread, which only waits for engines and hooks, so they share what is
//! known without locks. Whatever reads many files is sent to another thread.

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tracing::debug;
use xtask_core::ids::{ComponentId, IdVec, StepId, TaskId};
use xtask_core::paths::{POST_HOOK, PRE_HOOK};
use xtask_core::plan::schedule::{Claim, Schedule, ScheduledTask};
use xtask_core::plan::steps::{Step, Task, TaskKind};
use xtask_core::problem::Problem;

use crate::build::cancel::Cancellation;
use crate::build::round::Round;
use crate::build::step::StepRunner;
use crate::build::step_error::StepError;
use crate::build::work_clock::WorkClock;
use crate::engine::Engine;
use crate::event::{Event, PlannedComponent};
use crate::outcome::Outcome;

/// How often a round builds images again that others removed during it.
const TRIES: usize = 3;

/// Runs tasks.
pub(crate) struct Executor<'a, E> {
    round: &'a Round<'a, E>,
    runner: &'a StepRunner<'a, E>,
    cancellation: &'a Cancellation,
    tasks: &'a IdVec<TaskId, Task>,
    schedule: Schedule,
    steps: IdVec<StepId, StepState>,
    took: IdVec<TaskId, Duration>,
    /// How often images were built again that others removed.
    rebuilt: usize,
}

#[derive(Default)]
struct StepState {
    is_started: bool,
    /// None of its tasks runs, and this was said.
    is_paused: bool,
    work: WorkClock,
    outcome: Option<Outcome>,
}

/// What the tasks came to.
pub(crate) struct Executed {
    pub(crate) outcomes: IdVec<StepId, Outcome>,
    pub(crate) took: IdVec<TaskId, Duration>,
}

/// What a task came to; the last one of a step gives what the step came to.
type Ended = Result<Option<Outcome>, StepError>;

impl<'a, E: Engine> Executor<'a, E> {
    pub(crate) fn new(
        round: &'a Round<'a, E>,
        runner: &'a StepRunner<'a, E>,
        cancellation: &'a Cancellation,
        tasks: &'a IdVec<TaskId, Task>,
        jobs: usize,
    ) -> Self {
        let median = round.records.borrow().median_duration();
        let scheduled = tasks.iter().map(|task| ScheduledTask {
            needs: task.needs.clone(),
            estimate: estimate(round, task, median),
            claim: claim(round, task),
        });
        let schedule = Schedule::new(&scheduled.collect(), jobs);
        let steps = round.plan.steps.iter().map(|_| StepState::default()).collect();
        let took = tasks.iter().map(|_| Duration::ZERO).collect();
        Self { round, runner, cancellation, tasks, schedule, steps, took, rebuilt: 0 }
    }

    /// Runs all tasks.
    pub(crate) async fn run(mut self) -> Executed {
        let mut running = FuturesUnordered::new();
        let mut changes = self.cancellation.changes();
        loop {
            self.restart_outdated();
            while let Some(task) = self.schedule.start() {
                running.push(self.start(task));
            }
            self.pause_waiting();
            tokio::select! {
                ended = running.next() => match ended {
                    Some((task, ended, took)) => self.task_ended(task, ended, took),
                    None => break,
                },
                Ok(()) = changes.changed() => {}
            }
        }
        for step in self.steps.ids() {
            self.finish(step, Outcome::NotRun { because: None });
        }
        self.restore_interrupted();
        let outcomes = self.steps.into_iter().filter_map(|step| step.outcome).collect();
        Executed { outcomes, took: self.took }
    }

    fn start(
        &mut self,
        id: TaskId,
    ) -> impl Future<Output = (TaskId, Ended, Duration)> + use<'a, E> {
        let (runner, task) = (self.runner, &self.tasks[id]);
        debug!(component = self.name(task.step), kind = ?task.kind, "start task");
        let checked = self.cancellation.check(self.step(task.step).component);
        if checked.is_ok() {
            self.work_starts(task);
        }
        async move {
            let started = Instant::now();
            let ended = match checked {
                Ok(()) => runner.run(task).await,
                Err(error) => Err(error),
            };
            (id, ended, started.elapsed())
        }
    }

    /// Notes that a task of a step runs.
    fn work_starts(&mut self, task: &Task) {
        let has_work = claim(self.round, task) != Claim::Nothing;
        let (component, state) = (self.name(task.step), &mut self.steps[task.step]);
        state.work.task_started();
        if !state.is_started && has_work {
            state.is_started = true;
            self.round.send(Event::StepStarted { component });
        } else if std::mem::take(&mut state.is_paused) {
            self.round.send(Event::StepResumed { component });
        }
    }

    /// Says which steps wait for a job.
    fn pause_waiting(&mut self) {
        for step in self.steps.ids() {
            let state = &mut self.steps[step];
            let waits = state.is_started && state.outcome.is_none() && !state.work.is_running();
            if waits && !std::mem::replace(&mut state.is_paused, true) {
                let component = self.name(step);
                self.round.send(Event::StepPaused { component });
            }
        }
    }

    fn task_ended(&mut self, task: TaskId, ended: Ended, took: Duration) {
        let step = self.tasks[task].step;
        self.steps[step].work.task_ended();
        match ended.map_err(StepError::or_cancelled) {
            Ok(outcome) => {
                self.took[task] = took;
                self.schedule.succeed(task);
                if let Some(outcome) = outcome {
                    self.finish(step, outcome);
                }
            }
            Err(error) => self.task_failed(task, step, &error),
        }
    }

    fn task_failed(&mut self, task: TaskId, step: StepId, error: &StepError) {
        let lost = self.schedule.fail(task);
        let is_restarted = match error {
            StepError::Outdated => !self.cancellation.to_restart().is_empty(),
            StepError::BaseGone { file, line, image, .. } => self.rebuild(image, file, *line),
            _ => false,
        };
        if is_restarted {
            if self.steps[step].is_started {
                self.finish(step, Outcome::Outdated);
            }
            return;
        }
        self.fail(step, error);
        for lost in lost {
            self.lose(self.tasks[lost].step, step, error);
        }
        let goes_on = match error {
            StepError::Cancelled => false,
            StepError::Outdated => true,
            _ => self.round.options.keep_going,
        };
        if !goes_on {
            self.schedule.stop();
            self.cancellation.stop_all();
        }
    }

    /// Sees to it that an image that is gone is built again, with what is made from it; false if
    /// this round does not build it, or did so too often.
    fn rebuild(&mut self, image: &str, file: &str, line: usize) -> bool {
        let steps = &self.round.plan.steps;
        let makes =
            |step: &&Step| self.round.component(step).images.iter().any(|made| made.name == image);
        let Some(step) = steps.iter().find(makes).filter(|_| self.rebuilt < TRIES) else {
            return false;
        };
        self.rebuilt += 1;
        self.runner.forget_image(image);
        let message = format!(
            "{image} was removed from the engine during the build: it is built again. Another \
             checkout builds on this engine, or somebody removes its images"
        );
        self.round.warn(Problem::of_line(file, line, message));
        let mut components = BTreeSet::from([step.component]);
        for step in steps {
            if step.dependencies.iter().any(|needed| components.contains(needed)) {
                components.insert(step.component);
            }
        }
        self.cancellation.restart(&components);
        true
    }

    /// Restarts the steps whose inputs changed, once none of their tasks runs any more.
    fn restart_outdated(&mut self) {
        let outdated = self.cancellation.to_restart();
        if outdated.is_empty() {
            return;
        }
        let is_outdated =
            |task: &TaskId| outdated.contains(&self.step(self.tasks[*task].step).component);
        let tasks: BTreeSet<TaskId> = self.tasks.ids().filter(is_outdated).collect();
        if tasks.is_empty() || tasks.iter().any(|task| self.schedule.is_running(*task)) {
            return;
        }
        for component in &outdated {
            let component = &self.round.workspace.components[*component].name;
            debug!(component, "inputs changed: restart step");
        }
        let steps: BTreeSet<StepId> = tasks.iter().map(|task| self.tasks[*task].step).collect();
        for step in steps {
            let state = std::mem::take(&mut self.steps[step]);
            self.runner.reset(step, state.is_started);
        }
        for task in &tasks {
            self.took[*task] = Duration::ZERO;
        }
        self.schedule.reset(&tasks);
        self.cancellation.restarted(&outdated);
    }

    /// Ends a step because one of its tasks failed or was cancelled.
    fn fail(&mut self, step: StepId, error: &StepError) {
        let outcome = match error {
            StepError::Cancelled => Outcome::Cancelled,
            StepError::Outdated => Outcome::Outdated,
            _ => Outcome::Failed,
        };
        if outcome == Outcome::Failed && self.steps[step].outcome.is_none() {
            let component = self.round.component(self.step(step));
            let failure = error.describe(&self.round.workspace.root, component);
            self.round.send(Event::StepFailed(failure));
        }
        self.finish(step, outcome);
    }

    /// Ends a step one of whose tasks never runs because another step did not succeed.
    fn lose(&mut self, step: StepId, because: StepId, error: &StepError) {
        match error {
            StepError::Cancelled => {}
            StepError::Outdated => self.finish(step, Outcome::Outdated),
            _ => self.finish(step, Outcome::NotRun { because: Some(self.name(because)) }),
        }
    }

    /// Notes how a step ended; the first outcome counts.
    fn finish(&mut self, step: StepId, outcome: Outcome) {
        if self.steps[step].outcome.is_some() {
            return;
        }
        let component = self.name(step);
        let duration = self.steps[step].work.worked();
        if outcome == Outcome::Built {
            self.round.records.borrow_mut().set_duration(&component, duration);
        }
        self.steps[step].outcome = Some(outcome.clone());
        self.round.send(Event::StepFinished { component, outcome, duration });
    }

    fn restore_interrupted(&self) {
        for (step, state) in self.round.plan.steps.iter().zip(&self.steps) {
            let is_good = state.outcome.as_ref().is_some_and(Outcome::is_good);
            if state.is_started && !is_good {
                self.runner.hooks_interrupted(step);
            }
        }
    }

    fn step(&self, id: StepId) -> &'a Step {
        &self.round.plan.steps[id]
    }

    fn name(&self, step: StepId) -> String {
        self.round.component(self.step(step)).name.clone()
    }
}

/// What a task needs to run: only hooks make the beginning and the end of a step work.
fn claim<E>(round: &Round<'_, E>, task: &Task) -> Claim {
    let component = round.component(&round.plan.steps[task.step]);
    match task.kind {
        TaskKind::Image(_) => Claim::Job,
        _ if !component.has_hooks() => Claim::Nothing,
        TaskKind::End if component.post_hook.is_none() => Claim::NextJob,
        TaskKind::Begin | TaskKind::End => Claim::Job,
    }
}

/// How long a task took last; the median of all for an image that was never built.
fn estimate<E>(round: &Round<'_, E>, task: &Task, median: Duration) -> Duration {
    let component = round.component(&round.plan.steps[task.step]);
    let took = |part: &str| round.last_duration(&component.name, part);
    match task.kind {
        TaskKind::Begin => took(PRE_HOOK).unwrap_or_default(),
        TaskKind::Image(image) => took(&component.images[image].name).unwrap_or(median),
        TaskKind::End => took(POST_HOOK).unwrap_or_default(),
    }
}

/// Announces a round.
pub(crate) fn announce<E>(round: &Round<'_, E>, jobs: usize) {
    let steps = &round.plan.steps;
    let in_round: HashSet<ComponentId> = steps.iter().map(|step| step.component).collect();
    let name = |component: &ComponentId| round.workspace.components[*component].name.clone();
    let planned = |step: &Step| {
        let component = name(&step.component);
        let dependencies = step.dependencies.iter().filter(|needed| in_round.contains(needed));
        let estimate = round.records.borrow().duration(&component);
        PlannedComponent { component, dependencies: dependencies.map(name).collect(), estimate }
    };
    let components = steps.iter().map(planned).collect();
    round.send(Event::RoundStarted { components, jobs });
}
