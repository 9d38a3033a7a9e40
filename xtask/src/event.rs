//! What happens during a round, as values on a channel.
//!
//! Commands, the machine and the engine send events and print nothing. All that people and programs
//! see is made from them: the terminal, plain lines, JSON lines, logs, timings. The
//! events of one component come in the order in which things happened; those of
//! different components are mixed.
//!
//! As JSON an event is one object, whose `event` names it and whose other members are
//! its fields; durations are in seconds. [`VERSION`] changes whenever a program that
//! reads them would have to; new events and new fields may come at any time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use xtask_core::problem::Problem;
use xtask_core::staleness::fingerprint::Fingerprint;
use xtask_core::staleness::reason::Reason;

/// The version of the events as JSON.
pub const VERSION: u32 = 1;

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Something odd that does not stop the command.
    Warning(Problem),
    /// Another command holds the workspace; it will be waited for.
    Waiting {
        /// What it is, as it describes itself.
        holder: String,
    },
    /// The engine or a registry takes its time.
    WaitingFor {
        /// What is waited for: `the engine at … to answer`.
        what: String,
    },
    /// A plan begins to run.
    RoundStarted {
        /// [`VERSION`].
        version: u32,
        /// The components that it builds, in order.
        components: Vec<PlannedComponent>,
        /// How many parts of steps run at a time at most.
        jobs: usize,
    },
    /// What a round would do.
    Planned {
        /// In build order.
        steps: Vec<PlannedStep>,
    },
    /// The lines of a `build/inputs` file.
    Proposed {
        /// One by one.
        lines: Vec<String>,
    },
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
    /// The engine is at an instruction.
    Instruction {
        /// The component.
        component: String,
        /// The image.
        image: String,
        /// As the engine names it: `[2/3] COPY . /`.
        text: String,
        /// How far it is.
        state: InstructionState,
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
    /// A part of a step begins: its hooks, or one image.
    PartStarted {
        /// The component.
        component: String,
        /// What runs.
        part: String,
    },
    /// The engine has an image's whole context.
    ContextSent {
        /// The component.
        component: String,
        /// The image.
        image: String,
    },
    /// A part of a step ended, however.
    PartFinished {
        /// The component.
        component: String,
        /// What ran.
        part: String,
        /// How long it took.
        #[serde(serialize_with = "seconds")]
        duration: Duration,
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
    /// A component failed: all that there is to know of it.
    StepFailed(Failure),
    /// A component is done.
    StepFinished {
        /// The component.
        component: String,
        /// How it ended.
        outcome: Outcome,
        /// How long it took, from its first part to its last.
        #[serde(serialize_with = "seconds")]
        duration: Duration,
    },
    /// The workspace as it is now, while it is watched: the components that are looked
    /// after, in build order.
    WorkspaceRead {
        /// The components.
        components: Vec<PlannedComponent>,
    },
    /// Changes are waited for.
    Watching {
        /// Whether they are not acted on for now.
        is_paused: bool,
        /// How many components are looked after.
        components: usize,
    },
    /// There is no round, as something is wrong with the workspace or the engine.
    Stuck {
        /// What.
        reason: String,
    },
    /// Somebody changed files; what the next round is for.
    Changed {
        /// The files and folders, relative to the root.
        paths: Vec<String>,
        /// The components that are not what they were, without their dependents.
        components: Vec<String>,
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
        #[serde(serialize_with = "seconds")]
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

impl Event {
    /// The component that it is about.
    pub fn component(&self) -> Option<&str> {
        match self {
            Self::StepStarted { component }
            | Self::Pulling { component, .. }
            | Self::Instruction { component, .. }
            | Self::Log { component, .. }
            | Self::PartStarted { component, .. }
            | Self::PartFinished { component, .. }
            | Self::ContextSent { component, .. }
            | Self::ImageStale { component, .. }
            | Self::ImageUpToDate { component, .. }
            | Self::ImageBuilt { component, .. }
            | Self::StepFailed(Failure { component, .. })
            | Self::StepFinished { component, .. } => Some(component),
            _ => None,
        }
    }
}

/// How far an instruction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InstructionState {
    /// It runs.
    Started,
    /// Its result was there already.
    Cached,
    /// It is done.
    Done,
}

/// Where a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// A component of a plan that begins.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedComponent {
    /// Its name.
    pub component: String,
    /// The components that must be done before.
    pub needs: Vec<String>,
    /// How long it took when it was built last; none if it never was.
    #[serde(serialize_with = "maybe_seconds")]
    pub estimate: Option<Duration>,
}

/// Why a component failed.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The component.
    pub component: String,
    /// The whole sentence, with file and line where they are known.
    pub message: String,
    /// The file that is to blame, relative to the root.
    pub file: Option<String>,
    /// The line in it, from 1.
    pub line: Option<usize>,
    /// The lines around that one.
    pub excerpt: Vec<ExcerptLine>,
}

/// A line of a file that is shown.
#[derive(Clone, Debug, Serialize)]
pub struct ExcerptLine {
    /// From 1.
    pub number: usize,
    /// Without its line break.
    pub text: String,
    /// Whether it is the one that matters.
    pub is_marked: bool,
}

/// How a component's step ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All its images are in the engine, some of them new, and its hooks succeeded.
    Built,
    /// All its images were in the engine, some of them under other names or none;
    /// hooks, if it has some, succeeded.
    Restored,
    /// All its images were in the engine; hooks, if it has some, succeeded.
    UpToDate,
    /// Something failed; the event before says what.
    Failed,
    /// It never began.
    NotTried {
        /// The component that failed and that it needs; none if the round ended
        /// before its turn.
        because: Option<String>,
    },
    /// It had begun when the round was ended.
    Cancelled,
    /// What it is made from changed while the round ran. It may begin again.
    Outdated,
}

