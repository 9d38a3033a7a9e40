//! Components whose hooks need not run again.
//!
//! With `build/inputs` a component is a function of its own folder, the declared inputs, its
//! dependencies, and the build args. The digest of these is its key. A component with a key
//! under which it was built before, and whose images the engine still has, is up to date
//! without a look at its hooks; what they left in `generated/` is kept for its dependents.
//!
//! A key is kept only if it was the same before and after the hooks: if something was edited
//! meanwhile, or a hook changed a file that it did not make, either of the two states may
//! have been read. What hooks add to their component is no part of the key, but must be
//! there as they left it. What they came to on another machine may be in the registry.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use tracing::debug;
use xtask_core::context::build_context::Context;
use xtask_core::context::spec::{ContextSpec, DependencyFolder};
use xtask_core::plan::steps::Step;
use xtask_core::problem::Problem;
use xtask_core::staleness::engine_images::Comparison;
use xtask_core::staleness::fingerprint::{
    self, Change, Fingerprint, IngredientKind, Manifest, Recipe,
};
use xtask_core::workspace::components::{Component, Image};
use xtask_core::workspace::hook::Hook;
use xtask_core::workspace::inputs::Inputs;

use crate::build::base_images::BaseImages;
use crate::build::image_lookup::ImageLookup;
use crate::build::round::Round;
use crate::build::shared_hooks::{self, HookResult, SettledHooks};
use crate::build::shared_images::SharedImages;
use crate::build::step_error::{StepError, tree_error};
use crate::engine::Engine;
use crate::system::git;
use crate::system::store::{Store, StoreEntry};

/// The hooks of a round that can be skipped.
pub(crate) struct HookCache<'a, E> {
    round: &'a Round<'a, E>,
    images: &'a ImageLookup<'a, E>,
    bases: &'a BaseImages<'a, E>,
    shared: &'a SharedImages<'a, E>,
    store: RefCell<Store>,
    /// By component whose hooks were skipped, where its `generated/` is.
    outputs: RefCell<BTreeMap<String, PathBuf>>,
    settled: RefCell<Vec<SettledHooks>>,
    warned: RefCell<BTreeSet<String>>,
}

/// Everything that a component with declared inputs is made from.
pub(crate) struct Key {
    facts: Vec<(IngredientKind, String, Vec<u8>)>,
    inputs: Context,
    source: Context,
}

impl Key {
    fn recipe(&self) -> Recipe<'_> {
        let mut recipe = Recipe::default();
        for (kind, name, value) in &self.facts {
            recipe.add(*kind, name, value.as_slice());
        }
        recipe.add_context(&self.inputs);
        recipe.add_context(&self.source);
        recipe
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.recipe().fingerprint()
    }

    pub(crate) fn manifest(&self) -> Manifest {
        self.recipe().manifest()
    }
}

/// What a key came to in an earlier round.
pub(crate) struct Hit<'c> {
    key: Fingerprint,
    result: StoreEntry,
    /// The images that lost their names, with their ids.
    pub(crate) to_restore: Vec<(&'c Image, String)>,
    /// The images that the engine does not have, and the registry may have.
    pub(crate) to_pull: Vec<&'c Image>,
}

impl<'a, E: Engine> HookCache<'a, E> {
    pub(crate) fn new(
        round: &'a Round<'a, E>,
        images: &'a ImageLookup<'a, E>,
        bases: &'a BaseImages<'a, E>,
        shared: &'a SharedImages<'a, E>,
    ) -> Self {
        let store = RefCell::new(Store::new(&round.workspace.root, round.ctx.store_limit));
        let (outputs, settled, warned) = Default::default();
        Self { round, images, bases, shared, store, outputs, settled, warned }
    }

    /// The folders that a component gets under `dependency/`.
    pub(crate) fn dependencies(&self, step: &Step) -> Vec<DependencyFolder> {
        step.dependency_folders(self.round.workspace, &self.outputs.borrow())
    }

    /// What the context of an image is made from.
    pub(crate) fn context_spec(&self, step: &Step, image: &Image) -> ContextSpec {
        step.context_spec(self.round.workspace, image, &self.outputs.borrow())
    }

