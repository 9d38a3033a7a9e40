//! A file that must be what was digested, read to its end.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::digest::Digest;
use crate::regular_file;

/// A file of which exactly as much is read as it had when it was opened.
#[derive(Debug)]
pub struct VerifiedReader {
    file: File,
    left: u64,
    hasher: blake3::Hasher,
}

impl VerifiedReader {
    /// Opens a file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = regular_file::open(path)?;
        let left = file.metadata()?.len();
        Ok(Self { file, left, hasher: blake3::Hasher::new() })
    }

    /// How much is still to be read, in bytes.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Whether all of it was read, and was what was digested.
    ///
    /// # Errors
    /// It was not.
    pub fn check_end(&mut self, digest: Digest) -> io::Result<()> {
        let is_longer = self.file.read(&mut [0])? > 0;
        let is_other = self.hasher.finalize() != digest;
        if is_longer || is_other { Err(changed()) } else { Ok(()) }
    }
}

impl Read for VerifiedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if room == 0 {
            return Ok(0);
        }
        let read = self.file.read(&mut buffer[..room])?;
        if read == 0 {
            return Err(changed());
        }
        self.left -= read as u64;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// What is sent is not what was digested.
pub fn changed() -> io::Error {
    io::Error::other("changed while it was sent: build again")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_shrinks_grows_or_changes_while_it_is_read_is_not_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let digest = blake3::hash(b"12345");
        let read = |meanwhile: &str| {
            fs::write(&path, "12345")?;
            let mut whole = VerifiedReader::open(&path)?;
            fs::write(&path, meanwhile)?;
            io::copy(&mut whole, &mut io::sink())?;
            whole.check_end(digest)
        };
        assert!(read("12345").is_ok());
        for other in ["1234", "123456", "12354"] {
            let error = read(other).unwrap_err().to_string();
            assert_eq!(error, changed().to_string(), "{other}");
        }
    }
}
