//! Finds the line of a Dockerfile that an engine's error is about.
//!
//! Engines name an instruction by its place and its text, not by its line. The place is
//! certain, if the number of instructions agrees: BuildKit counts those of a stage that make
//! layers (`[build 2/3] RUN make`), the classic builder all of the file
//! (`Step 4/7 : RUN make`), and Podman those of a stage (`[1/2] STEP 2/3: RUN make`). The text
//! has its variables expanded, so it is compared only where the place is unknown: triggers of
//! a base count too, and no file has them.
//!
//! BuildKit runs instructions in parallel, so the instruction that it names, or that was
//! last seen running, is not always the one that failed. An error about a missing file
//! names the file: then only an instruction that copies or mounts it can be the cause.

use crate::dockerfile::parser;
use crate::dockerfile::syntax::{Instruction, Keyword, Syntax, mount_fields};

/// The number of context lines on each side.
const CONTEXT_LINES: usize = 2;

/// What is known about a failure.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Located {
    /// The line of the instruction that failed, starting at 1; `None` if it is uncertain.
    pub line: Option<usize>,
    /// The path that is missing in the context, if the failure is that.
    pub missing: Option<String>,
}

/// Locates a failure. `named` is the instruction that the engine named, if any, and `message`
/// its error.
pub fn locate(dockerfile: &[u8], named: Option<&str>, message: &str) -> Located {
    let Some(file) = File::read(dockerfile) else { return Located::default() };
    let podman = podman_step(message);
    let named = named.or(podman.as_deref());
    let missing = missing_source(message);
    let found = match missing {
        Some(missing) => file.reader_of(missing, named),
        None => match named {
            Some(named) => file.find(named),
            None => file.find_quoted(message),
        },
    };
    let reads_context = found.is_some_and(|found| !reads_stage(found));
    let missing = missing.filter(|path| reads_context && !path.is_empty());
    Located { line: found.map(|found| found.line), missing: missing.map(str::to_owned) }
}

/// The lines around `line`, with their numbers, starting at 1.
pub fn around(text: &str, line: usize) -> Vec<(usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, text)| (index + 1, text));
    lines
        .skip(line.saturating_sub(CONTEXT_LINES + 1))
        .take_while(|(number, _)| *number <= line + CONTEXT_LINES)
        .collect()
}

struct File {
    syntax: Syntax,
}

/// An instruction as an engine names it.
struct Named<'n> {
    place: Place<'n>,
    text: &'n str,
}

enum Place<'n> {
    /// BuildKit's.
    Layer {
        stage: Option<&'n str>,
        number: usize,
        total: usize,
    },
    /// The classic builder's.
    Instruction {
        number: usize,
        total: usize,
    },
    /// Podman's; its stages are numbered from 1.
    InStage {
        stage: usize,
        number: usize,
        total: usize,
    },
    Unknown,
}

impl File {
    fn read(dockerfile: &[u8]) -> Option<Self> {
        let text = parser::decode(dockerfile).ok()?;
        Some(Self { syntax: Syntax::parse(&text).ok()? })
    }

    fn instructions(&self) -> &[Instruction] {
        &self.syntax.instructions
    }

    /// The instructions of each stage.
    fn stages(&self) -> Vec<Vec<&Instruction>> {
        let mut stages: Vec<Vec<&Instruction>> = Vec::new();
        for instruction in self.instructions() {
            if instruction.keyword == Keyword::From {
                stages.push(vec![instruction]);
            } else if let Some(stage) = stages.last_mut() {
                stage.push(instruction);
            }
        }
        stages
    }

    fn find(&self, named: &str) -> Option<&Instruction> {
        let named = Named::parse(named);
        let is_named = |found: &&Instruction| {
            let keyword = named.text.split_whitespace().next().unwrap_or_default();
            found.keyword.name().eq_ignore_ascii_case(keyword)
        };
        self.at(&named.place).filter(is_named).or_else(|| self.with_text(named.text))
    }

