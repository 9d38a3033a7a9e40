//! Events for the log viewer of GitHub Actions: the lines of a component in one
//! group that can be folded, failures as annotations of the file that is to blame,
//! and the summary for the job's page.
//!
//! The commands are those of GitHub's documentation, "Workflow commands for GitHub
//! Actions". The runner takes them from any line of any program, so whatever else is
//! written there must hold none.

use std::collections::HashMap;
use std::env;
use std::fs::File;
use std::io::{self, Write};

use console::measure_text_width;

use crate::event::Event;
use crate::ui::plain::Plain;
use crate::ui::text;
use crate::ui::{Failed, UiOptions, View, failure_lines};

/// Shown only where a line is broken.
const SOFT_HYPHEN: char = '\u{ad}';

pub(crate) struct GitHub {
    how: UiOptions,
    plain: Plain,
    groups: HashMap<String, Group>,
}

/// What a component that runs wrote.
#[derive(Default)]
struct Group {
    lines: Vec<String>,
    bytes: usize,
}

/// A component that wrote so much is shown in several groups.
const MOST_LINES: usize = 10_000;
const MOST_BYTES: usize = 4 << 20;

impl GitHub {
    pub(crate) fn new(how: UiOptions) -> Self {
        Self { how, plain: Plain::new(how), groups: HashMap::new() }
    }

    /// A job's page takes Markdown.
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
                self.how.print(&line);
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
            _ if group.lines.len() < MOST_LINES && group.bytes < MOST_BYTES => return,
            _ => "so far".to_owned(),
        };
        command(&format!("::group::{}", data(&format!("{component}: {text}"))));
        for line in self.groups.remove(component).unwrap_or_default().lines {
            self.how.print(&line);
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
        for line in failure_lines(failures, self.how.has_colors) {
            self.how.print(&line);
        }
        let plain = failure_lines(failures, false);
        if !plain.is_empty() {
            Self::summarize(&block(&plain.join("\n")));
        }
    }
}

/// Writes a line that the runner obeys.
fn command(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}

/// What a command says: escaped as GitHub's toolkit does it.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// The value of a command's property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Lines of which the runner obeys none. It obeys those that begin with `::`, after
/// blanks and what has no width, and `##[command]` anywhere in a line.
pub(crate) fn inert(text: &str) -> String {
    let lines = text.split('\n').map(|line| {
        let is_seen = |letter: &char| {
            let width = measure_text_width(letter.encode_utf8(&mut [0; 4]));
            letter.is_whitespace() || (width > 0 && *letter != SOFT_HYPHEN)
        };
        let seen: String = line.chars().filter(is_seen).collect();
        let is_command = seen.trim_start().starts_with("::");
        if is_command { line.replacen(':', "\\:", 1) } else { line.to_owned() }
    });
    lines.collect::<Vec<_>>().join("\n").replace("##[", "##\\[")
}

/// Text of which Markdown makes nothing else.
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

/// Lines as they are, in Markdown: no line of them ends the block.
fn block(text: &str) -> String {
    let longest = text.split(|letter| letter != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}\n{text}\n{fence}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What GitHub's runner does with a line (`ActionCommand.TryParseV2` and `TryParse`).
    fn is_obeyed(line: &str) -> bool {
        let seen: String =
            line.chars().filter(|letter| !"\u{ad}\u{200b}".contains(*letter)).collect();
        seen.trim_start().starts_with("::") || line.contains("##[")
    }

    #[test]
    fn no_line_is_a_command() {
        let commands = [
            "::error::x",
            "  \t ::add-mask::x",
            "\u{a0}\u{3000}::x",
            "\u{200b}:\u{ad}:x",
            "a\n::b\n  ::c",
            "at any place ##[error]x ##[group]",
            ":::x",
        ];
        for text in commands {
            assert!(text.lines().any(is_obeyed), "{text}");
            assert!(!inert(text).lines().any(is_obeyed), "{}", inert(text));
        }
        assert_eq!(inert("  ::x"), "  \\::x");
        let harmless = "a ::b\n: :c\n# #[d]\n\u{1b}[31m::e\n:\n";
        assert_eq!(inert(harmless), harmless);
    }

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
