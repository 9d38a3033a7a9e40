//! Which images the tables of `xtask.toml` define: from each Dockerfile that a pattern finds,
//! one image for each combination of a matrix.
//!
//! A table defines images if it has a `dockerfile`, or if it has a `context` and its name is
//! that of no image. All others adjust images that are defined elsewhere. `{flavor}` makes
//! alternatives of one image, and every other capture makes images of their own.

use std::collections::{BTreeMap, BTreeSet};

use crate::image_reference;
use crate::paths::{join, plain};
use crate::problem::{Problem, did_you_mean};
use crate::workspace::config::origin::Origin;
use crate::workspace::config::pattern::{FLAVOR, Match, PathPattern, Search};
use crate::workspace::config::reader::{Given, ImageTable, Value, list};
use crate::workspace::config::template::{self, Words};
use crate::workspace::strays;

/// The words that every image has, so that no capture can have their names.
const BUILT_IN: [&str; 6] = ["dir", "registry", "tag", "branch", "commit", "worktree"];

/// The word for an image's name.
const IMAGE: &str = "image";

/// The Dockerfiles of one image, by flavor.
pub(crate) type Candidates = BTreeMap<Option<String>, String>;

/// An image, before its settings are known.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    pub(crate) name: String,
    /// The folder of its component, relative to the root.
    pub(crate) component_dir: String,
    pub(crate) dockerfiles: Candidates,
    /// Captures and axes of the matrix.
    pub(crate) words: BTreeMap<String, String>,
    /// The index of the table that defines it; none for an image in `src/`.
    pub(crate) table: Option<usize>,
}

/// Everything that tables define.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    pub(crate) images: Vec<Definition>,
    /// The folders that `{component}` stands for.
    pub(crate) component_dirs: BTreeSet<String>,
    pub(crate) problems: Vec<Problem>,
}

/// The patterns of a table, each with its place.
type Patterns = Vec<(PathPattern, Origin)>;

/// Finds the images that tables define. `words` has those that names can use.
pub(crate) fn define(tables: &[ImageTable], search: &Search<'_>, words: &Words<'_>) -> Definitions {
    let mut definitions = Definitions::default();
    let patterns: Vec<Option<Patterns>> =
        tables.iter().map(|table| patterns(table, &mut definitions.problems)).collect();
    let mut found = Vec::new();
    for (index, patterns) in patterns.iter().enumerate() {
        let Some(patterns) = patterns else { continue };
        let mut is_empty = true;
        for (pattern, at) in patterns {
            definitions.component_dirs.extend(pattern.component_dirs(search));
            let matches = pattern.find(search);
            is_empty &= matches.is_empty();
            found.extend(matches.into_iter().map(|found| (found, index, *at)));
        }
        if is_empty && !patterns.is_empty() {
            let at = patterns.first().map_or(tables[index].at, |(_, at)| *at);
            let found = strays::find_dockerfiles(search.root);
            let first = list(&tables[index].values, "dockerfile").and_then(<[_]>::first);
            let text = first.map_or("", |(text, _)| text);
            let mut hint = did_you_mean(text, found.iter().map(String::as_str));
            if hint.is_empty() {
                let some = strays::name_a_few(&found);
                hint = some.map(|some| format!(": there are {some}")).unwrap_or_default();
            }
            definitions.problems.push(at.problem(format!("'dockerfile' matches no file{hint}")));
        }
    }
    for (found, index) in most_literal(found, &mut definitions.problems) {
        let table = &tables[index];
        definitions.add(images_of(table, index, &found, words), table);
    }
    let defined: BTreeSet<String> =
        definitions.images.iter().map(|image| image.name.clone()).collect();
    for (index, table) in tables.iter().enumerate() {
        let Some(Given { value: Value::Text(context), at }) = table.values.get("context") else {
            continue;
        };
        let is_definition = table.is_literal() && !defined.contains(&table.key);
        if is_definition && !table.values.contains_key("dockerfile") {
            let mut of_image = words.clone();
            of_image.values.insert(IMAGE.to_owned(), table.key.clone());
            let dir = match of_image.expand(context) {
                Ok(dir) => plain(&dir),
                Err(error) => {
                    definitions.problems.push(at.problem(format!("'context' {error}")));
                    continue;
                }
            };
            let found = Match {
                path: join(&dir, "Dockerfile"),
                captures: BTreeMap::new(),
                component_dir: None,
                literal: 0,
            };
            definitions.add(images_of(table, index, &found, words), table);
        }
    }
    definitions
}

impl Definitions {
    /// Adds the images of one Dockerfile, or why it has none; those that differ in their flavor
    /// only are one.
    fn add(&mut self, images: Result<Vec<Definition>, Problem>, table: &ImageTable) {
        let images = images.unwrap_or_else(|problem| {
            self.problems.push(problem);
            Vec::new()
        });
        for image in images {
            let Some(other) = self.images.iter_mut().find(|other| other.name == image.name) else {
                self.images.push(image);
                continue;
            };
            let is_other_flavor =
                image.dockerfiles.keys().all(|flavor| !other.dockerfiles.contains_key(flavor));
            if is_other_flavor
                && image.table == other.table
                && image.component_dir == other.component_dir
            {
                other.dockerfiles.extend(image.dockerfiles);
                continue;
            }
            let files = || image.dockerfiles.values().chain(other.dockerfiles.values());
            let files: BTreeSet<&str> = files().map(String::as_str).collect();
            let files: Vec<&str> = files.into_iter().collect();
            let how = match files.as_slice() {
                [file] => format!("twice by the matrix, of {file}"),
                files => format!("twice, by {}", files.join(" and ")),
            };
            let name = &image.name;
            let message = format!("image '{name}' is defined {how}: 'name' must tell them apart");
            let problem = table.at.problem(message);
            self.problems.push(problem);
        }
    }
}

