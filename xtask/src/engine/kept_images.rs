//! Names that keep earlier images where an engine removes an image with its last name, as the
//! containerd store does. Without them, undoing an edit would build images again.
//!
//! All of them are tags of one repository, which nobody pulls from. Each is the fingerprint of what
//! it names, so an image is found without a list of all: that takes such an engine some 10 ms for
//! each image that it has, whoever made it (Docker 28.5).

use std::collections::HashMap;

use xtask_core::staleness::fingerprint::LABEL;
use xtask_core::staleness::image_list::ListedImage;

use crate::engine::api::{Engine, Kept};
use crate::engine::builder::uses_containerd_store;
use crate::engine::docker::DockerEngine;
use crate::engine::error::EngineError;

/// The repository of all names.
const REPOSITORY: &str = "xtask-kept";

/// An image that has such a name.
#[derive(Debug)]
pub(crate) struct KeptImage {
    pub(crate) id: String,
    pub(crate) bytes: u64,
    pub(crate) kept_names: Vec<String>,
    /// Whether it has another name as well.
    pub(crate) is_named: bool,
}

impl DockerEngine {
    /// Keeps an image if it would go with its name otherwise, and returns whether it would.
    pub(super) async fn keep_image(
        &self,
        id: &str,
        fingerprint: &str,
    ) -> Result<bool, EngineError> {
        let removes_unnamed = self.removes_unnamed().await?;
        if removes_unnamed {
            self.tag(id, REPOSITORY, fingerprint).await?;
        }
        Ok(removes_unnamed)
    }

    /// Takes the name away again: the image goes if it has no other one.
    pub(super) async fn release_image(&self, fingerprint: &str) -> Result<(), EngineError> {
        // What was never kept need not be released.
        if self.removes_unnamed.get() == Some(&true) {
            self.remove_image(&kept_name(fingerprint)).await?;
        }
        Ok(())
    }

    /// Looks for the image that was kept with a fingerprint.
    pub(super) async fn kept_image(&self, fingerprint: &str) -> Result<Kept, EngineError> {
        if !self.removes_unnamed().await? {
            return Ok(Kept::Unnamed);
        }
        let found = self.image(&kept_name(fingerprint)).await?;
        Ok(Kept::Named(found.and_then(|found| found.held)))
    }

    /// Whether an image goes with its last name.
    async fn removes_unnamed(&self) -> Result<bool, EngineError> {
        let store = self.removes_unnamed.get_or_try_init(async || {
            let info = self.call(self.client.info()).await?;
            Ok::<_, EngineError>(uses_containerd_store(&info))
        });
        Ok(*store.await?)
    }

    /// All images that are kept, by whichever workspace.
    pub(crate) async fn kept_images(&self) -> Result<Vec<KeptImage>, EngineError> {
        // A filter by reference would hide the other names.
        let filters = HashMap::from([("label", vec![LABEL])]);
        let images = self.list_images(&filters).await?;
        let is_kept = |name: &str| name.starts_with(REPOSITORY);
        let kept = images.into_iter().filter(|image| image.names().any(is_kept));
        let kept = kept.map(|image: ListedImage| {
            let is_named = image.names().any(|name| !is_kept(name));
            let kept_names = image.names().filter(|name| is_kept(name)).map(str::to_owned);
            let kept_names = kept_names.collect();
            KeptImage { bytes: image.size(), is_named, kept_names, id: image.id }
        });
        Ok(kept.collect())
    }
}

/// The name that keeps the image with a fingerprint.
fn kept_name(fingerprint: &str) -> String {
    format!("{REPOSITORY}:{fingerprint}")
}
