//! Build contexts: the files that the engine receives for a build.
//!
//! A context consists of the component's own folder and, under `dependency/NAME/`, the
//! folders of its dependencies, without what `.dockerignore` excludes and without what no
//! instruction can read. The `dependency/` folders of dependencies are not included. The
//! Dockerfile is always sent, even if it is ignored; if links lead to it, so is the file that
//! they lead to, as the docker CLI does.
//!
//! Entries are owned by 0:0 and have no write permission for group and others, so that all
//! checkouts yield the same context. Symbolic links are sent as links, except for those of a
//! dependency that leave its folder. Named pipes and devices are sent as such, as the docker
//! CLI does. Several names of one file in one part are sent as hard links to the first. This
//! does not affect the context's digest: the contents are the same, and clones and copies do
//! not preserve hard links.

use std::collections::{HashMap, hash_map};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, access};
use rustix::io::Errno;

use crate::context::dockerignore::Dockerignore;
use crate::context::tree::{Entry, Kind, Tree, first_component};
use crate::digest::Digest;
use crate::digest::FieldHasher;
use crate::paths::{DEPENDENCY, GENERATED, TEMPORARY};

/// A tree, or a part of one, at a path in a context.
#[derive(Clone, Debug)]
pub struct ContextPart {
    /// The path of the folder that is shown to users, relative to the workspace root.
    pub shown: String,
    /// The path in the context.
    at: PathBuf,
    tree: Arc<Tree>,
    /// The indices of the entries that are included, sorted.
    included: Vec<u32>,
    /// The index of the Dockerfile, if it is included although it is ignored.
    ignored: Option<u32>,
}

/// The entries that the engine receives for one image, with their digests. Sending checks
/// that the files still have these digests.
#[derive(Clone, Debug)]
pub struct Context {
    parts: Vec<ContextPart>,
    digest: Digest,
    linked_dockerfile: Option<Arc<Self>>,
    /// The folders that the Dockerfile calls by names.
    named: Vec<(String, Arc<Self>)>,
}

/// Identifies an entry of a [`Context`].
#[derive(Clone, Copy, Debug)]
pub struct EntryIndex {
    part: usize,
    position: usize,
}

/// One entry of a context.
#[derive(Clone, Copy, Debug)]
pub struct ContextEntry<'a> {
    /// The part that contains it.
    pub part: &'a ContextPart,
    /// The entry of the part's tree.
    pub entry: &'a Entry,
    /// The digest of its contents.
    pub digest: Digest,
    /// Whether it is an ignored Dockerfile, which instructions must not be able to read.
    pub is_ignored: bool,
}

impl ContextEntry<'_> {
    /// Its path in the context.
    pub fn path(&self) -> PathBuf {
        self.part.path(self.entry)
    }

    /// Its type, mode and digest, encoded for fingerprints and comparisons.
    pub fn value(&self) -> [u8; 37] {
        let mut value = [0; 37];
        value[0] = match self.entry.kind {
            Kind::Folder => b'd',
            Kind::Link => b'l',
            Kind::File => b'f',
            Kind::Fifo => b'p',
            Kind::CharDevice(_) => b'c',
            Kind::BlockDevice(_) => b'b',
        };
        value[1..5].copy_from_slice(&self.entry.mode.to_le_bytes());
        value[5..].copy_from_slice(self.digest.as_bytes());
        value
    }

    /// Its path that is shown to users, relative to the workspace root.
    pub fn shown(&self) -> String {
        let path = self.entry.path.display();
        match self.part.shown.as_str() {
            "" => path.to_string(),
            shown if self.entry.path.as_os_str().is_empty() => shown.to_owned(),
            shown => format!("{shown}/{path}"),
        }
    }
}

