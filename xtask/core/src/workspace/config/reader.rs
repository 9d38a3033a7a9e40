//! Reads `xtask.toml` into values with their places. All problems are found at once.

use std::collections::BTreeMap;
use std::ops::Range;

use globset::{Glob, GlobMatcher};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::escape;
use crate::problem::{Problem, did_you_mean, hint};
use crate::workspace::config::keys::{KEYS, Key, Kind, OTHER_SPELLINGS, Place};
use crate::workspace::config::origin::{Origin, Position};

/// The most combinations of a matrix.
const MOST_ROWS: usize = 1000;

/// The value of a key, and where the key stands.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) at: Origin,
    pub(crate) value: Value,
}

/// What a key was given. Each text knows its place.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    List(Vec<(String, Origin)>),
    Map(BTreeMap<String, Entry>),
    /// The combinations of a matrix: the value of each axis.
    Rows(Vec<BTreeMap<String, String>>),
}

impl Value {
    /// Its texts, which may be templates.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        let (mut text, mut list, mut map) = (None, [].as_slice(), None);
        match self {
            Self::Text(one) => text = Some(one.as_str()),
            Self::List(texts) => list = texts,
            Self::Map(entries) => map = Some(entries.values()),
            Self::Rows(_) => {}
        }
        let entries = map.into_iter().flatten().filter_map(|entry| match &entry.text {
            EntryText::Template(text) => Some(text.as_str()),
            EntryText::Environment(_) => None,
        });
        text.into_iter().chain(list.iter().map(|(text, _)| text.as_str())).chain(entries)
    }
}

/// The value of a name in a table.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) at: Origin,
    pub(crate) text: EntryText,
}

#[derive(Clone, Debug)]
pub(crate) enum EntryText {
    Template(String),
    /// The name of the environment variable that has it.
    Environment(String),
}

/// The keys of a table, by name.
pub(crate) type Values = BTreeMap<&'static str, Given>;

/// A table `[image.KEY]`.
#[derive(Clone, Debug)]
pub(crate) struct ImageTable {
    pub(crate) key: String,
    pub(crate) at: Origin,
    pub(crate) values: Values,
    /// The images that it adjusts, if its name is a glob of them.
    glob: Option<GlobMatcher>,
}

impl ImageTable {
    fn new(key: String, at: Origin, values: Values) -> Self {
        let is_glob = key.contains('*') && !values.contains_key("dockerfile");
        let glob = is_glob.then(|| Glob::new(&key).ok()).flatten();
        Self { key, at, values, glob: glob.map(|glob| glob.compile_matcher()) }
    }

    /// Whether its name is that of one image.
    pub(crate) fn is_literal(&self) -> bool {
        !self.key.contains(['*', '?', '{', '$'])
    }

    /// Whether its name is a glob, and this image is one of those.
    pub(crate) fn is_glob_of(&self, image: &str) -> bool {
        self.glob.as_ref().is_some_and(|glob| glob.is_match(image))
    }
}

/// The items of a list, if it is given.
pub(crate) fn list<'v>(values: &'v Values, key: &str) -> Option<&'v [(String, Origin)]> {
    match &values.get(key)?.value {
        Value::List(list) => Some(list),
        _ => None,
    }
}

/// The whole file.
#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    pub(crate) top: Values,
    pub(crate) tables: Vec<ImageTable>,
    pub(crate) groups: BTreeMap<String, Vec<(String, Origin)>>,
}

/// Reads the text of the file.
pub(crate) fn read(text: &str) -> Result<File, Vec<Problem>> {
    read_from(text, None)
}

/// Reads text that comes from elsewhere than the file, if an `origin` is given.
pub(crate) fn read_from(text: &str, origin: Option<Origin>) -> Result<File, Vec<Problem>> {
    let mut reader = Reader { text, origin, problems: Vec::new() };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = reader.at(&error.span().unwrap_or_default());
        let message = error.message().replace('\n', ", ");
        reader.problems.push(at.problem(escape::line(&message)));
    }
    // What follows from a syntax error is no help.
    if !reader.problems.is_empty() {
        return Err(reader.problems);
    }
    let file = reader.file(document.get_ref());
    if reader.problems.is_empty() { Ok(file) } else { Err(reader.problems) }
}

