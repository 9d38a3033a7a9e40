//! Events for the log viewer of GitHub Actions: the lines of a component in one
//! group that can be folded, failures as annotations of the file that is to blame,
//! and the summary for the job's page.
//!
//! The commands are those of GitHub's documentation, "Workflow commands for GitHub
//! Actions".

use std::collections::HashMap;
use std::env;
use std::fs::File;
use std::io;

use super::plain::Plain;
use super::ui::{How, View, failure_lines, print};
use super::words;
use crate::event::{Event, Failure};

pub(super) struct GitHub {
    how: How,
    plain: Plain,
    lines: HashMap<String, Vec<String>>,
}

impl GitHub {
    pub(super) fn new(how: How) -> Self {
        Self { how, plain: Plain::new(how), lines: HashMap::new() }
    }

    /// A job's page takes Markdown.
    fn summarize(text: &str) {
        let path = env::var_os("GITHUB_STEP_SUMMARY");
        if let Some(file) =
            path.and_then(|path| File::options().append(true).create(true).open(path).ok())
        {
            print(file, text);
        }
    }
}

impl View for GitHub {
    fn event(&mut self, event: &Event) {
        let lines = self.plain.lines(event);
        let Some(component) = event.component() else {
            for line in lines {
                print(io::stderr(), &line);
            }
            if let Event::RoundFinished(summary) = event {
                Self::summarize(&format!("**cargo xtask**: {}\n", words::summary(summary)));
            }
            return;
        };
        self.lines.entry(component.to_owned()).or_default().extend(lines);
        if let Event::StepFinished { component, outcome, duration } = event {
            let (text, _) = words::outcome(outcome, *duration);
            print(io::stderr(), &format!("::group::{component}: {text}"));
            for line in self.lines.remove(component).unwrap_or_default() {
                print(io::stderr(), &line);
            }
            print(io::stderr(), "::endgroup::");
        }
    }

    fn failures(&mut self, failures: &[(Failure, Vec<String>)]) {
        for (failure, _) in failures {
            let file = failure.file.as_ref().map(|file| format!(" file={}", escaped(file)));
            let line = failure.line.map(|line| format!(",line={line}"));
            let place = file.map(|file| file + &line.unwrap_or_default()).unwrap_or_default();
            print(io::stderr(), &format!("::error{place}::{}", escaped(&failure.message)));
        }
        for line in failure_lines(failures, self.how.has_colors) {
            print(io::stderr(), &line);
        }
        let plain = failure_lines(failures, false);
        if !plain.is_empty() {
            Self::summarize(&format!("```\n{}\n```\n", plain.join("\n")));
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}
