//! A snapshot of a folder: its files, folders and links, and the digests of their contents.
//!
//! Walking a folder is cheap and hashing is not, so they are separate: a walk only records
//! each file's stat, and files are digested on demand. A digest from an earlier run is
//! reused if the file still has the same stat: size, inode, modification time (mtime) and
//! change time (ctime), which programs cannot set. There are two gaps. A file that is written
//! twice within one tick of the file system's clock keeps its times (git calls this "racily
//! clean"). So a digest is saved only if the file was last changed at least `SETTLED` before
//! it was read. And a file that is written through a shared memory map, as some databases are,
//! changes its times only at the first write after the system has stored its pages; nothing
//! tells of later ones until then.
//!
//! Symbolic links are not followed, except for the folder itself and in
//! [`Tree::read_following_links`]. Sockets are skipped, because archives cannot contain them.
//! A folder that cannot be read is an error only when its digest is needed.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat as Found};
use rustix::fs::{fstat, openat, statat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::context::links::{LinkFollower, may_leave};
use crate::digest::Digest;
use crate::regular_file::{self, with_path};

/// At least the timestamp resolution of any common file system (2 s on FAT).
const SETTLED: Duration = Duration::from_secs(2);

/// The size of the buffer for directory entries, in bytes.
const NAMES_BUFFER: usize = 32 << 10;

/// The flags to open a folder for a walk.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Following links ends with an error at this many entries. More are probably a mistake.
const MAX_FOLLOWED: usize = 1_000_000;

/// The permission bits that are recorded. The write bits of group and others are not,
/// because they depend on the umask of whoever checked out the files.
const MODE: u32 = 0o7755;

/// The type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Folder,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// A named pipe.
    Fifo,
    /// A character device, with its device number.
    CharDevice(u64),
    /// A block device, with its device number.
    BlockDevice(u64),
}

/// The metadata that identifies a version of a file.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Stat {
    size: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stat {
    fn of(found: &Found) -> Self {
        let nanos = |nanos| i64::try_from(nanos).unwrap_or_default();
        Self {
            size: found.st_size.cast_unsigned(),
            inode: found.st_ino,
            modified: (found.st_mtime, nanos(found.st_mtime_nsec)),
            changed: (found.st_ctime, nanos(found.st_ctime_nsec)),
        }
    }

    /// Whether the file was last changed at least [`SETTLED`] before `moment`.
    fn is_settled(&self, moment: SystemTime) -> bool {
        let (seconds, nanos) = self.modified.max(self.changed);
        let Ok(moment) = moment.duration_since(UNIX_EPOCH) else { return false };
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(seconds), u32::try_from(nanos)) else {
            return true;
        };
        Duration::new(seconds, nanos) + SETTLED <= moment
    }
}

/// The digest of a file, valid as long as the file has the same stat.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Remembered {
    #[serde(with = "crate::path_bytes")]
    path: PathBuf,
    stat: Stat,
    digest: [u8; 32],
}

/// A file, folder, link or device in a tree.
#[derive(Debug)]
pub struct Entry {
    /// The path relative to the tree's folder; empty for the folder itself.
    pub path: PathBuf,
    /// The type of the entry.
    pub kind: Kind,
    /// The permission bits, without the write bits of group and others.
    pub mode: u32,
    /// The device and inode of a file with several hard links.
    pub inode: Option<(u64, u64)>,
    /// Whether it is a folder that the user has no permission to read.
    pub(crate) is_unreadable: bool,
    stat: Stat,
    read: OnceLock<Read>,
}

#[derive(Clone, Copy, Debug)]
struct Read {
    digest: Digest,
    /// Whether the digest can be saved with the stat.
    is_settled: bool,
    /// Whether the file was read now, and not in an earlier run.
    is_new: bool,
}

/// What a walk includes at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Skips the path and everything below it.
    Nothing,
    /// Includes the path. The filter is called again for each path below it.
    Itself,
    /// Includes the path and everything below it.
    All,
}

impl Wanted {
    /// `Itself` if the condition holds, else `Nothing`.
    pub fn itself_if(condition: bool) -> Self {
        if condition { Self::Itself } else { Self::Nothing }
    }
}

/// The contents of a folder, sorted by path, so that each folder precedes its contents. The
/// first entry is the folder itself.
#[derive(Debug)]
pub struct Tree {
    /// The path of the folder.
    pub folder: PathBuf,
    entries: Vec<Entry>,
    /// The targets of links that leave the folder; empty if links are not followed.
    link_targets: Vec<PathBuf>,
    has_links_out: OnceLock<bool>,
    read_at: SystemTime,
}

