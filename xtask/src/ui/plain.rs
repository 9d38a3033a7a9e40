//! One line per event, prefixed with its component: for pipes, files and CI logs.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use console::Style;
use xtask_core::escape;

use crate::event::{Event, InstructionStatus, Operation, Progress};
use crate::report::plan;
use crate::report::text;
use crate::ui::columns::{pad, width};
use crate::ui::not_run::NotRun;
use crate::ui::options::UiOptions;
use crate::ui::view::{Failed, Sight, View, failure_lines, paint};

/// Longer component names are not aligned.
const MAX_NAME_WIDTH: usize = 24;

/// When a long operation is mentioned for the first time.
const FIRST_MENTION: Duration = Duration::from_secs(2);

/// How long it takes until it is mentioned again.
const NEXT_MENTION: Duration = Duration::from_secs(10);

/// The rows of a screen, where nobody knows them.
const ROWS: usize = 24;

pub(crate) struct Plain {
    options: UiOptions,
    name_width: usize,
    /// How long the long operations had taken when they were mentioned last.
    mentioned: BTreeMap<(Operation, Option<String>, Option<String>), Duration>,
    not_run: NotRun,
    sight: Sight,
}

impl Plain {
    pub(crate) fn new(options: UiOptions) -> Self {
        Self {
            options,
            name_width: 0,
            mentioned: BTreeMap::new(),
            not_run: NotRun::default(),
            sight: Sight::default(),
        }
    }

    fn print(&mut self, lines: &[String]) {
        self.sight.printed(lines.len());
        for line in lines {
            self.options.print(line);
        }
    }

    /// The lines for an event, without a line break.
    pub(crate) fn lines(&mut self, event: &Event) -> Vec<String> {
        let bold = |style: Style| style.bold();
        if self.not_run.note(event) {
            return Vec::new();
        }
        let line = match event {
            Event::Warning(problem) => {
                self.titled("warning", &bold(Style::new().yellow()), problem)
            }
            Event::WaitingForLock { holder } => {
                let text = format!("for {holder} to finish");
                self.titled("waiting", &bold(Style::new().cyan()), text)
            }
            Event::WaitingFor { what } => {
                self.titled("waiting", &bold(Style::new().cyan()), format!("for {what}"))
            }
            Event::EngineStarted { engine } => {
                let text = format!("using {engine}, as no Docker engine answers");
                self.titled("note", &Style::new(), text)
            }
            Event::RoundStarted { components, .. } if components.is_empty() => {
                self.titled("note", &Style::new(), "nothing to build")
            }
            Event::StepStarted { component } => {
                self.line(component, "building", &bold(Style::new().cyan()))
            }
            Event::Pulling { component, reference } => {
                self.line(component, &format!("pulling {reference}"), &Style::new())
            }
            Event::Instruction { component, text, status, .. }
                if *status != InstructionStatus::Done =>
            {
                let mark = if *status == InstructionStatus::Cached { "CACHED " } else { "" };
                self.line(component, &format!("{mark}{text}"), &Style::new().bold())
            }
            Event::Log { component, line, .. } => {
                let text = escape::log(line, self.options.has_colors);
                self.line(component, &text, &Style::new())
            }
            Event::ImageStale { component, image, reasons } => {
                let text = format!("image {image}: {}", text::reasons(reasons));
                let mut lines = vec![self.line(component, &text, &Style::new().dim())];
                for line in plan::details(reasons).filter(|_| self.options.is_verbose) {
                    lines.push(self.line(component, &line, &Style::new().dim()));
                }
                return lines;
            }
            Event::ImageUpToDate { component, image } => {
                let text = format!("image {image} is up to date");
                self.line(component, &text, &Style::new().dim())
            }
            Event::ImagePulled { component, image, .. } => {
                self.line(component, &format!("image {image} pulled"), &Style::new().green())
            }
            Event::ImageInRegistry { component, image, .. } => {
                let text = format!("image {image} is in the registry");
                self.line(component, &text, &Style::new().dim())
            }
            Event::ImageBuilt { component, image } => {
                self.line(component, &format!("image {image} built"), &Style::new().green())
            }
            Event::StepFinished { component, outcome, duration } => {
                let (text, style) = text::outcome(outcome, *duration);
                self.line(component, &text, &style)
            }
            Event::RoundFinished(summary) => {
                let style = text::summary_style(summary);
                let yellow = Style::new().yellow();
                let not_run = self.not_run.take_lines();
                let not_run = not_run.iter().map(|line| self.titled("note", &yellow, line));
                let finished = self.titled("finished", &style, text::summary(summary));
                return not_run.chain([finished]).collect();
            }
            Event::Progress(progress) if self.is_due(progress) => self.progress(progress),
            other => return self.other_line(other).into_iter().collect(),
        };
        vec![line]
    }

