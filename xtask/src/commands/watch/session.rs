//! The loop of `watch`: wait for changes or a key, build what they make stale, again.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;
use tracing::debug;
use xtask_core::ids::ComponentId;
use xtask_core::problem::Problems;
use xtask_core::staleness::engine_images::EngineImages;
use xtask_core::workspace::components::Workspace;

use crate::build::hook_activity::HookActivity;
use crate::build::summary::Completed;
use crate::command_error::CommandError;
use crate::commands::watch::after_round::AfterRound;
use crate::commands::watch::change_batch::ChangeBatch;
use crate::commands::watch::changes::Changes;
use crate::commands::watch::image_watch::ImageWatch;
use crate::commands::watch::input_snapshot::{InputSnapshot, states};
use crate::commands::watch::loop_breaker::LoopBreaker;
use crate::commands::watch::options::UserRequest;
use crate::commands::watch::reload::{LoadError, Loaded, Loader};
use crate::commands::watch::setup::Setup;
use crate::engine::Engine;
use crate::event::{Event, WatchState};
use crate::outcome::Outcome;

/// Everything between two rounds. What outlives a reload of the workspace names components by
/// name, everything else by their ids in the loaded workspace.
pub(crate) struct Session<'a, E> {
    pub(crate) setup: &'a Setup<'a, E>,
    pub(crate) changes: Changes,
    pub(crate) loader: Loader<'a, E>,
    /// None while the workspace cannot be read.
    pub(crate) loaded: Option<Arc<Loaded>>,
    /// Whether it could not be read when it was read last.
    pub(crate) is_broken: bool,
    pub(crate) snapshot: InputSnapshot,
    /// What changed while the workspace could not be read, or while `watch` was paused.
    pub(crate) postponed: ChangeBatch,
    pub(crate) requests: Requests,
    pub(crate) loop_breaker: LoopBreaker,
    pub(crate) last_round: LastRound,
    pub(crate) image_watch: ImageWatch,
    /// The components that failed and were not built since, by name.
    pub(crate) failed: BTreeSet<String>,
    pub(crate) after_round: AfterRound<'a>,
    /// Whether anything was printed since it was last said what is watched.
    pub(crate) is_dirty: bool,
}

/// What the keyboard asks for.
pub(crate) struct Requests {
    keys: Option<UnboundedReceiver<UserRequest>>,
    pub(crate) pending: Option<UserRequest>,
    is_paused: bool,
}

impl Requests {
    pub(crate) fn new(keys: Option<UnboundedReceiver<UserRequest>>) -> Self {
        Self { keys, pending: None, is_paused: false }
    }

    /// The next request; never without a keyboard.
    pub(crate) async fn next(&mut self) -> UserRequest {
        if let Some(keys) = &mut self.keys
            && let Some(request) = keys.recv().await
        {
            return request;
        }
        std::future::pending().await
    }
}

/// What is known from the last round.
#[derive(Default)]
pub(crate) struct LastRound {
    hooks: Option<(Arc<Workspace>, HookActivity)>,
    /// What the engine had at its end.
    pub(crate) engine_images: Option<EngineImages>,
}

impl LastRound {
    pub(crate) fn new(
        workspace: Arc<Workspace>,
        hook_activity: HookActivity,
        engine_images: EngineImages,
    ) -> Self {
        Self { hooks: Some((workspace, hook_activity)), engine_images: Some(engine_images) }
    }

    /// The components of a workspace whose hooks left their folder alone the last time.
    pub(crate) fn steady_in(&self, workspace: &Workspace) -> BTreeSet<ComponentId> {
        let Some((before, hook_activity)) = &self.hooks else { return BTreeSet::new() };
        let steady = hook_activity.steady().into_iter();
        steady.filter_map(|id| workspace.find(&before.components[id].name)).collect()
    }
}

