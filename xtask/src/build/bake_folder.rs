//! A folder with all that `docker buildx bake` needs to build images: for each of them its context,
//! just as a builder would get it from us, and a target in a bake file.
//!
//! What Bake makes of it is what a build would have made, and has to count as that afterwards. So
//! each target has the labels of a build, with fingerprints in the place of ids that no image has
//! yet, and the name of this folder; bases of the workspace are targets of the same file; and
//! external ones are those that the engine has, by their digests. A context's folder is named after
//! what is in it: BuildKit takes a folder of the same name for the last one, and overlooks a new
//! mode.
//!
//! The folder may be shown to others. So it has no secrets, and no proxies: Bake has its own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use xtask_core::context::archive;
use xtask_core::context::build_context::Context;
use xtask_core::image_reference::{self, Reference};
use xtask_core::problem::Problem;
use xtask_core::workspace::components::Image;
use xtask_core::workspace::config::exports::{CacheEntry, GITHUB};
use xtask_core::workspace::config::mounts::{Agent, Secret, SecretSource};
use xtask_core::workspace::config::named_context::NamedContext;
use xtask_core::workspace::config::settings::Sourced;

use crate::engine::unique_id;

/// The name that Bake looks for.
const FILE: &str = "docker-bake.json";

/// Where the contexts are, in the folder.
const CONTEXTS: &str = "contexts";

/// How many digits of a digest tell one context from another of the same image.
const DIGITS: usize = 12;

/// What an image is built with, beside its Dockerfile and what is set for it.
#[derive(Debug)]
pub(crate) struct BakedImage<'a> {
    pub(crate) image: &'a Image,
    pub(crate) context: &'a Context,
    pub(crate) args: BTreeMap<&'a str, &'a str>,
    pub(crate) labels: BTreeMap<String, String>,
    /// Its other names.
    pub(crate) aliases: Vec<&'a str>,
    /// The digests of external bases, by their references.
    pub(crate) digests: BTreeMap<String, String>,
}

/// The folder, while it is filled.
#[derive(Debug)]
pub struct BakeFolder {
    path: PathBuf,
    /// The root of the workspace.
    root: PathBuf,
    targets: RefCell<BTreeMap<String, Value>>,
    /// What tells it from every other.
    name: String,
}

impl BakeFolder {
    /// A new folder.
    ///
    /// # Errors
    /// It is not empty, or cannot be made.
    pub(crate) fn new(path: PathBuf, root: &Path) -> Result<Self, Problem> {
        let problem = |message| Problem::of_file(path.display().to_string(), message);
        fs::create_dir_all(&path).map_err(|error| problem(format!("cannot be made: {error}")))?;
        let mut entries = fs::read_dir(&path).map_err(|error| problem(error.to_string()))?;
        if entries.next().is_some() {
            return Err(problem("is not empty: name a new folder".to_owned()));
        }
        let (root, targets) = (root.to_owned(), RefCell::default());
        let name = blake3::hash(unique_id().as_bytes()).to_hex().to_string();
        Ok(Self { path, root, targets, name })
    }

    /// A name that no other folder has.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Writes the contexts of an image, and adds its target.
    pub(crate) fn add(&self, baked: &BakedImage<'_>) -> Result<(), Problem> {
        let image = baked.image;
        let context = self.write(&image.name, baked.context)?;
        let mut named = BTreeMap::new();
        for (name, folder) in baked.context.named() {
            named.insert(name, self.write(&format!("{}.{name}", image.name), folder)?);
        }
        let target = self.target(baked, &context, &named);
        if self.targets.borrow_mut().insert(target_name(&image.name), target).is_some() {
            let message = format!(
                "image '{}' has the same name in Bake as another, which allows only letters, \
                 digits, '_' and '-'",
                image.name
            );
            return Err(Problem::of_file(&image.dockerfile, message));
        }
        Ok(())
    }

    /// Writes a context, and returns its path in the folder.
    fn write(&self, name: &str, context: &Context) -> Result<String, Problem> {
        let digest = context.digest().to_hex();
        let path = format!("{CONTEXTS}/{}-{}", target_name(name), &digest[..DIGITS]);
        let to = self.path.join(&path);
        let written = fs::create_dir_all(&to).and_then(|()| archive::unpack(context, &to));
        let problem = |message| Problem::of_file(to.display().to_string(), message);
        written.map_err(|error| problem(format!("cannot be written: {error}")))?;
        Ok(path)
    }

