//! What hooks write into their component's folder, outside `dependency/` and `generated/`.
//!
//! Before hooks run, what they left in the folder the last time is put aside, so that they
//! find what they would in a fresh clone, and a second build comes to the same image. Files
//! that git tracks stay, and so do those that `.dockerignore` keeps out of all images of the
//! component: they may be a cache, and no image is made from them. A folder in which the
//! user added or changed something stays as a whole. What hooks do not write again is put
//! back, unless it is certain that they wrote it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use xtask_core::context::build_context::Context;
use xtask_core::context::dockerignore::Dockerignore;
use xtask_core::context::hook_outputs::HookOutputs;
use xtask_core::context::spec::ContextSpec;
use xtask_core::context::tree::Kind;
use xtask_core::digest::Digest;
use xtask_core::paths::TEMPORARY;
use xtask_core::problem::Problem;
use xtask_core::regular_file;
use xtask_core::staleness::fingerprint::{Manifest, Recipe};
use xtask_core::workspace::components::Component;

use crate::build::round::Round;
use crate::build::step_error::StepError;
use crate::system::git;
use crate::system::hook_outputs::{self, Record};

/// A component's folder before its hooks run.
pub(crate) struct Before {
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
    /// When it was found.
    at: SystemTime,
}

/// Tells what hooks wrote from what people did, and restores the latter.
pub(crate) struct OutputTracker<'a, E> {
    pub(crate) round: &'a Round<'a, E>,
}

