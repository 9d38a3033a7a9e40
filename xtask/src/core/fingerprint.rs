//! What determines an image, as one digest.
//!
//! An image is up to date if the engine holds it under its name with the labels
//! that it would get now. The engine itself is the record, so nothing that
//! happens to images behind our back, and no lost state, can make us skip a
//! build that is needed. These are the reasons for which an image is stale:
//!
//! | reason | tracked by |
//! | --- | --- |
//! | it is not in the engine, or under its name is another image | the engine's list |
//! | under its name is an image that was made `FROM` it, and has its labels | the id of what was built, if that is still known |
//! | the way of fingerprinting changed | [`FORMAT`] |
//! | its name or its Dockerfile's place changed | the fingerprint |
//! | the Dockerfile, which may lie outside the ignore rules | the fingerprint |
//! | a file, link or folder of its context: name, kind, permissions, contents | the fingerprint, by [`Context`] |
//! | an ignore rule, by what it lets through | the same |
//! | a file of a component that it needs, its `generated/` too | the same, under `dependency/` |
//! | a hook of its component | the fingerprint |
//! | a build arg that the Dockerfile declares, or that steers the builder | the fingerprint |
//! | an image of the workspace that it uses was made from something else | the fingerprint: it holds that image's |
//! | an image that it uses is another one now, ours or not: pulled, retagged, built anew | [`BASES_LABEL`] |
//!
//! Not tracked, because it determines nothing: times, owners, absolute paths, the
//! order of folders, and the write bits of group and others, which are not sent
//! either. A base image that the engine no longer holds has not moved: nothing is
//! pulled only to find out.
//!
//! What is digested is what is sent: the stream compares each file with its
//! digest on the way out, and a build whose input changed meanwhile fails.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Serialize};

use super::context::{Context, Kind};

/// Changes whenever the same inputs are digested in another way.
pub const FORMAT: &str = "1";

/// The label that holds an image's fingerprint.
pub const LABEL: &str = "org.openpai.build.fingerprint";

/// The label that holds the references and ids of the images that it was made from.
pub const BASES_LABEL: &str = "org.openpai.build.bases";

/// The digest of everything that determines an image.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fingerprint(String);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an image is made from, besides its context.
#[derive(Debug)]
pub struct Recipe<'a> {
    /// The image's name.
    pub image: &'a str,
    /// The Dockerfile, relative to the context.
    pub dockerfile: &'a str,
    /// The Dockerfile's contents.
    pub dockerfile_bytes: &'a [u8],
    /// The build args that can change it.
    pub build_args: &'a BTreeMap<&'a str, &'a str>,
    /// The contents of the component's hooks.
    pub hooks: &'a [Vec<u8>],
    /// The fingerprints of the workspace's images that it uses, by name.
    pub bases: &'a BTreeMap<String, Fingerprint>,
}

/// Digests a recipe and a context.
pub fn fingerprint(recipe: &Recipe<'_>, context: &Context) -> Fingerprint {
    let mut fields = Fields::default();
    fields.add(FORMAT.as_bytes());
    fields.add(recipe.image.as_bytes());
    fields.add(recipe.dockerfile.as_bytes());
    fields.add(recipe.dockerfile_bytes);
    fields.add_count(recipe.build_args.len());
    for (name, value) in recipe.build_args {
        fields.add(name.as_bytes());
        fields.add(value.as_bytes());
    }
    fields.add_count(recipe.hooks.len());
    recipe.hooks.iter().for_each(|hook| fields.add(hook));
    fields.add_count(recipe.bases.len());
    for (name, base) in recipe.bases {
        fields.add(name.as_bytes());
        fields.add(base.0.as_bytes());
    }
    fields.add_context(context);
    Fingerprint(fields.finish())
}

/// The build args that can change what a Dockerfile makes: those that it
/// declares, and those that steer the builder itself. If a base image has
/// `ONBUILD` triggers of its own, which may declare any, all of them can.
pub fn relevant_args<'a>(
    args: &'a BTreeMap<String, String>,
    declared: &[String],
    base_has_triggers: bool,
) -> BTreeMap<&'a str, &'a str> {
    let steers = |name: &str| name.starts_with("BUILDKIT_") || name == "SOURCE_DATE_EPOCH";
    args.iter()
        .filter(|(name, _)| base_has_triggers || declared.contains(name) || steers(name))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

/// The digest of fields of any length, none of which can be taken for another's end.
#[derive(Default)]
pub struct Fields(blake3::Hasher);

impl Fields {
    /// Adds all that is in a context.
    pub fn add_context(&mut self, context: &Context) {
        self.add_count(context.entries().len());
        for entry in context.entries() {
            self.add(entry.path.as_os_str().as_bytes());
            self.add(&entry.mode.to_le_bytes());
            self.add(match entry.kind {
                Kind::Folder => b"folder",
                Kind::Link => b"link",
                Kind::File => b"file",
            });
            self.add(entry.digest.as_bytes());
        }
    }

    /// The digest in hexadecimal.
    pub fn finish(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }

    /// Adds one field.
    pub fn add(&mut self, bytes: &[u8]) {
        self.add_count(bytes.len());
        self.0.update(bytes);
    }

    fn add_count(&mut self, count: usize) {
        self.0.update(&(count as u64).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ignore::Ignore;
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn of(root: &Path, args: &[(&str, &str)]) -> Fingerprint {
        let dockerfile = Path::new("Dockerfile");
        let context = Context::read(root, &[], &Ignore::default(), dockerfile).unwrap();
        let recipe = Recipe {
            image: "x",
            dockerfile: "Dockerfile",
            dockerfile_bytes: b"FROM scratch\n",
            build_args: &args.iter().copied().collect(),
            hooks: &[],
            bases: &BTreeMap::new(),
        };
        fingerprint(&recipe, &context)
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
    fn only_args_that_can_matter_count() {
        let args = [("A", "1"), ("B", "2"), ("BUILDKIT_SYNTAX", "3")];
        let args = args.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let names = |declared: &[String], triggers| {
            relevant_args(&args, declared, triggers).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(names(&["A".to_owned()], false), ["A", "BUILDKIT_SYNTAX"]);
        assert_eq!(names(&[], true), ["A", "B", "BUILDKIT_SYNTAX"]);
    }
}
