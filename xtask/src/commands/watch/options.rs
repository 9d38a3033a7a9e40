//! What to watch, and how.

use std::time::Duration;

use crate::build::options::BuildOptions;
use crate::commands::push::PushOptions;

/// What to watch and how.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// How to build; its `components`, with what they need, are watched.
    pub build: BuildOptions,
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
