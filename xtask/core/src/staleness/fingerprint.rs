//! Fingerprints: digests of everything that determines an image.
//!
//! An image is up to date if the engine has it under its name, with the labels that a build
//! would give it now, and if this tool built it: derived images inherit labels. The ids of
//! built images are recorded. Without a record, the image's history is checked instead
//! ([`crate::dockerfile::provenance`]). So neither changes to images by others nor lost state
//! can cause a needed build to be skipped. An image is stale for these reasons:
//!
//! | reason | tracked by |
//! | --- | --- |
//! | the engine does not have it, or has another image of its name | the engine's list |
//! | its name belongs to an image derived from it | the recorded id, or the history |
//! | a base was replaced during the build | the bases are compared after the build |
//! | the fingerprint format changed | [`FORMAT`] |
//! | its name or the path of its Dockerfile changed | the fingerprint |
//! | its Dockerfile changed, as of when the graph was resolved | the fingerprint |
//! | a readable entry of its context changed: path, type, mode, contents | the same, by [`Context`] |
//! | an ignore rule changed, so that other files are sent | the same |
//! | a file of a dependency changed, including its `generated/` | the same, under `dependency/` |
//! | a hook of its component changed | the fingerprint |
//! | a build arg that affects it changed (see [`relevant_args`]) | the fingerprint |
//! | a setting of `xtask.toml` that affects it changed (see [`settings`]) | the fingerprint |
//! | an image of the workspace that it uses has another fingerprint | the fingerprint |
//! | an image that it uses has another id: pulled, retagged, rebuilt | the label with the ids |
//! | the user requested it | `--force`, `--no-cache` |
//!
//! Times, owners, absolute paths, the order of directory entries, and the write bits of group
//! and others are not part of it, because they do not affect the image; the write bits are
//! not sent either. A base image that the engine no longer has counts as unchanged: nothing
//! is pulled only to compare it.
//!
//! The digested contents are those that are sent: each file is compared with its digest while
//! it is sent, and the build fails if it changed.
//!
//! A fingerprint is the digest of a list of ingredients, each with a name and a value. The
//! list is saved as a [`Manifest`], to explain later what changed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::context::build_context::Context;
use crate::digest::FieldHasher;
use crate::dockerfile::platform_args::configures_builder;
use crate::paths::{BUILD, join};
use crate::secret::{hide, may_be_secret};
use crate::workspace::components::Image;
use crate::workspace::config::named_context::NamedContext;
use crate::workspace::config::settings::ImageSettings;

/// The version of the fingerprint format. It must change whenever the same inputs are
/// digested differently.
pub const FORMAT: &str = "3";

/// The label with an image's fingerprint.
pub const LABEL: &str = "org.openpai.build.fingerprint";

/// The label with the references and ids of the images that an image uses.
pub(crate) const BASES_LABEL: &str = "org.openpai.build.bases";

/// The label with the contents of the images that an image was built from, which are the same on
/// every engine.
pub(crate) const CONTENTS_LABEL: &str = "org.openpai.build.base-contents";

/// The label of an image that another tool built: a name of the export that it was built from, which
/// no other has.
pub const EXPORTED_LABEL: &str = "org.openpai.build.exported";

/// The digest of everything that determines an image, or the outputs of hooks.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fingerprint(String);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The kind of an ingredient.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IngredientKind {
    /// The image itself, by name.
    Image,
    /// A file, folder or link, by path.
    Path,
    /// A hook, by path.
    Hook,
    /// A Dockerfile, by path.
    Dockerfile,
    /// A build arg, by name.
    Arg,
    /// An image of the workspace, by name.
    Base,
    /// An environment variable, by name.
    Variable,
    /// The commit that is checked out.
    Commit,
    /// A setting of `xtask.toml`, by key.
    Setting,
}

/// The ingredients of an image, or of the outputs of hooks.
#[derive(Debug, Default)]
pub struct Recipe<'a> {
    ingredients: Vec<(IngredientKind, String, Vec<u8>)>,
    contexts: Vec<&'a Context>,
}

impl<'a> Recipe<'a> {
    /// Adds an ingredient. The order of calls affects the fingerprint.
    pub fn add(
        &mut self,
        kind: IngredientKind,
        name: impl Into<String>,
        value: impl Into<Vec<u8>>,
    ) {
        self.ingredients.push((kind, name.into(), value.into()));
    }

