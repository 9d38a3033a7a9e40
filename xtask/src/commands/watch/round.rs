//! One round of `watch`, and the changes that come while it runs.
//!
//! The steps that a change affects are restarted with the new contents; the others go on.
//! Where the change may alter which steps there are, the affected ones only end.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;
use xtask_core::ids::ComponentId;
use xtask_core::plan::steps::Plan;
use xtask_core::staleness::engine_images::EngineImages;

use crate::build::cancel::Cancellation;
use crate::build::hook_activity::HookActivity;
use crate::build::inventory;
use crate::build::mode::Mode;
use crate::build::options::BuildOptions;
use crate::build::prepare::{Prepared, read_contexts, remove_leftovers};
use crate::build::round::Round;
use crate::build::run::run_round;
use crate::build::summary::Completed;
use crate::command_error::CommandError;
use crate::commands::watch::change_batch::{ChangeBatch, touched_by};
use crate::commands::watch::input_snapshot::states;
use crate::commands::watch::reload::Loaded;
use crate::commands::watch::session::{LastRound, Session};
use crate::commands::watch::setup::Setup;
use crate::engine::{Engine, EngineError};
use crate::event::Event;
use crate::system::temp_dirs::TempDirs;

/// How soon after a restart the next one can be. Each restart of a round doubles it, so that
/// constant writes cannot starve a build.
const RESTART_DELAY: Duration = Duration::from_millis(250);

