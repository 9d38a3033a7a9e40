//! `.dockerignore` as Docker reads it: which files of a context folder a build
//! never sees.
//!
//! The rules are those of Docker's documentation of `.dockerignore`, which names
//! Go's `filepath.Match` and `filepath.Clean`, and, where that is silent, those
//! of moby's `patternmatcher`, which every Docker client since 23 walks a context
//! with (older ones, of each pattern, look at one of the folders above a path only):
//!
//! - A line is a pattern, relative to the context root. A byte order mark and
//!   white space around it are dropped; so are blank lines, and lines whose first
//!   column is `#`. `!` makes an exception. `.` and `/` match nothing.
//! - The last pattern that matches decides, and one that matched a folder goes on
//!   matching below it. A pattern is asked only where it would change the answer,
//!   folder by folder from the top: after `a/b`, the exception `!a` does not bring
//!   `a/b` back, because `a` was never ignored; `!a/b` does.
//! - `*` and `?` are any run and any one character within a name, `[a-z]` and
//!   `[^a-z]` are one character in or out of a class (a slash, too, is out of
//!   it), and a backslash takes the meaning from what follows.
//! - `**` is any number of whole folders, wherever it stands: `a**b` matches `ab`
//!   and `ax/b`, not `axb`. At the end it is any text, and so it is in front of
//!   nothing but plain text: `**b` matches `ab`.
//!
//! `globset` cannot say this: it matches bytes where Go matches characters (`?`
//! is not `é`, `[à-é]` is not a range), knows no escapes in a class, takes `[!`
//! for a negation and `{a,b}` for a choice, and reads a `**` beside other text as
//! `*`. No translation makes up for the first, so the patterns are matched here.
//!
//! A client saves itself the walk of an ignored folder where, by its text, no
//! exception lies in it. The classic one, and BuildKit's of old, take the text of a
//! wildcard for a name, and so lose what the exception names: after `a`, `!*/b`
//! brings `a/b` back for a newer BuildKit, and not for them. Here it does.
//!
//! Docker turns a pattern into a regular expression. Where that leaks (`\d`
//! becomes any digit, `[*]` and `[[:alpha:]]` something else than they say; beside
//! a wildcard `^` is an anchor, `|` a choice of patterns, `{2}` a repetition, and a
//! byte order mark in front is dropped) the pattern is an error rather than a guess.
//! So is, wherever it stands, a line that is no pattern: Docker finds some of these
//! only when it comes to ask them.
//!
//! `docker.txt` holds thousands of random cases as Docker itself decided them.

use std::iter::Peekable;
use std::mem::swap;
use std::str::Chars;

/// What a `.dockerignore` says. The default ignores nothing.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

/// A line that is no pattern.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct IgnoreError {
    /// The line, from 1.
    pub line: usize,
    /// The pattern and what is wrong with it.
    pub message: String,
}

/// A pattern of paths.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// The line that says it, from 1.
    line: usize,
    is_exception: bool,
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Token {
    /// One character as it is.
    Char(char),
    /// `?`: one character of a name.
    Any,
    /// `[a-z]`: one character in one of the ranges, or in none of them.
    Class { is_negated: bool, ranges: Vec<(char, char)> },
    /// `*`: any text within a name.
    Name,
    /// `**`: nothing, or any text that ends in a slash.
    Folders,
    /// `**` at an end: any text.
    Rest,
}