impl ContextPart {
    /// The folder that is sent, for the Dockerfile at `dockerfile` in it, if it is in it.
    pub(crate) fn own(
        shown: String,
        tree: Arc<Tree>,
        ignore: &Dockerignore,
        dockerfile: Option<&Path>,
    ) -> Self {
        let mut part =
            Self { shown, at: PathBuf::new(), tree, included: Vec::new(), ignored: None };
        part.keep(ignore, |entry| !entry.path.as_os_str().is_empty());
        let found = dockerfile.and_then(|dockerfile| part.tree.find(dockerfile));
        if let Some(index) = found.and_then(|index| u32::try_from(index).ok())
            && let Err(position) = part.included.binary_search(&index)
        {
            part.included.insert(position, index);
            part.ignored = Some(index);
        }
        part
    }

    /// The folder of a dependency, without the folders that exist only during a round.
    pub(crate) fn dependency(
        name: &str,
        shown: String,
        tree: Arc<Tree>,
        ignore: &Dockerignore,
    ) -> Self {
        let at = Path::new(DEPENDENCY).join(name);
        let mut part = Self { shown, at, tree, included: Vec::new(), ignored: None };
        part.keep(ignore, |entry| {
            let top = first_component(&entry.path);
            TEMPORARY.iter().all(|name| top != name.as_bytes())
        });
        part
    }

    /// The `generated/` of a dependency: a folder in `tree`, or, if it `is_cached` elsewhere,
    /// all of `tree`.
    pub(crate) fn generated(
        name: &str,
        shown: String,
        tree: Arc<Tree>,
        is_cached: bool,
        ignore: &Dockerignore,
    ) -> Self {
        let at = Path::new(DEPENDENCY).join(name);
        let (at, shown) = if is_cached {
            (at.join(GENERATED), format!("{shown}/{GENERATED}"))
        } else {
            (at, shown)
        };
        let mut part = Self { shown, at, tree, included: Vec::new(), ignored: None };
        part.keep(ignore, |entry| {
            is_cached || first_component(&entry.path) == GENERATED.as_bytes()
        });
        part
    }

    /// Whether there is a regular file at a path of the tree.
    pub(crate) fn has_file(&self, path: &Path) -> bool {
        let found = self.tree.find(path).and_then(|index| self.tree.entries().get(index));
        found.is_some_and(|entry| entry.kind == Kind::File)
    }

    /// A whole tree, except for top-level entries of these names.
    pub fn without(shown: String, tree: Arc<Tree>, excluded: &[&str]) -> Self {
        let mut part =
            Self { shown, at: PathBuf::new(), tree, included: Vec::new(), ignored: None };
        part.keep(&Dockerignore::default(), |entry| {
            let top = first_component(&entry.path);
            !top.is_empty() && excluded.iter().all(|name| top != name.as_bytes())
        });
        part
    }

    /// Includes the entries that are wanted and not ignored. An ignored folder is included if
    /// an entry in it is.
    fn keep(&mut self, ignore: &Dockerignore, is_wanted: impl Fn(&Entry) -> bool) {
        let mut ignored: Vec<u32> = Vec::new();
        for (index, entry) in (0u32..).zip(self.tree.entries()) {
            if !is_wanted(entry) {
                continue;
            }
            // An unreadable folder may contain entries that are not ignored: include it, so
            // that reading it fails.
            let is_left_out = |path: &str| {
                ignore.ignores(path) && !(entry.is_unreadable && ignore.may_keep_below(path))
            };
            let is_ignored = !ignore.is_empty() && is_left_out(&self.path(entry).to_string_lossy());
            if is_ignored {
                if entry.kind == Kind::Folder {
                    ignored.push(index);
                }
                continue;
            }
            let is_parent =
                |index: &u32| entry.path.starts_with(&self.tree.entries()[*index as usize].path);
            self.included.extend(ignored.drain(..).filter(is_parent));
            self.included.push(index);
        }
    }

