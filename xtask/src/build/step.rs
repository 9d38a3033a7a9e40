//! The parts of one component's step.
//!
//! It begins with all that its images need: its dependencies are put under
//! `dependency/` and its `build-pre.sh` runs. Its images follow, side by side where
//! they are not made from each other, and then its `build-post.sh`. Only hooks need
//! the dependencies on disk; for a component without a `build-pre.sh` they are streamed
//! into the context, and copied only for its `build-post.sh`. A component that was settled before has
//! nothing to do in any of its parts.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use xtask_core::context::spec::ContextSpec;
use xtask_core::plan::steps::{Step, Task, TaskKind};
use xtask_core::workspace::components::Component;

use crate::build::executor::Round;
use crate::build::hook_cache::Key;
use crate::build::hook_outputs::Before;
use crate::build::mode::{ContextCapture, Mode};
use crate::build::step_error::{StepError, tree_error};
use crate::engine::Engine;
use crate::event::{Event, Outcome};
use crate::system::hook_outputs;
use crate::system::hooks::{self, Hook};
use crate::system::temp_dirs;

/// What is known of a step that runs.
#[derive(Default)]
pub(crate) struct StepState {
    pub(crate) started: Option<Instant>,
    /// How it ended, once it did.
    pub(crate) outcome: Option<Outcome>,
    is_settled: bool,
    has_built: bool,
    has_restored: bool,
    key: Option<Key>,
    /// The component's folder before its hooks ran.
    before: Option<Before>,
}

/// The hooks of a component, as parts.
pub(crate) const PRE_HOOK: &str = "build-pre.sh";
pub(crate) const POST_HOOK: &str = "build-post.sh";

/// News of a change may come so much later than the change, the debounce included.
const LATE: Duration = Duration::from_secs(1);

/// The name of a part under which its duration is remembered.
pub(crate) fn part_name(component: &str, part: &str) -> String {
    format!("{component}: {part}")
}

