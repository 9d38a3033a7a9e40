//! `images.lock.json`: which images were pushed, where to, and what they were made from.
//!
//! It is written by `push --lock`, is meant to be committed, and is read long after: by people who
//! deploy, and by pushes that put tags back. So it says only what was true when the images were
//! pushed, is sorted, and has a version. A push of some images replaces these entries and keeps
//! the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use xtask_core::image_reference;
use xtask_core::problem::Problem;

/// The file that commands read if none is named.
pub(crate) const DEFAULT_FILE: &str = "images.lock.json";

/// The version of the format.
const VERSION: u32 = 1;

/// The largest file that is read, in bytes: room for a hundred thousand images.
const MAX_BYTES: u64 = 64 << 20;

/// The contents of a lock file.
#[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct ImageLock {
    version: u32,
    pub(crate) images: BTreeMap<String, LockedImage>,
}

/// An image that was pushed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct LockedImage {
    /// What it was made from; none if another program built it.
    pub(crate) fingerprint: Option<String>,
    /// The commit that was checked out when it was pushed; none outside of a repository.
    pub(crate) commit: Option<String>,
    /// Whether there were changes that were not committed.
    pub(crate) dirty: bool,
    /// The digest of its manifest, by the reference that it was pushed to.
    pub(crate) pushed: BTreeMap<String, String>,
}

impl ImageLock {
    /// Reads a file, which may be a pipe.
    ///
    /// # Errors
    /// It cannot be read, or is no lock file of this version.
    pub(crate) fn read(path: &Path) -> Result<Self, Problem> {
        let problem = |message: String| Problem::of_file(path.display().to_string(), message);
        let mut text = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut text));
        read.map_err(|error| problem(format!("cannot be read: {error}")))?;
        Self::parse(&text, path)
    }

    /// Reads a file that a push is going to change; an empty lock if there is none yet.
    pub(crate) fn read_if_any(path: &Path) -> Result<Self, Problem> {
        match path.try_exists() {
            Ok(false) => Ok(Self::default()),
            _ => Self::read(path),
        }
    }

    fn parse(text: &[u8], path: &Path) -> Result<Self, Problem> {
        let file = path.display().to_string();
        let lock: Self = serde_json::from_slice(text).map_err(|error| {
            let message = format!("is not a lock file: {error}");
            match error.line() {
                0 => Problem::of_file(&file, message),
                line => Problem::of_line(&file, line, message),
            }
        })?;
        if lock.version != VERSION {
            let version = lock.version;
            let message = format!("has version {version}, and this program knows {VERSION} only");
            return Err(Problem::of_file(file, message));
        }
        for (image, locked) in &lock.images {
            for (reference, digest) in &locked.pushed {
                image_reference::check(&format!("{reference}@{digest}")).map_err(|error| {
                    let message = format!("image '{image}', {reference}@{digest}: {error}");
                    Problem::of_file(&file, message)
                })?;
            }
        }
        Ok(lock)
    }

    /// The contents of the file.
    pub(crate) fn text(&self) -> String {
        let lock = Self { version: VERSION, images: self.images.clone() };
        serde_json::to_string_pretty(&lock).expect("it has string keys only") + "\n"
    }
}

impl LockedImage {
    /// Where it can be pulled from, without tags: each `repository@digest` once.
    pub(crate) fn pinned(&self) -> BTreeSet<String> {
        let pin = |(reference, digest): (&String, &String)| {
            let (repository, _) = image_reference::repository_and_tag(reference);
            format!("{repository}@{digest}")
        };
        self.pushed.iter().map(pin).collect()
    }

    /// The digests of its manifests, each once.
    pub(crate) fn digests(&self) -> BTreeSet<&str> {
        self.pushed.values().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn parse(text: &str) -> Result<ImageLock, String> {
        ImageLock::parse(text.as_bytes(), Path::new("l.json")).map_err(|it| it.to_string())
    }

    #[test]
    fn what_is_written_is_read() {
        let pushed = [("r.io:5000/x/web:1".to_owned(), DIGEST.to_owned())].into();
        let image = LockedImage { fingerprint: None, commit: None, dirty: true, pushed };
        let images = [("web".to_owned(), image)].into();
        let text = ImageLock { version: VERSION, images }.text();
        let read = parse(&text).unwrap();
        assert_eq!(read.text(), text);
        assert_eq!(read.images["web"].pinned(), [format!("r.io:5000/x/web@{DIGEST}")].into());
    }

    #[test]
    fn what_is_no_lock_file_is_said_with_its_place() {
        let said = |text: &str| parse(text).unwrap_err();
        assert_eq!(
            said("{\n]"),
            "l.json:2: is not a lock file: key must be a string at line 2 column 1"
        );
        let later = r#"{"version": 2, "images": {}}"#;
        assert_eq!(said(later), "l.json: has version 2, and this program knows 1 only");
        let image =
            r#""fingerprint": null, "commit": null, "dirty": false, "pushed": {"a:1": "b"}"#;
        let wrong = format!(r#"{{"version": 1, "images": {{"web": {{{image}}}}}}}"#);
        assert!(said(&wrong).starts_with("l.json: image 'web', a:1@b: "), "{}", said(&wrong));
    }
}
