//! `build`: builds the images of the workspace, or of some components and their dependencies;
//! and does with them what was asked for; or says what it would build.

use xtask_core::problem::Problems;

use crate::build::mode::Mode;
use crate::build::options;
use crate::build::options::Scope;
use crate::build::prepare::read_scope;
use crate::build::run as build;
use crate::build::share_prefix;
use crate::build::summary::Completed;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::commands::build_results::{BuildResults, ResultOptions};
use crate::commands::share::share_all;
use crate::event::Event;
use crate::event_channel::Events;
use crate::outcome::PlannedStep;

#[derive(Clone, Debug)]
pub(crate) struct BuildOptions {
    pub(crate) scope: Scope,
    pub(crate) build: options::BuildOptions,
    /// What to do with what was built.
    pub(crate) results: ResultOptions,
    /// Say what would be built, without building it.
    pub(crate) dry_run: bool,
    /// Fail if that is not nothing.
    pub(crate) exit_code: bool,
    /// Push what there is under its fingerprint.
    pub(crate) share: bool,
}

pub(crate) async fn run(options: &BuildOptions, ctx: &CommandContext) -> Result<(), CommandError> {
    let BuildOptions { scope, build: how, results, dry_run, exit_code, share } = options;
    if *dry_run {
        // A check must not succeed on what is only likely.
        let steps = if *exit_code {
            build::preview(ctx.engine(), scope, how, "build", ctx).await?
        } else {
            build::preview_if_unreachable(ctx.engine(), scope, how, "build", ctx).await?
        };
        let is_stale = steps.iter().any(PlannedStep::is_stale);
        ctx.events.send(Event::Planned { steps });
        return if *exit_code && is_stale { Err(CommandError::Stale) } else { Ok(()) };
    }
    let results = BuildResults::prepare(results, scope, ctx)?;
    let prefix = if *share { Some(share_prefix(scope, ctx)?) } else { None };
    let completed = build::run_to_share(ctx.engine(), scope, how, Mode::Build, ctx).await?;
    if let Some(prefix) = prefix.filter(|_| !ctx.interrupt.is_requested()) {
        share_results(&completed, &prefix, options, ctx).await?;
    }
    completed.result?;
    match results {
        Some(results) => results.deliver(ctx).await,
        None => Ok(()),
    }
}

/// Where images are shared, which must be known before they are built.
fn share_prefix(scope: &Scope, ctx: &CommandContext) -> Result<String, CommandError> {
    let registry = scope.reading.registry()?;
    let scoped = read_scope(&ctx.root, scope, registry.as_ref(), &Events::unread())?;
    let prefix = share_prefix::to_share(&scoped.workspace.config, registry.as_ref());
    Ok(prefix.map_err(Problems::from)?)
}

async fn share_results(
    completed: &Completed,
    prefix: &str,
    options: &BuildOptions,
    ctx: &CommandContext,
) -> Result<(), CommandError> {
    let (registry, retry_for) = (options.scope.reading.registry()?, options.results.retry_for);
    let engine = ctx.engine().await?;
    let (images, settled) = (&completed.results, &completed.settled);
    let sharing = share_all(images, settled, prefix, registry.as_ref(), &engine, retry_for, ctx);
    ctx.unless_interrupted(Box::pin(sharing)).await
}
