//! The live area: lines at the bottom of the terminal that are redrawn in place, below the
//! lines that scroll past.
//!
//! The cursor stays at the end of the last line, where the `^C` that a terminal echoes does
//! no harm; lines are truncated so that it fits. When the terminal gets narrower, it wraps
//! lines that are already drawn, so erasing counts rows rather than lines.

use std::io::Write;

use console::{Term, measure_text_width, truncate_str};

/// Columns kept free for `^C`, and for terminals that wrap a line that just fits.
const MARGIN: usize = 3;

/// Assumed where a terminal reports fewer.
const MIN_COLUMNS: usize = 10;
const MIN_ROWS: usize = 4;

pub(crate) struct Screen {
    term: Term,
    lines: Vec<String>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self { term: Term::buffered_stderr(), lines: Vec::new() }
    }

    /// Prints a line above the live area.
    pub(crate) fn print(&mut self, line: &str) {
        self.erase();
        self.write(line);
        self.write("\n");
        self.redraw();
    }

    /// Replaces the lines of the live area.
    pub(crate) fn draw(&mut self, lines: Vec<String>) {
        if lines.is_empty() && self.lines.is_empty() {
            return;
        }
        self.erase();
        self.lines = lines;
        self.redraw();
    }

    /// Clears the whole terminal.
    pub(crate) fn clear(&mut self) {
        self.lines.clear();
        drop(self.term.clear_screen());
        drop(self.term.flush());
    }

    /// Leaves what is on the terminal as it is, and draws the live area anew below it.
    pub(crate) fn forget(&mut self) {
        self.lines.clear();
    }

    fn erase(&mut self) {
        let columns = self.size().1;
        let rows = |line: &String| measure_text_width(line).div_ceil(columns).max(1);
        let rows: usize = self.lines.iter().map(rows).sum();
        if rows > 0 {
            self.write("\r");
            drop(self.term.move_cursor_up(rows - 1));
            drop(self.term.clear_to_end_of_screen());
        }
    }

    fn redraw(&mut self) {
        let columns = self.columns();
        for line in &mut self.lines {
            *line = truncate_str(line, columns, "…").into_owned();
        }
        let text = self.lines.join("\n");
        self.write(&text);
        drop(self.term.flush());
    }

    /// The columns of a line in the live area.
    pub(crate) fn columns(&self) -> usize {
        self.size().1.saturating_sub(MARGIN)
    }

    /// The rows of the terminal.
    pub(crate) fn rows(&self) -> usize {
        self.size().0
    }

    fn size(&self) -> (usize, usize) {
        let (rows, columns) = self.term.size();
        (usize::from(rows).max(MIN_ROWS), usize::from(columns).max(MIN_COLUMNS))
    }

    /// Errors are ignored: a closed terminal must not fail the build.
    fn write(&mut self, text: &str) {
        drop(self.term.write_all(text.as_bytes()));
    }
}
