//! A folder as it is now: its files, folders and links, and what is in them.
//!
//! Walking is cheap and hashing is not, so they are two things: a tree knows of
//! each file only its stat, and digests it when somebody asks. A digest of an
//! earlier day is taken if the file has the very stat it had then: size, inode,
//! time of the last modification, and time of the last change, which nobody can
//! set back. One thing defeats that: a file that is written again within one tick
//! of the file system's clock keeps its times (git calls this racy). So a digest
//! is kept only if the file had been left alone for [`SETTLED`] when it was read.
//!
//! Links are not followed, the folder itself excepted, but where [`Tree::followed`] says
//! so. Sockets are left out, as no archive can hold one. A folder that this user may not
//! read is a folder like others until somebody asks for its digest: it may be one that
//! nobody needs.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat as Found};
use rustix::fs::{fstat, openat, statat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::context::links::{LinkFollower, may_leave};
use crate::digest::Digest;
use crate::regular_file::{self, naming};

/// Coarser than the clock of any file system that is in use (FAT's ticks are 2 s).
const SETTLED: Duration = Duration::from_secs(2);

/// Room for the names that the system tells at a time.
const NAMES: usize = 32 << 10;

/// How a folder is opened to be walked.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// No folder has so many files that others lead to it by mistake.
const MOST_FOLLOWED: usize = 1_000_000;

/// The permission bits that count: all but the write bits of group and others, so
/// that two people's umasks agree.
const MODE: u32 = 0o7755;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder, possibly empty.
    Folder,
    /// A regular file.
    File,
    /// A symbolic link, kept as one.
    Link,
    /// A fifo.
    Fifo,
    /// A device of characters, by its number.
    Characters(u64),
    /// A device of blocks, by its number.
    Blocks(u64),
}

/// What a file system says of a file without reading it.
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

    /// Whether nothing was written for a while before `moment`.
    fn is_settled(&self, moment: SystemTime) -> bool {
        let (seconds, nanos) = self.modified.max(self.changed);
        let Ok(since) = moment.duration_since(UNIX_EPOCH) else { return false };
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(seconds), u32::try_from(nanos)) else {
            return true;
        };
        Duration::new(seconds, nanos) + SETTLED <= since
    }
}

/// A file whose digest is known as long as its stat stays.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Remembered {
    #[serde(with = "crate::path_bytes")]
    path: PathBuf,
    stat: Stat,
    digest: [u8; 32],
}

/// A file, folder or link of a tree.
#[derive(Debug)]
pub struct Entry {
    /// Relative to the tree's folder; empty for the folder itself.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Its permission bits, as far as they count.
    pub mode: u32,
    /// The device and inode of a file that has several names.
    pub inode: Option<(u64, u64)>,
    /// Whether it is a folder that this user may not read.
    pub is_closed: bool,
    stat: Stat,
    read: OnceLock<Read>,
}

#[derive(Clone, Copy, Debug)]
struct Read {
    digest: Digest,
    /// Whether the stat stands for the digest from now on.
    is_lasting: bool,
    is_new: bool,
}

/// Whether a walk goes on at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Neither it nor what is below it is looked at.
    Nothing,
    /// It is, and of what is below it is asked again.
    Itself,
    /// It is, with all that is below it.
    All,
}

impl Wanted {
    /// Itself, if something holds.
    pub fn itself_if(holds: bool) -> Self {
        if holds { Self::Itself } else { Self::Nothing }
    }
}

/// All that is in a folder, each folder before what is in it, sorted by name. The
/// first entry is the folder itself.
#[derive(Debug)]
pub struct Tree {
    /// Where it is.
    pub folder: PathBuf,
    entries: Vec<Entry>,
    /// Where links that leave the folder lead, as far as they were followed.
    targets: Vec<PathBuf>,
    has_links_out: OnceLock<bool>,
    read_at: SystemTime,
}

/// How a folder is walked.
struct Walk<'w> {
    /// All of it, if nothing says what.
    wanted: Option<&'w dyn Fn(&Path) -> Wanted>,
    follower: Option<&'w mut LinkFollower>,
}

impl Tree {
    /// Walks all of `folder`.
    pub fn read(folder: &Path, remembered: &[Remembered]) -> io::Result<Self> {
        Self::read_some(folder, |_| Wanted::All, remembered)
    }

