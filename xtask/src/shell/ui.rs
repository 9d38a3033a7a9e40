//! Reads the events, keeps the logs, and has the events shown in one of four ways:
//! on a terminal, as plain lines, as JSON lines, or for GitHub's log viewer.
//! Progress goes to standard error, results to standard output.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use console::Style;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::Instant;

use super::keys::Look;
use super::logs::Logs;
use super::plain::Plain;
use super::plan;
use super::terminal::Terminal;
use super::timings::Timings;
use super::{github, words};
use crate::event::{Event, Failure};

/// What is shown of events.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// In which way.
    pub(super) progress: Progress,
    /// Every path, where else the first stands for all.
    pub(super) is_verbose: bool,
    /// A plan for programs.
    pub(super) is_json: bool,
    /// Whether a page tells when what ran.
    pub(super) has_timings: bool,
    /// Whether standard error is coloured.
    pub(super) has_colors: bool,
    /// Whether each round begins on an empty terminal.
    pub(super) clears: bool,
    /// Whether the terminal's bell rings after each round.
    pub(super) rings: bool,
}

/// The ways of showing events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// What runs, in place.
    Terminal,
    /// One line after the other.
    Plain,
    /// Lines grouped by component.
    GitHub,
    /// One JSON object a line, on standard output.
    Json,
    /// Errors only.
    Quiet,
}

/// One way of showing events.
pub(super) trait View {
    /// Shows an event.
    fn event(&mut self, event: &Event);

    /// After what time to draw anew; never where nothing moves.
    fn pace(&self) -> Option<Duration> {
        None
    }

    /// That time has passed.
    fn tick(&mut self) {}

    /// Shows what somebody wants to see; only on a terminal is there somebody.
    fn look(&mut self, _: Look, _: &[(Failure, Vec<String>)]) {}

    /// Nothing comes any more.
    fn end(&mut self) {}

    /// Shows the failures of a round once more, when all else is said.
    fn failures(&mut self, failures: &[(Failure, Vec<String>)]);
}

/// Shows everything until the last sender is gone.
pub(super) async fn show(
    how: How,
    root: &Path,
    mut events: UnboundedReceiver<Event>,
    looks: Option<UnboundedReceiver<Look>>,
) {
    let mut view: Box<dyn View> = match how.progress {
        Progress::Terminal => Box::new(Terminal::new(how)),
        Progress::Plain => Box::new(Plain::new(how)),
        Progress::GitHub => Box::new(github::GitHub::new(how)),
        Progress::Json => Box::new(Json),
        Progress::Quiet => Box::new(Quiet(how)),
    };
    let mut logs = Logs::new(root);
    let mut timings = how.has_timings.then(Timings::new);
    let mut failures = Vec::new();
    // The sender lives as long as this does, with or without keys.
    let (_nobody, nothing) = mpsc::unbounded_channel();
    let mut looks = looks.unwrap_or(nothing);
    let mut failed = Vec::new();
    let mut drawn = Instant::now();
    loop {
        let pace = view.pace();
        let event = tokio::select! {
            event = events.recv() => event,
            Some(look) = looks.recv() => {
                view.look(look, &failed);
                continue;
            }
            () = tokio::time::sleep_until(drawn + pace.unwrap_or_default()), if pace.is_some() => {
                drawn = Instant::now();
                view.tick();
                continue;
            }
        };
        let Some(event) = event else { return view.end() };
        logs.note(&event);
        view.event(&event);
        match timings.as_mut().and_then(|timings| timings.note(&event, root)) {
            Some(Ok(path)) if how.progress != Progress::Json => {
                print(io::stderr(), &format!("timings: {path}"));
            }
            Some(Err(error)) => print(io::stderr(), &format!("warning: no timings: {error}")),
            _ => {}
        }
        match event {
            Event::StepFailed(failure) => {
                let log = logs.last(&failure.component);
                failures.push((failure, log));
            }
            Event::Planned { steps } if how.is_json => {
                print(io::stdout(), &plan::document(&steps).to_string());
            }
            Event::Planned { steps } => {
                for line in plan::lines(&steps, how.is_verbose) {
                    print(io::stdout(), &line);
                }
            }
            Event::Proposed { lines } => lines.iter().for_each(|line| print(io::stdout(), line)),
            Event::Pushed { reference, digest } if how.progress != Progress::Json => {
                print(io::stdout(), &format!("{reference}@{digest}"));
            }
            // It begins again with other contents.
            Event::StepStarted { component } => {
                failures.retain(|(failure, _): &(Failure, _)| failure.component != component);
            }
            // That is mended.
            Event::StepFinished { component, outcome, .. } if outcome.is_good() => {
                failed.retain(|(failure, _): &(Failure, _)| failure.component != component);
            }
            Event::RoundFinished(_) => {
                view.failures(&failures);
                if how.rings && io::stderr().is_terminal() {
                    drop(write!(io::stderr(), "\x07"));
                }
                if !failures.is_empty() {
                    failed = std::mem::take(&mut failures);
                }
            }
            _ => {}
        }
    }
}

/// One object a line.
struct Json;

impl View for Json {
    fn event(&mut self, event: &Event) {
        if let Ok(text) = serde_json::to_string(event) {
            print(io::stdout(), &text);
        }
    }

    fn failures(&mut self, _: &[(Failure, Vec<String>)]) {}
}

/// Nothing but what went wrong.
struct Quiet(How);

impl View for Quiet {
    fn event(&mut self, event: &Event) {
        if let Event::PushFailed { reference, reason } = event {
            print(io::stderr(), &format!("failed: {reference}: {reason}"));
        }
    }

    fn failures(&mut self, failures: &[(Failure, Vec<String>)]) {
        for line in failure_lines(failures, self.0.has_colors) {
            print(io::stderr(), &line);
        }
    }
}

/// The last words of a round that failed.
pub(super) fn failure_lines(failures: &[(Failure, Vec<String>)], has_colors: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for (failure, log) in failures {
        let title = paint(&Style::new().red().bold(), "error", has_colors);
        lines.push(format!("{title}: {}", failure.message));
        lines.extend(words::failure(failure, log, &Logs::path(&failure.component)));
    }
    lines
}

pub(super) fn paint(style: &Style, text: &str, has_colors: bool) -> String {
    style.clone().force_styling(has_colors).apply_to(text).to_string()
}

/// A reader that has gone away (`| head`) is no reason to fail.
pub(super) fn print(mut to: impl Write, text: &str) {
    drop(writeln!(to, "{text}"));
}
