//! Single keys, from a terminal that otherwise gives whole lines.
//!
//! Only what a key does is taken away from the terminal, not Ctrl-C and Ctrl-Z. A
//! process in the background must not touch its terminal, or it is stopped: there
//! are no keys then.

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

/// How the terminal was.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Begins what a key sends that is no character.
const ESCAPE: u8 = 0x1b;

/// In the background, the terminal is asked again after that long.
const PATIENCE: Duration = Duration::from_secs(1);

/// Takes single keys as long as it lives.
pub(crate) struct Keyboard(());

impl Keyboard {
    /// The keyboard and what is typed on it; none without a terminal to read from.
    pub(crate) fn open() -> Option<(Self, UnboundedReceiver<char>)> {
        let stdin = io::stdin();
        if !stdin.is_terminal() || !is_in_foreground() {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut now = before.clone();
        now.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        now.special_codes[SpecialCodeIndex::VMIN] = 1;
        now.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&stdin, OptionalActions::Now, &now).ok()?;
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        let (sender, receiver) = mpsc::unbounded_channel();
        thread::spawn(move || {
            while let Some(keys) = read() {
                for key in keys {
                    // Nobody hears it any more.
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

/// Leaves the terminal as it was found, if it is another now.
pub(crate) fn restore() {
    if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take()
        && is_in_foreground()
    {
        // A terminal that is gone is no reason to fail.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

/// The next keys; none once the terminal is gone.
fn read() -> Option<Vec<char>> {
    let stdin = io::stdin();
    loop {
        let mut wanted = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
        match poll(&mut wanted, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return None,
            Ok(_) => {}
        }
        if !is_in_foreground() {
            thread::sleep(PATIENCE);
            continue;
        }
        let mut bytes = [0; 16];
        match rustix::io::read(&stdin, &mut bytes) {
            Err(rustix::io::Errno::INTR) => {}
            Err(_) | Ok(0) => return None,
            // An arrow and its like are several bytes, and mean nothing here.
            Ok(_) if bytes[0] == ESCAPE => {}
            Ok(count) => return Some(bytes[..count].iter().copied().map(char::from).collect()),
        }
    }
}

fn is_in_foreground() -> bool {
    tcgetpgrp(io::stdin()).is_ok_and(|group| group == getpgrp())
}
