//! One line per event, prefixed with its component: for pipes, files and CI logs.

use std::fmt::Display;

use console::Style;
use xtask_core::escape;

use crate::event::{Event, InstructionStatus};
use crate::report::plan;
use crate::report::text;
use crate::ui::options::UiOptions;
use crate::ui::view::{Failed, View, failure_lines, paint};

/// Longer component names are not aligned.
const MAX_NAME_WIDTH: usize = 24;

pub(crate) struct Plain {
    options: UiOptions,
    name_width: usize,
}

impl Plain {
    pub(crate) fn new(options: UiOptions) -> Self {
        Self { options, name_width: 0 }
    }

    fn print(&self, event: &Event) {
        for line in self.lines(event) {
            self.options.print(&line);
        }
    }

    /// The lines for an event, without a line break.
    pub(crate) fn lines(&self, event: &Event) -> Vec<String> {
        let bold = |style: Style| style.bold();
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
            Event::ImageBuilt { component, image } => {
                self.line(component, &format!("image {image} built"), &Style::new().green())
            }
            Event::StepFailed(failure) => {
                let style = bold(Style::new().red());
                let lines = failure.message.lines();
                return lines.map(|line| self.line(&failure.component, line, &style)).collect();
            }
            Event::StepFinished { component, outcome, duration } => {
                let (text, style) = text::outcome(outcome, *duration);
                self.line(component, &text, &style)
            }
            Event::RoundFinished(summary) => {
                let style = text::summary_style(summary);
                self.titled("finished", &style, text::summary(summary))
            }
            Event::Watching { is_paused, components } => {
                let pause = if *is_paused { ", paused" } else { "" };
                let text = format!("{components} components{pause}");
                self.titled("watching", &bold(Style::new().cyan()), text)
            }
            Event::WatchError { message } => {
                self.titled("error", &bold(Style::new().red()), message)
            }
            Event::FilesChanged { paths, components } => {
                let text = text::changes(paths, components);
                self.titled("changed", &bold(Style::new().cyan()), text)
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
            Event::RoundStarted { .. }
            | Event::Instruction { .. }
            | Event::WorkspaceLoaded { .. }
            | Event::Planned { .. }
            | Event::Output(_)
            | Event::Proposed { .. }
            | Event::TaskStarted { .. }
            | Event::TaskFinished { .. }
            | Event::ContextSent { .. }
            | Event::Pushed { .. } => return Vec::new(),
        };
        vec![line]
    }

    fn line(&self, component: &str, text: &str, style: &Style) -> String {
        let name = format!("{component:width$} |", width = self.name_width);
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
            let widths = components.iter().map(|planned| planned.component.chars().count());
            self.name_width = widths.max().unwrap_or(0).min(MAX_NAME_WIDTH);
        }
        self.print(event);
    }

    fn failures(&mut self, failures: &[Failed]) {
        for line in failure_lines(failures, self.options.has_colors) {
            self.options.print(&line);
        }
    }
}
