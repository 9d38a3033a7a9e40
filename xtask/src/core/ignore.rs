//! `.dockerignore`, as Docker reads it: what is left out of a context.
//!
//! The rules are those of Docker's documentation and of moby's `patternmatcher`,
//! which build on Go's `filepath.Match` and `filepath.Clean`: a pattern a line,
//! relative to the context's root; `#` in the first column starts a comment;
//! `!` in front takes something back in; the last pattern that matches a path, or
//! a folder that it lies in, decides.
//!
//! Matching is done by `globset`, whose `*`, `?` and `[…]` mean the same once a
//! slash is matched by none of them. Two things differ and are translated:
//! braces, which Go takes as they are, are escaped; and `**`, which moby lets
//! stand anywhere for any text (`**/` for any folders), is for `globset` a whole
//! path component, so a pattern in which it is not becomes two: one for what it
//! matches within a name, one for what it matches across folders.

use globset::{GlobBuilder, GlobMatcher};

/// The patterns of one ignore file. The default ignores nothing.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    takes_back: bool,
    /// The text as cleaned, for what it could match below a folder.
    text: String,
    matchers: Vec<GlobMatcher>,
}

/// A line that is no pattern.
#[derive(Debug, thiserror::Error)]
#[error("'{pattern}' is not a pattern: {message}")]
pub struct IgnoreError {
    /// The line, from 1.
    pub line: usize,
    pattern: String,
    message: String,
}

impl Ignore {
    /// Reads an ignore file.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut patterns = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (takes_back, written) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let cleaned = clean(written);
            if cleaned.is_empty() {
                continue;
            }
            let matchers = matchers(&cleaned).map_err(|message| IgnoreError {
                line: index + 1,
                pattern: written.to_owned(),
                message,
            })?;
            patterns.push(Pattern { takes_back, text: cleaned, matchers });
        }
        Ok(Self { patterns })
    }

    /// Whether a path, relative to the context's root, is left out.
    pub fn ignores(&self, path: &str) -> bool {
        let mut is_ignored = false;
        for pattern in &self.patterns {
            if pattern.takes_back == is_ignored && pattern.matches_or_holds(path) {
                is_ignored = !pattern.takes_back;
            }
        }
        is_ignored
    }

    /// Whether something below an ignored folder could be taken back in; if not,
    /// the folder need not be walked.
    pub fn may_keep_below(&self, folder: &str) -> bool {
        let exceptions = self.patterns.iter().filter(|pattern| pattern.takes_back);
        exceptions.into_iter().any(|pattern| pattern.may_match_below(folder))
    }
}

impl Pattern {
    /// Whether the pattern matches the path or a folder that the path lies in.
    fn matches_or_holds(&self, path: &str) -> bool {
        let folders = path.match_indices('/').map(|(place, _)| &path[..place]);
        folders.chain([path]).any(|path| self.matchers.iter().any(|glob| glob.is_match(path)))
    }

    /// Component by component, until a `**` makes everything possible. A pattern
    /// that matches the folder itself, or one above it, takes back all below.
    fn may_match_below(&self, folder: &str) -> bool {
        if self.matches_or_holds(folder) {
            return true;
        }
        let mut names = folder.split('/');
        for part in self.text.split('/') {
            if part.contains("**") {
                return true;
            }
            let Some(name) = names.next() else {
                return true;
            };
            let is_match = glob(part).is_ok_and(|glob| glob.is_match(name));
            if !is_match {
                return false;
            }
        }
        false
    }
}

/// Go's `filepath.Clean` and no leading slash; empty for what matches nothing or
/// the root itself.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join("/")
}

fn matchers(pattern: &str) -> Result<Vec<GlobMatcher>, String> {
    // Go takes a lone backslash at the end as an error, globset as itself.
    let trailing = pattern.len() - pattern.trim_end_matches('\\').len();
    if trailing % 2 == 1 {
        return Err("it ends in a lone backslash".to_owned());
    }
    let inside_a_name = pattern.split('/').any(|part| part != "**" && part.contains("**"));
    if !inside_a_name {
        return Ok(vec![glob(pattern)?]);
    }
    let within = pattern.split('/').map(|part| match part {
        "**" => "**".to_owned(),
        part => part.replace("**", "*"),
    });
    let across = pattern.split('/').map(|part| match part {
        "**" => "**".to_owned(),
        part => part.replace("**", "*/**/*"),
    });
    let within = glob(&within.collect::<Vec<_>>().join("/"))?;
    let across = glob(&across.collect::<Vec<_>>().join("/"))?;
    Ok(vec![within, across])
}

