//! Runs a round, or says what it would do.

use std::collections::BTreeSet;
use std::time::Instant;

use xtask_core::ids::ComponentId;
use xtask_core::problem::{Problem, Problems};
use xtask_core::staleness::engine_images::EngineImages;
use xtask_core::staleness::reason::Reason;
use xtask_core::workspace::components::{Workspace, WorkspaceOptions};

use crate::build::ask_ahead::ask_ahead;
use crate::build::base_images::BaseImages;
use crate::build::dry_run::DryRun;
use crate::build::executor::{Executor, announce};
use crate::build::hook_cache::HookCache;
use crate::build::image::ImageBuilder;
use crate::build::image_lookup::ImageLookup;
use crate::build::mode::Mode;
use crate::build::options::{BuildOptions, Scope};
use crate::build::prepare::{Prepared, check_settings, get_ready};
use crate::build::recorded_engine::RecordedEngine;
use crate::build::round::Round;
use crate::build::share_prefix;
use crate::build::shared_images::SharedImages;
use crate::build::step::StepRunner;
use crate::build::summary::{Completed, summarize};
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::engine::{Engine, EngineError};
use crate::event::Event;
use crate::event_channel::Events;
use crate::outcome::{ImageState, Outcome, PlannedStep};

/// The jobs beyond one for each CPU, as Ninja has them: a job often waits for the engine's disk, or
/// for its answers.
const EXTRA_JOBS: usize = 2;

/// Builds, with an engine that is still to answer.
pub async fn run_with<E: Engine>(
    engine: impl Future<Output = Result<E, EngineError>>,
    scope: &Scope,
    options: &BuildOptions,
    mode: Mode<'_>,
    ctx: &CommandContext,
) -> Result<(), CommandError> {
    run_to_share(engine, scope, options, mode, ctx).await?.result
}

/// Builds, and says what came of it: what succeeded can be shared even if the rest failed.
pub(crate) async fn run_to_share<E: Engine>(
    engine: impl Future<Output = Result<E, EngineError>>,
    scope: &Scope,
    options: &BuildOptions,
    mode: Mode<'_>,
    ctx: &CommandContext,
) -> Result<Completed, CommandError> {
    let registry = scope.reading.registry()?;
    let registry = registry.as_ref();
    let _lock = ctx.lock("build").await?;
    let (prepared, engine, images) =
        get_ready(engine, scope, options, registry, false, ctx).await?;
    if !options.keep_going && !matches!(mode, Mode::Export(_)) {
        check_settings(&prepared, &engine).await?;
    }
    let config = &prepared.workspace.config;
    let prefix = share_prefix::to_ask(&options.from_registry, config, registry);
    let prefix = prefix.map_err(Problems::from)?;
    let round = Round::new(&prepared, &engine, registry, options, mode, ctx);
    let completed = run_round(&round, &prepared, images, prefix.as_deref()).await;
    drop(round);
    free(prepared);
    Ok(completed)
}

/// The same as [`preview`], also if the engine cannot be reached: then what was built last counts
/// as there, with a warning.
pub(crate) async fn preview_if_unreachable<E: Engine>(
    engine: impl Future<Output = Result<E, EngineError>>,
    scope: &Scope,
    options: &BuildOptions,
    command: &str,
    ctx: &CommandContext,
) -> Result<Vec<PlannedStep>, CommandError> {
    let _lock = ctx.lock(command).await?;
    let recorded = match preview_locked(engine, scope, options, ctx).await {
        Err(CommandError::Engine(EngineError::Unreachable { endpoint, cause })) => {
            RecordedEngine::read(&ctx.root, &endpoint, &cause)
        }
        result => return result,
    };
    let message = format!("{}. What the last builds left counts as there", recorded.unreachable());
    ctx.events.send(Event::Warning(Problem::of_request(message)));
    // Warnings about the workspace have already been sent.
    let ctx = &CommandContext { events: Events::unread(), ..ctx.clone() };
    let mut steps = preview_locked(async { Ok(recorded) }, scope, options, ctx).await?;
    for image in steps.iter_mut().flat_map(|step| &mut step.images) {
        if let ImageState::Stale { reasons } = &mut image.state {
            for reason in reasons.iter_mut().filter(|reason| **reason == Reason::Missing) {
                *reason = Reason::NotOnRecord;
            }
        }
    }
    Ok(steps)
}

/// What would be done with each component, in build order; `command` is who asks.
pub async fn preview<E: Engine>(
    engine: impl Future<Output = Result<E, EngineError>>,
    scope: &Scope,
    options: &BuildOptions,
    command: &str,
    ctx: &CommandContext,
) -> Result<Vec<PlannedStep>, CommandError> {
    let _lock = ctx.lock(command).await?;
    preview_locked(engine, scope, options, ctx).await
}

/// What would be done with some components and what they need, also if others are broken.
pub(crate) async fn preview_components<E: Engine + Clone>(
    engine: &E,
    workspace: &Workspace,
    components: &BTreeSet<ComponentId>,
    reading: &WorkspaceOptions,
    command: &str,
    ctx: &CommandContext,
) -> Result<Vec<PlannedStep>, CommandError> {
    let names = components.iter().map(|id| workspace.components[*id].name.clone());
    let selection = names.collect::<Vec<String>>().into();
    let scope = Scope { reading: reading.clone(), selection };
    let options = BuildOptions { keep_going: true, ..BuildOptions::default() };
    let connected = engine.clone();
    preview(async { Ok(connected) }, &scope, &options, command, ctx).await
}

