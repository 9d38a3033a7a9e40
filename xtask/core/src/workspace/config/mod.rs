//! `xtask.toml`: which images a repository has, where their Dockerfiles are, and how each is
//! built. Without it, images are found in `src/COMPONENT/build/` alone.
//!
//! A table `[image.NAME]` either defines images or adjusts those that others define; what a
//! table can say may stand at the top of the file as well, for all images. The whole file is
//! checked before anything is built.

mod definitions;
pub mod exports;
pub mod keys;
mod layers;
pub mod mounts;
pub mod named_context;
pub mod origin;
pub mod overrides;
mod pattern;
mod reader;
pub mod schema;
pub mod settings;
mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::escape;
use crate::image_reference;
use crate::paths::{BUILD, CONFIG_FILE, SRC, join};
use crate::problem::{Problem, Problems};
use crate::regular_file;

pub(crate) use definitions::{Candidates, Definition, Definitions, as_name};
use layers::Layers;
use origin::Origin;
use overrides::Overrides;
use pattern::PathPattern;
use reader::{File, Given, ImageTable, Value, Values, list};
use settings::{ImageSettings, SettingsReader, words_of};
use template::Words;

/// The flavors that are known without a configuration.
pub(crate) const FLAVORS: [&str; 3] = ["common", "k8s", "yarn"];

/// The pattern of the layout that holds without a file.
pub(crate) const LAYOUT: &str = "src/{component}/build/{image}[.{flavor}].dockerfile";

/// Where no Dockerfiles are looked for.
const EXCLUDE: [&str; 3] = [".git/**", "target/**", "**/node_modules/**"];

/// What is known outside of the file, for its templates.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// The branch that is checked out, if the file mentions it.
    pub branch: Option<String>,
    /// What stands for the name of the root's folder, if that is only there for a moment.
    pub worktree: Option<String>,
    /// What `--set` says, as `[image.NAME.]KEY=VALUE`.
    pub set: Vec<String>,
}

impl Facts {
    /// Whether the text of the file, or `--set`, names the branch.
    fn name_branch(&self, text: &str) -> bool {
        self.set.iter().map(String::as_str).chain([text]).any(|text| text.contains("{branch}"))
    }
}

/// Where a new image belongs, and how it would be built; paths are from the root.
#[derive(Debug, Default)]
pub struct Place {
    /// The folder of its component.
    pub folder: String,
    /// Its Dockerfile.
    pub dockerfile: String,
    /// The folder that is sent.
    pub context: String,
    /// The stage to build, if one is set.
    pub target: Option<String>,
}

/// The configuration of a workspace.
#[derive(Clone, Debug)]
pub struct Config {
    file: File,
    /// The tables that go before those of the file.
    assigned: Vec<ImageTable>,
    /// The patterns of Dockerfiles in all tables.
    patterns: Vec<PathPattern>,
    /// Whether there is a file.
    pub exists: bool,
    /// Where images are pushed to; the first is `{registry}`.
    pub registries: Vec<String>,
    /// Where images are shared by their fingerprints.
    pub share: Option<String>,
    /// What `--flavor` chooses from.
    pub flavors: Vec<String>,
    exclude: GlobSet,
    external: GlobSet,
    facts: Facts,
    /// Whether the branch that is checked out matters.
    pub names_branch: bool,
    has_definitions: bool,
    /// The name of the root's folder.
    worktree: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            file: File::default(),
            assigned: Vec::new(),
            patterns: Vec::new(),
            exists: false,
            registries: Vec::new(),
            share: None,
            flavors: FLAVORS.map(str::to_owned).into(),
            exclude: GlobSet::empty(),
            external: GlobSet::empty(),
            facts: Facts::default(),
            names_branch: false,
            has_definitions: false,
            worktree: None,
        }
    }
}

