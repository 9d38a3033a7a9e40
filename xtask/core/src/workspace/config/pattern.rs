//! Patterns that find Dockerfiles, such as `images/{image}/Dockerfile`.
//!
//! `*` stands for any text in one name, `**` for folders of any depth, `[…]` for an optional
//! part, and `{word}` captures: text of one name, and the same text wherever the word is
//! repeated. `{flavor}` captures only a declared flavor. A pattern reads only the folders that
//! it can match, and follows links to files but not to folders below `**`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use globset::GlobSet;

use crate::paths::join;
use crate::workspace::config::template::is_word;

/// The word that captures one of the declared flavors.
pub(crate) const FLAVOR: &str = "flavor";

/// The word that marks the folder of a component.
pub(crate) const COMPONENT: &str = "component";

/// The most optional parts of a pattern: each doubles the number of its alternatives.
const MOST_OPTIONS: usize = 6;

/// The most wildcards and captures in one name: to match them takes that power of its length.
const MOST_WILDCARDS: usize = 4;

/// Ends of names that are no Dockerfiles, but lie beside them.
const NOT_DOCKERFILES: [&str; 11] = [
    ".dockerignore",
    "~",
    ".orig",
    ".bak",
    ".swp",
    ".em",
    ".j2",
    ".tmpl",
    ".in",
    ".md",
    ".template",
];

/// A pattern for the paths of Dockerfiles, relative to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathPattern {
    /// Without optional parts; those with more of them come first.
    alternatives: Vec<Vec<Segment>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// `**`.
    AnyDepth,
    Name(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(String),
    /// `*`.
    Any,
    Capture(String),
}

/// A path that a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Match {
    /// Relative to the root.
    pub(crate) path: String,
    pub(crate) captures: BTreeMap<String, String>,
    /// The folder that `{component}` marks.
    pub(crate) component_dir: Option<String>,
    /// How many of its characters the pattern names literally.
    pub(crate) literal: usize,
}

/// What patterns are matched against.
pub(crate) struct Search<'a> {
    pub(crate) root: &'a Path,
    /// Paths that are not looked at.
    pub(crate) exclude: &'a GlobSet,
    pub(crate) flavors: &'a [String],
}

impl PathPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with('/') || text.is_empty() {
            return Err("must be a path relative to the root".to_owned());
        }
        let mut alternatives = vec![String::new()];
        let mut rest = text;
        let mut options = 0;
        while let Some((before, option)) = rest.split_once('[') {
            let (option, after) = option.split_once(']').ok_or("has a '[' without a ']'")?;
            if option.contains('[') {
                return Err("has an optional part in another: write two patterns".to_owned());
            }
            options += 1;
            if options > MOST_OPTIONS {
                return Err(format!("has more than {MOST_OPTIONS} optional parts"));
            }
            let with = alternatives.iter().map(|start| format!("{start}{before}{option}"));
            let without = alternatives.iter().map(|start| format!("{start}{before}"));
            alternatives = with.chain(without).collect();
            rest = after;
        }
        let parse = |start: &String| format!("{start}{rest}").split('/').map(segment).collect();
        let alternatives: Vec<Vec<Segment>> =
            alternatives.iter().map(parse).collect::<Result<_, _>>()?;
        if alternatives.iter().any(|segments| marks_a_file(segments)) {
            return Err(
                "has {component} in the name of the file alone, and it marks the folder of \
                        a component: write {image}, or another word"
                    .to_owned(),
            );
        }
        Ok(Self { alternatives })
    }

    /// The words that every match captures.
    pub(crate) fn captures(&self) -> Vec<&str> {
        let captures = self.alternatives.iter().map(|segments| {
            let tokens = segments.iter().flat_map(Segment::tokens);
            let words = tokens.filter_map(|token| match token {
                Token::Capture(word) => Some(word.as_str()),
                Token::Literal(_) | Token::Any => None,
            });
            words.collect::<Vec<&str>>()
        });
        captures
            .reduce(|mut words, others| {
                words.retain(|word| others.contains(word));
                words
            })
            .unwrap_or_default()
    }

    /// The paths that match, sorted, each once.
    pub(crate) fn find(&self, search: &Search<'_>) -> Vec<Match> {
        let mut found: BTreeMap<String, Match> = BTreeMap::new();
        for segments in &self.alternatives {
            let mut walk = Walk { search, found: Vec::new() };
            walk.below("", segments, &State::default());
            for one in walk.found {
                found.entry(one.path.clone()).or_insert(one);
            }
        }
        found.into_values().collect()
    }

    /// Whether a file of this name, or a folder, can be a part of what it finds.
    pub(crate) fn may_find(&self, path: &Path, is_dir: bool, flavors: &[String]) -> bool {
        let depth = path.iter().count();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        self.alternatives.iter().any(|segments| {
            let has_any_depth = segments.contains(&Segment::AnyDepth);
            let last = segments.last();
            let is_last = || {
                last.is_some_and(|last| last.matches(name, &State::default(), flavors).is_some())
            };
            if is_dir {
                has_any_depth || depth < segments.len()
            } else {
                (has_any_depth || depth == segments.len()) && is_last()
            }
        })
    }

    /// The folders that it looks into first, relative to the root.
    pub(crate) fn base(&self) -> String {
        let first = self.alternatives.first().into_iter().flatten();
        let literal: Vec<&str> = first.map_while(Segment::literal).collect();
        let folders = &literal[..literal.len().min(self.depth() - 1)];
        folders.join("/")
    }

    fn depth(&self) -> usize {
        self.alternatives.first().map_or(1, |segments| segments.len().max(1))
    }

    /// The folders that `{component}` stands for, whether or not they have Dockerfiles.
    pub(crate) fn component_dirs(&self, search: &Search<'_>) -> Vec<String> {
        let Some(segments) = self.alternatives.first() else { return Vec::new() };
        let is_mark = |segment: &Segment| {
            matches!(segment, Segment::Name(tokens)
                if matches!(tokens.as_slice(), [Token::Capture(word)] if word == COMPONENT))
        };
        let Some(mark) = segments.iter().position(is_mark) else { return Vec::new() };
        let mut dirs = vec![String::new()];
        for segment in &segments[..=mark] {
            let mut next = Vec::new();
            for dir in &dirs {
                let names = names(search, dir).into_iter().filter(|(_, is_dir)| *is_dir);
                let is_match = |name: &str| {
                    let matched = segment.matches(name, &State::default(), search.flavors);
                    !name.starts_with('.') && matched.is_some()
                };
                let matching = names.filter(|(name, _)| is_match(name));
                next.extend(matching.map(|(name, _)| join(dir, &name)));
            }
            dirs = next;
        }
        dirs
    }
}

