//! The engine's images that this tool built, compared with those that a build would produce.
//!
//! An image is made from others, which its label names by their ids. Ids differ from engine to
//! engine, so another label has what those images held: where an id is another one, the contents
//! decide, which only the engine can tell.
//!
//! What Bake is to build is labelled before any of it has an id: there the label has the
//! fingerprint of a base, `fingerprint:…`. That is a claim, which the engine has to bear out.

use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::provenance::OWN_LABELS;
use crate::image_reference;
use crate::staleness::fingerprint::{
    BASES_LABEL, CONTENTS_LABEL, EXPORTED_LABEL, Fingerprint, LABEL,
};
use crate::staleness::reason::Reason;

/// The ids of the images that an image uses, by reference.
pub type Bases = BTreeMap<String, String>;

/// What a fingerprint in the place of an id begins with.
const CLAIM: &str = "fingerprint:";

/// What stands for the id of a base that is yet to be built.
pub fn claim(fingerprint: &Fingerprint) -> String {
    format!("{CLAIM}{fingerprint}")
}

/// An image in the engine that has the labels of this tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedImage {
    /// The image id.
    pub id: String,
    fingerprint: String,
    /// None if they are unknown.
    bases: Option<Bases>,
    /// What the bases held, by reference.
    contents: BTreeMap<String, String>,
    /// From which export another tool built it, if one did.
    pub export: Option<String>,
}

impl TrackedImage {
    /// Reads the labels of an image; `None` if it does not have them.
    pub fn from_labels(id: String, label: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let fingerprint = label(LABEL)?;
        let bases = Some(pairs(&label(BASES_LABEL).unwrap_or_default()));
        let contents = pairs(&label(CONTENTS_LABEL).unwrap_or_default());
        let export = label(EXPORTED_LABEL);
        Some(Self { id, fingerprint, bases, contents, export })
    }

    /// An image that the engine cannot be asked about: its bases count as unchanged.
    pub fn on_record(id: String, fingerprint: String) -> Self {
        Self { id, fingerprint, bases: None, contents: BTreeMap::new(), export: None }
    }

    /// The fingerprint in its label.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The images that it was built from.
    pub fn bases(&self) -> impl Iterator<Item = (&String, &String)> {
        self.bases.iter().flatten()
    }

    /// The fingerprints of those bases of which it has no ids, by reference.
    pub fn claims(&self) -> impl Iterator<Item = (&str, &str)> {
        let bases = self.bases();
        bases.filter_map(|(reference, id)| Some((reference.as_str(), id.strip_prefix(CLAIM)?)))
    }

    /// Whether its label has this fingerprint.
    pub fn has_fingerprint(&self, fingerprint: &Fingerprint) -> bool {
        self.fingerprint == fingerprint.to_string()
    }

    /// Whether it was made from these bases; `contents_of` as for [`EngineImages::compare`].
    ///
    /// # Errors
    /// Something is unknown, and the answer depends on it.
    pub fn is_made_from(
        &self,
        bases: &Bases,
        contents_of: impl Fn(&str) -> Option<String>,
    ) -> Result<bool, Unknown> {
        Ok(self.moved_base(bases, &contents_of)?.is_none())
    }

