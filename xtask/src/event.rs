//! What happens during a command, as values.
//!
//! Commands, the machine and the engine send events and print nothing. Everything that people
//! and programs see is made from them: the terminal, plain lines, JSON lines, logs, timings.
//! The events of one component come in the order in which things happened; those of different
//! components are interleaved.
//!
//! `docs/schema/event.schema.json` describes them as JSON. [`VERSION`] changes with every
//! incompatible change; new events and new fields may come at any time.

use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use xtask_core::escape;
use xtask_core::problem::Problem;
use xtask_core::staleness::reason::Reason;

use crate::outcome::{Failure, Outcome, PlannedStep, Summary, seconds, with_text};

/// The version of all JSON that this tool writes.
pub const VERSION: u32 = 2;

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A problem that does not stop the command.
    Warning(Problem),
    /// What ends the command, one for each problem. Failures of components and pushes are events
    /// of their own.
    Error(Problem),
    /// Another command has the workspace; this one waits for it.
    WaitingForLock {
        /// The other command, as it describes itself.
        holder: String,
    },
    /// How far a long operation is, at most twice a second.
    Progress(Progress),
    /// The engine, a registry or the file system is slow.
    WaitingFor {
        /// What is waited for: `the engine at … to answer`.
        what: String,
    },
    /// An engine was started for this command, as no other answers.
    EngineStarted {
        /// Its name and version: `Podman 5.4.2`.
        engine: String,
    },
    /// A round begins.
    RoundStarted {
        /// The components that it builds, in order.
        components: Vec<PlannedComponent>,
        /// The maximum number of tasks that run in parallel.
        jobs: usize,
    },
    /// What a round would do.
    Planned {
        /// In build order.
        #[serde(rename = "components")]
        steps: Vec<PlannedStep>,
    },
    /// The lines of a `build/inputs` file.
    Proposed {
        /// The lines.
        lines: Vec<String>,
    },
    /// What a command prints on standard output: a graph, or contexts.
    Output(Output),
    /// A component's step begins.
    StepStarted {
        /// The component.
        component: String,
    },
    /// No task of a step runs any more: the next one waits for a job.
    StepPaused {
        /// The component.
        component: String,
    },
    /// A step that was paused goes on.
    StepResumed {
        /// The component.
        component: String,
    },
    /// An external base image is pulled.
    Pulling {
        /// The component that needs it.
        component: String,
        /// The base's reference.
        reference: String,
    },
    /// The engine works at an instruction.
    Instruction {
        /// The component.
        component: String,
        /// The image.
        image: String,
        /// As the engine names it: `[2/3] COPY . /`.
        text: String,
        /// How far it is.
        status: InstructionStatus,
    },
    /// A line that a hook or an instruction wrote.
    Log {
        /// The component.
        component: String,
        /// The image, or none for a hook.
        image: Option<String>,
        /// Where it was written to.
        stream: Stream,
        /// Without its line break.
        line: String,
    },
    /// A task of a step begins: a hook, or the build of an image.
    TaskStarted {
        /// The component.
        component: String,
        /// The hook's file name, or the image's name.
        task: String,
    },
    /// The engine has an image's whole context.
    ContextSent {
        /// The component.
        component: String,
        /// The image.
        image: String,
    },
    /// A task of a step ended, whether it succeeded or not.
    TaskFinished {
        /// The component.
        component: String,
        /// The hook's file name, or the image's name.
        task: String,
        /// How long it took.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        duration: Duration,
    },
    /// An image is going to be built.
    ImageStale {
        /// The component.
        component: String,
        /// The image's name.
        image: String,
        /// Why.
        #[serde(serialize_with = "with_text")]
        reasons: Vec<Reason>,
    },
    /// An image in the engine is the one that would be built.
    ImageUpToDate {
        /// The component.
        component: String,
        /// The image's name.
        image: String,
    },
    /// An image was pulled that others had built and shared.
    ImagePulled {
        /// The component.
        component: String,
        /// The image's name.
        image: String,
        /// What was pulled: `HOST/PATH/IMAGE@DIGEST`.
        reference: String,
    },
    /// The registry has an image that others built, and nothing needs it in the engine so far.
    ImageInRegistry {
        /// The component.
        component: String,
        /// The image's name.
        image: String,
        /// Where it is: `HOST/PATH/IMAGE@DIGEST`.
        reference: String,
    },
    /// An image was built.
    ImageBuilt {
        /// The component.
        component: String,
        /// The image's name.
        image: String,
    },
    /// A component failed.
    StepFailed(Failure),
    /// A component's step ended.
    StepFinished {
        /// The component.
        component: String,
        /// How it ended.
        #[serde(flatten)]
        outcome: Outcome,
        /// How long at least one of its tasks ran.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        duration: Duration,
    },
    /// The workspace was read, or read again, to be watched.
    WorkspaceLoaded {
        /// The components that are watched, in build order.
        components: Vec<PlannedComponent>,
    },
    /// Everything is built that can be, and changes are waited for.
    Watching(WatchState),
    /// The workspace can be read again, after it could not.
    WorkspaceFixed,
    /// A line that the command after a round wrote.
    PostBuildOutput {
        /// Where it was written to.
        stream: Stream,
        /// Without its line break.
        line: String,
    },
    /// An error that does not end `watch`.
    WatchError {
        /// What is wrong.
        message: String,
    },
    /// Files changed, for which the next round is run.
    FilesChanged {
        /// The files and folders, relative to the root.
        paths: Vec<String>,
        /// The components that changed, without their dependents.
        components: Vec<String>,
    },
    /// The round is over, and the temporary folders are removed.
    RoundFinished(Summary),
    /// An image has another name.
    Tagged {
        /// The image's name.
        image: String,
        /// The whole reference.
        reference: String,
    },
    /// An image is pushed.
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
        /// The delay before the next try.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        delay: Duration,
    },
    /// An image is in the registry.
    Pushed {
        /// The whole reference.
        reference: String,
        /// Its manifest's digest, `sha256:…`.
        digest: String,
    },
    /// An image could not be pushed.
    PushFailed {
        /// The whole reference.
        reference: String,
        /// Why not.
        reason: String,
    },
}

