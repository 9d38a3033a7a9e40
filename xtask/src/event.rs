//! What happens during a round, as values on a channel.
//!
//! Commands and effects send events and print nothing; the ui is one reader of
//! them. Events of one component come in the order in which things happened.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::core::fingerprint::Fingerprint;
use crate::core::problem::Problem;
use crate::core::reason::Reason;

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Something odd that does not stop the command.
    Warning(Problem),
    /// Another command holds the workspace; it will be waited for.
    Waiting {
        /// What it is, as it describes itself.
        holder: String,
    },
    /// A plan begins to run.
    RoundStarted {
        /// The components that it builds, in order.
        components: Vec<String>,
    },
    /// What a round would do.
    Planned(Vec<PlannedStep>),
    /// The lines of a `build/inputs` file.
    Proposed(Vec<String>),
    /// A component's turn has come.
    StepStarted {
        /// The component.
        component: String,
    },
    /// An external base image is fetched.
    Pulling {
        /// The component that needs it.
        component: String,
        /// The base's reference.
        reference: String,
    },
    /// The engine began an instruction, or found its result in the cache.
    Instruction {
        /// The component.
        component: String,
        /// As the engine names it: `[2/3] COPY . /`.
        text: String,
        /// Whether nothing had to run.
        cached: bool,
    },
    /// A line that a hook or an instruction wrote.
    Log {
        /// The component.
        component: String,
        /// Without its line break.
        line: String,
    },
    /// An image is going to be built.
    ImageStale {
        /// The component.
        component: String,
        /// The image's name.
        image: String,
        /// Why.
        reasons: Vec<Reason>,
    },
    /// An image in the engine is what would be built.
    ImageUpToDate {
        /// The component.
        component: String,
        /// The image's name.
        image: String,
    },
    /// An image is in the engine.
    ImageBuilt {
        /// The component.
        component: String,
        /// The image's name.
        image: String,
    },
    /// A component is done.
    StepFinished {
        /// The component.
        component: String,
        /// How it ended.
        outcome: Outcome,
        /// How long it took.
        duration: Duration,
    },
    /// The plan is over and the tree is clean again.
    RoundFinished(Summary),
    /// An image is on its way to the registry.
    PushStarted {
        /// The whole reference.
        reference: String,
    },
    /// A push failed for a reason that may pass.
    PushRetried {
        /// The whole reference.
        reference: String,
        /// What the engine or the registry said.
        reason: String,
        /// How long is waited before the next try.
        delay: Duration,
    },
    /// An image is in the registry.
    Pushed {
        /// The whole reference.
        reference: String,
        /// Its manifest's digest, `sha256:…`.
        digest: String,
    },
    /// An image is not in the registry.
    PushFailed {
        /// The whole reference.
        reference: String,
        /// Why not.
        reason: String,
    },
}

/// How a component's step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All its images are in the engine, some of them new, and its hooks succeeded.
    Built,
    /// All its images were in the engine; hooks, if it has some, succeeded.
    UpToDate,
    /// Something failed; the command's error says what.
    Failed,
    /// The round was interrupted.
    Cancelled,
}

/// What would be done with a component.
#[derive(Clone, Debug)]
pub struct PlannedStep {
    /// The component.
    pub component: String,
    /// Why its hooks must run, if they must: only then its images can be decided.
    pub hooks: Option<String>,
    /// What would be done with its images, in build order.
    pub images: Vec<PlannedImage>,
}

/// What would be done with an image.
#[derive(Clone, Debug)]
pub struct PlannedImage {
    /// The image's name.
    pub image: String,
    /// Of what it must be made from, if that is known.
    pub fingerprint: Option<Fingerprint>,
    /// What would be done.
    pub expectation: Expectation,
}

/// What is known of an image before a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// The engine holds it.
    UpToDate,
    /// It will be built.
    Stale(Vec<Reason>),
    /// What it depends on is known only when the round has come that far.
    Undecided(String),
}

/// A round in figures.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// Components that were built.
    pub built: usize,
    /// Components whose images were all in the engine.
    pub up_to_date: usize,
    /// Components that failed.
    pub failed: usize,
    /// Components whose turn never came.
    pub not_tried: usize,
    /// From the first step to the end of the clean-up.
    pub duration: Duration,
}

/// Where events are sent.
///
/// A reader that has gone away is no reason to stop a build, so sending never
/// fails.
#[derive(Clone, Debug)]
pub struct Events(UnboundedSender<Event>);

impl Events {
    /// Sends to `channel`.
    pub fn new(channel: UnboundedSender<Event>) -> Self {
        Self(channel)
    }

    /// Sends one event.
    pub fn send(&self, event: Event) {
        drop(self.0.send(event));
    }
}
