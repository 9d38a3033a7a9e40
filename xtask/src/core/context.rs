//! What the engine receives for a build: a list of entries, and the tar stream
//! of it.
//!
//! A context is the component's own folder and, under `dependency/NAME/`, the
//! folders of what it needs, less what `.dockerignore` leaves out. A
//! dependency's own `dependency/` is not carried along. The Dockerfile is always
//! sent: without it there is nothing to build.
//!
//! Entries are sorted by path, owned by 0:0, and without the write bits of group
//! and others, so that two people's checkouts make the same stream. Links are
//! sent as links and never followed. The archive is made while it is read: a
//! file that changes its size or vanishes meanwhile is an error that names it,
//! never a truncated archive.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::ignore::Ignore;
use super::workspace::TEMPORARY;

/// The digest of contents.
pub type Digest = blake3::Hash;

/// The permission bits that are sent: all but the write bits of group and others.
const SENT_MODE: u32 = 0o7755;

/// One file, folder or link of a tree.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it will be, relative to the tree's root.
    pub path: PathBuf,
    /// Where it is now.
    pub source: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Its permission bits, as they are sent.
    pub mode: u32,
}

/// An entry whose contents are known.
#[derive(Clone, Debug)]
pub struct Digested {
    /// Where it will be in the context.
    pub path: PathBuf,
    /// Where it is now.
    pub source: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Its permission bits, as they are sent.
    pub mode: u32,
    /// Of a file's contents or a link's target; of nothing for a folder.
    pub digest: Digest,
}

/// What the engine receives for one image, every file of it digested. What is sent
/// later must still have these digests.
#[derive(Debug)]
pub struct Context(Vec<Digested>);

impl Context {
    /// Lists and digests: `own` is the component's folder, `dependencies` the names
    /// and folders of what is streamed under `dependency/`, `dockerfile` is relative
    /// to `own`.
    pub fn read(
        own: &Path,
        dependencies: &[(String, PathBuf)],
        ignore: &Ignore,
        dockerfile: &Path,
    ) -> io::Result<Self> {
        let entries = list(own, dependencies, ignore, dockerfile)?;
        entries.into_iter().map(digest).collect::<io::Result<_>>().map(Self)
    }

