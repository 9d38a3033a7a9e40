//! What the engine receives for a build: parts of trees, and the tar stream of
//! them.
//!
//! A context is the component's own folder and, under `dependency/NAME/`, the
//! folders of what it needs, less what `.dockerignore` leaves out. A
//! dependency's own `dependency/` is not carried along. The Dockerfile is always
//! sent: without it there is nothing to build.
//!
//! Entries are sent part by part and sorted by path, owned by 0:0, and without
//! the write bits of group and others, so that two people's checkouts make the
//! same stream. Links are sent as links and never followed. The archive is made
//! while it is read: a file that is not what was digested any more is an error
//! that names it, never a truncated archive.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fields::Fields;
use super::ignore::Ignore;
use super::tree::{Digest, Entry, Kind, Tree, naming, top};
use super::workspace::TEMPORARY;

/// Where a context has what its component needs.
const DEPENDENCY: &str = "dependency";

/// What hooks make, in a component's folder.
const GENERATED: &str = "generated";

/// A tree, or some of it, at a place in a context.
#[derive(Clone, Debug)]
pub struct Part {
    /// The folder as people call it, relative to the workspace root.
    pub shown: String,
    at: PathBuf,
    tree: Arc<Tree>,
    kept: Vec<u32>,
}

/// What the engine receives for one image, every file of it digested. What is sent
/// later must still have these digests.
#[derive(Clone, Debug)]
pub struct Context {
    parts: Vec<Part>,
    digest: Digest,
}

/// One entry of a context.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The part that it is from.
    pub part: &'a Part,
    /// What it is there.
    pub entry: &'a Entry,
    /// Of its contents.
    pub digest: Digest,
}

impl Item<'_> {
    /// All that counts of it besides its path.
    pub fn value(&self) -> [u8; 37] {
        let mut value = [0; 37];
        value[0] = match self.entry.kind {
            Kind::Folder => b'd',
            Kind::Link => b'l',
            Kind::File | Kind::Other => b'f',
        };
        value[1..5].copy_from_slice(&self.entry.mode.to_le_bytes());
        value[5..].copy_from_slice(self.digest.as_bytes());
        value
    }

    /// Its path as people call it, relative to the workspace root.
    pub fn shown(&self) -> String {
        let path = self.entry.path.display();
        match self.part.shown.as_str() {
            "" => path.to_string(),
            shown if self.entry.path.as_os_str().is_empty() => shown.to_owned(),
            shown => format!("{shown}/{path}"),
        }
    }
}

impl Part {
    /// A component's own folder, for the Dockerfile at `dockerfile` in it.
    pub fn own(shown: String, tree: Arc<Tree>, ignore: &Ignore, dockerfile: &Path) -> Self {
        let mut part = Self { shown, at: PathBuf::new(), tree, kept: Vec::new() };
        part.keep(ignore, |entry| !entry.path.as_os_str().is_empty());
        if let Some(place) = part.tree.find(dockerfile).and_then(|place| u32::try_from(place).ok())
            && let Err(before) = part.kept.binary_search(&place)
        {
            part.kept.insert(before, place);
        }
        part
    }

    /// What a component gets of another that it needs: all of its folder but what is
    /// there during a round only.
    pub fn dependency(name: &str, shown: String, tree: Arc<Tree>, ignore: &Ignore) -> Self {
        let at = Path::new(DEPENDENCY).join(name);
        let mut part = Self { shown, at, tree, kept: Vec::new() };
        part.keep(ignore, |entry| {
            let top = top(&entry.path);
            TEMPORARY.iter().all(|name| top != name.as_bytes())
        });
        part
    }

    /// The `generated/` of another component that it needs: in its `tree`, or, once
    /// it `is_kept` elsewhere, the whole of that.
    pub fn generated(
        name: &str,
        shown: String,
        tree: Arc<Tree>,
        is_kept: bool,
        ignore: &Ignore,
    ) -> Self {
        let at = Path::new(DEPENDENCY).join(name);
        let (at, shown) = if is_kept {
            (at.join(GENERATED), format!("{shown}/{GENERATED}"))
        } else {
            (at, shown)
        };
        let mut part = Self { shown, at, tree, kept: Vec::new() };
        part.keep(ignore, |entry| is_kept || top(&entry.path) == GENERATED.as_bytes());
        part
    }