    /// The included entries, sorted by path.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.included.iter().map(|index| &self.tree.entries()[*index as usize])
    }

    /// The included entries that are digested.
    fn items(&self) -> impl Iterator<Item = ContextEntry<'_>> {
        (0..self.included.len()).filter_map(|position| self.item(position))
    }

    fn item(&self, position: usize) -> Option<ContextEntry<'_>> {
        let index = *self.included.get(position)?;
        let entry = self.tree.entries().get(index as usize)?;
        let is_ignored = self.ignored == Some(index);
        Some(ContextEntry { part: self, entry, digest: entry.digest()?, is_ignored })
    }

    /// Excludes entries by path and value; only those that `may_be_excluded` are digested.
    pub(crate) fn exclude(
        &mut self,
        may_be_excluded: impl Fn(&Path) -> bool,
        is_excluded: impl Fn(&Path, &[u8]) -> bool,
    ) -> io::Result<()> {
        let path = |index: &u32| self.tree.entries()[*index as usize].path.as_path();
        let candidates = self.included.iter().copied();
        let candidates: Vec<u32> =
            candidates.filter(|index| may_be_excluded(path(index))).collect();
        self.tree.digest(&candidates)?;
        let is_included: Vec<bool> = (0..self.included.len())
            .map(|position| {
                let item = self.item(position);
                item.is_none_or(|item| !is_excluded(&item.entry.path, &item.value()))
            })
            .collect();
        self.retain(&is_included);
        Ok(())
    }

    /// Excludes entries, given a flag for each of [`ContextPart::entries`].
    pub(crate) fn retain(&mut self, wanted: &[bool]) {
        let mut wanted = wanted.iter();
        self.included.retain(|_| wanted.next() == Some(&true));
    }

    /// Excludes what is at and below these paths of the tree.
    pub(crate) fn leave_out(&mut self, paths: &[PathBuf]) {
        if !paths.is_empty() {
            let entries = self.tree.entries();
            let is_kept = |index: &u32| {
                let path = &entries[*index as usize].path;
                !paths.iter().any(|left_out| path.starts_with(left_out))
            };
            self.included.retain(is_kept);
        }
    }

    /// Digests all entries, and excludes those that the user has no permission to read.
    pub(crate) fn retain_readable(&mut self) -> io::Result<()> {
        self.included = self.tree.digest_readable(&self.included)?;
        Ok(())
    }

    /// Excludes and returns the entries that the user has no permission to read.
    pub(crate) fn take_unreadable(&mut self) -> Vec<&Entry> {
        let tree = &self.tree;
        let is_readable = |entry: &Entry| match entry.kind {
            Kind::Folder => !entry.is_unreadable,
            Kind::File => access(tree.source_path(entry), Access::READ_OK) != Err(Errno::ACCESS),
            _ => true,
        };
        let (readable, unreadable): (Vec<u32>, Vec<u32>) =
            self.included.iter().partition(|index| is_readable(&tree.entries()[**index as usize]));
        self.included = readable;
        unreadable.into_iter().map(|index| &tree.entries()[index as usize]).collect()
    }

    /// The digest of the entry at a path of the tree; `None` if there is none.
    pub(crate) fn digest(&self, path: &Path) -> io::Result<Option<Digest>> {
        let Some(index) = self.tree.find(path) else { return Ok(None) };
        self.tree.digest(&u32::try_from(index).into_iter().collect::<Vec<_>>())?;
        Ok(self.tree.entries()[index].digest())
    }

    /// The path of an entry in the file system.
    pub fn source_path(&self, entry: &Entry) -> PathBuf {
        self.tree.source_path(entry)
    }

    /// The components of an entry's path in the context.
    pub fn path_components<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = &'a OsStr> {
        self.at.iter().chain(entry.path.iter())
    }

    /// The path of an entry in the context.
    pub fn path(&self, entry: &Entry) -> PathBuf {
        match (self.at.as_os_str().is_empty(), entry.path.as_os_str().is_empty()) {
            (_, true) => self.at.clone(),
            (true, false) => entry.path.clone(),
            (false, false) => self.at.join(&entry.path),
        }
    }
}

