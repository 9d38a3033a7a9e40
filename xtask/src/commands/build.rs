//! `build`: makes the images of the workspace, or of some components and what
//! they need.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::round::Round;
use super::{CommandError, Setting, read_workspace, since};
use crate::core::config::RegistryConfig;
use crate::core::graph::Graph;
use crate::core::plan::Plan;
use crate::core::workspace::{Options, Workspace};
use crate::effects::engine::{DockerEngine, Engine, EngineError};
use crate::effects::records::read_memory;
use crate::effects::temporary;
use crate::event::Event;

/// What to build and how.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// The folder of `services-configuration.yaml`; without it images are ours
    /// under their plain names only.
    pub config_dir: Option<PathBuf>,
    /// The components to build, with what they need; all if empty.
    pub components: Vec<String>,
    /// Only the components that changed since this git revision, and their
    /// dependents, with what they need.
    pub since: Option<String>,
    /// Values for the Dockerfiles' `ARG`s.
    pub build_args: BTreeMap<String, String>,
    /// Build what is named even if it is up to date.
    pub force: bool,
    /// Run every instruction again.
    pub no_cache: bool,
    /// Ask the registries for newer external base images.
    pub pull: bool,
    /// Of several Dockerfiles for one image, the one of this flavor.
    pub flavor: Option<String>,
    /// Tell what would be done, and do nothing.
    pub dry_run: bool,
}

/// Builds in dependency order and leaves the tree as it was.
pub async fn run(options: &BuildOptions, setting: &Setting) -> Result<(), CommandError> {
    // It answers while the workspace is read.
    let engine = tokio::spawn(DockerEngine::connect(setting.environment.clone()));
    let connected = async { engine.await.map_err(|error| EngineError::Lost(error.to_string()))? };
    run_with(connected, options, setting).await
}

/// Builds with an engine that is still to answer.
pub async fn run_with<E: Engine>(
    engine: impl Future<Output = Result<E, EngineError>>,
    options: &BuildOptions,
    setting: &Setting,
) -> Result<(), CommandError> {
    let registry = options.config_dir.as_deref().map(RegistryConfig::read).transpose()?;
    let _lock = setting.lock("build").await?;
    let root = setting.root.clone();
    let memory = tokio::task::spawn_blocking(move || read_memory(&root));
    let reading =
        Options { flavor: options.flavor.clone(), build_args: options.build_args.clone() };
    let (workspace, graph) =
        read_workspace(&setting.root, &reading, registry.as_ref(), &setting.events)?;
    let selected = select(&workspace, &graph, options)?;
    let plan = Plan::new(&workspace, &graph, selected.as_ref());
    temporary::refuse_tracked(&workspace)?;
    let engine = engine.await?;
    temporary::clean(&workspace).map_err(CommandError::Unclean)?;
    let memory = memory.await.unwrap_or_default();
    let round =
        Round::begin(&workspace, &plan, &engine, registry.as_ref(), memory, options, setting)
            .await?;
    if options.dry_run {
        let preview = round.preview().await?;
        setting.events.send(Event::Planned(preview));
        round.end();
        return Ok(());
    }
    round.run().await
}

/// What the user named; none for everything.
fn select(
    workspace: &Workspace,
    graph: &Graph,
    options: &BuildOptions,
) -> Result<Option<BTreeSet<usize>>, CommandError> {
    if let Some(revision) = &options.since {
        let changed = since::changed(workspace, revision)?;
        return Ok(Some(graph.dependents(&changed)));
    }
    let named = workspace.find_all(&options.components)?;
    Ok((!named.is_empty()).then_some(named))
}
