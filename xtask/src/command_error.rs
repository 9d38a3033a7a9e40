//! The errors of commands.

use std::io;

use xtask_core::problem::{Problem, Problems};

use crate::engine::EngineError;
use crate::system::lock::LockError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The arguments or the workspace are invalid; nothing was started.
    #[error(transparent)]
    Wrong(#[from] Problems),
    /// The async runtime cannot start.
    #[error("cannot start the async runtime: {0}")]
    Runtime(#[source] io::Error),
    /// The workspace cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The engine cannot be reached, or returned an error.
    #[error(transparent)]
    Engine(EngineError),
    /// Components failed, as events have reported.
    #[error("some components failed")]
    Failed,
    /// Images are stale, as events have reported.
    #[error("some images are stale")]
    Stale,
    /// Temporary folders are left in the source tree.
    #[error("temporary folders could not be removed: {0}")]
    Unclean(#[source] Problems),
    /// Some images were not pushed, as events have reported.
    #[error("{failed} of {total} images were not pushed: see the errors above")]
    NotPushed {
        /// The number of images that were not pushed.
        failed: usize,
        /// The number of images to push.
        total: usize,
    },
    /// A drawing of the graph is out of date.
    #[error(transparent)]
    Outdated(Problems),
    /// Hooks read inputs that their component does not declare.
    #[error(transparent)]
    Undeclared(Problems),
    /// A component has no log, or it cannot be read.
    #[error("{0}")]
    NoLog(Problem),
    /// A result could not be written.
    #[error("{0}")]
    Unwritten(Problem),
    /// The user interrupted the command.
    #[error("interrupted")]
    Interrupted,
}

impl CommandError {
    /// Whether events have reported everything, so that there is no message.
    pub(crate) fn is_reported(&self) -> bool {
        matches!(self, Self::Failed | Self::Stale)
    }

    /// What ends the command, with places; none if events have reported it.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        match self {
            Self::Wrong(problems)
            | Self::Unclean(problems)
            | Self::Outdated(problems)
            | Self::Undeclared(problems) => problems.iter().cloned().collect(),
            Self::NoLog(problem) | Self::Unwritten(problem) => vec![problem.clone()],
            Self::Failed | Self::Stale | Self::NotPushed { .. } | Self::Interrupted => Vec::new(),
            Self::Runtime(_) | Self::Lock(_) | Self::Engine(_) => {
                vec![Problem::of_request(self.to_string())]
            }
        }
    }

    /// The error for a file, or standard output, that cannot be written.
    pub(crate) fn unwritten(file: &str, error: &io::Error) -> Self {
        Self::Unwritten(Problem::of_file(file, format!("cannot be written: {error}")))
    }
}

impl From<EngineError> for CommandError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Interrupted => Self::Interrupted,
            error => Self::Engine(error),
        }
    }
}
