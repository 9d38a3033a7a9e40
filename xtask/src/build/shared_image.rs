//! An image in the registry that somebody shared, by its fingerprint.
//!
//! Under the tag `fp-FINGERPRINT` is an index, with an annotation that only sharing writes and
//! with one image for each platform that was shared. So an image that somebody derived from ours
//! and pushed under that tag, with the labels that it inherited, is not taken for ours.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use xtask_core::image_reference;
use xtask_core::staleness::fingerprint::{Fingerprint, LABEL, Manifest};
use xtask_core::workspace::components::Image;

use crate::engine::ImageConfig;
use crate::registry::{ImageIndex, Platform};

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

/// An image in the engine that can be shared.
#[derive(Clone, Debug)]
pub(crate) struct BuiltImage {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) fingerprint: Fingerprint,
    /// What it is for, if that is not what the engine builds for.
    pub(crate) platforms: Vec<String>,
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

/// The platform that an image with these is for, where an engine builds for its `own`; none if it is
/// for several.
pub(crate) fn platform(platforms: &[String], own: &str) -> Option<Platform> {
    match platforms {
        [] => Platform::parse(own),
        [one] => Platform::parse(one),
        _ => None,
    }
}

/// The platforms that are set for an image.
pub(crate) fn platforms(image: &Image) -> Vec<String> {
    image.settings.platforms.iter().map(|platform| platform.value.clone()).collect()
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
