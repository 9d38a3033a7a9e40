//! The records of earlier rounds, under `target/xtask/`.
//!
//! The labels on an image record what it was made from, but an image built `FROM` it inherits them:
//! only the image ID on record identifies ours. Every engine has IDs of its own, so they are kept
//! by engine. That an image is going to be built is recorded
//! before the build, and its ID once it is certain what it was made from, so an image of a build
//! that was killed in between does not count as ours. Both are appended to a journal, which is
//! merged when all records are written.
//!
//! Manifests explain why a fingerprint differs, and digests save reading files again. Losing them
//! costs an explanation or some time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use xtask_core::context::tree_cache::{self, Memory};
use xtask_core::regular_file;
use xtask_core::staleness::engine_images::Origin;
use xtask_core::staleness::fingerprint::{Fingerprint, Manifest};

use crate::system::state::{self, DIR};

#[derive(Default, Deserialize, Serialize)]
struct Contents {
    /// By image name, the latest builds, oldest first.
    images: BTreeMap<String, Vec<ImageRecord>>,
    /// The components whose hooks changed their source in their last run, and when.
    source_changes: BTreeMap<String, SystemTime>,
    /// The components whose last build did not succeed.
    unfinished: BTreeSet<String>,
    /// The duration of the last build of components and their tasks, in milliseconds.
    durations: BTreeMap<String, u64>,
}

#[derive(Clone, Deserialize, PartialEq, Serialize)]
struct ImageRecord {
    /// The engine that has it.
    engine: String,
    fingerprint: String,
    /// Empty until it is certain what was built.
    id: String,
}

/// The number of builds of an image on record, on each engine: undoing as many edits rebuilds nothing.
const MAX_BUILDS: usize = 8;

/// The records, in [`DIR`].
const RECORDS: &str = "records";

/// The journal, in [`DIR`].
const JOURNAL: &str = "journal";

/// The IDs of all images that were built here, in [`DIR`], one per line.
const BUILT: &str = "built";

