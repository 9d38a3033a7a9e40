//! Finds changes by polling, in folders without change events.
//!
//! A file counts as changed if any of its metadata differs from the last scan. That includes the
//! status change time, which no program can set, so contents that were changed and changed back
//! count too. Timestamps are coarse: a file that was written just before a scan may be written
//! again just after it, with the same time, so the next scan reports it once more. (The poller of
//! the `notify` crate compares whole seconds, and misses changes.)

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The coarsest timestamps of a file system.
const TIMESTAMP_GRANULARITY: Duration = Duration::from_millis(20);

/// A path whose metadata differs from the last scan.
#[derive(Debug)]
pub(crate) struct PolledChange {
    /// Relative to the root.
    pub(crate) path: PathBuf,
    /// Whether it was created, removed or replaced by another file.
    pub(crate) is_structural: bool,
    /// The time of the last scan.
    pub(crate) since: Instant,
}

/// Scans folders on a thread of its own until it is dropped.
#[derive(Debug)]
pub(crate) struct Poller(Arc<Mutex<PolledFolders>>);

#[derive(Debug)]
struct PolledFolders {
    root: PathBuf,
    listings: BTreeMap<PathBuf, Listing>,
    /// When the last scan began.
    last_scan: (Instant, Duration),
}

/// The metadata of a folder's entries.
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
    /// Scans the folders every `interval`, and calls `on_change` for each change.
    pub(crate) fn start(
        root: &Path,
        interval: Duration,
        mut on_change: impl FnMut(PolledChange) + Send + 'static,
    ) -> Self {
        let listings = BTreeMap::new();
        let folders = PolledFolders { root: root.to_owned(), listings, last_scan: now() };
        let folders = Arc::new(Mutex::new(folders));
        let weak = Arc::downgrade(&folders);
        thread::spawn(move || {
            loop {
                thread::sleep(interval);
                let Some(folders) = Weak::upgrade(&weak) else { return };
                lock(&folders).scan().for_each(&mut on_change);
            }
        });
        Self(folders)
    }

    /// Scans a folder, relative to the root, from now on.
    pub(crate) fn add(&self, folder: &Path) {
        let mut folders = lock(&self.0);
        let listing = list(&folders.root.join(folder));
        folders.listings.insert(folder.to_owned(), listing);
    }

    /// Stops scanning a folder and its subfolders.
    pub(crate) fn remove(&self, folder: &Path) {
        lock(&self.0).listings.retain(|path, _| !path.starts_with(folder));
    }
}

impl PolledFolders {
    fn scan(&mut self) -> impl Iterator<Item = PolledChange> + use<> {
        let (since, last) = self.last_scan;
        self.last_scan = now();
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
                    found.push(PolledChange { path: folder.join(name), is_structural, since });
                }
            }
            *before = now;
        }
        found.into_iter()
    }
}

impl Status {
    fn of(metadata: &Metadata) -> Self {
        if metadata.is_dir() {
            // Its times and its size are those of its entries, which are compared by themselves if
            // they are watched: what comes and goes in `generated/` does not change the folder.
            let (size, modified, changed) = Default::default();
            let (file, mode) = ((metadata.dev(), metadata.ino()), metadata.mode());
            return Self { file, mode, size, modified, changed };
        }
        Self {
            file: (metadata.dev(), metadata.ino()),
            mode: metadata.mode(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether a change after `moment` must show in the status change time.
    fn is_older_than(&self, moment: Duration) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let changed = Duration::new(
            u64::try_from(seconds).unwrap_or_default(),
            u32::try_from(nanoseconds).unwrap_or_default(),
        );
        changed + TIMESTAMP_GRANULARITY < moment
    }
}

/// The time by the process's monotonic clock and by the clock of files.
fn now() -> (Instant, Duration) {
    (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Lists a folder; a missing one is empty.
fn list(folder: &Path) -> Listing {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.file_name(), Status::of(&entry.metadata().ok()?))))
        .collect()
}

fn lock(folders: &Mutex<PolledFolders>) -> MutexGuard<'_, PolledFolders> {
    folders.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn changes_between_two_scans_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        for name in ["gone", "grown", "same", "swapped", "quiet"] {
            write(name, "1");
        }
        let listings = [(PathBuf::new(), list(folder.path()))].into();
        let root = folder.path().to_owned();
        // As if the first scan were long after the files were written.
        let mut folders = PolledFolders { root, listings, last_scan: now() };
        folders.last_scan.1 += Duration::from_mins(1);
        write("grown", "12");
        write("same", "1");
        write("new", "1");
        write("other", "1");
        fs::rename(folder.path().join("other"), folder.path().join("swapped")).unwrap();
        fs::remove_file(folder.path().join("gone")).unwrap();
        let found: BTreeMap<PathBuf, bool> =
            folders.scan().map(|found| (found.path, found.is_structural)).collect();
        let wanted = [("gone", true), ("grown", false), ("new", true), ("swapped", true)];
        let mut wanted: BTreeMap<PathBuf, bool> =
            wanted.map(|(name, is_structural)| (name.into(), is_structural)).into();
        // Written again with the same contents.
        wanted.insert("same".into(), false);
        assert_eq!(found, wanted);
        // A file that was written just before a scan is reported again.
        let again: Vec<PathBuf> = folders.scan().map(|found| found.path).collect();
        assert!(again.contains(&"new".into()));
        folders.last_scan.1 += Duration::from_mins(1);
        assert_eq!(folders.scan().count(), 0);
    }

    #[test]
    fn a_folder_is_not_changed_by_what_comes_and_goes_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let listings = [(PathBuf::new(), list(folder.path()))].into();
        let root = folder.path().to_owned();
        let mut folders = PolledFolders { root, listings, last_scan: now() };
        fs::create_dir(inner.join("generated")).unwrap();
        assert_eq!(folders.scan().count(), 0);
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(folders.scan().count(), 1);
    }
}
