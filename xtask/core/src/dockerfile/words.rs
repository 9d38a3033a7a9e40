//! The words of an instruction: splitting, quotes, and variables.

use std::collections::BTreeMap;

/// Why a text cannot be expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// Each `ARG` can be twice the one before.
    #[error("comes to more than {} KiB once its variables are expanded: shorten it", LONGEST >> 10)]
    TooLong,
    /// A `${…}` is in a `${…}` and so on.
    #[error("has more than {DEEPEST} '${{…}}' within each other: give them to ARGs of their own")]
    TooDeep,
}

/// So many bytes may a text have once its variables are expanded.
const LONGEST: usize = 64 << 10;

/// So many `${…}` may be within each other.
pub(crate) const DEEPEST: usize = 64;

/// Splits at blanks outside quotes; the quotes stay.
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in text.chars() {
        if quote.is_none() && c.is_whitespace() {
            words.push(String::new());
            continue;
        }
        if matches!(c, '"' | '\'') && quote.is_none_or(|open| open == c) {
            quote = if quote.is_none() { Some(c) } else { None };
        }
        words.last_mut().expect("there is always a word").push(c);
    }
    words.retain(|word| !word.is_empty());
    words
}

pub(crate) fn unquote(text: &str) -> String {
    let inner = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(text).to_owned()
}

/// Expands `$X`, `${X}`, `${X:-default}`, `${X-default}`, `${X:+other}` and
/// `${X+other}`; `\$` is a plain dollar sign.
pub(crate) fn expand(
    text: &str,
    variables: &BTreeMap<String, String>,
) -> Result<String, ExpandError> {
    expand_below(text, variables, 0)
}

fn expand_below(
    text: &str,
    variables: &BTreeMap<String, String>,
    depth: usize,
) -> Result<String, ExpandError> {
    if depth > DEEPEST {
        return Err(ExpandError::TooDeep);
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(place) = rest.find(['$', '\\']) {
        out.push_str(&rest[..place]);
        let special = &rest[place..];
        let (value, length) = match special.strip_prefix('\\') {
            Some(escaped) => {
                let next = escaped.chars().next();
                (next.map(String::from).unwrap_or_default(), 1 + next.map_or(0, char::len_utf8))
            }
            None => expand_one(special, variables, depth)?,
        };
        out.push_str(&value);
        rest = &special[length..];
        if out.len() + rest.len() > LONGEST {
            return Err(ExpandError::TooLong);
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// The value of the variable that `text` begins with, and the length of its name.
fn expand_one(
    text: &str,
    variables: &BTreeMap<String, String>,
    depth: usize,
) -> Result<(String, usize), ExpandError> {
    let get = |name: &str| variables.get(name).cloned();
    if let Some(inside) = text.strip_prefix("${")
        && let Some(end) = closing_brace(inside)
    {
        let inside = &inside[..end];
        let name_end = inside.find([':', '-', '+']).unwrap_or(inside.len());
        let (name, rest) = inside.split_at(name_end);
        let (counts_empty, operator) = match rest.strip_prefix(':') {
            Some(operator) => (false, operator),
            None => (true, rest),
        };
        let value = get(name).filter(|value| counts_empty || !value.is_empty());
        let value = match (operator.chars().next(), value) {
            (Some('-'), None) | (Some('+'), Some(_)) => {
                expand_below(&operator[1..], variables, depth + 1)?
            }
            (Some('+'), None) => String::new(),
            (_, value) => value.unwrap_or_default(),
        };
        return Ok((value, "${".len() + end + "}".len()));
    }
    let name_length =
        text[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len() - 1);
    Ok(match name_length {
        0 => ("$".to_owned(), 1),
        length => (get(&text[1..=length]).unwrap_or_default(), 1 + length),
    })
}

/// The place of the `}` that closes a `${` before `text`.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 1;
    for (place, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(place);
        }
    }
    None
}