/// Whether the only `{component}` is in the name of the file.
fn marks_a_file(segments: &[Segment]) -> bool {
    let Some((file, folders)) = segments.split_last() else { return false };
    file.captures(COMPONENT) && !folders.iter().any(|folder| folder.captures(COMPONENT))
}

fn segment(text: &str) -> Result<Segment, String> {
    match text {
        "" => return Err("has an empty part: remove a '/'".to_owned()),
        "." | ".." => return Err(format!("has '{text}': write the path from the root")),
        "**" => return Ok(Segment::AnyDepth),
        _ if text.contains("**") => {
            return Err("has '**' beside other text: it stands for whole folders".to_owned());
        }
        _ => {}
    }
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['*', '{', '}', '?']) {
        if at > 0 {
            tokens.push(Token::Literal(rest[..at].to_owned()));
        }
        let special = &rest[at..];
        if let Some(after) = special.strip_prefix('*') {
            tokens.push(Token::Any);
            rest = after;
            continue;
        }
        if special.starts_with('?') {
            return Err("has a '?': write '*', or a {word} that captures".to_owned());
        }
        let inner = special.strip_prefix('{').ok_or("has a '}' without a '{'")?;
        let (word, after) = inner.split_once('}').ok_or("has a '{' without a '}'")?;
        if word.contains(',') {
            return Err(format!("has '{{{word}}}': write a list of patterns instead"));
        }
        if !is_word(word) {
            return Err(format!("has '{{{word}}}', which is no word"));
        }
        tokens.push(Token::Capture(word.to_owned()));
        rest = after;
    }
    if !rest.is_empty() {
        tokens.push(Token::Literal(rest.to_owned()));
    }
    if tokens.iter().filter(|token| !matches!(token, Token::Literal(_))).count() > MOST_WILDCARDS {
        return Err(format!("has more than {MOST_WILDCARDS} wildcards in one name"));
    }
    Ok(Segment::Name(tokens))
}

impl Segment {
    fn tokens(&self) -> &[Token] {
        match self {
            Self::AnyDepth => &[],
            Self::Name(tokens) => tokens,
        }
    }

    fn captures(&self, word: &str) -> bool {
        self.tokens().iter().any(|token| matches!(token, Token::Capture(it) if it == word))
    }

