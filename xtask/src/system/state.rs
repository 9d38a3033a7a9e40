//! `target/xtask/`: state that is kept between runs.
//!
//! All of it can be lost, and all of it is verified: a file that is missing, corrupt, incomplete
//! or of another version reads as none. A file that cannot be written (a full disk) only makes the
//! next run slower, so it is a warning.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::UNIX_EPOCH;

use serde::Serialize;
use serde::de::DeserializeOwned;
use xtask_core::problem::Problem;
use xtask_core::staleness::fingerprint::FORMAT;
use xtask_core::{regular_file, saved};

/// The folder, relative to the root.
pub(crate) const DIR: &str = xtask_core::paths::STATE;

/// Creates the folder, which only its owner can read: logs can hold what instructions print. One
/// that another user made stays as it is.
pub(crate) fn create_folder(root: &Path) -> io::Result<()> {
    let folder = root.join(DIR);
    fs::create_dir_all(&folder)?;
    drop(fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)));
    // Nobody is meant to commit what is in it.
    if let Ok(mut ignore) = File::create_new(folder.join(".gitignore")) {
        drop(ignore.write_all(b"*\n"));
    }
    Ok(())
}

/// The size of the digest that a file begins with.
const DIGEST: usize = blake3::OUT_LEN;

/// Reads a file of [`write`]; none if it is not exactly what was written.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    saved::decode(&read_bytes(path)?)
}

/// Reads a file of [`write_bytes`]; none if it is not exactly what was written.
pub(crate) fn read_bytes(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = regular_file::read_whole(path).ok()?;
    let (digest, rest) = bytes.split_at_checked(DIGEST)?;
    if blake3::hash(rest) != *<&[u8; DIGEST]>::try_from(digest).ok()? {
        return None;
    }
    let contents = rest.strip_prefix(FORMAT.as_bytes())?.strip_prefix(b"\n")?.len();
    bytes.drain(..bytes.len() - contents);
    Some(bytes)
}

/// Writes a value atomically, and creates the folders above it.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    write_bytes(path, &saved::encode(value)?)
}

/// Writes bytes atomically, and creates the folders above them.
pub(crate) fn write_bytes(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = [&[0; DIGEST], FORMAT.as_bytes(), b"\n", bytes].concat();
    let digest = blake3::hash(&file[DIGEST..]);
    file[..DIGEST].copy_from_slice(digest.as_bytes());
    replace(path, &file)
}

/// The warning for state that cannot be written.
pub(crate) fn unwritable(error: &io::Error) -> Problem {
    let message = format!("cannot be written, so the next build takes longer: {error}");
    Problem::of_file(DIR, message)
}

/// Identifies a folder, and none of its copies: its inode and its creation time, which no program
/// can set.
pub(crate) fn identity(folder: &Path) -> io::Result<String> {
    let metadata = fs::metadata(folder)?;
    let created = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok(format!("{}-{}", metadata.ino(), created.unwrap_or_default().as_nanos()))
}

/// Identifies a file as it is now: its inode, and when it changed last, which no program can set.
pub(crate) fn version(file: &Path) -> io::Result<(u64, i64, i64)> {
    let metadata = fs::metadata(file)?;
    Ok((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}

/// Replaces a file atomically.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
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
    fn a_new_folder_has_another_identity() {
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
    fn a_corrupt_file_reads_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("folder/state");
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
