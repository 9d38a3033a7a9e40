//! Watches the files of a workspace, and reports changes as events on a channel.
//!
//! In a component with ignored files each folder is watched separately, so that ignored ones cost
//! nothing: a folder of packages can be larger than everything else. Elsewhere one recursive watch
//! is faster. A new folder is watched, with its contents, before its event is reported, so a reader
//! of the event finds what was created before the watch. A folder that this user may not read is
//! not watched until its permissions change. If events were lost, that is an event too, as anything
//! may have changed. Reading a file is no event. A file behind links changes under all of its paths,
//! because a folder that is watched by several of them has events for one.

pub(crate) mod filter;
mod poller;
mod scratch;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{Config, ErrorKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::system::git;
use crate::system::watcher::filter::WatchFilter;
use crate::system::watcher::poller::{PolledChange, Poller};
use xtask_core::paths::{BUILD, GIT, SRC};

/// File systems on which other hosts can change files, without an event here: their types of
/// statfs(2) and linux/magic.h.
const SHARED_FILE_SYSTEMS: [(i64, &str); 8] = [
    (0x0102_1997, "9p, like Windows folders in WSL"),
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0xff53_4d42, "SMB"),
    (0x6573_5546, "FUSE, like mounts over SSH"),
    (0x786f_4256, "a VirtualBox shared folder"),
    (0x00c3_6400, "Ceph"),
];

/// The limit that watches reach first.
const LIMIT: &str = "fs.inotify.max_user_watches";

/// An event of the watched files.
#[derive(Debug)]
pub(crate) enum FsEvent {
    Changed(FsChange),
    /// Events were lost: any file may have changed.
    Lost,
}

/// A change of some paths.
#[derive(Debug)]
pub(crate) struct FsChange {
    /// Relative to the root.
    pub(crate) paths: Vec<PathBuf>,
    /// When it was noticed.
    pub(crate) at: Instant,
    /// A time before the change.
    pub(crate) since: Instant,
    /// Whether the paths were created, removed or replaced.
    pub(crate) is_structural: bool,
}

/// Watches the files of a workspace.
pub(crate) struct Watcher {
    root: PathBuf,
    /// None if everything is polled.
    system: Option<RecommendedWatcher>,
    /// Polls the folders that the system cannot watch, if there are any.
    poller: Option<Poller>,
    sender: UnboundedSender<Message>,
    receiver: UnboundedReceiver<Message>,
    watched: BTreeSet<PathBuf>,
    polled: BTreeSet<PathBuf>,
    /// Whether the limit of watches was reached.
    is_limit_reached: bool,
    /// The folders that this user may not read.
    unreadable: BTreeSet<PathBuf>,
    /// The folder of git, wherever it is.
    git_folder: Option<PathBuf>,
    interval: Duration,
}

enum Message {
    Notified(notify::Result<notify::Event>, Instant),
    Polled(PolledChange, Instant),
}

