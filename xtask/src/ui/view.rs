//! What every type of progress output shows, and the details of failures.

use std::time::Duration;

use console::Style;
use xtask_core::escape;

use crate::event::Event;
use crate::outcome::Failure;
use crate::ui::keymap::UiCommand;

/// A failed component, with what is shown at the end of the round.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    /// The last lines of the log.
    pub(crate) log: Vec<String>,
    pub(crate) log_path: String,
    /// The command that reproduces the failure.
    pub(crate) command: String,
}

/// A type of progress output.
pub(crate) trait View {
    fn event(&mut self, event: &Event);

    /// How often [`View::tick`] is called; never if `None`.
    fn refresh_interval(&self) -> Option<Duration> {
        None
    }

    fn tick(&mut self) {}

    /// Executes a command of the user; there are none except on a terminal.
    fn execute(&mut self, _: UiCommand, _: &[Failed]) {}

    /// There are no more events.
    fn end(&mut self) {}

    /// Shows the details of all failures at the end of a round.
    fn failures(&mut self, failures: &[Failed]);
}

/// The details of all failures of a round.
pub(crate) fn failure_lines(failures: &[Failed], has_colors: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for failed in failures {
        let title = paint(&Style::new().red().bold(), "error", has_colors);
        lines.push(format!("{title}: {}", failed.failure.message));
        lines.extend(failure(failed));
    }
    lines
}

pub(crate) fn paint(style: &Style, text: &str, has_colors: bool) -> String {
    style.clone().force_styling(has_colors).apply_to(text).to_string()
}

/// The details of a failure, shown at the end of a round: the excerpt of the file, the last
/// lines of the log, and the command that reproduces it.
fn failure(failed: &Failed) -> Vec<String> {
    let Failed { failure, log, log_path, command } = failed;
    let mut lines = Vec::new();
    let width = failure.excerpt.last().map_or(0, |line| line.number.to_string().len());
    for line in &failure.excerpt {
        let mark = if line.is_marked { '>' } else { ' ' };
        lines.push(format!("{mark} {:width$} | {}", line.number, line.text));
    }
    if !log.is_empty() {
        lines.push(format!("last log lines ({log_path}):"));
        lines.extend(log.iter().map(|line| format!("    {}", escape::log(line, false))));
    }
    lines.push(format!("to reproduce: {command}"));
    lines
}