    /// The state after a name that matches.
    fn matches(&self, name: &str, state: &State, flavors: &[String]) -> Option<State> {
        let mut state = state.clone();
        matches(self.tokens(), name, &mut state, flavors).then_some(state)
    }

    /// The only name that it matches, if it has neither wildcards nor captures.
    fn literal(&self) -> Option<&str> {
        match self.tokens() {
            [Token::Literal(name)] => Some(name),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, Default)]
struct State {
    captures: BTreeMap<String, String>,
    component_dir: Option<String>,
    literal: usize,
}

/// Whether the tokens match a whole name; the longest text that can be captured is.
fn matches(tokens: &[Token], name: &str, state: &mut State, flavors: &[String]) -> bool {
    let Some((first, rest)) = tokens.split_first() else { return name.is_empty() };
    let ends = || (1..=name.len()).rev().filter(|end| name.is_char_boundary(*end));
    match first {
        Token::Literal(text) => {
            let Some(after) = name.strip_prefix(text.as_str()) else { return false };
            let is_match = matches(rest, after, state, flavors);
            state.literal += if is_match { text.chars().count() } else { 0 };
            is_match
        }
        Token::Any => ends().chain([0]).any(|end| matches(rest, &name[end..], state, flavors)),
        Token::Capture(word) => {
            if let Some(bound) = state.captures.get(word).cloned() {
                let after = name.strip_prefix(bound.as_str());
                return after.is_some_and(|after| matches(rest, after, state, flavors));
            }
            if name.is_empty() {
                return false;
            }
            for end in ends() {
                let text = &name[..end];
                if word == FLAVOR && !flavors.iter().any(|flavor| flavor == text) {
                    continue;
                }
                state.captures.insert(word.clone(), text.to_owned());
                if matches(rest, &name[end..], state, flavors) {
                    return true;
                }
                state.captures.remove(word);
            }
            false
        }
    }
}

struct Walk<'s, 'a> {
    search: &'s Search<'a>,
    found: Vec<Match>,
}

impl Walk<'_, '_> {
    fn below(&mut self, dir: &str, segments: &[Segment], state: &State) {
        let Some((segment, rest)) = segments.split_first() else { return };
        if *segment == Segment::AnyDepth {
            self.below(dir, rest, state);
            for (name, is_dir) in names(self.search, dir) {
                let path = join(dir, &name);
                if is_dir && !self.search.root.join(&path).is_symlink() {
                    self.below(&path, segments, state);
                }
            }
            return;
        }
        if let Some(name) = segment.literal() {
            let path = join(dir, name);
            if !is_excluded(self.search.exclude, &path) {
                let literal = state.literal + name.chars().count();
                let is_dir = self.search.root.join(&path).is_dir();
                self.found(&path, is_dir, rest, State { literal, ..state.clone() });
            }
            return;
        }
        for (name, is_dir) in names(self.search, dir) {
            let matched = segment.matches(&name, state, self.search.flavors);
            if let Some(mut state) = matched {
                let path = join(dir, &name);
                if segment.captures(COMPONENT) {
                    state.component_dir.get_or_insert_with(|| path.clone());
                }
                self.found(&path, is_dir, rest, state);
            }
        }
    }

    fn found(&mut self, path: &str, is_dir: bool, rest: &[Segment], state: State) {
        if is_dir && !rest.is_empty() {
            self.below(path, rest, &state);
        } else if !is_dir && rest.is_empty() && is_dockerfile_name(path) {
            let exists = self.search.root.join(path).symlink_metadata().is_ok();
            let State { captures, component_dir, literal } = state;
            let path = path.to_owned();
            self.found.extend(exists.then_some(Match { path, captures, component_dir, literal }));
        }
    }
}

/// The names in a folder that are not excluded, sorted, and whether they are folders.
fn names(search: &Search<'_>, dir: &str) -> Vec<(String, bool)> {
    let Ok(entries) = fs::read_dir(search.root.join(dir)) else { return Vec::new() };
    let mut names: Vec<(String, bool)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            (!is_excluded(search.exclude, &join(dir, &name))).then(|| {
                let is_dir = entry.path().is_dir();
                (name, is_dir)
            })
        })
        .collect();
    names.sort();
    names
}

/// Whether a path is excluded, or everything below it.
pub(crate) fn is_excluded(exclude: &GlobSet, path: &str) -> bool {
    exclude.is_match(path) || exclude.is_match(format!("{path}/\u{1}/\u{1}"))
}

