//! Runs a plan from its workspace on, or says what it would do.

use xtask_core::workspace::registry_config::RegistryConfig;

use crate::build::executor::Round;
use crate::build::mode::Mode;
use crate::build::options::BuildOptions;
use crate::build::prepare::get_ready;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::engine::{Engine, EngineError};
use crate::event::PlannedStep;

/// Builds with an engine that is still to answer.
pub async fn run_with<E: Engine>(
    engine: impl Future<Output = Result<E, EngineError>>,
    options: &BuildOptions,
    mode: Mode<'_>,
    ctx: &CommandContext,
) -> Result<(), CommandError> {
    let registry = options.config_dir.as_deref().map(RegistryConfig::read).transpose()?;
    let _lock = ctx.lock("build").await?;
    let (prepared, engine, engine_images) =
        get_ready(engine, options, registry.as_ref(), ctx).await?;
    let round =
        Round::new(&prepared, &engine, engine_images, registry.as_ref(), options, mode, ctx);
    let ended = if options.dry_run {
        ctx.unless_interrupted(Box::pin(round.tell())).await
    } else {
        round.run().await
    };
    drop(round);
    // Nobody should wait until a hundred thousand paths are freed.
    tokio::task::spawn_blocking(move || drop(prepared));
    ended
}

/// What would be done with each component, in build order.
pub(crate) async fn preview<E: Engine>(
    engine: impl Future<Output = Result<E, EngineError>>,
    options: &BuildOptions,
    ctx: &CommandContext,
) -> Result<Vec<PlannedStep>, CommandError> {
    let _lock = ctx.lock("graph").await?;
    preview_locked(engine, options, ctx).await
}

/// The same in a workspace that is locked.
pub(crate) async fn preview_locked<E: Engine>(
    engine: impl Future<Output = Result<E, EngineError>>,
    options: &BuildOptions,
    ctx: &CommandContext,
) -> Result<Vec<PlannedStep>, CommandError> {
    let registry = options.config_dir.as_deref().map(RegistryConfig::read).transpose()?;
    let (prepared, engine, engine_images) =
        get_ready(engine, options, registry.as_ref(), ctx).await?;
    let round =
        Round::new(&prepared, &engine, engine_images, registry.as_ref(), options, Mode::Build, ctx);
    ctx.unless_interrupted(Box::pin(round.preview())).await
}