    /// Adds all entries of a context.
    pub fn add_context(&mut self, context: &'a Context) {
        self.contexts.push(context);
    }

    /// The digest of all ingredients.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut fields = FieldHasher::default();
        fields.add(FORMAT.as_bytes());
        for (kind, name, value) in &self.ingredients {
            fields.add(&[*kind as u8]);
            fields.add(name.as_bytes());
            fields.add(value);
        }
        for context in &self.contexts {
            fields.add(&[IngredientKind::Path as u8]);
            fields.add(context.digest().as_bytes());
        }
        Fingerprint(fields.finish().to_hex().to_string())
    }

    /// The ingredients in a form that can be saved and compared with those of another build.
    pub fn manifest(&self) -> Manifest {
        let ingredients = self.ingredients.iter();
        let ingredients = ingredients
            .map(|(kind, name, value)| (*kind, name.clone(), Value::of(*kind, name, value)));
        let named = |context: &&'a Context| context.named().map(|(_, named)| named);
        let contexts = self.contexts.iter().flat_map(|it| std::iter::once(*it).chain(named(it)));
        let contexts: Vec<&Context> = contexts.collect();
        let items = contexts.iter().flat_map(|context| context.items());
        let paths = items.map(|item| {
            let (kind, name) = (IngredientKind::Path, item.shown());
            let value = Value::of(kind, &name, &item.value());
            (kind, name, value)
        });
        let places = contexts.iter().flat_map(|context| context.places()).map(|(at, shown)| {
            (IngredientKind::Path, at.to_string_lossy().into_owned(), Value::Text(shown.to_owned()))
        });
        let ingredients =
            ingredients.chain(paths).chain(places).map(|(kind, name, value)| ((kind, name), value));
        Manifest { fingerprint: self.fingerprint(), ingredients: ingredients.collect() }
    }
}

/// The value of an ingredient, as much of it as explains a change; only the fingerprint decides
/// whether there is one.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Value {
    /// The start of a digest: of the contents of a Dockerfile or hook, otherwise of the value.
    Digest(u64),
    /// The value itself, or for a base the start of its fingerprint.
    Text(String),
    /// An entry of a context.
    Entry {
        /// Its type, as `ls -l` shows it, but `f` for a file.
        kind: u8,
        /// Its permissions.
        mode: u32,
        /// The start of the digest of its contents, or of the target of a link.
        digest: u64,
    },
}

impl Value {
    fn of(ingredient: IngredientKind, name: &str, value: &[u8]) -> Self {
        let text = || String::from_utf8_lossy(value);
        match (ingredient, value) {
            (IngredientKind::Arg | IngredientKind::Setting, _)
                if !may_be_secret(name) && hide(&text()) == text() =>
            {
                Self::Text(text().into_owned())
            }
            (IngredientKind::Base, _) => Self::Text(text().chars().take(12).collect()),
            (IngredientKind::Dockerfile | IngredientKind::Hook, digest) if digest.len() == 32 => {
                Self::Digest(start_of(digest))
            }
            (IngredientKind::Path, [kind, a, b, c, d, digest @ ..]) if digest.len() == 32 => {
                let mode = u32::from_le_bytes([*a, *b, *c, *d]);
                Self::Entry { kind: *kind, mode, digest: start_of(digest) }
            }
            _ => Self::Digest(start_of(blake3::hash(value).as_bytes())),
        }
    }
}

fn start_of(digest: &[u8]) -> u64 {
    digest.iter().take(8).fold(0, |start, byte| start << 8 | u64::from(*byte))
}

/// The ingredients behind a fingerprint.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Manifest {
    /// The fingerprint of these ingredients.
    pub fingerprint: Fingerprint,
    ingredients: BTreeMap<(IngredientKind, String), Value>,
}

/// How an ingredient changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It was not there before.
    Added,
    /// It has another value.
    Changed,
    /// It is not there any more.
    Removed,
}

