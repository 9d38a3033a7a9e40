//! Columns of text, aligned by their width on a terminal.

use console::measure_text_width;

/// The spaces between two columns.
const GAP: usize = 2;

/// One line per row. A column that is empty in all rows is left out, and so are spaces at the
/// end of a line.
pub(crate) fn align<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> Vec<String> {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = width_of(cell).max(*width);
        }
    }
    rows.iter().map(|row| line(row, &widths)).collect()
}

fn line(row: &[String], widths: &[usize]) -> String {
    let (mut line, mut gap) = (String::new(), 0);
    for (cell, width) in row.iter().zip(widths).filter(|(_, width)| **width > 0) {
        if !cell.is_empty() {
            line.push_str(&" ".repeat(gap));
            line.push_str(cell);
            gap = 0;
        }
        gap += width - width_of(cell) + GAP;
    }
    line
}

/// How wide a text is on a terminal. Most are plain ASCII, which is as wide as it is long.
fn width_of(text: &str) -> usize {
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_plain { text.len() } else { measure_text_width(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_look() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        let rows = [row(["組件", "", "x"]), row(["\u{1b}[31mweb\u{1b}[0m", "", ""])];
        assert_eq!(align(&rows), ["組件  x", "\u{1b}[31mweb\u{1b}[0m"]);
    }
}
