//! Who changes files of the workspace, as news on a channel.
//!
//! Where some of a component does not matter, each folder is watched by itself, so that
//! the others cost nothing: a folder of packages can be larger than all that is built.
//! Else the system is told once for all that lies in a folder, which is quicker. A new
//! folder is watched, with all that is in it, before its news is passed on; whoever
//! reads it then finds what was put there before the watch. A folder that this user may
//! not read is left alone until its permissions change. News that were lost
//! are news too: then anything may have changed. Reading is no news.

pub(crate) mod filter;
mod poller;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{Config, ErrorKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::system::watcher::filter::WatchFilter;
use crate::system::watcher::poller::{Found, Poller};

/// The kinds of file systems whose files may change where this system does not see it
/// (statfs(2), and linux/magic.h): nobody tells of that.
const SHARED: [(i64, &str); 8] = [
    (0x0102_1997, "9p, as folders of Windows do in WSL"),
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0xff53_4d42, "SMB"),
    (0x6573_5546, "FUSE, as mounts over SSH do"),
    (0x786f_4256, "a shared folder of VirtualBox"),
    (0x00c3_6400, "Ceph"),
];

/// The limit that is reached first.
const LIMIT: &str = "fs.inotify.max_user_watches";

/// Something that happened to files.
#[derive(Debug)]
pub enum FsEvent {
    /// Paths were written, made, moved or removed.
    Changed(FsChange),
    /// Nobody knows: more happened than could be told.
    Lost,
}

/// Something that happened to some paths.
#[derive(Debug)]
pub struct FsChange {
    /// The paths, relative to the root.
    pub paths: Vec<PathBuf>,
    /// When it was heard of.
    pub at: Instant,
    /// When it had not happened yet.
    pub since: Instant,
    /// Whether the paths themselves came or went.
    pub is_structural: bool,
}

/// Listens to the file system.
pub struct Watcher {
    root: PathBuf,
    /// None where everything is looked at from time to time instead.
    system: Option<RecommendedWatcher>,
    /// Looks at what the system does not watch, if there is such.
    poller: Option<Poller>,
    sender: UnboundedSender<Message>,
    receiver: UnboundedReceiver<Message>,
    watched: BTreeSet<PathBuf>,
    unwatched: BTreeSet<PathBuf>,
    /// Whether the system had no room for more.
    is_full: bool,
    /// The folders that this user may not read.
    closed: BTreeSet<PathBuf>,
    interval: Duration,
}

enum Message {
    Told(notify::Result<notify::Event>, Instant),
    Found(Found, Instant),
}