struct Reader<'t> {
    text: &'t str,
    /// Where everything comes from, if not from its place in the file.
    origin: Option<Origin>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn at(&self, span: &Range<usize>) -> Origin {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let position = || Position {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        };
        self.origin.unwrap_or_else(|| Origin::File(position()))
    }

    fn problem(&mut self, span: &Range<usize>, message: impl std::fmt::Display) {
        let problem = self.at(span).problem(message);
        self.problems.push(problem);
    }

    fn file(&mut self, document: &DeTable<'_>) -> File {
        let mut file = File::default();
        for (name, value) in document {
            let Some(key) = self.key(name, |place| matches!(place, Place::Top | Place::Both))
            else {
                continue;
            };
            match key.kind {
                Kind::Images => file.tables = self.tables(value),
                Kind::Groups => file.groups = self.groups(value),
                _ => {
                    let at = self.at(&name.span());
                    let value = self.value(key, value);
                    file.top.extend(value.map(|value| (key.name, Given { at, value })));
                }
            }
        }
        file
    }

    fn tables(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<ImageTable> {
        let Some(images) = self.table(value, "[image.NAME] tables") else { return Vec::new() };
        let mut tables = Vec::new();
        for (name, value) in images {
            let at = self.at(&name.span());
            let Some(keys) = self.table(value, "a table") else { continue };
            let mut values = Values::new();
            for (name, value) in keys {
                if let Some(key) = self.key(name, |place| place != Place::Top) {
                    let at = self.at(&name.span());
                    let value = self.value(key, value);
                    values.extend(value.map(|value| (key.name, Given { at, value })));
                }
            }
            tables.push(ImageTable::new(name.get_ref().to_string(), at, values));
        }
        tables
    }

    fn groups(&mut self, value: &Spanned<DeValue<'_>>) -> BTreeMap<String, Vec<(String, Origin)>> {
        let mut groups = BTreeMap::new();
        for (name, value) in self.table(value, "lists of names").into_iter().flatten() {
            let members = self.list(value);
            groups.insert(name.get_ref().to_string(), members);
        }
        groups
    }

    /// The key of this name, if it may stand here.
    fn key(
        &mut self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        is_allowed: impl Fn(Place) -> bool,
    ) -> Option<&'static Key> {
        let text = name.get_ref().as_ref();
        if let Some(key) = KEYS.iter().find(|key| key.name == text) {
            if is_allowed(key.place) {
                return Some(key);
            }
            let place = match key.place {
                Place::Top => "stands at the top of the file, before the first table",
                _ => "stands in an [image.NAME] table",
            };
            self.problem(&name.span(), format!("'{text}' {place}"));
            return None;
        }
        let shown = escape::line(text);
        let other = OTHER_SPELLINGS.iter().find(|(other, _)| *other == text);
        let message = if let Some((_, here)) = other {
            format!("unknown key '{shown}': here it is called '{here}'")
        } else {
            let allowed = KEYS.iter().filter(|key| is_allowed(key.place));
            let hint = did_you_mean(text, allowed.map(|key| key.name));
            format!("unknown key '{shown}'{hint}")
        };
        self.problem(&name.span(), message);
        None
    }

    fn value(&mut self, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        Some(match key.kind {
            Kind::Text => Value::Text(self.text(value, "a text")?),
            Kind::List => Value::List(self.list(value)),
            Kind::TextOrList => match value.get_ref() {
                DeValue::String(text) => {
                    Value::List(vec![(text.to_string(), self.at(&value.span()))])
                }
                _ => Value::List(self.list(value)),
            },
            Kind::Command if value.get_ref().is_str() => Value::Text(self.text(value, "a text")?),
            Kind::Command => {
                let words = self.list(value);
                if value.get_ref().as_array().is_some_and(|words| words.is_empty()) {
                    self.problem(&value.span(), "expected a program, and its arguments");
                }
                Value::List(words)
            }
            Kind::Map => Value::Map(self.map(value, false)?),
            Kind::Args => Value::Map(self.map(value, true)?),
            Kind::Secrets => Value::List(self.secrets(value)?),
            Kind::Matrix => Value::Rows(self.matrix(value)?),
            Kind::Groups | Kind::Images => return None,
        })
    }

    fn table<'v, 'i>(
        &mut self,
        value: &'v Spanned<DeValue<'i>>,
        expected: &str,
    ) -> Option<&'v DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(value, expected);
        }
        table
    }

    fn text(&mut self, value: &Spanned<DeValue<'_>>, expected: &str) -> Option<String> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(value, expected);
        }
        text.map(str::to_owned)
    }

    /// A text; a number or a truth value is one, as it is written.
    fn scalar(&mut self, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let span = value.span();
        match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                self.text.get(span).map(str::to_owned)
            }
            _ => {
                self.wrong_type(value, "a text");
                None
            }
        }
    }

    fn list(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<(String, Origin)> {
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(value, "a list of texts");
            return Vec::new();
        };
        let texts = array
            .iter()
            .filter_map(|element| Some((self.text(element, "a text")?, self.at(&element.span()))));
        texts.collect()
    }

    fn map(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        has_environment: bool,
    ) -> Option<BTreeMap<String, Entry>> {
        let mut map = BTreeMap::new();
        for (name, value) in self.table(value, "a table of texts")? {
            let at = self.at(&name.span());
            let text = match value.get_ref() {
                DeValue::Table(table) if has_environment => {
                    self.environment(value, table).map(EntryText::Environment)
                }
                _ => self.scalar(value).map(EntryText::Template),
            };
            map.extend(text.map(|text| (name.get_ref().to_string(), Entry { at, text })));
        }
        Some(map)
    }

    /// `{ env = "NAME" }`.
    fn environment(&mut self, value: &Spanned<DeValue<'_>>, table: &DeTable<'_>) -> Option<String> {
        let mut entries = table.iter();
        match (entries.next(), entries.next()) {
            (Some((key, name)), None) if key.get_ref() == "env" => self.text(name, "a text"),
            _ => {
                self.problem(&value.span(), "expected a text, or { env = \"NAME\" }");
                None
            }
        }
    }

    fn secrets(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Vec<(String, Origin)>> {
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(value, "a list of secrets");
            return None;
        };
        let mut secrets = Vec::new();
        for element in array {
            let at = self.at(&element.span());
            let DeValue::Table(table) = element.get_ref() else {
                let text = self.text(element, "a text such as \"id=NAME,env=VARIABLE\"");
                secrets.extend(text.map(|text| (text, at)));
                continue;
            };
            let mut fields = Vec::new();
            for (key, value) in table {
                let key = key.get_ref();
                fields.extend(self.text(value, "a text").map(|text| format!("{key}={text}")));
            }
            secrets.push((fields.join(","), at));
        }
        Some(secrets)
    }

    /// The rows of a matrix: as written, or all combinations of its axes.
    fn matrix(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Vec<BTreeMap<String, String>>> {
        if let DeValue::Array(rows) = value.get_ref() {
            if rows.is_empty() {
                self.problem(&value.span(), "the matrix has no rows: list at least one");
            }
            let mut all = Vec::new();
            for row in rows {
                let mut values = BTreeMap::new();
                for (axis, value) in self.table(row, "a table of texts")? {
                    values.insert(axis.get_ref().to_string(), self.scalar(value)?);
                }
                all.push(values);
            }
            return Some(all);
        }
        let mut rows = vec![BTreeMap::new()];
        for (axis, values) in self.table(value, "a table of lists, or a list of tables")? {
            let Some(values) = values.get_ref().as_array() else {
                self.wrong_type(values, "a list of texts");
                return None;
            };
            if values.is_empty() || rows.len() * values.len() > MOST_ROWS {
                let message = if values.is_empty() {
                    "has no values: list at least one".to_owned()
                } else {
                    format!("makes more than {MOST_ROWS} images: leave out values")
                };
                self.problem(&axis.span(), format!("'{}' {message}", axis.get_ref()));
                return None;
            }
            let mut next = Vec::new();
            for value in values {
                let text = self.scalar(value)?;
                next.extend(rows.iter().cloned().map(|mut row: BTreeMap<String, String>| {
                    row.insert(axis.get_ref().to_string(), text.clone());
                    row
                }));
            }
            rows = next;
        }
        Some(rows)
    }

    fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, expected: &str) {
        let found = value.get_ref().type_str();
        let article = if found.starts_with(['a', 'i']) { "an" } else { "a" };
        self.problem(&value.span(), format!("expected {expected}, found {article} {found}"));
    }
}

/// Asks whether a table of another name was meant.
pub(crate) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str> + Clone) -> String {
    let without_tag = name.split(':').next().unwrap_or(name);
    let same_repository = known.clone().find(|it| it.split(':').next() == Some(without_tag));
    same_repository.map_or_else(|| did_you_mean(name, known), hint)
}
