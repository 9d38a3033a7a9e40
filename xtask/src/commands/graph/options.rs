//! What to show of the graph.

use std::path::PathBuf;

use xtask_core::workspace::components::WorkspaceOptions;

/// What to draw.
#[derive(Clone, Debug, Default)]
pub struct GraphOptions {
    /// The folder of `services-configuration.yaml`.
    pub config_dir: Option<PathBuf>,
    /// How Dockerfiles are read.
    pub reading: WorkspaceOptions,
    /// The components to begin with; all if empty.
    pub components: Vec<String>,
    /// Follow who needs them, not what they need.
    pub dependents: bool,
    /// Follow so many steps only.
    pub depth: Option<usize>,
    /// Only what lies on a way from one of two components to the other.
    pub between: Option<[String; 2]>,
    /// The images of others too.
    pub external: bool,
    /// Ask the engine what is stale.
    pub stale: bool,
    /// How long components took the last time, and the critical path by that.
    pub durations: bool,
    /// Mark what changed since this git revision, and what that reaches.
    pub since: Option<String>,
}
