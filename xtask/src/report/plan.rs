//! A plan on standard output: a line a component for people, or one JSON document
//! for programs. The document's `version` changes whenever a program that reads it
//! would have to.

use serde_json::{Value, json};
use xtask_core::staleness::fingerprint::Change;
use xtask_core::staleness::reason::Reason;

use crate::event::{Expectation, PlannedImage, PlannedStep};

/// Changes with the shape of the document.
const VERSION: u32 = 1;

/// A line a component; with `is_verbose`, below it everything that changed.
pub(crate) fn lines(steps: &[PlannedStep], is_verbose: bool) -> Vec<String> {
    let width = steps.iter().map(|step| step.component.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for step in steps {
        lines.push(format!("{:width$}  {}", step.component, sentence(step)));
        if is_verbose {
            lines.extend(paths(step));
        }
    }
    lines
}

/// Every change of which a reason names only the first, indented.
pub(crate) fn details(reasons: &[Reason]) -> impl Iterator<Item = String> {
    reasons.iter().flat_map(Reason::changes).map(|change| format!("    {change}"))
}

fn paths(step: &PlannedStep) -> Vec<String> {
    let stale = step.images.iter().filter_map(|image| match &image.expectation {
        Expectation::Stale(reasons) => Some(reasons),
        _ => None,
    });
    let mut lines: Vec<String> = stale.flat_map(|reasons| details(reasons)).collect();
    lines.dedup();
    lines
}

/// What would be done with a component, and why.
pub(crate) fn sentence(step: &PlannedStep) -> String {
    let mut stale: Vec<String> = Vec::new();
    let mut undecided: Vec<&str> = step.hooks.as_deref().into_iter().collect();
    let mut restored: Vec<&str> = Vec::new();
    for PlannedImage { image, expectation, .. } in &step.images {
        let name = if step.images.len() > 1 { format!("{image}: ") } else { String::new() };
        match expectation {
            Expectation::Stale(reasons) => {
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                stale.push(format!("{name}{}", reasons.join("; ")));
            }
            Expectation::Undecided(why) if !undecided.contains(&why.as_str()) => {
                undecided.push(why);
            }
            Expectation::Restored => restored.push(image),
            Expectation::Undecided(_) | Expectation::UpToDate => {}
        }
    }
    match (stale.is_empty(), undecided.is_empty()) {
        (true, true) if !restored.is_empty() => {
            format!("restored: {} gets its name back", restored.join(", "))
        }
        (true, true) => "up to date".to_owned(),
        (true, false) => undecided.join("; "),
        (false, true) => format!("stale: {}", stale.join("; ")),
        (false, false) => format!("stale: {}; {}", stale.join("; "), undecided.join("; ")),
    }
}

/// The whole plan as one document.
pub(crate) fn document(steps: &[PlannedStep]) -> Value {
    let steps: Vec<Value> = steps
        .iter()
        .map(|step| {
            let images: Vec<Value> = step.images.iter().map(image).collect();
            json!({ "component": step.component, "hooks": step.hooks, "images": images })
        })
        .collect();
    json!({ "version": VERSION, "steps": steps })
}

fn image(planned: &PlannedImage) -> Value {
    let (state, reasons, undecided) = match &planned.expectation {
        Expectation::UpToDate => ("up-to-date", &[][..], None),
        Expectation::Restored => ("restored", &[][..], None),
        Expectation::Stale(reasons) => ("stale", reasons.as_slice(), None),
        Expectation::Undecided(why) => ("undecided", &[][..], Some(why)),
    };
    json!({
        "image": planned.image,
        "state": state,
        "fingerprint": planned.fingerprint.as_ref().map(ToString::to_string),
        "reasons": reasons.iter().map(reason).collect::<Vec<_>>(),
        "undecided": undecided,
    })
}

fn reason(reason: &Reason) -> Value {
    let kind = match reason {
        Reason::Missing => "missing",
        Reason::Other { .. } | Reason::Replaced => "replaced",
        Reason::Changed(_) => "changed",
        Reason::BaseMoved { .. } => "base-moved",
        Reason::Rebuilt { .. } => "base-rebuilt",
        Reason::Asked { .. } => "asked",
    };
    let changes: Vec<Value> = reason.changes().iter().map(change).collect();
    json!({ "kind": kind, "text": reason.to_string(), "changes": changes })
}

fn change(change: &Change) -> Value {
    json!({ "what": change.what, "name": change.name, "fate": change.fate })
}