impl Ignore {
    /// Reads the text of a `.dockerignore`.
    ///
    /// # Errors
    /// The first line that is no pattern.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut patterns = Vec::new();
        for (index, line) in text.split('\n').enumerate() {
            let written = normalize(line);
            let pattern = parse_pattern(&written, index + 1).map_err(|reason| IgnoreError {
                line: index + 1,
                message: format!("bad pattern '{}': {reason}", line.trim()),
            })?;
            patterns.extend(pattern);
        }
        Ok(Self { patterns })
    }

    /// Whether nothing at all is ignored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a build never sees a path: slash separated, below the root.
    #[must_use]
    pub fn ignores(&self, path: &str) -> bool {
        self.decisive(path).is_some()
    }

    /// The line by which a build never sees a path, from 1; none if it does.
    #[must_use]
    pub fn line_for(&self, path: &str) -> Option<usize> {
        self.decisive(path).map(|index| self.patterns[index].line)
    }

    /// Whether a build may see a path, or anything below it.
    #[must_use]
    pub fn may_keep(&self, path: &str) -> bool {
        self.is_empty() || !self.ignores(path) || self.may_keep_below(path)
    }

    /// Whether an exception could bring back anything below a folder. Where none
    /// could, an ignored folder need not be walked.
    #[must_use]
    pub fn may_keep_below(&self, folder: &str) -> bool {
        let below = format!("{folder}/");
        let later = self.decisive(folder).map_or(0, |index| index + 1);
        let mut exceptions = self.patterns[later..].iter().filter(|p| p.is_exception);
        exceptions.any(|exception| exception.may_go_on(&below))
    }

    /// The pattern by which a path is ignored, found as Docker's walk finds it.
    fn decisive(&self, path: &str) -> Option<usize> {
        let folders = path.match_indices('/').map(|(end, _)| &path[..end]);
        let mut has_matched = vec![false; self.patterns.len()];
        let mut decisive = None;
        for path in folders.chain([path]) {
            decisive = None;
            for (index, pattern) in self.patterns.iter().enumerate() {
                let is_asked = pattern.is_exception == decisive.is_some();
                has_matched[index] |= is_asked && pattern.matches(path);
                if has_matched[index] {
                    decisive = (!pattern.is_exception).then_some(index);
                }
            }
        }
        decisive
    }
}

impl Pattern {
    /// A pattern by itself, already cleaned; none if it is none, or means something else
    /// than it says.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let tokens = parse_tokens(path).ok()?;
        Some(Self { line: 0, is_exception: false, tokens })
    }

    /// Whether it matches a path as a whole.
    pub(super) fn matches(&self, path: &str) -> bool {
        self.places_after(path)[self.tokens.len()]
    }

    /// Whether some text that starts so, and is longer, matches.
    pub(super) fn may_go_on(&self, start: &str) -> bool {
        self.places_after(start)[..self.tokens.len()].contains(&true)
    }

    /// The tokens that may come next, and, last, the end, once a text is read.
    fn places_after(&self, text: &str) -> Vec<bool> {
        let mut places = vec![false; self.tokens.len() + 1];
        self.enter(&mut places, 0);
        let mut next = places.clone();
        for c in text.chars() {
            next.fill(false);
            for (place, token) in self.tokens.iter().enumerate().filter(|(at, _)| places[*at]) {
                let (stays, goes_on) = token.reads(c);
                next[place] |= stays;
                if goes_on {
                    self.enter(&mut next, place + 1);
                }
            }
            swap(&mut places, &mut next);
            if !places.contains(&true) {
                break;
            }
        }
        places
    }

    /// Marks a place, and those behind it that tokens matching nothing open.
    fn enter(&self, places: &mut [bool], first: usize) {
        for (place, is_open) in places.iter_mut().enumerate().skip(first) {
            *is_open = true;
            let token = self.tokens.get(place);
            if !matches!(token, Some(Token::Name | Token::Folders | Token::Rest)) {
                return;
            }
        }
    }
}

impl Token {
    /// Whether the token can take a character and more, and whether it can take
    /// it and be done.
    fn reads(&self, c: char) -> (bool, bool) {
        match self {
            Self::Char(own) => (false, *own == c),
            Self::Any => (false, c != '/'),
            Self::Class { is_negated, ranges } => {
                let is_inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                (false, is_inside != *is_negated)
            }
            Self::Name => (c != '/', c != '/'),
            Self::Folders => (true, c == '/'),
            Self::Rest => (true, true),
        }
    }
}

/// A line as Docker's reader of the file hands it on; empty for no pattern.
fn normalize(line: &str) -> String {
    let trimmed = if line.starts_with('#') { "" } else { line.trim() };
    let (mark, path) = match trimmed.strip_prefix('!') {
        Some(path) => ("!", path.trim()),
        None => ("", trimmed),
    };
    let path = clean(path);
    let relative = path.strip_prefix('/').filter(|relative| !relative.is_empty());
    format!("{mark}{}", relative.unwrap_or(&path))
}

