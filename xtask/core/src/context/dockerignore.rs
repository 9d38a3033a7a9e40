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

use crate::path_pattern::Pattern;

/// What a `.dockerignore` says. The default ignores nothing.
#[derive(Clone, Debug, Default)]
pub struct Dockerignore {
    rules: Vec<Rule>,
}

/// A line that is no pattern.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DockerignoreError {
    /// The line, from 1.
    pub line: usize,
    /// The pattern and what is wrong with it.
    pub message: String,
}

/// One line of the file.
#[derive(Clone, Debug)]
struct Rule {
    /// From 1.
    line: usize,
    is_exception: bool,
    pattern: Pattern,
}

impl Dockerignore {
    /// Reads the text of a `.dockerignore`.
    ///
    /// # Errors
    /// The first line that is no pattern.
    pub fn parse(text: &str) -> Result<Self, DockerignoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for (index, line) in text.split('\n').enumerate() {
            let written = normalize(line);
            let rule = parse_rule(&written, index + 1).map_err(|reason| DockerignoreError {
                line: index + 1,
                message: format!("bad pattern '{}': {reason}", line.trim()),
            })?;
            rules.extend(rule);
        }
        Ok(Self { rules })
    }

    /// Whether nothing at all is ignored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a build never sees a path: slash separated, below the root.
    #[must_use]
    pub fn ignores(&self, path: &str) -> bool {
        self.decisive(path).is_some()
    }

    /// The line by which a build never sees a path, from 1; none if it does.
    #[must_use]
    pub fn line_for(&self, path: &str) -> Option<usize> {
        self.decisive(path).map(|index| self.rules[index].line)
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
        let mut exceptions = self.rules[later..].iter().filter(|rule| rule.is_exception);
        exceptions.any(|exception| exception.pattern.may_go_on(&below))
    }

    /// The pattern by which a path is ignored, found as Docker's walk finds it.
    fn decisive(&self, path: &str) -> Option<usize> {
        let folders = path.match_indices('/').map(|(end, _)| &path[..end]);
        let mut has_matched = vec![false; self.rules.len()];
        let mut decisive = None;
        for path in folders.chain([path]) {
            decisive = None;
            for (index, rule) in self.rules.iter().enumerate() {
                let is_asked = rule.is_exception == decisive.is_some();
                has_matched[index] |= is_asked && rule.pattern.matches(path);
                if has_matched[index] {
                    decisive = (!rule.is_exception).then_some(index);
                }
            }
        }
        decisive
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
fn parse_rule(written: &str, line: usize) -> Result<Option<Rule>, String> {
    let cleaned = clean(written.trim());
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