    /// Walks what is `wanted` of `folder`, by path relative to it.
    pub fn read_some(
        folder: &Path,
        wanted: impl Fn(&Path) -> Wanted,
        remembered: &[Remembered],
    ) -> io::Result<Self> {
        Self::start(folder, Walk { wanted: Some(&wanted), follower: None }, remembered)
    }

    /// The same for a place other than its own: in the place of links that leave the folder
    /// is what they lead to.
    pub fn followed(
        folder: &Path,
        wanted: impl Fn(&Path) -> Wanted,
        remembered: &[Remembered],
    ) -> io::Result<Self> {
        let mut follower = LinkFollower::new(folder);
        let walk = Walk { wanted: Some(&wanted), follower: Some(&mut follower) };
        let mut tree = Self::start(folder, walk, remembered)?;
        tree.targets = follower.targets.into_iter().collect();
        Ok(tree)
    }

    fn start(folder: &Path, mut walk: Walk<'_>, mut remembered: &[Remembered]) -> io::Result<Self> {
        let mut tree = Self::empty(folder);
        let opened = openat(CWD, folder, FOLDER, Mode::empty()).map_err(naming(folder))?;
        tree.add(PathBuf::new(), &fstat(&opened).map_err(naming(folder))?, &mut remembered);
        tree.walk(&opened, &mut PathBuf::new(), &mut walk, &mut remembered)?;
        Ok(tree)
    }

