//! `target/xtask/`: what is kept from run to run.
//!
//! All of it may be lost, and none of it is believed without a look: a file that
//! is not there, broken, half written or of another version reads as nothing. What
//! cannot be written (a full disk) costs time at the next run and no more, so it is
//! a warning.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::UNIX_EPOCH;

use serde::Serialize;
use serde::de::DeserializeOwned;
use xtask_core::problem::Problem;
use xtask_core::regular_file;
use xtask_core::staleness::fingerprint::FORMAT;

/// The folder, relative to the root.
pub const DIR: &str = "target/xtask";

/// Reads what [`write`] wrote; nothing if it is not just that.
pub fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = regular_file::read_whole(path).ok()?;
    let (digest, rest) = bytes.split_at_checked(32)?;
    if blake3::hash(rest) != *<&[u8; 32]>::try_from(digest).ok()? {
        return None;
    }
    let (format, value): (String, T) = postcard::from_bytes(rest).ok()?;
    (format == FORMAT).then_some(value)
}

/// Writes a value in one piece, with the folders above it.
pub fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let rest = postcard::to_allocvec(&(FORMAT, value)).map_err(io::Error::other)?;
    replace(path, &[blake3::hash(&rest).as_bytes(), rest.as_slice()].concat())
}

/// The warning for what cannot be written.
pub fn unwritable(error: &io::Error) -> Problem {
    let message = format!("cannot be written, so the next build takes longer: {error}");
    Problem::of_file(DIR, message)
}

/// What tells a folder from every copy of it: its number, and when it was made, which no
/// program can set.
pub fn identity(folder: &Path) -> io::Result<String> {
    let metadata = fs::metadata(folder)?;
    let made = metadata.created().ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok());
    Ok(format!("{}-{}", metadata.ino(), made.unwrap_or_default().as_nanos()))
}

/// Puts a whole file in the place of another: whoever reads sees one of the two.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let unfinished = path.with_extension(format!("{}-{count}.new", std::process::id()));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let written = fs::write(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        drop(fs::remove_file(&unfinished));
    }
    written.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_a_folder_is_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
        fs::create_dir(&one).unwrap();
        let before = identity(&one).unwrap();
        fs::write(one.join("file"), "1").unwrap();
        assert_eq!(identity(&one).unwrap(), before);
        fs::rename(&one, &two).unwrap();
        fs::create_dir(&one).unwrap();
        assert_ne!(identity(&one).unwrap(), before);
    }

    #[test]
    fn what_is_broken_reads_as_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/state");
        assert_eq!(read::<u32>(&path), None);
        write(&path, &7_u32).unwrap();
        assert_eq!(read(&path), Some(7_u32));
        let whole = fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut broken = whole.clone();
            broken[place] ^= 1;
            fs::write(&path, broken).unwrap();
            assert_eq!(read::<u32>(&path), None, "byte {place}");
            fs::write(&path, &whole[..place]).unwrap();
            assert_eq!(read::<u32>(&path), None, "the first {place}");
        }
    }
}
