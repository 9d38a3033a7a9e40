//! Finds out what changed in folders of which nobody tells, by looking at them from
//! time to time.
//!
//! A file counts as changed if anything in its status is other than at the last look:
//! also the time of its status, which no program can set, so that contents that came
//! back count too. Times have steps: what was written just before a look may have been
//! written again just after it, and is named once more. (The poller of the `notify`
//! package compares whole seconds, and misses saves.)

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// No clock of a file system has longer steps.
const STEP: Duration = Duration::from_millis(20);

/// A path, relative to the root, that was not as before when it was looked at.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    /// Whether it came, went or is another file than before.
    pub(crate) is_structural: bool,
    /// When it was as before.
    pub(crate) since: Instant,
}

/// The folders that are looked at.
#[derive(Debug)]
pub(crate) struct Poller(Arc<Mutex<Folders>>);

#[derive(Debug)]
struct Folders {
    root: PathBuf,
    listings: BTreeMap<PathBuf, Listing>,
    /// When the last look began.
    looked: (Instant, Duration),
}

/// What is in a folder.
type Listing = BTreeMap<OsString, Status>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Status {
    file: (u64, u64),
    mode: u32,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Poller {
    /// Looks at the folders every `interval`, and has `tell` told what it finds, as long
    /// as the poller lives.
    pub(crate) fn start(
        root: &Path,
        interval: Duration,
        mut tell: impl FnMut(Found) + Send + 'static,
    ) -> Self {
        let listings = BTreeMap::new();
        let folders = Folders { root: root.to_owned(), listings, looked: now() };
        let folders = Arc::new(Mutex::new(folders));
        let weak = Arc::downgrade(&folders);
        thread::spawn(move || {
            loop {
                thread::sleep(interval);
                let Some(folders) = Weak::upgrade(&weak) else { return };
                lock(&folders).look().for_each(&mut tell);
            }
        });
        Self(folders)
    }

    /// Looks at a folder, relative to the root, from now on.
    pub(crate) fn add(&self, folder: &Path) {
        let mut folders = lock(&self.0);
        let listing = list(&folders.root.join(folder));
        folders.listings.insert(folder.to_owned(), listing);
    }

    /// Looks at a folder, and those below it, no more.
    pub(crate) fn remove(&self, folder: &Path) {
        lock(&self.0).listings.retain(|path, _| !path.starts_with(folder));
    }
}

impl Folders {
    fn look(&mut self) -> impl Iterator<Item = Found> + use<> {
        let (since, last) = self.looked;
        self.looked = now();
        let mut found = Vec::new();
        for (folder, before) in &mut self.listings {
            let now = list(&self.root.join(folder));
            let names = before.keys().chain(now.keys().filter(|name| !before.contains_key(*name)));
            for name in names {
                let (then, now) = (before.get(name), now.get(name));
                let is_same = then == now && now.is_none_or(|status| status.is_older_than(last));
                if !is_same {
                    let file = |status: Option<&Status>| status.map(|status| status.file);
                    let is_structural = file(then) != file(now);
                    found.push(Found { path: folder.join(name), is_structural, since });
                }
            }
            *before = now;
        }
        found.into_iter()
    }
}

impl Status {
    fn of(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            mode: metadata.mode(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether no change after a moment could have left it so.
    fn is_older_than(&self, moment: Duration) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let changed = Duration::new(
            u64::try_from(seconds).unwrap_or_default(),
            u32::try_from(nanoseconds).unwrap_or_default(),
        );
        changed + STEP < moment
    }
}

/// By the clock of this process and by the one of the files.
fn now() -> (Instant, Duration) {
    (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A folder that is not there is empty.
fn list(folder: &Path) -> Listing {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.file_name(), Status::of(&entry.metadata().ok()?))))
        .collect()
}

fn lock(folders: &Mutex<Folders>) -> MutexGuard<'_, Folders> {
    folders.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_between_two_looks_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        for name in ["gone", "grown", "same", "swapped", "quiet"] {
            write(name, "1");
        }
        let listings = [(PathBuf::new(), list(folder.path()))].into();
        let root = folder.path().to_owned();
        // As if all of that were long ago.
        let mut folders = Folders { root, listings, looked: now() };
        folders.looked.1 += Duration::from_mins(1);
        write("grown", "12");
        write("same", "1");
        write("new", "1");
        write("other", "1");
        fs::rename(folder.path().join("other"), folder.path().join("swapped")).unwrap();
        fs::remove_file(folder.path().join("gone")).unwrap();
        let found: BTreeMap<PathBuf, bool> =
            folders.look().map(|found| (found.path, found.is_structural)).collect();
        let wanted = [("gone", true), ("grown", false), ("new", true), ("swapped", true)];
        let mut wanted: BTreeMap<PathBuf, bool> =
            wanted.map(|(name, is_structural)| (name.into(), is_structural)).into();
        // Written with the same bytes.
        wanted.insert("same".into(), false);
        assert_eq!(found, wanted);
        // What was written just before a look is named again.
        let again: Vec<PathBuf> = folders.look().map(|found| found.path).collect();
        assert!(again.contains(&"new".into()));
        folders.looked.1 += Duration::from_mins(1);
        assert_eq!(folders.look().count(), 0);
    }
}
