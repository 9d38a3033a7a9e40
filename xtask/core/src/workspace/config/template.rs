//! Templates in `xtask.toml`: `{word}` is a word of the image, `${VAR}` a variable of the
//! environment, by Compose's rules. `{{`, `}}` and `$$` stand for the characters themselves.

use std::collections::BTreeMap;

/// Why a template cannot be expanded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    /// A `{` has no `}`, or a `}` no `{`.
    #[error("has a single '{0}': write '{0}{0}' for the character itself")]
    Unpaired(char),
    /// What is in the braces is not a word.
    #[error("has '{{{0}}}', which is no word: write '{{{{' for a brace")]
    NotAWord(String),
    /// No such word exists here.
    #[error("has the unknown word {{{word}}}: the words here are {known}")]
    Unknown {
        /// The word.
        word: String,
        /// All words, in braces.
        known: String,
    },
    /// A word that has no value here.
    #[error("has {{{word}}}, {why}")]
    Unusable {
        /// The word.
        word: String,
        /// Why, as a clause.
        why: &'static str,
    },
    /// A `$` is followed by something else than a variable.
    #[error("has a '$' without a variable: write ${{NAME}}, ${{NAME:-default}}, or '$$'")]
    BadVariable,
    /// A variable is not set.
    #[error("needs the environment variable {name}: {message}")]
    Unset {
        /// The variable.
        name: String,
        /// What the template says about it, or what to do.
        message: String,
    },
}

/// A part of a template.
#[derive(Debug, PartialEq, Eq)]
enum Part<'t> {
    Text(&'t str),
    Word(&'t str),
    Variable { name: &'t str, is_empty_unset: bool, otherwise: Otherwise<'t> },
}

/// What counts if a variable is not set.
#[derive(Debug, PartialEq, Eq)]
enum Otherwise<'t> {
    Error(Option<&'t str>),
    Default(&'t str),
}

/// The values that a template is expanded with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words<'e> {
    pub(crate) values: BTreeMap<String, String>,
    /// Words that exist, and have no value here, with the reason.
    pub(crate) unusable: BTreeMap<&'static str, &'static str>,
    pub(crate) environment: Option<&'e BTreeMap<String, String>>,
}

impl Words<'_> {
    /// Expands a template.
    pub(crate) fn expand(&self, template: &str) -> Result<String, TemplateError> {
        self.expand_with(template, |_, value| value.to_owned())
    }

    /// Expands a template, and adapts the value of each word.
    pub(crate) fn expand_with(
        &self,
        template: &str,
        adapt: impl Fn(&str, &str) -> String,
    ) -> Result<String, TemplateError> {
        let mut out = String::new();
        for part in parse(template)? {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Word(word) => out.push_str(&adapt(word, self.word(word)?)),
                Part::Variable { name, is_empty_unset, otherwise } => {
                    let value = self.environment.and_then(|all| all.get(name));
                    let value = value.filter(|value| !is_empty_unset || !value.is_empty());
                    match (value, otherwise) {
                        (Some(value), _) => out.push_str(value),
                        (None, Otherwise::Default(default)) => out.push_str(default),
                        (None, Otherwise::Error(message)) => {
                            let message = message.unwrap_or("set it, or write ${NAME:-default}");
                            let (name, message) = (name.to_owned(), message.to_owned());
                            return Err(TemplateError::Unset { name, message });
                        }
                    }
                }
            }
        }
        Ok(out)
    }

    fn word(&self, word: &str) -> Result<&str, TemplateError> {
        if let Some(value) = self.values.get(word) {
            return Ok(value);
        }
        let word = word.to_owned();
        if let Some(why) = self.unusable.get(word.as_str()) {
            return Err(TemplateError::Unusable { word, why });
        }
        let known: Vec<String> = self.values.keys().map(|word| format!("{{{word}}}")).collect();
        Err(TemplateError::Unknown { word, known: known.join(", ") })
    }
}

/// Whether a text can be a word: a capture, or an axis of a matrix.
pub(crate) fn is_word(text: &str) -> bool {
    let is_inner = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.chars().all(is_inner)
}

