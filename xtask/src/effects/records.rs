//! What earlier rounds came to, under `target/xtask/`.
//!
//! The labels on an image say what it was made from, but whoever makes an image
//! `FROM` one of ours inherits them: the id of what we built tells the two apart.
//! Manifests say what is different when a fingerprint is, digests save reading
//! files again. Losing any of them costs a reason or some time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::{self, DIR};
use crate::core::fingerprint::{Fingerprint, Manifest};
use crate::core::trees::Memory;

#[derive(Default, Deserialize, Serialize)]
struct Contents {
    images: BTreeMap<String, Record>,
    /// The components whose hooks changed their own tree when they ran last.
    unsteady: BTreeMap<String, String>,
    /// The components that did not succeed when they were tried last.
    unfinished: BTreeSet<String>,
    /// How long components and parts of their steps took when they were built last,
    /// in milliseconds.
    durations: BTreeMap<String, u64>,
}

#[derive(Deserialize, PartialEq, Serialize)]
struct Record {
    fingerprint: String,
    id: String,
}

/// What is remembered of images and components.
pub struct Records {
    dir: PathBuf,
    contents: Contents,
    has_news: bool,
}

impl Records {
    /// Reads the records of the workspace at `root`.
    pub fn read(root: &Path) -> Self {
        let dir = root.join(DIR);
        let contents = state::read(&dir.join("images")).unwrap_or_default();
        Self { dir, contents, has_news: false }
    }

    /// The id of what we built or found under a name with a fingerprint.
    pub fn id(&self, image: &str, fingerprint: &Fingerprint) -> Option<&str> {
        let record = self.contents.images.get(image)?;
        (record.fingerprint == fingerprint.to_string()).then_some(record.id.as_str())
    }

    /// Remembers an image; tells whether that is new.
    pub fn set(&mut self, image: &str, fingerprint: &Fingerprint, id: String) -> bool {
        let record = Record { fingerprint: fingerprint.to_string(), id };
        let is_new = self.contents.images.get(image) != Some(&record);
        if is_new {
            self.contents.images.insert(image.to_owned(), record);
            self.has_news = true;
        }
        is_new
    }

    /// Remembers a path that a component's hooks changed in its own tree, if they did;
    /// tells whether they had done so the time before too.
    pub fn set_unsteady(&mut self, component: &str, path: Option<String>) -> bool {
        let before = self.contents.unsteady.remove(component);
        let was_unsteady = before.is_some();
        self.has_news |= before != path;
        if let Some(path) = path {
            self.contents.unsteady.insert(component.to_owned(), path);
        }
        was_unsteady
    }

    /// Remembers whether a component did not succeed.
    pub fn set_unfinished(&mut self, component: &str, is_unfinished: bool) {
        self.has_news |= if is_unfinished {
            self.contents.unfinished.insert(component.to_owned())
        } else {
            self.contents.unfinished.remove(component)
        };
    }

    /// Whether a component did not succeed when it was tried last.
    pub fn is_unfinished(&self, component: &str) -> bool {
        self.contents.unfinished.contains(component)
    }

    /// Remembers how long something took.
    pub fn set_duration(&mut self, name: &str, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.contents.durations.insert(name.to_owned(), millis);
        self.has_news = true;
    }

    /// How long something took last.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        self.contents.durations.get(name).copied().map(Duration::from_millis)
    }

    /// What half of all things took less than.
    pub fn median_duration(&self) -> Duration {
        let mut all: Vec<u64> = self.contents.durations.values().copied().collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().map_or(Duration::ZERO, Duration::from_millis)
    }

    /// Writes the records.
    pub fn write(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.has_news) {
            state::write(&self.dir.join("images"), &self.contents)?;
        }
        Ok(())
    }

    /// The manifest of an image, or of a component's hooks.
    pub fn manifest(&self, name: &str) -> Option<Manifest> {
        state::read(&self.manifest_path(name))
    }

    /// Keeps a manifest.
    pub fn set_manifest(&self, name: &str, manifest: &Manifest) -> io::Result<()> {
        state::write(&self.manifest_path(name), manifest)
    }

    /// Names of images may hold slashes.
    fn manifest_path(&self, name: &str) -> PathBuf {
        self.dir.join("manifests").join(name.replace('/', "%"))
    }
}

/// The digests of files that were read before.
pub fn read_memory(root: &Path) -> Memory {
    state::read(&root.join(DIR).join("digests")).unwrap_or_default()
}

/// Keeps digests.
pub fn write_memory(root: &Path, memory: &Memory) -> io::Result<()> {
    state::write(&root.join(DIR).join("digests"), memory)
}
