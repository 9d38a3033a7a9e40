//! The record of what an engine was sent of an image's files, so that it never uses an old file
//! in place of a new one.
//!
//! BuildKit caches the files that it received under a key, and then requests only those whose
//! path, kind, mode, size or modification time differ. Size and time do not identify contents: a
//! file can be written twice within one tick of the clock, or get its old time back. And a folder
//! never counts as changed because of its mode: the new mode is written to the disk, but the
//! checksums that `COPY` is cached by keep the old one.
//!
//! So everything that was served under a key is recorded with the digest of its contents (for a
//! folder, of its mode), in all its versions, as the engine may keep several states of the files.
//! If a path comes again with a size and time that stood for other contents, that key is given up,
//! and the engine starts empty under a new one; likewise if the record is lost. A copy of the
//! record would lack what was served since, so the caller makes the identity of the record's
//! folder a part of the key.

use std::collections::HashMap;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, FieldHasher};
use crate::saved;

/// A key is given up when its record has this many entries more than twice the number of files.
const MAX_OLD_ENTRIES: usize = 10_000;

/// The first half of a digest, which is enough to avoid collisions.
type ShortDigest = [u8; 16];

/// To be incremented whenever more is recorded: an older record lacks what was served.
const FORMAT: u32 = 2;

/// What was served under a key.
#[derive(Debug, Deserialize, Serialize)]
pub struct SyncLedger {
    format: u32,
    key: String,
    /// The digest of the contents, by the digest of path, size and time.
    served: HashMap<ShortDigest, ShortDigest>,
}

/// A file or folder by what the engine compares, and the digest of its contents.
#[derive(Clone, Debug)]
pub struct SyncEntry {
    /// The path in the context.
    pub path: PathBuf,
    /// In bytes.
    pub size: u64,
    /// In nanoseconds since the epoch.
    pub modified: i64,
    /// The digest of the contents.
    pub digest: Digest,
}

impl SyncEntry {
    /// The engine compares nothing but the path of a folder.
    pub fn folder(path: PathBuf, mode: u32) -> Self {
        Self { path, size: 0, modified: 0, digest: blake3::hash(&mode.to_le_bytes()) }
    }

    /// The same in another folder than the context, which the engine knows by a name.
    pub fn below(self, name: &str) -> Self {
        // No path of the context begins with a slash.
        let path = Path::new("/").join(name).join(self.path);
        Self { path, ..self }
    }
}

impl SyncLedger {
    /// Adds entries to the `last` ledger, or starts one under a key that was never used if they
    /// contradict it.
    pub fn extend_or_restart(
        last: Option<Self>,
        new_key: &str,
        entries: impl Iterator<Item = SyncEntry>,
    ) -> Self {
        let entries: HashMap<_, _> = entries.map(|entry| entry.digests()).collect();
        let usable = last.filter(|last| {
            let is_consistent =
                |(name, digest)| last.served.get(name).is_none_or(|served| served == digest);
            last.format == FORMAT
                && last.served.len() <= 2 * entries.len() + MAX_OLD_ENTRIES
                && entries.iter().all(is_consistent)
        });
        match usable {
            Some(mut last) => {
                last.served.extend(entries);
                last
            }
            None => Self { format: FORMAT, key: new_key.to_owned(), served: entries },
        }
    }

    /// Reads what [`SyncLedger::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        saved::decode(bytes)
    }

    /// The ledger as bytes.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        saved::encode(self)
    }

    /// The key under which the engine caches the files.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl SyncEntry {
    fn digests(&self) -> (ShortDigest, ShortDigest) {
        let mut fields = FieldHasher::default();
        fields.add(self.path.as_os_str().as_bytes());
        fields.add(&self.size.to_le_bytes());
        fields.add(&self.modified.to_le_bytes());
        (short(fields.finish()), short(self.digest))
    }
}

fn short(digest: Digest) -> ShortDigest {
    let mut short = ShortDigest::default();
    short.copy_from_slice(&digest.as_bytes()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, modified: i64, contents: &str) -> SyncEntry {
        let size = u64::try_from(contents.len()).unwrap();
        SyncEntry { path: path.into(), size, modified, digest: blake3::hash(contents.as_bytes()) }
    }

    /// The keys of successive builds with these files.
    fn keys(times: &[&[(&str, i64, &str)]]) -> Vec<String> {
        let mut last = None;
        let mut keys = Vec::new();
        for (time, files) in times.iter().enumerate() {
            let entries = files.iter().map(|(path, modified, text)| file(path, *modified, text));
            let next = SyncLedger::extend_or_restart(last, &time.to_string(), entries);
            keys.push(next.key().to_owned());
            last = Some(next);
        }
        keys
    }

    #[test]
    fn a_key_is_kept_while_size_and_time_identify_contents() {
        let files = [("a", 1, "x"), ("b", 1, "y")];
        assert_eq!(keys(&[&files, &files]), ["0", "0"]);
        assert_eq!(keys(&[&files, &[("a", 2, "z")], &files]), ["0", "0", "0"]);
        assert_eq!(keys(&[&files, &[("a", 1, "longer")]]), ["0", "0"]);
        assert_eq!(keys(&[&files, &[("c", 1, "z")]]), ["0", "0"]);
    }

    #[test]
    fn a_key_is_given_up_when_size_and_time_do_not_identify_contents() {
        assert_eq!(keys(&[&[("a", 1, "x")], &[("a", 1, "y")]]), ["0", "1"]);
        let (x, y, z) = (("a", 1, "x"), ("a", 2, "y"), ("a", 1, "z"));
        assert_eq!(keys(&[&[x], &[y], &[z], &[y]]), ["0", "0", "2", "2"]);
        assert_eq!(keys(&[&[x], &[], &[z]]), ["0", "0", "2"]);
    }

    #[test]
    fn a_key_is_given_up_when_the_mode_of_a_folder_changes() {
        let mut last = None;
        let mut keys = Vec::new();
        for (time, mode) in [0o755, 0o755, 0o700, 0o755, 0o2755].into_iter().enumerate() {
            let entries = [SyncEntry::folder("d".into(), mode), file("d/f", 1, "x")];
            let next = SyncLedger::extend_or_restart(last, &time.to_string(), entries.into_iter());
            keys.push(next.key().to_owned());
            last = Some(next);
        }
        assert_eq!(keys, ["0", "0", "2", "3", "4"]);
    }

    #[test]
    fn a_ledger_of_another_format_is_not_used() {
        let entries = || std::iter::once(file("a", 1, "x"));
        let old = SyncLedger {
            format: FORMAT - 1,
            ..SyncLedger::extend_or_restart(None, "old", entries())
        };
        assert_eq!(SyncLedger::extend_or_restart(Some(old), "new", entries()).key(), "new");
    }

    #[test]
    fn a_key_is_given_up_when_it_has_too_many_old_versions() {
        let mut last = None;
        for time in 0..MAX_OLD_ENTRIES + 4 {
            let entries = std::iter::once(file("a", i64::try_from(time).unwrap(), "x"));
            last = Some(SyncLedger::extend_or_restart(last, &time.to_string(), entries));
        }
        let last = last.unwrap();
        assert_eq!(last.key(), (MAX_OLD_ENTRIES + 3).to_string());
        assert_eq!(last.served.len(), 1);
    }
}