impl Event {
    /// The component that it is about.
    pub(crate) fn component(&self) -> Option<&str> {
        match self {
            Self::StepStarted { component }
            | Self::StepPaused { component }
            | Self::StepResumed { component }
            | Self::Pulling { component, .. }
            | Self::Instruction { component, .. }
            | Self::Log { component, .. }
            | Self::TaskStarted { component, .. }
            | Self::TaskFinished { component, .. }
            | Self::ContextSent { component, .. }
            | Self::ImageStale { component, .. }
            | Self::ImageUpToDate { component, .. }
            | Self::ImagePulled { component, .. }
            | Self::ImageInRegistry { component, .. }
            | Self::ImageBuilt { component, .. }
            | Self::StepFailed(Failure { component, .. })
            | Self::StepFinished { component, .. } => Some(component),
            _ => None,
        }
    }

    /// The event as one line of JSON, without a line break.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub(crate) fn to_json(&self, time: SystemTime) -> serde_json::Result<String> {
        #[derive(Serialize)]
        struct Line<'e> {
            version: u32,
            /// Seconds since the Unix epoch.
            time: f64,
            #[serde(flatten)]
            event: &'e Event,
        }
        let time = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        serde_json::to_string(&Line { version: VERSION, time, event: self })
    }
}

/// How far a long operation is.
#[derive(Clone, Debug, Serialize)]
pub struct Progress {
    /// The component that it is done for; none for the whole workspace.
    pub component: Option<String>,
    /// What is done.
    pub operation: Operation,
    /// What it is done with: an image's name or reference. None for files.
    pub subject: Option<String>,
    /// The bytes that are done.
    pub bytes: u64,
    /// All bytes, as far as they are known.
    pub total_bytes: Option<u64>,
    /// How long it has taken so far.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub duration: Duration,
}

/// An operation that can take long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Files are read to compare them with what images were built from.
    Read,
    /// A context is sent to the engine.
    Send,
    /// The layers of an external base image are pulled.
    Pull,
    /// The layers of an image are pushed.
    Push,
}

/// What `watch` waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WatchState {
    /// Whether changes are not acted on.
    pub is_paused: bool,
    /// Whether the workspace cannot be read.
    pub is_broken: bool,
    /// The number of components that are watched.
    pub components: usize,
    /// Those of them that failed and were not built since.
    pub failed: Vec<String>,
}

/// What a command prints on standard output.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Output {
    /// A text, which may have several lines.
    Text {
        /// The text.
        text: String,
    },
    /// A JSON document.
    Document {
        /// The document.
        document: serde_json::Value,
    },
}

impl Output {
    /// The output as it is written to a file.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Text { text } => text,
            Self::Document { document } => escape::json(&format!("{document:#}\n")),
        }
    }
}

/// How far an instruction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InstructionStatus {
    /// It runs.
    Started,
    /// Its result was in the builder's cache.
    Cached,
    /// It is done.
    Done,
}

/// Where a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A component of a round, or of a watched workspace.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedComponent {
    /// Its name.
    pub component: String,
    /// Its dependencies among the listed components.
    pub dependencies: Vec<String>,
    /// How long it took when it was built last; none if it never was.
    #[serde(rename = "seconds", serialize_with = "maybe_seconds")]
    pub estimate: Option<Duration>,
}

#[expect(clippy::ref_option, reason = "serde hands out a reference to the field")]
fn maybe_seconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration.as_ref().map(Duration::as_secs_f64).serialize(serializer)
}