impl Context {
    /// Combines parts and digests their entries.
    pub fn read(parts: Vec<ContextPart>) -> io::Result<Self> {
        for part in &parts {
            part.tree.digest(&part.included)?;
        }
        let digest = Digest::from_bytes([0; 32]);
        let mut context = Self { parts, digest, linked_dockerfile: None, named: Vec::new() };
        let mut fields = FieldHasher::default();
        for item in context.items() {
            let path = item.entry.path.as_os_str().as_bytes();
            let slash = if path.is_empty() { &b""[..] } else { b"/" };
            let (shown, at) = (item.part.shown.as_bytes(), item.part.at.as_os_str().as_bytes());
            if at.is_empty() {
                fields.add_joined(&[shown, slash, path]);
            } else {
                // A dependency has another path in the context once its name is another.
                fields.add_joined(&[shown, slash, path, b"\0", at, slash, path]);
            }
            fields.add(&item.value());
        }
        context.digest = fields.finish();
        Ok(context)
    }

    /// Adds the file that links lead to at the Dockerfile's path. It is not part of the digest.
    pub(crate) fn with_linked_dockerfile(mut self, file: ContextPart) -> io::Result<Self> {
        self.linked_dockerfile = Some(Arc::new(Self::read(vec![file])?));
        Ok(self)
    }

    /// Adds a folder that the Dockerfile calls by a name.
    pub(crate) fn with_named(mut self, name: &str, folder: Self) -> Self {
        let mut fields = FieldHasher::default();
        fields.add(self.digest.as_bytes());
        fields.add(name.as_bytes());
        fields.add(folder.digest.as_bytes());
        self.digest = fields.finish();
        self.named.push((name.to_owned(), Arc::new(folder)));
        self
    }

    /// The folders that the Dockerfile calls by names.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.named.iter().map(|(name, folder)| (name.as_str(), folder.as_ref()))
    }

    /// The file that links lead to at the Dockerfile's path, as a context of its own; `None` if
    /// the Dockerfile is a regular file of this context.
    pub fn linked_dockerfile(&self) -> Option<&Self> {
        self.linked_dockerfile.as_deref()
    }

    /// The digest of all paths, types, modes and contents.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether it contains anything under `dependency/`.
    pub fn has_dependencies(&self) -> bool {
        self.parts.iter().any(|part| part.at.starts_with(DEPENDENCY) && !part.included.is_empty())
    }

    /// The paths in the context of the folders of dependencies, with those that are shown.
    pub(crate) fn places(&self) -> impl Iterator<Item = (&Path, &str)> {
        let parts = self.parts.iter().filter(|part| !part.included.is_empty());
        let places = parts.map(|part| (part.at.as_path(), part.shown.as_str()));
        places.filter(|(at, _)| !at.as_os_str().is_empty() && !at.ends_with(GENERATED))
    }

    /// All entries, part by part, each part sorted by path.
    pub fn items(&self) -> impl Iterator<Item = ContextEntry<'_>> {
        self.parts.iter().flat_map(ContextPart::items)
    }

    /// The indices of all entries, in the order of [`Context::items`].
    pub fn indices(&self) -> impl Iterator<Item = EntryIndex> {
        let parts = self.parts.iter().enumerate();
        parts.flat_map(|(part, entries)| {
            (0..entries.included.len()).map(move |position| EntryIndex { part, position })
        })
    }

    /// The entry at an index.
    pub fn item(&self, index: EntryIndex) -> Option<ContextEntry<'_>> {
        self.parts.get(index.part)?.item(index.position)
    }

    /// The total size of all files, in bytes.
    pub fn size(&self) -> u64 {
        let own: u64 = self.items().map(|item| item.entry.size()).sum();
        own + self.named().map(|(_, folder)| folder.size()).sum::<u64>()
    }
}