    /// A whole tree, as it is now, without the folders of these names at its top.
    pub fn without(shown: String, tree: Arc<Tree>, left_out: &[&str]) -> Self {
        let mut part = Self { shown, at: PathBuf::new(), tree, kept: Vec::new() };
        part.keep(&Ignore::default(), |entry| {
            let top = top(&entry.path);
            !top.is_empty() && left_out.iter().all(|name| top != name.as_bytes())
        });
        part
    }

    /// Keeps what is wanted and not ignored. An ignored folder is kept as the parent
    /// of what is kept in it.
    fn keep(&mut self, ignore: &Ignore, is_wanted: impl Fn(&Entry) -> bool) {
        let mut ignored: Vec<u32> = Vec::new();
        for (place, entry) in (0u32..).zip(self.tree.entries()) {
            if !is_wanted(entry) {
                continue;
            }
            let is_ignored =
                !ignore.is_empty() && ignore.ignores(&self.path(entry).to_string_lossy());
            if is_ignored {
                if entry.kind == Kind::Folder {
                    ignored.push(place);
                }
                continue;
            }
            let is_above =
                |above: &u32| entry.path.starts_with(&self.tree.entries()[*above as usize].path);
            self.kept.extend(ignored.drain(..).filter(is_above));
            self.kept.push(place);
        }
    }

    /// What it keeps, sorted by path.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.kept.iter().map(|place| &self.tree.entries()[*place as usize])
    }

    /// Where an entry of it is now.
    pub fn source(&self, entry: &Entry) -> PathBuf {
        self.tree.source(entry)
    }

    /// Where an entry of it is in the context.
    pub fn path(&self, entry: &Entry) -> PathBuf {
        match (self.at.as_os_str().is_empty(), entry.path.as_os_str().is_empty()) {
            (_, true) => self.at.clone(),
            (true, false) => entry.path.clone(),
            (false, false) => self.at.join(&entry.path),
        }
    }
}

impl Context {
    /// Digests what the parts keep.
    pub fn read(parts: Vec<Part>) -> io::Result<Self> {
        for part in &parts {
            part.tree.digest(&part.kept)?;
        }
        let mut context = Self { parts, digest: Digest::from_bytes([0; 32]) };
        let mut fields = Fields::default();
        for item in context.items() {
            let path = item.entry.path.as_os_str().as_bytes();
            let slash = if path.is_empty() { "" } else { "/" };
            fields.add_joined(&[item.part.shown.as_bytes(), slash.as_bytes(), path]);
            fields.add(&item.value());
        }
        context.digest = fields.finish();
        Ok(context)
    }

    /// Of every path, kind, mode and content in it.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What is in it, part by part, sorted by path.
    pub fn items(&self) -> impl Iterator<Item = Item<'_>> {
        self.parts.iter().flat_map(|part| {
            let item = move |entry: &'_ Entry| Some((part, entry.digest()?));
            part.entries().filter_map(move |entry| {
                let (part, digest) = item(entry)?;
                Some(Item { part, entry, digest })
            })
        })
    }

    /// All its files together, in bytes.
    pub fn size(&self) -> u64 {
        self.items().map(|item| item.entry.size()).sum()
    }

    /// Writes the context as a tar archive.
    pub fn write_tar(&self, out: impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(out);
        if self.parts.iter().any(|part| part.at.starts_with(DEPENDENCY) && !part.kept.is_empty()) {
            let mut header = header_of(0o755, 0, tar::EntryType::Directory);
            archive.append_data(&mut header, DEPENDENCY, io::empty())?;
        }
        for item in self.items() {
            append(&mut archive, &item).map_err(naming(&item.part.source(item.entry)))?;
        }
        archive.into_inner()?.flush()
    }
}

