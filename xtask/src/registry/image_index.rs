//! The manifests that are read and written: an index of images for several platforms, the
//! manifest of one image, and that of an artifact, which is no image.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The media type of an index.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Images for several platforms, under one tag.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImageIndex {
    schema_version: u32,
    pub(crate) media_type: String,
    pub(crate) manifests: Vec<Descriptor>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl ImageIndex {
    pub(crate) fn new(annotations: BTreeMap<String, String>) -> Self {
        let media_type = INDEX.to_owned();
        Self { schema_version: 2, media_type, manifests: Vec::new(), annotations }
    }

    /// The image for a platform.
    pub(crate) fn find(&self, platform: &Platform) -> Option<&Descriptor> {
        let of_platform =
            |it: &&Descriptor| it.platform.as_ref().is_some_and(|it| it.runs(platform));
        self.manifests.iter().find(of_platform)
    }

    /// Puts an image in the place of the one for a platform.
    pub(crate) fn set(&mut self, image: Descriptor, platform: &Platform) {
        let is_replaced =
            |it: &Descriptor| it.platform.as_ref().is_some_and(|it| it.runs(platform));
        self.manifests.retain(|other| !is_replaced(other));
        self.manifests.push(image);
    }
}

/// What leads to a manifest or a blob.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
}

/// What an image runs on.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Platform {
    pub(crate) os: String,
    pub(crate) architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

impl Platform {
    /// Reads `OS/ARCH[/VARIANT]`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/').map(str::to_owned);
        let (os, architecture) = (parts.next()?, parts.next()?);
        Some(Self { os, architecture, variant: parts.next() })
    }

    /// Whether it is the platform that is wanted, as far as both say.
    pub(crate) fn runs(&self, wanted: &Self) -> bool {
        let is_same = self.os == wanted.os && self.architecture == wanted.architecture;
        let variants = self.variant.as_ref().zip(wanted.variant.as_ref());
        is_same && variants.is_none_or(|(one, other)| one == other)
    }
}

/// The manifest of one image.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
}

/// The manifest of an artifact.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Artifact {
    schema_version: u32,
    media_type: String,
    artifact_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Artifact {
    /// The media type of its manifest.
    pub(crate) const MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

    /// What `config` is says what it is.
    pub(crate) fn new(
        config: Descriptor,
        layers: Vec<Descriptor>,
        annotations: BTreeMap<String, String>,
    ) -> Self {
        let media_type = Self::MEDIA_TYPE.to_owned();
        let artifact_type = config.media_type.clone();
        Self { schema_version: 2, media_type, artifact_type, config, layers, annotations }
    }
}
