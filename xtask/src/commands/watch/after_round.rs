//! What follows a round: a command of the user's, and a push of what was built.

use xtask_core::problem::Problem;

use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::commands::push::{self, PushOptions};
use crate::commands::watch::options::WatchOptions;
use crate::system::post_build_command::{Built, PostBuildCommand};

/// What is to be done after rounds.
pub(crate) struct AfterRound<'a> {
    options: &'a WatchOptions,
    /// Whether the last round succeeded, and what it built, until the command is started.
    last: Option<(bool, Built)>,
    command: PostBuildCommand,
    /// The images that were built and are not pushed yet.
    to_push: Vec<String>,
}

impl<'a> AfterRound<'a> {
    pub(crate) fn new(options: &'a WatchOptions) -> Self {
        let (command, to_push) = (PostBuildCommand::default(), Vec::new());
        Self { options, last: None, command, to_push }
    }

    /// Notes how a round ended.
    pub(crate) fn round_ended(&mut self, has_succeeded: bool, built: Built) {
        self.to_push.extend(built.images.iter().cloned());
        self.last = Some((has_succeeded, built));
    }

    /// Starts the command for the last round, once.
    pub(crate) fn start_command(&mut self, ctx: &CommandContext) -> Result<(), Problem> {
        let Some((has_succeeded, built)) = self.last.take() else { return Ok(()) };
        let WatchOptions { on_success, on_failure, .. } = self.options;
        let Some(command) = (if has_succeeded { on_success } else { on_failure }) else {
            return Ok(());
        };
        self.command
            .start(command, &ctx.root, &built, &ctx.events)
            .map_err(|error| Problem::of_request(format!("'{command}' cannot be started: {error}")))
    }

    /// Stops the command, if it still runs.
    pub(crate) async fn stop_command(&mut self) {
        self.command.stop().await;
    }

    /// Whether something was built that is to be pushed.
    pub(crate) fn has_to_push(&self) -> bool {
        self.options.push.is_some() && !self.to_push.is_empty()
    }

    /// Pushes what was built, if that is wanted; never ends where there is nothing to push.
    /// If it is cancelled, the next call begins again.
    pub(crate) async fn push(&mut self, ctx: &CommandContext) -> Result<(), CommandError> {
        let Some(options) = self.options.push.as_ref().filter(|_| self.has_to_push()) else {
            return std::future::pending().await;
        };
        let images = self.to_push.clone();
        let pushed = push::run(&PushOptions { images, ..options.clone() }, ctx).await;
        self.to_push.clear();
        pushed
    }
}
