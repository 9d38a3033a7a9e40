//! An image in the registry that somebody shared, by its fingerprint.
//!
//! Under the tag `fp-FINGERPRINT` is an index, with an annotation that only sharing writes and
//! with one image for each platform that was shared. So an image that somebody derived from ours
//! and pushed under that tag, with the labels that it inherited, is not taken for ours.

use std::collections::BTreeMap;
use std::fmt;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use xtask_core::image_reference;
use xtask_core::staleness::fingerprint::{Fingerprint, LABEL, Manifest};
use xtask_core::workspace::components::Image;
use xtask_core::workspace::config::settings::ImageSettings;

use crate::engine::{ImageConfig, read_image_config};
use crate::registry::{self, Client, ImageIndex, Platform, RegistryError};

/// The annotation with the time at which an index was written first.
pub(crate) const CREATED: &str = "org.opencontainers.image.created";

const FINGERPRINT_DIGITS: usize = 64;

/// An image in the registry, checked, and not pulled yet.
#[derive(Debug)]
pub(crate) struct SharedImage {
    pub(crate) fingerprint: Fingerprint,
    /// What it was made from.
    pub(crate) manifest: Manifest,
    /// `HOST/PATH/IMAGE@DIGEST`.
    pub(crate) reference: String,
    pub(crate) config: ImageConfig,
}

/// An image in the engine that is to be shared.
#[derive(Clone, Debug)]
pub(crate) struct BuiltImage {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) fingerprint: Fingerprint,
    /// The images of the workspace that it uses, by their references in its Dockerfile.
    pub(crate) uses: BTreeMap<String, String>,
    /// The platform that is set for it; none if that is the engine's own.
    pub(crate) platform: Result<Option<String>, Obstacle>,
}

/// Why an image is neither shared nor taken from a registry: by its fingerprint is found one image
/// for one platform, and nothing beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Obstacle {
    SeveralPlatforms,
    Attestations,
    /// A registry's port in its name cannot stand behind a prefix.
    Name,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SeveralPlatforms => "for several platforms",
            Self::Attestations => "with attestations",
            Self::Name => "with the port of a registry in their names",
        })
    }
}

/// What the registry has under a fingerprint, for the platform that is wanted.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The digest of the image's manifest.
    pub(crate) digest: String,
    pub(crate) config: ImageConfig,
}

/// Why something of the registry is not used.
#[derive(Debug)]
pub(crate) enum Rejection {
    Registry(RegistryError),
    /// It is not what its tag says.
    Wrong(&'static str),
    /// What is under the key of hooks is not what they came to.
    Hooks(&'static str),
}

impl From<RegistryError> for Rejection {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

impl BuiltImage {
    pub(crate) fn new(image: &Image, id: String, fingerprint: Fingerprint) -> Self {
        let uses = image.uses.iter();
        let uses = uses.filter_map(|used| Some((used.reference.clone(), used.local.clone()?)));
        let (name, uses) = (image.name.clone(), uses.collect());
        Self { name, id, fingerprint, uses, platform: platform(image) }
    }
}

/// The tag of what was made from the same.
pub(crate) fn tag(fingerprint: &Fingerprint) -> String {
    format!("fp-{fingerprint}")
}

/// The tag under which one platform's image is pushed.
pub(crate) fn platform_tag(fingerprint: &Fingerprint, platform: &Platform) -> String {
    let Platform { os, architecture, variant } = platform;
    let parts = [Some(os), Some(architecture), variant.as_ref()];
    let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    format!("fp-{fingerprint}-{}", parts.join("-"))
}

/// The platform that is set for an image; none if that is the engine's own.
///
/// # Errors
/// The image can be neither shared nor asked for.
pub(crate) fn platform(image: &Image) -> Result<Option<String>, Obstacle> {
    let ImageSettings { platforms, attest, .. } = &image.settings;
    match platforms.as_slice() {
        [_, _, ..] => Err(Obstacle::SeveralPlatforms),
        _ if !attest.is_empty() => Err(Obstacle::Attestations),
        _ if repository(&image.name).contains(':') => Err(Obstacle::Name),
        platforms => Ok(platforms.first().map(|platform| platform.value.clone())),
    }
}

/// The repository of an image's name.
pub(crate) fn repository(image: &str) -> &str {
    image_reference::repository_and_tag(image).0
}

/// The fingerprint that a tag of ours is for, whether it is that of all platforms or of one.
pub(crate) fn fingerprint_of(tag: &str) -> Option<&str> {
    let (digits, rest) = tag.strip_prefix("fp-")?.split_at_checked(FINGERPRINT_DIGITS)?;
    let is_fingerprint = digits.bytes().all(|it| it.is_ascii_hexdigit());
    (is_fingerprint && (rest.is_empty() || rest.starts_with('-'))).then_some(digits)
}

/// An index without an image, made now.
pub(crate) fn new_index(fingerprint: &Fingerprint) -> ImageIndex {
    ImageIndex::new(BTreeMap::from([
        (LABEL.to_owned(), fingerprint.to_string()),
        (CREATED.to_owned(), now()),
    ]))
}

/// When something was shared first, if that is known.
pub(crate) fn shared_at(index: &ImageIndex) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(index.annotations.get(CREATED)?, &Rfc3339).ok()
}

/// The time by RFC 3339, in UTC and to the second.
pub(crate) fn now() -> String {
    let now = OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now);
    now.format(&Rfc3339).unwrap_or_default()
}

/// Reads an index that sharing wrote for a fingerprint; none if it is something else.
pub(crate) fn read_index(bytes: &[u8], fingerprint: &str) -> Option<ImageIndex> {
    let index: ImageIndex = serde_json::from_slice(bytes).ok()?;
    let is_ours = index.annotations.get(LABEL).is_some_and(|it| it == fingerprint);
    is_ours.then_some(index)
}

/// Asks a registry what it has under a fingerprint; none if it has nothing for the platform.
///
/// # Errors
/// The registry does not answer, or has something else there.
pub(crate) async fn look_up(
    client: &Client,
    image: &str,
    fingerprint: &Fingerprint,
    platform: &Platform,
) -> Result<Option<Answer>, Rejection> {
    let name = repository(image);
    let Some(stored) = client.manifest(name, &tag(fingerprint)).await? else { return Ok(None) };
    let index = read_index(&stored.bytes, &fingerprint.to_string())
        .ok_or(Rejection::Wrong("was not written by --share"))?;
    let Some(entry) = index.find(platform) else { return Ok(None) };
    let gone = Rejection::Wrong("leads to an image that is not there");
    let Some(stored) = client.manifest(name, &entry.digest).await? else { return Err(gone) };
    let no_image = |_| Rejection::Wrong("leads to something that is no image");
    let manifest: registry::Manifest = serde_json::from_slice(&stored.bytes).map_err(no_image)?;
    let config = &manifest.config.digest;
    let Some(bytes) = client.blob(name, config).await? else { return Err(gone) };
    let config = read_image_config(config, &bytes).map_err(no_image)?;
    let (os, architecture) = (config.os.clone(), config.architecture.clone());
    let made_for = Platform { os, architecture, variant: config.variant.clone() };
    if !made_for.runs(platform) {
        return Err(Rejection::Wrong("leads to an image for another platform"));
    }
    let held = config.found.held.as_ref();
    if !held.is_some_and(|held| held.has_fingerprint(fingerprint)) {
        return Err(Rejection::Wrong("leads to an image with another fingerprint"));
    }
    Ok(Some(Answer { digest: entry.digest.clone(), config }))
}
