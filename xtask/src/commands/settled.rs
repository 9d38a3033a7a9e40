//! Components whose hooks need not run again.
//!
//! With `build/inputs` a component is a function of its own tree, the declared
//! inputs, what it needs, and the build args. The digest of these is its key. A
//! component whose key is one under which it was made before, and whose images the
//! engine still holds, is up to date without a look at its hooks; what they left
//! in `generated/` is kept for its dependents.
//!
//! A key is kept only if it was the same before and after the hooks: if something
//! was edited meanwhile, or a hook wrote into its own tree, nobody can tell which
//! of the two states was read. A hook that writes the same at every run settles at
//! the second; one that never writes the same is warned of.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

use super::failure::{StepError, tree_error};
use super::image::image_error;
use super::round::Round;
use crate::core::context::Context;
use crate::core::fingerprint::{Fingerprint, Manifest, Recipe, What};
use crate::core::holdings::Verdict;
use crate::core::plan::Step;
use crate::core::problem::Problem;
use crate::core::workspace::{Component, Image};
use crate::effects::engine::Engine;
use crate::effects::git;
use crate::event::Event;

/// All that a component with declared inputs is made from.
pub(super) struct Key {
    facts: Vec<(What, String, Vec<u8>)>,
    inputs: Context,
    source: Context,
}

impl Key {
    fn recipe(&self) -> Recipe<'_> {
        let mut recipe = Recipe::default();
        for (what, name, value) in &self.facts {
            recipe.add(*what, name, value.as_slice());
        }
        recipe.add_context(&self.inputs);
        recipe.add_context(&self.source);
        recipe
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.recipe().fingerprint()
    }

    pub(super) fn manifest(&self) -> Manifest {
        self.recipe().manifest()
    }
}

/// The name of a manifest that no image can have.
pub(super) fn hooks_of(component: &Component) -> String {
    format!("hooks of {}", component.name)
}

impl<E: Engine> Round<'_, E> {
    /// What a component is made from; none if its hooks declare no inputs.
    pub(super) fn key(&self, step: &Step, component: &Component) -> Result<Option<Key>, StepError> {
        let Some((file, inputs)) = &component.inputs else { return Ok(None) };
        let root = &self.workspace.root;
        let mut warnings = Vec::new();
        let paths = inputs.files(root, file, &mut warnings);
        let paths = paths.map_err(|source| tree_error(component, source))?;
        if self.known.borrow_mut().warned.insert(file.clone()) {
            for warning in warnings {
                self.events.send(Event::Warning(warning));
            }
        }
        let mut facts = Vec::new();
        for name in &inputs.variables {
            let value = self.variables.get(OsStr::new(name));
            let value = value.map_or(Vec::new(), |value| [b"=", value.as_bytes()].concat());
            facts.push((What::Variable, name.clone(), value));
        }
        if inputs.head {
            match git::head(root) {
                Ok(commit) => {
                    let commit = commit.unwrap_or_default();
                    facts.push((What::Commit, String::new(), commit.into_bytes()));
                }
                Err(error) => {
                    if self.known.borrow_mut().warned.insert(format!("{file}: git:HEAD")) {
                        let message =
                            format!("git:HEAD cannot be read: {error}: hooks run at every build");
                        self.events.send(Event::Warning(Problem::of_file(file, message)));
                    }
                    return Ok(None);
                }
            }
        }
        for (name, value) in &self.options.reading.build_args {
            facts.push((What::Arg, name.clone(), value.clone().into_bytes()));
        }
        if self.options.reading.whole_context {
            facts.push((What::Arg, "--whole-context".to_owned(), Vec::new()));
        }
        let known = self.known.borrow();
        for image in &component.images {
            facts.push((What::Image, image.name.clone(), Vec::new()));
            for name in image.uses.iter().filter_map(|used| self.local_name(used)) {
                let base = known.fingerprints.get(name).map(ToString::to_string);
                let is_own = component.images.iter().any(|image| image.name == name);
                if let Some(base) = base.filter(|_| !is_own) {
                    facts.push((What::Base, name.to_owned(), base.into_bytes()));
                }
            }
        }
        let read = || {
            let inputs = self.trees.inputs(&component.dir(), paths)?;
            let source = self.trees.source(&component.dir(), &self.needed(step))?;
            Ok(Key { facts, inputs, source })
        };
        read().map(Some).map_err(StepError::File)
    }

    /// Whether an image got its name back, if the component was made from just this
    /// before and its images are still there: then nothing of it needs to run.
    pub(super) async fn settled(
        &self,
        component: &Component,
        key: &Fingerprint,
    ) -> Result<Option<bool>, StepError> {
        let Some(settled) = self.store.borrow_mut().find(key, &self.trees) else {
            return Ok(None);
        };
        let mut to_tag: Vec<(&Image, String)> = Vec::new();
        for image in &component.images {
            let Some(fingerprint) = settled.fingerprints.get(&image.name) else {
                return Ok(None);
            };
            let (bases, _) = self.bases(image).await?;
            let verdict = self.verdict(image, fingerprint, &bases).await;
            match verdict.map_err(|source| image_error(image, source))? {
                Verdict::UpToDate => {}
                Verdict::Tag { id } => to_tag.push((image, id)),
                Verdict::Stale(_) => return Ok(None),
            }
        }
        let is_restored = !to_tag.is_empty();
        for (image, id) in to_tag {
            if !self.tag(image, &id).await? {
                return Ok(None);
            }
        }
        let mut known = self.known.borrow_mut();
        known.fingerprints.extend(settled.fingerprints.clone());
        if settled.has_generated() {
            let kept = self.store.borrow().generated(key);
            known.kept.insert(component.name.clone(), kept.into());
        }
        Ok(Some(is_restored))
    }

    /// Remembers what a key came to.
    pub(super) fn settle(&self, component: &Component, key: &Key) -> io::Result<()> {
        let fingerprint = key.fingerprint();
        let known = self.known.borrow();
        let fingerprints: BTreeMap<_, _> = component
            .images
            .iter()
            .filter_map(|image| {
                Some((image.name.clone(), known.fingerprints.get(&image.name)?.clone()))
            })
            .collect();
        let dir = component.dir();
        self.store.borrow_mut().keep(&fingerprint, &dir, fingerprints, &self.trees)?;
        known.records.set_manifest(&hooks_of(component), &key.manifest())
    }

    /// What is in a component's own tree, to be compared after its hooks ran.
    pub(super) fn own_tree(&self, component: &Component) -> Result<Manifest, StepError> {
        let source = self.trees.source(&component.dir(), &[]).map_err(StepError::File)?;
        let mut recipe = Recipe::default();
        recipe.add_context(&source);
        Ok(recipe.manifest())
    }

    /// Warns of hooks that change their component's own tree time and again, and tells
    /// whether they left it as it was.
    pub(super) fn note_changes(
        &self,
        component: &Component,
        before: &Manifest,
    ) -> Result<bool, StepError> {
        let after = self.own_tree(component)?;
        let first = after.since(before).into_iter().next().map(|change| change.name);
        let is_steady = first.is_none();
        let mut known = self.known.borrow_mut();
        let was_unsteady = known.records.set_unsteady(&component.name, first.clone());
        let hook = component.pre_hook.as_ref().or(component.post_hook.as_ref());
        if let (Some(path), Some(hook), true) = (first, hook, was_unsteady) {
            let message = format!(
                "changed {path} at this run, and the component's tree at the last one too: the \
                 component is built every time. What hooks write belongs into generated/"
            );
            self.events.send(Event::Warning(Problem::of_file(hook, message)));
        }
        Ok(is_steady)
    }
}
