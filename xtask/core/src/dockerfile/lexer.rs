//! Words of a Dockerfile: quotes, escapes and variables.
//!
//! The rules are those of BuildKit's shell lexer (`frontend/dockerfile/shell`): quotes may
//! stand anywhere in a word, variables are expanded outside of single quotes, the escape
//! character takes the next character as it is, and in double quotes only a quote, a dollar
//! sign and itself. Older engines know fewer modifiers (20.10 has no `#`, `%` and `/`): what
//! they refuse is theirs to say.

use std::iter::Peekable;
use std::str::Chars;

/// Why a word cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LexError {
    /// The result is too long: if each `ARG` repeats the one before, it grows exponentially.
    #[error("expands to more than {} KiB: use shorter ARG values", MAX_EXPANDED >> 10)]
    TooLong,
    /// A pattern, or what it is compared with, is too long.
    #[error("compares more than {MAX_MATCHED} bytes with a pattern: use shorter ARG values")]
    PatternTooLong,
    /// The `${…}` expressions are nested too deeply.
    #[error("nests '${{…}}' more than {MAX_DEPTH} levels deep: split it into several ARGs")]
    TooDeep,
    /// A quote or a brace is not closed.
    #[error("has no closing {0}: add it, or escape the opening one")]
    Unclosed(char),
    /// An expression in `${…}` has an unknown form.
    #[error("has an invalid variable '{0}': write ${{NAME}} or ${{NAME:-default}}")]
    BadSubstitution(String),
    /// A pattern escapes a character that needs no escape.
    #[error("has an invalid pattern '{0}': a backslash goes in front of *, ?, \\, / and }} alone")]
    BadEscape(String),
    /// A variable that is required by `${X?…}` has no value.
    #[error("needs a value for {name}: {message}. Set the ARG's default, or use --build-arg")]
    Required {
        /// The variable.
        name: String,
        /// What the Dockerfile says about it.
        message: String,
    },
    /// The value of a variable is not certain.
    #[error("depends on a variable whose value is known to the engine alone")]
    Uncertain,
}

/// The value of a variable.
pub(crate) enum Value {
    Set(String),
    Unset,
    /// Only the engine knows it.
    Uncertain,
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        value.map_or(Self::Unset, Self::Set)
    }
}

/// The maximum size of a text after expansion, in bytes.
const MAX_EXPANDED: usize = 64 << 10;

/// The maximum size of a pattern, and of a text that is compared with it, in bytes: to find
/// where it matches takes the cube of it.
const MAX_MATCHED: usize = 512;

/// The maximum nesting depth of `${…}`.
pub(crate) const MAX_DEPTH: usize = 64;

