//! What a user can ask for, each a short story told in calls to the layers below.

pub mod aim;
mod ask;
mod bases;
pub mod build;
pub mod context;
mod ended;
mod failure;
pub mod graph;
mod image;
pub mod inputs;
mod live;
mod outputs;
mod preview;
pub mod push;
mod round;
mod settled;
mod since;
mod step;
pub mod watch;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::core::config::RegistryConfig;
use crate::core::graph::Graph;
use crate::core::problem::{Problem, Problems};
use crate::core::workspace::{Options, Workspace};
use crate::effects::engine::{DockerEngine, EngineError, Environment};
use crate::effects::interrupt::Interrupt;
use crate::effects::lock::{Lock, LockError};
use crate::event::{Event, Events};

pub use failure::StepError;

/// What every command needs to know of where it runs.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The workspace's root.
    pub root: PathBuf,
    /// Where the engine is.
    pub environment: Environment,
    /// The build arguments that Docker's config gives to every build: its proxies.
    pub proxies: BTreeMap<String, String>,
    /// The environment of hooks, all of it.
    pub variables: BTreeMap<OsString, OsString>,
    /// How many bytes of what hooks made are kept.
    pub store_limit: u64,
    /// Where to tell what happens.
    pub events: Events,
    /// Whether to stop.
    pub interrupt: Interrupt,
    /// Fail at once if another command is at work in the workspace.
    pub no_wait: bool,
}

impl Setting {
    /// Adds the proxies to what is read; arguments that are there win.
    pub fn add_proxies(&self, options: &mut Options) {
        for (name, value) in &self.proxies {
            options.build_args.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }

    /// Connects to the engine.
    async fn engine(&self) -> Result<DockerEngine, EngineError> {
        DockerEngine::connect(self.environment.clone(), &self.events, &self.interrupt).await
    }

    /// Does the work, unless the user stops it.
    async fn unless_interrupted<T>(
        &self,
        work: impl Future<Output = Result<T, CommandError>>,
    ) -> Result<T, CommandError> {
        tokio::select! {
            biased;
            () = self.interrupt.wait() => Err(CommandError::Interrupted),
            // What was stopped may say so before the signal is seen here.
            done = work => done.map_err(|error| {
                if self.interrupt.has_come() { CommandError::Interrupted } else { error }
            }),
        }
    }

    /// Takes the workspace for `command`, unless the user stops waiting for it.
    async fn lock(&self, command: &str) -> Result<Lock, CommandError> {
        tokio::select! {
            lock = Lock::take(&self.root, command, self.no_wait, &self.events) => Ok(lock?),
            () = self.interrupt.wait() => Err(CommandError::Interrupted),
        }
    }
}

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

/// Reads and judges the whole workspace.
fn read_workspace(
    root: &Path,
    options: &Options,
    registry: Option<&RegistryConfig>,
    events: &Events,
) -> Result<(Workspace, Graph), Problems> {
    let mut problems = Vec::new();
    let mut workspace = Workspace::read(root, options, &mut problems);
    let named = registry.map(RegistryConfig::names);
    workspace.widen_sources(named.as_ref());
    let graph = Graph::resolve(&workspace, named.as_ref(), &mut problems);
    for warning in &workspace.warnings {
        events.send(Event::Warning(warning.clone()));
    }
    Problems::check(problems).map(|()| (workspace, graph))
}
