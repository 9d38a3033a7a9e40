//! What an engine was offered of an image's files, so that it never takes an old file
//! for a new one.
//!
//! BuildKit keeps the files that it received under a key. The next time it asks only for
//! those whose path, kind, mode, size or time of modification are others. Size and time
//! do not tell contents: a file can be written twice within one tick of the clock, or be
//! given its old time. And a folder that was a folder before is never counted as changed,
//! whatever its mode: its new mode is written to the disk, but the checksums by which
//! `COPY` finds its cache keep the old one. So whatever was offered under a key is
//! remembered with the digest of its contents, a folder with its mode in place of contents:
//! every version, as the engine may keep several states of the files. If a path comes again
//! with a size and time that stood for other contents, that key is given up, and the engine
//! begins from nothing under a new one. So it does if this record was lost. A copy of it
//! knows nothing of what was offered since: whoever keeps the record makes where it lies a
//! part of the key.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use xtask_core::digest::Digest;
use xtask_core::digest::FieldHasher;

/// So many digests more than files there may be before a key is given up for them.
const SPARE: usize = 10_000;

/// As much of a digest as chance does not find twice.
type Short = [u8; 16];

/// Changes whenever other things are remembered: what an older record lacks was offered
/// all the same.
const FORMAT: u32 = 2;

/// What was offered under a key.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct SyncLedger {
    format: u32,
    key: String,
    /// The digest of contents, by that of path, size and time.
    seen: HashMap<Short, Short>,
}

/// A file or folder as the engine tells them apart, and what is in it.
#[derive(Clone, Debug)]
pub(crate) struct SyncedFolder {
    /// Its path in the context.
    pub(crate) path: PathBuf,
    /// In bytes.
    pub(crate) size: u64,
    /// When it was modified, in nanoseconds.
    pub(crate) modified: i64,
    /// Of its contents.
    pub(crate) digest: Digest,
}

impl SyncedFolder {
    /// A folder, of which the engine looks at nothing but the path.
    pub(crate) fn folder(path: PathBuf, mode: u32) -> Self {
        Self { path, size: 0, modified: 0, digest: blake3::hash(&mode.to_le_bytes()) }
    }
}

impl SyncLedger {
    /// The offers that are to be made now: those that were made `before` and these, or
    /// these alone under a key that is made of a `nonce` never used before.
    pub(crate) fn next(
        before: Option<Self>,
        nonce: &str,
        offers: impl Iterator<Item = SyncedFolder>,
    ) -> Self {
        let offers: HashMap<Short, Short> = offers.map(|offer| offer.entry()).collect();
        let usable = before.filter(|before| {
            let is_kept = |(name, digest)| before.seen.get(name).is_none_or(|seen| seen == digest);
            before.format == FORMAT
                && before.seen.len() <= 2 * offers.len() + SPARE
                && offers.iter().all(is_kept)
        });
        match usable {
            Some(mut before) => {
                before.seen.extend(offers);
                before
            }
            None => Self { format: FORMAT, key: nonce.to_owned(), seen: offers },
        }
    }

    /// What the engine keeps the files under.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

impl SyncedFolder {
    fn entry(&self) -> (Short, Short) {
        let mut fields = FieldHasher::default();
        fields.add(self.path.as_os_str().as_bytes());
        fields.add(&self.size.to_le_bytes());
        fields.add(&self.modified.to_le_bytes());
        (short(fields.finish()), short(self.digest))
    }
}

fn short(digest: Digest) -> Short {
    let mut short = Short::default();
    short.copy_from_slice(&digest.as_bytes()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(path: &str, modified: i64, contents: &str) -> SyncedFolder {
        let size = u64::try_from(contents.len()).unwrap();
        SyncedFolder {
            path: path.into(),
            size,
            modified,
            digest: blake3::hash(contents.as_bytes()),
        }
    }

    /// The keys under which files are offered, one time after the other.
    fn keys(times: &[&[(&str, i64, &str)]]) -> Vec<String> {
        let mut before = None;
        let mut keys = Vec::new();
        for (time, files) in times.iter().enumerate() {
            let offers = files.iter().map(|(path, modified, text)| offer(path, *modified, text));
            let next = SyncLedger::next(before, &time.to_string(), offers);
            keys.push(next.key().to_owned());
            before = Some(next);
        }
        keys
    }

    #[test]
    fn a_key_is_kept_while_size_and_time_tell_contents() {
        let files = [("a", 1, "x"), ("b", 1, "y")];
        assert_eq!(keys(&[&files, &files]), ["0", "0"]);
        assert_eq!(keys(&[&files, &[("a", 2, "z")], &files]), ["0", "0", "0"]);
        assert_eq!(keys(&[&files, &[("a", 1, "longer")]]), ["0", "0"]);
        assert_eq!(keys(&[&files, &[("c", 1, "z")]]), ["0", "0"]);
    }

    #[test]
    fn it_is_given_up_when_they_do_not() {
        assert_eq!(keys(&[&[("a", 1, "x")], &[("a", 1, "y")]]), ["0", "1"]);
        let (x, y, z) = (("a", 1, "x"), ("a", 2, "y"), ("a", 1, "z"));
        assert_eq!(keys(&[&[x], &[y], &[z], &[y]]), ["0", "0", "2", "2"]);
        assert_eq!(keys(&[&[x], &[], &[z]]), ["0", "0", "2"]);
    }

    #[test]
    fn it_is_given_up_when_a_folder_has_another_mode() {
        let mut before = None;
        let mut keys = Vec::new();
        for (time, mode) in [0o755, 0o755, 0o700, 0o755, 0o2755].into_iter().enumerate() {
            let offers = [SyncedFolder::folder("d".into(), mode), offer("d/f", 1, "x")];
            let next = SyncLedger::next(before, &time.to_string(), offers.into_iter());
            keys.push(next.key().to_owned());
            before = Some(next);
        }
        assert_eq!(keys, ["0", "0", "2", "3", "4"]);
    }

    #[test]
    fn a_record_of_another_format_is_not_used() {
        let offers = || std::iter::once(offer("a", 1, "x"));
        let old = SyncLedger { format: FORMAT - 1, ..SyncLedger::next(None, "old", offers()) };
        assert_eq!(SyncLedger::next(Some(old), "new", offers()).key(), "new");
    }

    #[test]
    fn it_is_given_up_when_versions_pile_up() {
        let mut before = None;
        for time in 0..SPARE + 4 {
            let offers = std::iter::once(offer("a", i64::try_from(time).unwrap(), "x"));
            before = Some(SyncLedger::next(before, &time.to_string(), offers));
        }
        let before = before.unwrap();
        assert_eq!(before.key(), (SPARE + 3).to_string());
        assert_eq!(before.seen.len(), 1);
    }
}