/// The options of a walk.
struct Walk<'w> {
    /// `None` includes everything.
    wanted: Option<&'w dyn Fn(&Path) -> Wanted>,
    follower: Option<&'w mut LinkFollower>,
}

impl Tree {
    /// Walks all of `folder`. `remembered` holds the digests of earlier runs, sorted by path.
    pub fn read(folder: &Path, remembered: &[Remembered]) -> io::Result<Self> {
        Self::read_filtered(folder, |_| Wanted::All, remembered)
    }

    /// Walks the part of `folder` that `wanted` selects, by path relative to it.
    pub fn read_filtered(
        folder: &Path,
        wanted: impl Fn(&Path) -> Wanted,
        remembered: &[Remembered],
    ) -> io::Result<Self> {
        Self::start(folder, Walk { wanted: Some(&wanted), follower: None }, remembered)
    }

    /// Like [`Tree::read_filtered`], for a copy of the folder in another place: links that leave
    /// the folder are replaced by their targets.
    pub fn read_following_links(
        folder: &Path,
        wanted: impl Fn(&Path) -> Wanted,
        remembered: &[Remembered],
    ) -> io::Result<Self> {
        let mut follower = LinkFollower::new(folder);
        let walk = Walk { wanted: Some(&wanted), follower: Some(&mut follower) };
        let mut tree = Self::start(folder, walk, remembered)?;
        tree.link_targets = follower.targets.into_iter().collect();
        Ok(tree)
    }

    fn start(folder: &Path, mut walk: Walk<'_>, mut remembered: &[Remembered]) -> io::Result<Self> {
        let mut tree = Self::empty(folder);
        let opened = openat(CWD, folder, FOLDER, Mode::empty()).map_err(with_path(folder))?;
        tree.add(PathBuf::new(), &fstat(&opened).map_err(with_path(folder))?, &mut remembered);
        tree.walk(&opened, &mut PathBuf::new(), &mut walk, &mut remembered)?;
        Ok(tree)
    }

    /// The entries at these paths below `folder`. Paths that do not exist are skipped.
    pub fn of_files(
        folder: &Path,
        paths: impl IntoIterator<Item = PathBuf>,
        mut remembered: &[Remembered],
    ) -> io::Result<Self> {
        let mut tree = Self::empty(folder);
        for path in paths {
            let full = folder.join(&path);
            match statat(CWD, &full, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {}
                found => tree.add(path, &found.map_err(with_path(&full))?, &mut remembered),
            }
        }
        Ok(tree)
    }

    /// The file at a path below `folder`, whatever links lead to it.
    pub(crate) fn of_linked_file(folder: &Path, path: &Path) -> io::Result<Self> {
        let mut tree = Self::empty(folder);
        let full = folder.join(path);
        let found = statat(CWD, &full, AtFlags::empty()).map_err(with_path(&full))?;
        tree.add(path.to_owned(), &found, &mut &[][..]);
        Ok(tree)
    }

