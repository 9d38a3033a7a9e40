//! Why something must be built, in plain words.

use std::fmt;

use serde::Serialize;

use crate::escape;
use crate::staleness::fingerprint::{Change, ChangeKind, IngredientKind};

/// Why an image must be built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// There is no image of ours of its name.
    Missing,
    /// It was made from something else, and nobody knows what that was.
    Other {
        /// The fingerprint that it has.
        fingerprint: String,
    },
    /// It was made from something else.
    Changed(Vec<Change>),
    /// Another image was put under its name, made from it: it has its labels.
    Replaced,
    /// An external image that it is made from is another one now.
    BaseMoved {
        /// The base, as the Dockerfile names it.
        reference: String,
        /// The id that it was made from.
        then: String,
        /// The id that the engine holds now.
        now: String,
    },
    /// An image of the workspace that it is made from was built anew.
    Rebuilt {
        /// Its name.
        image: String,
        /// Whether that is still to come.
        is_planned: bool,
    },
    /// The user said so.
    Asked {
        /// The option.
        option: &'static str,
    },
}

impl Reason {
    /// All that changed, if it says so.
    pub fn changes(&self) -> &[Change] {
        match self {
            Self::Changed(changes) => changes,
            _ => &[],
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("image missing in the engine"),
            Self::Other { .. } => f.write_str("image was replaced (another fingerprint)"),
            Self::Replaced => f.write_str("image was replaced (one that was made from it)"),
            Self::Changed(changes) => match changes.as_slice() {
                [] => f.write_str("what it is made from changed"),
                [one] => one.fmt(f),
                [first, more @ ..] => write!(f, "{first} (+{} more)", more.len()),
            },
            Self::BaseMoved { reference, then, now } => {
                let reference = escape::line(reference);
                write!(f, "base {reference} moved ({} → {})", short(then), short(now))
            }
            Self::Rebuilt { image, is_planned: true } => write!(f, "{image} will be rebuilt"),
            Self::Rebuilt { image, is_planned: false } => write!(f, "{image} was rebuilt"),
            Self::Asked { option } => write!(f, "{option} was given"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = escape::line(&self.name);
        let fate = match self.fate {
            ChangeKind::Added => "added",
            ChangeKind::Changed => "changed",
            ChangeKind::Removed => "removed",
        };
        match self.what {
            IngredientKind::Path | IngredientKind::Hook | IngredientKind::Dockerfile => {
                write!(f, "{name} {fate}")
            }
            IngredientKind::Arg => write!(f, "--build-arg {name} {fate}"),
            IngredientKind::Base => write!(f, "image {name} {fate}"),
            IngredientKind::Variable => write!(f, "variable {name} {fate}"),
            IngredientKind::Commit => write!(f, "the commit {fate}"),
            IngredientKind::Image => write!(f, "name {name} {fate}"),
        }
    }
}

/// Ids are told apart by their first digits.
fn short(id: &str) -> &str {
    match id.strip_prefix("sha256:").unwrap_or(id) {
        "" => "none",
        digits => digits.get(..8).unwrap_or(digits),
    }
}