    /// Notes that a component's hooks are to run after all.
    pub(crate) fn forget(&self, component: &Component) {
        self.outputs.borrow_mut().remove(&component.name);
    }

    /// Everything that a component is made from; none if its inputs are not declared, cannot be
    /// read, or are not all that its images are made from.
    pub(crate) fn key(&self, step: &Step, component: &Component) -> Result<Option<Key>, StepError> {
        let Some((file, inputs)) = &component.inputs else { return Ok(None) };
        // A key has what is in the component's folder, and not what a context elsewhere has.
        if component.images.iter().any(|image| !image.is_within(&component.dir)) {
            return Ok(None);
        }
        let mut warnings = Vec::new();
        let paths = inputs.files(&self.round.workspace.root, file, &mut warnings);
        let paths = paths.map_err(|source| tree_error(component, source))?;
        if self.warned.borrow_mut().insert(file.clone()) {
            for warning in warnings {
                self.round.warn(warning);
            }
        }
        let mut facts = self.variables(inputs);
        if inputs.head {
            let Some(commit) = self.head(file) else { return Ok(None) };
            facts.push((IngredientKind::Commit, String::new(), commit.into_bytes()));
        }
        facts.extend(self.build_args());
        facts.extend(self.hooks_elsewhere(component)?);
        facts.extend(image_facts(component));
        facts.extend(self.base_facts(step, component));
        let read = || {
            let inputs = self.round.trees.inputs(&component.dir, paths)?;
            let source = self.round.trees.hook_context(&component.dir, &self.dependencies(step))?;
            Ok(Key { facts, inputs, source })
        };
        read().map(Some).map_err(StepError::File)
    }

    /// Whether a component is still made from what its key says.
    pub(crate) fn is_current(
        &self,
        step: &Step,
        component: &Component,
        key: &Key,
    ) -> Result<bool, StepError> {
        let now = self.key(step, component)?;
        Ok(now.is_some_and(|now| now.fingerprint() == key.fingerprint()))
    }

    /// The hooks that the component's files do not contain.
    fn hooks_elsewhere(
        &self,
        component: &Component,
    ) -> Result<Vec<(IngredientKind, String, Vec<u8>)>, StepError> {
        let root = &self.round.workspace.root;
        let fact = |hook: &Hook| {
            let digest = hook.digest(root).map_err(StepError::File)?;
            Ok((IngredientKind::Hook, hook.to_string(), digest.as_bytes().to_vec()))
        };
        component.hooks_elsewhere(root).map(fact).collect()
    }

    fn variables(&self, inputs: &Inputs) -> Vec<(IngredientKind, String, Vec<u8>)> {
        let fact = |name: &String| {
            let value = self.round.ctx.variables.get(OsStr::new(name));
            let value = value.map_or(Vec::new(), |value| [b"=", value.as_bytes()].concat());
            (IngredientKind::Variable, name.clone(), value)
        };
        inputs.variables.iter().map(fact).collect()
    }

    /// The current commit, empty where there is none; none if git gives no answer.
    fn head(&self, file: &str) -> Option<String> {
        match git::head(&self.round.workspace.root) {
            Ok(commit) => Some(commit.unwrap_or_default()),
            Err(error) => {
                if self.warned.borrow_mut().insert(format!("{file}: git:HEAD")) {
                    let message =
                        format!("git:HEAD cannot be read: {error}: hooks run at every build");
                    self.round.warn(Problem::of_file(file, message));
                }
                None
            }
        }
    }

    fn build_args(&self) -> Vec<(IngredientKind, String, Vec<u8>)> {
        let reading = self.round.reading;
        let args = reading.build_args.iter();
        let args = args.map(|(name, value)| (name.clone(), value.clone().into_bytes()));
        let whole = reading.whole_context.then(|| ("--whole-context".to_owned(), Vec::new()));
        args.chain(whole).map(|(name, value)| (IngredientKind::Arg, name, value)).collect()
    }

