//! What earlier rounds came to, under `target/xtask/`.
//!
//! The labels on an image say what it was made from, but whoever makes an image
//! `FROM` one of ours inherits them: the id of what we built tells the two apart. It is
//! written down that an image is going to be built before it is, and its id once it is
//! certain what it was made from: an image of a build that was killed in between is not
//! on record as ours. These entries are appended to a journal, which the next writing of
//! all records takes in.
//!
//! Manifests say what is different when a fingerprint is, digests save reading
//! files again. Losing any of them costs a reason or some time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use xtask_core::context::tree_cache::Memory;
use xtask_core::regular_file;
use xtask_core::staleness::engine_images::Standing;
use xtask_core::staleness::fingerprint::{Fingerprint, Manifest};

use crate::system::state::{self, DIR};

#[derive(Default, Deserialize, Serialize)]
struct Contents {
    /// By image, what was built last, the latest last.
    images: BTreeMap<String, Vec<Record>>,
    /// The components whose hooks changed their source when they ran last, and when.
    unsteady: BTreeMap<String, SystemTime>,
    /// The components that did not succeed when they were tried last.
    unfinished: BTreeSet<String>,
    /// How long components and parts of their steps took when they were built last,
    /// in milliseconds.
    durations: BTreeMap<String, u64>,
}

#[derive(Clone, Deserialize, PartialEq, Serialize)]
struct Record {
    fingerprint: String,
    /// Empty as long as it is not certain what was built.
    id: String,
}

/// So many images of a name are on record: an edit can be undone that often.
const MOST: usize = 8;

/// Where entries are appended, relative to [`DIR`].
const JOURNAL: &str = "journal";

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
        let mut records = Self { dir, contents, has_news: false };
        let journal = regular_file::read_whole(&records.dir.join(JOURNAL)).unwrap_or_default();
        let journal = String::from_utf8(journal).unwrap_or_default();
        // The last line may have been cut off.
        for line in journal.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            if let [image, fingerprint, id] = *line.split('\t').collect::<Vec<_>>() {
                let (fingerprint, id) = (fingerprint.to_owned(), id.to_owned());
                records.put(image, Record { fingerprint, id });
            }
        }
        records
    }

    /// Whether an image is what we built under a name with a fingerprint.
    pub fn standing(&self, image: &str, fingerprint: &Fingerprint, id: &str) -> Standing {
        match self.find(image, fingerprint) {
            Some(record) if record.id == id => Standing::Ours,
            Some(_) => Standing::Foreign,
            None => Standing::Unknown,
        }
    }

    /// The id of what we built under a name with a fingerprint.
    pub fn id(&self, image: &str, fingerprint: &Fingerprint) -> Option<&str> {
        let record = self.find(image, fingerprint)?;
        (!record.id.is_empty()).then_some(record.id.as_str())
    }

    fn find(&self, image: &str, fingerprint: &Fingerprint) -> Option<&Record> {
        let fingerprint = fingerprint.to_string();
        self.contents.images.get(image)?.iter().find(|it| it.fingerprint == fingerprint)
    }

    /// Notes that an image is going to be built: whatever comes of it is not ours before
    /// [`Records::set`] says so.
    pub fn begin(&mut self, image: &str, fingerprint: &Fingerprint) -> io::Result<()> {
        self.set_now(image, fingerprint, String::new())
    }

    /// Notes what was built, at once.
    pub fn set_now(
        &mut self,
        image: &str,
        fingerprint: &Fingerprint,
        id: String,
    ) -> io::Result<()> {
        let line = format!("{image}\t{fingerprint}\t{id}\n");
        self.put(image, Record { fingerprint: fingerprint.to_string(), id });
        fs::create_dir_all(&self.dir)?;
        regular_file::append(&self.dir.join(JOURNAL))?.write_all(line.as_bytes())
    }

    /// Remembers an image that is certain to be ours; tells whether that is new.
    pub fn set(&mut self, image: &str, fingerprint: &Fingerprint, id: String) -> bool {
        let record = Record { fingerprint: fingerprint.to_string(), id };
        let known = self.contents.images.get(image);
        let is_new = known.and_then(|known| known.last()) != Some(&record);
        if is_new {
            self.put(image, record);
        }
        is_new
    }

    fn put(&mut self, image: &str, record: Record) {
        let known = self.contents.images.entry(image.to_owned()).or_default();
        known.retain(|before| before.fingerprint != record.fingerprint);
        known.push(record);
        let surplus = known.len().saturating_sub(MOST);
        known.drain(..surplus);
        self.has_news = true;
    }

    /// Remembers when a component's hooks changed its source, if they did; gives when they
    /// had done so the time before.
    pub fn set_unsteady(
        &mut self,
        component: &str,
        changed: Option<SystemTime>,
    ) -> Option<SystemTime> {
        let before = self.contents.unsteady.remove(component);
        self.has_news |= before != changed;
        if let Some(changed) = changed {
            self.contents.unsteady.insert(component.to_owned(), changed);
        }
        before
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
            match fs::remove_file(self.dir.join(JOURNAL)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
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