/// Splits at white space outside of quotes. Quotes and escapes are kept.
pub(crate) fn words(text: &str, escape: char) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        let is_escape = c == escape && quote != Some('\'');
        if matches!(c, '"' | '\'') && quote.is_none_or(|open| open == c) {
            quote = quote.is_none().then_some(c);
        }
        match (is_escape, chars.clone().next()) {
            (true, Some(next)) => {
                word.extend([c, next]);
                chars.next();
            }
            // An escape at the end escapes nothing.
            (true, None) => {}
            (false, _) => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Expands the variables of a word, and removes its quotes and escapes.
pub(crate) fn expand(
    word: &str,
    escape: char,
    mut value: impl FnMut(&str) -> Value,
) -> Result<String, LexError> {
    let mut lexer = Lexer { chars: word.chars().peekable(), escape, value: &mut value, depth: 0 };
    lexer.until(None, false)
}

struct Lexer<'w, 'v> {
    chars: Peekable<Chars<'w>>,
    escape: char,
    value: &'v mut dyn FnMut(&str) -> Value,
    depth: usize,
}

impl Lexer<'_, '_> {
    /// Reads up to a character, which is taken, or the end. `is_pattern` keeps escapes.
    fn until(&mut self, end: Option<char>, is_pattern: bool) -> Result<String, LexError> {
        let mut out = String::new();
        while let Some(c) = self.chars.next() {
            match c {
                _ if Some(c) == end => return Ok(out),
                '\'' => out.push_str(&self.single_quoted()?),
                '"' => self.double_quoted(&mut out)?,
                '$' => out.push_str(&self.variable()?),
                _ if c == self.escape => {
                    out.extend(is_pattern.then_some(c));
                    out.extend(self.chars.next());
                }
                _ => out.push(c),
            }
            if out.len() > MAX_EXPANDED {
                return Err(LexError::TooLong);
            }
        }
        end.map_or(Ok(out), |end| Err(LexError::Unclosed(end)))
    }

    fn single_quoted(&mut self) -> Result<String, LexError> {
        let mut out = String::new();
        loop {
            match self.chars.next() {
                None => return Err(LexError::Unclosed('\'')),
                Some('\'') => return Ok(out),
                Some(c) => out.push(c),
            }
        }
    }

    fn double_quoted(&mut self, out: &mut String) -> Result<(), LexError> {
        loop {
            match self.chars.next() {
                None => return Err(LexError::Unclosed('"')),
                Some('"') => return Ok(()),
                Some('$') => out.push_str(&self.variable()?),
                Some(c) if c == self.escape => {
                    let escape = self.escape;
                    let is_special = |next: &char| matches!(next, '"' | '$') || *next == escape;
                    match self.chars.next_if(is_special) {
                        Some(next) => out.push(next),
                        None => out.extend(self.chars.peek().is_some().then_some(c)),
                    }
                }
                Some(c) => out.push(c),
            }
            if out.len() > MAX_EXPANDED {
                return Err(LexError::TooLong);
            }
        }
    }

    /// Expands the variable behind a dollar sign.
    fn variable(&mut self) -> Result<String, LexError> {
        if self.chars.next_if_eq(&'{').is_none() {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(self.get(&name)?.unwrap_or_default());
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(LexError::TooDeep);
        }
        let expanded = self.braced();
        self.depth -= 1;
        expanded
    }

    /// Expands what is in braces.
    fn braced(&mut self) -> Result<String, LexError> {
        let bad = |text: String| Err(LexError::BadSubstitution(format!("${{{text}")));
        match self.chars.peek() {
            None => return Err(LexError::Unclosed('}')),
            Some(c @ ('{' | '}' | ':')) => return bad(c.to_string()),
            Some(_) => {}
        }
        let name = self.name();
        let Some(mut operator) = self.chars.next() else { return Err(LexError::Unclosed('}')) };
        let is_null_unset = operator == ':';
        if is_null_unset {
            let Some(next) = self.chars.next() else { return Err(LexError::Unclosed('}')) };
            operator = next;
        }
        match operator {
            '}' if !is_null_unset => Ok(self.get(&name)?.unwrap_or_default()),
            '-' | '+' | '?' => {
                let word = self.until(Some('}'), false)?;
                let value = self.get(&name)?;
                let given = value.clone().filter(|value| !is_null_unset || !value.is_empty());
                match (operator, given) {
                    ('-', given) => Ok(given.unwrap_or(word)),
                    ('+', given) => Ok(given.map(|_| word).unwrap_or_default()),
                    (_, Some(given)) => Ok(given),
                    (_, None) => {
                        let state = if value.is_some() { "empty" } else { "unset" };
                        let default = || format!("it is not allowed to be {state}");
                        let message = if word.is_empty() { default() } else { word };
                        Err(LexError::Required { name, message })
                    }
                }
            }
            '#' | '%' if !is_null_unset => {
                let is_greedy = self.chars.next_if_eq(&operator).is_some();
                let pattern = Glob::parse(&self.until(Some('}'), true)?)?;
                let value = self.matched(&name)?;
                Ok(if operator == '#' {
                    pattern.without_prefix(&value, is_greedy)
                } else {
                    pattern.without_suffix(&value, is_greedy)
                })
            }
            '/' if !is_null_unset => {
                let is_all = self.chars.next_if_eq(&'/').is_some();
                let pattern = Glob::parse(&self.until(Some('/'), true)?)?;
                let replacement = self.until(Some('}'), false)?;
                let value = self.matched(&name)?;
                Ok(pattern.replace(&value, &replacement, is_all))
            }
            _ => bad(format!("{name}{}{operator}", if is_null_unset { ":" } else { "" })),
        }
    }

    /// A name: letters, digits and underscores; or digits alone, or one special character.
    fn name(&mut self) -> String {
        let mut name = String::new();
        if let Some(c) = self.chars.next_if(|c| "@*#?-$!".contains(*c)) {
            return c.to_string();
        }
        let is_number = self.chars.peek().is_some_and(char::is_ascii_digit);
        let is_part =
            |c: &char| c.is_ascii_digit() || !is_number && (c.is_alphanumeric() || *c == '_');
        while let Some(c) = self.chars.next_if(is_part) {
            name.push(c);
        }
        name
    }

    fn get(&mut self, name: &str) -> Result<Option<String>, LexError> {
        match (self.value)(name) {
            Value::Set(value) => Ok(Some(value)),
            Value::Unset => Ok(None),
            Value::Uncertain => Err(LexError::Uncertain),
        }
    }

    fn matched(&mut self, name: &str) -> Result<Vec<char>, LexError> {
        let value = self.get(name)?.unwrap_or_default();
        if value.len() > MAX_MATCHED {
            return Err(LexError::PatternTooLong);
        }
        Ok(value.chars().collect())
    }
}

/// A pattern of `${X#…}` and its like: `*`, `?`, and characters.
struct Glob(Vec<Part>);

enum Part {
    Any,
    One,
    Char(char),
}

impl Glob {
    fn parse(text: &str) -> Result<Self, LexError> {
        if text.len() > MAX_MATCHED {
            return Err(LexError::PatternTooLong);
        }
        let mut chars = text.chars();
        let mut parts = Vec::new();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => Part::Any,
                '?' => Part::One,
                '\\' => match chars.next() {
                    Some(c) if "*?\\/}".contains(c) => Part::Char(c),
                    _ => return Err(LexError::BadEscape(text.to_owned())),
                },
                c => Part::Char(c),
            });
        }
        Ok(Self(parts))
    }

    /// The lengths of all beginnings of a text that match, the shortest first.
    fn lengths(&self, text: &[char]) -> Vec<usize> {
        // Whether the parts so far match the first so many characters.
        let mut is_reached = vec![false; text.len() + 1];
        is_reached[0] = true;
        for part in &self.0 {
            match part {
                Part::Any => {
                    let first = is_reached.iter().position(|it| *it).unwrap_or(is_reached.len());
                    is_reached[first..].fill(true);
                }
                Part::One | Part::Char(_) => {
                    for length in (0..=text.len()).rev() {
                        let is_same = |c: char| !matches!(part, Part::Char(wanted) if *wanted != c);
                        is_reached[length] =
                            length > 0 && is_reached[length - 1] && is_same(text[length - 1]);
                    }
                }
            }
        }
        (0..=text.len()).filter(|length| is_reached[*length]).collect()
    }

    fn without_prefix(&self, text: &[char], is_greedy: bool) -> String {
        let lengths = self.lengths(text);
        let length = if is_greedy { lengths.last() } else { lengths.first() };
        text[length.copied().unwrap_or_default()..].iter().collect()
    }

    fn without_suffix(&self, text: &[char], is_greedy: bool) -> String {
        let is_match =
            |start: &usize| self.lengths(&text[*start..]).last() == Some(&(text.len() - start));
        let mut starts = 0..=text.len();
        let start = if is_greedy { starts.find(is_match) } else { starts.rfind(is_match) };
        text[..start.unwrap_or(text.len())].iter().collect()
    }

    /// Replaces the first or all places that match, each as long as it can be.
    fn replace(&self, text: &[char], with: &str, is_all: bool) -> String {
        if text.is_empty() && self.lengths(text) == [0] {
            return with.to_owned();
        }
        let (mut out, mut at) = (String::new(), 0);
        while at < text.len() {
            match self.lengths(&text[at..]).last() {
                Some(length) if *length > 0 => {
                    out.push_str(with);
                    at += length;
                    if !is_all {
                        break;
                    }
                }
                _ => {
                    out.push(text[at]);
                    at += 1;
                }
            }
        }
        out.extend(&text[at..]);
        out
    }
}

#[cfg(test)]
mod tests;
