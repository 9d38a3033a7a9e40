//! Names that keep earlier images where an engine removes an image with its last name, as the
//! containerd store does. Without them, undoing an edit would build images again.
//!
//! All of them are tags of one repository, which nobody pulls from.

use std::collections::HashMap;

use xtask_core::staleness::fingerprint::LABEL;
use xtask_core::staleness::image_list::ListedImage;

use crate::engine::api::Engine;
use crate::engine::builder::uses_containerd_store;
use crate::engine::docker::DockerEngine;
use crate::engine::error::EngineError;

/// The repository of all names.
const REPOSITORY: &str = "xtask-kept";

/// The digits of an id that tell it from others.
const DIGITS: usize = 32;

/// An image that has such a name.
#[derive(Debug)]
pub(crate) struct KeptImage {
    pub(crate) id: String,
    pub(crate) bytes: u64,
    /// Whether it has another name as well.
    pub(crate) is_named: bool,
}

impl DockerEngine {
    /// Keeps an image if it would go with its name otherwise.
    pub(super) async fn keep_image(&self, id: &str) -> Result<(), EngineError> {
        let store = self.removes_unnamed.get_or_try_init(async || {
            let info = self.call(self.client.info()).await?;
            Ok::<_, EngineError>(uses_containerd_store(&info))
        });
        if *store.await? { self.tag(id, REPOSITORY, tag(id)).await } else { Ok(()) }
    }

    /// Takes the name away again: the image goes if it has no other one.
    pub(crate) async fn release_image(&self, id: &str) -> Result<(), EngineError> {
        self.remove_image(&format!("{REPOSITORY}:{}", tag(id))).await.map(drop)
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
            KeptImage { bytes: image.size(), is_named, id: image.id }
        });
        Ok(kept.collect())
    }
}

fn tag(id: &str) -> &str {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    hex.get(..DIGITS).unwrap_or(hex)
}
