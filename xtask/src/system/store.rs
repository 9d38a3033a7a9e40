//! What hooks made, by what they made it from: `target/xtask/store/KEY/`.
//!
//! A component with declared inputs whose key is the same as once before need not
//! run its hooks: its `generated/` is here. Folders appear in one piece, and one
//! whose contents are not what they were is not used. The store is kept below a
//! size; what was used longest ago goes first, and nothing that this round used.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use xtask_core::context::build_context::{Context, ContextPart};
use xtask_core::context::hook_outputs::HookOutputs;
use xtask_core::context::tree::{Tree, Wanted};
use xtask_core::context::tree_cache::TreeCache;
use xtask_core::paths::GENERATED;
use xtask_core::staleness::fingerprint::{Fingerprint, Recipe};

use crate::system::state::{self, DIR};
use crate::system::temp_dirs;

/// What a component with declared inputs came to.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Settled {
    /// The fingerprints of its images, by name.
    pub fingerprints: BTreeMap<String, Fingerprint>,
    /// What its hooks left in its folder.
    pub outputs: HookOutputs,
    /// Of what is in its `generated/`, if there was one.
    generated: Option<Fingerprint>,
    /// In bytes.
    size: u64,
}

impl Settled {
    /// Whether the hooks made a `generated/`.
    pub fn has_generated(&self) -> bool {
        self.generated.is_some()
    }
}

/// The store of a workspace.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// In bytes.
    limit: u64,
    used: BTreeSet<String>,
}

impl Store {
    /// The store of the workspace at `root`, kept below `limit` bytes.
    pub fn new(root: &Path, limit: u64) -> Self {
        Self { root: root.to_owned(), limit, used: BTreeSet::new() }
    }

    /// What is kept for a key, if it is still whole.
    pub fn find(&mut self, key: &Fingerprint, trees: &TreeCache) -> Option<Settled> {
        let settled: Settled = state::read(&self.path(key).join("settled"))?;
        if settled.generated.is_some() {
            let contents = trees.folder(&self.generated(key)).ok()?;
            if Some(digest(&contents)) != settled.generated {
                return None;
            }
        }
        self.used.insert(key.to_string());
        Some(settled)
    }

    /// Where a key's `generated/` is kept, relative to the root.
    pub fn generated(&self, key: &Fingerprint) -> String {
        format!("{DIR}/store/{key}/generated")
    }

    /// Keeps the `generated/` of the component in `dir`, and what its images came to.
    pub fn keep(
        &mut self,
        key: &Fingerprint,
        dir: &str,
        fingerprints: BTreeMap<String, Fingerprint>,
        trees: &TreeCache,
    ) -> io::Result<()> {
        let folder = self.path(key);
        remove(&folder)?;
        let unfinished = folder.with_extension("new");
        remove(&unfinished)?;
        fs::create_dir_all(&unfinished)?;
        let own = self.root.join(dir);
        let is_there = own.join(GENERATED).is_dir();
        if is_there {
            // As dependents get it: from here links would lead elsewhere.
            let wanted = |path: &Path| Wanted::itself_if(path.starts_with(GENERATED));
            let tree = Arc::new(Tree::followed(&own, wanted, &[])?);
            let part = ContextPart::without(dir.to_owned(), tree, &[]);
            temp_dirs::copy_parts(&[part], &unfinished)?;
        }
        fs::rename(&unfinished, &folder)?;
        let outputs = trees.outputs(dir);
        let mut settled = Settled { fingerprints, outputs, generated: None, size: 0 };
        if is_there {
            let contents = trees.folder(&self.generated(key));
            let contents = contents.map_err(|problem| io::Error::other(problem.to_string()))?;
            settled.generated = Some(digest(&contents));
            settled.size = contents.size();
        }
        self.used.insert(key.to_string());
        state::write(&folder.join("settled"), &settled)
    }

    /// Notes what was used, and removes what was not for the longest time until the
    /// rest is below the limit.
    pub fn tidy(&self) -> io::Result<()> {
        if self.used.is_empty() {
            return Ok(());
        }
        let Ok(entries) = fs::read_dir(self.root.join(DIR).join("store")) else { return Ok(()) };
        let now = SystemTime::now();
        let mut total = 0;
        let mut unused = Vec::new();
        for entry in entries {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            let file = path.join("settled");
            let Some(settled) = state::read::<Settled>(&file) else {
                remove(&path)?;
                continue;
            };
            total += settled.size;
            if name.to_str().is_some_and(|name| self.used.contains(name)) {
                File::options().append(true).open(&file)?.set_modified(now)?;
            } else {
                unused.push((fs::metadata(&file)?.modified()?, path, settled.size));
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

    fn path(&self, key: &Fingerprint) -> PathBuf {
        self.root.join(DIR).join("store").join(key.to_string())
    }
}

fn digest(contents: &Context) -> Fingerprint {
    let mut recipe = Recipe::default();
    recipe.add_context(contents);
    recipe.fingerprint()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