fn append<W: Write>(archive: &mut tar::Builder<W>, item: &Item<'_>) -> io::Result<()> {
    let Item { part, entry, digest } = item;
    let (path, source) = (part.path(entry), part.source(entry));
    let header = |metadata: &Metadata, kind| header_of(entry.mode, metadata.mtime(), kind);
    match entry.kind {
        Kind::Folder => {
            let mut header = header(&fs::metadata(&source)?, tar::EntryType::Directory);
            archive.append_data(&mut header, &path, io::empty())
        }
        Kind::Link => {
            let mut header = header(&fs::symlink_metadata(&source)?, tar::EntryType::Symlink);
            let target = fs::read_link(&source)?;
            if blake3::hash(target.as_os_str().as_bytes()) != *digest {
                return Err(changed());
            }
            archive.append_link(&mut header, &path, target)
        }
        Kind::File | Kind::Other => {
            let file = File::open(&source)?;
            let metadata = file.metadata()?;
            let mut header = header(&metadata, tar::EntryType::Regular);
            header.set_size(metadata.len());
            let mut whole = Whole { file, left: metadata.len(), hasher: blake3::Hasher::new() };
            archive.append_data(&mut header, &path, &mut whole)?;
            whole.check_end(*digest)
        }
    }
}

fn header_of(mode: u32, modified: i64, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(mode);
    header.set_mtime(u64::try_from(modified).unwrap_or(0));
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

    fn tree(folder: &Path) -> Arc<Tree> {
        Arc::new(Tree::read(folder, |_| true, &[]).unwrap())
    }

    fn paths(part: &Part) -> Vec<String> {
        part.entries().map(|entry| part.path(entry).display().to_string()).collect()
    }

    #[test]
    fn dependencies_are_put_below_without_their_own() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["y", "dependency/c/z", "generated/g"] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let of = |ignore: &str| {
            let (ignore, tree) = (Ignore::parse(ignore).unwrap(), tree(dir.path()));
            let folder = Part::dependency("b", "src/b".into(), Arc::clone(&tree), &ignore);
            let generated = Part::generated("b", "src/b".into(), tree, false, &ignore);
            [paths(&folder), paths(&generated)]
        };
        let generated = ["dependency/b/generated", "dependency/b/generated/g"];
        assert_eq!(of(""), [vec!["dependency/b", "dependency/b/y"], generated.to_vec()]);
        assert_eq!(of("dependency\n!dependency/b/generated/g"), [vec![], generated.to_vec()]);
        assert_eq!(of("dependency/b"), [vec![""; 0], vec![]]);
    }

    #[test]
    fn it_does_not_matter_where_what_hooks_made_is_kept() {
        let [own, kept] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        fs::create_dir(own.path().join("generated")).unwrap();
        fs::write(own.path().join("generated/g"), "x").unwrap();
        fs::write(kept.path().join("g"), "x").unwrap();
        let items = |folder: &Path, is_kept| {
            let ignore = Ignore::default();
            let part = Part::generated("b", "src/b".into(), tree(folder), is_kept, &ignore);
            let context = Context::read(vec![part]).unwrap();
            context.items().map(|item| (item.shown(), item.digest)).collect::<Vec<_>>()
        };
        assert_eq!(items(own.path(), false).len(), 2);
        assert_eq!(items(own.path(), false), items(kept.path(), true));
    }

    #[test]
    fn the_dockerfile_is_sent_even_if_ignored_and_links_stay_links() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("build")).unwrap();
        fs::write(dir.path().join("build/a.dockerfile"), "FROM scratch\n").unwrap();
        symlink("/etc", dir.path().join("link")).unwrap();
        let ignore = Ignore::parse("build").unwrap();
        let dockerfile = Path::new("build/a.dockerfile");
        let part = Part::own("src/a".into(), tree(dir.path()), &ignore, dockerfile);
        assert_eq!(paths(&part), ["build/a.dockerfile", "link"]);
        assert_eq!(part.entries().last().unwrap().kind, Kind::Link);
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

    #[test]
    fn what_is_not_what_was_digested_is_not_sent() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "1").unwrap();
        let part = Part::without("src/a".into(), tree(dir.path()), &[]);
        let context = Context::read(vec![part]).unwrap();
        context.write_tar(io::sink()).unwrap();
        fs::write(dir.path().join("f"), "2").unwrap();
        let error = context.write_tar(io::sink()).unwrap_err().to_string();
        assert!(error.ends_with("/f: changed while it was sent: build again"), "{error}");
    }
}
