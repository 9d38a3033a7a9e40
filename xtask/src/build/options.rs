//! The options of a build.

use std::path::PathBuf;

use xtask_core::workspace::components::WorkspaceOptions;

/// What to build, and how.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// The folder of `services-configuration.yaml`. Without it, Dockerfiles can use images of the
    /// workspace only by their plain names.
    pub config_dir: Option<PathBuf>,
    /// How Dockerfiles are read.
    pub reading: WorkspaceOptions,
    /// The components to build, in addition to their dependencies; all if empty.
    pub components: Vec<String>,
    /// Build only components that changed since this git revision, their dependents, and the
    /// dependencies of these.
    pub since: Option<String>,
    /// Build the selected components even if they are up to date.
    pub force: bool,
    /// Do not use the build cache of the engine.
    pub no_cache: bool,
    /// Pull newer versions of external base images.
    pub pull: bool,
    /// Build only components that did not succeed in their last round, and their dependencies.
    pub failed: bool,
    /// The maximum number of parallel jobs; the number of the engine's CPUs if `None`.
    pub jobs: Option<usize>,
    /// After a failure, continue with everything that does not depend on it.
    pub keep_going: bool,
    /// Print what would be built, without building it.
    pub dry_run: bool,
}