impl<E: Engine> Session<'_, E> {
    /// Runs one round; gives the changes that it has not dealt with.
    pub(crate) async fn round(
        &mut self,
        loaded: &Arc<Loaded>,
        selected: &BTreeSet<ComponentId>,
        force: bool,
    ) -> Result<ChangeBatch, CommandError> {
        self.after_round.stop_command().await;
        let workspace = &loaded.workspace;
        let plan = Plan::new(workspace, &loaded.graph, Some(selected));
        let components: BTreeSet<_> = plan.steps.iter().map(|step| step.component).collect();
        let now = states(loaded, &self.setup.trees, components.clone()).await;
        let distrusted = self.snapshot.uncertain(workspace);
        self.snapshot.set_before_hooks(workspace, &now, &components);
        let _lock = self.setup.ctx.lock("watch").await?;
        let prepared = Prepared {
            workspace: Arc::clone(workspace),
            reading: self.setup.options.reading.clone(),
            plan,
            trees: Arc::clone(&self.setup.trees),
            cancellation: Cancellation::new(self.setup.ctx.interrupt.clone()),
            hook_activity: HookActivity::new(self.last_round.steady_in(workspace)),
            temp_dirs: RefCell::new(TempDirs::read(&self.setup.ctx.root)),
            distrusted,
        };
        let engine_images = match self.prepare(&prepared).await {
            Ok(engine_images) => engine_images,
            Err(CommandError::Interrupted) => return Err(CommandError::Interrupted),
            Err(error) => {
                self.snapshot.forget(workspace, &components);
                self.report(&error);
                return Ok(ChangeBatch::default());
            }
        };
        let Setup { engine, ctx, registry, options, .. } = *self.setup;
        let jobs = options.jobs;
        let how = BuildOptions { keep_going: true, force, jobs, ..BuildOptions::default() };
        let round = Round::new(&prepared, engine, registry, &how, Mode::Build, ctx);
        drop(self.changes.take_scratch());
        let running = Box::pin(run_round(&round, &prepared, engine_images, None));
        let (completed, batch) = self.listen(running, &prepared, loaded).await;
        drop(round);
        self.round_ended(completed, batch, prepared, loaded)
    }

    /// Removes what a killed build left, reads the contexts, and asks the engine.
    async fn prepare(&mut self, prepared: &Prepared) -> Result<EngineImages, CommandError> {
        let Prepared { workspace, plan, trees, temp_dirs, .. } = prepared;
        {
            let mut temp_dirs = temp_dirs.borrow_mut();
            temp_dirs.check(workspace, &plan.components_read())?;
            for dir in remove_leftovers(&mut temp_dirs, &self.setup.ctx.events)? {
                trees.invalidate_path(Path::new(&dir));
            }
        }
        tokio::task::block_in_place(|| {
            read_contexts(workspace, plan, trees, &self.setup.ctx.events)
        });
        Ok(self.engine_images(prepared).await?)
    }

    /// What the engine has. Images that are not inspected now are taken to be as they were.
    async fn engine_images(&mut self, prepared: &Prepared) -> Result<EngineImages, EngineError> {
        let names = prepared.plan.image_names(&prepared.workspace);
        match self.last_round.engine_images.take() {
            Some(mut engine_images)
                if inventory::are_inspected(
                    self.setup.engine,
                    &prepared.workspace.root,
                    &names,
                ) =>
            {
                inventory::inspect_all(self.setup.engine, &names, &mut engine_images).await?;
                Ok(engine_images)
            }
            _ => self.setup.engine.engine_images().await,
        }
    }

    /// Restarts the steps that changes affect while a round runs, or ends them where the plan
    /// is obsolete; gives the changes that are left for the next round.
    async fn listen(
        &mut self,
        running: impl Future<Output = Completed>,
        prepared: &Prepared,
        loaded: &Arc<Loaded>,
    ) -> (Completed, ChangeBatch) {
        let Prepared { workspace, plan, cancellation, hook_activity, .. } = prepared;
        let steps: BTreeSet<_> = plan.steps.iter().map(|step| step.component).collect();
        let in_steps = |components: &BTreeSet<ComponentId>| -> BTreeSet<ComponentId> {
            loaded.graph.dependents(components).intersection(&steps).copied().collect()
        };
        // Whether this round builds everything that a change of a component makes stale.
        let is_settled = |component: &ComponentId| {
            let dependents = loaded.watched_dependents(&[*component].into());
            dependents.is_subset(&steps)
        };
        let (mut batch, mut settled) = (ChangeBatch::default(), ChangeBatch::default());
        let (mut not_before, mut delay) = (Instant::now(), RESTART_DELAY);
        tokio::pin!(running);
        let completed = loop {
            tokio::select! {
                completed = &mut running => break completed,
                request = self.requests.next() => {
                    self.requests.pending = Some(request);
                    continue;
                }
                () = self.changes.collect(&mut batch, not_before) => {}
            }
            batch.mark_hooks(workspace, hook_activity, &self.setup.trees);
            let touched = batch.touched_by_others(workspace);
            let now = states(loaded, &self.setup.trees, in_steps(&touched)).await;
            let changed = self.snapshot.changed(workspace, &now);
            let outdated = in_steps(&changed);
            debug!(?batch, ?changed, ?outdated, "changes during the round");
            if batch.needs_reload(workspace) {
                cancellation.give_up(&outdated);
                continue;
            }
            if !outdated.is_empty() {
                self.snapshot.set_before_hooks(workspace, &now, &outdated);
                self.announce_changes(&batch, loaded, &changed, &touched);
                cancellation.restart(&outdated);
                not_before = Instant::now() + delay;
                delay *= 2;
            }
            // What changed and changed back may be in an image.
            let restored = in_steps(&touched).difference(&outdated).copied().collect();
            self.snapshot.mark_uncertain(workspace, &restored);
            let dealt_with = touched.iter().copied().filter(is_settled).collect();
            settled.merge(batch.split_off(workspace, &dealt_with));
        };
        batch.mark_hooks(workspace, hook_activity, &self.setup.trees);
        if steps.iter().any(|component| cancellation.is_outdated(*component)) {
            batch.merge(settled);
        }
        (completed, batch)
    }

    /// Notes what a round came to; gives the changes that are left for the next one.
    fn round_ended(
        &mut self,
        completed: Completed,
        mut batch: ChangeBatch,
        prepared: Prepared,
        loaded: &Loaded,
    ) -> Result<ChangeBatch, CommandError> {
        let Prepared { workspace, plan, cancellation, hook_activity, .. } = prepared;
        let components: BTreeSet<_> = plan.steps.iter().map(|step| step.component).collect();
        // A change during a step may or may not be in its image.
        let touched = loaded.graph.dependents(&batch.touched_by_others(&workspace));
        self.snapshot
            .mark_uncertain(&workspace, &touched.intersection(&components).copied().collect());
        self.snapshot.mark_uncertain(&workspace, &completed.inexact);
        let is_outdated = |component: &&ComponentId| cancellation.is_outdated(**component);
        let outdated = components.iter().filter(is_outdated).copied().collect();
        self.snapshot.forget(&workspace, &outdated);
        // `generated/` and `dependency/` are gone again.
        for component in components.iter().map(|id| &workspace.components[*id]) {
            if component.has_hooks() {
                self.setup.trees.invalidate_path(Path::new(&component.dir));
            }
        }
        match &completed.result {
            Err(CommandError::Interrupted) => return Err(CommandError::Interrupted),
            Ok(()) | Err(CommandError::Failed) => {}
            Err(error) => {
                self.snapshot.forget(&workspace, &components);
                self.report(error);
            }
        }
        self.snapshot.hooks_completed(&workspace, &completed.succeeded());
        // Another component may depend on what was built because of a change whose event is
        // still to come.
        let mut outside = loaded.watched_dependents(&completed.renewed());
        outside.retain(|component| !components.contains(component));
        if !outside.is_empty() {
            self.snapshot.forget(&workspace, &outside);
            batch.request_recheck();
        }
        if !self.snapshot.uncertain(&workspace).is_empty() {
            batch.request_recheck();
        }
        self.note_failures(&completed, &workspace);
        // A scratch file may have vanished or changed while it was sent.
        let mut scratched = BTreeSet::new();
        for path in self.changes.take_scratch() {
            scratched.extend(touched_by(&path, &workspace));
        }
        scratched.retain(|component| completed.misread.contains(component));
        if !scratched.is_empty() {
            self.snapshot.forget(&workspace, &scratched);
            batch.request_recheck();
        }
        let built = completed.built(&workspace);
        self.after_round.round_ended(completed.result.is_ok(), built);
        self.last_round = LastRound::new(workspace, hook_activity, completed.engine_images);
        Ok(batch)
    }

    /// Says what changed: the components that changed themselves, or else those that their
    /// dependencies changed.
    pub(crate) fn announce_changes(
        &self,
        batch: &ChangeBatch,
        loaded: &Loaded,
        changed: &BTreeSet<ComponentId>,
        touched: &BTreeSet<ComponentId>,
    ) {
        let direct: BTreeSet<ComponentId> = changed.intersection(touched).copied().collect();
        let components = if direct.is_empty() { changed } else { &direct };
        self.setup.ctx.events.send(Event::FilesChanged {
            paths: batch.paths_to_print(&loaded.workspace, components),
            components: components.iter().map(|component| loaded.name(*component)).collect(),
        });
    }
}
