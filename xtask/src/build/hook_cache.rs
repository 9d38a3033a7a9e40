//! Components whose hooks need not run again.
//!
//! With `build/inputs` a component is a function of its own tree, the declared
//! inputs, what it needs, and the build args. The digest of these is its key. A
//! component whose key is one under which it was made before, and whose images the
//! engine still holds, is up to date without a look at its hooks; what they left
//! in `generated/` is kept for its dependents.
//!
//! A key is kept only if it was the same before and after the hooks: if something
//! was edited meanwhile, or a hook changed what it did not make, nobody can tell which
//! of the two states was read. What hooks add to their component is no part of the key,
//! but must be there as they left it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

use xtask_core::context::build_context::Context;
use xtask_core::plan::steps::Step;
use xtask_core::problem::Problem;
use xtask_core::staleness::engine_images::Decision;
use xtask_core::staleness::fingerprint::{Fingerprint, IngredientKind, Manifest, Recipe};
use xtask_core::workspace::components::{Component, Image};

use crate::build::executor::Round;
use crate::build::image::image_error;
use crate::build::step_error::{StepError, tree_error};
use crate::engine::Engine;
use crate::event::Event;
use crate::system::git;
use crate::system::store::Settled;

/// All that a component with declared inputs is made from.
pub(crate) struct Key {
    facts: Vec<(IngredientKind, String, Vec<u8>)>,
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

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.recipe().fingerprint()
    }

    pub(crate) fn manifest(&self) -> Manifest {
        self.recipe().manifest()
    }
}

/// What a component with declared inputs came to before.
pub(crate) struct Earlier<'c> {
    key: Fingerprint,
    settled: Settled,
    /// The images that lost their names, with their ids.
    pub(crate) to_tag: Vec<(&'c Image, String)>,
}

/// The name of a manifest that no image can have.
pub(crate) fn hooks_of(component: &Component) -> String {
    format!("hooks of {}", component.name)
}

impl<E: Engine> Round<'_, E> {
    /// What a component is made from; none if its hooks declare no inputs.
    pub(crate) fn key(&self, step: &Step, component: &Component) -> Result<Option<Key>, StepError> {
        let Some((file, inputs)) = &component.inputs else { return Ok(None) };
        let root = &self.workspace.root;
        let mut warnings = Vec::new();
        let paths = inputs.files(root, file, &mut warnings);
        let paths = paths.map_err(|source| tree_error(component, source))?;
        if self.state.borrow_mut().warned.insert(file.clone()) {
            for warning in warnings {
                self.events.send(Event::Warning(warning));
            }
        }
        let mut facts = Vec::new();
        for name in &inputs.variables {
            let value = self.variables.get(OsStr::new(name));
            let value = value.map_or(Vec::new(), |value| [b"=", value.as_bytes()].concat());
            facts.push((IngredientKind::Variable, name.clone(), value));
        }
        if inputs.head {
            match git::head(root) {
                Ok(commit) => {
                    let commit = commit.unwrap_or_default();
                    facts.push((IngredientKind::Commit, String::new(), commit.into_bytes()));
                }
                Err(error) => {
                    if self.state.borrow_mut().warned.insert(format!("{file}: git:HEAD")) {
                        let message =
                            format!("git:HEAD cannot be read: {error}: hooks run at every build");
                        self.events.send(Event::Warning(Problem::of_file(file, message)));
                    }
                    return Ok(None);
                }
            }
        }
        for (name, value) in &self.options.reading.build_args {
            facts.push((IngredientKind::Arg, name.clone(), value.clone().into_bytes()));
        }
        if self.options.reading.whole_context {
            facts.push((IngredientKind::Arg, "--whole-context".to_owned(), Vec::new()));
        }
        let state = self.state.borrow();
        for image in &component.images {
            facts.push((IngredientKind::Image, image.name.clone(), Vec::new()));
            let digest = image.digest.as_bytes().to_vec();
            facts.push((IngredientKind::Dockerfile, image.dockerfile.clone(), digest));
            for name in image.uses.iter().filter_map(|used| self.local_name(used)) {
                let base = state.fingerprints.get(name).map(ToString::to_string);
                let is_own = component.images.iter().any(|image| image.name == name);
                if let Some(base) = base.filter(|_| !is_own) {
                    facts.push((IngredientKind::Base, name.to_owned(), base.into_bytes()));
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

    /// What a component came to, if it was made from just this before, its images are
    /// still there, and what its hooks left is too: then nothing of it needs to run.
    pub(crate) async fn settled<'c>(
        &self,
        component: &'c Component,
        key: &Key,
    ) -> Result<Option<Earlier<'c>>, StepError> {
        let fingerprint = key.fingerprint();
        let Some(settled) = self.store.borrow_mut().find(&fingerprint, &self.trees) else {
            return Ok(None);
        };
        let folder = self.trees.component(&component.dir()).map_err(StepError::File)?;
        if !settled.outputs.is_same(&self.trees.outputs(&component.dir()))
            || !settled.outputs.are_whole(&folder)
        {
            return Ok(None);
        }
        let mut to_tag: Vec<(&Image, String)> = Vec::new();
        for image in &component.images {
            let Some(fingerprint) = settled.fingerprints.get(&image.name) else {
                return Ok(None);
            };
            let (bases, _) = self.bases(image).await?;
            let verdict = self.verdict(image, fingerprint, &bases).await;
            match verdict.map_err(|source| image_error(image, source))? {
                Decision::UpToDate => {}
                Decision::Tag { id } => to_tag.push((image, id)),
                Decision::Stale(_) => return Ok(None),
            }
        }
        Ok(Some(Earlier { key: fingerprint, settled, to_tag }))
    }

    /// Takes a component for what it came to before. False if one of its images is there no
    /// more.
    pub(crate) async fn restore(&self, earlier: &Earlier<'_>) -> Result<bool, StepError> {
        for (image, id) in &earlier.to_tag {
            if !self.tag(image, id).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Notes what a component came to.
    pub(crate) fn note_settled(&self, component: &Component, earlier: Earlier<'_>) {
        let Earlier { key, settled, .. } = earlier;
        let mut round = self.state.borrow_mut();
        if settled.has_generated() {
            let kept = self.store.borrow().generated(&key);
            round.kept.insert(component.name.clone(), kept.into());
        }
        round.fingerprints.extend(settled.fingerprints);
    }

    /// Remembers what a key came to.
    pub(crate) fn settle(&self, component: &Component, key: &Key) -> io::Result<()> {
        let fingerprint = key.fingerprint();
        let state = self.state.borrow();
        let fingerprints: BTreeMap<_, _> = component
            .images
            .iter()
            .filter_map(|image| {
                Some((image.name.clone(), state.fingerprints.get(&image.name)?.clone()))
            })
            .collect();
        self.store.borrow_mut().keep(&fingerprint, &component.dir(), fingerprints, &self.trees)?;
        state.records.set_manifest(&hooks_of(component), &key.manifest())
    }
}
