//! `build`: makes the images of the workspace, or of some components and what
//! they need.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::round::Round;
use super::{CommandError, Setting, read_workspace};
use crate::core::config::RegistryConfig;
use crate::core::plan::Plan;
use crate::core::workspace::Options;
use crate::effects::engine::Engine;
use crate::effects::temporary;

/// What to build and how.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// The folder of `services-configuration.yaml`; without it images are ours
    /// under their plain names only.
    pub config_dir: Option<PathBuf>,
    /// The components to build, with what they need; all if empty.
    pub components: Vec<String>,
    /// Values for the Dockerfiles' `ARG`s.
    pub build_args: BTreeMap<String, String>,
    /// Run every instruction again.
    pub no_cache: bool,
    /// Ask the registries for newer external base images.
    pub pull: bool,
    /// Of several Dockerfiles for one image, the one of this flavor.
    pub flavor: Option<String>,
}

/// Builds in dependency order and leaves the tree as it was.
pub async fn run(options: &BuildOptions, setting: &Setting) -> Result<(), CommandError> {
    let registry = options.config_dir.as_deref().map(RegistryConfig::read).transpose()?;
    let _lock = setting.lock("build").await?;
    let reading =
        Options { flavor: options.flavor.clone(), build_args: options.build_args.clone() };
    let (workspace, graph) =
        read_workspace(&setting.root, &reading, registry.as_ref(), &setting.events)?;
    let selected = workspace.find_all(&options.components)?;
    let plan = Plan::new(&workspace, &graph, &selected);
    temporary::refuse_tracked(&workspace)?;
    let engine = Engine::connect(setting.environment.clone()).await?;
    temporary::clean(&workspace).map_err(CommandError::Unclean)?;
    let round = Round {
        workspace: &workspace,
        plan: &plan,
        engine: &engine,
        registry: registry.as_ref(),
        options,
        events: &setting.events,
        interrupt: &setting.interrupt,
        variables: &setting.variables,
    };
    round.run().await
}