/// Go's `filepath.Clean`, but nothing for nothing.
fn clean(path: &str) -> String {
    let root = if path.starts_with('/') { "/" } else { "" };
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." if names.last().is_some_and(|last| *last != "..") => {
                names.pop();
            }
            ".." if !root.is_empty() => {}
            _ => names.push(name),
        }
    }
    match format!("{root}{}", names.join("/")) {
        cleaned if cleaned.is_empty() && !path.is_empty() => ".".to_owned(),
        cleaned => cleaned,
    }
}

/// Trims, cleans and looks for the mark once more, as Docker's matcher does with
/// what the reader hands it: `/!a` is an exception, too.
fn parse_pattern(written: &str, line: usize) -> Result<Option<Pattern>, String> {
    let cleaned = clean(written.trim());
    let (is_exception, path) = match cleaned.strip_prefix('!') {
        Some("") => return Err("nothing follows the '!'".to_owned()),
        Some(path) => (true, path),
        None if cleaned.is_empty() => return Ok(None),
        None => (false, cleaned.as_str()),
    };
    Ok(Some(Pattern { line, is_exception, tokens: parse_tokens(path)? }))
}

fn parse_tokens(path: &str) -> Result<Vec<Token>, String> {
    let is_end = path.strip_prefix("**").is_some_and(is_plain);
    let is_start = path.strip_suffix("**").is_some_and(is_plain);
    let is_text = is_end || is_start || is_plain(path);
    if !is_text && path.starts_with('\u{feff}') {
        return Err("a byte order mark stands in front of it".to_owned());
    }
    let mut tokens = Vec::new();
    let mut chars = path.chars().peekable();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                let is_whole = chars.next_if_eq(&'/').is_some();
                let is_rest = chars.peek().is_none() || is_end && !is_whole;
                if is_rest { Token::Rest } else { Token::Folders }
            }
            '*' => Token::Name,
            '?' => Token::Any,
            '[' => parse_class(&mut chars)?,
            '\\' => Token::Char(parse_escaped(&mut chars)?),
            c if !is_text && is_operator(c, chars.peek()) => {
                return Err(format!(r"beside a wildcard, '{c}' is written '\{c}'"));
            }
            c => Token::Char(c),
        });
    }
    Ok(tokens)
}

/// Whether Docker compares a text as it is.
fn is_plain(text: &str) -> bool {
    !text.contains(['*', '?', '[', ']', '\\'])
}

/// Whether Docker's regular expression takes a character for more than it is.
fn is_operator(c: char, next: Option<&char>) -> bool {
    matches!(c, '^' | '|') || c == '{' && next.is_some_and(char::is_ascii_digit)
}

/// What follows `[`, through `]`.
fn parse_class(chars: &mut Peekable<Chars<'_>>) -> Result<Token, String> {
    let is_negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while ranges.is_empty() || chars.next_if_eq(&']').is_none() {
        let low = parse_in_class(chars)?;
        let high = match chars.next_if_eq(&'-') {
            Some(_) => parse_in_class(chars)?,
            None => low,
        };
        if low > high {
            return Err(format!("the range '{low}-{high}' is empty"));
        }
        ranges.push((low, high));
    }
    Ok(Token::Class { is_negated, ranges })
}

fn parse_in_class(chars: &mut Peekable<Chars<'_>>) -> Result<char, String> {
    match chars.next() {
        None => Err("its '[' is not closed".to_owned()),
        Some('\\') => parse_escaped(chars),
        Some(c @ ('-' | ']' | '*' | '?')) => Err(format!(r"in a class, '{c}' is written '\{c}'")),
        Some('[') if chars.peek() == Some(&':') => Err("'[:' cannot stand in a class".to_owned()),
        Some(c) => Ok(c),
    }
}

fn parse_escaped(chars: &mut Peekable<Chars<'_>>) -> Result<char, String> {
    match chars.next() {
        None => Err("nothing follows the backslash".to_owned()),
        Some(c) if c.is_ascii_punctuation() || c == ' ' => Ok(c),
        Some(c) => Err(format!("a backslash before '{c}' does not mean '{c}'")),
    }
}

#[cfg(test)]
mod tests;
