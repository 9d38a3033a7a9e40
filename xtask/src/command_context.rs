//! The environment in which commands run.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use xtask_core::workspace::components::WorkspaceOptions;

use crate::command_error::CommandError;
use crate::engine::{DockerEngine, EngineError, Environment};
use crate::event_channel::Events;
use crate::system::lock::Lock;
use crate::system::signals::Interrupt;

/// The environment in which a command runs.
#[derive(Clone, Debug)]
pub struct CommandContext {
    /// The root of the workspace.
    pub root: PathBuf,
    /// The settings by which the engine is found.
    pub environment: Environment,
    /// The proxies of Docker's configuration, which are build arguments of every build.
    pub proxies: BTreeMap<String, String>,
    /// All environment variables of hooks.
    pub variables: BTreeMap<OsString, OsString>,
    /// The maximum size of cached hook outputs in bytes.
    pub store_limit: u64,
    /// The channel for events.
    pub events: Events,
    /// Whether the user interrupted the command.
    pub interrupt: Interrupt,
    /// Fail instead of waiting if another command has locked the workspace.
    pub no_wait: bool,
}

impl CommandContext {
    /// Adds the proxies to the build arguments. Existing arguments take precedence.
    pub(crate) fn add_proxies(&self, options: &mut WorkspaceOptions) {
        for (name, value) in &self.proxies {
            options.build_args.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }

    pub(crate) async fn engine(&self) -> Result<DockerEngine, EngineError> {
        DockerEngine::connect(self.environment.clone(), &self.events, &self.interrupt).await
    }

    /// Waits for `work`, or fails when the user interrupts it.
    pub(crate) async fn unless_interrupted<T>(
        &self,
        work: impl Future<Output = Result<T, CommandError>>,
    ) -> Result<T, CommandError> {
        tokio::select! {
            biased;
            () = self.interrupt.wait() => Err(CommandError::Interrupted),
            // The interrupt may cause an error of `work` before it is noticed here.
            result = work => result.map_err(|error| {
                if self.interrupt.is_requested() { CommandError::Interrupted } else { error }
            }),
        }
    }

    /// Locks the workspace for `command`, or fails when the user interrupts the wait.
    pub(crate) async fn lock(&self, command: &str) -> Result<Lock, CommandError> {
        tokio::select! {
            lock = Lock::take(&self.root, command, self.no_wait, &self.events) => Ok(lock?),
            () = self.interrupt.wait() => Err(CommandError::Interrupted),
        }
    }
}