    fn at(&self, place: &Place<'_>) -> Option<&Instruction> {
        match *place {
            Place::Instruction { number, total } => {
                let all = self.instructions();
                // The labels of a build request are instructions at the end.
                all.get(number.checked_sub(1)?).filter(|_| all.len() <= total)
            }
            Place::InStage { stage, number, total } => {
                let stages = self.stages();
                let stage = stages.get(stage.checked_sub(1)?)?;
                stage.get(number.checked_sub(1)?).copied().filter(|_| stage.len() == total)
            }
            Place::Layer { stage, number, total } => {
                let stages = self.stages();
                let stage = &stages[stage_named(&stages, stage)?];
                // Old engines do not count WORKDIR, and a base that is a stage or `scratch` does
                // not count.
                let mut found = None;
                for (has_base, has_workdir) in
                    [(true, true), (false, true), (true, false), (false, false)]
                {
                    let is_layer = |it: &&&Instruction| match it.keyword {
                        Keyword::From => has_base,
                        Keyword::Workdir => has_workdir,
                        keyword => matches!(keyword, Keyword::Add | Keyword::Copy | Keyword::Run),
                    };
                    let layers: Vec<_> = stage.iter().filter(is_layer).copied().collect();
                    let layer =
                        layers.get(number.checked_sub(1)?).filter(|_| layers.len() == total);
                    match (found, layer) {
                        (None, Some(layer)) => found = Some(*layer),
                        (Some(found), Some(layer)) if !std::ptr::eq(found, *layer) => return None,
                        _ => {}
                    }
                }
                found
            }
            Place::Unknown => None,
        }
    }

    /// The only instruction with these words.
    fn with_text(&self, text: &str) -> Option<&Instruction> {
        let wanted = words(text);
        only(self.instructions().iter().filter(|it| words(&it.text) == wanted))
    }

    /// The instruction that reads a path which is missing.
    fn reader_of(&self, missing: &str, named: Option<&str>) -> Option<&Instruction> {
        let readers = self.instructions().iter().filter(|it| has_source(it, missing));
        let may_read = |it: &&Instruction| has_source(it, missing) || has_pattern(it);
        only(readers).or_else(|| self.find(named?).filter(may_read))
    }

    /// The `RUN` whose command a message quotes: engines may report an error without naming
    /// the instruction that failed. The longest command wins.
    fn find_quoted(&self, message: &str) -> Option<&Instruction> {
        let plain = |text: &str| text.replace(['[', ']'], " ");
        let message = plain(&unquoted(message));
        let message = words(&message);
        let quoted_length = |run: &Instruction| {
            let text = plain(&run.arguments);
            let command = words(&text);
            let is_quoted = !command.is_empty()
                && run.keyword == Keyword::Run
                && message.windows(command.len()).any(|window| window == command);
            is_quoted.then_some(command.len())
        };
        let quoted = self.instructions().iter().filter_map(|it| Some((quoted_length(it)?, it)));
        let quoted: Vec<_> = quoted.collect();
        let longest = quoted.iter().map(|(length, _)| *length).max()?;
        only(quoted.into_iter().filter(|(length, _)| *length == longest).map(|(_, it)| it))
    }
}

impl<'n> Named<'n> {
    fn parse(named: &'n str) -> Self {
        let in_brackets = named.strip_prefix('[').and_then(|rest| rest.split_once("] "));
        if let Some((place, rest)) = in_brackets {
            if let Some((number, total, text)) = step(rest) {
                let stage = fraction(place).map_or(0, |(stage, _)| stage);
                return Self { place: Place::InStage { stage, number, total }, text };
            }
            let mut place: Vec<&str> = place.split_whitespace().collect();
            let number = place.pop().and_then(fraction);
            let stage = place.pop().filter(|name| !name.contains('/'));
            let place = match number {
                Some((number, total)) => Place::Layer { stage, number, total },
                None => Place::Unknown,
            };
            return Self { place, text: rest };
        }
        match step(named) {
            // Podman's of a file with one stage, or the classic builder's.
            Some((number, total, text)) if named.starts_with("STEP") => {
                Self { place: Place::InStage { stage: 1, number, total }, text }
            }
            Some((number, total, text)) => {
                Self { place: Place::Instruction { number, total }, text }
            }
            None => Self { place: Place::Unknown, text: named },
        }
    }
}