    /// The first base that changed. Bases that the engine does not have are not in `bases`,
    /// and count as unchanged.
    fn moved_base(
        &self,
        bases: &Bases,
        contents_of: &impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Reason>, Unknown> {
        let Some(recorded_bases) = &self.bases else { return Ok(None) };
        for (reference, now) in bases {
            // A build arg may call the same image by another name than it did.
            let is_recorded = recorded_bases.contains_key(reference);
            let is_it = |name: &&String| {
                if is_recorded { *name == reference } else { !bases.contains_key(*name) }
            };
            let recorded: Vec<(&String, &String)> =
                recorded_bases.iter().filter(|(name, _)| is_it(name)).collect();
            if recorded.iter().any(|(_, id)| *id == now) {
                continue;
            }
            if recorded.iter().any(|(_, id)| id.starts_with(CLAIM)) {
                return Err(Unknown::Bases(self.id.clone()));
            }
            let mut contents =
                recorded.iter().filter_map(|(name, _)| self.contents.get(*name)).peekable();
            if contents.peek().is_some() {
                let held = contents_of(now).ok_or_else(|| Unknown::Contents(now.clone()))?;
                if contents.any(|contents| *contents == held) {
                    continue;
                }
            }
            let then = recorded_bases.get(reference).cloned().unwrap_or_default();
            let (reference, now) = (reference.clone(), now.clone());
            return Ok(Some(Reason::BaseMoved { reference, then, now }));
        }
        Ok(None)
    }
}

/// Whether a label is one of this tool's.
pub fn is_own_label(name: &str) -> bool {
    name.starts_with(OWN_LABELS)
}

/// The pairs `NAME=VALUE` of a label.
fn pairs(label: &str) -> BTreeMap<String, String> {
    let pairs = label.split(' ').filter_map(|pair| pair.rsplit_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The labels for an image with this fingerprint and these bases, of which `contents` are known.
pub fn labels(
    fingerprint: &Fingerprint,
    bases: &Bases,
    contents: &BTreeMap<String, String>,
) -> BTreeMap<&'static str, String> {
    let joined = |pairs: &BTreeMap<String, String>| {
        let pairs: Vec<String> = pairs.iter().map(|(name, id)| format!("{name}={id}")).collect();
        pairs.join(" ")
    };
    [
        (LABEL, fingerprint.to_string()),
        (BASES_LABEL, joined(bases)),
        (CONTENTS_LABEL, joined(contents)),
    ]
    .into()
}

/// The engine's images that have the labels of this tool: all of them, or those of some names.
#[derive(Debug, Default)]
pub struct EngineImages {
    by_name: BTreeMap<String, TrackedImage>,
    untagged: Vec<TrackedImage>,
    is_complete: bool,
}

/// Whether this tool built an image that has its labels. Images that are derived from such an
/// image inherit the labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This tool built it.
    Ours,
    /// It was derived from an image that this tool built.
    Foreign,
    /// There is no record of it. The history of the image can tell.
    Unknown,
}

/// How the images in the engine compare with the one that would be built.
#[derive(Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The engine has it.
    UpToDate,
    /// The engine has it, but not under its name.
    Tag {
        /// The image id.
        id: String,
    },
    /// The engine does not have it.
    Stale(Reason),
}

/// What must be determined first, because the decision depends on it.
#[derive(Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The origin of the image with this id.
    Origin(String),
    /// What the image with this id holds.
    Contents(String),
    /// The bases of the image with this id, of which its label has fingerprints.
    Bases(String),
}

impl EngineImages {
    /// An empty list that, once filled, has all images of the engine.
    pub fn complete() -> Self {
        Self { is_complete: true, ..Self::default() }
    }

    /// Whether the list has all images of the engine, and not only those of some names.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Adds the other images from a complete list. Entries that exist already are more recent,
    /// and are kept.
    pub fn merge(&mut self, all: Self) {
        let known: BTreeSet<&str> = self.by_name.values().map(|image| image.id.as_str()).collect();
        let is_new = |image: &TrackedImage| !known.contains(image.id.as_str());
        self.untagged.extend(all.untagged.into_iter().filter(is_new));
        for (name, image) in all.by_name {
            self.by_name.entry(name).or_insert(image);
        }
        self.is_complete = true;
    }

    /// Whether the list has an image of this id.
    pub fn contains(&self, id: &str) -> bool {
        self.by_name.values().chain(&self.untagged).any(|image| image.id == id)
    }

    /// Adds an image with all of its names, which may be none.
    pub fn add(&mut self, names: impl IntoIterator<Item = String>, image: &TrackedImage) {
        let mut is_named = false;
        for name in names {
            self.by_name.insert(name, image.clone());
            is_named = true;
        }
        if !is_named {
            self.untagged.push(image.clone());
        }
    }

