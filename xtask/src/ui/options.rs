//! How events are shown.

use std::io::{self, Write};

use crate::ui::workflow_commands::shown;

/// How events are shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UiOptions {
    pub(crate) progress: Progress,
    /// List every changed file instead of the first.
    pub(crate) is_verbose: bool,
    /// Print the plan as JSON.
    pub(crate) is_json: bool,
    /// Write `timings.html`.
    pub(crate) has_timings: bool,
    pub(crate) has_colors: bool,
    /// Clear the terminal before each round.
    pub(crate) clears: bool,
    /// Ring the terminal bell after each round.
    pub(crate) rings: bool,
    /// The GitHub Actions runner reads the output, and obeys workflow commands in it.
    pub(crate) is_github: bool,
}

impl UiOptions {
    pub(crate) fn shown(self, text: &str) -> String {
        shown(text, self.is_github)
    }

    /// Prints a line to standard error. Errors are ignored.
    pub(crate) fn print(self, text: &str) {
        drop(writeln!(io::stderr(), "{}", self.shown(text)));
    }
}

/// The types of progress output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Running steps, updated in place.
    Terminal,
    /// One line per event.
    Plain,
    /// Plain lines, grouped by component.
    GitHub,
    /// One JSON object per event, on standard output.
    Json,
    /// Errors only.
    Quiet,
}