impl Watcher {
    /// Watches nothing yet. Folders that cannot be watched, or all with `is_polling`, are polled
    /// every `interval`.
    ///
    /// # Errors
    /// The limit of watchers is reached.
    pub(crate) fn new(root: &Path, is_polling: bool, interval: Duration) -> notify::Result<Self> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let to = sender.clone();
        let send = move |event| drop(to.send(Message::Notified(event, Instant::now())));
        // The targets of links are watched at their own paths.
        let config = Config::default().with_follow_symlinks(false);
        let system = if is_polling { None } else { Some(RecommendedWatcher::new(send, config)?) };
        Ok(Self {
            root: root.to_owned(),
            system,
            poller: None,
            sender,
            receiver,
            watched: BTreeSet::new(),
            polled: BTreeSet::new(),
            is_limit_reached: false,
            unreadable: BTreeSet::new(),
            git_folder: git::folder(root),
            interval,
        })
    }

    /// Watches the folders that define the components and their dependencies, which is possible
    /// before the workspace is read.
    pub(crate) fn watch_structure(&mut self) {
        let src = Path::new(SRC);
        self.watch_folder(Path::new(""));
        self.watch_folder(src);
        let Ok(components) = fs::read_dir(self.root.join(src)) else { return };
        for component in components.flatten() {
            let folder = src.join(component.file_name());
            self.watch_folder(&folder);
            self.watch_folder(&folder.join(BUILD));
        }
    }

    /// Watches which commit and branch are checked out.
    pub(crate) fn watch_head(&mut self) {
        if let Some(folder) = self.git_folder.clone() {
            self.watch_folder(&folder);
            self.watch_folder(&folder.join("logs"));
        }
    }

    /// Watches a folder, relative to the root, and its subfolders that match the filter.
    pub(crate) fn watch_tree(&mut self, folder: &Path, filter: &WatchFilter) {
        if !filter.matches(folder) {
            return;
        }
        if filter.matches_all_in(folder) && self.watch_recursively(folder) {
            return;
        }
        self.watch_folder(folder);
        let Ok(entries) = fs::read_dir(self.root.join(folder)) else { return };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let child = || folder.join(entry.file_name());
            if kind.is_dir() || kind.is_symlink() && self.is_folder(&child()) {
                self.watch_tree(&child(), filter);
            }
        }
    }

    /// Watches a folder and all its subfolders, if the limit of watches allows it.
    fn watch_recursively(&mut self, folder: &Path) -> bool {
        let Some(system) = &mut self.system else { return false };
        if self.watched.contains(folder) {
            return true;
        }
        let is_watched = system.watch(&self.root.join(folder), RecursiveMode::Recursive).is_ok();
        if is_watched {
            self.watched.insert(folder.to_owned());
        }
        is_watched
    }

    /// Watches a folder without its subfolders.
    pub(crate) fn watch_folder(&mut self, folder: &Path) {
        let full = self.root.join(folder);
        if self.watched.contains(folder) || self.polled.contains(folder) || !full.is_dir() {
            return;
        }
        let watched = match &mut self.system {
            Some(system) => system.watch(&full, RecursiveMode::NonRecursive),
            None => Err(notify::Error::generic("polling")),
        };
        match watched {
            Ok(()) => self.watched.insert(folder.to_owned()),
            // It was removed, which is an event of the folder above.
            Err(error) if matches!(error.kind, ErrorKind::PathNotFound) => false,
            // A build that reads it reports the error.
            Err(error) if is_denied(&error) => self.unreadable.insert(folder.to_owned()),
            Err(error) => {
                self.is_limit_reached |= is_limit(&error);
                self.poll(folder);
                self.polled.insert(folder.to_owned())
            }
        };
    }

    fn poll(&mut self, folder: &Path) {
        let (root, interval, to) = (&self.root, self.interval, &self.sender);
        let poller = self.poller.get_or_insert_with(|| {
            let to = to.clone();
            let send = move |change| drop(to.send(Message::Polled(change, Instant::now())));
            Poller::start(root, interval, send)
        });
        poller.add(folder);
    }

    /// A warning if the workspace is on a file system that other hosts can change.
    pub(crate) fn shared_file_system_warning(&self) -> Option<String> {
        self.system.as_ref()?;
        // Its type differs between machines.
        #[allow(clippy::unnecessary_cast, clippy::cast_lossless)]
        let kind = rustix::fs::statfs(&self.root).ok()?.f_type as i64 & 0xffff_ffff;
        let (_, name) = SHARED_FILE_SYSTEMS.iter().find(|(shared, _)| *shared == kind)?;
        Some(format!(
            "the workspace is on {name}: changes that are made on another host may have no change \
             events. If a save starts no build, use --poll"
        ))
    }

    /// A warning if folders are polled because the limit of watches is reached.
    pub(crate) fn limit_warning(&self, filter: &WatchFilter) -> Option<String> {
        let polled = self.polled.len();
        (self.is_limit_reached && polled > 0).then(|| {
            let needed: usize = filter.folders().map(|folder| self.count(folder, filter)).sum();
            format!(
                "{polled} of {needed} folders cannot be watched because the limit {LIMIT} is \
                 reached: they are polled every {:.1}s. To raise the limit: sudo sysctl {LIMIT}={}",
                self.interval.as_secs_f64(),
                needed.next_power_of_two().max(524_288)
            )
        })
    }

    /// The number of folders to watch in a folder, including itself.
    fn count(&self, folder: &Path, filter: &WatchFilter) -> usize {
        let entries = fs::read_dir(self.root.join(folder)).into_iter().flatten().flatten();
        let below = entries.map(|entry| folder.join(entry.file_name()));
        let wanted = below.filter(|path| filter.matches(path) && self.is_folder(path));
        1 + wanted.map(|path| self.count(&path, filter)).sum::<usize>()
    }

    /// Waits for the next event. Cancel safe.
    pub(crate) async fn next_event(&mut self, filter: &WatchFilter) -> FsEvent {
        loop {
            let Some(message) = self.receiver.recv().await else {
                return std::future::pending().await;
            };
            let event = match message {
                Message::Notified(event, at) => self.convert(event, at, filter),
                Message::Polled(PolledChange { path, is_structural, since }, at) => {
                    let paths = self.place(&self.root.join(path)).into_iter().collect();
                    self.process(FsChange { paths, at, since, is_structural }, filter)
                }
            };
            if let Some(event) = event {
                return event;
            }
        }
    }

    fn convert(
        &mut self,
        event: notify::Result<notify::Event>,
        at: Instant,
        filter: &WatchFilter,
    ) -> Option<FsEvent> {
        let Ok(event) = event else { return Some(FsEvent::Lost) };
        if event.need_rescan() {
            return Some(FsEvent::Lost);
        }
        let is_structural = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => false,
            EventKind::Access(_) => return None,
            _ => true,
        };
        let paths = event.paths.iter().filter_map(|path| self.place(path)).collect();
        self.process(FsChange { paths, at, since: at, is_structural }, filter)
    }

    /// A path relative to the root. What is in the folder of git is in `.git`, as in a repository
    /// whose top is the root.
    fn place(&self, path: &Path) -> Option<PathBuf> {
        let in_git = self.git_folder.as_ref().and_then(|folder| path.strip_prefix(folder).ok());
        let in_git = in_git.map(|below| Path::new(GIT).join(below));
        in_git.or_else(|| Some(path.strip_prefix(&self.root).ok()?.to_owned()))
    }

    /// Watches new folders, and returns the part of a change that matches the filter.
    fn process(&mut self, mut change: FsChange, filter: &WatchFilter) -> Option<FsEvent> {
        change.paths = change.paths.iter().flat_map(|path| filter.paths(path)).collect();
        if change.paths.is_empty() {
            return None;
        }
        for path in &change.paths {
            if !self.unreadable.remove(path) && !change.is_structural {
                continue;
            }
            self.watched.retain(|folder| !folder.starts_with(path));
            self.polled.retain(|folder| !folder.starts_with(path));
            if let Some(poller) = &self.poller {
                poller.remove(path);
            }
            if self.is_folder(path) {
                self.watch_tree(path, filter);
            }
        }
        Some(FsEvent::Changed(change))
    }

    /// Whether a path is a folder to watch; a component may be a link to one.
    fn is_folder(&self, path: &Path) -> bool {
        let full = self.root.join(path);
        let is_component = path.parent().is_some_and(|parent| parent == Path::new(SRC));
        let found = if is_component { fs::metadata(full) } else { fs::symlink_metadata(full) };
        found.is_ok_and(|found| found.is_dir())
    }

    /// Forgets which folders are watched, so that all can be watched again.
    pub(crate) fn reset(&mut self) {
        self.watched.clear();
        self.polled.clear();
        self.unreadable.clear();
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