    /// The images of other components that the component's images are made from, and those that its
    /// hooks may run, which are in the components that it depends on.
    fn base_facts(
        &self,
        step: &Step,
        component: &Component,
    ) -> Vec<(IngredientKind, String, Vec<u8>)> {
        let needed = step.dependencies.iter().map(|id| &self.round.workspace.components[*id]);
        let needed = needed.flat_map(|component| &component.images).map(|it| it.name.as_str());
        let uses = component.images.iter().flat_map(|image| &image.uses);
        let used = uses.filter_map(|used| used.local.as_deref());
        let is_own = |name: &&str| component.images.iter().any(|image| image.name == *name);
        let names: BTreeSet<&str> = needed.chain(used).filter(|name| !is_own(name)).collect();
        let facts = names.into_iter().filter_map(|name| {
            let base = self.images.fingerprint(name)?.to_string();
            Some((IngredientKind::Base, name.to_owned(), base.into_bytes()))
        });
        facts.collect()
    }

    /// What a key came to, if the component's images are still in the engine, or may be in the
    /// registry, and its folder is as its hooks left it: then nothing of it needs to run.
    pub(crate) async fn find<'c>(
        &self,
        component: &'c Component,
        key: &Key,
    ) -> Result<Option<Hit<'c>>, StepError> {
        let (key, trees) = (key.fingerprint(), self.round.trees);
        let miss = |why: &str| {
            debug!(component = component.name, %key, why, "hooks must run");
            Ok(None)
        };
        let mut found = self.store.borrow_mut().find(&key, trees);
        if found.is_none() {
            found = self.take_result(component, &key).await;
        }
        let Some(result) = found else { return miss("no result for this key") };
        let folder = trees.component_files(&component.dir).map_err(StepError::File)?;
        if !result.outputs.is_same(&trees.outputs(&component.dir))
            || !result.outputs.are_unchanged_in(&folder)
        {
            return miss("their outputs changed");
        }
        let mut to_restore: Vec<(&Image, String)> = Vec::new();
        let mut to_pull: Vec<&Image> = Vec::new();
        for image in &component.images {
            let Some(fingerprint) = result.fingerprints.get(&image.name) else {
                return miss("an image is new");
            };
            let (bases, _) = self.bases.ids(image).await?;
            match self.images.compare(image, fingerprint, &bases).await? {
                Comparison::UpToDate => {}
                Comparison::Tag { id } => to_restore.push((image, id)),
                Comparison::Stale(_) if self.shared.are_asked_for() => to_pull.push(image),
                Comparison::Stale(_) => return miss("an image is stale"),
            }
        }
        Ok(Some(Hit { key, result, to_restore, to_pull }))
    }

    /// Stores what a component's hooks came to elsewhere, if the registry has it.
    async fn take_result(&self, component: &Component, key: &Fingerprint) -> Option<StoreEntry> {
        let image = shared_hooks::image_of(component)?;
        let (HookResult { entry, manifests }, archive) =
            self.shared.find_hook_result(image, key).await?;
        let inserted =
            self.store.borrow_mut().insert_packed(key, entry, &archive, self.round.trees);
        let warn = |error: &io::Error| {
            let message = format!(
                "what the registry has of the hooks of {} cannot be used: {error}: they run here",
                component.name
            );
            self.round.warn(Problem::of_request(message));
        };
        let entry = inserted.inspect_err(warn).ok()?;
        self.round.warn_unwritable(self.store.borrow().set_manifests(key, &manifests));
        Some(entry)
    }

    /// Takes a component for what it came to before; false if one of its images is gone, or the
    /// registry does not have it.
    pub(crate) async fn apply(
        &self,
        component: &Component,
        hit: Hit<'_>,
    ) -> Result<bool, StepError> {
        let mut manifests = self.store.borrow().manifests(&hit.key);
        for (image, id) in &hit.to_restore {
            if !self.images.restore(image, id).await? {
                return Ok(false);
            }
            if let Some(manifest) = manifests.remove(&image.name) {
                let fingerprint = manifest.fingerprint.clone();
                self.images.record(image, &fingerprint, || manifest).await?;
            }
        }
        // One may be made from another.
        let mut left = hit.to_pull.clone();
        while !left.is_empty() {
            let mut missing = Vec::new();
            for image in &left {
                let manifest = manifests.get(&image.name);
                if !self.pull(component, image, manifest).await? {
                    missing.push(*image);
                }
            }
            if missing.len() == left.len() {
                debug!(component = component.name, "hooks must run: an image is stale");
                return Ok(false);
            }
            left = missing;
        }
        self.note(component, hit);
        Ok(true)
    }

    /// Pulls an image that others built with what its component's hooks came to.
    async fn pull(
        &self,
        component: &Component,
        image: &Image,
        manifest: Option<&Manifest>,
    ) -> Result<bool, StepError> {
        let Some(manifest) = manifest else { return Ok(false) };
        let (bases, _) = self.bases.ids(image).await?;
        let fingerprint = &manifest.fingerprint;
        match self.shared.find(image, fingerprint, &bases, || manifest.clone()).await? {
            Some(shared) => self.shared.fetch(component, image, &shared).await,
            None => Ok(false),
        }
    }

    /// Works on as if a component had been taken for what it came to before.
    pub(crate) fn expect(&self, component: &Component, hit: Hit<'_>) {
        for (image, id) in &hit.to_restore {
            self.images.expect_restored(image, id);
        }
        self.note(component, hit);
    }

    fn note(&self, component: &Component, hit: Hit<'_>) {
        if hit.result.has_generated() {
            let generated = Store::generated(&hit.key);
            self.outputs.borrow_mut().insert(component.name.clone(), generated.into());
        }
        for (image, fingerprint) in hit.result.fingerprints {
            self.images.set_fingerprint(&image, fingerprint);
        }
        self.settled.borrow_mut().extend(SettledHooks::new(component, hit.key));
    }

    /// The keys of the components whose hooks ran, or need not run, in this round.
    pub(crate) fn into_settled(self) -> Vec<SettledHooks> {
        self.settled.into_inner()
    }

    /// Keeps what a key came to.
    pub(crate) fn keep(&self, component: &Component, key: &Key) -> io::Result<()> {
        let images = component.images.iter();
        let fingerprints: BTreeMap<String, Fingerprint> = images
            .filter_map(|image| Some((image.name.clone(), self.images.fingerprint(&image.name)?)))
            .collect();
        let manifest = |(image, fingerprint): (&String, &Fingerprint)| {
            let manifest = self.round.records.borrow().manifest(image)?;
            (manifest.fingerprint == *fingerprint).then(|| (image.clone(), manifest))
        };
        let manifests = fingerprints.iter().filter_map(manifest).collect();
        let (fingerprint, dir) = (key.fingerprint(), component.dir.clone());
        self.store.borrow_mut().insert(&fingerprint, &dir, fingerprints, self.round.trees)?;
        self.store.borrow().set_manifests(&fingerprint, &manifests)?;
        self.settled.borrow_mut().extend(SettledHooks::new(component, fingerprint));
        self.round.records.borrow().set_manifest(&record_name(component), &key.manifest())
    }

    /// What changed since a component's hooks ran last; nothing if that is not on record.
    pub(crate) fn changes(&self, component: &Component, key: &Key) -> Vec<Change> {
        let before = self.round.records.borrow().manifest(&record_name(component));
        before.map(|before| key.manifest().changes_since(&before)).unwrap_or_default()
    }

    /// Removes what was used longest ago, above the store's limit.
    pub(crate) fn tidy(&self) -> io::Result<()> {
        self.store.borrow().evict()
    }
}

/// The name of the manifest of a component's hooks: no image can have it.
fn record_name(component: &Component) -> String {
    format!("hooks of {}", component.name)
}

/// The component's images and their Dockerfiles.
fn image_facts(component: &Component) -> Vec<(IngredientKind, String, Vec<u8>)> {
    let mut facts = Vec::new();
    for image in &component.images {
        facts.push((IngredientKind::Image, image.name.clone(), Vec::new()));
        let args = image.settings.args.iter();
        let args = args.map(|(name, arg)| (IngredientKind::Arg, name, &arg.value));
        facts.extend(args.map(|(kind, name, arg)| (kind, name.clone(), arg.clone().into_bytes())));
        let settings = fingerprint::settings(image).into_iter();
        facts.extend(
            settings.map(|(key, value)| (IngredientKind::Setting, key, value.into_bytes())),
        );
        let digest = image.dockerfile_digest.as_bytes().to_vec();
        facts.push((IngredientKind::Dockerfile, image.dockerfile.clone(), digest));
    }
    facts
}
