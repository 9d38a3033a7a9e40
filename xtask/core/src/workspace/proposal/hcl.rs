//! Reads the literal part of a Bake file in HCL: blocks, attributes, texts, lists and tables, and
//! variables by their defaults. What a function says is not known: its attribute is left out.

use serde_json::{Map, Value};

/// The deepest blocks, lists and tables.
const DEEPEST: usize = 32;

/// The document, in the form of Bake's JSON.
pub(super) fn read(text: &str) -> Value {
    let first = Reader::new(text, Map::new()).body(0);
    let variables = first.get("variable").and_then(Value::as_object).into_iter().flatten();
    let defaults = variables
        .filter_map(|(name, variable)| Some((name.clone(), variable.get("default")?.clone())));
    Reader::new(text, defaults.collect()).body(0).into()
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
    Line,
}

struct Reader {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    variables: Map<String, Value>,
}

impl Reader {
    fn new(text: &str, variables: Map<String, Value>) -> Self {
        Self { tokens: tokens(text).into_iter().peekable(), variables }
    }

    /// Attributes and blocks until the end, or a `}`.
    fn body(&mut self, depth: usize) -> Map<String, Value> {
        let mut body = Map::new();
        while let Some(token) = self.tokens.next() {
            let name = match token {
                Token::Sign('}') => break,
                Token::Word(name) | Token::Text(name) => name,
                _ => continue,
            };
            let mut labels = vec![name];
            while let Some(Token::Word(label) | Token::Text(label)) = self.tokens.peek() {
                labels.push(label.clone());
                self.tokens.next();
            }
            match self.tokens.next() {
                Some(Token::Sign('=' | ':')) => {
                    if let Some(value) = self.value(depth) {
                        body.insert(labels.swap_remove(0), value);
                    }
                }
                Some(Token::Sign('{')) if depth < DEEPEST => {
                    let inner = self.body(depth + 1);
                    insert(&mut body, &labels, inner);
                }
                Some(_) => {}
                None => break,
            }
        }
        body
    }

    /// What follows a `=`, up to the end of its line; `None` if it is not literal.
    fn value(&mut self, depth: usize) -> Option<Value> {
        let value = match self.tokens.next()? {
            Token::Text(text) => Some(self.expanded(&text)),
            Token::Word(word) => match word.as_str() {
                "true" => Some(Value::Bool(true)),
                "false" => Some(Value::Bool(false)),
                word if word.starts_with(|first: char| first.is_ascii_digit()) => {
                    Some(Value::String(word.to_owned()))
                }
                name => self.variables.get(name).cloned(),
            },
            Token::Sign('[') if depth < DEEPEST => Some(self.list(depth + 1)),
            Token::Sign('{') if depth < DEEPEST => Some(self.body(depth + 1).into()),
            _ => None,
        };
        let is_end = |token: &Token| matches!(token, Token::Line | Token::Sign(',' | ']' | '}'));
        if self.tokens.peek().is_none_or(is_end) {
            return value;
        }
        self.skip();
        None
    }

    fn list(&mut self, depth: usize) -> Value {
        let mut list = Vec::new();
        loop {
            match self.tokens.peek() {
                None => break,
                Some(Token::Sign(']')) => {
                    self.tokens.next();
                    break;
                }
                Some(Token::Line | Token::Sign(',')) => drop(self.tokens.next()),
                Some(_) => list.extend(self.value(depth)),
            }
        }
        list.into()
    }

    /// Skips the rest of an expression.
    fn skip(&mut self) {
        let mut open = 0_usize;
        while let Some(token) = self.tokens.peek() {
            match token {
                Token::Sign('(' | '[' | '{') => open += 1,
                Token::Line | Token::Sign(')' | ']' | '}' | ',') if open == 0 => return,
                Token::Sign(')' | ']' | '}') => open -= 1,
                _ => {}
            }
            self.tokens.next();
        }
    }

