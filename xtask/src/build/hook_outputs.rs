//! Files that hooks write into their component's folder, outside `dependency/` and `generated/`.
//!
//! Before hooks run, the files that they wrote in the previous run are set aside, so that hooks
//! find the same files as in a fresh clone, and a second build results in the same image. Files
//! that git tracks stay in place, and so do files that `.dockerignore` excludes from all images
//! of the component: they may be a cache, and no image contains them. A folder in which the user
//! added or changed a file stays in place as a whole. Files that hooks do not write again are
//! put back, unless it is certain that a hook wrote them.

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
use xtask_core::paths::{BUILD, TEMPORARY, join};
use xtask_core::problem::Problem;
use xtask_core::regular_file;
use xtask_core::staleness::fingerprint::{Manifest, Recipe};
use xtask_core::workspace::components::Component;

use crate::build::round::Round;
use crate::build::step_error::StepError;
use crate::system::git;
use crate::system::hook_outputs::{self, Record};

/// A component's folder before its hooks run.
pub(crate) struct BeforeHooks {
    /// The folder before outputs were set aside.
    found: Manifest,
    /// The folder after outputs were set aside.
    cleaned: Context,
    /// The component's sources, without any outputs.
    source: Manifest,
    /// The outputs of the previous run that stayed in place.
    kept: HookOutputs,
    /// The outputs of the previous run that were set aside.
    moved: HookOutputs,
    /// All outputs of the previous run.
    earlier: HookOutputs,
    /// The paths in `cleaned`.
    paths: BTreeSet<PathBuf>,
    started: SystemTime,
}

impl BeforeHooks {
    /// The path of a Dockerfile in a component's `build/`, relative to the root, that is new since
    /// its Dockerfiles were read.
    pub(crate) fn new_dockerfile(&self, root: &Path, component: &Component) -> Option<String> {
        let build = root.join(&component.dir).join(BUILD);
        let names = fs::read_dir(build).into_iter().flatten().flatten().map(|it| it.file_name());
        let paths = names.map(|name| Path::new(BUILD).join(name));
        let is_new = |path: &PathBuf| {
            path.extension().is_some_and(|extension| extension == "dockerfile")
                && !self.paths.contains(path)
                && !self.earlier.contains(path)
        };
        let new = paths.into_iter().find(is_new)?;
        Some(join(&component.dir, &new.to_string_lossy()))
    }
}

/// What the hooks of a component came to.
pub(crate) struct AfterHooks {
    /// Whether the folder is the same as before they ran.
    pub(crate) is_same: bool,
    /// Whether files were put back that may be the user's: the images were made without them.
    pub(crate) has_put_back: bool,
}

/// Distinguishes files that hooks wrote from files of the user, and restores the latter.
pub(crate) struct OutputTracker<'a, E> {
    pub(crate) round: &'a Round<'a, E>,
}

