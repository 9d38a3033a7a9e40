//! Output for GitHub Actions: one collapsible group per component, failures as annotations
//! of the file at fault, and a job summary.
//!
//! The commands are documented in "Workflow commands for GitHub Actions". The runner obeys
//! them in any line of any program's output, so all other output must not contain one.

use std::collections::HashMap;
use std::env;
use std::fs::File;
use std::io::{self, Write};

use crate::event::Event;
use crate::report::text;
use crate::ui::options::UiOptions;
use crate::ui::plain::Plain;
use crate::ui::view::{Failed, View, failure_lines};

pub(crate) struct GitHub {
    options: UiOptions,
    plain: Plain,
    groups: HashMap<String, Group>,
}

/// The lines of a running component.
#[derive(Default)]
struct Group {
    lines: Vec<String>,
    bytes: usize,
}

/// Above these limits, the lines of a component are printed in several groups.
const MAX_LINES: usize = 10_000;
const MAX_BYTES: usize = 4 << 20;

impl GitHub {
    pub(crate) fn new(options: UiOptions) -> Self {
        Self { options, plain: Plain::new(options), groups: HashMap::new() }
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
}

impl View for GitHub {
    fn event(&mut self, event: &Event) {
        let lines = self.plain.lines(event);
        let Some(component) = event.component() else {
            for line in lines {
                self.options.print(&line);
            }
            if let Event::RoundFinished(summary) = event {
                let text = markdown(&text::summary(summary));
                Self::summarize(&format!("**cargo xtask**: {text}\n"));
            }
            return;
        };
        let group = self.groups.entry(component.to_owned()).or_default();
        group.bytes += lines.iter().map(String::len).sum::<usize>();
        group.lines.extend(lines);
        let text = match event {
            Event::StepFinished { outcome, duration, .. } => text::outcome(outcome, *duration).0,
            _ if group.lines.len() < MAX_LINES && group.bytes < MAX_BYTES => return,
            _ => "in progress".to_owned(),
        };
        command(&format!("::group::{}", data(&format!("{component}: {text}"))));
        for line in self.groups.remove(component).unwrap_or_default().lines {
            self.options.print(&line);
        }
        command("::endgroup::");
    }

    fn failures(&mut self, failures: &[Failed]) {
        for Failed { failure, .. } in failures {
            let file = failure.file.as_ref().map(|file| format!(" file={}", property(file)));
            let line = failure.line.map(|line| format!(",line={line}"));
            let place = file.map(|file| file + &line.unwrap_or_default()).unwrap_or_default();
            command(&format!("::error{place}::{}", data(&failure.message)));
        }
        for line in failure_lines(failures, self.options.has_colors) {
            self.options.print(&line);
        }
        let plain = failure_lines(failures, false);
        if !plain.is_empty() {
            Self::summarize(&block(&plain.join("\n")));
        }
    }
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
