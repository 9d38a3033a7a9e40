//! What every command needs to know of where it runs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use xtask_core::workspace::components::WorkspaceOptions;

use crate::command_error::CommandError;
use crate::engine::{DockerEngine, EngineError, Environment};
use crate::event_channel::Events;
use crate::system::lock::Lock;
use crate::system::signals::Interrupt;

/// What every command needs to know of where it runs.
#[derive(Clone, Debug)]
pub struct CommandContext {
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

impl CommandContext {
    /// Adds the proxies to what is read; arguments that are there win.
    pub fn add_proxies(&self, options: &mut WorkspaceOptions) {
        for (name, value) in &self.proxies {
            options.build_args.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }

    /// Connects to the engine.
    pub(crate) async fn engine(&self) -> Result<DockerEngine, EngineError> {
        DockerEngine::connect(self.environment.clone(), &self.events, &self.interrupt).await
    }

    /// Does the work, unless the user stops it.
    pub(crate) async fn unless_interrupted<T>(
        &self,
        work: impl Future<Output = Result<T, CommandError>>,
    ) -> Result<T, CommandError> {
        tokio::select! {
            biased;
            () = self.interrupt.wait() => Err(CommandError::Interrupted),
            // What was stopped may say so before the signal is seen here.
            done = work => done.map_err(|error| {
                if self.interrupt.is_requested() { CommandError::Interrupted } else { error }
            }),
        }
    }

    /// Takes the workspace for `command`, unless the user stops waiting for it.
    pub(crate) async fn lock(&self, command: &str) -> Result<Lock, CommandError> {
        tokio::select! {
            lock = Lock::take(&self.root, command, self.no_wait, &self.events) => Ok(lock?),
            () = self.interrupt.wait() => Err(CommandError::Interrupted),
        }
    }
}
