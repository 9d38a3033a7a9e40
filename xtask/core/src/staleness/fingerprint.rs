//! What determines an image, as one digest.
//!
//! An image is up to date if the engine holds it under its name with the labels
//! that it would get now, and it is one that we built: labels are inherited by
//! whatever is made from an image. The ids of what was built are on record, and where
//! the record is lost, an image's history has to prove it ([`crate::dockerfile::provenance`]). So
//! nothing that happens to images behind our back, and no lost state, can make us skip a
//! build that is needed. These are the reasons for which an image is stale:
//!
//! | reason | tracked by |
//! | --- | --- |
//! | it is not in the engine, or under its name is another image | the engine's list |
//! | under its name is an image that was made `FROM` it, and has its labels | the id on record, or its history |
//! | another image had the name of a base while it was built | the bases are compared after the build |
//! | the way of fingerprinting changed | [`FORMAT`] |
//! | its name or its Dockerfile's place changed | the fingerprint |
//! | the Dockerfile, as it was when the graph was made from it | the fingerprint |
//! | a file, link or folder of its context that its Dockerfile can read: name, kind, permissions, contents | the fingerprint, by [`Context`] |
//! | an ignore rule, by what it lets through | the same |
//! | a file of a component that it needs, its `generated/` too | the same, under `dependency/` |
//! | a hook of its component | the fingerprint |
//! | a build arg that the Dockerfile declares, or that steers the builder, and platform args | the fingerprint |
//! | an image of the workspace that it uses was made from something else | the fingerprint: it holds that image's |
//! | an image that it uses is another one now, ours or not: pulled, retagged, built anew | [`BASES_LABEL`] |
//! | the user said so | `--force`, `--no-cache` |
//!
//! Not tracked, because it determines nothing: times, owners, absolute paths, the
//! order of folders, and the write bits of group and others, which are not sent
//! either. A base image that the engine no longer holds has not moved: nothing is
//! pulled only to find out.
//!
//! What is digested is what is sent: the stream compares each file with its
//! digest on the way out, and a build whose input changed meanwhile fails.
//!
//! A fingerprint is the digest of a list of ingredients, each with a name and a
//! value. Kept as a [`Manifest`], the list of yesterday says what changed today.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::context::build_context::Context;
use crate::digest::FieldHasher;
use crate::dockerfile::platform_args::is_platform_arg;

/// Changes whenever the same inputs are digested in another way.
pub const FORMAT: &str = "3";

/// The label that holds an image's fingerprint.
pub const LABEL: &str = "org.openpai.build.fingerprint";

/// The label that holds the references and ids of the images that it was made from.
pub const BASES_LABEL: &str = "org.openpai.build.bases";

/// The digest of everything that determines an image, or what hooks make.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fingerprint(String);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The sort of an ingredient.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IngredientKind {
    /// The image itself.
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
}

/// Everything that an image, or what hooks make, is made from.
#[derive(Debug, Default)]
pub struct Recipe<'a> {
    facts: Vec<(IngredientKind, String, Vec<u8>)>,
    contexts: Vec<&'a Context>,
}

impl<'a> Recipe<'a> {
    /// Adds an ingredient; the order counts.
    pub fn add(
        &mut self,
        what: IngredientKind,
        name: impl Into<String>,
        value: impl Into<Vec<u8>>,
    ) {
        self.facts.push((what, name.into(), value.into()));
    }

    /// Adds all that is in a context.
    pub fn add_context(&mut self, context: &'a Context) {
        self.contexts.push(context);
    }

    /// The digest of all ingredients.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut fields = FieldHasher::default();
        fields.add(FORMAT.as_bytes());
        for (what, name, value) in &self.facts {
            fields.add(&[*what as u8]);
            fields.add(name.as_bytes());
            fields.add(value);
        }
        for context in &self.contexts {
            fields.add(&[IngredientKind::Path as u8]);
            fields.add(context.digest().as_bytes());
        }
        Fingerprint(fields.finish().to_hex().to_string())
    }

    /// The ingredients, to be compared with those of another day.
    pub fn manifest(&self) -> Manifest {
        let facts =
            self.facts.iter().map(|(what, name, value)| (*what, name.clone(), short(value)));
        let items = self.contexts.iter().flat_map(|context| context.items());
        let paths = items.map(|item| (IngredientKind::Path, item.shown(), short(&item.value())));
        let ingredients = facts.chain(paths).map(|(what, name, value)| ((what, name), value));
        Manifest { fingerprint: self.fingerprint(), ingredients: ingredients.collect() }
    }
}

