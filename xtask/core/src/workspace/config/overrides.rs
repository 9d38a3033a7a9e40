//! What is said outside of the file: by options of a command, by `--set`, and by the environment.

use std::collections::{BTreeMap, BTreeSet};

use crate::problem::Problem;
use crate::workspace::config::keys::{KEYS, Key, Kind, Place};
use crate::workspace::config::origin::Origin;
use crate::workspace::config::reader::{
    self, Entry, EntryText, File, Given, ImageTable, Value, Values,
};

/// What options say about the images that a command is about.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The names of the images; `None` for all.
    images: Option<BTreeSet<String>>,
    values: Values,
}

impl Overrides {
    /// The same for these images alone.
    #[must_use]
    pub fn only_for(self, images: BTreeSet<String>) -> Self {
        Self { images: Some(images), ..self }
    }

    /// Whether no option is given.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// An option that is given.
    pub(crate) fn origin(&self) -> Option<Origin> {
        self.values.values().map(|given| given.at).next()
    }

    /// A key that takes a text, if the option is given.
    pub fn text(&mut self, key: &'static str, option: &'static str, given: Option<&str>) {
        if let Some(text) = given {
            self.give(key, option, Value::Text(literally(text)));
        }
    }

    /// A key that takes a list, if the option is given.
    pub fn list(&mut self, key: &'static str, option: &'static str, given: &[String]) {
        if !given.is_empty() {
            let list = given.iter().map(|text| (literally(text), Origin::Option(option)));
            self.give(key, option, Value::List(list.collect()));
        }
    }

    /// A key that takes a table, if it has an entry.
    pub fn table<'g>(
        &mut self,
        key: &'static str,
        option: &'static str,
        given: impl Iterator<Item = (&'g str, &'g str)>,
    ) {
        let at = Origin::Option(option);
        let entry = |text: &str| Entry { at, text: EntryText::Template(literally(text)) };
        let table: BTreeMap<String, Entry> =
            given.map(|(name, text)| (name.to_owned(), entry(text))).collect();
        if !table.is_empty() {
            self.give(key, option, Value::Map(table));
        }
    }

    fn give(&mut self, key: &'static str, option: &'static str, value: Value) {
        self.values.insert(key, Given { at: Origin::Option(option), value });
    }

    /// The names in a table that an option gives.
    pub(crate) fn names(&self, key: &str) -> impl Iterator<Item = &str> {
        let table = self.values.get(key).and_then(|given| match &given.value {
            Value::Map(table) => Some(table.keys()),
            _ => None,
        });
        table.into_iter().flatten().map(String::as_str)
    }

    /// The elements of a list that an option gives.
    pub(crate) fn elements(&self, key: &str) -> impl Iterator<Item = &str> {
        let list = reader::list(&self.values, key).into_iter().flatten();
        list.map(|(text, _)| text.as_str())
    }

    /// What they say about an image.
    pub(crate) fn about(&self, image: &str) -> Option<&Values> {
        let is_meant = self.images.as_ref().is_none_or(|images| images.contains(image));
        is_meant.then_some(&self.values)
    }
}

/// A template that stands for this text.
pub(crate) fn literally(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}").replace('$', "$$")
}

/// The environment variables that say what a key of the file says, with the key.
const VARIABLES: [(&str, &str); 2] =
    [("XTASK_REGISTRY", "registry"), ("XTASK_PLATFORMS", "image.*.platforms")];

/// Reads what the environment and `--set` say into what the file says: what stands at its top,
/// and tables that go before its own, which are returned.
pub(crate) fn assign<'v>(
    file: &mut File,
    variable: impl Fn(&str) -> Option<&'v String>,
    set: &[String],
    problems: &mut Vec<Problem>,
) -> Vec<ImageTable> {
    let variables = VARIABLES.iter().filter_map(|(name, key)| {
        let value = variable(name).filter(|value| !value.is_empty())?;
        let list: Vec<&str> = value.split(',').map(str::trim).collect();
        let list = serde_json::to_string(&list).ok()?;
        Some((format!("{key}={list}"), Origin::Environment(name)))
    });
    let options = set.iter().map(|text| (text.clone(), Origin::Option("--set")));
    let mut tables = Vec::new();
    for (text, origin) in variables.chain(options) {
        let assigned = document(&text).map_err(|message| vec![origin.problem(message)]);
        match assigned.and_then(|document| reader::read_from(&document, Some(origin))) {
            Ok(assigned) => {
                file.top.extend(assigned.top);
                tables.extend(assigned.tables);
            }
            Err(found) => problems.extend(found),
        }
    }
    tables
}

