//! Path patterns with Docker's semantics, as used in `.dockerignore` and in the sources of
//! `COPY` and `ADD`: Go's `filepath.Match`, plus `**` as in moby's `patternmatcher`.
//! [`crate::context::dockerignore`] lists the rules, and why `globset` does not fit.

use std::iter::Peekable;
use std::mem::swap;
use std::str::Chars;

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// The text before the first wildcard: all of most patterns.
    literal: String,
    /// What follows it.
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Token {
    /// A literal character.
    Char(char),
    /// `?`: one character other than a slash.
    Any,
    /// `[a-z]` and `[^a-z]`: one character in one of the ranges, or in none of them.
    Class { is_negated: bool, ranges: Vec<(char, char)> },
    /// `*`: any text without a slash.
    Name,
    /// `**`: nothing, or any text that ends with a slash.
    Folders,
    /// `**` at the start or end of the pattern: any text.
    Rest,
}

impl Pattern {
    /// Parses a pattern that was normalized with Go's `filepath.Clean`.
    ///
    /// # Errors
    /// The pattern is malformed, or Docker does not match it as written.
    pub(crate) fn parse(path: &str) -> Result<Self, String> {
        let mut tokens = parse_tokens(path)?;
        let letters = tokens.iter().map_while(|token| match token {
            Token::Char(letter) => Some(*letter),
            _ => None,
        });
        let literal: String = letters.collect();
        tokens.drain(..literal.chars().count());
        Ok(Self { literal, tokens })
    }

    /// Whether the last part of the pattern is this name, without wildcards.
    pub(crate) fn ends_in_name(&self, name: &str) -> bool {
        let tokens = self.tokens.iter().rev().map(|token| match token {
            Token::Char(letter) => Some(*letter),
            _ => None,
        });
        let mut letters = tokens.chain(self.literal.chars().rev().map(Some));
        name.chars().rev().all(|letter| letters.next() == Some(Some(letter)))
            && letters.next().is_none_or(|before| before == Some('/'))
    }

    /// Whether the pattern matches the whole path.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let rest = path.strip_prefix(self.literal.as_str());
        rest.is_some_and(|rest| match &self.tokens[..] {
            [] => rest.is_empty(),
            tokens => self.states_after(rest)[tokens.len()],
        })
    }

    /// Whether the pattern matches any longer path that starts with `start`.
    pub(crate) fn may_match_below(&self, start: &str) -> bool {
        match start.strip_prefix(self.literal.as_str()) {
            None => self.literal.starts_with(start),
            Some(rest) => self.states_after(rest)[..self.tokens.len()].contains(&true),
        }
    }

    /// Simulates the tokens as an NFA. State `i` is active if token `i` can match next
    /// after `text`; the last state is active if the whole pattern has matched.
    fn states_after(&self, text: &str) -> Vec<bool> {
        let mut states = vec![false; self.tokens.len() + 1];
        self.activate(&mut states, 0);
        let mut next = states.clone();
        for c in text.chars() {
            next.fill(false);
            for (state, token) in self.tokens.iter().enumerate().filter(|(at, _)| states[*at]) {
                let (stays, advances) = token.consume(c);
                next[state] |= stays;
                if advances {
                    self.activate(&mut next, state + 1);
                }
            }
            swap(&mut states, &mut next);
            if !states.contains(&true) {
                break;
            }
        }
        states
    }

    /// Activates a state, and the states after it that are reached by tokens that match
    /// the empty text.
    fn activate(&self, states: &mut [bool], first: usize) {
        for (state, is_active) in states.iter_mut().enumerate().skip(first) {
            *is_active = true;
            let token = self.tokens.get(state);
            if !matches!(token, Some(Token::Name | Token::Folders | Token::Rest)) {
                return;
            }
        }
    }
}

impl Token {
    /// Whether the token can match `c` and continue, and whether it can match `c` and end.
    fn consume(&self, c: char) -> (bool, bool) {
        match self {
            Self::Char(expected) => (false, *expected == c),
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
    // Docker compares these as text. It turns all other patterns into regular expressions.
    let is_suffix = path.strip_prefix("**").is_some_and(is_literal);
    let is_prefix = path.strip_suffix("**").is_some_and(is_literal);
    let is_text = is_suffix || is_prefix || is_literal(path);
    if !is_text && path.starts_with('\u{feff}') {
        return Err("it begins with a byte order mark".to_owned());
    }
    let mut tokens = Vec::new();
    let mut chars = path.chars().peekable();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                let is_whole = chars.next_if_eq(&'/').is_some();
                let is_rest = chars.peek().is_none() || is_suffix && !is_whole;
                if is_rest { Token::Rest } else { Token::Folders }
            }
            '*' => Token::Name,
            '?' => Token::Any,
            '[' => parse_class(&mut chars)?,
            '\\' => Token::Char(parse_escaped(&mut chars)?),
            c if !is_text && is_operator(c, chars.peek()) => {
                return Err(format!(r"in a pattern with wildcards, write '\{c}' instead of '{c}'"));
            }
            c => Token::Char(c),
        });
    }
    Ok(tokens)
}

/// Whether a text has no special characters.
fn is_literal(text: &str) -> bool {
    !text.contains(['*', '?', '[', ']', '\\'])
}

/// Whether a character is an operator in the regular expression that Docker makes of a
/// pattern.
fn is_operator(c: char, next: Option<&char>) -> bool {
    matches!(c, '^' | '|') || c == '{' && next.is_some_and(char::is_ascii_digit)
}

/// Parses a character class, after its `[`.
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
        None => Err("'[' has no matching ']'".to_owned()),
        Some('\\') => parse_escaped(chars),
        Some(c @ ('-' | ']' | '*' | '?')) => {
            Err(format!(r"between '[' and ']', write '\{c}' instead of '{c}'"))
        }
        Some('[') if chars.peek() == Some(&':') => {
            Err("character classes such as '[:alpha:]' are not supported".to_owned())
        }
        Some(c) => Ok(c),
    }
}

fn parse_escaped(chars: &mut Peekable<Chars<'_>>) -> Result<char, String> {
    match chars.next() {
        None => Err("nothing follows the backslash".to_owned()),
        Some(c) if c.is_ascii_punctuation() || c == ' ' => Ok(c),
        Some(c) => {
            Err(format!("a backslash before '{c}' has a special meaning in Docker's matcher"))
        }
    }
}
