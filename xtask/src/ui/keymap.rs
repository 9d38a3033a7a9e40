//! The keys of `watch`.

use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::commands::watch::UserRequest;

pub(crate) const HELP: [&str; 6] = [
    "Enter  build what is stale",
    "f      rebuild everything",
    "p      pause or resume",
    "l      show the last failures",
    "g      show all components",
    "q      quit",
];

/// A request to show something.
#[derive(Clone, Copy, Debug)]
pub(crate) enum UiCommand {
    Logs,
    Graph,
    Help,
}

/// Turns keys into requests for the watch loop and commands for the UI.
pub(crate) fn dispatch(
    mut keys: UnboundedReceiver<char>,
) -> (UnboundedReceiver<UserRequest>, UnboundedReceiver<UiCommand>) {
    let (request, requests) = mpsc::unbounded_channel();
    let (command, commands) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(key) = keys.recv().await {
            // Sending fails only once the receiver has ended; the key then has no effect.
            match key {
                '\n' | '\r' => drop(request.send(UserRequest::Build)),
                'f' => drop(request.send(UserRequest::Force)),
                'p' => drop(request.send(UserRequest::Pause)),
                'l' => drop(command.send(UiCommand::Logs)),
                'g' => drop(command.send(UiCommand::Graph)),
                '?' | 'h' => drop(command.send(UiCommand::Help)),
                'q' => drop(kill_process(getpid(), Signal::INT)),
                _ => {}
            }
        }
    });
    (requests, commands)
}
