//! Patterns of paths as Docker matches them, in `.dockerignore` and in the sources of
//! `COPY` and `ADD`: Go's `filepath.Match`, and `**` as moby's `patternmatcher` reads it.
//! [`crate::context::dockerignore`] has the rules, and why `globset` cannot say them.

use std::iter::Peekable;
use std::mem::swap;
use std::str::Chars;

/// A pattern of paths.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
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

impl Pattern {
    /// Reads a pattern that is already cleaned.
    ///
    /// # Errors
    /// It is not a pattern, or Docker takes it for something other than it says.
    pub(crate) fn parse(path: &str) -> Result<Self, String> {
        parse_tokens(path).map(|tokens| Self { tokens })
    }

    /// Whether it matches a path as a whole.
    pub(crate) fn matches(&self, path: &str) -> bool {
        self.places_after(path)[self.tokens.len()]
    }

    /// Whether some text that starts so, and is longer, matches.
    pub(crate) fn may_go_on(&self, start: &str) -> bool {
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
