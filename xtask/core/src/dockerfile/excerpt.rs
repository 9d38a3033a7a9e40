//! Finds the line of a Dockerfile that an engine's error is about.
//!
//! Engines name an instruction by its text, not by its line: BuildKit as
//! `[build 2/3] RUN make`, with variables expanded, the classic builder as
//! `Step 4/7 : RUN make`. The line is found by comparing words, and is unknown if no
//! instruction matches, or more than one.
//!
//! BuildKit runs instructions in parallel, so the instruction that it names, or that was
//! last seen running, is not always the one that failed. An error about a missing file
//! names the file: then only an instruction that copies or mounts it can be the cause.

/// The number of context lines on each side.
const CONTEXT_LINES: usize = 2;

/// The line of an instruction, as an engine names it, starting at 1.
fn find(dockerfile: &str, instruction: &str) -> Option<usize> {
    let wanted = words(without_step(instruction));
    let logical = logical_lines(dockerfile);
    let mut found = logical.iter().filter(|(_, text)| words(text) == wanted);
    match (found.next(), found.next()) {
        (Some((line, _)), None) => Some(*line),
        _ => None,
    }
}

/// The line of the instruction that failed, starting at 1. `instruction` is the one that
/// the engine named, if any, and `message` its error. `None` if the line is uncertain.
pub fn find_failed(dockerfile: &str, instruction: Option<&str>, message: &str) -> Option<usize> {
    let Some(missing) = missing_source(message) else {
        return match instruction {
            Some(instruction) => find(dockerfile, instruction),
            None => find_quoted(dockerfile, message),
        };
    };
    let logical = logical_lines(dockerfile);
    let mut found = logical.iter().filter(|(_, text)| has_source(text, missing));
    if let (Some((line, _)), None) = (found.next(), found.next()) {
        return Some(*line);
    }
    find(dockerfile, instruction.filter(|text| has_source(without_step(text), missing))?)
}

/// The path, in the context or in a stage, that BuildKit did not find when it prepared an
/// instruction. `None` for other errors, empty if the message does not quote the path.
fn missing_source(message: &str) -> Option<&str> {
    let message = message.strip_prefix("failed to solve: ").unwrap_or(message);
    let prefixes = ["failed to compute cache key: ", "failed to calculate checksum of ref "];
    if !prefixes.iter().any(|prefix| message.starts_with(prefix)) {
        return None;
    }
    let quoted = message.split_once('"').and_then(|(_, rest)| rest.split_once('"'));
    Some(quoted.map_or("", |(path, _)| path))
}

/// Whether an instruction copies or mounts a path. An empty path stands for an unknown one,
/// which any `COPY` or `ADD` may copy.
fn has_source(instruction: &str, path: &str) -> bool {
    let words = words(instruction);
    let Some((keyword, rest)) = words.split_first() else { return false };
    let is_copy = ["COPY", "ADD"].iter().any(|copy| keyword.eq_ignore_ascii_case(copy));
    if path.is_empty() {
        return is_copy;
    }
    let (flags, arguments): (Vec<&str>, Vec<&str>) =
        rest.iter().partition(|word| word.starts_with("--"));
    if is_copy {
        let as_json = serde_json::from_str::<Vec<String>>(&arguments.join(" "));
        let arguments =
            as_json.unwrap_or_else(|_| arguments.iter().map(|&word| word.to_owned()).collect());
        let sources = arguments.split_last().map_or(&[][..], |(_, sources)| sources);
        return sources.iter().any(|source| is_same(source, path));
    }
    let mut mounted = flags
        .iter()
        .filter_map(|flag| flag.strip_prefix("--mount="))
        .flat_map(|mount| mount.split(','))
        .filter_map(|field| field.strip_prefix("source=").or(field.strip_prefix("src=")));
    mounted.any(|source| is_same(source, path))
}

/// Whether two relative paths are equal after normalization.
fn is_same(one: &str, other: &str) -> bool {
    let parts = |path: &str| -> Vec<String> {
        let unquoted = path.trim_matches(['"', '\'']);
        let parts = unquoted.split('/').filter(|part| !matches!(*part, "" | "."));
        parts.map(str::to_owned).collect()
    };
    parts(one) == parts(other)
}

