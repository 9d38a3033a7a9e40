//! The outputs of hooks by the key of their inputs: `target/xtask/store/KEY/`.
//!
//! If a component with declared inputs has the key of an earlier build, its hooks need not run: its
//! `generated/` is here. Entries are written atomically, and one whose contents changed is not
//! used. The store is kept below a size limit: entries that this round did not use are removed,
//! least recently used first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use tar::{Archive, Builder};
use xtask_core::context::build_context::{Context, ContextPart};
use xtask_core::context::hook_outputs::HookOutputs;
use xtask_core::context::tree::{Tree, Wanted};
use xtask_core::context::tree_cache::TreeCache;
use xtask_core::paths::GENERATED;
use xtask_core::staleness::fingerprint::{Fingerprint, Manifest, Recipe};

use crate::system::removal::remove;
use crate::system::state::{self, DIR};
use crate::system::temp_dirs;

/// What is said of an archive that is not that of its entry.
const OTHER_FILES: &str = "it has other files than it says";

/// The file of an entry, beside its `generated/`.
const ENTRY: &str = "settled";

/// The file with what its images were made from.
const MANIFESTS: &str = "manifests";

/// The result of building a component with declared inputs.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct StoreEntry {
    /// The fingerprints of its images, by name.
    pub(crate) fingerprints: BTreeMap<String, Fingerprint>,
    /// The files that its hooks left in its folder.
    pub(crate) outputs: HookOutputs,
    /// The fingerprint of its `generated/`, if there was one.
    generated: Option<Fingerprint>,
    /// The size of its `generated/` in bytes.
    size: u64,
}

impl StoreEntry {
    pub(crate) fn has_generated(&self) -> bool {
        self.generated.is_some()
    }

    /// Whether its hooks left nothing but `generated/`, so that it is all that they did.
    pub(crate) fn is_portable(&self) -> bool {
        self.outputs.is_empty()
    }
}

/// The store of a workspace.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    /// In bytes.
    limit: u64,
    /// The keys that this round used.
    used: BTreeSet<String>,
}

impl Store {
    /// The store of the workspace at `root`, limited to `limit` bytes.
    pub(crate) fn new(root: &Path, limit: u64) -> Self {
        Self { root: root.to_owned(), limit, used: BTreeSet::new() }
    }

    /// The entry of a key, if its contents are unchanged.
    pub(crate) fn find(&mut self, key: &Fingerprint, trees: &TreeCache) -> Option<StoreEntry> {
        let entry = self.entry(key)?;
        if entry.generated.is_some() {
            let contents = contents(key, trees).ok()?;
            if Some(digest(&contents)) != entry.generated {
                return None;
            }
        }
        self.used.insert(key.to_string());
        Some(entry)
    }

    /// The entry of a key that was found or inserted in this round.
    pub(crate) fn entry(&self, key: &Fingerprint) -> Option<StoreEntry> {
        state::read(&self.path(key).join(ENTRY))
    }

    /// What an entry's images were made from, by name, as far as that was noted.
    pub(crate) fn manifests(&self, key: &Fingerprint) -> BTreeMap<String, Manifest> {
        state::read(&self.path(key).join(MANIFESTS)).unwrap_or_default()
    }

    /// Notes what an entry's images were made from.
    pub(crate) fn set_manifests(
        &self,
        key: &Fingerprint,
        manifests: &BTreeMap<String, Manifest>,
    ) -> io::Result<()> {
        state::write(&self.path(key).join(MANIFESTS), manifests)
    }

    /// The path of a key's `generated/`, relative to the root.
    pub(crate) fn generated(key: &Fingerprint) -> String {
        format!("{DIR}/store/{key}/generated")
    }

    /// Stores the `generated/` of the component in `dir`, and the fingerprints of its images.
    pub(crate) fn insert(
        &mut self,
        key: &Fingerprint,
        dir: &str,
        fingerprints: BTreeMap<String, Fingerprint>,
        trees: &TreeCache,
    ) -> io::Result<()> {
        let (folder, unfinished) = self.begin(key)?;
        let component = self.root.join(dir);
        let has_generated = component.join(GENERATED).is_dir();
        if has_generated {
            // As dependents get it: a relative link would lead elsewhere from here.
            let wanted = |path: &Path| Wanted::itself_if(path.starts_with(GENERATED));
            let tree = Arc::new(Tree::read_following_links(&component, wanted, &[])?);
            let part = ContextPart::without(dir.to_owned(), tree, &[]);
            temp_dirs::copy_parts(&[part], &unfinished)?;
        }
        fs::rename(&unfinished, &folder)?;
        let outputs = trees.outputs(dir);
        let mut entry = StoreEntry { fingerprints, outputs, generated: None, size: 0 };
        if has_generated {
            let contents = contents(key, trees)?;
            entry.generated = Some(digest(&contents));
            entry.size = contents.size();
        }
        self.used.insert(key.to_string());
        state::write(&folder.join(ENTRY), &entry)
    }

