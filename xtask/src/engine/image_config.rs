//! An image's configuration as it is in a registry, read as what an engine says of an image that it
//! has.

use std::collections::HashMap;

use bollard::models::ImageInspect;
use serde::Deserialize;
use serde_json::{Value, json};
use xtask_core::dockerfile::provenance::ImageFacts;

use crate::engine::api::FoundImage;
use crate::engine::docker::found_image;

/// An image that need not be in the engine.
#[derive(Clone, Debug)]
pub(crate) struct ImageConfig {
    pub(crate) os: String,
    pub(crate) architecture: String,
    pub(crate) variant: Option<String>,
    /// The instructions in its history, oldest first.
    pub(crate) history: Vec<String>,
    /// Its id is the digest of the configuration.
    pub(crate) found: FoundImage,
}

impl ImageConfig {
    /// What its history is compared by.
    pub(crate) fn facts(&self) -> ImageFacts {
        let FoundImage { layers, labels, has_onbuild, platform, .. } = self.found.clone();
        ImageFacts { history: self.history.clone(), layers, labels, has_onbuild, platform }
    }
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
    #[serde(default)]
    config: Value,
    #[serde(default)]
    rootfs: HashMap<String, Value>,
    #[serde(default)]
    history: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    created_by: String,
}

/// Reads a configuration with a digest.
///
/// # Errors
/// It is none.
pub(crate) fn read(digest: &str, bytes: &[u8]) -> Result<ImageConfig, serde_json::Error> {
    let document: Document = serde_json::from_slice(bytes)?;
    let inspect = json!({
        "Id": digest,
        "Architecture": document.architecture,
        "Os": document.os,
        "Config": document.config,
        "RootFS": { "Type": "layers", "Layers": document.rootfs.get("diff_ids") },
    });
    let inspect: ImageInspect = serde_json::from_value(inspect)?;
    Ok(ImageConfig {
        os: document.os,
        architecture: document.architecture,
        variant: document.variant.filter(|variant| !variant.is_empty()),
        history: document.history.into_iter().map(|entry| entry.created_by).collect(),
        found: found_image(inspect),
    })
}
