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

use crate::event::{Event, Output, Stream};
use crate::event_channel::{EventReader, TimedEvent};
use crate::outcome::Failure;
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
    let mut ui = Ui {
        options,
        reproduce_options,
        view: match options.progress {
            Progress::Terminal => Box::new(Terminal::new(options)),
            Progress::Plain => Box::new(Plain::new(options)),
            Progress::GitHub => Box::new(github::GitHub::new(options)),
            Progress::Json => Box::new(Silent),
            Progress::Quiet => Box::new(Quiet(options)),
        },
        logs: Logs::new(root),
        results: Results::default(),
        failures: Vec::new(),
        last_failures: Vec::new(),
    };
    let mut timings = options.has_timings.then(Timings::new);
    // Without a keyboard, a channel that stays open and empty.
    let (_sender, no_commands) = mpsc::unbounded_channel();
    let mut commands = commands.unwrap_or(no_commands);
    let mut drawn = Instant::now();
    loop {
        let interval = ui.view.refresh_interval();
        let event = tokio::select! {
            event = events.next() => event,
            Some(command) = commands.recv() => {
                ui.view.execute(command, &ui.last_failures);
                continue;
            }
            () = sleep_until(drawn + interval.unwrap_or_default()), if interval.is_some() => {
                drawn = Instant::now();
                ui.view.tick();
                continue;
            }
        };
        let Some(event) = event else { break };
        let timings_file = timings.as_mut().and_then(|it| it.record(&event.event, root));
        ui.show(event);
        match timings_file {
            Some(Ok(path)) if !ui.is_json() => options.print(&format!("timings: {path}")),
            Some(Err(error)) => options.print(&format!("warning: cannot write timings: {error}")),
            _ => {}
        }
    }
    ui.view.end();
    ui.results.finish()
}

struct Ui<'a> {
    options: UiOptions,
    reproduce_options: &'a reproduce::Options,
    view: Box<dyn View>,
    logs: Logs,
    results: Results,
    /// Those of the round.
    failures: Vec<Failed>,
    /// Those of the last round that had any, as far as they were not built since.
    last_failures: Vec<Failed>,
}

impl Ui<'_> {
    fn is_json(&self) -> bool {
        self.options.progress == Progress::Json
    }

    fn show(&mut self, TimedEvent { time, mut event }: TimedEvent) {
        self.logs.record(&event);
        match &event {
            Event::StepFailed(failure) => self.failed(failure),
            // The summary comes last.
            Event::RoundFinished(_) => self.view.failures(&self.failures),
            _ => {}
        }
        if self.is_json() {
            if let Ok(text) = event.to_json(time) {
                self.results.write(&escape::json(&(text + "\n")));
            }
        } else if let Event::Planned { steps } = &event
            && self.options.is_json
        {
            self.results.write(&escape::json(&format!("{}\n", plan::document(steps))));
        }
        clean(&mut event);
        self.view.event(&event);
        self.forget_failures(&event);
        if !self.is_json() {
            self.result(event);
        }
    }

    fn failed(&mut self, failure: &Failure) {
        let failed = Failed {
            log: self.logs.last_lines(&failure.component),
            log_path: Logs::path(&failure.component),
            command: reproduce::command(&failure.component, self.reproduce_options),
            failure: sanitize::cleaned_failure(failure.clone()),
        };
        self.view.failed(&failed);
        self.failures.retain(|other| other.failure.component != failed.failure.component);
        self.failures.push(failed);
    }

    fn forget_failures(&mut self, event: &Event) {
        match event {
            // The step was restarted because its inputs changed.
            Event::StepStarted { component } => {
                self.failures.retain(|failed| failed.failure.component != *component);
            }
            Event::StepFinished { component, outcome, .. } if outcome.is_good() => {
                self.last_failures.retain(|failed| failed.failure.component != *component);
            }
            Event::RoundFinished(_) => {
                if self.options.rings && io::stderr().is_terminal() {
                    drop(write!(io::stderr(), "\x07"));
                }
                if !self.failures.is_empty() {
                    self.last_failures = std::mem::take(&mut self.failures);
                }
            }
            _ => {}
        }
    }

    /// Prints what belongs on standard output.
    fn result(&mut self, event: Event) {
        match event {
            Event::Planned { steps } if !self.options.is_json => self.write(|options, results| {
                let lines = plan::lines(&steps, options.is_verbose).into_iter();
                results.write(&lines.map(|line| options.shown(&line) + "\n").collect::<String>());
            }),
            Event::Output(Output::Text { text }) => {
                self.write(|options, results| results.write(&options.shown(&text)));
            }
            Event::Output(document) => {
                self.write(|_, results| results.write(&document.into_text()));
            }
            Event::PostBuildOutput { stream, line } => self.write(|options, results| {
                let line = escape::log(&line, options.has_colors);
                match stream {
                    Stream::Stdout => results.line(options, &line),
                    Stream::Stderr => options.print(&line),
                }
            }),
            // In a glob, `?` matches any character.
            Event::Proposed { lines } => self.write(|options, results| {
                for line in lines {
                    results.line(options, &line.replace(escape::is_control, "?"));
                }
            }),
            Event::Pushed { reference, digest } => self.write(|options, results| {
                results.line(options, &format!("{reference}@{digest}"));
            }),
            _ => {}
        }
    }

    /// Writes in the place of what is drawn, and draws that again below.
    fn write(&mut self, write: impl FnOnce(UiOptions, &mut Results)) {
        self.view.make_room();
        write(self.options, &mut self.results);
        self.view.tick();
    }
}

/// With `--progress json`, only the JSON events are printed.
struct Silent;

impl View for Silent {
    fn event(&mut self, _: &Event) {}

    fn failed(&mut self, _: &Failed) {}
}

/// Errors only.
struct Quiet(UiOptions);

impl View for Quiet {
    fn event(&mut self, event: &Event) {
        if let Event::PushFailed { reference, reason } = event {
            self.0.print(&format!("failed: {reference}: {reason}"));
        }
    }

    fn failed(&mut self, failed: &Failed) {
        for line in failure_lines(failed, self.0.has_colors) {
            self.0.print(&line);
        }
    }
}
