//! What to build, and how.

use std::path::PathBuf;

use xtask_core::workspace::components::WorkspaceOptions;

/// What to build and how.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// The folder of `services-configuration.yaml`; without it images are ours
    /// under their plain names only.
    pub config_dir: Option<PathBuf>,
    /// How Dockerfiles are read.
    pub reading: WorkspaceOptions,
    /// The components to build, with what they need; all if empty.
    pub components: Vec<String>,
    /// Only the components that changed since this git revision, and their
    /// dependents, with what they need.
    pub since: Option<String>,
    /// Build what is named even if it is up to date.
    pub force: bool,
    /// Run every instruction again.
    pub no_cache: bool,
    /// Ask the registries for newer external base images.
    pub pull: bool,
    /// Only the components that did not succeed in the last round that tried them,
    /// with what they need.
    pub failed: bool,
    /// How many parts of steps run at a time; as many as the engine has CPUs if not
    /// given.
    pub jobs: Option<usize>,
    /// After a failure, go on with what does not depend on it.
    pub keep_going: bool,
    /// Tell what would be done, and do nothing.
    pub dry_run: bool,
}
