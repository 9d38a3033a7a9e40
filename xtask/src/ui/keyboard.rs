//! Reads single keys from the terminal.
//!
//! Line buffering and echo are turned off; Ctrl-C and Ctrl-Z keep working. A background
//! process that touches its terminal is stopped, so keys are read only in the foreground.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::getpgrp;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
};
use tokio::sync::mpsc::{self, UnboundedReceiver};

/// The terminal's settings before they were changed.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The first byte that a key such as an arrow sends.
const ESCAPE: u8 = 0x1b;

/// How often a background process checks whether it is in the foreground again.
const FOREGROUND_CHECK: Duration = Duration::from_secs(1);

/// Restores the terminal when it is dropped.
pub(crate) struct Keyboard(());

impl Keyboard {
    /// Starts reading keys; none without a terminal, or in the background.
    pub(crate) fn open() -> Option<(Self, UnboundedReceiver<char>)> {
        let stdin = io::stdin();
        if !stdin.is_terminal() || !is_in_foreground() {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        take();
        let (sender, receiver) = mpsc::unbounded_channel();
        thread::spawn(move || {
            while let Some(keys) = read() {
                for key in keys {
                    // The receiver is gone once the command ends.
                    let _ = sender.send(key);
                }
            }
        });
        Some((Self(()), receiver))
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        restore();
    }
}

/// Turns line buffering and echo off, unless [`restore`] was called. A shell turns them on
/// while the process is stopped.
pub(crate) fn take() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
    let stdin = io::stdin();
    let (true, Ok(mut now)) = (before.is_some() && is_in_foreground(), tcgetattr(&stdin)) else {
        return;
    };
    now.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
    now.special_codes[SpecialCodeIndex::VMIN] = 1;
    now.special_codes[SpecialCodeIndex::VTIME] = 0;
    // The terminal may have been closed.
    let _ = tcsetattr(&stdin, OptionalActions::Now, &now);
}

/// Restores the terminal's settings, if they were changed.
pub(crate) fn restore() {
    if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take()
        && is_in_foreground()
    {
        // The terminal may have been closed.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

/// The next keys; none once the terminal is closed.
fn read() -> Option<Vec<char>> {
    let stdin = io::stdin();
    loop {
        let mut polled = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
        match poll(&mut polled, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return None,
            Ok(_) => {}
        }
        if !is_in_foreground() {
            thread::sleep(FOREGROUND_CHECK);
            continue;
        }
        // It may have come from the background without a signal.
        take();
        let mut bytes = [0; 16];
        match rustix::io::read(&stdin, &mut bytes) {
            Err(rustix::io::Errno::INTR) => {}
            Err(_) | Ok(0) => return None,
            // Arrow and function keys send several bytes, and have no meaning here.
            Ok(_) if bytes[0] == ESCAPE => {}
            Ok(count) => return Some(bytes[..count].iter().copied().map(char::from).collect()),
        }
    }
}

fn is_in_foreground() -> bool {
    tcgetpgrp(io::stdin()).is_ok_and(|group| group == getpgrp())
}
