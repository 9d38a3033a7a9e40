//! `.dockerignore` with Docker's semantics.
//!
//! The rules are those of Docker's documentation of `.dockerignore`, which refers to Go's
//! `filepath.Match` and `filepath.Clean`. Where it leaves something open, they are those of
//! moby's `patternmatcher`, as used by Docker clients since 23 (older clients compare each
//! pattern with only one of a path's parent folders):
//!
//! - Each line is a pattern, relative to the context root. A byte order mark at the start of
//!   the file and surrounding white space are removed. Blank lines, and lines with `#` in the
//!   first column, are skipped. `!` marks an exception. `.` and `/` match nothing.
//! - The last matching pattern wins. A pattern that matches a folder also matches everything
//!   below it. Patterns are evaluated for each folder from the top down, and only where they
//!   would change the result: after `a/b`, the exception `!a` does not re-include `a/b`,
//!   because `a` was not ignored; `!a/b` does.
//! - `*` matches any text and `?` any character, except slashes. `[a-z]` and `[^a-z]` match
//!   one character that is, or is not, in the class; `[^a-z]` matches a slash. A backslash
//!   escapes the next character.
//! - `**` matches any number of whole folders, even next to other text: `a**b` matches `ab`
//!   and `ax/b`, but not `axb`. It matches any text at the end of a pattern, and at the start
//!   if the rest has no special characters: `**b` matches `ab`.
//!
//! `globset` does not fit: it matches bytes where Go matches characters (`?` does not match
//! `é`, and `[à-é]` is not a range), has no escapes in classes, treats `[!` as a negation and
//! `{a,b}` as alternatives, and a `**` next to other text as `*`. The first difference cannot
//! be solved by translating patterns, so this module matches them itself.
//!
//! Clients skip an ignored folder if no exception can apply below it. The classic client and
//! older versions of BuildKit decide this by comparing the text of the exception, including
//! its wildcards, with the folder's name, so they miss some: after `a`, the exception `!*/b`
//! re-includes `a/b` only with newer versions of BuildKit. It does here as well.
//!
//! Docker translates patterns to regular expressions. Where a pattern would not match as
//! written because of that, it is an error here: `\d` becomes any digit, `[*]` and
//! `[[:alpha:]]` change their meaning, and next to a wildcard `^` is an anchor, `|` separates
//! alternatives, `{2}` is a repetition, and a leading byte order mark is dropped. Malformed
//! patterns are errors too, even those that Docker would only detect when it evaluates them.
//!
//! `docker.txt` contains thousands of random cases with the results of Docker itself.

use crate::path_pattern::Pattern;

/// The rules of a `.dockerignore`. The default ignores nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Dockerignore {
    rules: Vec<Rule>,
}

/// An invalid line.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DockerignoreError {
    /// The line, starting at 1.
    pub line: usize,
    /// The pattern, and what is wrong with it.
    pub message: String,
}

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Rule {
    /// Starting at 1.
    line: usize,
    is_exception: bool,
    pattern: Pattern,
}

impl Dockerignore {
    /// Parses a `.dockerignore`.
    ///
    /// # Errors
    /// The first invalid line.
    pub fn parse(text: &str) -> Result<Self, DockerignoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for (index, line) in text.split('\n').enumerate() {
            let normalized = normalize(line);
            let rule = parse_rule(&normalized, index + 1).map_err(|reason| DockerignoreError {
                line: index + 1,
                message: format!("invalid pattern '{}': {reason}", line.trim()),
            })?;
            rules.extend(rule);
        }
        Ok(Self { rules })
    }

    /// Whether there are no rules.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a path is excluded from the context. Paths are relative to the context root.
    #[must_use]
    pub fn ignores(&self, path: &str) -> bool {
        self.decisive(path).is_some()
    }

    /// The line that excludes a path, starting at 1; `None` if it is not excluded.
    #[must_use]
    pub fn line_for(&self, path: &str) -> Option<usize> {
        self.decisive(path).map(|index| self.rules[index].line)
    }

    /// Whether the context may include a path, or anything below it.
    #[must_use]
    pub fn may_keep(&self, path: &str) -> bool {
        self.is_empty() || !self.ignores(path) || self.may_keep_below(path)
    }

    /// Whether an exception may re-include anything below a folder. If not, and the folder is
    /// ignored, it need not be walked.
    #[must_use]
    pub fn may_keep_below(&self, folder: &str) -> bool {
        let below = format!("{folder}/");
        let later = self.decisive(folder).map_or(0, |index| index + 1);
        let mut exceptions = self.rules[later..].iter().filter(|rule| rule.is_exception);
        exceptions.any(|exception| exception.pattern.may_match_below(&below))
    }

    /// The index of the rule that excludes a path, evaluated in the order of Docker's walk.
    fn decisive(&self, path: &str) -> Option<usize> {
        let folders = path.match_indices('/').map(|(end, _)| &path[..end]);
        let mut has_matched = vec![false; self.rules.len()];
        let mut decisive = None;
        for path in folders.chain([path]) {
            decisive = None;
            for (index, rule) in self.rules.iter().enumerate() {
                let is_relevant = rule.is_exception == decisive.is_some();
                has_matched[index] |= is_relevant && rule.pattern.matches(path);
                if has_matched[index] {
                    decisive = (!rule.is_exception).then_some(index);
                }
            }
        }
        decisive
    }
}

/// Normalizes a line like Docker's `ignorefile.ReadAll`; empty for no pattern.
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

/// Go's `filepath.Clean`, except that an empty path stays empty.
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

/// Trims, cleans and checks for `!` a second time, like Docker's `patternmatcher.New`: so
/// `/!a` is an exception too.
fn parse_rule(normalized: &str, line: usize) -> Result<Option<Rule>, String> {
    let cleaned = clean(normalized.trim());
    let (is_exception, path) = match cleaned.strip_prefix('!') {
        Some("") => return Err("nothing follows the '!'".to_owned()),
        Some(path) => (true, path),
        None if cleaned.is_empty() => return Ok(None),
        None => (false, cleaned.as_str()),
    };
    Ok(Some(Rule { line, is_exception, pattern: Pattern::parse(path)? }))
}

#[cfg(test)]
mod tests;