    /// Replaces the image with the `latest` tag of a name. The engine may still have the
    /// previous image, without this tag.
    pub fn set_latest(&mut self, name: &str, now: Option<TrackedImage>) {
        let is_replaced =
            |previous: &TrackedImage| now.as_ref().is_none_or(|now| now.id != previous.id);
        if let Some(previous) = self.by_name.remove(&with_tag(name)).filter(is_replaced) {
            self.untagged.push(previous);
        }
        if let Some(now) = now {
            self.by_name.insert(with_tag(name), now);
        }
    }

    /// Puts the ids of bases in the place of what the image of this id claims.
    pub fn set_bases(&mut self, id: &str, bases: &Bases) {
        let all = self.by_name.values_mut().chain(&mut self.untagged);
        for image in all.filter(|image| image.id == id) {
            let known = bases.iter().map(|(name, id)| (name.clone(), id.clone()));
            image.bases.get_or_insert_default().extend(known);
        }
    }

    /// Removes the image of this id.
    pub fn remove(&mut self, id: &str) {
        self.by_name.retain(|_, image| image.id != id);
        self.untagged.retain(|image| image.id != id);
    }

    /// Gives the image of this id the `latest` tag of a name.
    pub fn retag(&mut self, id: &str, name: &str) {
        let mut all = self.by_name.values().chain(&self.untagged);
        if let Some(image) = all.find(|image| image.id == id).cloned() {
            self.by_name.insert(with_tag(name), image);
        }
    }

    /// The image of a reference; the tag defaults to `latest`.
    pub fn get(&self, name: &str) -> Option<&TrackedImage> {
        self.by_name.get(&with_tag(name))
    }

    /// The id of the image of a reference; the tag defaults to `latest`.
    pub fn id(&self, name: &str) -> Option<&str> {
        self.get(name).map(|image| image.id.as_str())
    }

    /// Compares the engine's images with the one that would be built, which has the fingerprint
    /// `wanted` and these `bases`. `origin` returns the origin of an image with that fingerprint,
    /// and `contents_of` what an image holds, if that is known.
    ///
    /// # Errors
    /// Something is unknown, and the decision depends on it.
    pub fn compare(
        &self,
        name: &str,
        wanted: &Fingerprint,
        bases: &Bases,
        origin: impl Fn(&TrackedImage) -> Origin,
        contents_of: impl Fn(&str) -> Option<String>,
    ) -> Result<Comparison, Unknown> {
        let reason = match self.get(name) {
            None => Reason::Missing,
            Some(image) if !image.has_fingerprint(wanted) => {
                Reason::OtherFingerprint { fingerprint: image.fingerprint.clone() }
            }
            Some(image) => match origin(image) {
                Origin::Ours => match image.moved_base(bases, &contents_of)? {
                    None => return Ok(Comparison::UpToDate),
                    Some(moved) => moved,
                },
                Origin::Foreign => Reason::Derived,
                Origin::Unknown => return Err(Unknown::Origin(image.id.clone())),
            },
        };
        let others = self.by_name.values().chain(&self.untagged);
        for image in others.filter(|image| image.has_fingerprint(wanted)) {
            if image.moved_base(bases, &contents_of)?.is_some() {
                continue;
            }
            match origin(image) {
                Origin::Ours => return Ok(Comparison::Tag { id: image.id.clone() }),
                Origin::Unknown => return Err(Unknown::Origin(image.id.clone())),
                Origin::Foreign => {}
            }
        }
        Ok(Comparison::Stale(reason))
    }
}

/// A reference as an engine lists it: without Docker Hub's prefix, and with a tag.
fn with_tag(reference: &str) -> String {
    let reference = image_reference::without_hub(reference);
    let name = reference.rsplit('/').next().unwrap_or(reference);
    if name.contains(':') { reference.to_owned() } else { format!("{reference}:latest") }
}