/// Enough to tell two values apart where nothing but a sentence depends on it.
fn short(value: &[u8]) -> u64 {
    let digest = blake3::hash(value);
    digest.as_bytes().iter().take(8).fold(0, |short, byte| short << 8 | u64::from(*byte))
}

/// The ingredients behind a fingerprint.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub struct Manifest {
    /// What they come to.
    pub fingerprint: Fingerprint,
    ingredients: BTreeMap<(IngredientKind, String), u64>,
}

/// What became of an ingredient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is another one.
    Changed,
    /// It is gone.
    Removed,
}

/// A difference between two manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The sort of the ingredient.
    pub what: IngredientKind,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub fate: ChangeKind,
}

impl Manifest {
    /// What changed since `before`.
    pub fn since(&self, before: &Self) -> Vec<Change> {
        let change = |(what, name): &(IngredientKind, String), fate| Change {
            what: *what,
            name: name.clone(),
            fate,
        };
        let (now, then) = (&self.ingredients, &before.ingredients);
        let new = now.iter().filter_map(|(key, value)| match then.get(key) {
            None => Some(change(key, ChangeKind::Added)),
            Some(other) if other != value => Some(change(key, ChangeKind::Changed)),
            Some(_) => None,
        });
        let gone = then.keys().filter(|key| !now.contains_key(key));
        let mut changes: Vec<Change> =
            new.chain(gone.map(|key| change(key, ChangeKind::Removed))).collect();
        changes.sort_by(|a, b| (a.what, &a.name).cmp(&(b.what, &b.name)));
        changes
    }
}

/// The build args that can change what a Dockerfile makes: those that it
/// declares, those that steer the builder itself, and those in place of the
/// platform's own, which `FROM` expands undeclared. If a base image has
/// `ONBUILD` triggers of its own, which may declare any, all of them can.
pub fn relevant_args<'a>(
    args: &'a BTreeMap<String, String>,
    declared: &[String],
    base_has_triggers: bool,
) -> BTreeMap<&'a str, &'a str> {
    let steers = |name: &str| {
        name.starts_with("BUILDKIT_") || name == "SOURCE_DATE_EPOCH" || is_platform_arg(name)
    };
    args.iter()
        .filter(|(name, _)| base_has_triggers || declared.contains(name) || steers(name))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
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
    fn it_is_the_same_elsewhere_later_and_with_another_umask() {
        let (one, two) = (tree(), tree());
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(9);
        File::open(two.path().join("c")).unwrap().set_modified(later).unwrap();
        fs::set_permissions(two.path().join("c"), fs::Permissions::from_mode(0o664)).unwrap();
        fs::set_permissions(two.path().join("a"), fs::Permissions::from_mode(0o775)).unwrap();
        fs::set_permissions(one.path().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(of(one.path(), &[]), of(two.path(), &[]));
    }

    #[test]
    fn every_change_that_matters_changes_it() {
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
    fn a_manifest_knows_what_changed() {
        let (before, after) = (tree(), tree());
        fs::write(after.path().join("c"), "3").unwrap();
        fs::remove_file(after.path().join("a/b")).unwrap();
        fs::write(after.path().join("new"), "").unwrap();
        let changes = manifest(after.path(), &[("A", "1")])
            .since(&manifest(before.path(), &[("A", "2")]))
            .into_iter()
            .map(|change| (change.what, change.name, change.fate))
            .collect::<Vec<_>>();
        let expected = [
            (IngredientKind::Path, "src/x/a/b", ChangeKind::Removed),
            (IngredientKind::Path, "src/x/c", ChangeKind::Changed),
            (IngredientKind::Path, "src/x/new", ChangeKind::Added),
            (IngredientKind::Arg, "A", ChangeKind::Changed),
        ];
        assert_eq!(changes, expected.map(|(what, name, fate)| (what, name.to_owned(), fate)));
    }

    #[test]
    fn only_args_that_can_matter_count() {
        let args = [("A", "1"), ("B", "2"), ("BUILDKIT_SYNTAX", "3"), ("TARGETOS", "4")];
        let args = args.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let names = |declared: &[String], triggers| {
            relevant_args(&args, declared, triggers).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(names(&["A".to_owned()], false), ["A", "BUILDKIT_SYNTAX", "TARGETOS"]);
        assert_eq!(names(&[], true), ["A", "B", "BUILDKIT_SYNTAX", "TARGETOS"]);
    }
}
