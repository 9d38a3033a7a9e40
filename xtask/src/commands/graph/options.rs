//! The options of `graph`.

use xtask_core::workspace::components::WorkspaceOptions;

#[derive(Clone, Debug, Default)]
pub(crate) struct GraphOptions {
    pub(crate) reading: WorkspaceOptions,
    /// The components to start from; all if empty.
    pub(crate) components: Vec<String>,
    /// Show dependents instead of dependencies.
    pub(crate) dependents: bool,
    /// The maximum distance from `components`.
    pub(crate) depth: Option<usize>,
    /// Show only the paths between these two components.
    pub(crate) between: Option<[String; 2]>,
    /// Show external images.
    pub(crate) external: bool,
    /// Show what a build would do, which needs the engine.
    pub(crate) stale: bool,
    /// Show the previous build times, and the critical path.
    pub(crate) durations: bool,
    /// Mark the components that changed since this git revision, and their dependents.
    pub(crate) since: Option<String>,
}
