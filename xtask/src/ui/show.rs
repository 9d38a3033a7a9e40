//! Receives all events, writes the log files, and shows the events: on a terminal, as plain
//! lines, as JSON lines, or for GitHub Actions.
//!
//! Progress goes to standard error; errors in writing it are ignored. Results go to standard
//! output; errors in writing them fail the command, except a closed pipe (`| head`).

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::{Instant, sleep_until};
use xtask_core::escape;

use crate::event::{Event, Output};
use crate::event_channel::{EventReader, TimedEvent};
use crate::report::plan;
use crate::report::sanitize::{self, clean};
use crate::report::timings::Timings;
use crate::ui::github;
use crate::ui::keymap::UiCommand;
use crate::ui::log_files::Logs;
use crate::ui::options::{Progress, UiOptions};
use crate::ui::plain::Plain;
use crate::ui::reproduce;
use crate::ui::terminal::Terminal;
use crate::ui::view::{Failed, View, failure_lines};

/// Standard output, with the first error in writing it.
#[derive(Debug, Default)]
struct Results(Option<io::Error>);

impl Results {
    /// Does nothing after an error.
    fn write(&mut self, text: &str) {
        if self.0.is_none() {
            self.0 = io::stdout().write_all(text.as_bytes()).err();
        }
    }

    fn line(&mut self, options: UiOptions, line: &str) {
        self.write(&(options.shown(line) + "\n"));
    }

    /// Reports the first error, unless the reader has closed the pipe.
    fn finish(self) -> io::Result<()> {
        match self.0.map_or_else(|| io::stdout().flush(), Err) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}

/// Shows all events until the last sender is dropped. Fails if results cannot be written.
pub(crate) async fn show(
    options: UiOptions,
    root: &Path,
    reproduce_options: &reproduce::Options,
    mut events: EventReader,
    commands: Option<UnboundedReceiver<UiCommand>>,
) -> io::Result<()> {
    let mut view: Box<dyn View> = match options.progress {
        Progress::Terminal => Box::new(Terminal::new(options)),
        Progress::Plain => Box::new(Plain::new(options)),
        Progress::GitHub => Box::new(github::GitHub::new(options)),
        Progress::Json => Box::new(Silent),
        Progress::Quiet => Box::new(Quiet(options)),
    };
    let is_json_progress = options.progress == Progress::Json;
    let mut logs = Logs::new(root);
    let mut timings = options.has_timings.then(Timings::new);
    let mut results = Results::default();
    let mut failures: Vec<Failed> = Vec::new();
    // Without a keyboard, a channel that stays open and empty.
    let (_sender, no_commands) = mpsc::unbounded_channel();
    let mut commands = commands.unwrap_or(no_commands);
    let mut last_failures: Vec<Failed> = Vec::new();
    let mut drawn = Instant::now();
    loop {
        let interval = view.refresh_interval();
        let event = tokio::select! {
            event = events.next() => event,
            Some(command) = commands.recv() => {
                view.execute(command, &last_failures);
                continue;
            }
            () = sleep_until(drawn + interval.unwrap_or_default()), if interval.is_some() => {
                drawn = Instant::now();
                view.tick();
                continue;
            }
        };
        let Some(TimedEvent { time, mut event }) = event else { break };
        logs.record(&event);
        let timings_file = timings.as_mut().and_then(|timings| timings.record(&event, root));
        match &event {
            Event::StepFailed(failure) => failures.push(Failed {
                log: logs.last_lines(&failure.component),
                log_path: Logs::path(&failure.component),
                command: reproduce::command(&failure.component, reproduce_options),
                failure: sanitize::cleaned_failure(failure.clone()),
            }),
            Event::Planned { steps } if options.is_json && !is_json_progress => {
                results.write(&escape::json(&format!("{}\n", plan::document(steps))));
            }
            _ => {}
        }
        if is_json_progress && let Ok(text) = event.to_json(time) {
            results.write(&escape::json(&(text + "\n")));
        }
        clean(&mut event);
        view.event(&event);
        match timings_file {
            Some(Ok(path)) if !is_json_progress => {
                options.print(&format!("timings: {path}"));
            }
            Some(Err(error)) => options.print(&format!("warning: cannot write timings: {error}")),
            _ => {}
        }
        match event {
            Event::Planned { steps } if !options.is_json && !is_json_progress => {
                for line in plan::lines(&steps, options.is_verbose) {
                    results.line(options, &line);
                }
            }
            Event::Output(output) if !is_json_progress => match output {
                Output::Text { text } => results.write(&options.shown(&text)),
                document @ Output::Document { .. } => results.write(&document.into_text()),
            },
            // In a glob, `?` matches any character.
            Event::Proposed { lines } if !is_json_progress => {
                for line in lines {
                    results.line(options, &line.replace(escape::is_control, "?"));
                }
            }
            Event::Pushed { reference, digest } if !is_json_progress => {
                results.line(options, &format!("{reference}@{digest}"));
            }
            // The step was restarted because its inputs changed.
            Event::StepStarted { component } => {
                failures.retain(|failed| failed.failure.component != component);
            }
            Event::StepFinished { component, outcome, .. } if outcome.is_good() => {
                last_failures.retain(|failed| failed.failure.component != component);
            }
            Event::RoundFinished(_) => {
                view.failures(&failures);
                if options.rings && io::stderr().is_terminal() {
                    drop(write!(io::stderr(), "\x07"));
                }
                if !failures.is_empty() {
                    last_failures = std::mem::take(&mut failures);
                }
            }
            _ => {}
        }
    }
    view.end();
    results.finish()
}

/// With `--progress json`, only the JSON events are printed.
struct Silent;

impl View for Silent {
    fn event(&mut self, _: &Event) {}

    fn failures(&mut self, _: &[Failed]) {}
}

/// Errors only.
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
