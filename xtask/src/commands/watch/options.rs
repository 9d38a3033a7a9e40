//! What to watch, and how.

use std::time::Duration;

use xtask_core::workspace::components::WorkspaceOptions;

use crate::commands::push::PushOptions;

/// What to watch and how.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// How the workspace is read.
    pub reading: WorkspaceOptions,
    /// The components to watch, in addition to their dependencies; all if empty.
    pub components: Vec<String>,
    /// The maximum number of parallel jobs; the number of the engine's CPUs if `None`.
    pub jobs: Option<usize>,
    /// The quiet period before a rebuild.
    pub debounce: Duration,
    /// Compare all files at this interval instead of waiting for events.
    pub poll: Option<Duration>,
    /// Build nothing before the first change.
    pub no_initial: bool,
    /// The shell command to run after a round that succeeded.
    pub on_success: Option<String>,
    /// The shell command to run after a round that failed.
    pub on_failure: Option<String>,
    /// How to push what was built, if at all; the images are filled in.
    pub push: Option<PushOptions>,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug)]
pub enum UserRequest {
    /// Build what is stale, even where no change was seen.
    Build,
    /// Build what is watched, even if it is up to date.
    Force,
    /// Pause, or go on.
    Pause,
}