fn patterns(table: &ImageTable, problems: &mut Vec<Problem>) -> Option<Patterns> {
    let list = list(&table.values, "dockerfile")?;
    if table.key.contains('*') {
        let message =
            format!("'{}' has a '*', so it only adjusts images: name what it defines", table.key);
        problems.push(table.at.problem(message));
        return None;
    }
    let mut patterns = Vec::new();
    for (text, at) in list {
        match PathPattern::parse(text) {
            Ok(pattern) => {
                for capture in pattern.captures() {
                    if BUILT_IN.contains(&capture) {
                        let message =
                            format!("'{{{capture}}}' has a meaning of its own: call it otherwise");
                        problems.push(at.problem(message));
                    }
                }
                patterns.push((pattern, *at));
            }
            Err(error) => problems.push(at.problem(format!("'{text}' {error}"))),
        }
    }
    Some(patterns)
}

/// Each file with the table that names it most literally. Tables that name it in full are meant to
/// make several images of it.
fn most_literal(
    found: Vec<(Match, usize, Origin)>,
    problems: &mut Vec<Problem>,
) -> Vec<(Match, usize)> {
    let mut by_path: BTreeMap<String, Vec<(Match, usize, Origin)>> = BTreeMap::new();
    for (one, table, at) in found {
        by_path.entry(one.path.clone()).or_default().push((one, table, at));
    }
    let mut kept = Vec::new();
    for (path, mut found) in by_path {
        let most = found.iter().map(|(found, ..)| found.literal).max().unwrap_or_default();
        found.retain(|(found, ..)| found.literal == most);
        let is_in_full = most == path.replace('/', "").chars().count();
        let mut others = found.iter().skip(1).filter(|(_, table, _)| *table != found[0].1);
        if let Some((.., at)) = others.next().filter(|_| !is_in_full) {
            let first = found[0].2;
            let message = format!(
                "{path} is found by this pattern and by the one in {first}: make one \
                 more literal"
            );
            problems.push(at.problem(message));
        }
        found.dedup_by_key(|(_, table, _)| *table);
        kept.extend(found.into_iter().map(|(found, table, _)| (found, table)));
    }
    kept
}

/// The images that a table makes of one Dockerfile.
fn images_of(
    table: &ImageTable,
    index: usize,
    found: &Match,
    outer: &Words<'_>,
) -> Result<Vec<Definition>, Problem> {
    let (name, name_at) = match table.values.get("name") {
        Some(Given { at, value: Value::Text(name) }) => (name.as_str(), *at),
        _ => (table.key.as_str(), table.at),
    };
    if name.contains("{flavor}") {
        let message = "{flavor} makes alternatives of one image, which have one name: for images \
                       of their own, call the capture otherwise";
        return Err(name_at.problem(message));
    }
    if found.captures.contains_key(IMAGE) && name != "{image}" {
        let message = "{image} is the name of the image: as the name is not exactly '{image}', \
                       call the capture otherwise";
        return Err(name_at.problem(message));
    }
    let rows = match table.values.get("matrix") {
        Some(Given { value: Value::Rows(rows), .. }) => rows.clone(),
        _ => vec![BTreeMap::new()],
    };
    let mut images = Vec::new();
    for row in rows {
        let mut captures = found.captures.clone();
        for (axis, value) in row {
            let is_built_in = BUILT_IN.contains(&axis.as_str()) || axis == IMAGE;
            if is_built_in || captures.contains_key(&axis) || !template::is_word(&axis) {
                let message =
                    format!("'{axis}' cannot be an axis of the matrix: call it otherwise");
                return Err(table.at.problem(message));
            }
            captures.insert(axis, value);
        }
        let mut words = outer.clone();
        words.values.extend(captures.clone());
        let is_captured = |word: &str| captures.contains_key(word);
        let adapt = |word: &str, value: &str| {
            if is_captured(word) { as_name(value) } else { value.to_owned() }
        };
        let name = words
            .expand_with(name, adapt)
            .map_err(|error| name_at.problem(format!("'{name}' {error}")))?;
        let checked = image_reference::check(&name);
        checked.map_err(|error| name_at.problem(format!("'{name}' is no image name: {error}")))?;
        if name.contains('@') {
            let message = format!("'{name}' is no image name: leave out the digest");
            return Err(name_at.problem(message));
        }
        let folder = found.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let component_dir = found.component_dir.clone();
        let flavor = captures.get(FLAVOR).cloned();
        images.push(Definition {
            name,
            component_dir: component_dir.unwrap_or_else(|| folder.to_owned()),
            dockerfiles: [(flavor, found.path.clone())].into(),
            words: captures,
            table: Some(index),
        });
    }
    Ok(images)
}

/// Captured text as a part of a name: in lower case, other characters replaced.
pub(crate) fn as_name(text: &str) -> String {
    let is_kept = |letter: char| {
        letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '.' | '_' | '/')
    };
    let lower = text.to_lowercase();
    lower.chars().map(|letter| if is_kept(letter) { letter } else { '-' }).collect()
}