    /// The line for an event of `watch` or `push`, if it has one.
    fn other_line(&self, event: &Event) -> Option<String> {
        let bold = |style: Style| style.bold();
        Some(match event {
            Event::Watching(state) => {
                self.titled("watching", &bold(Style::new().cyan()), text::watching(state))
            }
            Event::WorkspaceFixed => {
                self.titled("note", &Style::new(), "the workspace has no errors any more")
            }
            Event::WatchError { message } => {
                self.titled("error", &bold(Style::new().red()), message)
            }
            Event::FilesChanged { paths, components } => {
                let text = text::changes(paths, components);
                self.titled("changed", &bold(Style::new().cyan()), text)
            }
            Event::Tagged { image, reference } => {
                let text = format!("{image} as {reference}");
                self.titled("tagged", &bold(Style::new().green()), text)
            }
            Event::PushStarted { reference } => {
                self.titled("pushing", &bold(Style::new().cyan()), reference)
            }
            Event::PushRetried { reference, reason, delay } => {
                let delay = text::seconds(*delay);
                let text = format!("{reference}: {reason}; trying again in {delay}");
                self.titled("retry", &bold(Style::new().yellow()), text)
            }
            Event::PushFailed { reference, reason } => {
                let text = format!("{reference}: {reason}");
                self.titled("failed", &bold(Style::new().red()), text)
            }
            _ => return None,
        })
    }

    /// Whether a long operation is to be mentioned: once it has taken a while, and then now
    /// and again.
    fn is_due(&mut self, progress: &Progress) -> bool {
        let key = (progress.operation, progress.component.clone(), progress.subject.clone());
        let mentioned = self.mentioned.get(&key).copied();
        // One that took longer was another one.
        let since = mentioned.and_then(|mentioned| progress.duration.checked_sub(mentioned));
        let is_due = match since {
            None => progress.duration >= FIRST_MENTION,
            Some(since) => since >= NEXT_MENTION,
        };
        if is_due {
            self.mentioned.insert(key, progress.duration);
        }
        is_due
    }

    fn progress(&self, progress: &Progress) -> String {
        let text = format!("{} ({})", text::progress(progress), text::seconds(progress.duration));
        match &progress.component {
            Some(component) => self.line(component, &text, &Style::new().dim()),
            None => paint(&Style::new().dim(), &text, self.options.has_colors),
        }
    }

    fn line(&self, component: &str, text: &str, style: &Style) -> String {
        let name = format!("{} |", pad(component, self.name_width));
        let name = paint(&Style::new().dim(), &name, self.options.has_colors);
        format!("{name} {}", paint(style, text, self.options.has_colors))
    }

    fn titled(&self, title: &str, style: &Style, text: impl Display) -> String {
        format!("{}: {text}", paint(style, title, self.options.has_colors))
    }
}

impl View for Plain {
    fn event(&mut self, event: &Event) {
        if let Event::RoundStarted { components, .. } = event {
            let widths = components.iter().map(|planned| width(&planned.component));
            self.name_width = widths.max().unwrap_or(0).min(MAX_NAME_WIDTH);
        }
        let lines = self.lines(event);
        self.print(&lines);
    }

    fn failed(&mut self, failed: &Failed) {
        self.print(&failure_lines(failed, self.options.has_colors));
        self.sight.shown(failed);
    }

    fn failures(&mut self, failures: &[Failed]) {
        let again = self.sight.lines_again(failures, ROWS, self.options.has_colors);
        self.print(&again);
    }
}
