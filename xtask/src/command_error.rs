//! Why a command did not do what it was asked.

use std::io;

use xtask_core::problem::{Problem, Problems};

use crate::engine::EngineError;
use crate::system::lock::LockError;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The request or the workspace is wrong; nothing was begun.
    #[error(transparent)]
    Wrong(#[from] Problems),
    /// The workspace is busy.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The engine is not there, or does not answer.
    #[error(transparent)]
    Engine(EngineError),
    /// Components failed; events told which and why.
    #[error("components failed")]
    Failed,
    /// The temporary folders are still there.
    #[error("the tree could not be cleaned: {0}")]
    Unclean(#[source] Problems),
    /// Images that are not in the registry; each was told of when it failed.
    #[error("{failed} of {all} images were not pushed: the reasons are above")]
    NotPushed {
        /// How many are missing.
        failed: usize,
        /// How many were asked for.
        all: usize,
    },
    /// A file shows another graph.
    #[error(transparent)]
    Outdated(Problems),
    /// Hooks read more than their component declares.
    #[error(transparent)]
    Undeclared(Problems),
    /// What was asked for could not be written.
    #[error("{0}")]
    Unwritten(Problem),
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

impl CommandError {
    /// That a file, or standard output, cannot be written.
    pub fn unwritten(file: &str, error: &io::Error) -> Self {
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