/// Splits `Step 2/3 : RUN x` or `STEP 2/3: RUN x`.
fn step(text: &str) -> Option<(usize, usize, &str)> {
    let rest = text.strip_prefix("Step ").or_else(|| text.strip_prefix("STEP "))?;
    let (place, text) = rest.split_once(':')?;
    let (number, total) = fraction(place.trim())?;
    Some((number, total, text.trim_start()))
}

fn fraction(text: &str) -> Option<(usize, usize)> {
    let (number, total) = text.split_once('/')?;
    Some((number.parse().ok()?, total.parse().ok()?))
}

/// The stage that BuildKit calls so: by its name, as `stage-2`, or not at all if it is the only
/// one.
fn stage_named(stages: &[Vec<&Instruction>], name: Option<&str>) -> Option<usize> {
    let Some(name) = name else { return (stages.len() == 1).then_some(0) };
    let has_name = |stage: &Vec<&Instruction>| {
        let words = stage.first().map(|from| words(&from.arguments)).unwrap_or_default();
        matches!(*words, [_, _, own] if own.eq_ignore_ascii_case(name))
    };
    let number = || name.strip_prefix("stage-")?.parse().ok().filter(|it| *it < stages.len());
    stages.iter().rposition(has_name).or_else(number)
}

fn only<T>(mut found: impl Iterator<Item = T>) -> Option<T> {
    let first = found.next();
    first.filter(|_| found.next().is_none())
}

/// The instruction that Podman names in an error: `building at STEP "RUN x": …`.
fn podman_step(message: &str) -> Option<String> {
    let (_, quoted) = message.split_once("building at STEP \"")?;
    Some(unescaped(&quoted[..end_of_quoted(quoted)?]))
}

/// A message with the command as it is, where BuildKit quotes it: `process "/bin/sh -c …" did
/// not complete …`.
fn unquoted(message: &str) -> String {
    let Some((before, quoted)) = message.split_once("process \"") else {
        return message.to_owned();
    };
    match end_of_quoted(quoted) {
        Some(end) => format!("{before} {} {}", unescaped(&quoted[..end]), &quoted[end + 1..]),
        None => message.to_owned(),
    }
}

fn end_of_quoted(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.find(|c| {
        let is_end = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    })
}

/// Go's escapes in a text are those of JSON, but for a few control characters.
fn unescaped(text: &str) -> String {
    serde_json::from_str(&format!("\"{text}\"")).unwrap_or_else(|_| text.to_owned())
}

/// The path, in the context or in a stage, that an engine did not find. `None` for other
/// errors, empty if the message does not tell the path.
fn missing_source(message: &str) -> Option<&str> {
    let message = message.strip_prefix("failed to solve: ").unwrap_or(message);
    let is_classic = ["COPY failed: ", "ADD failed: "].iter().any(|it| message.starts_with(it));
    if is_classic {
        let path = message.rsplit_once("stat ")?.1.split_once(": ")?.0;
        // Old engines name the file in the folder that they unpacked the context to.
        let unpacked =
            path.split_once("/docker-builder").and_then(|(_, rest)| rest.split_once('/'));
        return Some(unpacked.map_or(path, |(_, path)| path));
    }
    if message.contains("building at STEP \"") && message.contains("no such file or directory") {
        let quoted = message.rsplit_once(": \"").and_then(|(_, rest)| rest.split_once('"'));
        return Some(quoted.map_or("", |(path, _)| path));
    }
    let prefixes = ["failed to compute cache key: ", "failed to calculate checksum of ref "];
    if !prefixes.iter().any(|prefix| message.starts_with(prefix)) {
        return None;
    }
    let quoted = message.split_once('"').and_then(|(_, rest)| rest.split_once('"'));
    Some(quoted.map_or("", |(path, _)| path))
}