    /// What a component's hooks and images are made from: its folder without what
    /// is there during a round only, and what it needs.
    pub fn source(own: &Path, dependencies: &[(String, PathBuf)]) -> io::Result<Self> {
        let is_lasting = |name: &OsStr| TEMPORARY.iter().all(|folder| name != *folder);
        let mut entries = list_children(own, &is_lasting)?;
        for (name, dir) in dependencies {
            let at = Path::new("dependency").join(name);
            let listed = list_dependency(dir)?.into_iter();
            entries.extend(listed.map(|entry| Entry { path: at.join(&entry.path), ..entry }));
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries.into_iter().map(digest).collect::<io::Result<_>>().map(Self)
    }

    /// Sorted by path.
    pub fn entries(&self) -> &[Digested] {
        &self.0
    }

    /// Writes the context as a tar archive.
    pub fn write_tar(&self, out: impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(out);
        for entry in &self.0 {
            append(&mut archive, entry).map_err(naming(&entry.source))?;
        }
        archive.into_inner()?.flush()
    }
}

fn digest(entry: Entry) -> io::Result<Digested> {
    let mut hasher = blake3::Hasher::new();
    let read = match entry.kind {
        Kind::Folder => Ok(()),
        Kind::Link => fs::read_link(&entry.source).map(|target| {
            hasher.update(target.as_os_str().as_bytes());
        }),
        Kind::File => File::open(&entry.source).and_then(|file| {
            hasher.update_reader(file)?;
            Ok(())
        }),
    };
    read.map_err(naming(&entry.source))?;
    let Entry { path, source, kind, mode } = entry;
    Ok(Digested { path, source, kind, mode, digest: hasher.finalize() })
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A folder, possibly empty.
    Folder,
    /// A regular file.
    File,
    /// A symbolic link, kept as one.
    Link,
}

fn list(
    own: &Path,
    dependencies: &[(String, PathBuf)],
    ignore: &Ignore,
    dockerfile: &Path,
) -> io::Result<Vec<Entry>> {
    let mut walk = Walk { ignore, entries: Vec::new() };
    let all = |_: &OsStr| true;
    walk.folder(own, Path::new(""), &all)?;
    if !dependencies.is_empty() {
        let root = Path::new("dependency");
        for (name, dir) in dependencies {
            let at = root.join(name);
            walk.entry(dir, &at, &|name| name != "dependency")?;
        }
        if walk.entries.iter().any(|entry| entry.path.starts_with(root)) {
            walk.push(own, root, Kind::Folder)?;
        }
    }
    if !walk.entries.iter().any(|entry| entry.path == dockerfile) {
        walk.push(&own.join(dockerfile), dockerfile, Kind::File)?;
    }
    let mut entries = walk.entries;
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// Lists a component's folder as its dependents receive it: everything but its
/// own `dependency/`.
pub fn list_dependency(dir: &Path) -> io::Result<Vec<Entry>> {
    list_children(dir, &|name| name != "dependency")
}

/// Lists all of a folder.
pub fn list_tree(dir: &Path) -> io::Result<Vec<Entry>> {
    list_children(dir, &|_| true)
}

fn list_children(dir: &Path, wanted: &dyn Fn(&OsStr) -> bool) -> io::Result<Vec<Entry>> {
    let mut walk = Walk { ignore: &Ignore::default(), entries: Vec::new() };
    walk.folder(dir, Path::new(""), wanted)?;
    Ok(walk.entries)
}

struct Walk<'a> {
    ignore: &'a Ignore,
    entries: Vec<Entry>,
}

impl Walk<'_> {
    /// Adds what lies in `dir`, where `wanted` takes its direct children.
    fn folder(&mut self, dir: &Path, at: &Path, wanted: &dyn Fn(&OsStr) -> bool) -> io::Result<()> {
        for child in fs::read_dir(dir).map_err(naming(dir))? {
            let child = child.map_err(naming(dir))?;
            let name = child.file_name();
            if wanted(&name) {
                self.entry(&child.path(), &at.join(&name), &|_| true)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        source: &Path,
        at: &Path,
        wanted: &dyn Fn(&OsStr) -> bool,
    ) -> io::Result<()> {
        let ignored = self.ignore.ignores(&at.to_string_lossy());
        let kind = fs::symlink_metadata(source).map_err(naming(source))?.file_type();
        // A component may itself be a link to a folder; below it links stay links.
        let is_dependency = at.starts_with("dependency") && at.components().count() == 2;
        if kind.is_dir() || (is_dependency && kind.is_symlink() && source.is_dir()) {
            return self.sub_folder(source, at, ignored, wanted);
        }
        if ignored || kind.is_socket() {
            return Ok(());
        }
        if kind.is_symlink() {
            self.push(source, at, Kind::Link)?;
        } else if kind.is_file() {
            self.push(source, at, Kind::File)?;
        } else {
            let message = "is a fifo or a device, which no context can hold: remove it, or name \
                           it in .dockerignore";
            return Err(io::Error::other(format!("{}: {message}", source.display())));
        }
        Ok(())
    }

    /// A folder that is ignored is there only as the parent of what is kept in it.
    fn sub_folder(
        &mut self,
        source: &Path,
        at: &Path,
        ignored: bool,
        wanted: &dyn Fn(&OsStr) -> bool,
    ) -> io::Result<()> {
        if ignored && !self.ignore.may_keep_below(&at.to_string_lossy()) {
            return Ok(());
        }
        let place = self.entries.len();
        self.push(source, at, Kind::Folder)?;
        self.folder(source, at, wanted)?;
        if ignored && self.entries.len() == place + 1 {
            self.entries.truncate(place);
        }
        Ok(())
    }

    fn push(&mut self, source: &Path, path: &Path, kind: Kind) -> io::Result<()> {
        let mode = match kind {
            Kind::Link => 0o777,
            Kind::Folder | Kind::File => {
                fs::metadata(source).map_err(naming(source))?.mode() & SENT_MODE
            }
        };
        let (path, source) = (path.to_owned(), source.to_owned());
        self.entries.push(Entry { path, source, kind, mode });
        Ok(())
    }
}

fn append<W: Write>(archive: &mut tar::Builder<W>, entry: &Digested) -> io::Result<()> {
    match entry.kind {
        Kind::Folder => {
            let metadata = fs::metadata(&entry.source)?;
            let mut header = header_of(entry, &metadata, tar::EntryType::Directory);
            archive.append_data(&mut header, &entry.path, io::empty())
        }
        Kind::Link => {
            let metadata = fs::symlink_metadata(&entry.source)?;
            let mut header = header_of(entry, &metadata, tar::EntryType::Symlink);
            let target = fs::read_link(&entry.source)?;
            if blake3::hash(target.as_os_str().as_bytes()) != entry.digest {
                return Err(changed());
            }
            archive.append_link(&mut header, &entry.path, target)
        }
        Kind::File => {
            let file = File::open(&entry.source)?;
            let metadata = file.metadata()?;
            let mut header = header_of(entry, &metadata, tar::EntryType::Regular);
            header.set_size(metadata.len());
            let mut whole = Whole { file, left: metadata.len(), hasher: blake3::Hasher::new() };
            archive.append_data(&mut header, &entry.path, &mut whole)?;
            whole.check_end(entry.digest)
        }
    }
}

fn header_of(entry: &Digested, metadata: &Metadata, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(entry.mode);
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header
}

/// A file that must have exactly the size that its header says, and the contents
/// that were digested.
struct Whole {
    file: File,
    left: u64,
    hasher: blake3::Hasher,
}

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if room == 0 {
            return Ok(0);
        }
        let read = self.file.read(&mut buffer[..room])?;
        if read == 0 {
            return Err(changed());
        }
        self.left -= read as u64;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

impl Whole {
    fn check_end(&mut self, digest: Digest) -> io::Result<()> {
        let is_longer = self.file.read(&mut [0])? > 0;
        let is_other = self.hasher.finalize() != digest;
        if is_longer || is_other { Err(changed()) } else { Ok(()) }
    }
}

fn changed() -> io::Error {
    io::Error::other("changed while it was sent: build again")
}

/// Puts the path in front of an error that lacks it.
fn naming(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return error;
        }
        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    }
}

