//! A private folder for a socket.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::engine::unique_id::unique_id;

/// A folder that no other user can read. Dropping it removes it.
#[derive(Debug)]
pub(super) struct SocketFolder(PathBuf);

impl SocketFolder {
    pub(super) fn create() -> io::Result<Self> {
        let folder = std::env::temp_dir().join(unique_id());
        DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(Self(folder))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }

    /// The URL of the socket.
    pub(super) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