    /// Adds an entry of another machine, with the archive of its `generated/`, and returns it.
    ///
    /// # Errors
    /// The archive is invalid, has other files than the entry says, or cannot be unpacked.
    pub(crate) fn insert_packed(
        &mut self,
        key: &Fingerprint,
        mut entry: StoreEntry,
        archive: &[u8],
        trees: &TreeCache,
    ) -> io::Result<StoreEntry> {
        let (folder, unfinished) = self.begin(key)?;
        let mut archive = Archive::new(GzDecoder::new(archive).take(self.limit));
        archive.set_preserve_permissions(true);
        archive.unpack(&unfinished)?;
        fs::rename(&unfinished, &folder)?;
        if entry.has_generated() {
            // Of an entry that was there and damaged.
            trees.invalidate_path(Path::new(&Self::generated(key)));
            let contents = contents(key, trees)?;
            if Some(digest(&contents)) != entry.generated {
                remove(&folder)?;
                return Err(io::Error::other(OTHER_FILES));
            }
            entry.size = contents.size();
        }
        self.used.insert(key.to_string());
        state::write(&folder.join(ENTRY), &entry)?;
        Ok(entry)
    }

    /// The archive of an entry's `generated/`.
    pub(crate) fn pack(&self, key: &Fingerprint) -> io::Result<Vec<u8>> {
        let mut archive = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        archive.follow_symlinks(false);
        let generated = self.path(key).join(GENERATED);
        if generated.is_dir() {
            archive.append_dir_all(GENERATED, generated)?;
        }
        archive.into_inner()?.finish()
    }

    /// Updates the times of used entries, and removes the least recently used ones above the limit.
    pub(crate) fn evict(&self) -> io::Result<()> {
        if self.used.is_empty() {
            return Ok(());
        }
        let Ok(folders) = fs::read_dir(self.root.join(DIR).join("store")) else { return Ok(()) };
        let now = SystemTime::now();
        let mut total = 0;
        let mut unused = Vec::new();
        for folder in folders {
            let folder = folder?;
            let (path, name) = (folder.path(), folder.file_name());
            let file = path.join(ENTRY);
            let Some(entry) = state::read::<StoreEntry>(&file) else {
                remove(&path)?;
                continue;
            };
            total += entry.size;
            if name.to_str().is_some_and(|name| self.used.contains(name)) {
                File::options().append(true).open(&file)?.set_modified(now)?;
            } else {
                unused.push((fs::metadata(&file)?.modified()?, path, entry.size));
            }
        }
        unused.sort();
        for (_, path, size) in unused {
            if total <= self.limit {
                break;
            }
            remove(&path)?;
            total -= size;
        }
        Ok(())
    }

    /// The folder of an entry that is written anew, and the one that is to be renamed to it.
    fn begin(&self, key: &Fingerprint) -> io::Result<(PathBuf, PathBuf)> {
        let folder = self.path(key);
        remove(&folder)?;
        let unfinished = folder.with_extension("new");
        remove(&unfinished)?;
        fs::create_dir_all(&unfinished)?;
        Ok((folder, unfinished))
    }

    fn path(&self, key: &Fingerprint) -> PathBuf {
        self.root.join(DIR).join("store").join(key.to_string())
    }
}

/// What is in a key's `generated/`.
fn contents(key: &Fingerprint, trees: &TreeCache) -> io::Result<Context> {
    let contents = trees.folder(&Store::generated(key));
    contents.map_err(|problem| io::Error::other(problem.to_string()))
}

fn digest(contents: &Context) -> Fingerprint {
    let mut recipe = Recipe::default();
    recipe.add_context(contents);
    recipe.fingerprint()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use xtask_core::context::tree_cache::Memory;

    use super::*;

    /// Adds a hostile entry to a store, and says why that failed.
    fn refused(root: &Path, limit: u64, add: impl FnOnce(&mut Builder<&mut Vec<u8>>)) -> String {
        let mut tar = Vec::new();
        let mut archive = Builder::new(&mut tar);
        add(&mut archive);
        archive.into_inner().unwrap();
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&tar).unwrap();
        let packed = packed.finish().unwrap();
        let key = Recipe::default().fingerprint();
        let entry = StoreEntry {
            fingerprints: BTreeMap::new(),
            outputs: HookOutputs::default(),
            generated: Some(key.clone()),
            size: 0,
        };
        let (mut store, trees) = (Store::new(root, limit), TreeCache::new(root, Memory::default()));
        let error = store.insert_packed(&key, entry, &packed, &trees).unwrap_err();
        assert!(store.find(&key, &trees).is_none());
        error.to_string()
    }

    fn file(archive: &mut Builder<&mut Vec<u8>>, path: &str, contents: &[u8]) {
        let mut header = tar::Header::new_gnu();
        // A path that the library would refuse to write.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append(&header, contents).unwrap();
    }

    fn link(archive: &mut Builder<&mut Vec<u8>>, path: &str, target: &Path) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, path, target).unwrap();
    }

    #[test]
    fn an_archive_of_another_machine_writes_nothing_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
        fs::create_dir_all(&outside).unwrap();
        let up = "../".repeat(5);
        refused(&root, 1 << 20, |it| file(it, &format!("{up}outside/evil"), b"evil"));
        let absolute = outside.join("evil");
        refused(&root, 1 << 20, |it| file(it, absolute.to_str().unwrap(), b"evil"));
        refused(&root, 1 << 20, |it| {
            link(it, "generated", &outside);
            file(it, "generated/evil", b"evil");
        });
        refused(&root, 1 << 20, |it| {
            file(it, "generated/a", b"");
            link(it, "generated/b", &outside);
            file(it, "generated/b/evil", b"evil");
        });
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn an_archive_that_unpacks_to_more_than_the_limit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let large = vec![0; 1 << 20];
        for (limit, is_unpacked) in [(2 << 20, true), (1 << 18, false)] {
            let why = refused(folder.path(), limit, |it| file(it, "generated/zeros", &large));
            assert_eq!(why == OTHER_FILES, is_unpacked, "{why}");
        }
    }
}
