//! What holds for one image after all tables: its settings, and where each comes from.
//!
//! An exact table goes before those that match by a glob, of which later ones go before earlier
//! ones; then comes the table that defines the image, then the top of the file. A list replaces
//! the one before it, tables are merged by name.

use std::collections::BTreeMap;
use std::path::Path;

use crate::paths::plain;
use crate::problem::Problem;
use crate::regular_file;
use crate::secret::hide;
use crate::workspace::config::definitions::Definition;
use crate::workspace::config::exports::{Attestation, CacheEntry};
use crate::workspace::config::layers::Layers;
use crate::workspace::config::mounts::{Agent, Secret};
use crate::workspace::config::named_context::NamedContext;
use crate::workspace::config::origin::Origin;
use crate::workspace::config::reader::{EntryText, Given, ImageTable, Value};
use crate::workspace::config::template::Words;
use crate::workspace::hook::Hook;

/// The words of labels that only a build knows. They do not make an image stale by themselves.
pub const BUILD_WORDS: [&str; 3] = ["commit", "branch", "created"];

/// The words that only a push knows.
pub const PUSH_WORDS: [&str; 4] = ["registry", "tag", "commit", "branch"];

/// A value, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it comes from.
    pub at: Origin,
    /// Whether a table says it that is for this image alone.
    pub is_exact: bool,
}

/// What `xtask.toml` says about one image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageSettings {
    /// The folder that is sent, relative to the root, which is the folder "".
    pub context: Option<Sourced<String>>,
    /// Build args, by name.
    pub args: BTreeMap<String, Sourced<String>>,
    /// The files that build args are read from, relative to the root.
    pub args_files: Vec<String>,
    /// The stage to build.
    pub target: Option<Sourced<String>>,
    /// The network of `RUN` instructions.
    pub network: Option<Sourced<String>>,
    /// The platforms to build for; the engine's own if there are none.
    pub platforms: Vec<Sourced<String>>,
    /// Labels, by name.
    pub labels: BTreeMap<String, Sourced<String>>,
    /// Addresses, by host name.
    pub extra_hosts: BTreeMap<String, Sourced<String>>,
    /// Secrets, as `id=NAME` with `src=FILE` or `env=VARIABLE`.
    pub secrets: Vec<Sourced<String>>,
    /// SSH agents, as `ID` or `ID=SOCKET`.
    pub ssh: Vec<Sourced<String>>,
    /// What stands in the place of images, by their names.
    pub contexts: BTreeMap<String, Sourced<NamedContext>>,
    /// Images whose layers can be used as cache, or `type=TYPE` with attributes.
    pub cache_from: Vec<Sourced<String>>,
    /// Where the build cache is written to, as `type=TYPE` with attributes.
    pub cache_to: Vec<Sourced<String>>,
    /// Stages that are built without the build cache.
    pub no_cache_filter: Vec<Sourced<String>>,
    /// Attestations, as `type=TYPE` with attributes.
    pub attest: Vec<Sourced<String>>,
    /// The references to push to, in which the words that only a push knows are left; `None` for
    /// the default.
    tags: Option<Vec<Sourced<String>>>,
    /// Components, images and folders that it needs.
    pub depends_on: Vec<Sourced<String>>,
    /// A hook that runs before the build.
    pub pre_build: Option<Sourced<Hook>>,
    /// A hook that runs after the build.
    pub post_build: Option<Sourced<Hook>>,
    /// What the hooks read, as the lines of `build/inputs`.
    pub inputs: Vec<Sourced<String>>,
}

impl ImageSettings {
    /// The variables of each platform that it is built for; none for the engine's own.
    pub(crate) fn platform_variables(&self) -> Vec<BTreeMap<String, String>> {
        let variables = |platform: &Sourced<String>| {
            let mut parts = platform.value.splitn(3, '/');
            let mut part = || parts.next().unwrap_or_default().to_owned();
            let (os, arch, variant) = (part(), part(), part());
            let values = [
                ("TARGETPLATFORM", platform.value.clone()),
                ("TARGETOS", os),
                ("TARGETARCH", arch),
                ("TARGETVARIANT", variant),
            ];
            values.map(|(name, value)| (name.to_owned(), value)).into()
        };
        match self.platforms.as_slice() {
            [] => vec![BTreeMap::new()],
            platforms => platforms.iter().map(variables).collect(),
        }
    }

    /// The references to push an image to; what only a push knows is still in braces.
    pub fn push_references(&self, name: &str) -> Vec<Sourced<String>> {
        self.tags.clone().unwrap_or_else(|| {
            let tag = if name.contains(':') { "" } else { ":{tag}" };
            let value = format!("{{registry}}/{name}{tag}");
            vec![Sourced { value, at: Origin::Default, is_exact: false }]
        })
    }
}

/// Checks a platform, such as `linux/arm64`.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub fn check_platform(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split('/').collect();
    let is_part = |part: &&str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if (2..=3).contains(&parts.len()) && parts.iter().all(is_part) {
        return Ok(());
    }
    Err("is no platform: expected OS/ARCH[/VARIANT], such as linux/arm64".to_owned())
}

