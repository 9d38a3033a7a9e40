//! What a context is made from, before anything is read: a component's folder, what its
//! Dockerfile can read of it, and the components that are put under `dependency/`.

use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::dockerfile::context_reads::ContextReads;
use crate::paths::{DEPENDENCY, GENERATED};
use crate::workspace::components::{Component, Image};

/// A component that another one gets under `dependency/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DependencyFolder {
    /// Its name.
    pub name: String,
    /// Where its `generated/` is kept, if that is not in its folder.
    pub generated: Option<PathBuf>,
}

/// What a context is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContextSpec {
    /// The component's folder, relative to the root.
    pub dir: String,
    /// The Dockerfile, relative to that folder.
    pub dockerfile: PathBuf,
    /// What it can read.
    pub sources: ContextReads,
    /// Of the Dockerfile that says so.
    pub written: Digest,
    /// What is streamed under `dependency/`.
    pub needed: Vec<DependencyFolder>,
}

impl DependencyFolder {
    /// Where it is in the context.
    pub fn at(&self) -> PathBuf {
        Path::new(DEPENDENCY).join(&self.name)
    }
}

impl ContextSpec {
    /// A component's own folder, for one of its images.
    pub fn own(component: &Component, image: &Image) -> Self {
        let dockerfile = PathBuf::from(component.in_context(image));
        Self {
            dir: component.dir(),
            dockerfile,
            sources: image.sources.clone(),
            written: image.digest,
            needed: Vec::new(),
        }
    }

    /// With these components that it needs, each in its own folder.
    pub fn with(self, needed: Vec<String>) -> Self {
        let needed =
            needed.into_iter().map(|name| DependencyFolder { name, generated: None }).collect();
        Self { needed, ..self }
    }

    /// Where a path of the context lies, if anything may be there.
    pub fn on_disk(&self, root: &Path, path: &Path, has_generated: bool) -> Option<PathBuf> {
        let mut needed = self.needed.iter();
        let below = needed.find_map(|it| Some((path.strip_prefix(it.at()).ok()?, it)));
        let Some((path, needed)) = below else {
            return Some(root.join(&self.dir).join(path));
        };
        match (path.strip_prefix(GENERATED), &needed.generated) {
            (Ok(_), _) if !has_generated => None,
            (Ok(path), Some(kept)) => Some(root.join(kept).join(path)),
            _ if path.starts_with(DEPENDENCY) => None,
            _ => Some(root.join("src").join(&needed.name).join(path)),
        }
    }
}
