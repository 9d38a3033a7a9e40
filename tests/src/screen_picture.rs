//! A terminal's screen as an SVG picture: the colors and the text of its cells, at times that
//! do not differ from run to run.

use std::fmt::Write;

use vt100::{Cell, Color, Screen};

use crate::output::replace_times;

/// Of a character, of a row, and around all, in pixels.
const COLUMN: usize = 8;
const ROW: usize = 20;
const MARGIN: usize = 16;

/// Text of one look.
struct Run {
    class: String,
    text: String,
}

/// The rows that are not empty, below the command that was typed.
pub(crate) fn svg(screen: &Screen, command: &str, own: impl Fn(&str) -> String) -> String {
    let (rows, columns) = screen.size();
    let prompt = vec![
        Run { class: "c2".into(), text: "$ ".into() },
        Run { class: "b".into(), text: command.into() },
    ];
    let mut lines = vec![prompt];
    lines.extend((0..rows).map(|row| runs(screen, row, columns)));
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    let width = usize::from(columns) * COLUMN + 2 * MARGIN;
    let height = lines.len() * ROW + 2 * MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\">
  <style>
    rect {{ fill: #1b1f24; }}
    text {{ font: 13px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; \
         fill: #d0d7de; white-space: pre; }}
    .c1 {{ fill: #ff7b72; }} .c2 {{ fill: #56d364; }} .c3 {{ fill: #e3b341; }} \
         .c6 {{ fill: #56d4dd; }}
    .b {{ font-weight: bold; }} .d {{ opacity: .65; }}
  </style>
  <rect width=\"{width}\" height=\"{height}\" rx=\"8\"/>
"
    );
    for (line, runs) in lines.iter().enumerate() {
        let mut column = 0;
        for Run { class, text } in runs {
            let text = fixed_times(&own(text));
            let length = text.chars().count();
            let x = MARGIN + column * COLUMN;
            let y = MARGIN + line * ROW + 14;
            let shown = text.replace('&', "&amp;").replace('<', "&lt;");
            // The columns are right with any font.
            let drawn = length * COLUMN;
            writeln!(
                out,
                "  <text x=\"{x}\" y=\"{y}\" class=\"{class}\" xml:space=\"preserve\" \
                 textLength=\"{drawn}\">{shown}</text>"
            )
            .expect("a string");
            column += length;
        }
    }
    out + "</svg>\n"
}

fn runs(screen: &Screen, row: u16, columns: u16) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for cell in (0..columns).filter_map(|column| screen.cell(row, column)) {
        let text = if cell.has_contents() { cell.contents() } else { " " };
        let class = class(cell);
        match runs.last_mut() {
            Some(run) if run.class == class => run.text.push_str(text),
            _ => runs.push(Run { class, text: text.to_owned() }),
        }
    }
    if let Some(last) = runs.last_mut() {
        last.text.truncate(last.text.trim_end().len());
    }
    runs.retain(|run| !run.text.is_empty());
    runs
}

fn class(cell: &Cell) -> String {
    let mut class = match cell.fgcolor() {
        Color::Idx(color) => format!("c{color}"),
        _ => String::new(),
    };
    for (is_set, name) in [(cell.bold(), " b"), (cell.dim(), " d")] {
        if is_set {
            class.push_str(name);
        }
    }
    class.trim_start().to_owned()
}

/// `1.7s` becomes `0.8s`, and an estimate `about 2s left`.
fn fixed_times(text: &str) -> String {
    let text = replace_times(text).replace("[TIME]", "0.8s").replace("[N]", "2.0");
    let Some((before, rest)) = text.split_once(", about ") else { return text };
    let Some((_, after)) = rest.split_once(" left") else { return text };
    format!("{before}, about 2s left{after}")
}

#[cfg(test)]
mod tests {
    use super::svg;

    #[test]
    fn a_wait_for_the_engine_is_left_out_with_its_second_row() {
        let mut parser = vt100::Parser::new(5, 20, 0);
        parser.process(b"one\r\n\x1b[1mwaiting:\x1b[0m for the engine\r\nthree 1.5s\r\n");
        let picture = svg(parser.screen(), "x", str::to_owned);
        assert!(!picture.contains("engine") && !picture.contains("gine<"), "{picture}");
        assert!(picture.contains(">one<") && picture.contains(">three 0.8s<"), "{picture}");
    }
}