/// A difference between two manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The kind of the ingredient.
    pub ingredient: IngredientKind,
    /// The name of the ingredient, such as a path.
    pub name: String,
    /// How it changed.
    #[serde(rename = "change")]
    pub kind: ChangeKind,
    /// Its value before, if it was there.
    #[serde(skip)]
    pub then: Option<Value>,
    /// Its value now, if it is there.
    #[serde(skip)]
    pub now: Option<Value>,
}

impl Manifest {
    /// The number of files and links.
    pub fn files(&self) -> usize {
        let is_file = |value: &&Value| matches!(value, Value::Entry { kind, .. } if *kind != b'd');
        self.ingredients.values().filter(is_file).count()
    }

    /// The differences from an earlier manifest, sorted by kind and name.
    pub fn changes_since(&self, before: &Self) -> Vec<Change> {
        let (now, then) = (&self.ingredients, &before.ingredients);
        let change = |key: &(IngredientKind, String), kind| Change {
            ingredient: key.0,
            name: key.1.clone(),
            kind,
            then: then.get(key).cloned(),
            now: now.get(key).cloned(),
        };
        let new = now.iter().filter_map(|(key, value)| match then.get(key) {
            None => Some(change(key, ChangeKind::Added)),
            Some(other) if other != value => Some(change(key, ChangeKind::Changed)),
            Some(_) => None,
        });
        let gone = then.keys().filter(|key| !now.contains_key(key));
        let mut changes: Vec<Change> =
            new.chain(gone.map(|key| change(key, ChangeKind::Removed))).collect();
        changes.sort_by(|a, b| (a.ingredient, &a.name).cmp(&(b.ingredient, &b.name)));
        changes
    }
}

