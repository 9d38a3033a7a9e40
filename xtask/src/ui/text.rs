//! The sentences that every way of showing events has in common.

use std::time::Duration;

use console::Style;
use xtask_core::escape;
use xtask_core::staleness::reason::Reason;

use crate::event::{Outcome, Summary};
use crate::ui::Failed;

/// All that is to be said of a failure when everything is over: what failed and
/// where, the last lines of its log, and what repeats just that.
pub(crate) fn failure(failed: &Failed) -> Vec<String> {
    let Failed { failure, log, log_path, command } = failed;
    let mut lines = Vec::new();
    let width = failure.excerpt.last().map_or(0, |line| line.number.to_string().len());
    for line in &failure.excerpt {
        let mark = if line.is_marked { '>' } else { ' ' };
        lines.push(format!("{mark} {:width$} | {}", line.number, line.text));
    }
    if !log.is_empty() {
        lines.push(format!("its last lines, of {log_path}:"));
        lines.extend(log.iter().map(|line| format!("    {}", escape::log(line, false))));
    }
    lines.push(format!("to reproduce: {command}"));
    lines
}

/// A round in one line.
pub(crate) fn summary(summary: &Summary) -> String {
    let Summary { built, up_to_date, failed, .. } = summary;
    let mut text = format!("{built} built, {up_to_date} up to date, ");
    let more = [
        (summary.restored, "restored"),
        (summary.cancelled, "cancelled"),
        (summary.outdated, "changed meanwhile"),
        (summary.not_tried, "not tried"),
    ];
    text.push_str(&format!("{failed} failed"));
    for (count, word) in more.iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!(", {count} {word}"));
    }
    text.push_str(&format!(" in {}", seconds(summary.duration)));
    if *built > 1 {
        text.push_str(&format!(
            " (critical path {} {}, {:.1} busy on average)",
            chain(&summary.critical_path),
            seconds(summary.critical_duration),
            summary.busy
        ));
    }
    text
}

/// How a round ended, in a few words.
pub(crate) fn result(summary: &Summary) -> String {
    let Summary { failed, cancelled, not_tried, built, .. } = summary;
    match (failed + cancelled + not_tried, built) {
        (0, 0) => "all up to date".to_owned(),
        (0, built) => format!("{built} built"),
        _ => format!("{failed} failed"),
    }
}

/// How a component is, and the colour of that.
pub(crate) fn state(outcome: &Outcome) -> (String, Style) {
    let (text, style) = self::outcome(outcome, Duration::ZERO);
    (text.split(" in ").next().unwrap_or_default().to_owned(), style)
}

/// What was changed, in a few words.
pub(crate) fn changes(paths: &[String], components: &[String]) -> String {
    let more = |all: &[String]| match all {
        [] => String::new(),
        [first] => first.clone(),
        [first, rest @ ..] => format!("{first} (+{} more)", rest.len()),
    };
    let paths = if paths.is_empty() { "news were lost".to_owned() } else { more(paths) };
    format!("{paths} → {}", more(components))
}

/// A long chain is told by its ends.
fn chain(path: &[String]) -> String {
    match path {
        [first, second, .., before, last] if path.len() > 5 => {
            format!("{first} → {second} → … → {before} → {last}")
        }
        _ => path.join(" → "),
    }
}

/// The colour of a round's end.
pub(crate) fn summary_style(summary: &Summary) -> Style {
    match summary.failed + summary.cancelled {
        0 => Style::new().green().bold(),
        _ => Style::new().red().bold(),
    }
}

/// How a step ended, and the colour of that.
pub(crate) fn outcome(outcome: &Outcome, duration: Duration) -> (String, Style) {
    let time = seconds(duration);
    match outcome {
        Outcome::Built => (format!("built in {time}"), Style::new().green().bold()),
        Outcome::Restored => (format!("restored in {time}"), Style::new().green()),
        Outcome::UpToDate => (format!("up to date in {time}"), Style::new().green()),
        Outcome::Failed => (format!("failed in {time}"), Style::new().red().bold()),
        Outcome::Outdated => ("changed meanwhile".to_owned(), Style::new().yellow()),
        Outcome::Cancelled => (format!("cancelled in {time}"), Style::new().yellow().bold()),
        Outcome::NotTried { because: Some(other) } => {
            (format!("not tried because {other} failed"), Style::new().yellow())
        }
        Outcome::NotTried { because: None } => ("not tried".to_owned(), Style::new().yellow()),
    }
}

/// Why an image is built.
pub(crate) fn reasons(reasons: &[Reason]) -> String {
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}
