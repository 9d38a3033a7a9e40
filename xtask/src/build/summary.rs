//! What a round came to: for people, for whoever follows it up, and for other rounds.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use xtask_core::plan::schedule::critical_path;
use xtask_core::plan::steps::Task;
use xtask_core::staleness::engine_images::EngineImages;

use crate::build::executor::Round;
use crate::build::step::StepState;
use crate::engine::Engine;
use crate::event::{Event, Outcome, Summary};
use crate::system::post_build_command::Built;
use crate::system::records::write_memory;
use crate::system::state;

impl<E: Engine> Round<'_, E> {
    /// What the engine holds now.
    pub(crate) fn into_holdings(self) -> EngineImages {
        self.state.into_inner().engine_images
    }

    /// The places of the components that hold other images now.
    pub(crate) fn renewed(&self) -> BTreeSet<usize> {
        let steps = self.steps.borrow();
        let all = self.plan.steps.iter().zip(steps.iter());
        let is_renewed =
            |state: &StepState| matches!(state.outcome, Some(Outcome::Built | Outcome::Restored));
        all.filter(|(_, state)| is_renewed(state)).map(|(step, _)| step.component).collect()
    }

    /// The places of the components that are as they should be.
    pub(crate) fn succeeded(&self) -> BTreeSet<usize> {
        let steps = self.steps.borrow();
        let all = self.plan.steps.iter().zip(steps.iter());
        let is_good = |state: &StepState| state.outcome.as_ref().is_some_and(Outcome::is_good);
        all.filter(|(_, state)| is_good(state)).map(|(step, _)| step.component).collect()
    }

    /// What was built, when it is over.
    pub(crate) fn built(&self) -> Built {
        let steps = self.steps.borrow();
        let all = self.plan.steps.iter().zip(steps.iter());
        let built = all.filter(|(_, state)| state.outcome == Some(Outcome::Built));
        let mut found = Built::default();
        for component in built.map(|(step, _)| self.component(step)) {
            found.components.push(component.name.clone());
            found.images.extend(component.images.iter().map(|image| image.name.clone()));
        }
        found
    }

    /// Remembers what did not succeed, for `--failed`; tells whether anything failed.
    pub(crate) fn note_failures(&self) -> bool {
        let steps = self.steps.borrow();
        let records = &mut self.state.borrow_mut().records;
        for (step, state) in self.plan.steps.iter().zip(steps.iter()) {
            let is_done = state.outcome.as_ref().is_some_and(Outcome::is_good);
            records.set_unfinished(&self.component(step).name, !is_done);
        }
        steps.iter().any(|state| state.outcome == Some(Outcome::Failed))
    }

    pub(crate) fn summary(&self, parts: &[Task], duration: Duration) -> Summary {
        let steps = self.steps.borrow();
        let count = |wanted: fn(&Outcome) -> bool| {
            steps.iter().filter(|state| state.outcome.as_ref().is_some_and(wanted)).count()
        };
        let took = self.took.borrow();
        let took: Vec<Duration> =
            (0..parts.len()).map(|place| took.get(&place).copied().unwrap_or_default()).collect();
        let needs: Vec<Vec<usize>> = parts.iter().map(|part| part.needs.clone()).collect();
        let (path, critical_duration) = critical_path(&needs, &took);
        let busy = took.iter().sum::<Duration>().as_secs_f64() / duration.as_secs_f64().max(1e-9);
        let mut critical_path: Vec<String> = path
            .into_iter()
            .filter(|place| took[*place] > Duration::ZERO)
            .map(|place| self.component(&self.plan.steps[parts[place].step]).name.clone())
            .collect();
        critical_path.dedup();
        Summary {
            built: count(|outcome| *outcome == Outcome::Built),
            restored: count(|outcome| *outcome == Outcome::Restored),
            up_to_date: count(|outcome| *outcome == Outcome::UpToDate),
            failed: count(|outcome| *outcome == Outcome::Failed),
            cancelled: count(|outcome| *outcome == Outcome::Cancelled),
            outdated: count(|outcome| *outcome == Outcome::Outdated),
            not_tried: count(|outcome| matches!(outcome, Outcome::NotTried { .. })),
            duration,
            critical_path,
            critical_duration,
            busy,
        }
    }

    /// Keeps what was learned.
    pub(crate) fn end(&self) {
        self.warn_of(self.state.borrow_mut().records.write());
        self.warn_of(self.keep_digests());
        self.warn_of(self.store.borrow().tidy());
    }

    /// Keeps the digests of files that were read.
    pub(crate) fn keep_digests(&self) -> io::Result<()> {
        if self.trees.is_watched() {
            return Ok(());
        }
        self.trees.memory().map_or(Ok(()), |memory| write_memory(&self.workspace.root, &memory))
    }

    /// What is kept in `target/xtask/` may be lost, so it may also not be written. That is
    /// said once a round.
    pub(crate) fn warn_of(&self, written: io::Result<()>) {
        if let Err(error) = written
            && !self.is_warned.replace(true)
        {
            self.events.send(Event::Warning(state::unwritable(&error)));
        }
    }
}