/// What would be done, in a workspace that is locked.
pub(crate) async fn preview_locked<E: Engine>(
    engine: impl Future<Output = Result<E, EngineError>>,
    scope: &Scope,
    options: &BuildOptions,
    ctx: &CommandContext,
) -> Result<Vec<PlannedStep>, CommandError> {
    let registry = scope.reading.registry()?;
    let registry = registry.as_ref();
    let (prepared, engine, images) = get_ready(engine, scope, options, registry, true, ctx).await?;
    if !options.keep_going {
        check_settings(&prepared, &engine).await?;
    }
    let mode = Mode::Build;
    let round = Round::new(&prepared, &engine, registry, options, mode, ctx);
    let steps = ctx.unless_interrupted(Box::pin(preview_round(&round, images))).await;
    // That saves time, and nothing else depends on it.
    drop(round.save_digests());
    drop(round);
    free(prepared);
    steps
}

/// Freeing a hundred thousand paths takes a while.
fn free(prepared: Prepared) {
    tokio::task::spawn_blocking(move || drop(prepared));
}

async fn preview_round<E: Engine>(
    round: &Round<'_, E>,
    engine_images: EngineImages,
) -> Result<Vec<PlannedStep>, CommandError> {
    let images = ImageLookup::new(round, engine_images);
    let bases = BaseImages::new(round, &images);
    let shared = SharedImages::new(round, &images, None).await;
    let hook_cache = HookCache::new(round, &images, &bases, &shared);
    let builder = ImageBuilder::new(round, &images, &bases, &hook_cache, &shared);
    DryRun::new(round, &builder, &hook_cache).run().await
}

/// Runs the tasks of all steps, cleans up, and writes down what was learned.
pub(crate) async fn run_round<E: Engine>(
    round: &Round<'_, E>,
    prepared: &Prepared,
    engine_images: EngineImages,
    from_registry: Option<&str>,
) -> Completed {
    let Prepared { workspace, plan, cancellation, hook_activity, temp_dirs, .. } = prepared;
    let started = Instant::now();
    let jobs = match round.options.jobs {
        Some(jobs) => jobs,
        None => match round.engine.cpus().await {
            Ok(cpus) => cpus.saturating_add(EXTRA_JOBS),
            Err(error) => {
                return Completed {
                    result: Err(error.into()),
                    outcomes: Vec::new(),
                    inexact: BTreeSet::new(),
                    misread: BTreeSet::new(),
                    results: Vec::new(),
                    settled: Vec::new(),
                    engine_images,
                };
            }
        },
    };
    announce(round, jobs);
    let images = ImageLookup::new(round, engine_images);
    let bases = BaseImages::new(round, &images);
    let shared = SharedImages::new(round, &images, from_registry).await;
    let hook_cache = HookCache::new(round, &images, &bases, &shared);
    let builder = ImageBuilder::new(round, &images, &bases, &hook_cache, &shared);
    if shared.are_asked_for() {
        tokio::select! {
            () = round.ctx.interrupt.wait() => {}
            () = ask_ahead(&builder) => {}
        }
    }
    let runner =
        StepRunner::new(round, &builder, &hook_cache, cancellation, hook_activity, temp_dirs);
    let tasks = plan.tasks();
    let executed = Executor::new(round, &runner, cancellation, &tasks, jobs).run().await;
    let cleaned = runner.clean_up().map_err(CommandError::Unclean);
    tokio::select! {
        () = round.ctx.interrupt.wait() => {}
        () = images.release_forgotten() => {}
    }
    let ended = plan.steps.iter().zip(&executed.outcomes);
    for (step, outcome) in ended.clone() {
        let name = &round.component(step).name;
        round.records.borrow_mut().set_unfinished(name, !outcome.is_good());
    }
    round.warn_unwritable(round.records.borrow_mut().write());
    round.warn_unwritable(round.save_digests());
    round.warn_unwritable(hook_cache.tidy());
    let summary = summarize(workspace, plan, &tasks, &executed, started.elapsed());
    round.send(Event::RoundFinished(summary));
    let has_failed = executed.outcomes.as_slice().contains(&Outcome::Failed);
    let result = if cancellation.is_interrupted() {
        cleaned.and(Err(CommandError::Interrupted))
    } else if has_failed {
        cleaned.and(Err(CommandError::Failed))
    } else {
        cleaned
    };
    let outcomes = ended.map(|(step, outcome)| (step.component, outcome.clone())).collect();
    let (inexact, misread) = (runner.inexact.take(), runner.misread.take());
    let results = plan.steps.iter().zip(&executed.outcomes).filter(|(_, it)| it.is_good());
    let results = results.flat_map(|(step, _)| round.images(step));
    let results = results.filter_map(|image| images.result(image)).collect();
    let settled = hook_cache.into_settled();
    let engine_images = images.into_engine_images();
    Completed { result, outcomes, inexact, misread, results, settled, engine_images }
}
