//! What hooks write into their component outside of the temporary folders.
//!
//! Before hooks run, what they left there the last time is put aside, so that they find
//! what they would in a fresh clone, and a second build comes to the same image. What git
//! tracks stays, and so does what `.dockerignore` keeps out of all images of the
//! component: that may be a cache, and nothing is made from it. What they did not make
//! again is put back unless it is certain that it was theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
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
use crate::core::tree::{Digest, Kind};
use crate::core::workspace::{Component, TEMPORARY};
use crate::effects::engine::Engine;
use crate::effects::git;
use crate::effects::hook_outputs::{self, Record};
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
    /// What was there without that.
    paths: BTreeSet<PathBuf>,
}

impl<E: Engine> Round<'_, E> {
    /// Puts aside what a component's hooks left the last time.
    pub(super) fn put_outputs_aside(&self, component: &Component) -> Result<Before, StepError> {
        let (root, dir) = (&self.workspace.root, component.dir());
        // A build that was killed may have left some there.
        self.put_outputs_back(component, |_| true);
        let found = self.folder(component)?;
        let as_found = manifest(&found);
        let record = hook_outputs::read(root, &component.name);
        let earlier = match record.before.filter(|_| component.pre_hook.is_some()) {
            Some(before) => {
                let mut left = HookOutputs::of_interrupted(&before, &found, &record.outputs);
                self.ascertain(component, &mut left, &found);
                left
            }
            None => record.outputs,
        };
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
        let paths: BTreeSet<PathBuf> =
            cleaned.items().map(|item| item.entry.path.clone()).collect();
        self.record_outputs(component, earlier.clone(), Some(paths.clone()));
        Ok(Before { found: as_found, cleaned, source, kept, earlier, paths })
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

    /// Notes what a component's `build-pre.sh` left in its folder, and puts back what may be
    /// somebody's.
    pub(super) fn note_pre_outputs(
        &self,
        component: &Component,
        before: &mut Before,
    ) -> Result<(), StepError> {
        let after = self.folder(component)?;
        let mut outputs = HookOutputs::between(&before.cleaned, &after, &before.earlier);
        self.ascertain(component, &mut outputs, &after);
        outputs.add(before.kept.clone(), &after);
        let earlier = &before.earlier;
        self.put_outputs_back(component, |path| !earlier.is_certain(path));
        before.cleaned = self.folder(component)?;
        self.record_outputs(component, outputs.clone(), Some(before.paths.clone()));
        self.trees.set_outputs(&component.dir(), outputs);
        Ok(())
    }

    fn record_outputs(
        &self,
        component: &Component,
        outputs: HookOutputs,
        before: Option<BTreeSet<PathBuf>>,
    ) {
        let record = Record { outputs, before };
        self.warn_of(hook_outputs::write(&self.workspace.root, &component.name, &record));
    }

    /// Notes what a component's hooks left in its folder, now that they came to their end.
    /// Of what `build-post.sh` left that is only what certainly is its, as the images were
    /// made before. Tells whether the folder is as it was found.
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
            let is_first = component.pre_hook.is_none();
            let mut all = if is_first { before.kept.clone() } else { self.trees.outputs(&dir) };
            all.add(outputs.certain(), &after);
            let earlier = &before.earlier;
            self.put_outputs_back(component, |path| !earlier.is_certain(path));
            self.trees.set_outputs(&dir, all);
        }
        self.record_outputs(component, self.trees.outputs(&dir), None);
        let source = manifest(&self.trees.source(&dir, &[]).map_err(StepError::File)?);
        let changes = source.since(&before.source).into_iter();
        self.warn_of_changes(component, &changes.map(|change| change.name).collect());
        Ok(manifest(&self.folder(component)?) == before.found)
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
        let mut by_size: BTreeMap<u64, Vec<_>> = BTreeMap::new();
        for item in items.filter(|item| item.entry.size() > 0) {
            by_size.entry(item.entry.size()).or_default().push(item);
        }
        let mut copies: BTreeSet<PathBuf> = BTreeSet::new();
        self.walk(|path, metadata| {
            if let Some(alike) = by_size.get(&metadata.len())
                && !path.starts_with(&dir)
                && let Ok(digest) = digest_of(&root.join(path))
            {
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

fn digest_of(file: &Path) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(regular_file::open(file)?)?;
    Ok(hasher.finalize())
}

fn manifest(context: &Context) -> Manifest {
    let mut recipe = Recipe::default();
    recipe.add_context(context);
    recipe.manifest()
}
