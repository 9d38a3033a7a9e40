//! The tasks of one component's step.
//!
//! A step begins with everything that its images need: its dependencies are copied to
//! `dependency/` and its `build-pre.sh` runs. Its images follow, in parallel where they do
//! not depend on each other, and then its `build-post.sh`. Only hooks need the dependencies
//! on disk: for a component without a `build-pre.sh` they are streamed into the context, and
//! copied for its `build-post.sh` alone. A component that comes from the hook cache has
//! nothing to do in any of its tasks.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tracing::debug;
use xtask_core::context::spec::ContextSpec;
use xtask_core::dockerfile::parser::ImageUse;
use xtask_core::ids::{ComponentId, IdVec, ImageId, StepId};
use xtask_core::paths::{POST_HOOK, PRE_HOOK};
use xtask_core::plan::steps::{Step, Task, TaskKind};
use xtask_core::problem::{Problem, Problems};
use xtask_core::regular_file;
use xtask_core::workspace::components::{Component, Image};
use xtask_core::workspace::hook::Hook;

use crate::build::cancel::Cancellation;
use crate::build::hook_activity::HookActivity;
use crate::build::hook_cache::{HookCache, Key};
use crate::build::hook_outputs::{BeforeHooks, OutputTracker};
use crate::build::image::ImageBuilder;
use crate::build::mode::{ContextCapture, Mode};
use crate::build::prepare::read_workspace;
use crate::build::round::Round;
use crate::build::step_error::{StepError, tree_error};
use crate::engine::Engine;
use crate::event::Event;
use crate::event_channel::Events;
use crate::outcome::Outcome;
use crate::system::hook_outputs;
use crate::system::hooks::{self, HookRun};
use crate::system::temp_dirs::{self, TempDirs};

/// How late the event of a change can arrive, the debounce included.
const LATE: Duration = Duration::from_secs(1);

/// How often what a step came to is compared while other steps change files.
const TRIES: usize = 5;

/// Runs the tasks of a round's steps.
pub(crate) struct StepRunner<'a, E> {
    round: &'a Round<'a, E>,
    builder: &'a ImageBuilder<'a, E>,
    hook_cache: &'a HookCache<'a, E>,
    outputs: OutputTracker<'a, E>,
    cancellation: &'a Cancellation,
    hook_activity: &'a HookActivity,
    temp_dirs: &'a RefCell<TempDirs>,
    progress: RefCell<IdVec<StepId, Progress>>,
    /// By name, the images whose Dockerfiles hooks changed, as these are now.
    reread: RefCell<BTreeMap<String, Rc<Image>>>,
    /// The components whose images were made from what was there only briefly.
    pub(crate) inexact: RefCell<BTreeSet<ComponentId>>,
    /// The components that were built again because of what was put back after their last hook.
    repeated: RefCell<BTreeSet<ComponentId>>,
    /// The components that failed because a file could not be read or had changed.
    pub(crate) misread: RefCell<BTreeSet<ComponentId>>,
}

/// What a step came to so far.
#[derive(Default)]
struct Progress {
    is_cached: bool,
    has_built: bool,
    has_restored: bool,
    has_pulled: bool,
    has_left: bool,
    has_exported: bool,
    /// What the component was made from before its hooks ran.
    key: Option<Key>,
    /// Its folder before its hooks ran.
    before: Option<BeforeHooks>,
}

impl Progress {
    fn outcome(&self) -> Outcome {
        let outcomes = [
            (self.has_exported, Outcome::Exported),
            (self.has_built, Outcome::Built),
            (self.has_left, Outcome::InRegistry),
            (self.has_pulled, Outcome::Pulled),
            (self.has_restored, Outcome::Restored),
        ];
        let first = outcomes.into_iter().find(|(is_so, _)| *is_so);
        first.map_or(Outcome::UpToDate, |(_, outcome)| outcome)
    }
}

impl<'a, E: Engine> StepRunner<'a, E> {
    pub(crate) fn new(
        round: &'a Round<'a, E>,
        builder: &'a ImageBuilder<'a, E>,
        hook_cache: &'a HookCache<'a, E>,
        cancellation: &'a Cancellation,
        hook_activity: &'a HookActivity,
        temp_dirs: &'a RefCell<TempDirs>,
    ) -> Self {
        let progress = round.plan.steps.iter().map(|_| Progress::default()).collect();
        Self {
            round,
            builder,
            hook_cache,
            outputs: OutputTracker { round },
            cancellation,
            hook_activity,
            temp_dirs,
            progress: RefCell::new(progress),
            reread: RefCell::default(),
            inexact: RefCell::default(),
            repeated: RefCell::default(),
            misread: RefCell::default(),
        }
    }