impl Config {
    /// Reads `xtask.toml` in `root`, if it exists.
    ///
    /// # Errors
    /// All problems of the file.
    pub fn read(root: &Path, facts: Facts) -> Result<Self, Problems> {
        let path = root.join(CONFIG_FILE);
        let text = match regular_file::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => None,
            Err(error) => {
                let message = regular_file::explain(&path, &error);
                return Err(Problem::of_file(CONFIG_FILE, message).into());
            }
        };
        let config = Self::of_text(root, text.as_deref().unwrap_or_default(), facts)?;
        Ok(Self { exists: text.is_some(), ..config })
    }

    /// What a text would say as the file of the workspace in `root`.
    pub(crate) fn of_text(root: &Path, text: &str, facts: Facts) -> Result<Self, Problems> {
        let folder = root.canonicalize().ok();
        let folder = folder.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
        let names_branch = facts.name_branch(text);
        let worktree = facts.worktree.as_deref().or(folder).map(as_name);
        let config = Self::parse(text, facts)?;
        let has_definitions = has_definitions(&config.file.tables, root);
        Ok(Self { names_branch, worktree, has_definitions, exists: true, ..config })
    }

    /// Whether components are the folders in `src/`, as far as the file can be read. Its templates
    /// do not matter.
    pub fn leaves_src(root: &Path) -> bool {
        let path = root.join(CONFIG_FILE);
        match regular_file::read_to_string(&path) {
            Ok(text) => reader::read(&text).is_ok_and(|file| !has_definitions(&file.tables, root)),
            Err(error) => error.kind() == io::ErrorKind::NotFound && !path.is_symlink(),
        }
    }

    /// Whether the file of a workspace, or `--set`, names the branch, as far as it can be read.
    pub fn needs_branch(root: &Path, facts: &Facts) -> bool {
        let text = regular_file::read_to_string(&root.join(CONFIG_FILE));
        facts.name_branch(&text.unwrap_or_default())
    }

    /// Parses the text of the file.
    fn parse(text: &str, facts: Facts) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut file = reader::read(text).unwrap_or_else(|found| {
            problems = found;
            File::default()
        });
        let variable = |name: &str| facts.environment.get(name);
        let assigned = overrides::assign(&mut file, variable, &facts.set, &mut problems);
        let words = Words { environment: Some(&facts.environment), ..Words::default() };
        let mut registry = |key: &str, text: &str, at: Origin| match words.expand(text) {
            Ok(registry) => match image_reference::check_prefix(&registry) {
                Ok(()) => Some(registry),
                Err(error) => {
                    let shown = image_reference::without_login(&registry);
                    problems.push(at.problem(format!("'{shown}' is no registry: {error}")));
                    None
                }
            },
            Err(error) => {
                problems.push(at.problem(format!("'{key}' {error}")));
                None
            }
        };
        let registries = list(&file.top, "registry").unwrap_or_default().iter();
        let registries = registries.filter_map(|(text, at)| registry("registry", text, *at));
        let registries = registries.collect();
        let share = match file.top.get("share") {
            Some(Given { at, value: Value::Text(text) }) => registry("share", text, *at),
            _ => None,
        };
        let flavors = match list(&file.top, "flavors") {
            Some(flavors) => flavors.iter().map(|(flavor, _)| flavor.clone()).collect(),
            None => FLAVORS.map(str::to_owned).into(),
        };
        let exclude = globs(&file.top, "exclude", &EXCLUDE, &mut problems);
        let external = globs(&file.top, "external", &[], &mut problems);
        Problems::check(problems)?;
        let lists = file.tables.iter().filter_map(|table| list(&table.values, "dockerfile"));
        let patterns = lists.flatten().filter_map(|(text, _)| PathPattern::parse(text).ok());
        Ok(Self {
            patterns: patterns.collect(),
            file,
            assigned,
            registries,
            share,
            flavors,
            exclude,
            external,
            facts,
            ..Self::default()
        })
    }

    /// Where `registry` comes from.
    pub fn registry_origin(&self) -> Origin {
        self.file.top.get("registry").map_or(Origin::Default, |given| given.at)
    }

    /// Whether tables say which images there are, so that `src/` has no meaning of its own.
    pub fn has_definitions(&self) -> bool {
        self.has_definitions
    }

    /// The images that tables define.
    pub(crate) fn definitions(&self, root: &Path) -> Definitions {
        let search = pattern::Search { root, exclude: &self.exclude, flavors: &self.flavors };
        definitions::define(&self.file.tables, &search, &self.words())
    }

    /// Whether a path can be that of a Dockerfile, or of a folder that holds one.
    pub fn may_define(&self, path: &Path, is_dir: bool) -> bool {
        !self.exclude.is_match(path)
            && self.patterns.iter().any(|it| it.may_find(path, is_dir, &self.flavors))
    }

    /// Whether no Dockerfile is looked for at a path, nor below it.
    pub(crate) fn excludes(&self, path: &str) -> bool {
        pattern::is_excluded(&self.exclude, path)
    }

    /// The args that tables give to several images, which need not all have them, and their places.
    pub(crate) fn shared_args(&self) -> impl Iterator<Item = (&str, Origin)> {
        let tables = self.file.tables.iter().chain(&self.assigned).map(|table| &table.values);
        let args = tables.chain([&self.file.top]).filter_map(|values| values.get("args"));
        let names = args.filter_map(|given| match &given.value {
            Value::Map(args) => Some(args.iter().map(|(name, entry)| (name.as_str(), entry.at))),
            _ => None,
        });
        names.flatten()
    }

    /// The folders in which Dockerfiles are looked for, relative to the root.
    pub fn search_folders(&self) -> impl Iterator<Item = String> {
        self.patterns.iter().map(PathPattern::base)
    }

    /// Where a new image would be found, if it would be in a folder of its own.
    pub fn place_for(&self, root: &Path, name: &str) -> Option<Place> {
        let (table, folder, dockerfile) = self.found_for(name)?;
        let definition = Definition {
            name: name.to_owned(),
            component_dir: folder.clone(),
            dockerfiles: [(None, dockerfile.clone())].into(),
            words: BTreeMap::new(),
            table,
        };
        let (overrides, mut problems) = (Overrides::default(), Vec::new());
        let settings =
            self.settings(root, &definition, name, &dockerfile, &overrides, &mut problems);
        let context = settings.context.map_or_else(|| folder.clone(), |context| context.value);
        let target = settings.target.map(|target| target.value);
        Some(Place { folder, dockerfile, context, target })
    }

    /// The table that would find a new image, none for the layout of `src/`; the folder of its
    /// component, and its Dockerfile.
    fn found_for(&self, name: &str) -> Option<(Option<usize>, String, String)> {
        let in_src = || (join(SRC, name), format!("{SRC}/{name}/{BUILD}/{name}.dockerfile"));
        if !self.has_definitions {
            let (folder, dockerfile) = in_src();
            return Some((None, folder, dockerfile));
        }
        let tables = self.file.tables.iter().enumerate();
        let of_images = tables.filter(|(_, table)| table.key == "{image}");
        let mut patterns = of_images.flat_map(|(index, table)| {
            let patterns = list(&table.values, "dockerfile").into_iter().flatten();
            patterns.map(move |(text, _)| (Some(index), text.as_str()))
        });
        patterns.find_map(|(table, text)| {
            if text == LAYOUT {
                let (folder, dockerfile) = in_src();
                return Some((table, folder, dockerfile));
            }
            let above = text.strip_suffix("{image}/Dockerfile")?;
            let is_folder = above.is_empty() || above.ends_with('/');
            let folder = join(above.trim_end_matches('/'), name);
            let dockerfile = join(&folder, "Dockerfile");
            (is_folder && !above.contains(['*', '{', '['])).then_some((table, folder, dockerfile))
        })
    }

    /// The patterns by which Dockerfiles are found, as they are written.
    pub fn written_patterns(&self) -> impl Iterator<Item = &str> {
        let lists = self.file.tables.iter().filter_map(|table| list(&table.values, "dockerfile"));
        lists.flatten().map(|(text, _)| text.as_str())
    }

    /// What holds for an image, of which a table or the layout of `src/` says that it exists.
    pub(crate) fn settings(
        &self,
        root: &Path,
        image: &Definition,
        component: &str,
        dockerfile: &str,
        overrides: &Overrides,
        problems: &mut Vec<Problem>,
    ) -> ImageSettings {
        let mut layers = self.layers(image);
        if let Some(options) = overrides.about(&image.name) {
            layers.add_options(options);
        }
        if layers.is_empty() {
            return ImageSettings::default();
        }
        let words = words_of(&self.words(), image, component, dockerfile);
        SettingsReader { root, layers, words: &words, problems }.read()
    }

    /// Problems with tables that adjust no image.
    pub(crate) fn unused<'d>(
        &self,
        images: &(impl Iterator<Item = (&'d str, Option<usize>)> + Clone),
    ) -> Vec<Problem> {
        let assigned = self.assigned.iter().filter(|table| {
            !images.clone().any(|(name, _)| table.key == name || table.is_glob_of(name))
        });
        let unknown = assigned.map(|table| {
            let hint = reader::nearest(&table.key, images.clone().map(|(name, _)| name));
            table.at.problem(format!("no image '{}'{hint}", escape::line(&table.key)))
        });
        settings::unused(&self.file.tables, images).into_iter().chain(unknown).collect()
    }

    /// Axes of matrices that nothing but names has: the images differ in nothing else.
    pub(crate) fn unused_axes(&self) -> Vec<Problem> {
        let all = self.file.tables.iter().chain(&self.assigned).map(|table| &table.values);
        let all: Vec<&Values> = all.chain([&self.file.top]).collect();
        let is_used = |axis: &str| {
            let word = format!("{{{axis}}}");
            let values = all.iter().flat_map(|values| values.iter());
            let mut others = values.filter(|(key, _)| !["name", "matrix"].contains(*key));
            others.any(|(_, given)| given.value.texts().any(|text| text.contains(&word)))
        };
        let matrices = self.file.tables.iter().filter_map(|table| table.values.get("matrix"));
        let problems = matrices.flat_map(|given| {
            let axes: BTreeSet<&String> = match &given.value {
                Value::Rows(rows) => rows.iter().flat_map(BTreeMap::keys).collect(),
                _ => BTreeSet::new(),
            };
            let unused = axes.into_iter().filter(|axis| !is_used(axis));
            unused.map(|axis| {
                let axis = escape::line(axis);
                given.at.problem(format!(
                    "'matrix.{axis}' changes nothing but names: write {{{axis}}} where the images \
                     differ, such as in 'args'"
                ))
            })
        });
        problems.collect()
    }

    /// Whether a reference is never one of the workspace's images.
    pub fn is_external(&self, reference: &str) -> bool {
        self.external.is_match(reference)
    }

    /// What images depend on, as far as that is known before they are read.
    pub(crate) fn depended_on(&self, images: &[Definition]) -> BTreeSet<String> {
        let tables = self.file.tables.iter().chain(&self.assigned).map(|table| &table.values);
        if !tables.chain([&self.file.top]).any(|values| values.contains_key("depends-on")) {
            return BTreeSet::new();
        }
        let mut found = BTreeSet::new();
        for image in images {
            let Some((given, _)) = self.layers(image).strongest("depends-on") else { continue };
            let component = image.component_dir.rsplit('/').next().unwrap_or_default();
            for dockerfile in image.dockerfiles.values() {
                let words = words_of(&self.words(), image, component, dockerfile);
                found.extend(given.value.texts().filter_map(|text| words.expand(text).ok()));
            }
        }
        found
    }

    /// What the file, the environment and `--set` say about an image.
    fn layers(&self, image: &Definition) -> Layers<'_> {
        let (top, tables) = (&self.file.top, &self.file.tables);
        let mut layers = Layers::of_file(&image.name, image.table, top, tables);
        layers.add_assigned(&image.name, &self.assigned);
        layers
    }

    /// A group's name and members, if there is one of this name.
    pub(crate) fn group(&self, name: &str) -> Option<(&str, impl Iterator<Item = &str>)> {
        let (name, members) = self.file.groups.get_key_value(name)?;
        Some((name, members.iter().map(|(member, _)| member.as_str())))
    }

    /// The members of all groups: the group, the member, and its place.
    pub(crate) fn group_members(&self) -> impl Iterator<Item = (&str, &str, Origin)> + Clone {
        self.file.groups.iter().flat_map(|(name, members)| {
            members.iter().map(move |(member, at)| (name.as_str(), member.as_str(), *at))
        })
    }

    /// The words of names, and of everything else.
    fn words(&self) -> Words<'_> {
        let mut words = Words { environment: Some(&self.facts.environment), ..Words::default() };
        match self.registries.first() {
            Some(registry) => drop(words.values.insert("registry".to_owned(), registry.clone())),
            None => drop(words.unusable.insert("registry", "and no 'registry' is set")),
        }
        match &self.facts.branch {
            Some(branch) => drop(words.values.insert("branch".to_owned(), as_name(branch))),
            None => drop(words.unusable.insert("branch", "and no branch is checked out")),
        }
        if let Some(worktree) = &self.worktree {
            words.values.insert("worktree".to_owned(), worktree.clone());
        }
        for word in ["tag", "commit"] {
            words.unusable.insert(word, "which only 'tags' can have: it would make all stale");
        }
        words
    }
}

