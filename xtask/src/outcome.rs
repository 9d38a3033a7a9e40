//! What a round would do, and what it came to: the words that events, documents and pages
//! share.

use std::time::Duration;

use serde::{Serialize, Serializer};
use xtask_core::staleness::fingerprint::Fingerprint;
use xtask_core::staleness::reason::Reason;

/// How a component's step ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Outcome {
    /// Its images are in the engine, some of them new, and its hooks succeeded.
    Built,
    /// Its images were in the engine, some of them without their names; hooks, if it has any,
    /// succeeded.
    Restored,
    /// Its images were in the engine; hooks, if it has any, succeeded.
    UpToDate,
    /// Its images are in the engine, some of them pulled from the registry, where others had
    /// shared them; none was built.
    Pulled,
    /// Some of its images are in the registry only: nothing that was built needed them.
    InRegistry,
    /// What its images would be built from was written to a folder; hooks that run before builds,
    /// if it has any, succeeded.
    Exported,
    /// Something failed; the event before says what.
    Failed,
    /// It did not start.
    NotRun {
        /// The dependency that failed; none if the round ended before its turn.
        because: Option<String>,
    },
    /// It was running when the round was ended.
    Cancelled,
    /// Its inputs changed while it ran. It may be restarted.
    Outdated,
}

impl Outcome {
    /// Whether all went well.
    pub fn is_good(&self) -> bool {
        matches!(
            self,
            Self::Built
                | Self::Restored
                | Self::UpToDate
                | Self::Pulled
                | Self::InRegistry
                | Self::Exported
        )
    }
}

/// What would be done with a component.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedStep {
    /// The component.
    pub component: String,
    /// Why its hooks must run, if they must: its images are decided after them.
    pub hooks: Option<String>,
    /// Its images, in build order.
    pub images: Vec<PlannedImage>,
}

impl PlannedStep {
    /// Whether a build would replace an image of it, or give one its name back. Those that are
    /// decided during the build do not count.
    pub(crate) fn is_stale(&self) -> bool {
        let is_stale = |image: &PlannedImage| {
            matches!(image.state, ImageState::Stale { .. } | ImageState::Restored)
        };
        self.images.iter().any(is_stale)
    }
}

/// What would be done with an image.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedImage {
    /// The image's name.
    pub image: String,
    /// The fingerprint of what it would be made from, if that is known.
    pub fingerprint: Option<Fingerprint>,
    /// What would be done.
    #[serde(flatten)]
    pub state: ImageState,
}

/// What a build would do with an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ImageState {
    /// Nothing: the engine has it.
    UpToDate,
    /// Tag it with its name again: the engine has it under another name, or none.
    Restored,
    /// Build it.
    Stale {
        /// Why.
        #[serde(serialize_with = "with_text")]
        reasons: Vec<Reason>,
    },
    /// That is decided during the build.
    Undecided {
        /// What it depends on.
        undecided: String,
    },
}

/// A round in figures.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The number of components that were built.
    pub built: usize,
    /// The number of components whose images were tagged with their names again.
    pub restored: usize,
    /// The number of components whose images were in the engine.
    pub up_to_date: usize,
    /// The number of components whose images were pulled instead of being built.
    pub pulled: usize,
    /// The number of components whose images were left in the registry.
    pub in_registry: usize,
    /// The number of components whose images were written to a folder, to be built elsewhere.
    pub exported: usize,
    /// The number of components that failed.
    pub failed: usize,
    /// The number of components that were running when the round was ended.
    pub cancelled: usize,
    /// The number of components whose inputs changed while they ran.
    pub outdated: usize,
    /// The number of components that did not start.
    pub not_run: usize,
    /// From the first step to the end of the clean-up.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub duration: Duration,
    /// The components on the longest path through the graph, by the time they took.
    pub critical_path: Vec<String>,
    /// How long these took.
    #[serde(rename = "critical_seconds", serialize_with = "seconds")]
    pub critical_duration: Duration,
    /// How many tasks ran in parallel on average.
    pub parallelism: f64,
}

/// Why a component failed.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The component.
    pub component: String,
    /// The whole message, with file and line where they are known.
    pub message: String,
    /// The file at fault, relative to the root.
    pub file: Option<String>,
    /// The line in it, starting at 1.
    pub line: Option<usize>,
    /// The lines around that one.
    pub excerpt: Vec<ExcerptLine>,
}

/// A line of a file that is shown.
#[derive(Clone, Debug, Serialize)]
pub struct ExcerptLine {
    /// Its number, starting at 1.
    pub number: usize,
    /// The line, without its line break.
    pub text: String,
    /// Whether it is the line at fault.
    pub is_marked: bool,
}

/// A duration in seconds.
pub(crate) fn seconds<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[derive(Serialize)]
struct ReasonWithText<'r> {
    #[serde(flatten)]
    reason: &'r Reason,
    text: String,
}

/// Reasons with the sentences that are printed for them.
pub(crate) fn with_text<S: Serializer>(
    reasons: &[Reason],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let reasons = reasons.iter();
    serializer
        .collect_seq(reasons.map(|reason| ReasonWithText { reason, text: reason.to_string() }))
}