    fn empty(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            entries: Vec::new(),
            link_targets: Vec::new(),
            has_links_out: OnceLock::new(),
            read_at: SystemTime::now(),
        }
    }

    /// Walks the folder that was added last. Relative to its file descriptor this is a third
    /// faster than by path.
    fn walk(
        &mut self,
        folder: &OwnedFd,
        at: &mut PathBuf,
        walk: &mut Walk<'_>,
        remembered: &mut &[Remembered],
    ) -> io::Result<()> {
        let index = self.entries.len().saturating_sub(1);
        for name in names(folder).map_err(|error| self.error_at(at, error))? {
            at.push(OsStr::from_bytes(name.to_bytes()));
            let here = walk.wanted.map_or(Wanted::All, |wanted| wanted(at));
            if here != Wanted::Nothing {
                match statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
                    // It was removed after its folder was read.
                    Err(Errno::NOENT) => {}
                    Err(Errno::ACCESS) if index > 0 => self.entries[index].is_unreadable = true,
                    Err(error) => return Err(self.error_at(at, error)),
                    Ok(found) => {
                        let wanted = walk.wanted.filter(|_| here != Wanted::All);
                        let follower = walk.follower.as_deref_mut();
                        let mut below = Walk { wanted, follower };
                        match FileType::from_raw_mode(found.st_mode) {
                            FileType::Directory => {
                                self.add(at.clone(), &found, remembered);
                                let opened =
                                    openat(folder, &name, FOLDER | OFlags::NOFOLLOW, Mode::empty());
                                self.walk_opened(opened, at, &mut below, remembered)?;
                            }
                            FileType::Symlink if below.follower.is_some() => {
                                self.follow(&found, at, &mut below, remembered)?;
                            }
                            _ => self.add(at.clone(), &found, remembered),
                        }
                    }
                }
            }
            at.pop();
        }
        Ok(())
    }

    /// Walks the folder that was added last, or marks it as unreadable.
    fn walk_opened(
        &mut self,
        opened: rustix::io::Result<OwnedFd>,
        at: &mut PathBuf,
        walk: &mut Walk<'_>,
        remembered: &mut &[Remembered],
    ) -> io::Result<()> {
        match opened {
            Err(Errno::ACCESS) => {
                if let Some(folder) = self.entries.last_mut() {
                    folder.is_unreadable = true;
                }
                Ok(())
            }
            opened => {
                let opened = opened.map_err(|error| self.error_at(at, error))?;
                self.walk(&opened, at, walk, remembered)
            }
        }
    }

    /// Adds a link, or its target in its place.
    fn follow(
        &mut self,
        link: &Found,
        at: &mut PathBuf,
        walk: &mut Walk<'_>,
        remembered: &mut &[Remembered],
    ) -> io::Result<()> {
        if self.entries.len() > MAX_FOLLOWED {
            let message =
                format!("symbolic links lead to more than {MAX_FOLLOWED} files: remove some");
            return Err(with_path(&self.folder.join(at))(io::Error::other(message)));
        }
        let target = walk.follower.as_deref_mut().and_then(|follower| follower.target(at));
        let found = target.as_ref().and_then(|target| statat(CWD, target, AtFlags::empty()).ok());
        let (Some(target), Some(found)) = (target, found) else {
            self.add(at.clone(), link, remembered);
            return Ok(());
        };
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => self.add(at.clone(), &found, remembered),
            FileType::Directory => {
                self.add(at.clone(), &found, remembered);
                if let Some(follower) = walk.follower.as_deref_mut() {
                    follower.enter(at);
                }
                let opened = openat(CWD, &target, FOLDER, Mode::empty());
                self.walk_opened(opened, at, walk, remembered)?;
                if let Some(follower) = walk.follower.as_deref_mut() {
                    follower.leave();
                }
            }
            _ => self.add(at.clone(), link, remembered),
        }
        Ok(())
    }

    fn add(&mut self, path: PathBuf, found: &Found, remembered: &mut &[Remembered]) {
        let mode = found.st_mode & MODE;
        let (kind, mode) = match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => (Kind::Folder, mode),
            FileType::RegularFile => (Kind::File, mode),
            FileType::Symlink => (Kind::Link, 0o777),
            FileType::Fifo => (Kind::Fifo, mode),
            FileType::CharacterDevice => (Kind::CharDevice(found.st_rdev), mode),
            FileType::BlockDevice => (Kind::BlockDevice(found.st_rdev), mode),
            _ => return,
        };
        let stat = Stat::of(found);
        let read = match kind {
            Kind::File => remembered_digest(&path, &stat, remembered),
            _ => OnceLock::new(),
        };
        let is_hard_link = kind == Kind::File && found.st_nlink > 1;
        let inode = is_hard_link.then_some((found.st_dev, found.st_ino));
        self.entries.push(Entry { path, kind, mode, inode, is_unreadable: false, stat, read });
    }

    fn error_at(&self, at: &Path, error: Errno) -> io::Error {
        with_path(&self.folder.join(at))(error)
    }

    /// All entries, the folder itself first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The index of the entry at a path.
    pub(crate) fn find(&self, path: &Path) -> Option<usize> {
        self.entries.binary_search_by(|entry| entry.path.as_path().cmp(path)).ok()
    }

    /// Digests the entries of these indices that have no digest yet, in parallel.
    pub(crate) fn digest(&self, indices: &[u32]) -> io::Result<()> {
        let unread: Vec<&Entry> = indices
            .iter()
            .map(|index| &self.entries[*index as usize])
            .filter(|entry| entry.read.get().is_none())
            .collect();
        unread.into_par_iter().try_for_each(|entry| self.digest_one(entry))
    }

    /// Like [`Tree::digest`], but skips entries that the user has no permission to read.
    /// Returns the indices of the others.
    pub(crate) fn digest_readable(&self, indices: &[u32]) -> io::Result<Vec<u32>> {
        let readable = indices.par_iter().map(|index| {
            let entry = &self.entries[*index as usize];
            let read = match entry.read.get() {
                Some(_) => Ok(()),
                None => self.digest_one(entry),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
                read => read.map(|()| Some(*index)),
            }
        });
        readable.filter_map(Result::transpose).collect()
    }

    fn digest_one(&self, entry: &Entry) -> io::Result<()> {
        let source = self.source_path(entry);
        let read = if entry.is_unreadable {
            Err(io::ErrorKind::PermissionDenied.into())
        } else {
            entry.compute_digest(&source, self.read_at)
        };
        let read = read.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => unreadable(),
            _ => error,
        });
        let _ = entry.read.set(read.map_err(with_path(&source))?);
        Ok(())
    }

    /// Whether any link may leave the folder, judged by its text alone.
    pub(crate) fn has_links_out(&self) -> bool {
        *self.has_links_out.get_or_init(|| {
            let mut links = self.entries.iter().filter(|entry| entry.kind == Kind::Link);
            links.any(|link| {
                let text = fs::read_link(self.source_path(link));
                text.is_ok_and(|text| may_leave(&link.path, &text))
            })
        })
    }

    /// The canonical targets of links that leave the folder; empty if links are not followed.
    pub(crate) fn link_targets(&self) -> &[PathBuf] {
        &self.link_targets
    }

    /// The path of an entry in the file system.
    pub(crate) fn source_path(&self, entry: &Entry) -> PathBuf {
        self.folder.join(&entry.path)
    }

    /// Whether [`Tree::remember`] returns anything else than what was `remembered`, the number
    /// of digests that the tree was read with.
    pub(crate) fn is_dirty(&self, remembered: usize) -> bool {
        let reads = || self.entries.iter().filter_map(|entry| entry.read.get());
        let settled = || reads().filter(|read| read.is_settled);
        settled().any(|read| read.is_new) || settled().count() != remembered
    }

    /// The digests that can be reused in later runs, sorted by path.
    pub(crate) fn remember(&self) -> Vec<Remembered> {
        let files = self.entries.iter().filter_map(|entry| Some((entry, entry.read.get()?)));
        let settled = files.filter(|(_, read)| read.is_settled);
        // Files whose paths are not UTF-8 are not saved: they are read in every run.
        let named = settled.filter(|(entry, _)| entry.path.to_str().is_some());
        let remembered = named.map(|(entry, read)| Remembered {
            path: entry.path.clone(),
            stat: entry.stat,
            digest: *read.digest.as_bytes(),
        });
        remembered.collect()
    }
}