impl<E: Engine> Round<'_, E> {
    /// Runs one part, unless the round is to end.
    pub(crate) async fn part(&self, place: usize, part: &Task) -> Result<(), StepError> {
        let step = &self.plan.steps[part.step];
        self.check(step)?;
        let started = Instant::now();
        match part.kind {
            TaskKind::Begin => self.begin(part.step, step).await?,
            TaskKind::Image(image) => {
                tokio::select! {
                    made = self.image_part(part.step, step, image) => {
                        if let Err(error) = made {
                            return Err(self.explain(step, error).await);
                        }
                    }
                    () = self.stopped(step) => return self.check(step),
                }
            }
            TaskKind::End => self.end_step(part.step, step).await?,
        }
        self.took.borrow_mut().insert(place, started.elapsed());
        Ok(())
    }

    /// A step whose files change under its hands fails before it is heard that they did.
    async fn explain(&self, step: &Step, error: StepError) -> StepError {
        if self.trees.is_watched() && error.is_of_files() {
            tokio::select! {
                () = self.stopped(step) => return self.check(step).err().unwrap_or(error),
                () = tokio::time::sleep(LATE) => {}
            }
        }
        error
    }

    /// Tells of a part that does something, and remembers how long it took.
    pub(crate) async fn timed<T>(
        &self,
        component: &Component,
        part: &str,
        work: impl Future<Output = T>,
    ) -> T {
        let (component, part) = (component.name.clone(), part.to_owned());
        self.events.send(Event::PartStarted { component: component.clone(), part: part.clone() });
        let started = Instant::now();
        let ended = work.await;
        let duration = started.elapsed();
        let name = part_name(&component, &part);
        self.state.borrow_mut().records.set_duration(&name, duration);
        self.events.send(Event::PartFinished { component, part, duration });
        ended
    }

    async fn begin(&self, place: usize, step: &Step) -> Result<(), StepError> {
        let component = self.component(step);
        self.steps.borrow_mut()[place].started = Some(Instant::now());
        self.events.send(Event::StepStarted { component: component.name.clone() });
        let key = self.key(step, component)?;
        if let Some(key) = key.as_ref().filter(|_| !self.is_asked(step))
            && let Some(earlier) = self.settled(component, key).await?
            && self.restore(&earlier).await?
        {
            {
                let state = &mut self.steps.borrow_mut()[place];
                (state.is_settled, state.has_restored) = (true, !earlier.to_tag.is_empty());
            }
            self.note_settled(component, earlier);
            return Ok(());
        }
        if component.has_hooks() {
            let before = self.begin_hooks(step, component).await?;
            let state = &mut self.steps.borrow_mut()[place];
            (state.key, state.before) = (key, Some(before));
        }
        Ok(())
    }

    /// Runs a component's `build-pre.sh`, if it has one: once more if what was put aside
    /// before it may have been the user's.
    async fn begin_hooks(&self, step: &Step, component: &Component) -> Result<Before, StepError> {
        let mut is_again = false;
        loop {
            {
                let mut folders = self.temporary_folders.borrow_mut();
                folders.begin(component).map_err(StepError::File)?;
                self.warn_of(folders.save());
            }
            self.cancellation.hook_started(step.component);
            let before = self.put_outputs_aside(component);
            self.cancellation.hook_ended(step.component);
            let mut before = before?;
            if component.pre_hook.is_none() {
                return Ok(before);
            }
            self.copy_dependencies(step, component).await?;
            let ran = self.hook(step, component, PRE_HOOK, component.pre_hook.as_deref()).await;
            self.check(step)?;
            let back = match ran {
                Ok(()) => self.note_pre_outputs(component, &mut before)?,
                Err(_) => self.note_pre_failure(component),
            };
            if is_again || back.is_empty() {
                return ran.map(|()| before);
            }
            is_again = true;
            let problems = self.temporary_folders.borrow_mut().remove(&component.dir());
            if let Some(problem) = problems.into_iter().next() {
                return Err(StepError::File(problem));
            }
            self.trees.changed(Path::new(&component.dir()));
        }
    }

    /// Where what is sent for a step's images is noted, if that is all that is wanted.
    fn shown(&self, step: &Step) -> Option<&ContextCapture> {
        match self.mode {
            Mode::Show(capture) if step.is_named => Some(capture),
            _ => None,
        }
    }

    async fn image_part(&self, place: usize, step: &Step, image: usize) -> Result<(), StepError> {
        let component = self.component(step);
        let image = &component.images[image];
        if self.steps.borrow()[place].is_settled {
            let (component, image) = (component.name.clone(), image.name.clone());
            self.events.send(Event::ImageUpToDate { component, image });
            return Ok(());
        }
        if let Some(capture) = self.shown(step) {
            let context = self.context(step, component, image).await?;
            return capture.add(image, context).map_err(StepError::File);
        }
        let made = self.image(step, component, image).await?;
        let state = &mut self.steps.borrow_mut()[place];
        state.has_built |= made == Outcome::Built;
        state.has_restored |= made == Outcome::Restored;
        Ok(())
    }

    async fn end_step(&self, place: usize, step: &Step) -> Result<(), StepError> {
        let component = self.component(step);
        let is_settled = self.steps.borrow()[place].is_settled;
        if component.has_hooks() && !is_settled && self.shown(step).is_none() {
            if component.pre_hook.is_none() {
                self.copy_dependencies(step, component).await?;
            }
            self.hook(step, component, POST_HOOK, component.post_hook.as_deref()).await?;
            let (key, before) = {
                let state = &mut self.steps.borrow_mut()[place];
                (state.key.take(), state.before.take())
            };
            if let Some(before) = before {
                let is_steady = self.note_outputs(component, &before)?;
                self.cancellation.hooks_done(step.component, is_steady);
            }
            if let Some(key) = key
                && let Some(after) = self.key(step, component)?
                && after.fingerprint() == key.fingerprint()
            {
                self.warn_of(self.settle(component, &key));
            }
        }
        let outcome = {
            let state = &self.steps.borrow()[place];
            match (state.has_built, state.has_restored) {
                (true, _) => Outcome::Built,
                (false, true) => Outcome::Restored,
                (false, false) => Outcome::UpToDate,
            }
        };
        self.finish(place, outcome);
        Ok(())
    }

    async fn copy_dependencies(&self, step: &Step, component: &Component) -> Result<(), StepError> {
        let at = self.workspace.root.join(component.dir());
        let (trees, needed) = (Arc::clone(&self.trees), self.needed(step));
        let images = component.images.iter().map(|image| ContextSpec::own(component, image));
        let images: Vec<ContextSpec> = images.collect();
        let copying = tokio::task::spawn_blocking(move || {
            let parts = trees.copied(&needed, &images)?;
            temp_dirs::copy_parts(&parts, &at)
        });
        let copied = copying.await.map_err(io::Error::other).flatten();
        self.trees.forget();
        copied.map_err(|source| tree_error(component, source))
    }

    async fn hook(
        &self,
        step: &Step,
        component: &Component,
        part: &str,
        hook: Option<&str>,
    ) -> Result<(), StepError> {
        if let Some(path) = hook {
            let hook = Hook {
                root: &self.workspace.root,
                path,
                component: &component.name,
                variables: self.variables,
                trace: match self.mode {
                    Mode::Trace(file) if step.is_named => Some(file),
                    _ => None,
                },
            };
            let running = hooks::run(hook, self.events, self.stopped(step));
            self.cancellation.hook_started(step.component);
            let ended = tokio::select! {
                ended = self.timed(component, part, running) => ended,
                never = hook_outputs::give_signs(&self.workspace.root, &component.name) => {
                    match never {}
                }
            };
            self.cancellation.hook_ended(step.component);
            self.trees.forget();
            self.check(step)?;
            ended?;
        }
        self.check(step)
    }
}