/// Works out the settings of images.
pub(crate) struct SettingsReader<'a> {
    pub(crate) root: &'a Path,
    pub(crate) layers: Layers<'a>,
    pub(crate) words: &'a Words<'a>,
    pub(crate) problems: &'a mut Vec<Problem>,
}

impl SettingsReader<'_> {
    pub(crate) fn read(&mut self) -> ImageSettings {
        let context = self.text("context").map(|mut context| {
            context.value = plain(&context.value);
            context
        });
        if let Some(context) = &context {
            let mut parts = context.value.split('/');
            if context.value.starts_with('/') || parts.any(|part| part == "..") {
                let message = "'context' is a folder of the workspace: write its path from the \
                               root, which is '.'";
                self.problems.push(context.at.problem(message));
            }
        }
        let (args, args_files) = self.args();
        ImageSettings {
            context,
            args,
            args_files,
            target: self.text("target"),
            network: self.text("network"),
            platforms: self.checked("platforms", check_platform),
            labels: self.labels(),
            extra_hosts: self.map("extra-hosts"),
            secrets: self.checked("secrets", |text| Secret::parse(text).map(drop)),
            ssh: self.checked("ssh", |text| Agent::parse(text).map(drop)),
            contexts: self.contexts(),
            cache_from: self
                .checked("cache-from", |text| CacheEntry::parse_import(text)?.check_reference()),
            cache_to: self
                .checked("cache-to", |text| CacheEntry::parse_export(text)?.check_reference()),
            no_cache_filter: self.list("no-cache-filter").unwrap_or_default(),
            attest: self.checked("attest", |text| Attestation::parse(text).map(drop)),
            tags: self.tags(),
            depends_on: self.list("depends-on").unwrap_or_default(),
            pre_build: self.hook("pre-build"),
            post_build: self.hook("post-build"),
            // Their globs have braces of their own.
            inputs: self.raw_list("inputs").unwrap_or_default(),
        }
    }

    fn text(&mut self, key: &str) -> Option<Sourced<String>> {
        let (Given { at, value: Value::Text(text) }, is_exact) = self.layers.strongest(key)? else {
            return None;
        };
        let value = self.expand(key, text, *at)?;
        Some(Sourced { value, at: *at, is_exact })
    }

    fn hook(&mut self, key: &str) -> Option<Sourced<Hook>> {
        if let Some(Sourced { value, at, is_exact }) = self.text(key) {
            let path = value.strip_prefix("./").unwrap_or(&value).to_owned();
            return Some(Sourced { value: Hook::Script(path), at, is_exact });
        }
        let words = self.list(key)?;
        let Sourced { at, is_exact, .. } = *words.first()?;
        let words = words.into_iter().map(|word| word.value).collect();
        Some(Sourced { value: Hook::Command(words), at, is_exact })
    }

    fn raw_list(&mut self, key: &str) -> Option<Vec<Sourced<String>>> {
        let (Given { value: Value::List(list), .. }, is_exact) = self.layers.strongest(key)? else {
            return None;
        };
        let sourced =
            |(text, at): &(String, Origin)| Sourced { value: text.clone(), at: *at, is_exact };
        Some(list.iter().map(sourced).collect())
    }

    fn list(&mut self, key: &str) -> Option<Vec<Sourced<String>>> {
        let raw = self.raw_list(key)?;
        let expanded = raw.into_iter().filter_map(|it| {
            let value = self.expand(key, &it.value, it.at)?;
            Some(Sourced { value, ..it })
        });
        Some(expanded.collect())
    }

    fn checked(
        &mut self,
        key: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Vec<Sourced<String>> {
        let list = self.list(key).unwrap_or_default();
        for element in &list {
            if let Err(error) = check(&element.value) {
                let message = format!("'{key}': '{}' {error}", hide(&element.value));
                self.problems.push(element.at.problem(message));
            }
        }
        list
    }

    /// The words that only a build knows stand for themselves.
    fn labels(&mut self) -> BTreeMap<String, Sourced<String>> {
        let mut words = self.words.clone();
        for word in BUILD_WORDS {
            words.values.insert(word.to_owned(), format!("{{{word}}}"));
        }
        let mut reader = SettingsReader {
            root: self.root,
            layers: self.layers.clone(),
            words: &words,
            problems: &mut *self.problems,
        };
        reader.map("labels")
    }

    /// The words that only a push knows stand for themselves.
    fn tags(&mut self) -> Option<Vec<Sourced<String>>> {
        let mut words = self.words.clone();
        for word in PUSH_WORDS {
            let has_registry = word == "registry" && words.values.contains_key(word);
            if !has_registry {
                words.values.insert(word.to_owned(), format!("{{{word}}}"));
            }
        }
        let mut tags = Vec::new();
        for tag in self.raw_list("tags")? {
            match words.expand(&tag.value) {
                Ok(value) => tags.push(Sourced { value, ..tag }),
                Err(error) => self.problems.push(tag.at.problem(format!("'tags' {error}"))),
            }
        }
        Some(tags)
    }

    fn map(&mut self, key: &str) -> BTreeMap<String, Sourced<String>> {
        let mut merged = BTreeMap::new();
        for (values, is_exact) in self.layers.clone().weakest_first() {
            let Some(Given { value: Value::Map(map), .. }) = values.get(key) else { continue };
            for (name, entry) in map {
                let value = match &entry.text {
                    EntryText::Template(text) => {
                        self.expand(&format!("{key}.{name}"), text, entry.at)
                    }
                    EntryText::Environment(variable) => {
                        self.words.environment.and_then(|all| all.get(variable)).cloned()
                    }
                };
                let sourced = value.map(|value| Sourced { value, at: entry.at, is_exact });
                merged.extend(sourced.map(|sourced| (name.clone(), sourced)));
            }
        }
        merged
    }

    fn contexts(&mut self) -> BTreeMap<String, Sourced<NamedContext>> {
        let mut contexts = BTreeMap::new();
        for (name, Sourced { value, at, is_exact }) in self.map("contexts") {
            match NamedContext::parse(&value, self.root) {
                Ok(value) => drop(contexts.insert(name, Sourced { value, at, is_exact })),
                Err(error) => {
                    let message = format!("'contexts.{name}': '{}' {error}", hide(&value));
                    self.problems.push(at.problem(message));
                }
            }
        }
        contexts
    }

    /// Those of files, and then those of tables; and the files.
    fn args(&mut self) -> (BTreeMap<String, Sourced<String>>, Vec<String>) {
        let (mut args, mut files) = (BTreeMap::new(), Vec::new());
        for file in self.list("args-file").unwrap_or_default() {
            let (path, is_optional) = match file.value.strip_suffix('?') {
                Some(path) => (path, true),
                None => (file.value.as_str(), false),
            };
            let path = plain(path);
            files.push(path.clone());
            let full = self.root.join(&path);
            let text = match regular_file::read_to_string(&full) {
                Ok(text) => text,
                Err(error) if is_optional && error.kind() == std::io::ErrorKind::NotFound => {
                    continue;
                }
                Err(error) => {
                    let message = format!("{path}: {}", regular_file::explain(&full, &error));
                    self.problems.push(file.at.problem(message));
                    continue;
                }
            };
            match arg_lines(&text) {
                Ok(lines) => {
                    args.extend(lines.into_iter().map(|(name, value)| {
                        (name, Sourced { value, at: file.at, is_exact: false })
                    }))
                }
                Err(line) => {
                    let message = "expected NAME=VALUE, or a comment that begins with '#'";
                    self.problems.push(Problem::of_line(&path, line, message));
                }
            }
        }
        args.extend(self.map("args"));
        (args, files)
    }

    fn expand(&mut self, key: &str, text: &str, at: Origin) -> Option<String> {
        match self.words.expand(text) {
            Ok(text) => Some(text),
            Err(error) => {
                self.problems.push(at.problem(format!("'{key}' {error}")));
                None
            }
        }
    }
}

