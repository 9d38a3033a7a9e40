//! What hooks with declared inputs came to, shared in the registry: with it, other machines need
//! not run them.
//!
//! Under the tag `hooks-KEY-OS-ARCH`, in the repository of the component's first image, is an
//! artifact: its configuration has the fingerprints of the component's images, its layer is
//! `generated/`. Hooks may make programs, so that it counts only for machines like the one that
//! made it.

use std::collections::BTreeMap;
use std::env::consts::{ARCH, OS};

use serde::{Deserialize, Serialize};
use xtask_core::saved;
use xtask_core::staleness::fingerprint::{Fingerprint, LABEL, Manifest};
use xtask_core::workspace::components::{Component, Image};

use crate::build::shared_image;
use crate::engine::digest_of;
use crate::registry::{Artifact, Descriptor};
use crate::system::store::StoreEntry;

/// What the configuration is, and with it the artifact.
const CONFIG: &str = "application/vnd.cargo-xtask.hooks.v1";

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What the tags begin with.
const TAG: &str = "hooks-";

/// What is in the store of a component.
#[derive(Clone, Debug)]
pub(crate) struct SettledHooks {
    /// The image in whose repository it is shared.
    pub(crate) image: String,
    pub(crate) key: Fingerprint,
}

impl SettledHooks {
    /// Of a component with this key; none if it has no image.
    pub(crate) fn new(component: &Component, key: Fingerprint) -> Option<Self> {
        Some(Self { image: image_of(component)?.name.clone(), key })
    }
}

/// What is shared of a component.
#[derive(Deserialize, Serialize)]
pub(crate) struct HookResult {
    pub(crate) entry: StoreEntry,
    /// What its images were made from, by name.
    pub(crate) manifests: BTreeMap<String, Manifest>,
}

/// The image in whose repository a component's results are; none if it has no image.
pub(crate) fn image_of(component: &Component) -> Option<&Image> {
    component.images.iter().next()
}

/// The tag of what hooks with a key come to on machines like this one.
pub(crate) fn tag(key: &Fingerprint) -> String {
    format!("{TAG}{key}-{OS}-{ARCH}")
}

impl HookResult {
    /// What an entry of the store came to; none if hooks did more than others would get, or it is
    /// not known what an image was made from.
    pub(crate) fn new(entry: StoreEntry, manifests: BTreeMap<String, Manifest>) -> Option<Self> {
        Some(Self { entry, manifests }).filter(Self::is_whole)
    }

    fn is_whole(&self) -> bool {
        let Self { entry, manifests } = self;
        let is_known = |(name, fingerprint): (&String, &Fingerprint)| {
            manifests.get(name).is_some_and(|it| it.fingerprint == *fingerprint)
        };
        entry.is_portable() && entry.fingerprints.iter().all(is_known)
    }

    pub(crate) fn encode(&self) -> std::io::Result<Vec<u8>> {
        saved::encode(self)
    }

    /// Reads what another machine encoded; none if it is not that.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        saved::decode::<Self>(bytes).filter(Self::is_whole)
    }
}

/// The manifest of a result, which says for which image it is kept.
pub(crate) fn artifact(config: &[u8], layer: &[u8], image: &Fingerprint) -> Artifact {
    let descriptor = |media_type: &str, bytes: &[u8]| Descriptor {
        media_type: media_type.to_owned(),
        digest: digest_of(bytes),
        size: bytes.len(),
        platform: None,
    };
    let annotations = BTreeMap::from([
        (LABEL.to_owned(), image.to_string()),
        (shared_image::CREATED.to_owned(), shared_image::now()),
    ]);
    Artifact::new(descriptor(CONFIG, config), vec![descriptor(LAYER, layer)], annotations)
}

/// The fingerprint of the image for which a result is kept; none if a tag leads to something else.
pub(crate) fn image_fingerprint(tag: &str, manifest: &[u8]) -> Option<String> {
    let artifact: Artifact = serde_json::from_slice(manifest).ok()?;
    let is_result = tag.starts_with(TAG) && artifact.config.media_type == CONFIG;
    artifact.annotations.get(LABEL).filter(|_| is_result).cloned()
}

/// Reads the manifest of a result; none if it is something else.
pub(crate) fn read_artifact(bytes: &[u8]) -> Option<(Descriptor, Descriptor)> {
    let artifact: Artifact = serde_json::from_slice(bytes).ok()?;
    let [layer] = <[Descriptor; 1]>::try_from(artifact.layers).ok()?;
    (artifact.config.media_type == CONFIG && layer.media_type == LAYER)
        .then_some((artifact.config, layer))
}
