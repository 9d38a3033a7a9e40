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

/// One file, folder or link of a tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Where it will be, relative to the tree's root.
    pub path: PathBuf,
    /// Where it is now.
    pub source: PathBuf,
    /// What it is.
    pub kind: Kind,
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

/// Lists the context of one image: `own` is the component's folder,
/// `dependencies` the names and folders of what is streamed under
/// `dependency/`, `dockerfile` is relative to `own`.
pub fn list(
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
            walk.entry(dir, at, &|name| name != "dependency")?;
        }
        if walk.entries.iter().any(|entry| entry.path.starts_with(root)) {
            walk.push(own, root.to_owned(), Kind::Folder);
        }
    }
    let mut entries = walk.entries;
    if !entries.iter().any(|entry| entry.path == dockerfile) {
        let source = own.join(dockerfile);
        entries.push(Entry { path: dockerfile.to_owned(), source, kind: Kind::File });
    }
    entries.sort();
    Ok(entries)
}

/// Lists a component's folder as its dependents receive it: everything but its
/// own `dependency/`.
pub fn list_dependency(dir: &Path) -> io::Result<Vec<Entry>> {
    let mut walk = Walk { ignore: &Ignore::default(), entries: Vec::new() };
    walk.folder(dir, Path::new(""), &|name| name != "dependency")?;
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
                self.entry(&child.path(), at.join(&name), &|_| true)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        source: &Path,
        at: PathBuf,
        wanted: &dyn Fn(&OsStr) -> bool,
    ) -> io::Result<()> {
        let ignored = self.ignore.ignores(&at.to_string_lossy());
        let kind = fs::symlink_metadata(source).map_err(naming(source))?.file_type();
        // A component may itself be a link to a folder; below it links stay links.
        let is_dependency = at.starts_with("dependency") && at.components().count() == 2;
        if kind.is_dir() || (is_dependency && kind.is_symlink() && source.is_dir()) {
            return self.sub_folder(source, &at, ignored, wanted);
        }
        if ignored || kind.is_socket() {
            return Ok(());
        }
        if kind.is_symlink() {
            self.push(source, at, Kind::Link);
        } else if kind.is_file() {
            self.push(source, at, Kind::File);
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
        self.push(source, at.to_owned(), Kind::Folder);
        self.folder(source, at, wanted)?;
        if ignored && self.entries.len() == place + 1 {
            self.entries.truncate(place);
        }
        Ok(())
    }

    fn push(&mut self, source: &Path, path: PathBuf, kind: Kind) {
        self.entries.push(Entry { path, source: source.to_owned(), kind });
    }
}

/// Writes the entries as a tar archive.
pub fn write_tar(entries: &[Entry], out: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    for entry in entries {
        append(&mut archive, entry).map_err(naming(&entry.source))?;
    }
    archive.into_inner()?.flush()
}

fn append<W: Write>(archive: &mut tar::Builder<W>, entry: &Entry) -> io::Result<()> {
    match entry.kind {
        Kind::Folder => {
            let mut header = header_of(&fs::metadata(&entry.source)?, tar::EntryType::Directory);
            archive.append_data(&mut header, &entry.path, io::empty())
        }
        Kind::Link => {
            let metadata = fs::symlink_metadata(&entry.source)?;
            let mut header = header_of(&metadata, tar::EntryType::Symlink);
            archive.append_link(&mut header, &entry.path, fs::read_link(&entry.source)?)
        }
        Kind::File => {
            let file = File::open(&entry.source)?;
            let metadata = file.metadata()?;
            let mut header = header_of(&metadata, tar::EntryType::Regular);
            header.set_size(metadata.len());
            let mut whole = Whole { file, left: metadata.len() };
            archive.append_data(&mut header, &entry.path, &mut whole)?;
            whole.check_end()
        }
    }
}

fn header_of(metadata: &Metadata, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(match kind {
        tar::EntryType::Symlink => 0o777,
        _ => metadata.mode() & 0o7755,
    });
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header
}

/// A file that must have exactly the size that its header says.
struct Whole {
    file: File,
    left: u64,
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
        Ok(read)
    }
}

impl Whole {
    fn check_end(&mut self) -> io::Result<()> {
        match self.file.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(changed()),
        }
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
        let mut whole = Whole { file: File::open(&path).unwrap(), left: 6 };
        let error = io::copy(&mut whole, &mut io::sink()).unwrap_err();
        assert!(error.to_string().contains("changed while it was sent"));
    }
}