fn glob(pattern: &str) -> Result<GlobMatcher, String> {
    GlobBuilder::new(&escape_braces(pattern))
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| error.kind().to_string())
}

/// Braces mean nothing to Go; inside a class they mean themselves to both.
fn escape_braces(pattern: &str) -> String {
    let mut out = String::new();
    let mut in_class = false;
    let mut is_escaped = false;
    for c in pattern.chars() {
        match c {
            '{' | '}' if !in_class && !is_escaped => out.push('\\'),
            '[' if !is_escaped => in_class = true,
            ']' if !is_escaped => in_class = false,
            _ => {}
        }
        is_escaped = c == '\\' && !is_escaped;
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_docker_documents() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("", &[], &["a", "a/b"]),
            ("a", &["a", "a/b", "a/b/c"], &["b/a", "ab"]),
            ("/a/", &["a", "a/b"], &["b/a"]),
            ("./a/../b", &["b"], &["a"]),
            ("*", &["a", "a/b"], &[]),
            ("*.md", &["x.md", "x.md/y"], &["a/x.md"]),
            ("*/temp*", &["a/temp", "a/temp.txt", "a/temp/x"], &["temp", "a/b/temp"]),
            ("**/*.go", &["x.go", "a/x.go", "a/b/x.go"], &["x.goo"]),
            ("a/**", &["a/b", "a/b/c"], &["b"]),
            ("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["b"]),
            ("**", &["a", "a/b"], &[]),
            ("a**b", &["ab", "axb", "ax/yb", "ax/y/zb"], &["a", "b"]),
            ("temp?", &["tempa"], &["temp", "a/tempa"]),
            ("[ab]x", &["ax", "bx"], &["cx"]),
            ("[^ab]x", &["cx"], &["ax"]),
            ("{a,b}", &["{a,b}"], &["a", "b"]),
            ("\\*", &["*"], &["a"]),
            ("# a\n #b", &["#b"], &["a", "# a"]),
            ("*\n!keep", &["a", "b/keep"], &["keep", "keep/x"]),
            ("a\n!a/b\na/b/c", &["a", "a/x", "a/b/c"], &["a/b", "a/b/d"]),
            ("*.md\n!README*.md\nREADME-secret.md", &["x.md", "README-secret.md"], &["README.md"]),
            ("*.md\nREADME-secret.md\n!README*.md", &["x.md"], &["README.md", "README-secret.md"]),
            ("  a  \r\n\r\nb\r\n", &["a", "b"], &["c"]),
            (".", &[], &["a"]),
        ];
        for (text, ignored, kept) in cases {
            let ignore = Ignore::parse(text).unwrap();
            for path in *ignored {
                assert!(ignore.ignores(path), "{text:?} must ignore {path}");
            }
            for path in *kept {
                assert!(!ignore.ignores(path), "{text:?} must keep {path}");
            }
        }
    }

    #[test]
    fn a_folder_is_walked_only_if_an_exception_can_lie_in_it() {
        let ignore = Ignore::parse("*\n!a/b/c\n!x*/y").unwrap();
        assert!(["a", "a/b", "xx"].iter().all(|folder| ignore.may_keep_below(folder)));
        assert!(!["b", "a/c", "yy"].iter().any(|folder| ignore.may_keep_below(folder)));
        assert!(Ignore::parse("*\n!**/x").unwrap().may_keep_below("a/b"));
        assert!(!Ignore::parse("*").unwrap().may_keep_below("a"));
    }

    #[test]
    fn a_bad_pattern_is_named_with_its_line() {
        let error = Ignore::parse("a\n\n[b\n").unwrap_err();
        assert_eq!(error.line, 3);
        assert!(error.to_string().starts_with("'[b' is not a pattern"));
        assert!(Ignore::parse("a\\").is_err());
    }
}
