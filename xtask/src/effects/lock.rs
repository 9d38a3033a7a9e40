//! One command at a time in a workspace.
//!
//! Builds put folders into the tree and take them away again, so two of them
//! would pull the rug from under each other. The lock is the operating system's,
//! on a file under `target/xtask/`: it is free as soon as its holder is gone,
//! however it went. The file's text tells the others whom they wait for.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

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
    /// The file cannot be made or locked.
    #[error("{FILE}: {0}")]
    Io(#[from] io::Error),
}

/// The workspace is ours as long as this lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock for `command`; waits for whoever has it, unless `no_wait`.
    pub async fn take(
        root: &Path,
        command: &str,
        no_wait: bool,
        events: &Events,
    ) -> Result<Self, LockError> {
        let path = root.join(FILE);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut file)?;
                if no_wait {
                    return Err(LockError::Busy { holder });
                }
                events.send(Event::Waiting { holder });
                file = wait(file).await?;
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "'{command}' (process {})", std::process::id())?;
        Ok(Self { _file: file })
    }
}

fn holder(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let is_written = !text.is_empty();
    Ok(if is_written { text } else { "another command".to_owned() })
}

async fn wait(file: File) -> io::Result<File> {
    let waiting = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
    waiting.await.map_err(io::Error::other)?
}