impl<E> OutputTracker<'_, E> {
    /// Puts aside what a component's hooks left the last time.
    pub(crate) fn put_aside(&self, component: &Component) -> Result<Before, StepError> {
        let (root, dir, at) = (&self.round.workspace.root, component.dir(), SystemTime::now());
        // A build that was killed may have left some there.
        self.put_back(component, |_| true);
        let found = self.folder(component)?;
        let as_found = manifest(&found);
        let record = hook_outputs::read(root, &component.name);
        // What came after a build that was killed may be the user's.
        let earlier = match record.before.as_ref().filter(|_| component.pre_hook.is_some()) {
            Some(before) => {
                let end = hook_outputs::last_heartbeat(root, &component.name);
                let left =
                    self.left_by_interrupted(component, before, &found, end, &record.outputs);
                left.certain().merge(record.outputs.unchanged_in(&found))
            }
            None => record.outputs,
        };
        let (mut kept, to_move) = self.choose(component, &found, &earlier)?;
        if !to_move.is_empty()
            && let Err(error) = hook_outputs::put_aside(root, component, &found, &to_move)
        {
            let message = format!("what its hooks left there the last time stays: {error}");
            self.round.warn(Problem::of_file(&dir, message));
            kept = earlier.unchanged_in(&found);
        }
        self.round.trees.invalidate_path(Path::new(&dir));
        let cleaned = self.folder(component)?;
        let source = manifest(&self.round.trees.hook_context(&dir, &[]).map_err(StepError::File)?);
        let paths: BTreeSet<PathBuf> =
            cleaned.items().map(|item| item.entry.path.clone()).collect();
        self.record(component, earlier.clone(), Some(paths.clone()));
        Ok(Before { found: as_found, cleaned, source, kept, earlier, paths, at })
    }

    /// Puts back what is aside and `is_wanted`, if it is not there again. Gives the files
    /// that are back.
    pub(crate) fn put_back(
        &self,
        component: &Component,
        is_wanted: impl Fn(&Path) -> bool,
    ) -> Vec<PathBuf> {
        let back = match hook_outputs::put_back(&self.round.workspace.root, component, is_wanted) {
            Ok(None) => return Vec::new(),
            Ok(Some(back)) => back,
            Err(error) => {
                let message = format!("what its hooks left there the last time is aside: {error}");
                self.round.warn(Problem::of_file(component.dir(), message));
                Vec::new()
            }
        };
        self.round.trees.invalidate_path(Path::new(&component.dir()));
        back
    }

    /// Puts back what hooks did not make again and is not certain to be theirs, and names it:
    /// images are made from it, as from everything in the component.
    fn put_back_uncertain(
        &self,
        component: &Component,
        is_wanted: impl Fn(&Path) -> bool,
    ) -> Vec<PathBuf> {
        let back = self.put_back(component, is_wanted);
        let Some(first) = back.first() else { return back };
        let more = match back.len() {
            1 => String::new(),
            all => format!(" (and {} more)", all - 1),
        };
        let message = format!(
            "came while hooks ran, and they did not make it again: it stays, as it may be \
             yours{more}. Remove it if it is not"
        );
        let path = Path::new(&component.dir()).join(first).display().to_string();
        self.round.warn(Problem::of_file(path, message));
        back
    }

    fn folder(&self, component: &Component) -> Result<Context, StepError> {
        self.round.trees.component_files(&component.dir()).map_err(StepError::File)
    }

    /// What stays of what hooks left and is as they left it, and what goes.
    pub(crate) fn choose(
        &self,
        component: &Component,
        found: &Context,
        earlier: &HookOutputs,
    ) -> Result<(HookOutputs, HookOutputs), StepError> {
        let outputs = earlier.unchanged_in(found);
        if outputs.is_empty() {
            return Ok((HookOutputs::default(), outputs));
        }
        let dir = component.dir();
        let tracked = match git::tracked_below(&self.round.workspace.root.join(&dir)) {
            Ok(tracked) => tracked,
            Err(error) => {
                let message = format!(
                    "{error}. What its hooks left there the last time stays, as git may track it"
                );
                self.round.warn(Problem::of_file(dir, message));
                return Ok((outputs, HookOutputs::default()));
            }
        };
        let (_, own) = outputs.partition(|path| tracked.contains(path));
        let (kept, own) = self.caches(component, found, own)?;
        let above: BTreeSet<&Path> = tracked.iter().flat_map(|path| path.ancestors()).collect();
        let shared = own.mixed_folders(found, |path| above.contains(path));
        for (folder, other) in &shared {
            let folder = Path::new(&dir).join(folder);
            let message = format!(
                "is not as hooks left it, so {folder} stays as it is while they run again. Move \
                 your files elsewhere, or remove {folder}",
                folder = folder.display()
            );
            let path = Path::new(&dir).join(other).display().to_string();
            self.round.warn(Problem::of_file(path, message));
        }
        let (stays, own) = own.partition(|path| path.ancestors().any(|at| shared.contains_key(at)));
        Ok((kept.merge(stays), own))
    }

    /// What `.dockerignore` keeps out of all images of a component, if no other component
    /// gets it either, and the others. What is in one folder goes or stays together.
    fn caches(
        &self,
        component: &Component,
        found: &Context,
        own: HookOutputs,
    ) -> Result<(HookOutputs, HookOutputs), StepError> {
        if component.images.is_empty() || self.has_dependents(component) {
            return Ok((HookOutputs::default(), own));
        }
        let selections = component.images.iter().map(|image| ContextSpec::own(component, image));
        let ignores: Result<Vec<Dockerignore>, Problem> =
            selections.map(|selection| Ok(self.round.trees.ignore(&selection)?.0)).collect();
        let ignores = ignores.map_err(StepError::File)?;
        let (mut ignored, mut sent) = (BTreeSet::new(), BTreeSet::new());
        for item in found.items().filter(|item| item.entry.kind != Kind::Folder) {
            let path = &item.entry.path;
            if let Some(top) = own.topmost(path).filter(|_| own.contains(path)) {
                let text = path.to_string_lossy();
                let is_ignored = ignores.iter().all(|ignore| ignore.ignores(&text));
                if is_ignored { &mut ignored } else { &mut sent }.insert(top.to_owned());
            }
        }
        let is_cache = |top: &Path| ignored.contains(top) && !sent.contains(top);
        Ok(own.clone().partition(|path| own.topmost(path).is_some_and(is_cache)))
    }

    /// Whether another component gets a component's folder.
    fn has_dependents(&self, component: &Component) -> bool {
        let makes = |name: &str| component.images.iter().any(|image| image.name == name);
        let mut others =
            self.round.workspace.components.iter().filter(|it| it.name != component.name);
        others.any(|other| {
            let mut uses = other.images.iter().flat_map(|image| &image.uses);
            other.declared.iter().any(|declared| declared.component == component.name)
                || uses.any(|used| self.round.local_name(used).is_some_and(makes))
        })
    }

    /// Notes what a component's `build-pre.sh` left in its folder, and puts back what may be
    /// the user's. Gives that: the hook did not find it.
    pub(crate) fn pre_hook_ended(
        &self,
        component: &Component,
        before: &mut Before,
    ) -> Result<Vec<PathBuf>, StepError> {
        let after = self.folder(component)?;
        let mut outputs = HookOutputs::added_between(&before.cleaned, &after, &before.earlier);
        self.mark_certain(component, &mut outputs, &after);
        outputs.add_existing(before.kept.clone(), &after);
        let earlier = &before.earlier;
        // What build-post.sh made is still to be made again.
        let is_late =
            |path: &Path| component.post_hook.is_some() && earlier.is_from_post_hook(path);
        let is_wanted = |path: &Path| !earlier.is_certain(path) && !is_late(path);
        let back = self.put_back_uncertain(component, is_wanted);
        before.cleaned = self.folder(component)?;
        self.record(component, outputs.clone(), Some(before.paths.clone()));
        self.round.trees.set_outputs(&component.dir(), outputs);
        Ok(back)
    }

    /// Puts back what may be the user's after a `build-pre.sh` failed, which did not find it
    /// and may have failed for that, and gives it. It is the user's from now on.
    pub(crate) fn pre_hook_failed(&self, component: &Component) -> Vec<PathBuf> {
        let earlier = hook_outputs::read(&self.round.workspace.root, &component.name).outputs;
        let mut back = self.hooks_interrupted(component);
        back.retain(|path| !earlier.is_certain(path) && !earlier.is_from_post_hook(path));
        let left = self.round.trees.outputs(&component.dir());
        let (_, left) = left.partition(|path| back.iter().any(|back| back == path));
        self.record(component, left.clone(), None);
        self.round.trees.set_outputs(&component.dir(), left);
        back
    }

    fn record(
        &self,
        component: &Component,
        outputs: HookOutputs,
        before: Option<BTreeSet<PathBuf>>,
    ) {
        let record = Record { outputs, before };
        self.round.warn_unwritable(hook_outputs::write(
            &self.round.workspace.root,
            &component.name,
            &record,
        ));
    }

    /// What hooks may have left that did not come to their end.
    fn left_by_interrupted(
        &self,
        component: &Component,
        before: &BTreeSet<PathBuf>,
        found: &Context,
        end: SystemTime,
        earlier: &HookOutputs,
    ) -> HookOutputs {
        let mut left = HookOutputs::of_interrupted(before, found, end, earlier);
        self.mark_certain(component, &mut left, found);
        left
    }

    /// Notes what hooks left that failed or were cancelled: whatever comes later is the
    /// user's. Gives the files that were put back.
    pub(crate) fn hooks_interrupted(&self, component: &Component) -> Vec<PathBuf> {
        let back = self.put_back(component, |_| true);
        let record = hook_outputs::read(&self.round.workspace.root, &component.name);
        if let Some(before) = record.before.filter(|_| component.pre_hook.is_some())
            && let Ok(found) = self.folder(component)
        {
            let now = SystemTime::now();
            let left = self.left_by_interrupted(component, &before, &found, now, &record.outputs);
            self.record(component, left.clone(), None);
            self.round.trees.set_outputs(&component.dir(), left);
        }
        back
    }

    /// Notes what a component's hooks left in its folder, now that they came to their end.
    /// Tells whether the folder is as it was found.
    pub(crate) fn completed(
        &self,
        component: &Component,
        before: &Before,
    ) -> Result<bool, StepError> {
        let dir = component.dir();
        if component.post_hook.is_some() {
            let after = self.folder(component)?;
            let mut outputs = HookOutputs::added_between(&before.cleaned, &after, &before.earlier);
            self.mark_certain(component, &mut outputs, &after);
            let is_first = component.pre_hook.is_none();
            let mut all =
                if is_first { before.kept.clone() } else { self.round.trees.outputs(&dir) };
            all.add_existing(outputs.mark_from_post_hook(), &after);
            self.put_back_uncertain(component, |path| !before.earlier.is_certain(path));
            self.round.trees.set_outputs(&dir, all);
        }
        self.record(component, self.round.trees.outputs(&dir), None);
        let source = manifest(&self.round.trees.hook_context(&dir, &[]).map_err(StepError::File)?);
        let changes = source.changes_since(&before.source).into_iter().map(|change| change.name);
        // What was theirs and is put back is no change of theirs.
        let was_theirs = |name: &String| {
            let path = Path::new(name).strip_prefix(&dir);
            path.is_ok_and(|path| before.earlier.contains(path))
        };
        let changed = changes.filter(|name| !was_theirs(name)).collect();
        self.warn_of_changes(component, before.at, &changed);
        Ok(manifest(&self.folder(component)?) == before.found)
    }

    /// Finds out which outputs are certainly a hook's: what is a copy of a file elsewhere in
    /// the workspace.
    fn mark_certain(&self, component: &Component, outputs: &mut HookOutputs, after: &Context) {
        if outputs.uncertain().next().is_none() {
            return;
        }
        let (root, dir) = (&self.round.workspace.root, component.dir());
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
        outputs.mark_certain(|path| copies.contains(path));
    }

    /// Looks at the files of the workspace that nothing makes, until `goes_on` says no.
    fn walk(&self, mut goes_on: impl FnMut(&Path, &fs::Metadata) -> bool) {
        let mut open = vec![PathBuf::new()];
        while let Some(folder) = open.pop() {
            let entries =
                fs::read_dir(self.round.workspace.root.join(&folder)).into_iter().flatten();
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
    /// workspace was changed since they began to do so the last time; now they began `at`.
    fn warn_of_changes(&self, component: &Component, at: SystemTime, changed: &BTreeSet<String>) {
        let now = (!changed.is_empty()).then_some(at);
        let before = self.round.records.borrow_mut().set_source_changed(&component.name, now);
        let hook = component.pre_hook.as_ref().or(component.post_hook.as_ref());
        if let (Some(path), Some(hook), Some(before)) = (changed.first(), hook, before)
            && !self.is_edited_since(before, changed)
        {
            let message = format!(
                "changed {path} at this run and at the one before, though nothing else changed: \
                 the component is built every time. Let the hook write to generated/ instead"
            );
            self.round.warn(Problem::of_file(hook, message));
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
                let outputs = self.round.trees.outputs(&format!("src/{component}"));
                TEMPORARY.contains(&below[0])
                    || outputs.contains(&below.iter().collect::<PathBuf>())
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