    /// The files and links of these paths below `folder`, as far as they are there.
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
                found => tree.add(path, &found.map_err(naming(&full))?, &mut remembered),
            }
        }
        Ok(tree)
    }

    fn empty(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            entries: Vec::new(),
            targets: Vec::new(),
            has_links_out: OnceLock::new(),
            read_at: SystemTime::now(),
        }
    }

    /// Walks the folder that was added last, relative to itself: that is a third quicker
    /// than by paths.
    fn walk(
        &mut self,
        folder: &OwnedFd,
        at: &mut PathBuf,
        walk: &mut Walk<'_>,
        remembered: &mut &[Remembered],
    ) -> io::Result<()> {
        let place = self.entries.len().saturating_sub(1);
        for name in names(folder).map_err(|error| self.naming(at, error))? {
            at.push(OsStr::from_bytes(name.to_bytes()));
            let here = walk.wanted.map_or(Wanted::All, |wanted| wanted(at));
            if here != Wanted::Nothing {
                match statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
                    // It went between the two looks: it is not there.
                    Err(Errno::NOENT) => {}
                    Err(Errno::ACCESS) if place > 0 => self.entries[place].is_closed = true,
                    Err(error) => return Err(self.naming(at, error)),
                    Ok(found) => {
                        let wanted = walk.wanted.filter(|_| here != Wanted::All);
                        let follower = walk.follower.as_deref_mut();
                        let mut below = Walk { wanted, follower };
                        match FileType::from_raw_mode(found.st_mode) {
                            FileType::Directory => {
                                self.add(at.clone(), &found, remembered);
                                let opened =
                                    openat(folder, &name, FOLDER | OFlags::NOFOLLOW, Mode::empty());
                                self.go_into(opened, at, &mut below, remembered)?;
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

    /// Walks the folder that was added last, unless it is closed to this user.
    fn go_into(
        &mut self,
        opened: rustix::io::Result<OwnedFd>,
        at: &mut PathBuf,
        walk: &mut Walk<'_>,
        remembered: &mut &[Remembered],
    ) -> io::Result<()> {
        match opened {
            Err(Errno::ACCESS) => {
                if let Some(folder) = self.entries.last_mut() {
                    folder.is_closed = true;
                }
                Ok(())
            }
            opened => {
                let opened = opened.map_err(|error| self.naming(at, error))?;
                self.walk(&opened, at, walk, remembered)
            }
        }
    }

    /// Adds a link, or what is in its place.
    fn follow(
        &mut self,
        link: &Found,
        at: &mut PathBuf,
        walk: &mut Walk<'_>,
        remembered: &mut &[Remembered],
    ) -> io::Result<()> {
        if self.entries.len() > MOST_FOLLOWED {
            let message = format!("links lead to more than {MOST_FOLLOWED} files: remove some");
            return Err(naming(&self.folder.join(at))(io::Error::other(message)));
        }
        let target = walk.follower.as_deref_mut().and_then(|follower| follower.target(at));
        let found = target.as_ref().and_then(|it| statat(CWD, it, AtFlags::empty()).ok());
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
                self.go_into(opened, at, walk, remembered)?;
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
            FileType::CharacterDevice => (Kind::Characters(found.st_rdev), mode),
            FileType::BlockDevice => (Kind::Blocks(found.st_rdev), mode),
            _ => return,
        };
        let stat = Stat::of(found);
        let read = match kind {
            Kind::File => digest_of(&path, &stat, remembered),
            _ => OnceLock::new(),
        };
        let has_names = kind == Kind::File && found.st_nlink > 1;
        let inode = has_names.then_some((found.st_dev, found.st_ino));
        self.entries.push(Entry { path, kind, mode, inode, is_closed: false, stat, read });
    }

    fn naming(&self, at: &Path, error: Errno) -> io::Error {
        naming(&self.folder.join(at))(error)
    }

    /// Everything in it, the folder itself first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The place of a path among the entries.
    pub fn find(&self, path: &Path) -> Option<usize> {
        self.entries.binary_search_by(|entry| entry.path.as_path().cmp(path)).ok()
    }

    /// Reads the entries of these places that were not read yet, on all cores.
    pub fn digest(&self, places: &[u32]) -> io::Result<()> {
        let unread: Vec<&Entry> = places
            .iter()
            .map(|place| &self.entries[*place as usize])
            .filter(|entry| entry.read.get().is_none())
            .collect();
        unread.into_par_iter().try_for_each(|entry| self.digest_one(entry))
    }

    /// The same, of what this user may read: gives the places of that.
    pub fn digest_readable(&self, places: &[u32]) -> io::Result<Vec<u32>> {
        let readable = places.par_iter().map(|place| {
            let entry = &self.entries[*place as usize];
            let read = match entry.read.get() {
                Some(_) => Ok(()),
                None => self.digest_one(entry),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
                read => read.map(|()| Some(*place)),
            }
        });
        readable.filter_map(Result::transpose).collect()
    }

    fn digest_one(&self, entry: &Entry) -> io::Result<()> {
        let source = self.source(entry);
        let read = if entry.is_closed {
            Err(io::ErrorKind::PermissionDenied.into())
        } else {
            entry.read_now(&source, self.read_at)
        };
        let read = read.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => unreadable(),
            _ => error,
        });
        let _ = entry.read.set(read.map_err(naming(&source))?);
        Ok(())
    }

    /// Whether links may lead out of the folder, by their texts alone.
    pub fn has_links_out(&self) -> bool {
        *self.has_links_out.get_or_init(|| {
            let mut links = self.entries.iter().filter(|entry| entry.kind == Kind::Link);
            links.any(|link| {
                let text = fs::read_link(self.source(link));
                text.is_ok_and(|text| may_leave(&link.path, &text))
            })
        })
    }

    /// Where links that leave the folder lead, really, if they were followed.
    pub fn targets(&self) -> &[PathBuf] {
        &self.targets
    }

    /// Where an entry is.
    pub fn source(&self, entry: &Entry) -> PathBuf {
        self.folder.join(&entry.path)
    }

    /// Whether what may be remembered of it is anything but what was remembered: so
    /// many files.
    pub fn has_news(&self, remembered: usize) -> bool {
        let reads = || self.entries.iter().filter_map(|entry| entry.read.get());
        let lasting = || reads().filter(|read| read.is_lasting);
        lasting().any(|read| read.is_new) || lasting().count() != remembered
    }

    /// What may be remembered of it.
    pub fn remember(&self) -> Vec<Remembered> {
        let files = self.entries.iter().filter_map(|entry| Some((entry, entry.read.get()?)));
        let lasting = files.filter(|(_, read)| read.is_lasting);
        // A name that is not UTF-8 cannot be written down; its file is read every time.
        let named = lasting.filter(|(entry, _)| entry.path.to_str().is_some());
        let remembered = named.map(|(entry, read)| Remembered {
            path: entry.path.clone(),
            stat: entry.stat,
            digest: *read.digest.as_bytes(),
        });
        remembered.collect()
    }
}

impl Entry {
    /// The digest of a file's contents, of a link's target, of a device's number, of
    /// nothing for others; none if it was not read yet.
    pub fn digest(&self) -> Option<Digest> {
        self.read.get().map(|read| read.digest)
    }

    /// A file's size in bytes; 0 for others.
    pub fn size(&self) -> u64 {
        if self.kind == Kind::File { self.stat.size } else { 0 }
    }

    /// Whether anything was done to it after a moment.
    pub fn is_changed_after(&self, moment: SystemTime) -> bool {
        let moment = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.stat.changed > (moment.as_secs().cast_signed(), i64::from(moment.subsec_nanos()))
    }

    /// When it was modified, in nanoseconds since 1970.
    pub fn modified(&self) -> i64 {
        let (seconds, nanos) = self.stat.modified;
        seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
    }

    fn read_now(&self, source: &Path, moment: SystemTime) -> io::Result<Read> {
        let mut hasher = blake3::Hasher::new();
        let mut is_lasting = false;
        match self.kind {
            Kind::Folder | Kind::Fifo => {}
            Kind::Characters(number) | Kind::Blocks(number) => {
                hasher.update(&number.to_le_bytes());
            }
            Kind::Link => {
                hasher.update(fs::read_link(source)?.as_os_str().as_bytes());
            }
            Kind::File => {
                let file = regular_file::open(source)?;
                hasher.update_reader(&file)?;
                let is_same = Stat::of(&fstat(&file)?) == self.stat;
                is_lasting = is_same && self.stat.is_settled(moment);
            }
        }
        Ok(Read { digest: hasher.finalize(), is_lasting, is_new: true })
    }
}

/// The digest that is remembered of a file. Files are asked for in the order in
/// which they were remembered, and what was passed is dropped.
fn digest_of(path: &Path, stat: &Stat, remembered: &mut &[Remembered]) -> OnceLock<Read> {
    while let Some((first, rest)) = remembered.split_first() {
        if first.path.as_os_str() != path.as_os_str() && first.path.as_path() > path {
            break;
        }
        *remembered = rest;
        if first.path.as_os_str() == path.as_os_str() {
            let digest = Digest::from_bytes(first.digest);
            let read = Read { digest, is_lasting: true, is_new: false };
            return if first.stat == *stat { read.into() } else { OnceLock::new() };
        }
    }
    OnceLock::new()
}

/// The names in a folder, sorted.
fn names(folder: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut room = Vec::with_capacity(NAMES);
    let mut entries = RawDir::new(folder, room.spare_capacity_mut());
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

/// What is needed cannot be read by this user.
pub(crate) fn unreadable() -> io::Error {
    let message = "cannot be read: make it readable, or leave it out by .dockerignore";
    io::Error::new(io::ErrorKind::PermissionDenied, message)
}

/// The first name of a relative path; empty if it has none.
pub(crate) fn top(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes().split(|byte| *byte == b'/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn places(tree: &Tree) -> Vec<u32> {
        (0..).take(tree.entries().len()).collect()
    }

    /// A tree that was read long after its files were written.
    fn settled(folder: &Path, remembered: &[Remembered]) -> Tree {
        let mut tree = Tree::read(folder, remembered).unwrap();
        tree.read_at += SETTLED * 2;
        tree.digest(&places(&tree)).unwrap();
        tree
    }

    #[test]
    fn a_digest_is_remembered_once_its_file_was_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "1").unwrap();
        let fresh = Tree::read(dir.path(), &[]).unwrap();
        fresh.digest(&places(&fresh)).unwrap();
        assert_eq!(fresh.remember(), []);
        let tree = settled(dir.path(), &[]);
        assert_eq!(tree.remember().len(), 1);
        assert!(tree.has_news(0));
        assert!(!settled(dir.path(), &tree.remember()).has_news(1));
    }

    #[test]
    fn a_remembered_digest_holds_as_long_as_the_stat_does() {
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
        assert_eq!(digest(&remembered), None, "same size and same time, but it changed");
    }

    #[test]
    fn a_file_that_vanishes_while_it_is_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "1").unwrap();
        let tree = Tree::read(dir.path(), &[]).unwrap();
        fs::remove_file(dir.path().join("f")).unwrap();
        let error = tree.digest(&places(&tree)).unwrap_err().to_string();
        assert!(error.contains("/f: No such file"), "{error}");
    }

    #[test]
    fn what_becomes_a_pipe_before_it_is_read_is_named_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "1").unwrap();
        let tree = Tree::read(dir.path(), &[]).unwrap();
        fs::remove_file(&path).unwrap();
        let mode = Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
        let error = tree.digest(&places(&tree)).unwrap_err().to_string();
        assert!(error.contains("/f: is a named pipe"), "{error}");
        let error =
            crate::context::verified_reader::VerifiedReader::open(&path).unwrap_err().to_string();
        assert!(error.starts_with("is a named pipe"), "{error}");
    }
}
