//! The keys of `watch`.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::commands::watch::UserRequest;
use crate::ui::keyboard;

pub(crate) const HELP: [&str; 6] = [
    "Enter  build what is stale",
    "f      rebuild everything",
    "p      pause or resume",
    "l      show the last failures",
    "g      show all components",
    "q      quit",
];

static HAS_QUIT: AtomicBool = AtomicBool::new(false);

/// Whether the user ended `watch` by its own key, which is no error.
pub(crate) fn has_quit() -> bool {
    HAS_QUIT.load(Ordering::Relaxed)
}

/// A request to show something.
#[derive(Clone, Copy, Debug)]
pub(crate) enum UiCommand {
    Logs,
    Graph,
    Help,
    /// The process was stopped and goes on: what is on the screen now is not ours.
    Resume,
}

/// Turns keys into requests for the watch loop and commands for the UI.
pub(crate) fn dispatch(
    mut keys: UnboundedReceiver<char>,
) -> (UnboundedReceiver<UserRequest>, UnboundedReceiver<UiCommand>) {
    let (request, requests) = mpsc::unbounded_channel();
    let (command, commands) = mpsc::unbounded_channel();
    if let Ok(mut resumed) = signal(SignalKind::from_raw(Signal::CONT.as_raw())) {
        let command = command.clone();
        tokio::spawn(async move {
            while resumed.recv().await.is_some() && command.send(UiCommand::Resume).is_ok() {
                keyboard::take();
            }
        });
    }
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
                'q' => {
                    HAS_QUIT.store(true, Ordering::Relaxed);
                    let _ = kill_process(getpid(), Signal::INT);
                }
                _ => {}
            }
        }
    });
    (requests, commands)
}