impl Outcome {
    /// Whether all its images are there.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Built | Self::Restored | Self::UpToDate)
    }
}

/// What would be done with a component.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedStep {
    /// The component.
    pub component: String,
    /// Why its hooks must run, if they must: only then its images can be decided.
    pub hooks: Option<String>,
    /// What would be done with its images, in build order.
    pub images: Vec<PlannedImage>,
}

/// What would be done with an image.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedImage {
    /// The image's name.
    pub image: String,
    /// Of what it must be made from, if that is known.
    pub fingerprint: Option<Fingerprint>,
    /// What would be done.
    pub expectation: Expectation,
}

/// What is known of an image before a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Expectation {
    /// The engine holds it.
    UpToDate,
    /// The engine holds it, but not under its name, which it gets back.
    Restored,
    /// It will be built.
    Stale(Vec<Reason>),
    /// What it depends on is known only when the round has come that far.
    Undecided(String),
}

/// A round in figures.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Components that were built.
    pub built: usize,
    /// Components whose images got their names back.
    pub restored: usize,
    /// Components whose images were all in the engine.
    pub up_to_date: usize,
    /// Components that failed.
    pub failed: usize,
    /// Components that had begun when the round was ended.
    pub cancelled: usize,
    /// Components that changed while the round ran.
    pub outdated: usize,
    /// Components whose turn never came.
    pub not_tried: usize,
    /// From the first step to the end of the clean-up.
    #[serde(serialize_with = "seconds")]
    pub duration: Duration,
    /// The components that took the longest one after the other.
    pub critical_path: Vec<String>,
    /// How long these took.
    #[serde(serialize_with = "seconds")]
    pub critical_duration: Duration,
    /// How many parts of steps ran at a time on average.
    pub busy: f64,
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[expect(clippy::ref_option, reason = "serde hands out a reference to the field")]
fn maybe_seconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration.as_ref().map(Duration::as_secs_f64).serialize(serializer)
}

/// Where events are sent.
///
/// A reader that has gone away is no reason to stop a build, so sending never
/// fails.
#[derive(Clone, Debug)]
pub struct Events {
    channel: UnboundedSender<Event>,
    /// None where events are not counted.
    backlog: Option<Arc<Backlog>>,
}

/// The log lines that are sent and not heard yet.
#[derive(Debug, Default)]
struct Backlog {
    lines: AtomicUsize,
    is_shorter: Notify,
}

/// So many log lines may wait to be heard before whoever has more is to wait.
const MOST_LINES: usize = 10_000;

impl Events {
    /// Sends to `channel`.
    pub fn new(channel: UnboundedSender<Event>) -> Self {
        Self { channel, backlog: None }
    }

    /// With the one who hears them, and who is waited for where logs are endless.
    pub fn heard() -> (Self, Hearer) {
        let (channel, events) = unbounded_channel();
        let backlog = Arc::<Backlog>::default();
        (Self { channel, backlog: Some(Arc::clone(&backlog)) }, Hearer { events, backlog })
    }

    /// Nobody hears these.
    pub fn unheard() -> Self {
        Self::new(unbounded_channel().0)
    }

    /// Sends one event.
    pub fn send(&self, event: Event) {
        if let (Some(backlog), Event::Log { .. }) = (&self.backlog, &event) {
            backlog.lines.fetch_add(1, Ordering::Relaxed);
        }
        drop(self.channel.send(event));
    }

    /// Waits while too many log lines are not heard yet: what an instruction or a hook
    /// writes may be endless, and memory is not.
    pub async fn room(&self) {
        let Some(backlog) = &self.backlog else { return };
        loop {
            let is_shorter = backlog.is_shorter.notified();
            if backlog.lines.load(Ordering::Relaxed) < MOST_LINES || self.channel.is_closed() {
                return;
            }
            is_shorter.await;
        }
    }
}

/// Hears events.
#[derive(Debug)]
pub struct Hearer {
    events: UnboundedReceiver<Event>,
    backlog: Arc<Backlog>,
}

impl Hearer {
    /// The next event; none once nobody can send one.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.events.recv().await;
        if let Some(Event::Log { .. }) = event
            && self.backlog.lines.fetch_sub(1, Ordering::Relaxed) == MOST_LINES / 2
        {
            self.backlog.is_shorter.notify_waiters();
        }
        event
    }
}

impl Drop for Hearer {
    fn drop(&mut self) {
        self.events.close();
        self.backlog.is_shorter.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Event {
        let (component, line) = ("a".to_owned(), String::new());
        Event::Log { component, image: None, stream: Stream::Out, line }
    }

    #[tokio::test]
    async fn whoever_writes_without_end_waits_for_the_one_who_hears() {
        let (events, mut hearer) = Events::heard();
        let writing = async {
            for _ in 0..MOST_LINES * 5 {
                events.room().await;
                events.send(line());
            }
            drop(events);
        };
        let hearing = async {
            let (mut count, mut longest) = (0, 0);
            while hearer.next().await.is_some() {
                count += 1;
                longest = longest.max(hearer.events.len());
            }
            (count, longest)
        };
        let ((), (count, longest)) = tokio::join!(writing, hearing);
        assert_eq!(count, MOST_LINES * 5);
        assert!(longest < MOST_LINES, "{longest}");
    }

    #[tokio::test]
    async fn nobody_waits_for_one_who_is_gone() {
        let (events, hearer) = Events::heard();
        (0..MOST_LINES).for_each(|_| events.send(line()));
        let ((), ()) = tokio::join!(events.room(), async { drop(hearer) });
        events.room().await;
    }
}
