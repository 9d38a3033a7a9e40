//! Reads the events, keeps the logs, and has the events shown in one of four ways:
//! on a terminal, as plain lines, as JSON lines, or for GitHub's log viewer.
//!
//! Progress goes to standard error, and is lost where that cannot be written. Results go
//! to standard output, and a result that cannot be written is an error, unless its reader
//! has gone away (`| head`): that has seen enough.

pub(crate) mod github;
pub(crate) mod keyboard;
pub(crate) mod keymap;
pub(crate) mod log_files;
pub(crate) mod plain;
pub(crate) mod reproduce;
pub(crate) mod sanitize;
pub(crate) mod screen;
pub(crate) mod terminal;
pub(crate) mod text;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use console::Style;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::Instant;
use xtask_core::escape;

use crate::event::{Event, Failure, Hearer};
use crate::report::plan;
use crate::report::timings::Timings;
use crate::ui::keymap::UiCommand;
use crate::ui::log_files::Logs;
use crate::ui::plain::Plain;
use crate::ui::sanitize::clean;
use crate::ui::terminal::Terminal;

/// What is shown of events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UiOptions {
    /// In which way.
    pub(crate) progress: Progress,
    /// Every path, where else the first stands for all.
    pub(crate) is_verbose: bool,
    /// A plan for programs.
    pub(crate) is_json: bool,
    /// Whether a page tells when what ran.
    pub(crate) has_timings: bool,
    /// Whether standard error is coloured.
    pub(crate) has_colors: bool,
    /// Whether each round begins on an empty terminal.
    pub(crate) clears: bool,
    /// Whether the terminal's bell rings after each round.
    pub(crate) rings: bool,
    /// Whether what is written is read by GitHub's runner, which obeys lines.
    pub(crate) is_github: bool,
}

impl UiOptions {
    /// A line or several as they may be written, whatever they hold.
    pub(crate) fn shown(self, text: &str) -> String {
        shown(text, self.is_github)
    }

    /// Writes a line to standard error. Progress that is lost is no reason to fail.
    pub(crate) fn print(self, text: &str) {
        drop(writeln!(io::stderr(), "{}", self.shown(text)));
    }
}

/// A line or several as they may be written where GitHub's runner reads them, or not.
pub(crate) fn shown(text: &str, is_github: bool) -> String {
    let text = escape::painted(text);
    if is_github { github::inert(&text) } else { text.into_owned() }
}

/// Standard output, and why it could not be written.
#[derive(Debug, Default)]
pub(crate) struct Results(Option<io::Error>);

impl Results {
    /// Writes as long as that works.
    pub(crate) fn write(&mut self, text: &str) {
        if self.0.is_none() {
            self.0 = io::stdout().write_all(text.as_bytes()).err();
        }
    }

    /// Whether all of it is written, or its reader has gone away.
    pub(crate) fn end(self) -> io::Result<()> {
        match self.0.map_or_else(|| io::stdout().flush(), Err) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            ended => ended,
        }
    }
}

/// A component that failed, and what there is to show of it.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    /// The last lines of its log.
    pub(crate) log: Vec<String>,
    /// Where all of it is.
    pub(crate) log_path: String,
    /// The command that repeats it.
    pub(crate) command: String,
}

/// The ways of showing events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
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
pub(crate) trait View {
    /// Shows an event.
    fn event(&mut self, event: &Event);

    /// After what time to draw anew; never where nothing moves.
    fn pace(&self) -> Option<Duration> {
        None
    }

    /// That time has passed.
    fn tick(&mut self) {}

    /// Shows what somebody wants to see; only on a terminal is there somebody.
    fn look(&mut self, _: UiCommand, _: &[Failed]) {}

    /// Nothing comes any more.
    fn end(&mut self) {}

    /// Shows the failures of a round once more, when all else is said.
    fn failures(&mut self, failures: &[Failed]);
}

