//! `build`: builds the images of the workspace, or of some components and their dependencies.

use crate::build::mode::Mode;
use crate::build::options::BuildOptions;
use crate::build::run::run_with;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;

pub(crate) async fn run(options: &BuildOptions, ctx: &CommandContext) -> Result<(), CommandError> {
    let engine = ctx.engine();
    run_with(engine, options, Mode::Build, ctx).await
}
