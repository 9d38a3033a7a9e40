//! What a round is about, and how it builds.

use std::collections::BTreeSet;

use xtask_core::ids::ComponentId;
use xtask_core::plan::graph::Graph;
use xtask_core::workspace::components::{Workspace, WorkspaceOptions};
use xtask_core::workspace::selection::Selected;

use crate::build::changed_since;
use crate::command_error::CommandError;
use crate::system::records::Records;

/// The part of a workspace that a round is about, and how the workspace is read.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// How the workspace is read.
    pub reading: WorkspaceOptions,
    /// The components to build, in addition to their dependencies.
    pub selection: Selection,
}

/// The components that the user selected.
#[derive(Clone, Debug, Default)]
pub enum Selection {
    /// All of them.
    #[default]
    All,
    /// Those with these names.
    Named(Vec<String>),
    /// Those that changed since this git revision, and their dependents.
    ChangedSince(String),
    /// Those that did not succeed in their last round.
    Failed,
}

impl Selection {
    /// What is selected; `None` for all.
    pub(crate) fn find(
        &self,
        workspace: &Workspace,
        graph: &Graph,
    ) -> Result<Option<Selected>, CommandError> {
        let components: BTreeSet<ComponentId> = match self {
            Self::All => return Ok(workspace.default_selection()?),
            Self::Named(names) => return Ok(Some(workspace.select(names)?)),
            Self::ChangedSince(revision) => {
                graph.dependents(&changed_since::changed(workspace, revision)?)
            }
            Self::Failed => {
                let records = Records::read(&workspace.root, "");
                let is_unfinished =
                    |id: &ComponentId| records.is_unfinished(&workspace.components[*id].name);
                workspace.components.ids().filter(is_unfinished).collect()
            }
        };
        Ok(Some(workspace.all_of(components)))
    }

    /// Whether the user said what it is, so that what counts for nothing in it is a mistake.
    pub(crate) fn is_named(&self) -> bool {
        matches!(self, Self::All | Self::Named(_))
    }
}

impl From<Vec<String>> for Selection {
    /// No names select all components.
    fn from(names: Vec<String>) -> Self {
        if names.is_empty() { Self::All } else { Self::Named(names) }
    }
}

/// How a round builds.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// Build the selected components even if they are up to date.
    pub force: bool,
    /// Do not use the build cache of the engine.
    pub no_cache: bool,
    /// Pull newer versions of external base images.
    pub pull: bool,
    /// The maximum number of parallel jobs; the number of the engine's CPUs if `None`.
    pub jobs: Option<usize>,
    /// After a failure, continue with everything that does not depend on it.
    pub keep_going: bool,
    /// Whether images that others built are pulled instead.
    pub from_registry: FromRegistry,
}

/// Where images are asked for that others built.
#[derive(Clone, Debug, Default)]
pub enum FromRegistry {
    /// Nowhere.
    #[default]
    Never,
    /// Where `share` in `xtask.toml` says, if it does.
    IfConfigured,
    /// Where `share` in `xtask.toml` says, or else where images are pushed to.
    Configured,
    /// Below this prefix: `HOST[:PORT]/PATH`.
    At(String),
}
