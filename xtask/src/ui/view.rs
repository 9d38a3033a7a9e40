//! What every type of progress output shows, and the details of failures.

use std::collections::HashMap;
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

    /// Removes what [`View::tick`] draws, so that something else can be printed in its place.
    fn make_room(&mut self) {}

    /// There are no more events.
    fn end(&mut self) {}

    /// Shows a failure when it happens.
    fn failed(&mut self, failed: &Failed);

    /// Shows failures again at the end of a round, unless they are still in sight.
    fn failures(&mut self, _: &[Failed]) {}
}

/// Which failures are still in sight at the end of a round: those with less than a screen of
/// lines below them.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    printed: usize,
    shown_at: HashMap<String, usize>,
}

impl Sight {
    pub(crate) fn printed(&mut self, lines: usize) {
        self.printed += lines;
    }

    pub(crate) fn shown(&mut self, failed: &Failed) {
        self.shown_at.insert(failed.failure.component.clone(), self.printed);
    }

    /// The lines for the failures that are out of sight on a screen of so many rows.
    pub(crate) fn lines_again(
        &self,
        failures: &[Failed],
        rows: usize,
        has_colors: bool,
    ) -> Vec<String> {
        let is_out_of_sight = |failed: &&Failed| {
            let shown_at = self.shown_at.get(&failed.failure.component);
            shown_at.is_none_or(|shown_at| self.printed - shown_at >= rows)
        };
        let out_of_sight = failures.iter().filter(is_out_of_sight);
        out_of_sight.flat_map(|failed| failure_lines(failed, has_colors)).collect()
    }
}

/// The details of a failure: the message, the excerpt of the file, the last lines of the log,
/// and the command that reproduces it.
pub(crate) fn failure_lines(failed: &Failed, has_colors: bool) -> Vec<String> {
    let mut lines = message_lines(failed, has_colors);
    if !failed.log.is_empty() {
        lines.push(format!("last log lines ({}):", failed.log_path));
        lines.extend(failed.log.iter().map(|line| format!("    {}", escape::log(line, false))));
    }
    lines.push(format!("to reproduce: {}", failed.command));
    lines
}

/// The message of a failure, and the excerpt of the file.
pub(crate) fn message_lines(failed: &Failed, has_colors: bool) -> Vec<String> {
    let Failure { message, excerpt, .. } = &failed.failure;
    let title = paint(&Style::new().red().bold(), "error", has_colors);
    let mut lines = vec![format!("{title}: {message}")];
    let width = excerpt.last().map_or(0, |line| line.number.to_string().len());
    for line in excerpt {
        let mark = if line.is_marked { '>' } else { ' ' };
        lines.push(format!("{mark} {:width$} | {}", line.number, line.text));
    }
    lines
}

pub(crate) fn paint(style: &Style, text: &str, has_colors: bool) -> String {
    style.clone().force_styling(has_colors).apply_to(text).to_string()
}
