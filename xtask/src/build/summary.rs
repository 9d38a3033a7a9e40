//! What a round came to: for people, and for whoever acts on it.

use std::collections::BTreeSet;
use std::time::Duration;

use xtask_core::ids::{ComponentId, IdVec, TaskId};
use xtask_core::plan::schedule::critical_path;
use xtask_core::plan::steps::{Plan, Task};
use xtask_core::staleness::engine_images::EngineImages;
use xtask_core::workspace::components::Workspace;

use crate::build::executor::Executed;
use crate::build::shared_hooks::SettledHooks;
use crate::build::shared_image::BuiltImage;
use crate::command_error::CommandError;
use crate::outcome::{Outcome, Summary};
use crate::system::post_build_command::Built;

/// What a round came to.
pub(crate) struct Completed {
    pub(crate) result: Result<(), CommandError>,
    /// What the step of each component came to.
    pub(crate) outcomes: Vec<(ComponentId, Outcome)>,
    /// The components whose images were made from what was there only briefly.
    pub(crate) inexact: BTreeSet<ComponentId>,
    /// The components that failed because a file could not be read or had changed.
    pub(crate) misread: BTreeSet<ComponentId>,
    /// The images that are in the engine, and what they were made from.
    pub(crate) results: Vec<BuiltImage>,
    /// What hooks came to.
    pub(crate) settled: Vec<SettledHooks>,
    /// What the engine has now.
    pub(crate) engine_images: EngineImages,
}

impl Completed {
    fn with(&self, wanted: impl Fn(&Outcome) -> bool) -> impl Iterator<Item = ComponentId> {
        let ended = self.outcomes.iter().filter(move |(_, outcome)| wanted(outcome));
        ended.map(|(component, _)| *component)
    }

    /// The components that have other images now.
    pub(crate) fn renewed(&self) -> BTreeSet<ComponentId> {
        self.with(|outcome| matches!(outcome, Outcome::Built | Outcome::Restored | Outcome::Pulled))
            .collect()
    }

    /// The components that are up to date now.
    pub(crate) fn succeeded(&self) -> BTreeSet<ComponentId> {
        self.with(Outcome::is_good).collect()
    }

    /// The components and images that were built.
    pub(crate) fn built(&self, workspace: &Workspace) -> Built {
        let mut built = Built::default();
        for component in self.with(|outcome| *outcome == Outcome::Built) {
            let component = &workspace.components[component];
            built.components.push(component.name.clone());
            built.images.extend(component.images.iter().map(|image| image.name.clone()));
        }
        built
    }
}

/// A round in figures.
pub(crate) fn summarize(
    workspace: &Workspace,
    plan: &Plan,
    tasks: &IdVec<TaskId, Task>,
    executed: &Executed,
    duration: Duration,
) -> Summary {
    let Executed { outcomes, took } = executed;
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|it| wanted(it)).count();
    let needs = tasks.iter().map(|task| task.needs.clone()).collect();
    let (path, critical_duration) = critical_path(&needs, took);
    let parallelism =
        took.iter().sum::<Duration>().as_secs_f64() / duration.as_secs_f64().max(1e-9);
    let name = |task: TaskId| {
        let step = &plan.steps[tasks[task].step];
        workspace.components[step.component].name.clone()
    };
    let path = path.into_iter().filter(|task| took[*task] > Duration::ZERO);
    let mut critical_path: Vec<String> = path.map(name).collect();
    critical_path.dedup();
    Summary {
        built: count(|outcome| *outcome == Outcome::Built),
        restored: count(|outcome| *outcome == Outcome::Restored),
        up_to_date: count(|outcome| *outcome == Outcome::UpToDate),
        pulled: count(|outcome| *outcome == Outcome::Pulled),
        in_registry: count(|outcome| *outcome == Outcome::InRegistry),
        exported: count(|outcome| *outcome == Outcome::Exported),
        failed: count(|outcome| *outcome == Outcome::Failed),
        cancelled: count(|outcome| *outcome == Outcome::Cancelled),
        outdated: count(|outcome| *outcome == Outcome::Outdated),
        not_run: count(|outcome| matches!(outcome, Outcome::NotRun { .. })),
        duration,
        critical_path,
        critical_duration,
        parallelism,
    }
}