/// Shows everything until the last sender is gone; an error if results were lost.
pub(crate) async fn show(
    how: UiOptions,
    root: &Path,
    options: &reproduce::Options,
    mut events: Hearer,
    looks: Option<UnboundedReceiver<UiCommand>>,
) -> io::Result<()> {
    let mut view: Box<dyn View> = match how.progress {
        Progress::Terminal => Box::new(Terminal::new(how)),
        Progress::Plain => Box::new(Plain::new(how)),
        Progress::GitHub => Box::new(github::GitHub::new(how)),
        Progress::Json => Box::new(Silent),
        Progress::Quiet => Box::new(Quiet(how)),
    };
    let mut logs = Logs::new(root);
    let mut timings = how.has_timings.then(Timings::new);
    let mut results = Results::default();
    let mut failures: Vec<Failed> = Vec::new();
    // The sender lives as long as this does, with or without keys.
    let (_nobody, nothing) = mpsc::unbounded_channel();
    let mut looks = looks.unwrap_or(nothing);
    let mut failed: Vec<Failed> = Vec::new();
    let mut drawn = Instant::now();
    loop {
        let pace = view.pace();
        let event = tokio::select! {
            event = events.next() => event,
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
        let Some(mut event) = event else { break };
        logs.note(&event);
        let timed = timings.as_mut().and_then(|timings| timings.note(&event, root));
        match &event {
            Event::StepFailed(failure) => failures.push(Failed {
                log: logs.last(&failure.component),
                log_path: Logs::path(&failure.component),
                command: reproduce::command(&failure.component, options),
                failure: sanitize::failed(failure.clone()),
            }),
            Event::Planned { steps } if how.is_json => {
                results.write(&escape::json(&format!("{}\n", plan::document(steps))));
            }
            _ => {}
        }
        if how.progress == Progress::Json
            && let Ok(text) = serde_json::to_string(&event)
        {
            results.write(&escape::json(&(text + "\n")));
        }
        clean(&mut event);
        view.event(&event);
        match timed {
            Some(Ok(path)) if how.progress != Progress::Json => {
                how.print(&format!("timings: {path}"));
            }
            Some(Err(error)) => how.print(&format!("warning: no timings: {error}")),
            _ => {}
        }
        let mut print = |line: &str| results.write(&(how.shown(line) + "\n"));
        match event {
            Event::Planned { steps } if !how.is_json => {
                for line in plan::lines(&steps, how.is_verbose) {
                    print(&line);
                }
            }
            // In a glob '?' stands for every character, and a line has no break.
            Event::Proposed { lines } => {
                for line in lines {
                    print(&line.replace(escape::is_control, "?"));
                }
            }
            Event::Pushed { reference, digest } if how.progress != Progress::Json => {
                print(&format!("{reference}@{digest}"));
            }
            // It begins again with other contents.
            Event::StepStarted { component } => {
                failures.retain(|failed| failed.failure.component != component);
            }
            // That is mended.
            Event::StepFinished { component, outcome, .. } if outcome.is_good() => {
                failed.retain(|failed| failed.failure.component != component);
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
    view.end();
    results.end()
}

/// Nothing for people: programs get the events.
struct Silent;

impl View for Silent {
    fn event(&mut self, _: &Event) {}

    fn failures(&mut self, _: &[Failed]) {}
}

/// Nothing but what went wrong.
struct Quiet(UiOptions);

impl View for Quiet {
    fn event(&mut self, event: &Event) {
        if let Event::PushFailed { reference, reason } = event {
            self.0.print(&format!("failed: {reference}: {reason}"));
        }
    }

    fn failures(&mut self, failures: &[Failed]) {
        for line in failure_lines(failures, self.0.has_colors) {
            self.0.print(&line);
        }
    }
}

/// The last words of a round that failed.
pub(crate) fn failure_lines(failures: &[Failed], has_colors: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for failed in failures {
        let title = paint(&Style::new().red().bold(), "error", has_colors);
        lines.push(format!("{title}: {}", failed.failure.message));
        lines.extend(text::failure(failed));
    }
    lines
}

pub(crate) fn paint(style: &Style, text: &str, has_colors: bool) -> String {
    style.clone().force_styling(has_colors).apply_to(text).to_string()
}
