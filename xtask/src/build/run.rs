//! Runs a plan from its workspace on, or says what it would do.

use xtask_core::workspace::registry_config::RegistryConfig;

use crate::build::executor::Round;
use crate::build::mode::Aim;
use crate::build::options::BuildOptions;
use crate::build::prepare::get_ready;
use crate::command_context::Setting;
use crate::command_error::CommandError;
use crate::engine::{Engine, EngineError};
use crate::event::PlannedStep;

/// Builds with an engine that is still to answer.
pub async fn run_with<E: Engine>(
    engine: impl Future<Output = Result<E, EngineError>>,
    options: &BuildOptions,
    aim: Aim<'_>,
    setting: &Setting,
) -> Result<(), CommandError> {
    let registry = options.config_dir.as_deref().map(RegistryConfig::read).transpose()?;
    let _lock = setting.lock("build").await?;
    let (prepared, engine, holdings) =
        get_ready(engine, options, registry.as_ref(), setting).await?;
    let round = Round::new(&prepared, &engine, holdings, registry.as_ref(), options, aim, setting);
    let ended = if options.dry_run {
        setting.unless_interrupted(Box::pin(round.tell())).await
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
    setting: &Setting,
) -> Result<Vec<PlannedStep>, CommandError> {
    let _lock = setting.lock("graph").await?;
    preview_locked(engine, options, setting).await
}

/// The same in a workspace that is locked.
pub(crate) async fn preview_locked<E: Engine>(
    engine: impl Future<Output = Result<E, EngineError>>,
    options: &BuildOptions,
    setting: &Setting,
) -> Result<Vec<PlannedStep>, CommandError> {
    let registry = options.config_dir.as_deref().map(RegistryConfig::read).transpose()?;
    let (prepared, engine, holdings) =
        get_ready(engine, options, registry.as_ref(), setting).await?;
    let round =
        Round::new(&prepared, &engine, holdings, registry.as_ref(), options, Aim::Build, setting);
    setting.unless_interrupted(Box::pin(round.preview())).await
}