impl Entry {
    /// The digest of a file's contents, a link's text, a device's number, or of an empty text
    /// for other entries. `None` if it was not computed yet.
    pub fn digest(&self) -> Option<Digest> {
        self.read.get().map(|read| read.digest)
    }

    /// The size of a file in bytes; 0 for other entries.
    pub fn size(&self) -> u64 {
        if self.kind == Kind::File { self.stat.size } else { 0 }
    }

    /// Whether its change time (ctime) is after `moment`.
    pub fn is_changed_after(&self, moment: SystemTime) -> bool {
        let moment = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.stat.changed > (moment.as_secs().cast_signed(), i64::from(moment.subsec_nanos()))
    }

    /// The modification time (mtime), in nanoseconds since the Unix epoch.
    pub fn modified(&self) -> i64 {
        let (seconds, nanos) = self.stat.modified;
        seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
    }

    fn compute_digest(&self, source: &Path, moment: SystemTime) -> io::Result<Read> {
        let mut hasher = blake3::Hasher::new();
        let mut is_settled = false;
        match self.kind {
            Kind::Folder | Kind::Fifo => {}
            Kind::CharDevice(number) | Kind::BlockDevice(number) => {
                hasher.update(&number.to_le_bytes());
            }
            Kind::Link => {
                hasher.update(fs::read_link(source)?.as_os_str().as_bytes());
            }
            Kind::File => {
                let file = regular_file::open(source)?;
                hasher.update_reader(Counted(&file))?;
                let is_same = Stat::of(&fstat(&file)?) == self.stat;
                is_settled = is_same && self.stat.is_settled(moment);
            }
        }
        Ok(Read { digest: hasher.finalize(), is_settled, is_new: true })
    }
}