    /// The target of an image, with the keys that Bake has for what BuildKit takes.
    fn target(
        &self,
        baked: &BakedImage<'_>,
        context: &str,
        named: &BTreeMap<&str, String>,
    ) -> Value {
        let image = baked.image;
        let settings = &image.settings;
        let dockerfile = archive::dockerfile_apart(baked.context);
        let mut target = Map::new();
        let mut add = |key: &str, value: Value| {
            let is_empty = match &value {
                Value::Null => true,
                Value::Array(list) => list.is_empty(),
                Value::Object(map) => map.is_empty(),
                _ => false,
            };
            if !is_empty {
                target.insert(key.to_owned(), escaped(value));
            }
        };
        add("context", json!(context));
        add("dockerfile", json!(dockerfile.as_deref().unwrap_or(image.dockerfile_in_context())));
        add("contexts", json!(contexts(baked, named)));
        add("args", json!(baked.args));
        add("labels", json!(baked.labels));
        let names = std::iter::once(image.name.as_str()).chain(baked.aliases.iter().copied());
        add("tags", names.collect());
        add("target", json!(settings.target.as_ref().map(|it| &it.value)));
        add("network", json!(settings.network.as_ref().map(|it| &it.value)));
        add("platforms", texts(&settings.platforms));
        let hosts = settings.extra_hosts.iter().map(|(name, host)| (name, &host.value));
        add("extra-hosts", json!(hosts.collect::<BTreeMap<_, _>>()));
        add("secret", settings.secrets.iter().map(|secret| self.secret(&secret.value)).collect());
        add("ssh", settings.ssh.iter().map(|agent| self.agent(&agent.value)).collect());
        let cache = |entry: &Sourced<String>| self.cache(&entry.value, &image.name);
        add("cache-from", settings.cache_from.iter().map(cache).collect());
        add("cache-to", settings.cache_to.iter().map(cache).collect());
        add("no-cache-filter", texts(&settings.no_cache_filter));
        let is_provenance = |it: &Sourced<String>| it.value.contains("type=provenance");
        let mut attest: Vec<&str> = settings.attest.iter().map(|it| it.value.as_str()).collect();
        if !settings.attest.iter().any(is_provenance) {
            // Else it is another image at every build.
            attest.push("type=provenance,disabled=true");
        }
        add("attest", json!(attest));
        add("output", json!(["type=docker"]));
        Value::Object(target)
    }

    /// A secret as Bake takes it from any folder.
    fn secret(&self, text: &str) -> String {
        let Ok(Secret { id, source }) = Secret::parse(text) else { return text.to_owned() };
        match source {
            SecretSource::File(path) => format!("id={id},src={}", self.root.join(path).display()),
            SecretSource::Either(name) if self.root.join(&name).is_file() => {
                format!("id={id},src={}", self.root.join(name).display())
            }
            SecretSource::Variable(name) | SecretSource::Either(name) => {
                format!("id={id},env={name}")
            }
        }
    }

    /// An agent as Bake takes it from any folder.
    fn agent(&self, text: &str) -> String {
        match Agent::parse(text) {
            Ok(Agent { id, socket: Some(socket) }) => {
                format!("{id}={}", self.root.join(socket).display())
            }
            _ => text.to_owned(),
        }
    }

    /// A place of the build cache as Bake takes it from any folder, with what tells one image's
    /// from another's.
    fn cache(&self, text: &str, image: &str) -> String {
        let Ok(mut cache) = CacheEntry::parse(text) else { return text.to_owned() };
        if cache.kind == GITHUB && !cache.attributes.contains_key("scope") {
            return format!("{text},scope={image}");
        }
        let Some(folder) = cache.folder() else { return text.to_owned() };
        *folder = self.root.join(&*folder).display().to_string();
        cache.to_string()
    }

    /// Writes the bake file, once all images are there; returns how many.
    pub(crate) fn finish(&self) -> Result<usize, Problem> {
        let targets = self.targets.borrow();
        let all: Vec<&String> = targets.keys().collect();
        let document = json!({ "group": { "default": { "targets": all } }, "target": *targets });
        let file = self.path.join(FILE);
        let written = fs::write(&file, format!("{document:#}\n"));
        written.map_err(|error| {
            let message = format!("cannot be written: {error}");
            Problem::of_file(file.display().to_string(), message)
        })?;
        Ok(all.len())
    }

    /// Removes what was written, as not all could be.
    pub(crate) fn give_up(&self) {
        let _ = fs::remove_dir_all(self.path.join(CONTEXTS));
    }
}

/// What stands in the place of what the Dockerfile names: targets, digests and folders.
fn contexts(baked: &BakedImage<'_>, named: &BTreeMap<&str, String>) -> BTreeMap<String, String> {
    let mut contexts = BTreeMap::new();
    for used in &baked.image.uses {
        let context = match (&used.local, baked.digests.get(&used.reference)) {
            (Some(name), _) => format!("target:{}", target_name(name)),
            (None, Some(digest)) => format!("docker-image://{digest}"),
            (None, None) => continue,
        };
        contexts.insert(image_reference::familiar(&used.reference).to_owned(), context);
    }
    for (name, context) in &baked.image.settings.contexts {
        let context = match &context.value {
            NamedContext::Image(reference) | NamedContext::Target(reference) => {
                let instead = contexts.get(image_reference::familiar(reference)).cloned();
                instead.unwrap_or_else(|| format!("docker-image://{reference}"))
            }
            NamedContext::Url(url) => url.clone(),
            NamedContext::Folder(folder) => named.get(name.as_str()).unwrap_or(folder).clone(),
        };
        contexts.insert(name.clone(), context);
    }
    contexts
}

/// The digest of an image in the registry of a reference, if it has one there.
pub(crate) fn digest_of(reference: &str, digests: &[String]) -> Option<String> {
    let repository = Reference::parse(image_reference::without_hub(reference)).repository();
    let is_it = |digest: &&String| {
        let of = image_reference::without_hub(digest).split('@').next();
        of == Some(repository)
    };
    digests.iter().find(is_it).cloned()
}

/// What Bake calls an image.
fn target_name(image: &str) -> String {
    let letter = |it: char| if it.is_ascii_alphanumeric() || it == '-' { it } else { '_' };
    image.chars().map(letter).collect()
}

fn texts(values: &[Sourced<String>]) -> Value {
    values.iter().map(|it| it.value.as_str()).collect()
}

/// Keeps Bake from taking a text for a template, in which `${…}` and `%{…}` are replaced.
fn escaped(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace("${", "$${").replace("%{", "%%{")),
        Value::Array(list) => list.into_iter().map(escaped).collect(),
        Value::Object(map) => map.into_iter().map(|(name, it)| (name, escaped(it))).collect(),
        value => value,
    }
}
