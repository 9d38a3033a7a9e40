//! Splits a Dockerfile into instructions.
//!
//! The rules are those of BuildKit's parser (`frontend/dockerfile/parser`): parser directives
//! at the top, comments and empty lines also within an instruction, an escape character at the
//! end of a line, flags in front of the arguments, the JSON form, and here-documents of `RUN`,
//! `COPY` and `ADD`. What an instruction may hold is for the engine to judge.

use crate::dockerfile::lexer;
use crate::problem::did_you_mean;

/// A Dockerfile as a list of instructions.
#[derive(Debug)]
pub(crate) struct Syntax {
    /// The value of `# syntax=`.
    pub(crate) frontend: Option<String>,
    /// The escape character.
    pub(crate) escape: char,
    pub(crate) instructions: Vec<Instruction>,
}

/// An instruction.
#[derive(Debug)]
pub(crate) struct Instruction {
    pub(crate) keyword: Keyword,
    /// The line of its keyword, starting at 1.
    pub(crate) line: usize,
    /// All of it, with continuation lines joined.
    pub(crate) text: String,
    pub(crate) flags: Vec<Flag>,
    /// What follows the flags, with continuation lines joined.
    pub(crate) arguments: String,
    pub(crate) here_docs: Vec<HereDoc>,
    /// The instruction of an `ONBUILD`.
    pub(crate) trigger: Option<Box<Self>>,
}

/// A flag, such as `--from=a`.
#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

/// A here-document.
#[derive(Debug)]
pub(crate) struct HereDoc {
    pub(crate) name: String,
    /// Its lines, without the last one, which is its name.
    pub(crate) text: String,
    /// Whether tabs in front of its lines are removed.
    is_stripped: bool,
}

/// The keyword of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keyword {
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
}

impl Keyword {
    const ALL: [(&'static str, Self); 18] = [
        ("ADD", Self::Add),
        ("ARG", Self::Arg),
        ("CMD", Self::Cmd),
        ("COPY", Self::Copy),
        ("ENTRYPOINT", Self::Entrypoint),
        ("ENV", Self::Env),
        ("EXPOSE", Self::Expose),
        ("FROM", Self::From),
        ("HEALTHCHECK", Self::Healthcheck),
        ("LABEL", Self::Label),
        ("MAINTAINER", Self::Maintainer),
        ("ONBUILD", Self::Onbuild),
        ("RUN", Self::Run),
        ("SHELL", Self::Shell),
        ("STOPSIGNAL", Self::Stopsignal),
        ("USER", Self::User),
        ("VOLUME", Self::Volume),
        ("WORKDIR", Self::Workdir),
    ];

    fn parse(word: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, keyword)| keyword)
    }

    /// The keyword in upper case.
    pub(crate) fn name(self) -> &'static str {
        let mut all = Self::ALL.into_iter();
        all.find(|(_, keyword)| *keyword == self).map_or("", |(name, _)| name)
    }
}

/// Why a text cannot be split into instructions.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    /// Starting at 1.
    pub(crate) line: usize,
    pub(crate) message: String,
}

impl Syntax {
    /// Splits a text; its lines end with `\n` alone.
    pub(crate) fn parse(text: &str) -> Result<Self, SyntaxError> {
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line)).peekable();
        let (mut frontend, mut escape) = (None, '\\');
        let mut seen = Vec::new();
        while let Some((line, (name, value))) =
            lines.peek().and_then(|(line, text)| Some((*line, directive(text)?)))
        {
            let name = name.to_ascii_lowercase();
            // An unknown one is a comment, which ends them.
            if !["syntax", "escape", "check"].contains(&name.as_str()) {
                break;
            }
            lines.next();
            match (name.as_str(), value) {
                ("syntax", value) => frontend = Some(value.to_owned()),
                ("escape", "`") => escape = '`',
                ("escape", "\\") => {}
                ("escape", other) => {
                    let message = format!("'# escape={other}' is neither \\ nor `");
                    return Err(SyntaxError { line, message });
                }
                _ => {}
            }
            if seen.contains(&name) {
                let message = format!("the parser directive '{name}' is there twice: remove one");
                return Err(SyntaxError { line, message });
            }
            seen.push(name);
        }
        let mut instructions = Vec::new();
        // What follows a here-document without an end may be a part of it.
        let mut unended = None;
        while let Some((line, text)) = lines.next() {
            let text = text.trim_start();
            if is_comment(text) {
                continue;
            }
            let (mut joined, mut goes_on) = continued(text, escape);
            while goes_on && let Some((_, text)) = lines.next() {
                if is_comment(text) || text.trim().is_empty() {
                    continue;
                }
                let (part, more) = continued(text, escape);
                joined.push_str(&part);
                goes_on = more;
            }
            if joined.trim().is_empty() {
                continue;
            }
            let parsed = Instruction::parse(line, joined.trim());
            let mut instruction = parsed.map_err(|error| unended.take().unwrap_or(error))?;
            // For engines before 23.0 there are none, and one without an end is no error.
            instruction.here_docs.retain_mut(|document| {
                let mut ahead = lines.clone();
                if unended.is_none() && read_here_doc(document, &mut ahead) {
                    lines = ahead;
                    return true;
                }
                let name = &document.name;
                let message = format!("the here-document '{name}' has no end: add a line with it");
                unended.get_or_insert(SyntaxError { line, message });
                false
            });
            instructions.push(instruction);
        }
        Ok(Self { frontend, escape, instructions })
    }
}