    fn progress(&self, step: StepId) -> RefMut<'_, Progress> {
        RefMut::map(self.progress.borrow_mut(), |progress| &mut progress[step])
    }

    /// Runs one task. The last one of a step gives what the step came to.
    pub(crate) async fn run(&self, task: &Task) -> Result<Option<Outcome>, StepError> {
        let (id, step) = (task.step, &self.round.plan.steps[task.step]);
        match task.kind {
            TaskKind::Begin => self.begin(id, step).await.map(|()| None),
            TaskKind::Image(image) => {
                tokio::select! {
                    made = self.image(id, step, image) => match made {
                        Ok(()) => Ok(None),
                        Err(error) => Err(self.explain(step, error).await),
                    },
                    () = self.cancellation.cancelled(step.component) => {
                        self.cancellation.check(step.component).map(|()| None)
                    }
                }
            }
            TaskKind::End => self.end(id, step).await.map(Some),
        }
    }

    /// A step whose files change while they are read fails before the change is seen.
    async fn explain(&self, step: &Step, error: StepError) -> StepError {
        if self.round.trees.is_watched() && error.is_file_error() {
            tokio::select! {
                () = self.cancellation.cancelled(step.component) => {
                    return self.cancellation.check(step.component).err().unwrap_or(error);
                }
                () = tokio::time::sleep(LATE) => {}
            }
            self.misread.borrow_mut().insert(step.component);
        }
        error
    }

    async fn begin(&self, id: StepId, step: &Step) -> Result<(), StepError> {
        let component = self.round.component(step);
        Problems::check(component.problems.clone())?;
        let key = self.hook_cache.key(step, component)?;
        if let Some(key) = key.as_ref().filter(|_| !self.round.runs_hooks_anyway(step))
            && let Some(hit) = self.hook_cache.find(component, key).await?
        {
            let (has_restored, has_pulled) = (!hit.to_restore.is_empty(), !hit.to_pull.is_empty());
            if self.hook_cache.apply(component, hit).await? {
                let mut progress = self.progress(id);
                (progress.is_cached, progress.has_restored) = (true, has_restored);
                progress.has_pulled = has_pulled;
                return Ok(());
            }
        }
        if component.has_hooks() {
            // Boxed, as every task would be as large as this.
            let before = Box::pin(self.begin_hooks(step, component)).await?;
            self.reread_dockerfiles(step, component, &before)?;
            if component.pre_hook.is_some() {
                self.builder.bases.forget_external();
                for image in self.round.images(step) {
                    self.builder.images.refresh(image).await?;
                }
            }
            let mut progress = self.progress(id);
            (progress.key, progress.before) = (key, Some(before));
        }
        Ok(())
    }

    /// Runs a component's `build-pre.sh`, if it has one: once more if what was put aside
    /// before it may be the user's.
    async fn begin_hooks(
        &self,
        step: &Step,
        component: &Component,
    ) -> Result<BeforeHooks, StepError> {
        self.bring_dependencies(step).await?;
        let mut is_second_run = false;
        loop {
            {
                let mut temp_dirs = self.temp_dirs.borrow_mut();
                temp_dirs.register(component).map_err(StepError::File)?;
                self.round.warn_unwritable(temp_dirs.save());
            }
            self.hook_activity.started(step.component);
            let before = self.outputs.put_aside(component);
            self.hook_activity.ended(step.component);
            let mut before = before?;
            if component.pre_hook.is_none() {
                return Ok(before);
            }
            self.copy_dependencies(step, component).await?;
            let ran = self.hook(step, component, PRE_HOOK, component.pre_hook.as_ref()).await;
            self.cancellation.check(step.component)?;
            let put_back = match ran {
                Ok(()) => self.outputs.record_pre_hook(component, &mut before)?,
                Err(_) => self.outputs.recover_failed_pre_hook(component),
            };
            if is_second_run || put_back.is_empty() {
                return ran.map(|()| before);
            }
            is_second_run = true;
            let problems = self.temp_dirs.borrow_mut().remove(&component.dir);
            if let Some(problem) = problems.into_iter().next() {
                return Err(StepError::File(problem));
            }
            self.round.trees.invalidate_path(Path::new(&component.dir));
        }
    }

    /// Reads the Dockerfiles again that a component's `build-pre.sh` changed: it may write the name
    /// of a base into one.
    ///
    /// # Errors
    /// An image needs a component that need not have been built yet, or is new.
    fn reread_dockerfiles(
        &self,
        step: &Step,
        component: &Component,
        before: &BeforeHooks,
    ) -> Result<(), StepError> {
        let Round { workspace, reading, registry, .. } = *self.round;
        let hook = component.pre_hook.as_ref().map(ToString::to_string).unwrap_or_default();
        if let Some(new) = before.new_dockerfile(&workspace.root, component) {
            let message = format!("was made by {hook} during the build: run the build again");
            return Err(StepError::File(Problem::of_file(new, message)));
        }
        let is_changed = |image: &Image| {
            let now = regular_file::read_whole(&workspace.root.join(&image.dockerfile));
            now.map(|text| blake3::hash(&text)).ok() != Some(image.dockerfile_digest)
        };
        if !self.round.images(step).any(is_changed) {
            return Ok(());
        }
        let (now, _) = read_workspace(&workspace.root, reading, registry, &Events::unread())?;
        let found = now.components.into_iter().find(|it| it.dir == component.dir);
        let found = found.map(|component| (component.images, component.problems));
        let (images, problems) = found.unwrap_or_default();
        Problems::check(problems)?;
        let known: BTreeSet<&str> = step
            .dependencies
            .iter()
            .chain([&step.component])
            .flat_map(|id| &workspace.components[*id].images)
            .map(|image| image.name.as_str())
            .collect();
        for image in images {
            let is_unknown =
                |used: &&ImageUse| used.local.as_deref().is_some_and(|name| !known.contains(name));
            if let Some(used) = image.uses.iter().find(is_unknown) {
                let message =
                    format!("'{}' is needed since {hook} ran: run the build again", used.reference);
                let problem = Problem::of_line(&image.dockerfile, used.line, message);
                return Err(StepError::File(problem));
            }
            self.reread.borrow_mut().insert(image.name.clone(), Rc::new(image));
        }
        Ok(())
    }

    /// An image whose Dockerfile was read again.
    fn reread(&self, image: &Image) -> Option<Rc<Image>> {
        self.reread.borrow().get(&image.name).cloned()
    }

    /// Hooks may run the images of what their component depends on.
    async fn bring_dependencies(&self, step: &Step) -> Result<(), StepError> {
        let needed = step.dependencies.iter().map(|id| &self.round.workspace.components[*id]);
        for image in needed.flat_map(|component| &component.images) {
            self.builder.bring(&image.name).await?;
        }
        Ok(())
    }

    /// Where a step's contexts are noted instead of being built.
    fn capture(&self, step: &Step) -> Option<&'a ContextCapture> {
        match self.round.mode {
            Mode::Show(capture) if step.is_named => Some(capture),
            _ => None,
        }
    }

    /// Whether a step's images are built, if they are stale.
    fn is_built(&self, step: &Step) -> bool {
        match self.round.mode {
            Mode::Build | Mode::Trace(_) => true,
            Mode::Show(_) => !step.is_named,
            Mode::Export(_) => false,
        }
    }

    async fn image(&self, id: StepId, step: &Step, image: ImageId) -> Result<(), StepError> {
        let component = self.round.component(step);
        let image = &component.images[image];
        let reread = self.reread(image);
        let image = reread.as_deref().unwrap_or(image);
        if self.progress(id).is_cached {
            let (component, image) = (component.name.clone(), image.name.clone());
            self.round.send(Event::ImageUpToDate { component, image });
            return Ok(());
        }
        if let Mode::Export(folder) = self.round.mode {
            self.builder.export(step, image, folder).await?;
            self.progress(id).has_exported = true;
            return Ok(());
        }
        if let Some(capture) = self.capture(step) {
            let context = self.builder.context(step, image).await?;
            return capture.add(image, context).map_err(StepError::File);
        }
        let outcome = self.builder.make(step, image).await?;
        let mut progress = self.progress(id);
        progress.has_built |= outcome == Outcome::Built;
        progress.has_restored |= outcome == Outcome::Restored;
        progress.has_pulled |= outcome == Outcome::Pulled;
        progress.has_left |= outcome == Outcome::InRegistry;
        Ok(())
    }

    async fn end(&self, id: StepId, step: &Step) -> Result<Outcome, StepError> {
        let component = self.round.component(step);
        let is_cached = self.progress(id).is_cached;
        if component.has_hooks() && !is_cached && self.is_built(step) {
            let (key, before) = {
                let mut progress = self.progress(id);
                (progress.key.take(), progress.before.take())
            };
            // Only until its build-post.sh runs, the folder is what the images were made from.
            let is_exact = self.is_exact(step, component, key.as_ref()).await?;
            if component.pre_hook.is_none() {
                self.copy_dependencies(step, component).await?;
            }
            self.hook(step, component, POST_HOOK, component.post_hook.as_ref()).await?;
            if let Some(before) = before {
                let completed = self.outputs.record_completed(component, &before)?;
                self.hook_activity.completed(step.component, completed.is_same);
                if completed.has_put_back && self.repeated.borrow_mut().insert(step.component) {
                    // The images were made without it.
                    self.cancellation.restart(&[step.component].into());
                    return Err(StepError::Outdated);
                }
            }
            if let Some(key) = key.filter(|_| is_exact)
                && self.hook_cache.is_current(step, component, &key)?
            {
                self.round.warn_unwritable(self.hook_cache.keep(component, &key));
            }
        }
        Ok(self.progress(id).outcome())
    }

    /// Whether a component's images were made from what its key says. An edit that is undone
    /// while a step runs leaves a trace in the images alone.
    async fn is_exact(
        &self,
        step: &Step,
        component: &Component,
        key: Option<&Key>,
    ) -> Result<bool, StepError> {
        self.round.trees.invalidate_path(Path::new(&component.dir));
        for _ in 0..TRIES {
            let version = self.round.trees.version();
            let are_images = self.are_images_exact(step).await?;
            let is_key = match key {
                Some(key) => self.hook_cache.is_current(step, component, key)?,
                None => true,
            };
            // Only what was read at one time can be compared.
            if self.round.trees.version() == version {
                if !are_images {
                    self.inexact.borrow_mut().insert(step.component);
                }
                return Ok(are_images && is_key);
            }
        }
        Ok(false)
    }

    /// Whether a component's images would be made from the same now.
    async fn are_images_exact(&self, step: &Step) -> Result<bool, StepError> {
        for image in self.round.images(step) {
            let reread = self.reread(image);
            let image = reread.as_deref().unwrap_or(image);
            if !self.builder.is_as_recorded(step, image).await? {
                debug!(image = image.name, "made from files that were there only briefly");
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn copy_dependencies(&self, step: &Step, component: &Component) -> Result<(), StepError> {
        let to = self.round.workspace.root.join(component.dir.clone());
        let trees = Arc::clone(self.round.trees);
        let dependencies = self.hook_cache.dependencies(step);
        let images = component.images.iter().map(ContextSpec::own);
        let images: Vec<ContextSpec> = images.collect();
        let copying = tokio::task::spawn_blocking(move || {
            let parts = trees.dependency_copies(&dependencies, &images)?;
            temp_dirs::copy_parts(&parts, &to)
        });
        let copied = copying.await.map_err(io::Error::other).flatten();
        self.round.trees.invalidate();
        copied.map_err(|source| tree_error(component, source))
    }

    async fn hook(
        &self,
        step: &Step,
        component: &Component,
        name: &str,
        hook: Option<&Hook>,
    ) -> Result<(), StepError> {
        let Some(hook) = hook else { return self.cancellation.check(step.component) };
        let root = &self.round.workspace.root;
        let run = HookRun {
            root,
            hook,
            component: &component.name,
            variables: &self.round.ctx.variables,
            trace: match self.round.mode {
                Mode::Trace(file) if step.is_named => Some(file),
                _ => None,
            },
        };
        let cancelled = self.cancellation.cancelled(step.component);
        let running = hooks::run(run, &self.round.ctx.events, cancelled);
        self.hook_activity.started(step.component);
        let ended = tokio::select! {
            ended = self.round.timed(component, name, running) => ended,
            never = hook_outputs::heartbeat(root, component) => match never {},
        };
        self.hook_activity.ended(step.component);
        self.round.trees.invalidate();
        self.cancellation.check(step.component)?;
        Ok(ended?)
    }

    /// Drops what a step came to, which is to be restarted.
    pub(crate) fn reset(&self, step: StepId, was_started: bool) {
        *self.progress(step) = Progress::default();
        let id = self.round.plan.steps[step].component;
        self.hook_activity.restarted(id);
        let component = &self.round.workspace.components[id];
        for image in &component.images {
            self.reread.borrow_mut().remove(&image.name);
        }
        if component.has_hooks() && was_started {
            for problem in self.temp_dirs.borrow_mut().remove(&component.dir) {
                self.round.warn(problem);
            }
            self.round.trees.invalidate_path(Path::new(&component.dir));
            self.hook_cache.forget(component);
        }
    }

    /// Takes an image for one that the engine no longer has.
    pub(crate) fn forget_image(&self, name: &str) {
        self.builder.images.forget(name);
    }

    /// Restores what the hooks of a step that failed or was cancelled did not write.
    pub(crate) fn hooks_interrupted(&self, step: &Step) {
        let component = self.round.component(step);
        if component.has_hooks() {
            self.outputs.recover_interrupted(component);
        }
    }

    /// Removes the temporary folders that were made.
    pub(crate) fn clean_up(&self) -> Result<(), Problems> {
        let mut temp_dirs = self.temp_dirs.borrow_mut();
        let removed = temp_dirs.remove_all();
        self.round.warn_unwritable(temp_dirs.save());
        removed
    }
}