fn parse(template: &str) -> Result<Vec<Part<'_>>, TemplateError> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}', '$']) {
        let (text, special) = rest.split_at(at);
        parts.push(Part::Text(text));
        let letter = &special[..1];
        if special[1..].starts_with(letter) {
            parts.push(Part::Text(letter));
            rest = &special[2..];
        } else if letter == "$" {
            let (variable, after) = variable(&special[1..])?;
            parts.push(variable);
            rest = after;
        } else {
            let word = special.strip_prefix('{').ok_or(TemplateError::Unpaired('}'))?;
            let (word, after) = word.split_once('}').ok_or(TemplateError::Unpaired('{'))?;
            if !is_word(word) {
                return Err(TemplateError::NotAWord(word.to_owned()));
            }
            parts.push(Part::Word(word));
            rest = after;
        }
    }
    parts.push(Part::Text(rest));
    Ok(parts)
}

/// What follows a `$`: `NAME`, or `{NAME}` with what counts if it is not set.
fn variable(text: &str) -> Result<(Part<'_>, &str), TemplateError> {
    let is_inner = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let name_of = |text: &str| text.find(|letter| !is_inner(letter)).unwrap_or(text.len());
    let is_name = |name: &str| name.starts_with(|first: char| !first.is_ascii_digit());
    let Some(inner) = text.strip_prefix('{') else {
        let (name, rest) = text.split_at(name_of(text));
        let otherwise = Otherwise::Error(None);
        return if is_name(name) {
            Ok((Part::Variable { name, is_empty_unset: false, otherwise }, rest))
        } else {
            Err(TemplateError::BadVariable)
        };
    };
    let (inner, rest) = inner.split_once('}').ok_or(TemplateError::BadVariable)?;
    let (name, modifier) = inner.split_at(name_of(inner));
    let is_empty_unset = modifier.starts_with(':');
    let modifier = modifier.strip_prefix(':').unwrap_or(modifier);
    let otherwise = match (modifier.strip_prefix('-'), modifier.strip_prefix('?')) {
        (Some(default), _) => Otherwise::Default(default),
        (_, Some(message)) => Otherwise::Error(Some(message).filter(|text| !text.is_empty())),
        _ if modifier.is_empty() && !is_empty_unset => Otherwise::Error(None),
        _ => return Err(TemplateError::BadVariable),
    };
    if is_name(name) {
        Ok((Part::Variable { name, is_empty_unset, otherwise }, rest))
    } else {
        Err(TemplateError::BadVariable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_expanded() {
        let environment =
            [("SET", "value"), ("EMPTY", "")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        let words = Words {
            values: [("image".to_owned(), "web".to_owned())].into(),
            unusable: [("tag", "which only tags know")].into(),
            environment: Some(&environment),
        };
        let cases = [
            ("a/{image}:1", Ok("a/web:1")),
            ("{{image}} $$x", Ok("{image} $x")),
            ("${SET}-$SET.x", Ok("value-value.x")),
            ("${NONE:-d}${EMPTY:-e}${EMPTY-f}", Ok("de")),
            ("${SET?needed}", Ok("value")),
            ("${NONE?give a version}", Err("needs the environment variable NONE: give a version")),
            (
                "$NONE",
                Err("needs the environment variable NONE: set it, or write ${NAME:-default}"),
            ),
            (
                "${SETé}",
                Err("has a '$' without a variable: write ${NAME}, ${NAME:-default}, or '$$'"),
            ),
            ("{imag}", Err("has the unknown word {imag}: the words here are {image}")),
            ("{tag}", Err("has {tag}, which only tags know")),
            ("{image", Err("has a single '{': write '{{' for the character itself")),
            ("image}", Err("has a single '}': write '}}' for the character itself")),
            ("{a,b}", Err("has '{a,b}', which is no word: write '{{' for a brace")),
            ("a$", Err("has a '$' without a variable: write ${NAME}, ${NAME:-default}, or '$$'")),
        ];
        for (template, expected) in cases {
            let found = words.expand(template).map_err(|error| error.to_string());
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{template}");
        }
    }
}