    /// A text with the defaults of variables in it.
    fn expanded(&self, text: &str) -> Value {
        let mut text = text.to_owned();
        for (name, default) in &self.variables {
            if let Some(default) = default.as_str() {
                text = text.replace(&format!("${{{name}}}"), default);
            }
        }
        text.into()
    }
}

/// Adds a block under its labels.
fn insert(body: &mut Map<String, Value>, labels: &[String], block: Map<String, Value>) {
    let [first, rest @ ..] = labels else { return };
    let entry = body.entry(first.clone()).or_insert_with(|| Map::new().into());
    let Value::Object(inner) = entry else { return };
    if rest.is_empty() { inner.extend(block) } else { insert(inner, rest, block) }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after = &rest[first.len_utf8()..];
        rest = match first {
            '\n' => {
                tokens.push(Token::Line);
                after
            }
            '#' => rest.find('\n').map_or("", |end| &rest[end..]),
            '/' if after.starts_with('/') => rest.find('\n').map_or("", |end| &rest[end..]),
            '/' if after.starts_with('*') => after.split_once("*/").map_or("", |(_, rest)| rest),
            '"' => {
                let (text, rest) = quoted(after);
                tokens.push(Token::Text(text));
                rest
            }
            _ if first.is_alphanumeric() || first == '_' => {
                let is_inner = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
                let end = rest.find(|c| !is_inner(c)).unwrap_or(rest.len());
                tokens.push(Token::Word(rest[..end].to_owned()));
                &rest[end..]
            }
            _ if first.is_whitespace() => after,
            _ => {
                tokens.push(Token::Sign(first));
                after
            }
        };
    }
    tokens
}

/// A text up to its closing quote, and what follows.
fn quoted(text: &str) -> (String, &str) {
    let (mut out, mut chars) = (String::new(), text.char_indices());
    while let Some((at, letter)) = chars.next() {
        match letter {
            '"' => return (out, &text[at + 1..]),
            '\\' => match chars.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, other)) => out.push(other),
                None => {}
            },
            other => out.push(other),
        }
    }
    (out, "")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_literal_is_read() {
        let text = r#"
# a comment
variable "TAG" { default = "1.0" }
variable "REGISTRY" {
  default = "r.example/x" // where to
}
function "f" {
  params = [a]
  result = "${a}"
}
group "default" { targets = ["one", "two"] }
target "_common" {
  args = { A = "1", B = TAG, C = f("x") }
  /* not now: args = {} */
}
target "one" {
  inherits = ["_common"]
  context = "./one"
  tags = [
    "${REGISTRY}/one:${TAG}",
    f("y"),
    "${UNKNOWN}\"x",
  ]
  no-cache = true
  labels = merge({ x = "y" }, { z = f("a") })
  target = equal("", TAG) ? "a" : "b"
  dockerfile = "Dockerfile.one"
}
"#;
        let expected = json!({
            "variable": { "TAG": { "default": "1.0" }, "REGISTRY": { "default": "r.example/x" } },
            "function": { "f": { "params": [], "result": "${a}" } },
            "group": { "default": { "targets": ["one", "two"] } },
            "target": {
                "_common": { "args": { "A": "1", "B": "1.0" } },
                "one": {
                    "inherits": ["_common"],
                    "context": "./one",
                    "tags": ["r.example/x/one:1.0", "${UNKNOWN}\"x"],
                    "no-cache": true,
                    "dockerfile": "Dockerfile.one",
                },
            },
        });
        assert_eq!(read(text), expected);
    }

    #[test]
    fn whatever_is_in_the_file_reading_ends() {
        for text in ["{", "}", "a = [", "a = {{{", "target \"x\" {", "\"", "a = f(", "= =", "/*"] {
            let _ = read(text);
        }
        let _ = read(&"a {".repeat(100_000));
        let _ = read(&format!("a = {}", "[".repeat(100_000)));
    }
}