/// See [`bytes_digested`].
static BYTES_DIGESTED: AtomicU64 = AtomicU64::new(0);

/// How many bytes of files this process has digested, to show that it goes on.
pub fn bytes_digested() -> u64 {
    BYTES_DIGESTED.load(Ordering::Relaxed)
}

struct Counted<'f>(&'f File);

impl io::Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        BYTES_DIGESTED.fetch_add(u64::try_from(count).unwrap_or_default(), Ordering::Relaxed);
        Ok(count)
    }
}

/// Finds the remembered digest of a file. Files must be looked up in sorted order, because
/// entries before `path` are dropped.
fn remembered_digest(path: &Path, stat: &Stat, remembered: &mut &[Remembered]) -> OnceLock<Read> {
    while let Some((first, rest)) = remembered.split_first() {
        if first.path.as_os_str() != path.as_os_str() && first.path.as_path() > path {
            break;
        }
        *remembered = rest;
        if first.path.as_os_str() == path.as_os_str() {
            let digest = Digest::from_bytes(first.digest);
            let read = Read { digest, is_settled: true, is_new: false };
            return if first.stat == *stat { read.into() } else { OnceLock::new() };
        }
    }
    OnceLock::new()
}

/// The names in a folder, sorted.
fn names(folder: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut buffer = Vec::with_capacity(NAMES_BUFFER);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The error for a file that must be sent, but cannot be read.
pub(crate) fn unreadable() -> io::Error {
    let message = "cannot be read: make it readable, or exclude it in .dockerignore";
    io::Error::new(io::ErrorKind::PermissionDenied, message)
}

/// The first component of a relative path; empty if it has none.
pub(crate) fn first_component(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes().split(|byte| *byte == b'/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn all_indices(tree: &Tree) -> Vec<u32> {
        (0..).take(tree.entries().len()).collect()
    }

    /// A tree that was read as if long after its files were written.
    fn settled(folder: &Path, remembered: &[Remembered]) -> Tree {
        let mut tree = Tree::read(folder, remembered).unwrap();
        tree.read_at += SETTLED * 2;
        tree.digest(&all_indices(&tree)).unwrap();
        tree
    }

    #[test]
    fn a_digest_is_remembered_once_its_file_is_settled() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "1").unwrap();
        let fresh = Tree::read(dir.path(), &[]).unwrap();
        fresh.digest(&all_indices(&fresh)).unwrap();
        assert_eq!(fresh.remember(), []);
        let tree = settled(dir.path(), &[]);
        assert_eq!(tree.remember().len(), 1);
        assert!(tree.is_dirty(0));
        assert!(!settled(dir.path(), &tree.remember()).is_dirty(1));
    }

    #[test]
    fn a_remembered_digest_is_valid_as_long_as_the_stat() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "1").unwrap();
        let remembered = settled(dir.path(), &[]).remember();
        let digest = |remembered: &[Remembered]| {
            let tree = Tree::read(dir.path(), remembered).unwrap();
            tree.entries()[1].digest()
        };
        assert_eq!(digest(&remembered), Some(blake3::hash(b"1")));
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "2").unwrap();
        File::open(&path).unwrap().set_modified(modified).unwrap();
        assert_eq!(
            digest(&remembered),
            None,
            "the size and the mtime are the same, but the file changed"
        );
    }

    #[test]
    fn a_file_that_is_removed_before_it_is_read_is_an_error_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "1").unwrap();
        let tree = Tree::read(dir.path(), &[]).unwrap();
        fs::remove_file(dir.path().join("f")).unwrap();
        let error = tree.digest(&all_indices(&tree)).unwrap_err().to_string();
        assert!(error.contains("/f: No such file"), "{error}");
    }

    #[test]
    fn a_file_that_is_replaced_by_a_pipe_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "1").unwrap();
        let tree = Tree::read(dir.path(), &[]).unwrap();
        fs::remove_file(&path).unwrap();
        let mode = Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
        let error = tree.digest(&all_indices(&tree)).unwrap_err().to_string();
        assert!(error.contains("/f: is a named pipe"), "{error}");
        let error =
            crate::context::verified_reader::VerifiedReader::open(&path).unwrap_err().to_string();
        assert!(error.starts_with("is a named pipe"), "{error}");
    }
}
