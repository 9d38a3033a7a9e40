//! Changes of files, collected into batches: the debounce.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until};
use xtask_core::context::tree_cache::TreeCache;
use xtask_core::escape;
use xtask_core::problem::{Problem, Problems};

use crate::commands::watch::change_batch::ChangeBatch;
use crate::system::git;
use crate::system::watcher::filter::WatchFilter;
use crate::system::watcher::{FsEvent, Watcher};

/// The changes of a workspace's files that can matter.
pub(crate) struct Changes {
    watcher: Watcher,
    filter: WatchFilter,
    trees: Arc<TreeCache>,
    root: PathBuf,
    /// The folder that the root was at first. While it is open, no other has its inode.
    root_folder: Option<File>,
    /// The lock that git holds while it changes the files of a checkout.
    git_lock: Option<PathBuf>,
    debounce: Duration,
    scratch: BTreeSet<PathBuf>,
}

impl Changes {
    pub(crate) fn new(
        watcher: Watcher,
        trees: Arc<TreeCache>,
        root: PathBuf,
        debounce: Duration,
    ) -> Self {
        Self {
            watcher,
            filter: WatchFilter::default(),
            trees,
            git_lock: git::folder(&root).map(|folder| folder.join("index.lock")),
            root_folder: File::open(&root).ok(),
            root,
            debounce,
            scratch: BTreeSet::new(),
        }
    }

    /// Adds changes to a batch until it is complete, and not before a moment. Nothing is lost
    /// if this is cancelled: the batch has what came so far.
    pub(crate) async fn collect(&mut self, batch: &mut ChangeBatch, not_before: Instant) {
        while !batch.is_open() {
            let event = self.watcher.next_event(&self.filter).await;
            self.note(batch, event);
        }
        loop {
            self.note_waiting(batch);
            let now = Instant::now();
            if batch.is_complete(self.git_lock.as_deref(), self.debounce) && now >= not_before {
                return batch.close();
            }
            tokio::select! {
                event = self.watcher.next_event(&self.filter) => self.note(batch, event),
                () = sleep_until(batch.next_check(self.debounce).max(not_before)) => {}
            }
        }
    }

    /// Adds the changes that wait: on a busy machine those of a checkout can take longer to be
    /// noted than they took to be made. What changes meanwhile has to wait for the next time.
    fn note_waiting(&mut self, batch: &mut ChangeBatch) {
        let started = std::time::Instant::now();
        // Tokio would say after some hundred that there is none.
        while let Some(event) = unconstrained(self.watcher.next_event(&self.filter)).now_or_never()
        {
            let is_later = matches!(&event, FsEvent::Changed(change) if change.at > started);
            self.note(batch, event);
            if is_later {
                return;
            }
        }
    }

    fn note(&mut self, batch: &mut ChangeBatch, mut event: FsEvent) {
        match &mut event {
            FsEvent::Changed(change) => {
                change.paths.iter().for_each(|path| self.trees.invalidate_path(path));
                let (scratch, paths) = mem::take(&mut change.paths)
                    .into_iter()
                    .partition(|it| self.filter.is_scratch(it));
                change.paths = paths;
                self.scratch.extend::<Vec<_>>(scratch);
                if change.paths.is_empty() {
                    return;
                }
            }
            FsEvent::Lost => self.trees.invalidate(),
        }
        batch.add(event);
    }

    /// The scratch files of editors that changed since this was called last.
    pub(crate) fn take_scratch(&mut self) -> BTreeSet<PathBuf> {
        mem::take(&mut self.scratch)
    }

    /// Events come from the folder that was there at first, wherever it is moved to, and not from
    /// what takes its place.
    ///
    /// # Errors
    /// The root is no longer the folder that it was.
    pub(crate) fn check_root(&self) -> Result<(), Problems> {
        let Some(folder) = &self.root_folder else { return Ok(()) };
        let inode = |found: Metadata| (found.dev(), found.ino());
        if folder.metadata().map(inode).ok() == fs::metadata(&self.root).map(inode).ok() {
            return Ok(());
        }
        let message = format!(
            "{} was moved, removed or replaced, so its changes are no longer seen. Start watch \
             again",
            escape::line(&self.root.to_string_lossy())
        );
        Err(Problem::of_request(message).into())
    }

    /// Watches the folders that define the components, before they are read.
    pub(crate) fn watch_structure(&mut self) {
        self.watcher.watch_structure();
    }

    /// Watches everything anew, after events were lost.
    pub(crate) fn restart(&mut self) {
        self.watcher.reset();
        self.watcher.watch_structure();
    }

    /// Watches all files that a filter lets through, and from now on reports only those.
    pub(crate) fn watch(&mut self, filter: WatchFilter) {
        self.filter = filter;
        self.watch_new_folders();
    }

    /// Watches the folders that appeared since.
    pub(crate) fn watch_new_folders(&mut self) {
        let filter = &self.filter;
        for folder in filter.folders() {
            let start = folder.ancestors().find(|folder| self.root.join(folder).is_dir());
            self.watcher.watch_tree(start.unwrap_or(folder), filter);
        }
        if filter.has_head() {
            self.watcher.watch_head();
        }
    }

    /// What of the workspace is not watched, or only from time to time.
    pub(crate) fn warnings(&self) -> Vec<Problem> {
        let warnings =
            [self.watcher.shared_file_system_warning(), self.watcher.limit_warning(&self.filter)];
        warnings.into_iter().flatten().map(Problem::of_request).collect()
    }
}
