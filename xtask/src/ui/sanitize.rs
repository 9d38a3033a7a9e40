//! Events as they are shown to people.
//!
//! Names are put on one line, and control characters are written out, before any view
//! sees them: no view can forget it. Messages keep their breaks. What programs read, the
//! logs on disk and the timings are made from events as they came.

use std::borrow::Cow;

use xtask_core::escape;

use crate::event::{
    Event, Expectation, Failure, Outcome, PlannedComponent, PlannedImage, PlannedStep,
};

/// Writes out all control characters of an event but those of log lines, whose colours a
/// view may keep, and those of lines for files.
pub(crate) fn clean(event: &mut Event) {
    match event {
        Event::StepStarted { component } | Event::Log { component, .. } => name(component),
        Event::Pulling { component, reference: other }
        | Event::Instruction { component, text: other, .. }
        | Event::PartStarted { component, part: other }
        | Event::PartFinished { component, part: other, .. }
        | Event::ContextSent { component, image: other }
        | Event::ImageStale { component, image: other, .. }
        | Event::ImageUpToDate { component, image: other }
        | Event::ImageBuilt { component, image: other } => {
            name(component);
            name(other);
        }
        Event::Waiting { holder: other }
        | Event::WaitingFor { what: other }
        | Event::PushStarted { reference: other }
        | Event::Pushed { reference: other, .. } => name(other),
        Event::Stuck { reason } => message(reason),
        Event::PushRetried { reference, reason, .. } | Event::PushFailed { reference, reason } => {
            name(reference);
            message(reason);
        }
        Event::RoundStarted { components, .. } | Event::WorkspaceRead { components } => {
            components.iter_mut().for_each(planned_component);
        }
        Event::Planned { steps } => steps.iter_mut().for_each(planned_step),
        Event::StepFailed(failed) => failure(failed),
        Event::StepFinished { component, outcome, .. } => {
            name(component);
            if let Outcome::NotTried { because: Some(other) } = outcome {
                name(other);
            }
        }
        Event::Changed { paths, components } => {
            paths.iter_mut().chain(components).for_each(name);
        }
        Event::RoundFinished(summary) => summary.critical_path.iter_mut().for_each(name),
        // A problem and its place are written out where they become a sentence.
        Event::Warning(_) | Event::Proposed { .. } | Event::Watching { .. } => {}
    }
}

/// A failure without control characters.
pub(crate) fn failed(mut failed: Failure) -> Failure {
    failure(&mut failed);
    failed
}

fn failure(failure: &mut Failure) {
    name(&mut failure.component);
    message(&mut failure.message);
    failure.file.as_mut().map(name);
    failure.excerpt.iter_mut().for_each(|line| name(&mut line.text));
}

/// Writes out those of a step of a plan; reasons do it themselves.
pub(crate) fn planned_step(step: &mut PlannedStep) {
    name(&mut step.component);
    step.hooks.as_mut().map(name);
    for PlannedImage { image, expectation, .. } in &mut step.images {
        name(image);
        if let Expectation::Undecided(why) = expectation {
            name(why);
        }
    }
}

fn planned_component(planned: &mut PlannedComponent) {
    name(&mut planned.component);
    planned.needs.iter_mut().for_each(name);
}

/// As one line.
pub(crate) fn name(text: &mut String) {
    if let Cow::Owned(shown) = escape::line(text) {
        *text = shown;
    }
}

fn message(text: &mut String) {
    *text = escape::lines(text.trim_end()).into_owned();
}
