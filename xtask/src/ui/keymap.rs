//! What each key means while a workspace is watched.

use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::commands::watch::UserRequest;

/// What there is to say of the keys.
pub(crate) const HELP: [&str; 6] = [
    "Enter  build what is stale",
    "f      build everything again",
    "p      pause, or go on",
    "l      show what failed last",
    "g      show all components",
    "q      quit",
];

/// Something to be shown.
#[derive(Clone, Copy, Debug)]
pub(crate) enum UiCommand {
    Logs,
    Graph,
    Help,
}

/// Sorts keys into what the loop is asked and what is to be shown.
pub(crate) fn understand(
    mut keys: UnboundedReceiver<char>,
) -> (UnboundedReceiver<UserRequest>, UnboundedReceiver<UiCommand>) {
    let (wish, wishes) = mpsc::unbounded_channel();
    let (look, looks) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(key) = keys.recv().await {
            // Whoever hears it no more has come to an end.
            match key {
                '\n' | '\r' => drop(wish.send(UserRequest::Build)),
                'f' => drop(wish.send(UserRequest::Force)),
                'p' => drop(wish.send(UserRequest::Pause)),
                'l' => drop(look.send(UiCommand::Logs)),
                'g' => drop(look.send(UiCommand::Graph)),
                '?' | 'h' => drop(look.send(UiCommand::Help)),
                'q' => drop(kill_process(getpid(), Signal::INT)),
                _ => {}
            }
        }
    });
    (wishes, looks)
}
