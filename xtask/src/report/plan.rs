//! A plan on standard output: one line per component, or one JSON document, which
//! `docs/schema/plan.schema.json` describes.

use serde_json::{Value, json};
use xtask_core::staleness::reason::Reason;

use crate::event::VERSION;
use crate::outcome::{ImageState, PlannedImage, PlannedStep};

/// One line per component; with `is_verbose`, followed by everything that changed.
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

/// All changes, indented; the text of a reason names only the first.
pub(crate) fn details(reasons: &[Reason]) -> impl Iterator<Item = String> {
    reasons.iter().flat_map(Reason::changes).map(|change| format!("    {change}"))
}

fn paths(step: &PlannedStep) -> Vec<String> {
    let stale = step.images.iter().filter_map(|image| match &image.state {
        ImageState::Stale { reasons } => Some(reasons),
        _ => None,
    });
    let mut lines: Vec<String> = stale.flat_map(|reasons| details(reasons)).collect();
    lines.dedup();
    lines
}

/// What a build would do with a component, and why.
pub(crate) fn sentence(step: &PlannedStep) -> String {
    let mut stale: Vec<String> = Vec::new();
    let mut undecided: Vec<&str> = step.hooks.as_deref().into_iter().collect();
    let mut restored: Vec<&str> = Vec::new();
    for PlannedImage { image, state, .. } in &step.images {
        let name = if step.images.len() > 1 { format!("{image}: ") } else { String::new() };
        match state {
            ImageState::Stale { reasons } => {
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                stale.push(format!("{name}{}", reasons.join("; ")));
            }
            ImageState::Undecided { undecided: why } if !undecided.contains(&why.as_str()) => {
                undecided.push(why);
            }
            ImageState::Restored => restored.push(image),
            ImageState::Undecided { .. } | ImageState::UpToDate => {}
        }
    }
    match (stale.is_empty(), undecided.is_empty()) {
        (true, true) if !restored.is_empty() => {
            format!("restored: {} will be retagged", restored.join(", "))
        }
        (true, true) => "up to date".to_owned(),
        (true, false) => undecided.join("; "),
        (false, true) => format!("stale: {}", stale.join("; ")),
        (false, false) => format!("stale: {}; {}", stale.join("; "), undecided.join("; ")),
    }
}

/// The JSON document.
pub(crate) fn document(steps: &[PlannedStep]) -> Value {
    json!({ "version": VERSION, "components": steps })
}