/// The build args that can affect an image: those that its Dockerfile reads, those that
/// configure the builder, and platform args, which `FROM` expands without a declaration. If a
/// base has `ONBUILD` triggers, which may declare any, all build args are included.
pub fn relevant_args(
    args: &BTreeMap<String, String>,
    is_read: impl Fn(&String) -> bool,
    base_has_onbuild: bool,
) -> BTreeMap<&str, &str> {
    args.iter()
        .filter(|(name, _)| base_has_onbuild || is_read(name) || configures_builder(name))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

/// What `xtask.toml` says that affects an image, beside its build args. Of secrets and agents
/// only the ids do.
pub fn settings(image: &Image) -> Vec<(String, String)> {
    let ImageSettings { target, network, platforms, labels, extra_hosts, secrets, ssh, .. } =
        &image.settings;
    let ImageSettings { contexts, attest, .. } = &image.settings;
    let build = join(&image.context, BUILD);
    let is_default = Path::new(&image.dockerfile).parent() == Some(Path::new(&build));
    let mut settings = Vec::new();
    if !is_default {
        settings.push(("context".to_owned(), image.context.clone()));
    }
    for (name, setting) in [("target", target), ("network", network)] {
        settings.extend(setting.iter().map(|it| (name.to_owned(), it.value.clone())));
    }
    for (name, map) in [("labels", labels), ("extra-hosts", extra_hosts)] {
        let entries = map.iter();
        settings.extend(entries.map(|(key, it)| (format!("{name}.{key}"), it.value.clone())));
    }
    settings.extend(platforms.iter().map(|it| ("platform".to_owned(), it.value.clone())));
    for (name, ids) in [("secrets", secrets), ("ssh", ssh)] {
        settings.extend(ids.iter().map(|it| (name.to_owned(), id_of(&it.value).to_owned())));
    }
    // What images and folders are made of counts as such.
    for (name, context) in contexts {
        let text = match &context.value {
            NamedContext::Image(reference) | NamedContext::Target(reference) => {
                format!("image {reference}")
            }
            NamedContext::Url(url) => format!("url {url}"),
            NamedContext::Folder(folder) => format!("folder {folder}"),
        };
        settings.push((format!("contexts.{name}"), text));
    }
    settings.extend(attest.iter().map(|it| ("attest".to_owned(), it.value.clone())));
    settings
}

/// The id of a secret or agent: `id=NAME,…`, or `NAME=SOCKET`.
fn id_of(text: &str) -> &str {
    let fields = || text.split(',').filter_map(|field| field.split_once('='));
    let named = fields().find(|(key, _)| *key == "id").map(|(_, id)| id);
    named.unwrap_or_else(|| text.split('=').next().unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::build_context::ContextPart;
    use crate::context::tree::Tree;
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn manifest(root: &Path, args: &[(&str, &str)]) -> Manifest {
        let tree = Tree::read(root, &[]).unwrap();
        let context =
            Context::read(vec![ContextPart::without("src/x".into(), tree.into(), &[])]).unwrap();
        let mut recipe = Recipe::default();
        for (name, value) in args {
            recipe.add(IngredientKind::Arg, *name, *value);
        }
        recipe.add_context(&context);
        recipe.manifest()
    }

    fn of(root: &Path, args: &[(&str, &str)]) -> Fingerprint {
        manifest(root, args).fingerprint
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [("Dockerfile", "FROM scratch\n"), ("a/b", "1"), ("c", "2")] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        }
        symlink("c", dir.path().join("link")).unwrap();
        dir
    }

    #[test]
    fn it_does_not_depend_on_the_path_times_or_umask() {
        let (one, two) = (tree(), tree());
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(9);
        File::open(two.path().join("c")).unwrap().set_modified(later).unwrap();
        fs::set_permissions(two.path().join("c"), fs::Permissions::from_mode(0o664)).unwrap();
        fs::set_permissions(two.path().join("a"), fs::Permissions::from_mode(0o775)).unwrap();
        fs::set_permissions(one.path().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(of(one.path(), &[]), of(two.path(), &[]));
    }

    #[test]
    fn every_relevant_change_changes_it() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 7] = [
            ("contents of the same size", |root| fs::write(root.join("c"), "3").unwrap()),
            ("a mode", |root| {
                fs::set_permissions(root.join("c"), fs::Permissions::from_mode(0o755)).unwrap();
            }),
            ("a name", |root| fs::rename(root.join("c"), root.join("d")).unwrap()),
            ("a deletion", |root| fs::remove_file(root.join("a/b")).unwrap()),
            ("an empty folder", |root| fs::create_dir(root.join("e")).unwrap()),
            ("a link's target", |root| {
                fs::remove_file(root.join("link")).unwrap();
                symlink("d", root.join("link")).unwrap();
            }),
            ("a link in place of a file", |root| {
                fs::remove_file(root.join("c")).unwrap();
                symlink("2", root.join("c")).unwrap();
            }),
        ];
        let before = of(tree().path(), &[]);
        for (name, change) in changes {
            let dir = tree();
            change(dir.path());
            assert_ne!(of(dir.path(), &[]), before, "{name}");
        }
        assert_ne!(of(tree().path(), &[("A", "1")]), before);
    }

    #[test]
    fn manifests_show_what_changed() {
        let (before, after) = (tree(), tree());
        fs::write(after.path().join("c"), "3").unwrap();
        fs::remove_file(after.path().join("a/b")).unwrap();
        fs::write(after.path().join("new"), "").unwrap();
        let changes = manifest(after.path(), &[("A", "1")])
            .changes_since(&manifest(before.path(), &[("A", "2")]))
            .into_iter()
            .map(|change| (change.ingredient, change.name, change.kind))
            .collect::<Vec<_>>();
        let expected = [
            (IngredientKind::Path, "src/x/a/b", ChangeKind::Removed),
            (IngredientKind::Path, "src/x/c", ChangeKind::Changed),
            (IngredientKind::Path, "src/x/new", ChangeKind::Added),
            (IngredientKind::Arg, "A", ChangeKind::Changed),
        ];
        assert_eq!(
            changes,
            expected.map(|(ingredient, name, kind)| (ingredient, name.to_owned(), kind))
        );
    }

    #[test]
    fn only_relevant_args_are_included() {
        let args = [("A", "1"), ("B", "2"), ("BUILDKIT_SYNTAX", "3"), ("TARGETOS", "4")];
        let args = args.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let names = |declared: &[String], has_onbuild| {
            let is_read = |name: &String| declared.contains(name);
            relevant_args(&args, is_read, has_onbuild).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(names(&["A".to_owned()], false), ["A", "BUILDKIT_SYNTAX", "TARGETOS"]);
        assert_eq!(names(&[], true), ["A", "B", "BUILDKIT_SYNTAX", "TARGETOS"]);
    }
}
