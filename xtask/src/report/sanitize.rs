//! Escapes control characters in events before any view shows them, so that no view can
//! forget to.
//!
//! Names become one line; messages keep their line breaks. JSON output, log files and
//! timings are made from the unescaped events.

use std::borrow::Cow;

use xtask_core::escape;

use crate::event::{Event, PlannedComponent, Progress};
use crate::outcome::{Failure, ImageState, Outcome, PlannedImage, PlannedStep};

/// Escapes all control characters of an event, except in log lines, whose colors a view may
/// keep, and in proposed `build/inputs` lines, which are written to a file.
pub(crate) fn clean(event: &mut Event) {
    match event {
        Event::StepStarted { component }
        | Event::StepPaused { component }
        | Event::StepResumed { component }
        | Event::Log { component, .. } => name(component),
        Event::Pulling { component, reference: other }
        | Event::Instruction { component, text: other, .. }
        | Event::TaskStarted { component, task: other }
        | Event::TaskFinished { component, task: other, .. }
        | Event::ContextSent { component, image: other }
        | Event::ImageStale { component, image: other, .. }
        | Event::ImageUpToDate { component, image: other }
        | Event::ImageBuilt { component, image: other } => {
            name(component);
            name(other);
        }
        Event::ImagePulled { component, image, reference }
        | Event::ImageInRegistry { component, image, reference } => {
            name(component);
            name(image);
            name(reference);
        }
        Event::Tagged { image, reference } => {
            name(image);
            name(reference);
        }
        Event::WaitingForLock { holder: other }
        | Event::WaitingFor { what: other }
        | Event::EngineStarted { engine: other }
        | Event::PushStarted { reference: other }
        | Event::Pushed { reference: other, .. } => name(other),
        Event::WatchError { message: text } => message(text),
        Event::PushRetried { reference, reason, .. } | Event::PushFailed { reference, reason } => {
            name(reference);
            message(reason);
        }
        Event::RoundStarted { components, .. } | Event::WorkspaceLoaded { components } => {
            components.iter_mut().for_each(planned_component);
        }
        Event::Planned { steps } => steps.iter_mut().for_each(planned_step),
        Event::StepFailed(failed) => failure(failed),
        Event::StepFinished { component, outcome, .. } => {
            name(component);
            if let Outcome::NotRun { because: Some(other) } = outcome {
                name(other);
            }
        }
        Event::Progress(Progress { component, subject, .. }) => {
            component.iter_mut().chain(subject).for_each(name);
        }
        Event::Watching(state) => state.failed.iter_mut().for_each(name),
        Event::FilesChanged { paths, components } => {
            paths.iter_mut().chain(components).for_each(name);
        }
        Event::RoundFinished(summary) => summary.critical_path.iter_mut().for_each(name),
        // A problem escapes its own text when it is displayed.
        // Output is escaped when it is written, and lines that may have colors when shown.
        Event::Warning(_)
        | Event::Error(_)
        | Event::Output(_)
        | Event::Proposed { .. }
        | Event::PostBuildOutput { .. }
        | Event::WorkspaceFixed => {}
    }
}

pub(crate) fn cleaned_failure(mut failed: Failure) -> Failure {
    failure(&mut failed);
    failed
}

fn failure(failure: &mut Failure) {
    name(&mut failure.component);
    message(&mut failure.message);
    failure.file.as_mut().map(name);
    failure.excerpt.iter_mut().for_each(|line| name(&mut line.text));
}

/// Escapes a planned step; reasons escape themselves when they are displayed.
pub(crate) fn planned_step(step: &mut PlannedStep) {
    name(&mut step.component);
    step.hooks.as_mut().map(name);
    for PlannedImage { image, state, .. } in &mut step.images {
        name(image);
        if let ImageState::Undecided { undecided: why } = state {
            name(why);
        }
    }
}

fn planned_component(planned: &mut PlannedComponent) {
    name(&mut planned.component);
    planned.dependencies.iter_mut().for_each(name);
}

/// Escapes control characters, line breaks included.
pub(crate) fn name(text: &mut String) {
    if let Cow::Owned(shown) = escape::line(text) {
        *text = shown;
    }
}

fn message(text: &mut String) {
    *text = escape::lines(text.trim_end()).into_owned();
}
