//! A plan on standard output: a table, or one JSON document, which
//! `docs/schema/plan.schema.json` describes.

use serde_json::{Value, json};
use xtask_core::staleness::reason::Reason;

use crate::event::VERSION;
use crate::outcome::{ImageState, PlannedImage, PlannedStep};
use crate::report::{table, text};

/// One line per image, and a last line that counts; with `is_verbose`, each line is followed
/// by everything that changed.
pub(crate) fn lines(steps: &[PlannedStep], is_verbose: bool) -> Vec<String> {
    let (mut rows, mut changes) = (Vec::new(), Vec::new());
    for step in steps {
        let component = &step.component;
        if step.images.is_empty() {
            let (state, why) = state(step);
            rows.push([component.clone(), String::new(), state.to_owned(), why]);
            changes.push(Vec::new());
        }
        for planned in &step.images {
            let image = if planned.image == *component { "" } else { &planned.image };
            let (state, why) = image_state(planned, step);
            rows.push([component.clone(), image.to_owned(), state.to_owned(), why]);
            changes.push(match &planned.state {
                ImageState::Stale { reasons } if is_verbose => details(reasons).collect(),
                _ => Vec::new(),
            });
        }
    }
    let rows = table::align(&rows);
    let mut lines: Vec<String> = Vec::new();
    for (row, changes) in rows.into_iter().zip(changes) {
        lines.push(row);
        lines.extend(changes);
    }
    lines.push(count(steps));
    lines
}

/// What a build would do, in figures.
pub(crate) fn count<'s>(steps: impl IntoIterator<Item = &'s PlannedStep>) -> String {
    let (mut total, mut stale, mut restored, mut undecided) = (0, 0, 0, 0);
    for image in steps.into_iter().flat_map(|step| &step.images) {
        total += 1;
        match image.state {
            ImageState::Stale { .. } => stale += 1,
            ImageState::Restored => restored += 1,
            ImageState::Undecided { .. } => undecided += 1,
            ImageState::UpToDate => {}
        }
    }
    match (total, stale + restored + undecided) {
        (0, _) => return "no images to build".to_owned(),
        (1, 0) => return "1 image is up to date".to_owned(),
        (_, 0) => return format!("all {total} images are up to date"),
        _ => {}
    }
    let images = if total == 1 { "image" } else { "images" };
    let mut text = format!("{stale} of {total} {images} would be built");
    if restored > 0 {
        text.push_str(&format!(", {restored} retagged"));
    }
    if undecided > 0 {
        text.push_str(&format!(", {undecided} decided during the build"));
    }
    text
}

/// An image's state in a word or two, and why.
fn image_state(planned: &PlannedImage, step: &PlannedStep) -> (&'static str, String) {
    match &planned.state {
        ImageState::UpToDate => ("up to date", String::new()),
        ImageState::Restored => ("restored", "will be retagged".to_owned()),
        ImageState::Undecided { undecided } => ("undecided", undecided.clone()),
        ImageState::Stale { reasons } => {
            let hooks = step.hooks.iter().cloned();
            let why: Vec<String> = [text::reasons(reasons)].into_iter().chain(hooks).collect();
            ("stale", why.join("; "))
        }
    }
}

/// All changes, indented; the text of a reason names only the first.
pub(crate) fn details(reasons: &[Reason]) -> impl Iterator<Item = String> {
    reasons.iter().flat_map(Reason::changes).map(|change| format!("    {change}"))
}

/// What a build would do with a component, and why.
pub(crate) fn sentence(step: &PlannedStep) -> String {
    match state(step) {
        (state, why) if why.is_empty() => state.to_owned(),
        ("undecided", why) => why,
        (state, why) => format!("{state}: {why}"),
    }
}

/// A component's state in a word or two, and why.
pub(crate) fn state(step: &PlannedStep) -> (&'static str, String) {
    let mut stale: Vec<String> = Vec::new();
    let mut undecided: Vec<&str> = step.hooks.as_deref().into_iter().collect();
    let mut restored: Vec<&str> = Vec::new();
    for PlannedImage { image, state, .. } in &step.images {
        let name = if step.images.len() > 1 { format!("{image}: ") } else { String::new() };
        match state {
            ImageState::Stale { reasons } => {
                stale.push(format!("{name}{}", text::reasons(reasons)));
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
            ("restored", format!("{} will be retagged", restored.join(", ")))
        }
        (true, true) => ("up to date", String::new()),
        (true, false) => ("undecided", undecided.join("; ")),
        (false, true) => ("stale", stale.join("; ")),
        (false, false) => ("stale", format!("{}; {}", stale.join("; "), undecided.join("; "))),
    }
}

/// The JSON document.
pub(crate) fn document(steps: &[PlannedStep]) -> Value {
    json!({ "version": VERSION, "components": steps })
}
