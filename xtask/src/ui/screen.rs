//! The last lines of a terminal, drawn again and again below what scrolls by.
//!
//! The cursor stays at the end of the last line, so that the `^C` of an interrupted
//! user lands there and breaks nothing; there is always room for it. Lines are
//! cut to the terminal's width. If that shrinks, lines that are there already are
//! folded by the terminal, and take more rows.

use std::io::Write;

use console::{Term, measure_text_width, truncate_str};

/// Room for `^C`, and for terminals that fold a line that just fits.
const MARGIN: usize = 3;

/// Of a terminal that does not know its size.
const FEWEST_COLUMNS: usize = 10;

pub(crate) struct Screen {
    term: Term,
    lines: Vec<String>,
}

impl Screen {
    /// On standard error, with nothing drawn.
    pub(crate) fn new() -> Self {
        Self { term: Term::buffered_stderr(), lines: Vec::new() }
    }

    /// Lets a line scroll by above what is drawn.
    pub(crate) fn say(&mut self, line: &str) {
        self.erase();
        self.write(line);
        self.write("\n");
        self.redraw();
    }

    /// Draws other lines in place of those that are drawn.
    pub(crate) fn draw(&mut self, lines: Vec<String>) {
        if lines.is_empty() && self.lines.is_empty() {
            return;
        }
        self.erase();
        self.lines = lines;
        self.redraw();
    }

    /// Empties the terminal.
    pub(crate) fn clear(&mut self) {
        self.lines.clear();
        drop(self.term.clear_screen());
        drop(self.term.flush());
    }

    fn erase(&mut self) {
        let columns = self.columns();
        let rows = |line: &String| measure_text_width(line).div_ceil(columns).max(1);
        let rows: usize = self.lines.iter().map(rows).sum();
        if rows > 0 {
            self.write("\r");
            drop(self.term.move_cursor_up(rows - 1));
            drop(self.term.clear_to_end_of_screen());
        }
    }

    fn redraw(&mut self) {
        let room = self.columns().saturating_sub(MARGIN);
        for line in &mut self.lines {
            *line = truncate_str(line, room, "…").into_owned();
        }
        let text = self.lines.join("\n");
        self.write(&text);
        drop(self.term.flush());
    }

    fn columns(&self) -> usize {
        usize::from(self.term.size().1).max(FEWEST_COLUMNS)
    }

    /// A terminal that is gone is no reason to fail.
    fn write(&mut self, text: &str) {
        drop(self.term.write_all(text.as_bytes()));
    }
}