/// Whether an instruction copies or mounts a path. An empty path stands for an unknown one,
/// which any `COPY` or `ADD` may copy.
fn has_source(instruction: &Instruction, path: &str) -> bool {
    match instruction.keyword {
        Keyword::Copy | Keyword::Add => {
            let words = instruction.list();
            let sources = words.split_last().map_or(&[][..], |(_, sources)| sources);
            path.is_empty() || sources.iter().any(|source| is_same(source, path))
        }
        Keyword::Run => instruction.flag("mount").any(|mount| {
            let fields = mount_fields(mount);
            let mut sources =
                fields.iter().filter(|(key, _)| ["source", "src"].contains(&key.as_str()));
            sources.any(|(_, source)| is_same(source, path))
        }),
        _ => false,
    }
}

/// Whether an instruction copies what a variable or a wildcard stands for.
fn has_pattern(instruction: &Instruction) -> bool {
    matches!(instruction.keyword, Keyword::Copy | Keyword::Add)
        && instruction.arguments.contains(['$', '*', '?', '['])
}

/// Whether an instruction copies or mounts files of a stage or of an image.
fn reads_stage(instruction: &Instruction) -> bool {
    let mut mounts = instruction.flag("mount").flat_map(mount_fields);
    instruction.flag("from").next().is_some() || mounts.any(|(key, _)| key == "from")
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

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, named: Option<&str>, message: &str) -> Option<usize> {
        locate(text.as_bytes(), named, message).line
    }

    #[test]
    fn an_instruction_is_found_by_its_place() {
        let text = "ARG V=1\nFROM x AS build\nENV A=b\nRUN a $A && \\\n  # why\n  b \"c\"\nWORKDIR /w\nRUN $A\n\
                    FROM build\nCOPY --from=build d /\nRUN $A\n";
        for (named, expected) in [
            ("[build 2/4] RUN a b && b \"c\"", 4),
            ("[build 4/4] RUN b", 8),
            ("[linux/arm64 build 3/4] WORKDIR /w", 7),
            // An engine that does not count WORKDIR.
            ("[build 3/3] RUN b", 8),
            ("[stage-1 2/2] RUN b", 11),
            ("[stage-1 1/2] COPY --from=build d /", 10),
            ("Step 4/9 : RUN a $A &&   b \"c\"", 4),
            ("Step 9/9 : RUN $A", 11),
            ("Step 9/11 : RUN $A", 11),
            ("[1/2] STEP 3/5: RUN a", 4),
            ("[2/2] STEP 3/3: RUN $A", 11),
        ] {
            assert_eq!(line(text, Some(named), "x"), Some(expected), "{named}");
        }
        // A trigger of the base counts, and is not in the file.
        assert_eq!(line("FROM x\nRUN a\nRUN b\n", Some("[3/4] RUN a"), "x"), Some(2));
        assert_eq!(line("FROM x\nRUN a\nRUN b\n", Some("[2/4] COPY . /"), "x"), None);
        assert_eq!(line("FROM x\nRUN a\nRUN b\n", Some("STEP 3/3: RUN b"), "x"), Some(3));
        assert_eq!(line("FROM x\nRUN a\nRUN b\n", Some("[stage-9 1/2] RUN b"), "x"), Some(3));
    }

    #[test]
    fn an_instruction_is_found_by_its_words() {
        let text = "# base\nFROM x AS build\nRUN a && \\\n  # why\n  b\nRUN c\nCOPY d /\nRUN c\n";
        assert_eq!(line(text, Some("RUN a &&   b"), "x"), Some(3));
        assert_eq!(line(text, Some("[build] COPY d /"), "x"), Some(7));
        assert_eq!(line(text, Some("RUN c"), "x"), None, "it is ambiguous");
        assert_eq!(line(text, Some("RUN x"), "x"), None);
        assert_eq!(line(text, None, "failed: [/bin/sh -c a && b]: exit code: 1"), Some(3));
        assert_eq!(line(text, None, "failed: [/bin/sh -c x]: exit code: 1"), None);
        let text = "FROM x\nRUN echo \"a b\" $X\nRUN <<E\nno\nE\n";
        let quoted = r#"process "/bin/sh -c echo \"a b\" $X" did not complete: exit code: 1"#;
        assert_eq!(line(text, None, quoted), Some(2));
        let podman = r#"building at STEP "RUN echo \"a b\" $X": while running runtime: exit 1"#;
        assert_eq!(line(text, None, podman), Some(2));
    }

    #[test]
    fn a_missing_file_is_blamed_on_the_instruction_that_reads_it() {
        let text = "FROM x\nRUN sleep 3\nCOPY a.txt ./missing/ /x/\nADD [\"b c\", \"/\"]\n\
                    COPY --from=y d $E/\nRUN --mount=type=bind,source=f,target=/f g\n\
                    COPY twice /1\nCOPY twice /2\n";
        let run = Some("[2/8] RUN sleep 3");
        let old =
            |path: &str| format!("failed to compute cache key: \"{path}\" not found: not found");
        let new = |path: &str| {
            let cause = format!("failed to calculate checksum of ref u::v: \"{path}\": not found");
            format!("failed to compute cache key: {cause}")
        };
        let classic = |path: &str| {
            format!(
                "COPY failed: file not found in build context or excluded by .dockerignore: stat \
                 {}: file does not exist",
                path.trim_start_matches('/')
            )
        };
        let podman = |path: &str| {
            format!(
                "building at STEP \"COPY x /\": checking on sources under \"/c\": copier: stat: \
                 \"{path}\": no such file or directory"
            )
        };
        for message in [&old as &dyn Fn(&str) -> String, &new, &classic, &podman] {
            let found = locate(text.as_bytes(), run, &message("/missing"));
            assert_eq!(found.line, Some(3));
            assert_eq!(found.missing.unwrap().trim_start_matches('/'), "missing");
            assert_eq!(line(text, None, &message("/b c")), Some(4));
            let in_stage = locate(text.as_bytes(), run, &message("/d"));
            assert_eq!(in_stage, Located { line: Some(5), missing: None });
            assert_eq!(line(text, run, &message("/f")), Some(6));
            assert_eq!(line(text, run, &message("/twice")), None);
            assert_eq!(line(text, Some("[8/8] COPY twice /2"), &message("/twice")), Some(8));
            assert_eq!(line(text, Some("[8/8] COPY twice /2"), &message("/none")), None);
            assert_eq!(line(text, run, &message("/sleep")), None);
        }
        let other = "failed to compute cache key: failed to walk /a";
        assert_eq!(line(text, run, other), None, "it was only running");
        assert_eq!(line(text, Some("[7/8] COPY twice /1"), other), Some(7));
        assert_eq!(line("FROM x\nRUN a\nCOPY . /\n", run, &old("/missing")), None);
        let unpacked =
            "COPY failed: stat /var/lib/docker/tmp/docker-builder123/a.txt: no such file";
        assert_eq!(line(text, None, unpacked), Some(3));
        // A command's output is not an error of the engine.
        let ran = format!("executor failed running [/bin/sh -c sleep 3]: {}", old("/missing"));
        assert_eq!(line(text, run, &ran), Some(2));
        assert_eq!(line(text, None, &ran), Some(2));
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
