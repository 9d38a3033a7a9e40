//! What hooks write into their component outside of the temporary folders.
//!
//! Before hooks run, what they left there the last time is removed, so that they find what
//! they would in a fresh clone, and a second build comes to the same image. What git
//! tracks stays, and so does what `.dockerignore` keeps out of all images of the
//! component: that may be a cache, and nothing is made from it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::failure::{StepError, tree_error};
use super::round::Round;
use crate::core::context::Context;
use crate::core::fingerprint::{Manifest, Recipe};
use crate::core::ignore::Ignore;
use crate::core::outputs::HookOutputs;
use crate::core::problem::Problem;
use crate::core::selection::Selection;
use crate::core::workspace::{Component, TEMPORARY};
use crate::effects::engine::Engine;
use crate::effects::{git, hook_outputs};
use crate::event::Event;

/// A component's folder before its hooks run.
pub(super) struct Before {
    /// As it was found.
    found: Manifest,
    /// Without what hooks left the last time.
    cleaned: Context,
    /// The source alone.
    source: Manifest,
    /// What hooks left and was not removed.
    kept: HookOutputs,
}

impl<E: Engine> Round<'_, E> {
    /// Removes what a component's hooks left the last time.
    pub(super) fn remove_outputs(&self, component: &Component) -> Result<Before, StepError> {
        let dir = component.dir();
        let found = self.trees.component(&dir).map_err(StepError::File)?;
        let as_found = manifest(&found);
        let outputs = self.trees.outputs(&dir);
        let (kept, removed) = self.choose(component, outputs)?;
        let cleaned = if removed.is_empty() {
            found
        } else {
            let folder = self.workspace.root.join(&dir);
            hook_outputs::remove(&folder, &found, &removed)
                .map_err(|source| tree_error(component, source))?;
            self.trees.changed(Path::new(&dir));
            self.trees.component(&dir).map_err(StepError::File)?
        };
        let source = manifest(&self.trees.source(&dir, &[]).map_err(StepError::File)?);
        Ok(Before { found: as_found, cleaned, source, kept })
    }

    /// What stays of what hooks left, and what goes.
    fn choose(
        &self,
        component: &Component,
        outputs: HookOutputs,
    ) -> Result<(HookOutputs, HookOutputs), StepError> {
        if outputs.is_empty() {
            return Ok((HookOutputs::default(), outputs));
        }
        let dir = component.dir();
        let tracked = match git::tracked_below(&self.workspace.root.join(&dir)) {
            Ok(tracked) => tracked,
            Err(error) => {
                let message = format!(
                    "{error}. What its hooks left there the last time stays, as git may track it"
                );
                self.events.send(Event::Warning(Problem::of_file(dir, message)));
                return Ok((outputs, HookOutputs::default()));
            }
        };
        let (_, own) = outputs.partition(|path| tracked.contains(path));
        let selections = component.images.iter().map(|image| Selection::own(component, image));
        let ignores: Result<Vec<Ignore>, Problem> =
            selections.map(|selection| Ok(self.trees.ignore(&selection)?.0)).collect();
        let ignores = ignores.map_err(StepError::File)?;
        Ok(own.partition(|path| {
            let text = path.to_string_lossy();
            !ignores.is_empty() && ignores.iter().all(|ignore| ignore.ignores(&text))
        }))
    }

    /// Notes what a component's hooks left in its folder, and tells whether they left it as
    /// they found it.
    pub(super) fn note_outputs(
        &self,
        component: &Component,
        before: &Before,
    ) -> Result<bool, StepError> {
        let dir = component.dir();
        let after = self.trees.component(&dir).map_err(StepError::File)?;
        let outputs = HookOutputs::between(&before.cleaned, &after, &before.kept);
        if outputs != self.trees.outputs(&dir) {
            self.warn_of(hook_outputs::write(&self.workspace.root, &component.name, &outputs));
            self.trees.set_outputs(&dir, outputs);
        }
        let source = manifest(&self.trees.source(&dir, &[]).map_err(StepError::File)?);
        let changes = source.since(&before.source).into_iter();
        self.warn_of_changes(component, &changes.map(|change| change.name).collect());
        Ok(manifest(&after) == before.found)
    }

    /// Warns of hooks that changed their component's source, if nothing else in the
    /// workspace was changed since they did so the last time.
    fn warn_of_changes(&self, component: &Component, changed: &BTreeSet<String>) {
        let now = (!changed.is_empty()).then(SystemTime::now);
        let before = self.known.borrow_mut().records.set_unsteady(&component.name, now);
        let hook = component.pre_hook.as_ref().or(component.post_hook.as_ref());
        if let (Some(path), Some(hook), Some(before)) = (changed.first(), hook, before)
            && !self.is_edited_since(before, changed)
        {
            let message = format!(
                "changed {path} at this run and at the one before, though nothing else changed: \
                 the component is built every time. Let the hook write to generated/ instead"
            );
            self.events.send(Event::Warning(Problem::of_file(hook, message)));
        }
    }

    /// Whether any file of the workspace but these, and what hooks made, was changed after
    /// a moment.
    fn is_edited_since(&self, moment: SystemTime, but: &BTreeSet<String>) -> bool {
        let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut open = vec![PathBuf::new()];
        while let Some(folder) = open.pop() {
            let entries = fs::read_dir(self.workspace.root.join(&folder)).into_iter().flatten();
            for entry in entries.flatten() {
                let path = folder.join(entry.file_name());
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() {
                    open.extend((!self.is_made(&path)).then_some(path));
                    continue;
                }
                let changed = (metadata.ctime(), metadata.ctime_nsec());
                let is_later =
                    changed > (since.as_secs().cast_signed(), since.subsec_nanos().into());
                if is_later && !self.is_made(&path) && !but.contains(&*path.to_string_lossy()) {
                    return true;
                }
            }
        }
        false
    }

    /// Whether git, a build or a hook makes a path.
    fn is_made(&self, path: &Path) -> bool {
        let names: Vec<&str> = path.iter().filter_map(|name| name.to_str()).collect();
        match *names {
            ["target" | ".git", ..] => true,
            ["src", component, ref below @ ..] if !below.is_empty() => {
                let outputs = self.trees.outputs(&format!("src/{component}"));
                TEMPORARY.contains(&below[0])
                    || outputs.has_path(&below.iter().collect::<PathBuf>())
            }
            _ => false,
        }
    }
}

fn manifest(context: &Context) -> Manifest {
    let mut recipe = Recipe::default();
    recipe.add_context(context);
    recipe.manifest()
}