impl Watcher {
    /// Hears nothing yet. Folders that cannot be watched are looked at every
    /// `interval`; with `is_polling` that is all of them.
    ///
    /// # Errors
    ///
    /// If the system has no more such watchers.
    pub fn new(root: &Path, is_polling: bool, interval: Duration) -> notify::Result<Self> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let to = sender.clone();
        let hear = move |told| drop(to.send(Message::Told(told, Instant::now())));
        // What links lead to is watched where it lies, if it matters.
        let config = Config::default().with_follow_symlinks(false);
        let system = if is_polling { None } else { Some(RecommendedWatcher::new(hear, config)?) };
        Ok(Self {
            root: root.to_owned(),
            system,
            poller: None,
            sender,
            receiver,
            watched: BTreeSet::new(),
            unwatched: BTreeSet::new(),
            is_full: false,
            closed: BTreeSet::new(),
            interval,
        })
    }

    /// Watches the folders that say which components there are and what these need:
    /// all that can be known before anything is read.
    pub fn cover_structure(&mut self) {
        let src = Path::new("src");
        self.cover_one(Path::new(""));
        self.cover_one(src);
        let Ok(components) = fs::read_dir(self.root.join(src)) else { return };
        for component in components.flatten() {
            let folder = src.join(component.file_name());
            self.cover_one(&folder);
            self.cover_one(&folder.join("build"));
        }
    }

    /// Watches a folder, relative to the root, and those below that are wanted.
    pub fn cover(&mut self, folder: &Path, scope: &WatchFilter) {
        if !scope.is_wanted(folder) {
            return;
        }
        if scope.is_whole(folder) && self.cover_whole(folder) {
            return;
        }
        self.cover_one(folder);
        let Ok(entries) = fs::read_dir(self.root.join(folder)) else { return };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let child = || folder.join(entry.file_name());
            if kind.is_dir() || kind.is_symlink() && self.is_folder(&child()) {
                self.cover(&child(), scope);
            }
        }
    }

    /// Watches a folder and all those below, if the system has room for that.
    fn cover_whole(&mut self, folder: &Path) -> bool {
        let Some(system) = &mut self.system else { return false };
        if self.watched.contains(folder) {
            return true;
        }
        let is_covered = system.watch(&self.root.join(folder), RecursiveMode::Recursive).is_ok();
        if is_covered {
            self.watched.insert(folder.to_owned());
        }
        is_covered
    }

    /// Watches a folder, and not those below.
    pub fn cover_one(&mut self, folder: &Path) {
        let full = self.root.join(folder);
        if self.watched.contains(folder) || self.unwatched.contains(folder) || !full.is_dir() {
            return;
        }
        let watched = match &mut self.system {
            Some(system) => system.watch(&full, RecursiveMode::NonRecursive),
            None => Err(notify::Error::generic("polling")),
        };
        match watched {
            Ok(()) => self.watched.insert(folder.to_owned()),
            // It went, and that is heard of.
            Err(error) if matches!(error.kind, ErrorKind::PathNotFound) => false,
            // Whatever needs it fails and says so.
            Err(error) if is_denied(&error) => self.closed.insert(folder.to_owned()),
            Err(error) => {
                self.is_full |= is_limit(&error);
                self.poll(folder);
                self.unwatched.insert(folder.to_owned())
            }
        };
    }

    fn poll(&mut self, folder: &Path) {
        let (root, interval, to) = (&self.root, self.interval, &self.sender);
        let poller = self.poller.get_or_insert_with(|| {
            let to = to.clone();
            let hear = move |found| drop(to.send(Message::Found(found, Instant::now())));
            Poller::start(root, interval, hear)
        });
        poller.add(folder);
    }

    /// What is to be said of a workspace whose changes may be made elsewhere.
    pub fn distance(&self) -> Option<String> {
        self.system.as_ref()?;
        // Its type differs between machines.
        #[allow(clippy::unnecessary_cast, clippy::cast_lossless)]
        let kind = rustix::fs::statfs(&self.root).ok()?.f_type as i64 & 0xffff_ffff;
        let (_, name) = SHARED.iter().find(|(shared, _)| *shared == kind)?;
        Some(format!(
            "the workspace lies on {name}: changes that are made elsewhere may not be told of. If \
             a save starts no build, watch with --poll"
        ))
    }

    /// What is to be said of folders for which there was no room.
    pub fn shortage(&self, scope: &WatchFilter) -> Option<String> {
        let unwatched = self.unwatched.len();
        (self.is_full && unwatched > 0).then(|| {
            let needed: usize = scope.folders().map(|folder| self.count(folder, scope)).sum();
            format!(
                "{unwatched} of {needed} folders cannot be watched, as the limit {LIMIT} is \
                 reached: they are looked at every {:.1}s. To raise it: sudo sysctl {LIMIT}={}",
                self.interval.as_secs_f64(),
                needed.next_power_of_two().max(524_288)
            )
        })
    }

    /// How many folders matter in one, with itself.
    fn count(&self, folder: &Path, scope: &WatchFilter) -> usize {
        let entries = fs::read_dir(self.root.join(folder)).into_iter().flatten().flatten();
        let below = entries.map(|entry| folder.join(entry.file_name()));
        let wanted = below.filter(|path| scope.is_wanted(path) && self.is_folder(path));
        1 + wanted.map(|path| self.count(&path, scope)).sum::<usize>()
    }

    /// Waits for the next news. Can be dropped and called again.
    pub async fn hear(&mut self, scope: &WatchFilter) -> FsEvent {
        loop {
            let Some(message) = self.receiver.recv().await else {
                return std::future::pending().await;
            };
            let news = match message {
                Message::Told(told, at) => self.understand(told, at, scope),
                Message::Found(Found { path, is_structural, since }, at) => {
                    let paths = vec![path];
                    self.pass_on(FsChange { paths, at, since, is_structural }, scope)
                }
            };
            if let Some(news) = news {
                return news;
            }
        }
    }

    fn understand(
        &mut self,
        told: notify::Result<notify::Event>,
        at: Instant,
        scope: &WatchFilter,
    ) -> Option<FsEvent> {
        let Ok(event) = told else { return Some(FsEvent::Lost) };
        if event.need_rescan() {
            return Some(FsEvent::Lost);
        }
        let is_structural = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => false,
            EventKind::Access(_) => return None,
            _ => true,
        };
        let relative = |path: &PathBuf| path.strip_prefix(&self.root).ok().map(Path::to_owned);
        let paths = event.paths.iter().filter_map(relative).collect();
        self.pass_on(FsChange { paths, at, since: at, is_structural }, scope)
    }

    /// What is wanted of a change, once new folders are watched.
    fn pass_on(&mut self, mut change: FsChange, scope: &WatchFilter) -> Option<FsEvent> {
        change.paths.retain(|path| scope.is_wanted(path));
        if change.paths.is_empty() {
            return None;
        }
        for path in &change.paths {
            if !self.closed.remove(path) && !change.is_structural {
                continue;
            }
            self.watched.retain(|folder| !folder.starts_with(path));
            self.unwatched.retain(|folder| !folder.starts_with(path));
            if let Some(poller) = &self.poller {
                poller.remove(path);
            }
            if self.is_folder(path) {
                self.cover(path, scope);
            }
        }
        Some(FsEvent::Changed(change))
    }

    /// Whether a path is a folder of ours; a component may be a link to one.
    fn is_folder(&self, path: &Path) -> bool {
        let full = self.root.join(path);
        let is_component = path.parent().is_some_and(|parent| parent == Path::new("src"));
        let found = if is_component { fs::metadata(full) } else { fs::symlink_metadata(full) };
        found.is_ok_and(|found| found.is_dir())
    }

    /// Forgets which folders are watched, so that all are covered again.
    pub fn start_over(&mut self) {
        self.watched.clear();
        self.unwatched.clear();
        self.closed.clear();
    }
}

fn is_limit(error: &notify::Error) -> bool {
    let limit = io::ErrorKind::StorageFull;
    match &error.kind {
        ErrorKind::MaxFilesWatch => true,
        ErrorKind::Io(error) => error.kind() == limit,
        _ => false,
    }
}

fn is_denied(error: &notify::Error) -> bool {
    let denied = io::ErrorKind::PermissionDenied;
    matches!(&error.kind, ErrorKind::Io(error) if error.kind() == denied)
}
