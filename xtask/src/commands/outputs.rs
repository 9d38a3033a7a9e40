//! What hooks write into their component outside of the temporary folders.
//!
//! Before hooks run, what they left there the last time is put aside, so that they find
//! what they would in a fresh clone, and a second build comes to the same image. What git
//! tracks stays, and so does what `.dockerignore` keeps out of all images of the
//! component: that may be a cache, and nothing is made from it. What they did not make
//! again is put back unless it is certain that it was theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::failure::StepError;
use super::round::Round;
use crate::core::context::Context;
use crate::core::fingerprint::{Manifest, Recipe};
use crate::core::ignore::Ignore;
use crate::core::outputs::HookOutputs;
use crate::core::problem::Problem;
use crate::core::regular_file;
use crate::core::selection::Selection;
use crate::core::tree::Kind;
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
    /// What hooks left and was not put aside.
    kept: HookOutputs,
    /// All that they left.
    earlier: HookOutputs,
}

impl<E: Engine> Round<'_, E> {
    /// Puts aside what a component's hooks left the last time.
    pub(super) fn put_outputs_aside(&self, component: &Component) -> Result<Before, StepError> {
        let (root, dir) = (&self.workspace.root, component.dir());
        // A build that was killed may have left some there.
        self.put_outputs_back(component, |_| true);
        let found = self.folder(component)?;
        let as_found = manifest(&found);
        let earlier = self.trees.outputs(&dir);
        let (mut kept, to_move) = self.choose(component, earlier.clone())?;
        if !to_move.is_empty()
            && let Err(error) = hook_outputs::put_aside(root, component, &found, &to_move)
        {
            let message = format!("what its hooks left there the last time stays: {error}");
            self.events.send(Event::Warning(Problem::of_file(&dir, message)));
            kept = earlier.clone();
        }
        self.trees.changed(Path::new(&dir));
        let cleaned = self.folder(component)?;
        let source = manifest(&self.trees.source(&dir, &[]).map_err(StepError::File)?);
        Ok(Before { found: as_found, cleaned, source, kept, earlier })
    }

    /// Puts back what is aside and `is_wanted`, if it is not there again.
    pub(super) fn put_outputs_back(
        &self,
        component: &Component,
        is_wanted: impl Fn(&Path) -> bool,
    ) {
        match hook_outputs::put_back(&self.workspace.root, component, is_wanted) {
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => {
                let message = format!("what its hooks left there the last time is aside: {error}");
                self.events.send(Event::Warning(Problem::of_file(component.dir(), message)));
            }
        }
        self.trees.changed(Path::new(&component.dir()));
    }

    fn folder(&self, component: &Component) -> Result<Context, StepError> {
        self.trees.component(&component.dir()).map_err(StepError::File)
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

    /// Notes what a component's `build-pre.sh` left in its folder.
    pub(super) fn note_pre_outputs(
        &self,
        component: &Component,
        before: &mut Before,
    ) -> Result<(), StepError> {
        let mut after = self.folder(component)?;
        let mut outputs = HookOutputs::between(&before.cleaned, &after, &before.earlier);
        self.ascertain(component, &mut outputs, &after);
        if component.post_hook.is_none() {
            let earlier = &before.earlier;
            self.put_outputs_back(component, |path| !earlier.is_certain(path));
            after = self.folder(component)?;
        }
        outputs.add(before.kept.clone(), &after);
        self.set_outputs(component, outputs);
        before.cleaned = after;
        Ok(())
    }

    /// Notes what a component's `build-post.sh` left there too: only what certainly is its,
    /// as the images were made before. Tells whether the folder is as it was found.
    pub(super) fn note_outputs(
        &self,
        component: &Component,
        before: &Before,
    ) -> Result<bool, StepError> {
        let dir = component.dir();
        if component.post_hook.is_some() {
            let after = self.folder(component)?;
            let mut outputs = HookOutputs::between(&before.cleaned, &after, &before.earlier);
            self.ascertain(component, &mut outputs, &after);
            let mut all = self.trees.outputs(&dir);
            if component.pre_hook.is_none() {
                all = before.kept.clone();
            }
            all.add(outputs.certain(), &after);
            let earlier = &before.earlier;
            self.put_outputs_back(component, |path| !earlier.is_certain(path));
            self.set_outputs(component, all);
        }
        let source = manifest(&self.trees.source(&dir, &[]).map_err(StepError::File)?);
        let changes = source.since(&before.source).into_iter();
        self.warn_of_changes(component, &changes.map(|change| change.name).collect());
        Ok(manifest(&self.folder(component)?) == before.found)
    }

    fn set_outputs(&self, component: &Component, outputs: HookOutputs) {
        let dir = component.dir();
        let before = self.trees.outputs(&dir);
        let is_same = outputs.is_same(&before) && outputs.uncertain().eq(before.uncertain());
        if !is_same {
            let root = &self.workspace.root;
            self.warn_of(hook_outputs::write(root, &component.name, &outputs));
        }
        self.trees.set_outputs(&dir, outputs);
    }

    /// Finds out which outputs are certainly a hook's: what git ignores, and what is a copy
    /// of a file elsewhere in the workspace.
    fn ascertain(&self, component: &Component, outputs: &mut HookOutputs, after: &Context) {
        if outputs.uncertain().next().is_none() {
            return;
        }
        let (root, dir) = (&self.workspace.root, component.dir());
        let ignored = git::ignored_below(&root.join(&dir)).unwrap_or_default();
        outputs.ascertain(|path| ignored.contains(path));
        let uncertain: BTreeSet<&Path> = outputs.uncertain().collect();
        let items = after.items().filter(|item| {
            item.entry.kind == Kind::File && uncertain.contains(item.entry.path.as_path())
        });
        let mut wanted: BTreeMap<(&std::ffi::OsStr, u64), Vec<_>> = BTreeMap::new();
        for item in items {
            if let Some(name) = item.entry.path.file_name() {
                wanted.entry((name, item.entry.size())).or_default().push(item);
            }
        }
        let mut copies: BTreeSet<PathBuf> = BTreeSet::new();
        self.walk(|path, metadata| {
            let name = path.file_name().unwrap_or_default();
            let alike = wanted.get(&(name, metadata.len())).filter(|_| !path.starts_with(&dir));
            if let Some(alike) = alike
                && let Ok(bytes) = regular_file::read_whole(&root.join(path))
            {
                let digest = blake3::hash(&bytes);
                let same = alike.iter().filter(|item| item.digest == digest);
                copies.extend(same.map(|item| item.entry.path.clone()));
            }
            true
        });
        drop(uncertain);
        outputs.ascertain(|path| copies.contains(path));
    }

    /// Looks at the files of the workspace that nothing makes, until `goes_on` says no.
    fn walk(&self, mut goes_on: impl FnMut(&Path, &fs::Metadata) -> bool) {
        let mut open = vec![PathBuf::new()];
        while let Some(folder) = open.pop() {
            let entries = fs::read_dir(self.workspace.root.join(&folder)).into_iter().flatten();
            for entry in entries.flatten() {
                let path = folder.join(entry.file_name());
                let Ok(metadata) = entry.metadata() else { continue };
                if self.is_made(&path) {
                    continue;
                }
                if metadata.is_dir() {
                    open.push(path);
                } else if !goes_on(&path, &metadata) {
                    return;
                }
            }
        }
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
        let since = (since.as_secs().cast_signed(), i64::from(since.subsec_nanos()));
        let mut is_edited = false;
        self.walk(|path, metadata| {
            let is_later = (metadata.ctime(), metadata.ctime_nsec()) > since;
            is_edited |= is_later && !but.contains(&*path.to_string_lossy());
            !is_edited
        });
        is_edited
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