/// Whether tables define images. One with a `context` alone does where `src/` has none, and
/// otherwise adjusts an image there.
fn has_definitions(tables: &[ImageTable], root: &Path) -> bool {
    let has = |table: &ImageTable, key: &str| table.values.contains_key(key);
    let mut with_context =
        tables.iter().filter(|table| table.is_literal() && has(table, "context"));
    let names = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let in_build = || names(&root.join(SRC)).into_iter().flat_map(|it| names(&it.join(BUILD)));
    let has_layout = || in_build().any(|it| it.extension().is_some_and(|it| it == "dockerfile"));
    tables.iter().any(|table| has(table, "dockerfile"))
        || with_context.next().is_some() && !has_layout()
}

fn globs(values: &Values, key: &str, default: &[&str], problems: &mut Vec<Problem>) -> GlobSet {
    let mut globs = GlobSetBuilder::new();
    let given = list(values, key);
    let defaults = default.iter().map(|text| (*text, Origin::Default));
    let texts: Vec<(&str, Origin)> = match given {
        Some(given) => given.iter().map(|(text, at)| (text.as_str(), *at)).collect(),
        None => defaults.collect(),
    };
    for (text, at) in texts {
        match Glob::new(text) {
            Ok(glob) => drop(globs.add(glob)),
            Err(error) => problems.push(at.problem(format!("'{text}' is no glob: {error}"))),
        }
    }
    globs.build().unwrap_or_else(|error| {
        problems.push(Problem::of_file(CONFIG_FILE, format!("'{key}': {error}")));
        GlobSet::empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::components::{Workspace, WorkspaceOptions};

    const SAMPLE: &str = r#"
registry = ["r.example/x", "${REGISTRY:-localhost:5000}/y"]
external = ["docker.io/*"]
context = "."
labels = { a = "{commit}", "b.c" = 1 }

[image."{app}:{version}-{kind}"]
dockerfile = ["apps/{app}/[old/]Dockerfile.{kind}", "**/x/{app}/*.{kind}"]
matrix.version = ["1", 2.10]
args = { A = "{version}", B = { env = "HOME" } }
args-file = "{dir}/args?"

[image."a:*"]
secrets = ["id=a,src=b", { id = "c", env = "D" }]
tags = ["{registry}/{image}:{tag}", "{{x"]
depends-on = ["a:1-k", "lib"]

[group]
default = ["a:*", "other"]
other = ["default"]
"#;

    /// A small workspace, with this file.
    fn read(root: &Path, text: &[u8]) -> Vec<Problem> {
        fs::write(root.join(CONFIG_FILE), text).unwrap();
        let mut problems = Vec::new();
        let mut workspace = Workspace::read(root, &WorkspaceOptions::default(), &mut problems);
        workspace.find_local_images(None, None);
        problems.extend(workspace.group_problems());
        problems
    }

    #[test]
    fn whatever_the_file_says_is_read_or_refused() {
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        println!("SEED={seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let dir = tempfile::tempdir().unwrap();
        for file in ["apps/a/Dockerfile.k", "apps/\u{e9}/Dockerfile.k", "z/x/b/f.k", "lib/f"] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "FROM scratch\nARG A\nCOPY lib /\n").unwrap();
        }
        let signs = b"{}[]$*?\"'=.,:-/\\\n #\xc3\xa9\x00@|!~";
        for _ in 0..3_000 {
            let mut text = SAMPLE.as_bytes().to_vec();
            for _ in 0..rng.usize(1..6) {
                let at = rng.usize(..text.len());
                match rng.u8(..4) {
                    0 => drop(text.remove(at)),
                    1 => text.insert(at, signs[rng.usize(..signs.len())]),
                    2 => text[at] = signs[rng.usize(..signs.len())],
                    _ => {
                        let end = (at + rng.usize(..20)).min(text.len());
                        let part = text[at..end].to_vec();
                        let to = rng.usize(..text.len());
                        text.splice(to..to, part);
                    }
                }
            }
            for problem in read(dir.path(), &text) {
                assert!(!problem.message.is_empty());
            }
        }
    }
}
