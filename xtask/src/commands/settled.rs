//! Components whose hooks need not run again.
//!
//! With `build/inputs` a component is a function of its own tree, the declared
//! inputs, what it needs, and the build args. The digest of these is its key. A
//! component whose key is the one under which it was made last, and whose images
//! the engine still holds, is up to date without a look at its hooks; what they
//! left in `generated/` is put back for its dependents.
//!
//! A key is remembered only if it was the same before and after the hooks: if
//! something was edited meanwhile, or a hook wrote into its own tree, nobody can
//! tell which of the two states was read. A hook that writes the same at every
//! run settles at the second.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use super::round::{Known, Round, StepError, tree_error};
use crate::core::context::Context;
use crate::core::fingerprint::Fields;
use crate::core::holdings::Verdict;
use crate::core::plan::Step;
use crate::core::workspace::Component;
use crate::effects::records::Settled;
use crate::effects::temporary;
use crate::event::Event;

/// Where `generated/` folders are kept, relative to the root.
const KEPT: &str = "target/xtask/generated";

impl Round<'_> {
    /// The digest of all that a component is made from; none if its hooks declare
    /// no inputs.
    pub(super) fn key(
        &self,
        step: &Step,
        component: &Component,
        known: &mut Known,
    ) -> Result<Option<String>, StepError> {
        let Some((file, inputs)) = &component.inputs else { return Ok(None) };
        let failed = |source| tree_error(component, source);
        let root = &self.workspace.root;
        let mut warnings = Vec::new();
        let mut fields = Fields::default();
        let declared = inputs.digest(root, file, &mut warnings).map_err(failed)?;
        fields.add(declared.as_bytes());
        for name in &inputs.variables {
            fields.add(name.as_bytes());
            fields.add(self.variables.get(name).map_or(b"unset", String::as_bytes));
        }
        if inputs.head {
            fields.add(temporary::checked_out_commit(root).as_bytes());
        }
        for (name, value) in &self.options.build_args {
            fields.add(name.as_bytes());
            fields.add(value.as_bytes());
        }
        for image in &component.images {
            fields.add(image.dockerfile.as_bytes());
            for name in image.uses.iter().filter_map(|used| self.local_name(used)) {
                let base = known.fingerprints.get(name).map(ToString::to_string);
                fields.add(base.unwrap_or_default().as_bytes());
            }
        }
        let own = root.join(component.dir());
        let context = Context::source(&own, &self.dependency_folders(step)).map_err(failed)?;
        fields.add_context(&context);
        if known.warned.insert(file.clone()) {
            for warning in warnings {
                self.events.send(Event::Warning(warning));
            }
        }
        Ok(Some(fields.finish()))
    }

    /// Whether all images of the component are what `key` came to; then its
    /// `generated/` is there again.
    pub(super) async fn is_settled(
        &self,
        component: &Component,
        key: &str,
        known: &mut Known,
    ) -> Result<bool, StepError> {
        let Some(settled) = known.records.settled(&component.name, key).cloned() else {
            return Ok(false);
        };
        for image in &component.images {
            let Some(fingerprint) = settled.fingerprints.get(&image.name) else {
                return Ok(false);
            };
            let bases = self.bases(image, &self.external(image), known).await?.ids;
            let built = known.records.id(&image.name, &fingerprint.to_string());
            let verdict = known.holdings.verdict(&image.name, fingerprint, &bases, built);
            if verdict != Verdict::UpToDate {
                return Ok(false);
            }
        }
        if !self.restore(component, key).map_err(|source| tree_error(component, source))? {
            return Ok(false);
        }
        for image in &component.images {
            self.events.send(Event::ImageUpToDate {
                component: component.name.clone(),
                image: image.name.clone(),
            });
        }
        known.fingerprints.extend(settled.fingerprints);
        Ok(true)
    }

    /// Remembers what a key came to.
    pub(super) fn settle(
        &self,
        component: &Component,
        key: String,
        known: &mut Known,
    ) -> io::Result<()> {
        let own = self.workspace.root.join(component.dir()).join("generated");
        let folder = self.kept(component);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        let unfinished = folder.join("unfinished");
        fs::create_dir_all(&unfinished)?;
        if own.is_dir() {
            temporary::copy_tree(&own, &unfinished)?;
        }
        fs::rename(unfinished, folder.join(&key))?;
        let fingerprints: BTreeMap<_, _> = component
            .images
            .iter()
            .filter_map(|image| {
                Some((image.name.clone(), known.fingerprints.get(&image.name)?.clone()))
            })
            .collect();
        known.records.settle(&component.name, Settled { key, fingerprints });
        Ok(())
    }

    fn restore(&self, component: &Component, key: &str) -> io::Result<bool> {
        let kept = self.kept(component).join(key);
        if !kept.is_dir() {
            return Ok(false);
        }
        if fs::read_dir(&kept)?.next().is_some() {
            let own = self.workspace.root.join(component.dir()).join("generated");
            temporary::copy_tree(&kept, &own)?;
        }
        Ok(true)
    }

    fn kept(&self, component: &Component) -> PathBuf {
        self.workspace.root.join(KEPT).join(&component.name)
    }
}