/// The document that says what `[image.NAME.]KEY[.NAME]=VALUE` does. Dots in the names of images
/// and of labels are no matter: the first known key between them is the key.
fn document(text: &str) -> Result<String, String> {
    let expected = || {
        format!("'{text}': expected KEY=VALUE or image.NAME.KEY=VALUE, with a key of xtask.toml")
    };
    let (path, value) = text.split_once('=').ok_or_else(expected)?;
    let (table, path) = match path.strip_prefix("image.") {
        Some(rest) => {
            let (name, path) = split_name(rest).ok_or_else(expected)?;
            (format!("[image.{}]\n", quoted(name)), path)
        }
        None => (String::new(), path),
    };
    let (key, name) = match path.split_once('.') {
        Some((key, name)) => (key, Some(name)),
        None => (path, None),
    };
    let known = KEYS.iter().find(|it| it.name == key);
    let is_table_or_list = |value: &str| value.starts_with(['[', '{']);
    let value = match (known, name) {
        (Some(Key { place: Place::Definition, .. } | Key { kind: Kind::Groups, .. }), _) => {
            return Err(format!("'{key}' cannot be set by an option: write it in xtask.toml"));
        }
        (Some(Key { kind: Kind::Map | Kind::Args, .. }), Some(name)) => {
            return Ok(format!("{table}{key}.{} = {}", quoted(name), quoted(value)));
        }
        (_, Some(_)) => return Err(expected()),
        // The reader says which keys there are.
        (Some(Key { kind: Kind::Text, .. }) | None, _) => quoted(value),
        (Some(_), _) if is_table_or_list(value) => value.to_owned(),
        (Some(Key { kind: Kind::Command, .. }), _) => quoted(value),
        (Some(Key { kind: Kind::Map | Kind::Args, .. }), None) => {
            return Err(format!("'{text}': expected {key}.NAME=VALUE"));
        }
        (Some(_), _) => format!("[{}]", quoted(value)),
    };
    Ok(format!("{table}{} = {value}", quoted(key)))
}

/// The name of an image, and what follows it: a name in quotes, or all before the first key.
fn split_name(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix('"') {
        return rest.split_once("\".");
    }
    let is_key = |text: &&str| {
        let key = text.split('.').next().unwrap_or(text);
        KEYS.iter().any(|it| it.name == key && it.place != Place::Top)
    };
    let mut dots = text.match_indices('.').map(|(at, _)| (&text[..at], &text[at + 1..]));
    dots.clone().find(|(_, rest)| is_key(rest)).or_else(|| dots.next_back())
}

/// A text as TOML writes it, which is as JSON does.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_written_as_the_file_would_be() {
        let expected = "expected KEY=VALUE or image.NAME.KEY=VALUE, with a key of xtask.toml";
        let cases = [
            ("network=host", Ok("\"network\" = \"host\"")),
            ("registry=r.example/x", Ok("\"registry\" = [\"r.example/x\"]")),
            ("registry=[\"a\", \"b\"]", Ok("\"registry\" = [\"a\", \"b\"]")),
            ("args.A=b=c\"", Ok("args.\"A\" = \"b=c\\\"\"")),
            ("args=A", Err("'args=A': expected args.NAME=VALUE")),
            ("image.web.target=x", Ok("[image.\"web\"]\n\"target\" = \"x\"")),
            ("image.base:3.24.target=x", Ok("[image.\"base:3.24\"]\n\"target\" = \"x\"")),
            ("image.a.labels.b.target=x", Ok("[image.\"a\"]\nlabels.\"b.target\" = \"x\"")),
            ("image.\"a.target\".ssh=x", Ok("[image.\"a.target\"]\n\"ssh\" = [\"x\"]")),
            ("image.a.b.tagret=x", Ok("[image.\"a.b\"]\n\"tagret\" = \"x\"")),
            (
                "image.a.matrix=x",
                Err("'matrix' cannot be set by an option: write it in xtask.toml"),
            ),
            ("web", Err(&format!("'web': {expected}"))),
            ("image.web=x", Err(&format!("'image.web=x': {expected}"))),
            ("target.x=y", Err(&format!("'target.x=y': {expected}"))),
        ];
        for (text, expected) in cases {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(document(text), expected, "{text}");
        }
    }
}