impl<E> OutputTracker<'_, E> {
    /// Sets aside the outputs of a component's previous hook run.
    pub(crate) fn put_aside(&self, component: &Component) -> Result<BeforeHooks, StepError> {
        let (root, dir) = (&self.round.workspace.root, component.dir.clone());
        let started = SystemTime::now();
        // A killed build may have left files aside.
        self.put_back(component, |_| true);
        let found = self.folder(component)?;
        let as_found = manifest(&found);
        let record = hook_outputs::read(root, component);
        // Files that were added after a build was killed may be the user's.
        let earlier = match record.before.as_ref().filter(|_| component.pre_hook.is_some()) {
            Some(before) => {
                let end = hook_outputs::last_heartbeat(root, component);
                let outputs =
                    self.interrupted_outputs(component, before, &found, end, &record.outputs);
                outputs.certain().merge(record.outputs.unchanged_in(&found))
            }
            None => record.outputs,
        };
        let (mut kept, mut moved) = self.select_to_move(component, &found, &earlier)?;
        if !moved.is_empty()
            && let Err(error) = hook_outputs::put_aside(root, component, &found, &moved)
        {
            let message = format!(
                "cannot set aside the files that its hooks wrote in the previous run, so they \
                 stay in place: {error}"
            );
            self.round.warn(Problem::of_file(&dir, message));
            kept = earlier.unchanged_in(&found);
            moved = HookOutputs::default();
        }
        self.round.trees.invalidate_path(Path::new(&dir));
        let cleaned = self.folder(component)?;
        let source = manifest(&self.round.trees.hook_context(&dir, &[]).map_err(StepError::File)?);
        let paths: BTreeSet<PathBuf> =
            cleaned.items().map(|item| item.entry.path.clone()).collect();
        self.record(component, earlier.clone(), Some(paths.clone()));
        Ok(BeforeHooks { found: as_found, cleaned, source, kept, moved, earlier, paths, started })
    }

    /// Puts back what is aside, satisfies `is_wanted`, and was not written again. Returns the
    /// paths that are back.
    pub(crate) fn put_back(
        &self,
        component: &Component,
        is_wanted: impl Fn(&Path) -> bool,
    ) -> Vec<PathBuf> {
        let back = match hook_outputs::put_back(&self.round.workspace.root, component, is_wanted) {
            Ok(None) => return Vec::new(),
            Ok(Some(back)) => back,
            Err(error) => {
                let message = format!(
                    "cannot put back the files that were set aside before its hooks ran: {error}"
                );
                self.round.warn(Problem::of_file(component.dir.clone(), message));
                Vec::new()
            }
        };
        self.round.trees.invalidate_path(Path::new(&component.dir));
        back
    }

    /// Puts back the files that hooks did not write again and that may not be outputs. Warns of
    /// them, because they become part of the build context.
    fn put_back_uncertain(
        &self,
        component: &Component,
        is_wanted: impl Fn(&Path) -> bool,
    ) -> Vec<PathBuf> {
        let back = self.put_back(component, is_wanted);
        let Some(first) = back.first() else { return back };
        let more = match back.len() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        let message = format!(
            "appeared while hooks ran, but they did not write it again: it is kept, because it \
             may be your own file{more}. If it is not, delete it"
        );
        let path = Path::new(&component.dir).join(first).display().to_string();
        self.round.warn(Problem::of_file(path, message));
        back
    }

    /// Whether earlier outputs that hooks did not write again are certainly theirs.
    fn is_certainly_gone<'e>(
        &self,
        component: &Component,
        earlier: &'e HookOutputs,
    ) -> impl Fn(&Path) -> bool + use<'e, E> {
        let folder = self.round.workspace.root.join(&component.dir);
        // As it is now: what is put back makes folders, too.
        let exists = |top: &&Path| folder.join(top).symlink_metadata().is_ok();
        let existing: BTreeSet<PathBuf> =
            earlier.tops().filter(exists).map(Path::to_owned).collect();
        move |path| earlier.is_certainly_gone(path, |top| existing.contains(top))
    }

    fn folder(&self, component: &Component) -> Result<Context, StepError> {
        self.round.trees.component_files(&component.dir).map_err(StepError::File)
    }

    /// Divides the unchanged outputs of the previous run into those that stay in place and those
    /// to set aside.
    pub(crate) fn select_to_move(
        &self,
        component: &Component,
        found: &Context,
        earlier: &HookOutputs,
    ) -> Result<(HookOutputs, HookOutputs), StepError> {
        let outputs = earlier.unchanged_in(found);
        if outputs.is_empty() {
            return Ok((HookOutputs::default(), outputs));
        }
        let dir = component.dir.clone();
        let tracked = match git::tracked_below(&self.round.workspace.root.join(&dir)) {
            Ok(tracked) => tracked,
            Err(error) => {
                let message = format!(
                    "{error}. The files that its hooks wrote in the previous run stay in place, \
                     because git may track them"
                );
                self.round.warn(Problem::of_file(dir, message));
                return Ok((outputs, HookOutputs::default()));
            }
        };
        let (_, untracked) = outputs.partition(|path| tracked.contains(path));
        let (kept, others) = self.split_caches(component, found, untracked)?;
        let above: BTreeSet<&Path> = tracked.iter().flat_map(|path| path.ancestors()).collect();
        let mut mixed = others.mixed_folders(found, |path| above.contains(path));
        // A repository that a hook checked out, such as a submodule, has edits of the user's: git
        // would lose them if it had to check it out again.
        for item in found.items().filter(|item| !others.matches(&item.entry.path, &item.value())) {
            let path = &item.entry.path;
            let is_checked_out = |top: &&Path| others.contains(&top.join(".git"));
            if item.entry.kind != Kind::Folder
                && let Some(top) = path.ancestors().skip(1).find(is_checked_out)
            {
                mixed.entry(top.to_owned()).or_insert_with(|| path.clone());
            }
        }
        for (folder, other) in &mixed {
            let folder = Path::new(&dir).join(folder);
            let message = format!(
                "was added or changed since hooks wrote {folder}, so {folder} is not set aside \
                 before they run again. Move your files elsewhere, or delete {folder}",
                folder = folder.display()
            );
            let path = Path::new(&dir).join(other).display().to_string();
            self.round.warn(Problem::of_file(path, message));
        }
        let is_in_mixed = |path: &Path| path.ancestors().any(|above| mixed.contains_key(above));
        let (in_mixed, to_move) = others.partition(is_in_mixed);
        Ok((kept.merge(in_mixed), to_move))
    }

    /// Divides outputs into possible caches, which `.dockerignore` excludes from all images of
    /// the component and no other component receives, and the others. A folder is not divided.
    fn split_caches(
        &self,
        component: &Component,
        found: &Context,
        outputs: HookOutputs,
    ) -> Result<(HookOutputs, HookOutputs), StepError> {
        if component.images.is_empty() || self.has_dependents(component) {
            return Ok((HookOutputs::default(), outputs));
        }
        let specs = component.images.iter().map(ContextSpec::own);
        let ignores: Result<Vec<Dockerignore>, Problem> =
            specs.map(|spec| Ok(self.round.trees.ignore(&spec)?.0)).collect();
        let ignores = ignores.map_err(StepError::File)?;
        let (mut ignored, mut sent) = (BTreeSet::new(), BTreeSet::new());
        for item in found.items().filter(|item| item.entry.kind != Kind::Folder) {
            let path = &item.entry.path;
            if let Some(top) = outputs.topmost(path).filter(|_| outputs.contains(path)) {
                let text = path.to_string_lossy();
                let is_ignored = ignores.iter().all(|ignore| ignore.ignores(&text));
                if is_ignored { &mut ignored } else { &mut sent }.insert(top.to_owned());
            }
        }
        let is_cache = |top: &Path| ignored.contains(top) && !sent.contains(top);
        Ok(outputs.clone().partition(|path| outputs.topmost(path).is_some_and(is_cache)))
    }

    /// Whether another component depends on this one, and so receives its folder.
    fn has_dependents(&self, component: &Component) -> bool {
        let builds = |name: &str| component.images.iter().any(|image| image.name == name);
        let workspace = self.round.workspace;
        let id = workspace.find(&component.name);
        let all = workspace.components.iter();
        all.filter(|other| other.name != component.name).any(|other| {
            let mut uses = other.images.iter().flat_map(|image| &image.uses);
            let mut declared = other.declared.iter();
            declared.any(|declared| workspace.depended_on(&declared.component) == id)
                || uses.any(|used| used.local.as_deref().is_some_and(builds))
        })
    }

    /// Records the outputs of a component's `build-pre.sh`, and puts back files that may be the
    /// user's. Returns these, which did not exist while the hook ran.
    pub(crate) fn record_pre_hook(
        &self,
        component: &Component,
        before: &mut BeforeHooks,
    ) -> Result<Vec<PathBuf>, StepError> {
        let after = self.folder(component)?;
        let mut outputs = HookOutputs::added_between(&before.cleaned, &after, &before.moved);
        self.mark_copies(component, &mut outputs, &after);
        outputs.add_existing(before.kept.clone(), &after);
        let earlier = &before.earlier;
        // build-post.sh has not run yet, and may still write its outputs again.
        let is_from_post_hook =
            |path: &Path| component.post_hook.is_some() && earlier.is_from_post_hook(path);
        let is_theirs = self.is_certainly_gone(component, earlier);
        let is_wanted = |path: &Path| !is_theirs(path) && !is_from_post_hook(path);
        let back = self.put_back_uncertain(component, is_wanted);
        before.paths.extend(back.iter().cloned());
        before.cleaned = self.folder(component)?;
        self.record(component, outputs.clone(), Some(before.paths.clone()));
        self.round.trees.set_outputs(&component.dir, outputs);
        Ok(back)
    }

    /// Puts back files that may be the user's after a `build-pre.sh` failed, and returns them: the
    /// hook may have failed because they were missing. They no longer count as outputs.
    pub(crate) fn recover_failed_pre_hook(&self, component: &Component) -> Vec<PathBuf> {
        let earlier = hook_outputs::read(&self.round.workspace.root, component).outputs;
        let mut back = self.recover_interrupted(component);
        back.retain(|path| !earlier.is_certain(path) && !earlier.is_from_post_hook(path));
        let outputs = self.round.trees.outputs(&component.dir);
        let (_, outputs) = outputs.partition(|path| back.iter().any(|back| back == path));
        self.record(component, outputs.clone(), None);
        self.round.trees.set_outputs(&component.dir, outputs);
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
            component,
            &record,
        ));
    }

    /// The possible outputs of hooks that did not complete.
    fn interrupted_outputs(
        &self,
        component: &Component,
        before: &BTreeSet<PathBuf>,
        found: &Context,
        end: SystemTime,
        earlier: &HookOutputs,
    ) -> HookOutputs {
        let mut outputs = HookOutputs::of_interrupted(before, found, end, earlier);
        self.mark_copies(component, &mut outputs, found);
        outputs
    }

    /// Puts back the files that are aside after hooks failed or were cancelled, and records the
    /// hooks' outputs: later files are the user's. Returns the restored files.
    pub(crate) fn recover_interrupted(&self, component: &Component) -> Vec<PathBuf> {
        let back = self.put_back(component, |_| true);
        let record = hook_outputs::read(&self.round.workspace.root, component);
        if let Some(before) = record.before.filter(|_| component.pre_hook.is_some())
            && let Ok(found) = self.folder(component)
        {
            let now = SystemTime::now();
            let outputs =
                self.interrupted_outputs(component, &before, &found, now, &record.outputs);
            self.record(component, outputs.clone(), None);
            self.round.trees.set_outputs(&component.dir, outputs);
        }
        back
    }

    /// Records the outputs of a component's hooks after all of them completed, and puts back what
    /// may be the user's.
    pub(crate) fn record_completed(
        &self,
        component: &Component,
        before: &BeforeHooks,
    ) -> Result<AfterHooks, StepError> {
        let dir = component.dir.clone();
        let mut has_put_back = false;
        if component.post_hook.is_some() {
            let after = self.folder(component)?;
            let mut outputs = HookOutputs::added_between(&before.cleaned, &after, &before.moved);
            self.mark_copies(component, &mut outputs, &after);
            let is_first = component.pre_hook.is_none();
            let mut all =
                if is_first { before.kept.clone() } else { self.round.trees.outputs(&dir) };
            all.add_existing(outputs.mark_from_post_hook(), &after);
            let is_theirs = self.is_certainly_gone(component, &before.earlier);
            let is_wanted = |path: &Path| !is_theirs(path);
            has_put_back = !self.put_back_uncertain(component, is_wanted).is_empty();
            self.round.trees.set_outputs(&dir, all);
        }
        self.record(component, self.round.trees.outputs(&dir), None);
        let source = manifest(&self.round.trees.hook_context(&dir, &[]).map_err(StepError::File)?);
        let changes = source.changes_since(&before.source).into_iter().map(|change| change.name);
        // Hooks did not change their earlier outputs that were put back.
        let was_output = |name: &String| {
            let path = Path::new(name).strip_prefix(&dir);
            path.is_ok_and(|path| before.earlier.contains(path))
        };
        let changed = changes.filter(|name| !was_output(name)).collect();
        self.warn_of_changes(component, before.started, &changed);
        let is_same = manifest(&self.folder(component)?) == before.found;
        Ok(AfterHooks { is_same, has_put_back })
    }

    /// Marks outputs that are copies of files elsewhere in the workspace.
    fn mark_copies(&self, component: &Component, outputs: &mut HookOutputs, after: &Context) {
        if outputs.uncertain().next().is_none() {
            return;
        }
        let (root, dir) = (&self.round.workspace.root, component.dir.clone());
        let uncertain: BTreeSet<&Path> = outputs.uncertain().collect();
        let items = after.items().filter(|item| {
            item.entry.kind == Kind::File && uncertain.contains(item.entry.path.as_path())
        });
        let mut by_size: BTreeMap<u64, Vec<_>> = BTreeMap::new();
        for item in items.filter(|item| item.entry.size() > 0) {
            by_size.entry(item.entry.size()).or_default().push(item);
        }
        let mut copies: BTreeSet<PathBuf> = BTreeSet::new();
        self.walk_sources(|path, metadata| {
            if let Some(candidates) = by_size.get(&metadata.len())
                && !path.starts_with(&dir)
                && let Ok(digest) = digest_of(&root.join(path))
            {
                let same = candidates.iter().filter(|item| item.digest == digest);
                copies.extend(same.map(|item| item.entry.path.clone()));
            }
            true
        });
        drop(uncertain);
        outputs.mark_copies(|path| copies.contains(path));
    }

    /// Visits the files of the workspace that are not generated, until `visit` returns false.
    fn walk_sources(&self, mut visit: impl FnMut(&Path, &fs::Metadata) -> bool) {
        let mut open = vec![PathBuf::new()];
        while let Some(folder) = open.pop() {
            let entries =
                fs::read_dir(self.round.workspace.root.join(&folder)).into_iter().flatten();
            for entry in entries.flatten() {
                let path = folder.join(entry.file_name());
                let Ok(metadata) = entry.metadata() else { continue };
                if self.is_generated(&path) {
                    continue;
                }
                if metadata.is_dir() {
                    open.push(path);
                } else if !visit(&path, &metadata) {
                    return;
                }
            }
        }
    }

    /// Warns of hooks, `started` at this time, that changed their component's sources, if they
    /// did so in the previous run too and nothing else in the workspace changed since its start.
    fn warn_of_changes(
        &self,
        component: &Component,
        started: SystemTime,
        changed: &BTreeSet<String>,
    ) {
        let now = (!changed.is_empty()).then_some(started);
        let previous = self.round.records.borrow_mut().set_source_changed(&component.name, now);
        let hook = component.hooks().next();
        if let (Some(path), Some(hook), Some(previous)) = (changed.first(), hook, previous)
            && !self.is_edited_since(previous, changed)
        {
            let message = format!(
                "changed {path} in this run and in the previous one, although nothing else \
                 changed: the component is rebuilt every time. Let the hook write to generated/ \
                 instead"
            );
            self.round.warn(Problem::of_file(hook.to_string(), message));
        }
    }

    /// Whether a file of the workspace was changed after `time`, except for `ignored` and
    /// generated files.
    fn is_edited_since(&self, time: SystemTime, ignored: &BTreeSet<String>) -> bool {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = (since.as_secs().cast_signed(), i64::from(since.subsec_nanos()));
        let mut is_edited = false;
        self.walk_sources(|path, metadata| {
            let is_later = (metadata.ctime(), metadata.ctime_nsec()) > since;
            is_edited |= is_later && !ignored.contains(&*path.to_string_lossy());
            !is_edited
        });
        is_edited
    }

    /// Whether a path belongs to git, or is written by a build or a hook.
    fn is_generated(&self, path: &Path) -> bool {
        if path.starts_with("target") || path.starts_with(".git") {
            return true;
        }
        let workspace = self.round.workspace;
        let Some(owner) = workspace.owner(path) else { return false };
        let dir = &workspace.components[owner].dir;
        path.strip_prefix(dir).is_ok_and(|below| {
            let is_temporary = TEMPORARY.iter().any(|name| below.starts_with(name));
            is_temporary || self.round.trees.outputs(dir).contains(below)
        })
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
