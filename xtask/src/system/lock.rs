//! One command at a time in a workspace.
//!
//! Builds put folders into the tree and take them away again, so two of them
//! would pull the rug from under each other. The lock is the operating system's,
//! on a file under `target/xtask/`: it is free as soon as its holder is gone,
//! however it went. The file's text tells the others whom they wait for.
//!
//! Where no such file can be made or locked, as on a read-only file system, commands
//! run without a lock, which is a warning.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use xtask_core::problem::Problem;

use crate::event::{Event, Events};

/// Where the lock lies, relative to the root.
pub const FILE: &str = "target/xtask/lock";

/// Why the workspace is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// `--no-wait` was given and somebody else is at work.
    #[error("the workspace is busy: {holder}. Wait for it, or leave out --no-wait")]
    Busy {
        /// What it says of itself.
        holder: String,
    },
    /// Its holder cannot be waited for.
    #[error("{FILE}: {0}")]
    Io(#[from] io::Error),
}

/// The workspace is ours as long as this lives.
#[derive(Debug)]
pub struct Lock {
    /// None where nothing can be locked.
    file: Option<File>,
}

impl Lock {
    /// Takes the lock for `command`; waits for whoever has it, unless `no_wait`.
    pub async fn take(
        root: &Path,
        command: &str,
        no_wait: bool,
        events: &Events,
    ) -> Result<Self, LockError> {
        let without = |error: &io::Error| {
            let message = format!(
                "cannot be locked: {error}. Another command that runs in this workspace at the \
                 same time is not waited for"
            );
            events.send(Event::Warning(Problem::of_file(FILE, message)));
            Ok(Self { file: None })
        };
        let mut file = match open(&root.join(FILE)) {
            Ok(file) => file,
            Err(error) => return without(&error),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut file);
                if no_wait {
                    return Err(LockError::Busy { holder });
                }
                events.send(Event::Waiting { holder });
                file = wait(file).await?;
            }
            Err(TryLockError::Error(error)) => return without(&error),
        }
        // Without its text, on a full disk or in another user's file, it locks as well.
        drop(introduce(&mut file, command));
        Ok(Self { file: Some(file) })
    }
}

impl Drop for Lock {
    /// Closing the file is not enough: a process that was forked a moment ago, and runs no
    /// program of its own yet, has it open too.
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            drop(file.unlock());
        }
    }
}

/// A file that may only be read, as another user's, can be locked too.
fn open(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false).open(path);
    opened.or_else(|error| File::open(path).map_err(|_| error))
}

fn introduce(file: &mut File, command: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "'{command}' (process {})", std::process::id())
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let is_read = file.read_to_string(&mut text).is_ok();
    if is_read && !text.is_empty() { text } else { "another command".to_owned() }
}

async fn wait(file: File) -> io::Result<File> {
    let waiting = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
    waiting.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    /// The lock file is open in a child between its fork and its exec.
    #[tokio::test]
    async fn it_is_free_once_dropped_while_processes_are_started() {
        let dir = tempfile::tempdir().unwrap();
        let events = Events::unheard();
        let is_over = AtomicBool::new(false);
        let take = || Lock::take(dir.path(), "test", true, &events);
        let taken = thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        Command::new("true").status().unwrap();
                    }
                });
            }
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let taking =
                scope.spawn(move || (0..500).try_for_each(|_| runtime.block_on(take()).map(drop)));
            let taken = taking.join();
            is_over.store(true, Ordering::Relaxed);
            taken
        });
        taken.unwrap().unwrap();
    }

    #[tokio::test]
    async fn two_hold_it_one_after_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let events = Events::unheard();
        let first = Lock::take(dir.path(), "first", true, &events).await.unwrap();
        let second = Lock::take(dir.path(), "second", true, &events).await;
        let refused = second.unwrap_err().to_string();
        assert!(refused.starts_with("the workspace is busy: 'first' (process "), "{refused}");
        drop(first);
        assert!(Lock::take(dir.path(), "third", true, &events).await.is_ok());
    }
}
