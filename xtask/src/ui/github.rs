//! Output for GitHub Actions: one collapsible group per component, failures as annotations
//! of the file at fault, and a job summary.
//!
//! The commands are documented in "Workflow commands for GitHub Actions". The runner obeys
//! them in any line of any program's output, so all other output must not contain one.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use xtask_core::escape;

use crate::event::Event;
use crate::report::text;
use crate::ui::options::UiOptions;
use crate::ui::plain::Plain;
use crate::ui::view::{Failed, View, failure_lines, message_lines};

/// A component that runs for longer is shown while it runs.
const LONG: Duration = Duration::from_secs(5);

/// How often it is looked for.
const INTERVAL: Duration = Duration::from_secs(1);

pub(crate) struct GitHub {
    options: UiOptions,
    plain: Plain,
    groups: BTreeMap<String, Group>,
    /// The component whose lines are printed as they come.
    streamed: Option<String>,
    /// Whether its group is open. A group cannot hold another one.
    is_open: bool,
    /// The failures of the round, for the job summary.
    failures: Vec<String>,
}

/// The lines of a running component.
struct Group {
    since: Instant,
    lines: Vec<String>,
    bytes: usize,
}

impl Default for Group {
    fn default() -> Self {
        Self { since: Instant::now(), lines: Vec::new(), bytes: 0 }
    }
}

/// Above these limits, the lines of a component are printed in several groups.
const MAX_LINES: usize = 10_000;
const MAX_BYTES: usize = 4 << 20;

impl GitHub {
    pub(crate) fn new(options: UiOptions) -> Self {
        let plain = Plain::new(options);
        Self {
            options,
            plain,
            groups: BTreeMap::new(),
            streamed: None,
            is_open: false,
            failures: Vec::new(),
        }
    }

    /// Appends Markdown to the job summary.
    fn summarize(text: &str) {
        let path = env::var_os("GITHUB_STEP_SUMMARY");
        if let Some(mut file) =
            path.and_then(|path| File::options().append(true).create(true).open(path).ok())
        {
            drop(writeln!(file, "{text}"));
        }
    }

    fn print(&self, lines: &[String]) {
        for line in lines {
            self.options.print(line);
        }
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            command("::endgroup::");
        }
    }

    /// Prints a group of its own.
    fn print_group(&mut self, component: &str, title: &str) {
        let Some(group) = self.groups.remove(component) else { return };
        self.close();
        command(&format!("::group::{}", data(&format!("{component}: {title}"))));
        self.print(&group.lines);
        command("::endgroup::");
    }

    /// Prints lines of the component that is shown while it runs.
    fn stream(&mut self, component: &str, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        if !std::mem::replace(&mut self.is_open, true) {
            command(&format!("::group::{}", data(&format!("{component}: in progress"))));
        }
        self.print(lines);
    }

    fn component_event(&mut self, component: &str, lines: Vec<String>, event: &Event) {
        let ended = match event {
            Event::StepFinished { outcome, duration, .. } => {
                Some(text::outcome(outcome, *duration))
            }
            _ => None,
        };
        if self.streamed.as_deref() == Some(component) {
            if ended.is_some() {
                self.close();
                self.streamed = None;
                self.print(&lines);
            } else {
                self.stream(component, &lines);
            }
            return;
        }
        if !lines.is_empty() {
            let group = self.groups.entry(component.to_owned()).or_default();
            group.bytes += lines.iter().map(String::len).sum::<usize>();
            group.lines.extend(lines);
        }
        let is_long = |group: &Group| group.lines.len() >= MAX_LINES || group.bytes >= MAX_BYTES;
        if let Some((title, _)) = ended {
            self.print_group(component, &title);
        } else if self.groups.get(component).is_some_and(is_long) {
            self.print_group(component, "in progress");
        }
    }
}

impl View for GitHub {
    fn event(&mut self, event: &Event) {
        if let Event::Error(problem) = event {
            self.close();
            if let Some(file) = &problem.file {
                annotate(Some(file), problem.line, &escape::lines(&problem.message));
            }
            return;
        }
        let lines = self.plain.lines(event);
        if let Some(component) = event.component() {
            self.component_event(component, lines, event);
            return;
        }
        if !lines.is_empty() {
            self.close();
        }
        self.print(&lines);
        if let Event::RoundFinished(summary) = event {
            let text = markdown(&text::summary(summary));
            Self::summarize(&format!("**cargo xtask**: {text}\n"));
            let failures = std::mem::take(&mut self.failures);
            if !failures.is_empty() {
                Self::summarize(&block(&failures.join("\n")));
            }
        }
    }

    fn refresh_interval(&self) -> Option<Duration> {
        (self.streamed.is_none() && !self.groups.is_empty()).then_some(INTERVAL)
    }

    /// Shows the component that has run for longest, if it has run for long.
    fn tick(&mut self) {
        let oldest = self.groups.iter().min_by_key(|(_, group)| group.since);
        let Some((component, group)) = oldest else { return };
        if group.since.elapsed() < LONG {
            return;
        }
        let component = component.clone();
        let lines = self.groups.remove(&component).map_or(Vec::new(), |group| group.lines);
        self.stream(&component, &lines);
        self.streamed = Some(component);
    }

    fn failed(&mut self, failed: &Failed) {
        let lines = message_lines(failed, self.options.has_colors);
        let component = &failed.failure.component;
        if self.streamed.as_ref() == Some(component) {
            self.stream(component, &lines);
        } else {
            self.groups.entry(component.clone()).or_default().lines.extend(lines);
        }
    }

    fn failures(&mut self, failures: &[Failed]) {
        self.close();
        for failed in failures {
            let failure = &failed.failure;
            annotate(failure.file.as_deref(), failure.line, &failure.message);
            self.print(&failure_lines(failed, self.options.has_colors));
            self.failures.extend(failure_lines(failed, false));
        }
    }

    fn end(&mut self) {
        self.close();
    }
}

/// Marks the place of an error in the files of the pull request.
fn annotate(file: Option<&str>, line: Option<usize>, message: &str) {
    let file = file.map(|file| format!(" file={}", property(&escape::line(file))));
    let line = line.map(|line| format!(",line={line}"));
    let place = file.map(|file| file + &line.unwrap_or_default()).unwrap_or_default();
    command(&format!("::error{place}::{}", data(message)));
}

/// Prints a workflow command.
fn command(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}

/// The message of a command, escaped as GitHub's toolkit does.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// The value of a command's property, escaped.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Escapes Markdown.
fn markdown(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        if "\\`*_[]<>&|~#".contains(letter) {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

/// A fenced code block; the fence is longer than any run of backticks in the text.
fn block(text: &str) -> String {
    let longest = text.split(|letter| letter != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}\n{text}\n{fence}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_data_are_escaped() {
        assert_eq!(data("50%\r\n::x"), "50%25%0D%0A::x");
        assert_eq!(property("a:b,c%\n"), "a%3Ab%2Cc%25%0A");
    }

    #[test]
    fn nothing_leaves_its_place_in_markdown() {
        assert_eq!(markdown("a <b> `c`"), "a \\<b\\> \\`c\\`");
        assert_eq!(block("a"), "```\na\n```\n");
        assert_eq!(block("```\n````"), "`````\n```\n````\n`````\n");
    }
}
