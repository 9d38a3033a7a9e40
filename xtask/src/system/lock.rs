//! The workspace lock: one command at a time.
//!
//! Builds create folders in the tree and remove them again, so concurrent builds would break each
//! other. The lock is the operating system's, on a file under `target/xtask/`, so it is released
//! however its holder ends. The file's text names the holder.
//!
//! If the file cannot be opened or locked, as on a read-only file system, commands run without a
//! lock, with a warning.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::system::state::{self, DIR};
use xtask_core::problem::Problem;

use crate::event::Event;
use crate::event_channel::Events;

/// The lock file, in [`DIR`].
const FILE: &str = "lock";

/// Why the workspace is not locked for a command.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another command holds the lock, and `--no-wait` was given.
    #[error(
        "the workspace is locked by {holder}: wait until it finishes, or run without --no-wait"
    )]
    Busy {
        /// The command and its process ID.
        holder: String,
    },
    /// A hook of the command that holds the lock runs this one.
    #[error(
        "the workspace is locked by {holder}, which runs this command: a hook cannot use the \
         workspace that is being built"
    )]
    Nested {
        /// The command and its process ID.
        holder: String,
    },
    /// Waiting for the lock failed.
    #[error("{DIR}/{FILE}: cannot wait for the lock: {0}")]
    Io(#[from] io::Error),
}

/// Holds the lock until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    /// None if the file cannot be locked.
    file: Option<File>,
}

impl Lock {
    /// Takes the lock for `command`; waits for its holder, unless `no_wait`.
    pub(crate) async fn take(
        root: &Path,
        command: &str,
        no_wait: bool,
        events: &Events,
    ) -> Result<Self, LockError> {
        let without = |what: &str, error: &io::Error| {
            let message = format!(
                "{what}: {error}. Do not run another xtask command in this workspace at the same \
                 time"
            );
            events.send(Event::Warning(Problem::of_file(format!("{DIR}/{FILE}"), message)));
            Ok(Self { file: None })
        };
        let mut is_said = false;
        let mut file = loop {
            let mut file = match open(root) {
                Ok(file) => file,
                Err(error) => return without("cannot be opened", &error),
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let holder = Holder::read(&mut file);
                    if holder.runs_this() {
                        return Err(LockError::Nested { holder: holder.0 });
                    }
                    if no_wait {
                        return Err(LockError::Busy { holder: holder.0 });
                    }
                    if !std::mem::replace(&mut is_said, true) {
                        events.send(Event::WaitingForLock { holder: holder.0 });
                    }
                    file = wait_for_lock(file).await?;
                }
                Err(TryLockError::Error(error)) => return without("cannot be locked", &error),
            }
            // `clean --state` removes the file, while other commands may wait for it.
            if is_at(&file, &root.join(DIR).join(FILE)) {
                break file;
            }
        };
        // The lock works without the text: on a full disk, or in another user's file.
        drop(write_holder(&mut file, command));
        Ok(Self { file: Some(file) })
    }
}

impl Drop for Lock {
    /// Closing the file is not enough: a child process has it open too between fork and exec.
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            drop(file.unlock());
        }
    }
}

/// A read-only file, such as another user's, can be locked too.
fn open(root: &Path) -> io::Result<File> {
    state::create_folder(root)?;
    let path = &root.join(DIR).join(FILE);
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false).open(path);
    opened.or_else(|error| File::open(path).map_err(|_| error))
}

fn write_holder(file: &mut File, command: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "'{command}' (process {})", std::process::id())
}

fn is_at(file: &File, path: &Path) -> bool {
    let identity = |found: &Metadata| (found.dev(), found.ino());
    let (open, found) = (file.metadata().ok(), fs::metadata(path).ok());
    open.is_some() && open.as_ref().map(identity) == found.as_ref().map(identity)
}

/// The command that holds the lock, as it is shown.
struct Holder(String);

impl Holder {
    fn read(file: &mut File) -> Self {
        let mut text = String::new();
        let is_read = file.read_to_string(&mut text).is_ok();
        Self(if is_read && !text.is_empty() { text } else { "another command".to_owned() })
    }

    /// Whether it is a parent of this process, or one of theirs: then it waits for this one.
    fn runs_this(&self) -> bool {
        let id =
            self.0.rsplit_once("(process ").and_then(|(_, id)| id.strip_suffix(')')?.parse().ok());
        let mut parent = Some(std::process::id());
        while let Some(process) = parent.filter(|process| *process > 1) {
            if Some(process) == id {
                return true;
            }
            parent = parent_of(process);
        }
        false
    }
}

/// The parent of a process: `PPid` in proc(5).
fn parent_of(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

async fn wait_for_lock(file: File) -> io::Result<File> {
    let waiting = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
    waiting.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    /// A child process has the lock file open between fork and exec.
    #[tokio::test]
    async fn it_is_released_when_dropped_while_processes_start() {
        let dir = tempfile::tempdir().unwrap();
        let events = Events::unread();
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
    async fn only_one_command_holds_it_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let events = Events::unread();
        let first = Lock::take(dir.path(), "first", true, &events).await.unwrap();
        let second = Lock::take(dir.path(), "second", true, &events).await;
        let refused = second.unwrap_err().to_string();
        assert!(refused.starts_with("the workspace is locked by 'first' (process "), "{refused}");
        drop(first);
        assert!(Lock::take(dir.path(), "third", true, &events).await.is_ok());
    }
}
