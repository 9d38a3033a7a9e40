//! Texts that all views share.

use std::time::Duration;

use console::Style;
use xtask_core::staleness::reason::Reason;

use crate::event::{Operation, Progress, WatchState};
use crate::outcome::{Outcome, Summary};
pub(crate) use crate::quantity::bytes;

/// The result of a round in one line.
pub(crate) fn summary(summary: &Summary) -> String {
    let Summary { built, up_to_date, failed, .. } = summary;
    let mut text = format!("{built} built, {up_to_date} up to date, ");
    let more = [
        (summary.exported, "exported"),
        (summary.pulled, "pulled"),
        (summary.in_registry, "left in the registry"),
        (summary.restored, "restored"),
        (summary.cancelled, "cancelled"),
        (summary.outdated, "changed during the build"),
        (summary.not_run, "not run"),
    ];
    text.push_str(&format!("{failed} failed"));
    for (count, word) in more.iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!(", {count} {word}"));
    }
    text.push_str(&format!(" in {}", seconds(summary.duration)));
    if *built > 1 {
        text.push_str(&format!(
            " (critical path {} {}, {:.1} jobs on average)",
            chain(&summary.critical_path),
            seconds(summary.critical_duration),
            summary.parallelism
        ));
    }
    text
}

/// The result of a round in a few words.
pub(crate) fn result(summary: &Summary) -> String {
    let Summary { failed, cancelled, not_run, built, .. } = summary;
    match (failed + cancelled + not_run, built) {
        (0, 0) => "all up to date".to_owned(),
        (0, built) => format!("{built} built"),
        _ => format!("{failed} failed"),
    }
}

/// The state of a component, and its color.
pub(crate) fn state(outcome: &Outcome) -> (String, Style) {
    let (text, style) = match outcome {
        Outcome::Built => ("built", Style::new().green().bold()),
        Outcome::Restored => ("restored", Style::new().green()),
        Outcome::UpToDate => ("up to date", Style::new().green()),
        Outcome::Pulled => ("pulled", Style::new().green().bold()),
        Outcome::InRegistry => ("left in the registry", Style::new().green()),
        Outcome::Exported => ("exported", Style::new().green().bold()),
        Outcome::Failed => ("failed", Style::new().red().bold()),
        Outcome::Outdated => ("changed during the build", Style::new().yellow()),
        Outcome::Cancelled => ("cancelled", Style::new().yellow().bold()),
        Outcome::NotRun { because: Some(other) } => {
            return (format!("not run because {other} failed"), Style::new().yellow());
        }
        Outcome::NotRun { because: None } => ("not run", Style::new().yellow()),
    };
    (text.to_owned(), style)
}

/// What changed, in a few words.
pub(crate) fn changes(paths: &[String], components: &[String]) -> String {
    let more = |all: &[String]| match all {
        [] => String::new(),
        [first] => first.clone(),
        [first, rest @ ..] => format!("{first} (+{} more)", rest.len()),
    };
    let paths = match paths {
        [] => "change events were lost; rescanned".to_owned(),
        _ => more(paths),
    };
    format!("{paths} → {}", more(components))
}

/// A long chain is shortened to its ends.
fn chain(path: &[String]) -> String {
    match path {
        [first, second, .., before, last] if path.len() > 5 => {
            format!("{first} → {second} → … → {before} → {last}")
        }
        _ => path.join(" → "),
    }
}

/// The color of a round's result.
pub(crate) fn summary_style(summary: &Summary) -> Style {
    match summary.failed + summary.cancelled {
        0 => Style::new().green().bold(),
        _ => Style::new().red().bold(),
    }
}

/// The outcome of a step with its duration, and its color.
pub(crate) fn outcome(outcome: &Outcome, duration: Duration) -> (String, Style) {
    let (text, style) = state(outcome);
    match outcome {
        Outcome::Outdated | Outcome::NotRun { .. } => (text, style),
        _ => (format!("{text} in {}", seconds(duration)), style),
    }
}

pub(crate) fn reasons(reasons: &[Reason]) -> String {
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What `watch` waits for.
pub(crate) fn watching(state: &WatchState) -> String {
    let WatchState { is_paused, is_broken, components, failed } = state;
    let mut text = match (is_broken, components) {
        (true, _) => "for a change; the workspace has errors".to_owned(),
        (false, 1) => "1 component".to_owned(),
        (false, _) => format!("{components} components"),
    };
    if !failed.is_empty() && !is_broken {
        text.push_str(&format!(" ({} failed: {})", failed.len(), failed.join(", ")));
    }
    if *is_paused {
        text.push_str(", paused");
    }
    text
}

/// How far a long operation is.
pub(crate) fn progress(progress: &Progress) -> String {
    let Progress { operation, subject, bytes, total_bytes, .. } = progress;
    let verb = match operation {
        Operation::Read => "reading files",
        Operation::Send => "sending context",
        Operation::Pull => "pulling",
        Operation::Push => "pushing",
    };
    // An image's context is named by the line that it stands in.
    let subject = subject.as_ref().filter(|_| *operation != Operation::Send);
    let subject = subject.map_or(String::new(), |subject| format!(" {subject}"));
    let total = total_bytes.map_or(String::new(), |total| format!(" of {}", self::bytes(total)));
    format!("{verb}{subject}: {}{total}", self::bytes(*bytes))
}

pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}

pub(crate) fn counted(files: usize) -> String {
    if files == 1 { "1 file".to_owned() } else { format!("{files} files") }
}

/// An age in the words of `docker images`.
pub(crate) fn age(age: Duration) -> String {
    const UNITS: [(u64, &str); 6] = [
        (365 * 86400, "year"),
        (30 * 86400, "month"),
        (7 * 86400, "week"),
        (86400, "day"),
        (3600, "hour"),
        (60, "minute"),
    ];
    let seconds = age.as_secs();
    let (count, unit) = match UNITS.iter().find(|(length, _)| seconds >= *length) {
        Some((length, unit)) => (seconds / length, *unit),
        None => (seconds, "second"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural} ago")
}
