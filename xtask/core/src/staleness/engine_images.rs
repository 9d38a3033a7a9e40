//! What an engine holds of our images, and whether that is what we would build.

use std::collections::{BTreeMap, BTreeSet};

use crate::staleness::fingerprint::{BASES_LABEL, Fingerprint, LABEL};
use crate::staleness::reason::Reason;

/// The references and ids of the images that an image is made from.
pub type Bases = BTreeMap<String, String>;

/// An image with our labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedImage {
    /// The engine's id of it.
    pub id: String,
    fingerprint: String,
    bases: Bases,
}

impl TrackedImage {
    /// Reads the labels; none if the image is not one of ours.
    pub fn from_labels(id: String, label: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let fingerprint = label(LABEL)?;
        let bases = label(BASES_LABEL).unwrap_or_default();
        let pairs = bases.split(' ').filter_map(|pair| pair.rsplit_once('='));
        let bases = pairs.map(|(name, id)| (name.to_owned(), id.to_owned())).collect();
        Some(Self { id, fingerprint, bases })
    }

    /// Whether it was made from what comes to this fingerprint.
    pub fn is_of(&self, fingerprint: &Fingerprint) -> bool {
        self.fingerprint == fingerprint.to_string()
    }

    /// The first base that is another one now. One that is not there has not moved.
    fn moved_base(&self, bases: &Bases) -> Option<Reason> {
        bases.iter().find_map(|(reference, now)| {
            let then = self.bases.get(reference).map_or("", String::as_str);
            (then != now).then(|| Reason::BaseMoved {
                reference: reference.clone(),
                then: then.to_owned(),
                now: now.clone(),
            })
        })
    }
}

/// The labels of an image with this fingerprint and these bases.
pub fn labels(fingerprint: &Fingerprint, bases: &Bases) -> BTreeMap<&'static str, String> {
    let pairs: Vec<String> = bases.iter().map(|(name, id)| format!("{name}={id}")).collect();
    [(LABEL, fingerprint.to_string()), (BASES_LABEL, pairs.join(" "))].into()
}

/// An engine's images with our labels: all, or those of some names.
#[derive(Debug, Default)]
pub struct EngineImages {
    by_name: BTreeMap<String, TrackedImage>,
    nameless: Vec<TrackedImage>,
    is_complete: bool,
}

/// Whether an image with our labels is one that we built: whatever is made from ours has
/// its labels too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Ours,
    /// It is not.
    Foreign,
    /// That is not on record, and must be found out.
    Unknown,
}

/// What is to be done about an image.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    UpToDate,
    /// The engine holds it, but not under its name.
    Tag {
        /// The engine's id of it.
        id: String,
    },
    /// It must be built.
    Stale(Reason),
}

/// It must be known first whether the image of this id is one that we built.
#[derive(Debug, PartialEq, Eq)]
pub struct Unproven(pub String);

impl EngineImages {
    /// None yet, of all that there are.
    pub fn complete() -> Self {
        Self { is_complete: true, ..Self::default() }
    }

    /// Whether all that there are are known.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Adds those that were not asked for. What is known already was heard later.
    pub fn add_others(&mut self, all: Self) {
        let known: BTreeSet<&str> = self.by_name.values().map(|held| held.id.as_str()).collect();
        let is_new = |held: &TrackedImage| !known.contains(held.id.as_str());
        self.nameless.extend(all.nameless.into_iter().filter(is_new));
        for (name, held) in all.by_name {
            self.by_name.entry(name).or_insert(held);
        }
        self.is_complete = true;
    }

    /// Whether an image of this id is known.
    pub fn has(&self, id: &str) -> bool {
        self.by_name.values().chain(&self.nameless).any(|held| held.id == id)
    }

    /// Adds an image under each of its names; without any it is kept too.
    pub fn add(&mut self, names: impl IntoIterator<Item = String>, held: &TrackedImage) {
        let mut is_named = false;
        for name in names {
            self.by_name.insert(name, held.clone());
            is_named = true;
        }
        if !is_named {
            self.nameless.push(held.clone());
        }
    }

    /// Notes what is held under the `latest` tag of a name now. What was may still be
    /// there without it.
    pub fn renew(&mut self, name: &str, now: Option<TrackedImage>) {
        let is_other = |then: &TrackedImage| now.as_ref().is_none_or(|now| now.id != then.id);
        if let Some(then) = self.by_name.remove(&with_tag(name)).filter(is_other) {
            self.nameless.push(then);
        }
        if let Some(now) = now {
            self.by_name.insert(with_tag(name), now);
        }
    }

    /// Notes that no image has this id any more.
    pub fn forget(&mut self, id: &str) {
        self.by_name.retain(|_, held| held.id != id);
        self.nameless.retain(|held| held.id != id);
    }

    /// Notes that the image of an id has the `latest` tag of a name now.
    pub fn retag(&mut self, id: &str, name: &str) {
        let mut all = self.by_name.values().chain(&self.nameless);
        if let Some(held) = all.find(|held| held.id == id).cloned() {
            self.by_name.insert(with_tag(name), held);
        }
    }

    /// What is held under a reference, by its `latest` tag if it has none.
    pub fn get(&self, name: &str) -> Option<&TrackedImage> {
        self.by_name.get(&with_tag(name))
    }

    /// The id of one of our images.
    pub fn id(&self, name: &str) -> Option<&str> {
        self.get(name).map(|held| held.id.as_str())
    }

    /// Compares what is held with what would be built. `standing` tells whether an image
    /// with the wanted fingerprint is one that we built.
    pub fn verdict(
        &self,
        name: &str,
        wanted: &Fingerprint,
        bases: &Bases,
        standing: impl Fn(&TrackedImage) -> Standing,
    ) -> Result<Decision, Unproven> {
        let reason = match self.get(name) {
            None => Reason::Missing,
            Some(held) if !held.is_of(wanted) => {
                Reason::Other { fingerprint: held.fingerprint.clone() }
            }
            Some(held) => match (standing(held), held.moved_base(bases)) {
                (Standing::Ours, None) => return Ok(Decision::UpToDate),
                (Standing::Ours, Some(moved)) => moved,
                (Standing::Foreign, _) => Reason::Replaced,
                (Standing::Unknown, _) => return Err(Unproven(held.id.clone())),
            },
        };
        let is_candidate =
            |held: &&TrackedImage| held.is_of(wanted) && held.moved_base(bases).is_none();
        for held in self.by_name.values().chain(&self.nameless).filter(is_candidate) {
            match standing(held) {
                Standing::Ours => return Ok(Decision::Tag { id: held.id.clone() }),
                Standing::Unknown => return Err(Unproven(held.id.clone())),
                Standing::Foreign => {}
            }
        }
        Ok(Decision::Stale(reason))
    }
}

/// A reference with the tag that it has anyhow.
fn with_tag(reference: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    if name.contains(':') { reference.to_owned() } else { format!("{reference}:latest") }
}