fn is_dockerfile_name(path: &str) -> bool {
    !NOT_DOCKERFILES.iter().any(|end| path.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(paths: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for path in paths {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "FROM scratch\n").unwrap();
        }
        root
    }

    fn found(pattern: &str, paths: &[&str]) -> Vec<String> {
        let root = workspace(paths);
        let exclude = globset::Glob::new("out/**").unwrap();
        let exclude = globset::GlobSetBuilder::new().add(exclude).build().unwrap();
        let flavors = ["k8s".to_owned(), "yarn".to_owned()];
        let search = Search { root: root.path(), exclude: &exclude, flavors: &flavors };
        let show = |found: Match| {
            let captures = found.captures.iter().map(|(word, text)| format!("{word}={text}"));
            let dir = found.component_dir.iter().map(|dir| format!("in {dir}"));
            let all: Vec<String> = captures.chain(dir).collect();
            format!("{} {} {}", found.path, all.join(" "), found.literal)
        };
        PathPattern::parse(pattern).unwrap().find(&search).into_iter().map(show).collect()
    }

    #[test]
    fn captures_are_the_parts_of_paths() {
        let paths = ["a/x/Dockerfile", "a/y/Dockerfile", "a/y/Dockerfile.orig", "b/Dockerfile"];
        let each = ["a/x/Dockerfile image=x 11", "a/y/Dockerfile image=y 11"];
        assert_eq!(found("a/{image}/Dockerfile", &paths), each);
        let paths = ["ros/jazzy/ubuntu/noble/core/Dockerfile", "ros/jazzy/x/Dockerfile"];
        assert_eq!(
            found("ros/{distro}/*/{suite}/{kind}/Dockerfile", &paths),
            ["ros/jazzy/ubuntu/noble/core/Dockerfile distro=jazzy kind=core suite=noble 13"]
        );
    }

    #[test]
    fn a_repeated_word_is_the_same_text() {
        let paths = ["v/a/a.Dockerfile", "v/a/b.Dockerfile"];
        let same = ["v/a/a.Dockerfile app=a 12"];
        assert_eq!(found("v/{app}/{app}.Dockerfile", &paths), same);
    }

    #[test]
    fn a_component_is_the_first_folder_that_is_marked() {
        let paths = ["v/a/build/a.D"];
        let same = ["v/a/build/a.D component=a in v/a 8"];
        assert_eq!(found("v/{component}/build/{component}.D", &paths), same);
    }

    #[test]
    fn optional_parts_are_taken_if_they_can_be() {
        let paths = ["src/a/build/web.k8s.dockerfile", "src/a/build/web.x.dockerfile"];
        let each = [
            "src/a/build/web.k8s.dockerfile component=a flavor=k8s image=web in src/a 20",
            "src/a/build/web.x.dockerfile component=a image=web.x in src/a 19",
        ];
        assert_eq!(found("src/{component}/build/{image}[.{flavor}].dockerfile", &paths), each);
        let paths = ["j/rocm/pytorch/Dockerfile", "j/pytorch/Dockerfile"];
        let each =
            ["j/pytorch/Dockerfile image=pytorch 11", "j/rocm/pytorch/Dockerfile image=pytorch 15"];
        assert_eq!(found("j/[rocm/]{image}/Dockerfile", &paths), each);
    }

    #[test]
    fn any_depth_is_any_depth() {
        let paths = ["Dockerfile", "a/Dockerfile", "a/b/c/Dockerfile", "out/Dockerfile"];
        let all = ["Dockerfile  10", "a/Dockerfile  10", "a/b/c/Dockerfile  10"];
        assert_eq!(found("**/Dockerfile", &paths), all);
    }

    #[test]
    fn malformed_patterns_are_errors() {
        let cases = [
            ("", "must be a path relative to the root"),
            ("/a", "must be a path relative to the root"),
            ("a//b", "has an empty part: remove a '/'"),
            ("../a", "has '..': write the path from the root"),
            ("a[b", "has a '[' without a ']'"),
            ("a/{b", "has a '{' without a '}'"),
            ("a/b}", "has a '}' without a '{'"),
            ("{a,b}/D", "has '{a,b}': write a list of patterns instead"),
            ("{a b}/D", "has '{a b}', which is no word"),
            ("a**/D", "has '**' beside other text: it stands for whole folders"),
            (
                "[{component}/]{component}.D",
                "has {component} in the name of the file alone, and it marks the folder of a \
                 component: write {image}, or another word",
            ),
        ];
        for (pattern, expected) in cases {
            assert_eq!(PathPattern::parse(pattern).unwrap_err(), expected, "{pattern}");
        }
    }
}
