//! What the engine receives for a build: parts of trees.
//!
//! A context is the component's own folder and, under `dependency/NAME/`, the
//! folders of what it needs, less what `.dockerignore` leaves out and what no
//! instruction can read. A dependency's own `dependency/` is not carried along. The
//! Dockerfile is always sent: without it there is nothing to build.
//!
//! Entries are owned by 0:0, and without the write bits of group and others, so that two
//! people's checkouts are the same. Links are links and not followed, but those of a
//! dependency that lead out of its folder; fifos and devices are what they are, as the docker CLI sends them. The names of one file in one part are
//! hard links to the first of them. Which are is no part of a context's digest: the
//! contents are the same, and no clone or copy keeps it.

use std::collections::{HashMap, hash_map};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, access};
use rustix::io::Errno;

use crate::context::dockerignore::Dockerignore;
use crate::context::hook_outputs::HookOutputs;
use crate::context::tree::{Entry, Kind, Tree, top};
use crate::digest::Digest;
use crate::digest::FieldHasher;
use crate::paths::{DEPENDENCY, GENERATED, TEMPORARY};

/// A tree, or some of it, at a place in a context.
#[derive(Clone, Debug)]
pub struct ContextPart {
    /// The folder as people call it, relative to the workspace root.
    pub shown: String,
    at: PathBuf,
    tree: Arc<Tree>,
    kept: Vec<u32>,
    /// The Dockerfile, if it is kept although it is ignored.
    ignored: Option<u32>,
}

/// What the engine receives for one image, every file of it digested. What is sent
/// later must still have these digests.
#[derive(Clone, Debug)]
pub struct Context {
    parts: Vec<ContextPart>,
    digest: Digest,
}

/// Where an entry of a context is found again.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    part: usize,
    kept: usize,
}

/// One entry of a context.
#[derive(Clone, Copy, Debug)]
pub struct ContextEntry<'a> {
    /// The part that it is from.
    pub part: &'a ContextPart,
    /// What it is there.
    pub entry: &'a Entry,
    /// Of its contents.
    pub digest: Digest,
    /// Whether no instruction may see it: it is the Dockerfile, and ignored.
    pub is_ignored: bool,
}