/// The IDs of all images that were built in the workspace at `root`, as far as is known.
pub(crate) fn ids_built(root: &Path) -> BTreeSet<String> {
    let text = regular_file::read_whole(&root.join(DIR).join(BUILT)).unwrap_or_default();
    let text = String::from_utf8(text).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The records of images and components.
pub(crate) struct Records {
    dir: PathBuf,
    /// The engine that they are asked about.
    engine: String,
    contents: Contents,
    /// The fingerprints that are no longer on record.
    forgotten: Vec<String>,
    is_dirty: bool,
}

impl Records {
    /// Reads the records of the workspace at `root`, for an engine.
    pub(crate) fn read(root: &Path, engine: &str) -> Self {
        let dir = root.join(DIR);
        let contents = state::read(&dir.join(RECORDS)).unwrap_or_default();
        let engine = engine.to_owned();
        let mut records = Self { dir, engine, contents, forgotten: Vec::new(), is_dirty: false };
        let journal = regular_file::read_whole(&records.dir.join(JOURNAL)).unwrap_or_default();
        let journal = String::from_utf8(journal).unwrap_or_default();
        // The last line may be incomplete.
        for line in journal.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            if let [image, fingerprint, id, engine] = *line.split('\t').collect::<Vec<_>>() {
                let [engine, fingerprint, id] = [engine, fingerprint, id].map(str::to_owned);
                records.put(image, ImageRecord { engine, fingerprint, id });
            }
        }
        records
    }

    /// Whether an image is the one that we built with this name and fingerprint.
    pub(crate) fn origin(&self, image: &str, fingerprint: &Fingerprint, id: &str) -> Origin {
        let mut records = self.find(image, fingerprint).peekable();
        if records.peek().is_none() {
            return Origin::Unknown;
        }
        if records.any(|record| record.id == id) { Origin::Ours } else { Origin::Foreign }
    }

    /// The ID of the image that we built with this name and fingerprint.
    pub(crate) fn id(&self, image: &str, fingerprint: &Fingerprint) -> Option<&str> {
        let mut records = self.find(image, fingerprint);
        records.find(|record| !record.id.is_empty()).map(|record| record.id.as_str())
    }

    /// The name, fingerprint and ID of all images that were built on the engine; those of one name
    /// from the oldest to the newest.
    pub(crate) fn all_built(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        let records = self.contents.images.iter();
        let records = records.flat_map(|(name, records)| records.iter().map(move |it| (name, it)));
        let built = records.filter(|(_, it)| it.engine == self.engine && !it.id.is_empty());
        built.map(|(name, it)| (name.as_str(), it.fingerprint.as_str(), it.id.as_str()))
    }

    /// The image that was built, and the one that was going to be, whatever became of it.
    fn find(&self, image: &str, fingerprint: &Fingerprint) -> impl Iterator<Item = &ImageRecord> {
        let fingerprint = fingerprint.to_string();
        let records = self.contents.images.get(image).into_iter().flatten();
        records.filter(move |it| it.fingerprint == fingerprint && it.engine == self.engine)
    }

    /// Records that an image is going to be built. The image does not count as ours until
    /// [`Records::built`].
    pub(crate) fn begin(&mut self, image: &str, fingerprint: &Fingerprint) -> io::Result<()> {
        self.append(image, fingerprint, String::new())
    }

    /// Records an image that was built, and what it was made from.
    pub(crate) fn built(
        &mut self,
        image: &str,
        fingerprint: &Fingerprint,
        id: String,
        manifest: &Manifest,
    ) -> io::Result<()> {
        let line = format!("{id}\n");
        self.append(image, fingerprint, id)?;
        regular_file::append(&self.dir.join(BUILT))?.write_all(line.as_bytes())?;
        self.set_manifest(image, manifest)
    }

    fn append(&mut self, image: &str, fingerprint: &Fingerprint, id: String) -> io::Result<()> {
        let line = format!("{image}\t{fingerprint}\t{id}\t{}\n", self.engine);
        self.put(image, self.record(fingerprint, id));
        fs::create_dir_all(&self.dir)?;
        regular_file::append(&self.dir.join(JOURNAL))?.write_all(line.as_bytes())
    }

    /// The fingerprints of the engine's images that went off the record since the last call.
    pub(crate) fn take_forgotten(&mut self) -> Vec<String> {
        std::mem::take(&mut self.forgotten)
    }

    /// Records an image that is certain to be ours, and what it was made from, if it is not on
    /// record.
    pub(crate) fn set(
        &mut self,
        image: &str,
        fingerprint: &Fingerprint,
        id: String,
        manifest: impl FnOnce() -> Manifest,
    ) -> io::Result<()> {
        let record = self.record(fingerprint, id);
        let own = |it: &&ImageRecord| it.engine == self.engine;
        let records = self.contents.images.get(image);
        if records.and_then(|records| records.iter().rfind(own)) == Some(&record) {
            return Ok(());
        }
        self.put(image, record);
        self.set_manifest(image, &manifest())
    }

    fn record(&self, fingerprint: &Fingerprint, id: String) -> ImageRecord {
        ImageRecord { engine: self.engine.clone(), fingerprint: fingerprint.to_string(), id }
    }

    fn put(&mut self, image: &str, record: ImageRecord) {
        let builds = self.contents.images.entry(image.to_owned()).or_default();
        let engine = record.engine.clone();
        // A build that did not come to its end replaces nothing.
        let is_replaced = |it: &ImageRecord| {
            let is_same = it.engine == engine && it.fingerprint == record.fingerprint;
            is_same && (it.id.is_empty() || !record.id.is_empty())
        };
        builds.retain(|build| !is_replaced(build));
        builds.push(record);
        let mut surplus =
            builds.iter().filter(|it| it.engine == engine).count().saturating_sub(MAX_BUILDS);
        let old = builds.extract_if(.., |build| {
            let is_old = surplus > 0 && build.engine == engine;
            surplus -= usize::from(is_old);
            is_old
        });
        let old: BTreeSet<String> = old.map(|it| it.fingerprint).collect();
        if engine == self.engine {
            // A build that did not come to its end has a record of its own.
            let is_gone = |it: &String| builds.iter().all(|build| build.fingerprint != *it);
            self.forgotten.extend(old.into_iter().filter(is_gone));
        }
        self.is_dirty = true;
    }

    /// Records when a component's hooks changed its source, if they did. Returns the time that was
    /// on record.
    pub(crate) fn set_source_changed(
        &mut self,
        component: &str,
        changed: Option<SystemTime>,
    ) -> Option<SystemTime> {
        let before = self.contents.source_changes.remove(component);
        self.is_dirty |= before != changed;
        if let Some(changed) = changed {
            self.contents.source_changes.insert(component.to_owned(), changed);
        }
        before
    }

    /// Records whether a component's build did not succeed.
    pub(crate) fn set_unfinished(&mut self, component: &str, is_unfinished: bool) {
        self.is_dirty |= if is_unfinished {
            self.contents.unfinished.insert(component.to_owned())
        } else {
            self.contents.unfinished.remove(component)
        };
    }

    pub(crate) fn is_unfinished(&self, component: &str) -> bool {
        self.contents.unfinished.contains(component)
    }

    /// Records the duration of a component or task.
    pub(crate) fn set_duration(&mut self, name: &str, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.contents.durations.insert(name.to_owned(), millis);
        self.is_dirty = true;
    }

    /// The last duration of a component or task.
    pub(crate) fn duration(&self, name: &str) -> Option<Duration> {
        self.contents.durations.get(name).copied().map(Duration::from_millis)
    }

    pub(crate) fn median_duration(&self) -> Duration {
        let mut all: Vec<u64> = self.contents.durations.values().copied().collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().map_or(Duration::ZERO, Duration::from_millis)
    }

    /// Writes the records, if they changed.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_dirty) {
            state::write(&self.dir.join(RECORDS), &self.contents)?;
            match fs::remove_file(self.dir.join(JOURNAL)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The manifest of an image, or of a component's hooks.
    pub(crate) fn manifest(&self, name: &str) -> Option<Manifest> {
        state::read(&self.manifest_path(name))
    }

    pub(crate) fn set_manifest(&self, name: &str, manifest: &Manifest) -> io::Result<()> {
        state::write(&self.manifest_path(name), manifest)
    }

    fn manifest_path(&self, name: &str) -> PathBuf {
        self.dir.join("manifests").join(manifest_name(name))
    }

    /// The file of an image's manifest, relative to the root.
    pub(crate) fn manifest_file(name: &str) -> String {
        format!("{DIR}/manifests/{}", manifest_name(name))
    }
}

/// Image names can contain slashes.
fn manifest_name(name: &str) -> String {
    name.replace('/', "%")
}

/// Reads the digests of files.
pub(crate) fn read_memory(root: &Path) -> Memory {
    let bytes = state::read_bytes(&root.join(DIR).join("digests"));
    bytes.and_then(|bytes| tree_cache::decode_memory(&bytes)).unwrap_or_default()
}

/// Writes the digests of files.
pub(crate) fn write_memory(root: &Path, memory: &Memory) -> io::Result<()> {
    state::write_bytes(&root.join(DIR).join("digests"), &tree_cache::encode_memory(memory)?)
}

#[cfg(test)]
mod tests {
    use xtask_core::staleness::fingerprint::Recipe;

    use super::*;

    #[test]
    fn a_build_that_did_not_end_takes_nothing_from_the_image_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let recipe = Recipe::default();
        let (fingerprint, manifest) = (recipe.fingerprint(), recipe.manifest());
        let mut records = Records::read(dir.path(), "one");
        assert_eq!(records.origin("a", &fingerprint, "1"), Origin::Unknown);
        records.begin("a", &fingerprint).unwrap();
        assert_eq!(records.origin("a", &fingerprint, "1"), Origin::Foreign);
        records.built("a", &fingerprint, "1".to_owned(), &manifest).unwrap();
        records.begin("a", &fingerprint).unwrap();
        for records in [&records, &Records::read(dir.path(), "one")] {
            assert_eq!(records.origin("a", &fingerprint, "1"), Origin::Ours);
            assert_eq!(records.origin("a", &fingerprint, "2"), Origin::Foreign);
            assert_eq!(records.id("a", &fingerprint), Some("1"));
        }
        let other = Records::read(dir.path(), "other");
        assert_eq!(other.origin("a", &fingerprint, "1"), Origin::Unknown);
        records.built("a", &fingerprint, "2".to_owned(), &manifest).unwrap();
        assert_eq!(records.origin("a", &fingerprint, "1"), Origin::Foreign);
        records.write().unwrap();
        let again = Records::read(dir.path(), "one");
        assert_eq!(again.origin("a", &fingerprint, "2"), Origin::Ours);
    }
}
