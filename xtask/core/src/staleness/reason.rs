//! The reasons for building an image, and how they are shown.

use std::fmt;

use serde::Serialize;

use crate::escape;
use crate::staleness::fingerprint::{Change, ChangeKind, IngredientKind};

/// Why an image must be built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// The engine has no image of this name with the labels of this tool.
    Missing,
    /// No build of it is on record, and the engine cannot be asked.
    NotOnRecord,
    /// The image was built from other inputs, of which there is no record.
    OtherFingerprint {
        /// The fingerprint in its label.
        fingerprint: String,
    },
    /// Inputs changed since the image was built.
    Changed {
        /// The changed inputs.
        changes: Vec<Change>,
    },
    /// Another image has its name, which was derived from it and inherited its labels.
    Derived,
    /// An image that it uses has another id than when it was built.
    BaseMoved {
        /// The reference of that image in the Dockerfile.
        reference: String,
        /// The id when it was built.
        then: String,
        /// The id in the engine now.
        now: String,
    },
    /// An image of the workspace that it uses is rebuilt.
    BaseRebuilt {
        /// The name of that image.
        image: String,
        /// Whether that image is not built yet, as in a dry run.
        is_planned: bool,
    },
    /// The user requested it with an option.
    Forced {
        /// The option as written, such as `--force`.
        option: &'static str,
    },
}

impl Reason {
    /// The changed inputs; empty for reasons other than [`Reason::Changed`].
    pub fn changes(&self) -> &[Change] {
        match self {
            Self::Changed { changes } => changes,
            _ => &[],
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("image missing in the engine"),
            Self::NotOnRecord => f.write_str("never built here"),
            Self::OtherFingerprint { .. } => f.write_str("image has another fingerprint"),
            Self::Derived => f.write_str("image was replaced by one that is derived from it"),
            Self::Changed { changes } => match changes.as_slice() {
                [] => f.write_str("its inputs changed"),
                [one] => one.fmt(f),
                [first, more @ ..] => write!(f, "{first} (+{} more)", more.len()),
            },
            Self::BaseMoved { reference, then, now } => {
                let reference = escape::line(reference);
                write!(f, "base {reference} moved ({} → {})", short(then), short(now))
            }
            Self::BaseRebuilt { image, is_planned: true } => write!(f, "{image} will be rebuilt"),
            Self::BaseRebuilt { image, is_planned: false } => write!(f, "{image} was rebuilt"),
            Self::Forced { option } => write!(f, "{option} was given"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = escape::line(&self.name);
        let verb = match self.kind {
            ChangeKind::Added => "added",
            ChangeKind::Changed => "changed",
            ChangeKind::Removed => "removed",
        };
        match self.ingredient {
            IngredientKind::Path | IngredientKind::Hook | IngredientKind::Dockerfile => {
                write!(f, "{name} {verb}")
            }
            IngredientKind::Arg => write!(f, "--build-arg {name} {verb}"),
            IngredientKind::Base => write!(f, "image {name} {verb}"),
            IngredientKind::Setting => write!(f, "{name} {verb}"),
            IngredientKind::Variable => write!(f, "variable {name} {verb}"),
            IngredientKind::Commit => write!(f, "the commit {verb}"),
            IngredientKind::Image => write!(f, "name {name} {verb}"),
        }
    }
}

/// The first digits of an id, which usually identify it.
fn short(id: &str) -> &str {
    match id.strip_prefix("sha256:").unwrap_or(id) {
        "" => "none",
        digits => digits.get(..8).unwrap_or(digits),
    }
}
