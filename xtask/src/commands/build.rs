//! `build`: makes the images of the workspace, or of some components and what
//! they need.

use crate::build::mode::Aim;
use crate::build::options::BuildOptions;
use crate::build::run::run_with;
use crate::command_context::Setting;
use crate::command_error::CommandError;

/// Builds in dependency order and leaves the tree as it was.
pub async fn run(options: &BuildOptions, setting: &Setting) -> Result<(), CommandError> {
    let engine = setting.engine();
    run_with(engine, options, Aim::Build, setting).await
}