/// Finds the files with several names: the first path of each, by part, device and inode.
#[derive(Debug, Default)]
pub struct HardLinks(HashMap<(String, u64, u64), (PathBuf, Digest)>);

impl HardLinks {
    /// The path of an earlier entry of the same part that is a hard link to the same file.
    /// Must be called for all entries, in order.
    pub fn first_path(&mut self, item: &ContextEntry<'_>) -> Option<PathBuf> {
        let (device, inode) = item.entry.inode?;
        let (first, digest) = match self.0.entry((item.part.shown.clone(), device, inode)) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(new) => {
                new.insert((item.path(), item.digest));
                return None;
            }
        };
        (*digest == item.digest).then(|| first.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn tree(folder: &Path) -> Arc<Tree> {
        Arc::new(Tree::read(folder, &[]).unwrap())
    }

    fn paths(part: &ContextPart) -> Vec<String> {
        part.entries().map(|entry| part.path(entry).display().to_string()).collect()
    }

    #[test]
    fn dependencies_are_included_without_their_own_dependencies() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["y", "dependency/c/z", "generated/g"] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let of = |ignore: &str| {
            let (ignore, tree) = (Dockerignore::parse(ignore).unwrap(), tree(dir.path()));
            let folder = ContextPart::dependency("b", "src/b".into(), Arc::clone(&tree), &ignore);
            let generated = ContextPart::generated("b", "src/b".into(), tree, false, &ignore);
            [paths(&folder), paths(&generated)]
        };
        let generated = ["dependency/b/generated", "dependency/b/generated/g"];
        assert_eq!(of(""), [vec!["dependency/b", "dependency/b/y"], generated.to_vec()]);
        assert_eq!(of("dependency\n!dependency/b/generated/g"), [vec![], generated.to_vec()]);
        assert_eq!(of("dependency/b"), [vec![""; 0], vec![]]);
    }

    #[test]
    fn cached_hook_outputs_equal_those_in_the_folder() {
        let [own, cache] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        fs::create_dir(own.path().join("generated")).unwrap();
        fs::write(own.path().join("generated/g"), "x").unwrap();
        fs::write(cache.path().join("g"), "x").unwrap();
        let items = |folder: &Path, is_cached| {
            let ignore = Dockerignore::default();
            let part =
                ContextPart::generated("b", "src/b".into(), tree(folder), is_cached, &ignore);
            let context = Context::read(vec![part]).unwrap();
            let items = context.items().map(|item| (item.shown(), item.digest));
            (items.collect::<Vec<_>>(), context.digest())
        };
        assert_eq!(items(own.path(), false).0.len(), 2);
        assert_eq!(items(own.path(), false), items(cache.path(), true));
    }

    #[test]
    fn the_digest_depends_on_where_a_dependency_is_in_the_context() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        let [one, other] = ["web", "services/web"].map(|name| {
            let (shown, ignore) = ("services/web".to_owned(), Dockerignore::default());
            let part = ContextPart::dependency(name, shown, tree(dir.path()), &ignore);
            Context::read(vec![part]).unwrap()
        });
        assert_ne!(one.digest(), other.digest());
    }

    #[test]
    fn an_ignored_dockerfile_is_sent_and_links_stay_links() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("build")).unwrap();
        fs::write(dir.path().join("build/a.dockerfile"), "FROM scratch\n").unwrap();
        symlink("/etc", dir.path().join("link")).unwrap();
        let ignore = Dockerignore::parse("build").unwrap();
        let dockerfile = Path::new("build/a.dockerfile");
        let part = ContextPart::own("src/a".into(), tree(dir.path()), &ignore, Some(dockerfile));
        assert_eq!(paths(&part), ["build/a.dockerfile", "link"]);
        assert_eq!(part.entries().last().unwrap().kind, Kind::Link);
    }
}
