//! `build`: builds the images of the workspace, or of some components and their dependencies;
//! and does with them what was asked for; or says what it would build.

use crate::build::mode::Mode;
use crate::build::options;
use crate::build::options::Scope;
use crate::build::run as build;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::commands::build_results::{BuildResults, ResultOptions};
use crate::event::Event;
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
}

pub(crate) async fn run(options: &BuildOptions, ctx: &CommandContext) -> Result<(), CommandError> {
    let BuildOptions { scope, build: how, results, dry_run, exit_code } = options;
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
    build::run_with(ctx.engine(), scope, how, Mode::Build, ctx).await?;
    match results {
        Some(results) => results.deliver(ctx).await,
        None => Ok(()),
    }
}
