//! Reads a file that must still have the contents that were digested.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::digest::Digest;
use crate::regular_file;

/// Reads exactly as many bytes as the file had when it was opened, and digests them.
#[derive(Debug)]
pub struct VerifiedReader {
    file: File,
    remaining: u64,
    hasher: blake3::Hasher,
}

impl VerifiedReader {
    /// Opens a regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = regular_file::open(path)?;
        let remaining = file.metadata()?.len();
        Ok(Self { file, remaining, hasher: blake3::Hasher::new() })
    }

    /// The number of bytes that are still to be read.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Checks, after all bytes were read, that the file has this digest and did not grow.
    ///
    /// # Errors
    /// The file changed.
    pub fn verify(&mut self, digest: Digest) -> io::Result<()> {
        let is_longer = self.file.read(&mut [0])? > 0;
        let is_different = self.hasher.finalize() != digest;
        if is_longer || is_different { Err(changed_while_sending()) } else { Ok(()) }
    }
}

impl Read for VerifiedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room =
            usize::try_from(self.remaining).map_or(buffer.len(), |left| left.min(buffer.len()));
        if room == 0 {
            return Ok(0);
        }
        let read = self.file.read(&mut buffer[..room])?;
        if read == 0 {
            return Err(changed_while_sending());
        }
        self.remaining -= read as u64;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// The error for a file that no longer has the contents that were digested.
pub fn changed_while_sending() -> io::Error {
    io::Error::other("changed while it was sent: run the build again")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_shrinks_grows_or_changes_while_it_is_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let digest = blake3::hash(b"12345");
        let read = |new_contents: &str| {
            fs::write(&path, "12345")?;
            let mut reader = VerifiedReader::open(&path)?;
            fs::write(&path, new_contents)?;
            io::copy(&mut reader, &mut io::sink())?;
            reader.verify(digest)
        };
        assert!(read("12345").is_ok());
        for other in ["1234", "123456", "12354"] {
            let error = read(other).unwrap_err().to_string();
            assert_eq!(error, changed_while_sending().to_string(), "{other}");
        }
    }
}