impl<E: Engine> Session<'_, E> {
    /// Builds at every change, until Ctrl-C.
    pub(crate) async fn run(&mut self) -> Result<(), CommandError> {
        // Files are watched before they are read.
        self.changes.watch_structure();
        match self.try_load().await {
            Ok(()) => {}
            // Nothing that is saved mends a typing error.
            Err(LoadError::Names(problems)) => return Err(problems.into()),
            Err(error) => self.report(&error.into()),
        }
        for warning in self.changes.warnings() {
            self.setup.ctx.events.send(Event::Warning(warning));
        }
        if self.setup.options.no_initial {
            self.take_as_built().await;
        }
        let mut batch = ChangeBatch::everything();
        loop {
            self.work_off(batch).await?;
            if let Err(problem) = self.after_round.start_command(self.setup.ctx) {
                self.report(&Problems::from(problem).into());
            }
            self.announce_watching();
            batch = ChangeBatch::default();
            let (ctx, idle) = (self.setup.ctx, Instant::now());
            tokio::select! {
                () = self.changes.collect(&mut batch, idle) => {}
                request = self.requests.next() => self.requests.pending = Some(request),
                // Changes that are being collected go first, and so does a push, which makes the
                // engine report images.
                () = self.image_watch.next(), if !self.after_round.has_to_push() => if batch.is_open() {
                    self.image_watch.postpone();
                    self.changes.collect(&mut batch, idle).await;
                } else {
                    batch = self.build_taken().await?;
                },
                () = ctx.interrupt.wait() => return Ok(()),
                // A change interrupts a push, which begins again afterwards.
                pushed = self.after_round.push(ctx) => {
                    self.is_dirty = true;
                    match pushed {
                        Ok(()) | Err(CommandError::Interrupted) => {}
                        Err(error) => self.report(&error),
                    }
                }
            }
        }
    }

    /// Deals with changes and requests until there are none.
    async fn work_off(&mut self, mut batch: ChangeBatch) -> Result<(), CommandError> {
        loop {
            self.changes.check_root()?;
            if let Some((workspace, hook_activity)) = &self.last_round.hooks {
                batch.mark_hooks(workspace, hook_activity, &self.setup.trees);
            }
            batch = match self.requests.pending.take() {
                Some(request) => self.answer(request, batch).await?,
                None if batch.is_empty() => return Ok(()),
                None if self.requests.is_paused => {
                    self.postponed.merge(batch);
                    return Ok(());
                }
                None => self.build_changed(batch).await?,
            }
        }
    }

    /// Does what a key asks for; gives the changes that are left.
    async fn answer(
        &mut self,
        request: UserRequest,
        mut batch: ChangeBatch,
    ) -> Result<ChangeBatch, CommandError> {
        self.is_dirty = true;
        if let UserRequest::Pause = request {
            self.requests.is_paused = !self.requests.is_paused;
            batch.merge(std::mem::take(&mut self.postponed));
            return Ok(batch);
        }
        // Should a change ever have been missed, this finds it.
        self.setup.trees.invalidate();
        self.last_round.engine_images = None;
        self.load().await;
        let Some(loaded) = self.loaded.clone() else {
            self.postponed.merge(batch);
            return Ok(ChangeBatch::default());
        };
        self.postponed = ChangeBatch::default();
        let named = loaded.workspace.find_all(&self.setup.options.components)?;
        let force = matches!(request, UserRequest::Force);
        let selected = if force && !named.is_empty() { &named } else { &loaded.watched };
        self.round(&loaded, selected, force).await
    }

    /// Builds what changes made stale; gives the changes that came meanwhile.
    async fn build_changed(&mut self, mut batch: ChangeBatch) -> Result<ChangeBatch, CommandError> {
        batch.merge(std::mem::take(&mut self.postponed));
        debug!(?batch, "changes");
        let affected = self.affected(&batch);
        self.reload(&batch).await;
        let Some(loaded) = self.loaded.clone() else {
            self.postponed = batch;
            return Ok(ChangeBatch::default());
        };
        let workspace = &loaded.workspace;
        let touched = batch.touched(workspace);
        let mut candidates = loaded.watched_dependents(&touched);
        // What is gone has no dependents any more.
        let is_affected = |id: &ComponentId| {
            affected.as_ref().is_none_or(|names| names.contains(&workspace.components[*id].name))
        };
        candidates.extend(loaded.watched.iter().copied().filter(is_affected));
        candidates.extend(self.snapshot.uncertain(workspace).intersection(&loaded.watched));
        candidates.extend(self.snapshot.unknown(workspace).intersection(&loaded.watched));
        let now = states(&loaded, &self.setup.trees, candidates).await;
        let mut stale = self.snapshot.changed(workspace, &now);
        let (held_back, warnings) = self.loop_breaker.held_back(&batch, &loaded, &stale);
        for warning in warnings {
            self.is_dirty = true;
            self.setup.ctx.events.send(Event::Warning(warning));
        }
        debug!(?touched, ?stale, ?held_back, "compared components");
        self.snapshot.set(workspace, &now, &held_back);
        stale.retain(|component| !held_back.contains(component));
        if stale.is_empty() {
            return Ok(ChangeBatch::default());
        }
        self.is_dirty = true;
        self.image_watch.forgive();
        if batch.has_paths() {
            self.announce_changes(&batch, &loaded, &stale, &touched);
        }
        let selected = loaded.watched_dependents(&stale);
        self.round(&loaded, &selected, false).await
    }

    /// The components that changes affect in the workspace as it was read last, by name; unknown
    /// if it could not be read.
    fn affected(&self, batch: &ChangeBatch) -> Option<BTreeSet<String>> {
        let loaded = self.loaded.as_ref()?;
        let touched = batch.touched(&loaded.workspace);
        Some(loaded.watched_dependents(&touched).into_iter().map(|it| loaded.name(it)).collect())
    }

    /// Builds the images that somebody took away since the last round; gives the changes that
    /// came meanwhile.
    async fn build_taken(&mut self) -> Result<ChangeBatch, CommandError> {
        let nothing = ChangeBatch::default();
        let Some(loaded) = self.loaded.clone() else { return Ok(nothing) };
        let Some(before) = &self.last_round.engine_images else {
            // The last round could not ask the engine; this one may.
            let mut batch = nothing;
            batch.request_recheck();
            return Ok(batch);
        };
        // An engine that is away is noticed by the next round.
        let Ok(now) = self.setup.engine.engine_images().await else { return Ok(nothing) };
        if self.requests.is_paused {
            return Ok(nothing);
        }
        let (taken, warnings) =
            self.image_watch.taken(&loaded.workspace, &loaded.watched, before, &now);
        for warning in warnings {
            self.is_dirty = true;
            self.setup.ctx.events.send(Event::Warning(warning));
        }
        if taken.is_empty() {
            return Ok(nothing);
        }
        debug!(?taken, "images were taken away");
        self.is_dirty = true;
        self.last_round.engine_images = Some(now);
        self.round(&loaded, &taken, false).await
    }

    /// Reads the workspace again if changes may have altered its structure.
    async fn reload(&mut self, batch: &ChangeBatch) {
        if batch.is_first() {
            return;
        }
        if batch.is_lost() {
            self.changes.restart();
        }
        let is_obsolete = match &self.loaded {
            Some(loaded) => batch.needs_reload(&loaded.workspace),
            None => true,
        };
        if is_obsolete {
            self.load().await;
        }
    }

    async fn load(&mut self) {
        if let Err(error) = self.try_load().await {
            self.report(&error.into());
        }
    }

    async fn try_load(&mut self) -> Result<(), LoadError> {
        debug!("read the workspace");
        let was_broken = std::mem::replace(&mut self.is_broken, true);
        self.loaded = None;
        let loaded = self.loader.load(&mut self.changes).await?;
        self.is_broken = false;
        self.failed.retain(|name| loaded.workspace.find(name).is_some());
        self.loaded = Some(loaded);
        if was_broken {
            self.is_dirty = true;
            self.setup.ctx.events.send(Event::WorkspaceFixed);
        }
        Ok(())
    }

    /// Notes which components failed, and which are good again.
    pub(crate) fn note_failures(&mut self, completed: &Completed, workspace: &Workspace) {
        for (component, outcome) in &completed.outcomes {
            let name = &workspace.components[*component].name;
            if *outcome == Outcome::Failed {
                self.failed.insert(name.clone());
            } else if outcome.is_good() {
                self.failed.remove(name);
            }
        }
    }

    /// Takes every component for built from what is there now.
    async fn take_as_built(&mut self) {
        if let Some(loaded) = self.loaded.clone() {
            let all: BTreeSet<ComponentId> = loaded.workspace.components.ids().collect();
            let now = states(&loaded, &self.setup.trees, all.clone()).await;
            self.snapshot.set(&loaded.workspace, &now, &all);
        }
    }

    fn announce_watching(&mut self) {
        if std::mem::take(&mut self.is_dirty) {
            let components = self.loaded.as_ref().map_or(0, |loaded| loaded.watched.len());
            let state = WatchState {
                is_paused: self.requests.is_paused,
                is_broken: self.is_broken,
                components,
                failed: self.failed.iter().cloned().collect(),
            };
            self.setup.ctx.events.send(Event::Watching(state));
        }
    }

    /// Reports an error that does not end the loop.
    pub(crate) fn report(&mut self, error: &CommandError) {
        self.is_dirty = true;
        self.setup.ctx.events.send(Event::WatchError { message: error.to_string() });
    }
}