impl ContextEntry<'_> {
    /// Where it is in the context.
    pub fn path(&self) -> PathBuf {
        self.part.path(self.entry)
    }

    /// All that counts of it besides its path.
    pub fn value(&self) -> [u8; 37] {
        let mut value = [0; 37];
        value[0] = match self.entry.kind {
            Kind::Folder => b'd',
            Kind::Link => b'l',
            Kind::File => b'f',
            Kind::Fifo => b'p',
            Kind::Characters(_) => b'c',
            Kind::Blocks(_) => b'b',
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

impl ContextPart {
    /// A component's own folder, for the Dockerfile at `dockerfile` in it.
    pub fn own(shown: String, tree: Arc<Tree>, ignore: &Dockerignore, dockerfile: &Path) -> Self {
        let mut part = Self { shown, at: PathBuf::new(), tree, kept: Vec::new(), ignored: None };
        part.keep(ignore, |entry| !entry.path.as_os_str().is_empty());
        if let Some(place) = part.tree.find(dockerfile).and_then(|place| u32::try_from(place).ok())
            && let Err(before) = part.kept.binary_search(&place)
        {
            part.kept.insert(before, place);
            part.ignored = Some(place);
        }
        part
    }

    /// What a component gets of another that it needs: all of its folder but what is
    /// there during a round only.
    pub fn dependency(name: &str, shown: String, tree: Arc<Tree>, ignore: &Dockerignore) -> Self {
        let at = Path::new(DEPENDENCY).join(name);
        let mut part = Self { shown, at, tree, kept: Vec::new(), ignored: None };
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
        ignore: &Dockerignore,
    ) -> Self {
        let at = Path::new(DEPENDENCY).join(name);
        let (at, shown) = if is_kept {
            (at.join(GENERATED), format!("{shown}/{GENERATED}"))
        } else {
            (at, shown)
        };
        let mut part = Self { shown, at, tree, kept: Vec::new(), ignored: None };
        part.keep(ignore, |entry| is_kept || top(&entry.path) == GENERATED.as_bytes());
        part
    }

    /// A whole tree, as it is now, without the folders of these names at its top.
    pub fn without(shown: String, tree: Arc<Tree>, left_out: &[&str]) -> Self {
        let mut part = Self { shown, at: PathBuf::new(), tree, kept: Vec::new(), ignored: None };
        part.keep(&Dockerignore::default(), |entry| {
            let top = top(&entry.path);
            !top.is_empty() && left_out.iter().all(|name| top != name.as_bytes())
        });
        part
    }

    /// Keeps what is wanted and not ignored. An ignored folder is kept as the parent
    /// of what is kept in it.
    fn keep(&mut self, ignore: &Dockerignore, is_wanted: impl Fn(&Entry) -> bool) {
        let mut ignored: Vec<u32> = Vec::new();
        for (place, entry) in (0u32..).zip(self.tree.entries()) {
            if !is_wanted(entry) {
                continue;
            }
            // What is in a closed folder, and may not be ignored, cannot be left out.
            let is_left_out = |path: &str| {
                ignore.ignores(path) && !(entry.is_closed && ignore.may_keep_below(path))
            };
            let is_ignored = !ignore.is_empty() && is_left_out(&self.path(entry).to_string_lossy());
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

    /// The same, as far as they are digested.
    fn items(&self) -> impl Iterator<Item = ContextEntry<'_>> {
        (0..self.kept.len()).filter_map(|kept| self.item(kept))
    }

    fn item(&self, kept: usize) -> Option<ContextEntry<'_>> {
        let place = *self.kept.get(kept)?;
        let entry = self.tree.entries().get(place as usize)?;
        let is_ignored = self.ignored == Some(place);
        Some(ContextEntry { part: self, entry, digest: entry.digest()?, is_ignored })
    }

    /// Leaves out what hooks left in the tree, as long as it is that.
    pub fn leave_out(&mut self, outputs: &HookOutputs) -> io::Result<()> {
        let path = |place: &u32| self.tree.entries()[*place as usize].path.as_path();
        let places = self.kept.iter().copied().filter(|place| outputs.has_path(path(place)));
        let places: Vec<u32> = places.collect();
        self.tree.digest(&places)?;
        let left: Vec<bool> = (0..self.kept.len())
            .map(|kept| {
                let item = self.item(kept);
                item.is_none_or(|item| !outputs.has(&item.entry.path, &item.value()))
            })
            .collect();
        self.retain(&left);
        Ok(())
    }

    /// Keeps only those that are wanted, by their place among [`ContextPart::entries`].
    pub fn retain(&mut self, wanted: &[bool]) {
        let mut wanted = wanted.iter();
        self.kept.retain(|_| wanted.next() == Some(&true));
    }

    /// Keeps only what this user may read, all of it digested.
    pub fn retain_readable(&mut self) -> io::Result<()> {
        self.kept = self.tree.digest_readable(&self.kept)?;
        Ok(())
    }

    /// Takes out what this user may not read, and gives that.
    pub fn take_unreadable(&mut self) -> Vec<&Entry> {
        let tree = &self.tree;
        let is_readable = |entry: &Entry| match entry.kind {
            Kind::Folder => !entry.is_closed,
            Kind::File => access(tree.source(entry), Access::READ_OK) != Err(Errno::ACCESS),
            _ => true,
        };
        let (kept, left_out): (Vec<u32>, Vec<u32>) =
            self.kept.iter().partition(|place| is_readable(&tree.entries()[**place as usize]));
        self.kept = kept;
        left_out.into_iter().map(|place| &tree.entries()[place as usize]).collect()
    }

    /// The digest of what is at a path of the tree, if it is there.
    pub fn digest(&self, path: &Path) -> io::Result<Option<Digest>> {
        let Some(place) = self.tree.find(path) else { return Ok(None) };
        self.tree.digest(&u32::try_from(place).into_iter().collect::<Vec<_>>())?;
        Ok(self.tree.entries()[place].digest())
    }

    /// Where an entry of it is now.
    pub fn source(&self, entry: &Entry) -> PathBuf {
        self.tree.source(entry)
    }

    /// The names that make up its path.
    pub fn names<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = &'a OsStr> {
        self.at.iter().chain(entry.path.iter())
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
    pub fn read(parts: Vec<ContextPart>) -> io::Result<Self> {
        for part in &parts {
            part.tree.digest(&part.kept)?;
        }
        let mut context = Self { parts, digest: Digest::from_bytes([0; 32]) };
        let mut fields = FieldHasher::default();
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

    /// Whether anything is in it that a component needs.
    pub fn has_dependencies(&self) -> bool {
        self.parts.iter().any(|part| part.at.starts_with(DEPENDENCY) && !part.kept.is_empty())
    }

    /// What is in it, part by part, sorted by path.
    pub fn items(&self) -> impl Iterator<Item = ContextEntry<'_>> {
        self.parts.iter().flat_map(ContextPart::items)
    }

    /// Where everything in it is found again, in the same order.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        let parts = self.parts.iter().enumerate();
        parts.flat_map(|(part, it)| (0..it.kept.len()).map(move |kept| Place { part, kept }))
    }

    /// What is at a place of it.
    pub fn item(&self, place: Place) -> Option<ContextEntry<'_>> {
        self.parts.get(place.part)?.item(place.kept)
    }

    /// All its files together, in bytes.
    pub fn size(&self) -> u64 {
        self.items().map(|item| item.entry.size()).sum()
    }
}

/// The first names of the files that have several, by part, device and inode.
#[derive(Debug, Default)]
pub struct FirstNames(HashMap<(String, u64, u64), (PathBuf, Digest)>);

impl FirstNames {
    /// The path of the same file earlier in the same part, if there is one.
    pub fn before(&mut self, item: &ContextEntry<'_>) -> Option<PathBuf> {
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
    use std::fs;
    use std::os::unix::fs::symlink;

    fn tree(folder: &Path) -> Arc<Tree> {
        Arc::new(Tree::read(folder, &[]).unwrap())
    }

    fn paths(part: &ContextPart) -> Vec<String> {
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
    fn it_does_not_matter_where_what_hooks_made_is_kept() {
        let [own, kept] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        fs::create_dir(own.path().join("generated")).unwrap();
        fs::write(own.path().join("generated/g"), "x").unwrap();
        fs::write(kept.path().join("g"), "x").unwrap();
        let items = |folder: &Path, is_kept| {
            let ignore = Dockerignore::default();
            let part = ContextPart::generated("b", "src/b".into(), tree(folder), is_kept, &ignore);
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
        let ignore = Dockerignore::parse("build").unwrap();
        let dockerfile = Path::new("build/a.dockerfile");
        let part = ContextPart::own("src/a".into(), tree(dir.path()), &ignore, dockerfile);
        assert_eq!(paths(&part), ["build/a.dockerfile", "link"]);
        assert_eq!(part.entries().last().unwrap().kind, Kind::Link);
    }
}
