//! The place in a Dockerfile that an engine means.
//!
//! Engines name an instruction as they understood it, not by its line: BuildKit
//! `[build 2/3] RUN make`, with variables expanded, the classic builder
//! `Step 4/7 : RUN make`. The line is found by the words, and is unknown where no
//! instruction, or more than one, has them.

/// How many lines are shown on each side.
const AROUND: usize = 2;

/// The line of the instruction that an engine names so, from 1.
pub fn find(dockerfile: &str, instruction: &str) -> Option<usize> {
    let named = instruction.split_once("] ").or_else(|| instruction.split_once(" : "));
    let wanted = words(named.map_or(instruction, |(_, text)| text));
    let logical = logical_lines(dockerfile);
    let mut found = logical.iter().filter(|(_, text)| words(text) == wanted);
    match (found.next(), found.next()) {
        (Some((line, _)), None) => Some(*line),
        _ => None,
    }
}

/// The line of the one command that a message quotes, from 1: engines may give up
/// before they say which instruction failed.
pub fn find_quoted(dockerfile: &str, message: &str) -> Option<usize> {
    let plain = |text: &str| text.replace(['[', ']'], " ");
    let message = plain(message);
    let message = words(&message);
    let quotes = |text: &str| {
        let text = plain(text);
        let words = words(&text);
        let (first, command) = words.split_first()?;
        let is_quoted = !command.is_empty()
            && first.eq_ignore_ascii_case("RUN")
            && message.windows(command.len()).any(|window| window == command);
        is_quoted.then_some(command.len())
    };
    let logical = logical_lines(dockerfile);
    let quoted = logical.iter().filter_map(|(line, text)| Some((quotes(text)?, *line)));
    let mut quoted: Vec<(usize, usize)> = quoted.collect();
    quoted.sort_unstable();
    match quoted.as_slice() {
        [.., (before, _), (last, _)] if before == last => None,
        [.., (_, line)] => Some(*line),
        [] => None,
    }
}

/// The lines around one, with their numbers.
pub fn around(text: &str, line: usize) -> Vec<(usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, text)| (index + 1, text));
    lines
        .skip(line.saturating_sub(AROUND + 1))
        .take_while(|(number, _)| *number <= line + AROUND)
        .collect()
}

/// Instructions with their continuation lines, by the line on which they begin.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut is_open = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let continued = line.trim_end().strip_suffix('\\');
        let part = continued.unwrap_or(line);
        match found.last_mut().filter(|_| is_open) {
            Some((_, whole)) => whole.push_str(part),
            None => found.push((index + 1, part.to_owned())),
        }
        is_open = continued.is_some();
    }
    found
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# base\nFROM x AS build\nRUN a && \\\n  # why\n  b\nRUN c\nCOPY d /\nRUN c\n";

    #[test]
    fn an_instruction_is_found_by_its_words() {
        assert_eq!(find(TEXT, "[build 2/3] RUN a &&   b"), Some(3));
        assert_eq!(find(TEXT, "Step 4/7 : COPY d /"), Some(7));
        assert_eq!(find(TEXT, "[build 3/3] RUN c"), None, "there are two");
        assert_eq!(find(TEXT, "[build 3/3] RUN x"), None);
        assert_eq!(find_quoted(TEXT, "failed: [/bin/sh -c a && b]: exit code: 1"), Some(3));
        assert_eq!(find_quoted(TEXT, "failed: [/bin/sh -c x]: exit code: 1"), None);
    }

    #[test]
    fn the_lines_around_it_are_shown() {
        assert_eq!(
            around("1\n2\n3\n4\n5\n6", 4),
            [(2, "2"), (3, "3"), (4, "4"), (5, "5"), (6, "6")]
        );
        assert_eq!(around("1\n2", 1), [(1, "1"), (2, "2")]);
    }
}