/// The name and the value of a parser directive.
fn directive(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (is_name && !value.is_empty()).then_some((name, value))
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// A line without the escape character at its end, and whether it has one. An escaped escape
/// character is none.
fn continued(line: &str, escape: char) -> (String, bool) {
    let trimmed = line.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        Some(rest) if !rest.ends_with(escape) => (rest.to_owned(), true),
        _ => (line.to_owned(), false),
    }
}

/// Reads the lines of a here-document; false if it has no end.
fn read_here_doc<'t>(
    document: &mut HereDoc,
    lines: &mut impl Iterator<Item = (usize, &'t str)>,
) -> bool {
    for (_, text) in lines {
        let text = if document.is_stripped { text.trim_start_matches('\t') } else { text };
        if text == document.name {
            return true;
        }
        document.text.push_str(text);
        document.text.push('\n');
    }
    false
}

/// Whether arguments are split at a character. Other white space is a part of names, although it
/// ends flags, and the words of `ENV`, `ARG` and `LABEL`.
pub(crate) fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r')
}

/// What lies between separators.
pub(crate) fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_separator).filter(|word| !word.is_empty())
}

impl Instruction {
    fn parse(line: usize, text: &str) -> Result<Self, SyntaxError> {
        let (word, rest) = text.split_once(is_separator).unwrap_or((text, ""));
        let Some(keyword) = Keyword::parse(word) else {
            let hint = did_you_mean(word, Keyword::ALL.map(|(name, _)| name));
            let message = format!("unknown instruction '{word}'{hint}");
            return Err(SyntaxError { line, message });
        };
        let (flags, arguments) = flags(rest.trim());
        let trigger = if keyword == Keyword::Onbuild {
            Some(Box::new(Self::parse(line, arguments)?))
        } else {
            None
        };
        let mut instruction = Self {
            keyword,
            line,
            text: text.to_owned(),
            flags,
            arguments: arguments.to_owned(),
            here_docs: Vec::new(),
            trigger,
        };
        let carrier = instruction.trigger.as_deref().unwrap_or(&instruction);
        let may_have = matches!(carrier.keyword, Keyword::Run | Keyword::Copy | Keyword::Add);
        if may_have && text.contains("<<") && carrier.json().is_none() {
            let words = lexer::words(text, '\\');
            instruction.here_docs = words.iter().filter_map(|word| HereDoc::of(word)).collect();
        }
        Ok(instruction)
    }

    /// The words of the JSON form, if it is written in that.
    pub(crate) fn json(&self) -> Option<Vec<String>> {
        let is_json = self.arguments.starts_with('[');
        is_json.then(|| serde_json::from_str(&self.arguments).ok()).flatten()
    }

    /// Whether something follows the JSON form. Engines before 27.1 ignore it; for others it makes
    /// all of the arguments plain words.
    pub(crate) fn is_more_than_json(&self) -> bool {
        let mut values = serde_json::Deserializer::from_str(&self.arguments).into_iter();
        let first: Option<Result<Vec<String>, _>> = values.next();
        matches!(first, Some(Ok(_))) && self.json().is_none()
    }

    /// The arguments as a list: the JSON form, or what lies between separators.
    pub(crate) fn list(&self) -> Vec<String> {
        self.json().unwrap_or_else(|| split(&self.arguments).map(str::to_owned).collect())
    }

    /// The values of a flag; of one without a value none.
    pub(crate) fn flag<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        let named = self.flags.iter().filter(move |flag| flag.name == name);
        named.filter_map(|flag| flag.value.as_deref())
    }
}

/// The flags at the start of arguments, without quotes and escapes, and what follows.
fn flags(text: &str) -> (Vec<Flag>, &str) {
    let (mut flags, mut rest) = (Vec::new(), text);
    while rest.starts_with("--") {
        let (mut word, mut quote, mut length) = (String::new(), None, rest.len());
        let mut chars = rest.char_indices();
        while let Some((offset, c)) = chars.next() {
            if quote.is_none() && c.is_whitespace() {
                length = offset;
                break;
            }
            match c {
                '\\' => word.extend(chars.next().map(|(_, next)| next)),
                '"' | '\'' if quote.is_none() => quote = Some(c),
                c if quote == Some(c) => quote = None,
                c => word.push(c),
            }
        }
        rest = rest[length..].trim_start();
        let Some(flag) = word.strip_prefix("--").filter(|flag| !flag.is_empty()) else {
            return (flags, rest);
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        flags.push(Flag { name: name.to_owned(), value });
    }
    (flags, rest)
}

impl HereDoc {
    /// The here-document that a word begins, such as `<<EOF`, `3<<-'E'`.
    fn of(word: &str) -> Option<Self> {
        let word = word.trim_start_matches(|c: char| c.is_ascii_digit());
        let rest = word.strip_prefix("<<")?;
        let (is_stripped, rest) = match rest.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        if rest.contains('<') {
            return None;
        }
        let variable = |name: &str| lexer::Value::Set(format!("${name}"));
        let name = lexer::expand(rest, '\\', variable).ok().filter(|name| !name.is_empty())?;
        Some(Self { name, text: String::new(), is_stripped })
    }
}

/// The fields of the value of `RUN --mount=`: as in a CSV file, a field may be quoted. The
/// keys are in lower case.
pub(crate) fn mount_fields(mount: &str) -> Vec<(String, String)> {
    let (mut fields, mut field, mut is_quoted) = (Vec::new(), String::new(), false);
    for c in mount.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    let pair = |field: String| {
        let (key, value) = field.split_once('=').unwrap_or((&field, ""));
        (key.to_lowercase(), value.to_owned())
    };
    fields.into_iter().map(pair).collect()
}

#[cfg(test)]
mod tests;
