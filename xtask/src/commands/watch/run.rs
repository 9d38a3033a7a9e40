//! One round of the loop, and what changes while it runs.
//!
//! The steps that a change affects end and begin again with the new contents; what it
//! does not affect goes on. Where there may be other steps now they only end.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use xtask_core::plan::steps::Plan;
use xtask_core::staleness::engine_images::EngineImages;
use xtask_core::workspace::components::Workspace;
use xtask_core::workspace::registry_config::RegistryConfig;

use super::{Reading, Watch, next_wish};
use crate::build::cancel::Cancellation;
use crate::build::executor::Round;
use crate::build::image_lookup;
use crate::build::mode::Mode;
use crate::build::options::BuildOptions;
use crate::build::prepare::Prepared;
use crate::build::prepare::look_around;
use crate::build::prepare::remove_leftovers;
use crate::command_error::CommandError;
use crate::commands::watch::change_batch::ChangeBatch;
use crate::commands::watch::input_snapshot::states;
use crate::engine::{Engine, EngineError};
use crate::event::Event;
use crate::system::temp_dirs::TempDirs;

/// A step that was started over is left in peace for that long, and for twice as long
/// the next time, so that one who writes all the time does not keep it from its end.
const PEACE: Duration = Duration::from_millis(250);

impl<E: Engine> Watch<'_, E> {
    /// One round, and what was heard meanwhile.
    pub(crate) async fn round(
        &mut self,
        reading: &Reading,
        selected: &BTreeSet<usize>,
        force: bool,
    ) -> Result<ChangeBatch, CommandError> {
        let (workspace, graph) = &**reading;
        self.follow_up.stop().await;
        let plan = Plan::new(workspace, graph, Some(selected));
        let places: BTreeSet<usize> = plan.steps.iter().map(|step| step.component).collect();
        let now = states(reading, &self.trees, places.clone()).await;
        self.made.begin(workspace, &now, &places);
        let _lock = self.ctx.lock("watch").await?;
        let (workspace, trees) = (Arc::clone(workspace), Arc::clone(&self.trees));
        let steady = self.steady.iter().filter_map(|name| workspace.find(name)).collect();
        let temporary_folders = RefCell::new(TempDirs::read(&self.ctx.root));
        let cancellation = Cancellation::new(steady);
        let prepared = Prepared { workspace, plan, trees, cancellation, temporary_folders };
        let workspace = &prepared.workspace;
        let engine_images = match self.look_at(&prepared).await {
            Ok(engine_images) => engine_images,
            Err(CommandError::Interrupted) => return Err(CommandError::Interrupted),
            Err(error) => {
                self.made.forget(workspace, &places);
                self.say(&error);
                return Ok(ChangeBatch::default());
            }
        };
        let options = BuildOptions { keep_going: true, force, ..self.options.build.clone() };
        let registry = self.registry.clone();
        let (engine, ctx) = (self.engine, self.ctx);
        let round = Round::new(
            &prepared,
            engine,
            engine_images,
            registry.as_ref(),
            &options,
            Mode::Build,
            ctx,
        );
        let (ended, mut batch) = self.listen(round.run(), &prepared, reading).await;
        // What came while a step ran may or may not be in its image.
        self.made.doubt(workspace, &batch.touched_by_no_hook(workspace, &prepared.cancellation));
        let is_outdated = |place: &usize| prepared.cancellation.is_outdated(*place);
        self.made.forget(workspace, &places.iter().copied().filter(is_outdated).collect());
        // What hooks made is gone.
        for component in places.iter().map(|place| &workspace.components[*place]) {
            if component.has_hooks() {
                self.trees.changed(Path::new(&component.dir()));
            }
        }
        match ended {
            Err(CommandError::Interrupted) => return Err(CommandError::Interrupted),
            Ok(()) | Err(CommandError::Failed) => {}
            Err(ref error) => {
                self.made.forget(workspace, &places);
                self.say(error);
            }
        }
        self.made.are_whole(workspace, &round.succeeded());
        let built = round.built();
        // A component that others of the round need may have changed before that was heard of.
        let mut outside = graph.dependents(&round.renewed());
        let looked_after = self.looked_after();
        outside.retain(|place| !places.contains(place) && looked_after.contains(place));
        if !outside.is_empty() {
            self.made.forget(workspace, &outside);
            batch.look_again();
        }
        self.engine_images = Some(round.into_holdings());
        let name = |place: usize| workspace.components[place].name.clone();
        self.steady = prepared.cancellation.steady().into_iter().map(name).collect();
        self.to_push.extend(built.images.iter().cloned());
        self.over = Some((ended.is_ok(), built));
        self.before = Some((prepared.workspace, prepared.cancellation));
        Ok(batch)
    }

    /// Cleans the tree, reads what the steps will look at, and asks the engine.
    async fn look_at(&mut self, prepared: &Prepared) -> Result<EngineImages, CommandError> {
        let Prepared { workspace, plan, trees, .. } = prepared;
        {
            let mut folders = prepared.temporary_folders.borrow_mut();
            folders.check(workspace, &plan.taking_part())?;
            for dir in remove_leftovers(&mut folders, &self.ctx.events)? {
                trees.changed(Path::new(&dir));
            }
        }
        tokio::task::block_in_place(|| look_around(workspace, plan, trees, &self.ctx.events));
        Ok(self.ask(prepared).await?)
    }

    /// What the engine holds. Of images that are not asked for it is known what was there
    /// earlier, and one of these is asked for when it comes to that.
    async fn ask(&mut self, prepared: &Prepared) -> Result<EngineImages, EngineError> {
        let named = self.registry.as_ref().map(RegistryConfig::names);
        let names = prepared.plan.names(&prepared.workspace, named.as_ref());
        match self.engine_images.take() {
            Some(mut engine_images) if image_lookup::are_few(&names) => {
                image_lookup::ask_for(self.engine, &names, &mut engine_images).await?;
                Ok(engine_images)
            }
            _ => self.engine.engine_images().await,
        }
    }

    /// Listens while a round runs. The steps that changes affect begin again, or end
    /// where there may be other steps now; gives what is left for the next round.
    async fn listen(
        &mut self,
        running: impl Future<Output = Result<(), CommandError>>,
        prepared: &Prepared,
        reading: &Reading,
    ) -> (Result<(), CommandError>, ChangeBatch) {
        let (workspace, graph) = &**reading;
        let steps: BTreeSet<usize> =
            prepared.plan.steps.iter().map(|step| step.component).collect();
        let debounce = self.options.debounce;
        let looked_after = self.looked_after();
        let mut batch = ChangeBatch::default();
        let mut answered = ChangeBatch::default();
        let mut is_seen = true;
        let (mut not_before, mut peace) = (Instant::now(), PEACE);
        tokio::pin!(running);
        let ended = loop {
            tokio::select! {
                ended = &mut running => break ended,
                news = self.watcher.hear(&self.scope) => {
                    self.note(&mut batch, news);
                    is_seen = false;
                    continue;
                }
                wish = next_wish(&mut self.wishes) => {
                    self.wish = Some(wish);
                    continue;
                }
                () = tokio::time::sleep_until(batch.next_look(debounce).max(not_before)), if !is_seen => {}
            }
            is_seen = batch.is_over(&self.ctx.root, debounce);
            if !is_seen {
                continue;
            }
            batch.is_answered();
            batch.find_own(workspace, &prepared.cancellation, &self.trees);
            let touched = batch.touched_by_others(workspace);
            let affected = graph.dependents(&touched).intersection(&steps).copied().collect();
            let now = states(reading, &self.trees, affected).await;
            let changed = self.made.changed(workspace, &now);
            let outdated = graph.dependents(&changed).intersection(&steps).copied().collect();
            if batch.is_lost() || batch.touches_structure(&self.ctx.root) {
                prepared.cancellation.give_up(&outdated);
                continue;
            }
            if !outdated.is_empty() {
                self.made.begin(workspace, &now, &outdated);
                self.tell(&batch, workspace, &changed, &touched);
                prepared.cancellation.start_over(&outdated);
                not_before = Instant::now() + peace;
                peace *= 2;
            }
            // What is not built in this round is still to be looked at.
            let is_answered = |place: &usize| {
                let dependents = graph.dependents(&[*place].into());
                dependents.intersection(&looked_after).all(|it| steps.contains(it))
            };
            let settled = touched.iter().copied().filter(is_answered).collect();
            answered.merge(batch.split_off(workspace, &settled));
        };
        batch.find_own(workspace, &prepared.cancellation, &self.trees);
        if steps.iter().any(|place| prepared.cancellation.is_outdated(*place)) {
            batch.merge(answered);
        }
        (ended, batch)
    }

    /// Tells what changed, and what that makes stale.
    pub(crate) fn tell(
        &self,
        batch: &ChangeBatch,
        workspace: &Workspace,
        changed: &BTreeSet<usize>,
        touched: &BTreeSet<usize>,
    ) {
        let direct: BTreeSet<usize> = changed.intersection(touched).copied().collect();
        let told = if direct.is_empty() { changed } else { &direct };
        let name = |place: &usize| workspace.components[*place].name.clone();
        self.ctx.events.send(Event::Changed {
            paths: batch.shown(workspace, told),
            components: told.iter().map(name).collect(),
        });
    }
}