/// The names and values of a file; the first line that is none.
pub(crate) fn arg_lines(text: &str) -> Result<Vec<(String, String)>, usize> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(number, line)| match line.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => {
                Ok((name.trim().to_owned(), value.trim().to_owned()))
            }
            _ => Err(number),
        })
        .collect()
}

/// Tables that adjust images, and adjust none.
pub(crate) fn unused<'d>(
    tables: &[ImageTable],
    images: &(impl Iterator<Item = (&'d str, Option<usize>)> + Clone),
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        let is_definition = images.clone().any(|(_, defining)| defining == Some(index));
        if is_definition || table.values.contains_key("dockerfile") {
            continue;
        }
        for key in ["name", "matrix"] {
            if let Some(given) = table.values.get(key) {
                let message = format!(
                    "'{key}' stands in the table that has the image's 'dockerfile': this one only \
                     adjusts images"
                );
                problems.push(given.at.problem(message));
            }
        }
        let is_used = images.clone().any(|(name, _)| table.key == name || table.is_glob_of(name));
        if !is_used {
            let names = images.clone().map(|(name, _)| name);
            let hint = super::reader::nearest(&table.key, names);
            let message = format!(
                "no image '{}'{hint}: a table defines one if it has a 'dockerfile' or 'context'",
                table.key
            );
            problems.push(table.at.problem(message));
        }
    }
    problems
}

/// The words of an image, for its settings.
pub(crate) fn words_of<'e>(
    outer: &Words<'e>,
    definition: &Definition,
    component: &str,
    dockerfile: &str,
) -> Words<'e> {
    let mut words = outer.clone();
    words.values.extend(definition.words.clone());
    let dir = dockerfile.rsplit_once('/').map_or(".", |(folder, _)| folder);
    let own = [("image", definition.name.as_str()), ("component", component), ("dir", dir)];
    words.values.extend(own.map(|(word, value)| (word.to_owned(), value.to_owned())));
    words
}
