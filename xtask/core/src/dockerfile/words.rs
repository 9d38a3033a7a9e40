//! Splitting an instruction's arguments into words, unquoting them, and expanding variables.

use std::collections::BTreeMap;

/// Why variables cannot be expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// The result is too long: if each `ARG` repeats the one before, it grows exponentially.
    #[error("expands to more than {} KiB: use shorter ARG values", MAX_EXPANDED >> 10)]
    TooLong,
    /// The `${…}` expressions are nested too deeply.
    #[error("nests '${{…}}' more than {MAX_DEPTH} levels deep: split it into several ARGs")]
    TooDeep,
}

/// The maximum size of a text after expansion, in bytes.
const MAX_EXPANDED: usize = 64 << 10;

/// The maximum nesting depth of `${…}`.
pub(crate) const MAX_DEPTH: usize = 64;

/// Splits at white space outside quotes. Quotes are kept.
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
/// `${X+other}`. `\$` is a literal dollar sign.
pub(crate) fn expand(
    text: &str,
    variables: &BTreeMap<String, String>,
) -> Result<String, ExpandError> {
    expand_nested(text, variables, 0)
}

fn expand_nested(
    text: &str,
    variables: &BTreeMap<String, String>,
    depth: usize,
) -> Result<String, ExpandError> {
    if depth > MAX_DEPTH {
        return Err(ExpandError::TooDeep);
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(offset) = rest.find(['$', '\\']) {
        out.push_str(&rest[..offset]);
        let special = &rest[offset..];
        let (value, length) = match special.strip_prefix('\\') {
            Some(escaped) => {
                let next = escaped.chars().next();
                (next.map(String::from).unwrap_or_default(), 1 + next.map_or(0, char::len_utf8))
            }
            None => expand_one(special, variables, depth)?,
        };
        out.push_str(&value);
        rest = &special[length..];
        if out.len() + rest.len() > MAX_EXPANDED {
            return Err(ExpandError::TooLong);
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Expands the variable at the start of `text`; returns its value and the length of the
/// expression.
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
        let (accepts_empty, operator) = match rest.strip_prefix(':') {
            Some(operator) => (false, operator),
            None => (true, rest),
        };
        let value = get(name).filter(|value| accepts_empty || !value.is_empty());
        let value = match (operator.chars().next(), value) {
            (Some('-'), None) | (Some('+'), Some(_)) => {
                expand_nested(&operator[1..], variables, depth + 1)?
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

/// The offset of the `}` that closes a `${` in front of `text`.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 1;
    for (offset, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(offset);
        }
    }
    None
}
