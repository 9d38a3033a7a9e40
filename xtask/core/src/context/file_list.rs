//! The list of a context's files that BuildKit gets before it requests any of them: sorted by
//! path, each folder before its contents, with the metadata of each.
//!
//! A context can have very many files, so only their order is stored. Metadata is read when it is
//! sent.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};

use crate::context::build_context::{Context, ContextEntry, EntryIndex, HardLinks};
use crate::context::sync_ledger::SyncEntry;
use crate::context::tree::Kind;
use crate::context::verified_reader::changed_while_sending;
use crate::regular_file::with_path;

/// The mode of a folder that is not an entry of the context.
const PARENT_MODE: u32 = 0o755;

/// The type bits of Go's `os.FileMode`.
const MODE_DIR: u32 = 1 << 31;
const MODE_SYMLINK: u32 = 1 << 27;
const MODE_DEVICE: u32 = 1 << 26;
const MODE_NAMED_PIPE: u32 = 1 << 25;
const MODE_CHAR_DEVICE: u32 = 1 << 21;
/// The setuid, setgid and sticky bits of Unix and of Go's `os.FileMode`.
const SPECIAL_BITS: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];

/// What the engine is told about a file, in the terms of `fsutil`'s protocol.
#[derive(Debug, Default)]
pub struct FileStat {
    /// The path in the context.
    pub path: String,
    /// The bits of Go's `os.FileMode`.
    pub mode: u32,
    /// In bytes.
    pub size: i64,
    /// In nanoseconds since the epoch.
    pub modified: i64,
    /// The target of a link, or the first path of a file with several hard links.
    pub link: String,
    /// The major and minor number of a device.
    pub device: (i64, i64),
}

/// Some or all files of a context, in the order of the protocol.
#[derive(Debug, Default)]
pub struct FileList {
    context: Option<Context>,
    files: Vec<ListedFile>,
}

#[derive(Debug)]
enum ListedFile {
    Entry(EntryIndex),
    /// A folder that contains entries but is not one.
    Parent(PathBuf),
}

impl FileList {
    /// Lists the entries of a context that `is_wanted`; none if a name or link target is not
    /// UTF-8, which the protocol requires.
    pub fn new(context: &Context, is_wanted: impl Fn(&ContextEntry<'_>) -> bool) -> Option<Self> {
        let mut indices = Vec::new();
        for index in context.indices() {
            let item = context.item(index)?;
            if is_wanted(&item) {
                item.path().to_str()?;
                if item.entry.kind == Kind::Link {
                    fs::read_link(item.part.source_path(item.entry)).ok()?.to_str()?;
                }
                indices.push(index);
            }
        }
        let item = |index: &EntryIndex| context.item(*index);
        // Fast, as each part of the context is sorted.
        indices.sort_by(|a, b| item(a).zip(item(b)).map_or(Ordering::Equal, by_path));
        let mut files = Vec::with_capacity(indices.len());
        let mut previous = PathBuf::new();
        for index in indices {
            let path = item(&index)?.path();
            let folders = path.ancestors().skip(1).filter(|it| !it.as_os_str().is_empty());
            let missing: Vec<&Path> = folders.take_while(|it| !previous.starts_with(it)).collect();
            files.extend(missing.into_iter().rev().map(|it| ListedFile::Parent(it.to_owned())));
            files.push(ListedFile::Entry(index));
            previous = path;
        }
        Some(Self { context: Some(context.clone()), files })
    }

    /// The number of entries.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// The entry at a position in the list, by which the engine requests it.
    pub fn get(&self, position: usize) -> Option<ContextEntry<'_>> {
        match self.files.get(position)? {
            ListedFile::Entry(index) => self.item(*index),
            ListedFile::Parent(_) => None,
        }
    }

    fn item(&self, index: EntryIndex) -> Option<ContextEntry<'_>> {
        self.context.as_ref()?.item(index)
    }

    /// The metadata of each file.
    ///
    /// # Errors
    /// A link changed since the context was read.
    pub fn stats(&self) -> impl Iterator<Item = io::Result<FileStat>> {
        let mut hard_links = HardLinks::default();
        self.files.iter().map(move |file| match file {
            ListedFile::Parent(path) => Ok(FileStat {
                path: path.to_string_lossy().into_owned(),
                mode: MODE_DIR | PARENT_MODE,
                ..FileStat::default()
            }),
            ListedFile::Entry(index) => {
                let item = self.item(*index).ok_or_else(changed_while_sending)?;
                let source = item.part.source_path(item.entry);
                stat(&item, &source, &mut hard_links).map_err(with_path(&source))
            }
        })
    }

    /// Its files, as the engine compares them.
    pub fn files(&self) -> impl Iterator<Item = SyncEntry> {
        let items = (0..self.count()).filter_map(|position| self.get(position));
        items.filter(|item| item.entry.kind == Kind::File).map(|item| SyncEntry {
            path: item.path(),
            size: item.entry.size(),
            modified: item.entry.modified(),
            digest: item.digest,
        })
    }

    /// Its folders, as the engine compares them.
    pub fn folders(&self) -> impl Iterator<Item = SyncEntry> {
        self.files.iter().filter_map(|file| match file {
            ListedFile::Parent(path) => Some(SyncEntry::folder(path.clone(), PARENT_MODE)),
            ListedFile::Entry(index) => {
                let item = self.item(*index).filter(|item| item.entry.kind == Kind::Folder)?;
                Some(SyncEntry::folder(item.path(), item.entry.mode))
            }
        })
    }
}

fn by_path((a, b): (ContextEntry<'_>, ContextEntry<'_>)) -> Ordering {
    a.part.path_components(a.entry).cmp(b.part.path_components(b.entry))
}

fn stat(
    item: &ContextEntry<'_>,
    source: &Path,
    hard_links: &mut HardLinks,
) -> io::Result<FileStat> {
    let ContextEntry { entry, digest, .. } = item;
    let special = SPECIAL_BITS.into_iter().filter(|(unix, _)| entry.mode & unix != 0);
    let mut stat = FileStat {
        path: text(item.path().as_os_str()),
        mode: special.fold(entry.mode & 0o777, |mode, (_, go)| mode | go),
        modified: entry.modified(),
        ..FileStat::default()
    };
    match entry.kind {
        Kind::File => {
            if let Some(first) = hard_links.first_path(item) {
                stat.link = text(first.as_os_str());
            }
            stat.size = entry.size().try_into().map_err(io::Error::other)?;
        }
        Kind::Folder => stat.mode |= MODE_DIR,
        Kind::Fifo => stat.mode |= MODE_NAMED_PIPE,
        Kind::Link => {
            let target = fs::read_link(source)?;
            if blake3::hash(target.as_os_str().as_bytes()) != *digest {
                return Err(changed_while_sending());
            }
            stat.link = text(target.as_os_str());
            stat.size = stat.link.len().try_into().map_err(io::Error::other)?;
            stat.mode |= MODE_SYMLINK;
        }
        Kind::CharDevice(number) | Kind::BlockDevice(number) => {
            let is_char = matches!(entry.kind, Kind::CharDevice(_));
            stat.mode |= if is_char { MODE_DEVICE | MODE_CHAR_DEVICE } else { MODE_DEVICE };
            stat.device = (major(number).into(), minor(number).into());
        }
    }
    Ok(stat)
}

/// All names are UTF-8 here: [`FileList::new`] checks them.
fn text(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}