/// The ignore file that holds for a Dockerfile, relative to the context: the
/// Dockerfile's own (`NAME.dockerfile.dockerignore`) takes the place of
/// `.dockerignore`.
pub fn ignore_files(dockerfile: &Path) -> [PathBuf; 2] {
    let mut own = dockerfile.as_os_str().as_bytes().to_vec();
    own.extend(b".dockerignore");
    [PathBuf::from(OsStr::from_bytes(&own)), PathBuf::from(".dockerignore")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn paths(entries: &[Entry]) -> Vec<String> {
        entries.iter().map(|entry| entry.path.display().to_string()).collect()
    }

    #[test]
    fn dependencies_are_put_below_without_their_own() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["a/x", "a/build/a.dockerfile", "b/y", "b/dependency/c/z", "b/generated/g"] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let dependencies = [("b".to_owned(), dir.path().join("b"))];
        let dockerfile = Path::new("build/a.dockerfile");
        let own = dir.path().join("a");
        let entries = list(&own, &dependencies, &Ignore::default(), dockerfile).unwrap();
        let expected = [
            "build",
            "build/a.dockerfile",
            "dependency",
            "dependency/b",
            "dependency/b/generated",
            "dependency/b/generated/g",
            "dependency/b/y",
            "x",
        ];
        assert_eq!(paths(&entries), expected);
    }

    #[test]
    fn the_dockerfile_is_sent_even_if_ignored_and_links_stay_links() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("build")).unwrap();
        fs::write(dir.path().join("build/a.dockerfile"), "FROM scratch\n").unwrap();
        symlink("/etc", dir.path().join("link")).unwrap();
        let ignore = Ignore::parse("build").unwrap();
        let dockerfile = Path::new("build/a.dockerfile");
        let entries = list(dir.path(), &[], &ignore, dockerfile).unwrap();
        assert_eq!(paths(&entries), ["build/a.dockerfile", "link"]);
        assert_eq!(entries[1].kind, Kind::Link);
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_sent_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "12345").unwrap();
        let file = File::open(&path).unwrap();
        let mut whole = Whole { file, left: 6, hasher: blake3::Hasher::new() };
        let error = io::copy(&mut whole, &mut io::sink()).unwrap_err();
        assert!(error.to_string().contains("changed while it was sent"));
    }
}