/// The line of the `RUN` command that a message quotes, starting at 1. Engines may report
/// an error without naming the instruction that failed. The longest command wins.
fn find_quoted(dockerfile: &str, message: &str) -> Option<usize> {
    let plain = |text: &str| text.replace(['[', ']'], " ");
    let message = plain(message);
    let message = words(&message);
    let quoted_length = |text: &str| {
        let text = plain(text);
        let words = words(&text);
        let (first, command) = words.split_first()?;
        let is_quoted = !command.is_empty()
            && first.eq_ignore_ascii_case("RUN")
            && message.windows(command.len()).any(|window| window == command);
        is_quoted.then_some(command.len())
    };
    let logical = logical_lines(dockerfile);
    let quoted = logical.iter().filter_map(|(line, text)| Some((quoted_length(text)?, *line)));
    let mut quoted: Vec<(usize, usize)> = quoted.collect();
    quoted.sort_unstable();
    match quoted.as_slice() {
        [.., (before, _), (last, _)] if before == last => None,
        [.., (_, line)] => Some(*line),
        [] => None,
    }
}

/// The lines around `line`, with their numbers, starting at 1.
pub fn around(text: &str, line: usize) -> Vec<(usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, text)| (index + 1, text));
    lines
        .skip(line.saturating_sub(CONTEXT_LINES + 1))
        .take_while(|(number, _)| *number <= line + CONTEXT_LINES)
        .collect()
}

/// All instructions, joined with their continuation lines, with their first line numbers.
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
            Some((_, instruction)) => instruction.push_str(part),
            None => found.push((index + 1, part.to_owned())),
        }
        is_open = continued.is_some();
    }
    found
}

/// An instruction without the step number that engines put in front of it.
fn without_step(instruction: &str) -> &str {
    let text = instruction.split_once("] ").or_else(|| instruction.split_once(" : "));
    text.map_or(instruction, |(_, text)| text)
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
        assert_eq!(find(TEXT, "[build 3/3] RUN c"), None, "it is ambiguous");
        assert_eq!(find(TEXT, "[build 3/3] RUN x"), None);
        assert_eq!(find_quoted(TEXT, "failed: [/bin/sh -c a && b]: exit code: 1"), Some(3));
        assert_eq!(find_quoted(TEXT, "failed: [/bin/sh -c x]: exit code: 1"), None);
    }

    #[test]
    fn a_missing_file_is_blamed_on_the_instruction_that_reads_it() {
        let text = "FROM x\nRUN sleep 3\nCOPY a.txt ./missing/ /x/\nADD [\"b c\", \"/\"]\n\
                    COPY --from=y d $E/\nRUN --mount=type=bind,source=f,target=/f g\n\
                    COPY twice /1\nCOPY twice /2\n";
        let run = Some("[2/3] RUN sleep 3");
        let old =
            |path: &str| format!("failed to compute cache key: \"{path}\" not found: not found");
        let new = |path: &str| {
            let cause = format!("failed to calculate checksum of ref u::v: \"{path}\": not found");
            format!("failed to compute cache key: {cause}")
        };
        for message in [&old as &dyn Fn(&str) -> String, &new] {
            assert_eq!(find_failed(text, run, &message("/missing")), Some(3));
            assert_eq!(find_failed(text, None, &message("/b c")), Some(4));
            assert_eq!(find_failed(text, run, &message("/d")), Some(5));
            assert_eq!(find_failed(text, run, &message("/f")), Some(6));
            assert_eq!(find_failed(text, run, &message("/twice")), None);
            assert_eq!(find_failed(text, Some("[1/2] COPY twice /2"), &message("/twice")), Some(8));
            assert_eq!(find_failed(text, Some("[1/2] COPY twice /2"), &message("/none")), None);
            assert_eq!(find_failed(text, run, &message("/sleep")), None);
        }
        let other = "failed to compute cache key: failed to walk /a";
        assert_eq!(find_failed(text, run, other), None, "it was only running");
        assert_eq!(find_failed(text, Some("[3/3] COPY twice /1"), other), Some(7));
        assert_eq!(find_failed("FROM x\nRUN a\nCOPY . /\n", run, &old("/missing")), None);
        // A command's output is not an error of the engine.
        let ran = format!("executor failed running [/bin/sh -c sleep 3]: {}", old("/missing"));
        assert_eq!(find_failed(text, run, &ran), Some(2));
        assert_eq!(find_failed(text, None, &ran), Some(2));
    }

    #[test]
    fn the_excerpt_has_context_lines_on_both_sides() {
        assert_eq!(
            around("1\n2\n3\n4\n5\n6", 4),
            [(2, "2"), (3, "3"), (4, "4"), (5, "5"), (6, "6")]
        );
        assert_eq!(around("1\n2", 1), [(1, "1"), (2, "2")]);
    }
}
