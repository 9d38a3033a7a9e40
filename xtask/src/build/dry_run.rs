//! What a round would do, found out without doing any of it.
//!
//! All that files and the engine say is known before a round; what hooks will
//! leave behind is not. So a component whose hooks must run, and all that is made
//! from what they make, is undecided unless something else makes it stale.

use std::collections::{BTreeMap, BTreeSet};

use xtask_core::plan::steps::Step;
use xtask_core::problem::{Problem, Problems};
use xtask_core::staleness::engine_images::Decision;
use xtask_core::staleness::fingerprint::{Change, IngredientKind};
use xtask_core::staleness::reason::Reason;
use xtask_core::workspace::components::{Component, Image};

use crate::build::executor::Round;
use crate::build::hook_cache::hooks_of;
use crate::build::step_error::StepError;
use crate::command_error::CommandError;
use crate::engine::Engine;
use crate::event::{Event, Expectation, PlannedImage, PlannedStep};

/// What is expected of the components and images so far.
#[derive(Default)]
struct Expected {
    /// By component: why nobody knows yet what it will leave for its dependents.
    unknown_trees: BTreeMap<usize, String>,
    /// By image.
    images: BTreeMap<String, Expectation>,
    /// The images of components whose hooks are skipped that get their names back.
    restored: BTreeSet<String>,
}

impl<E: Engine> Round<'_, E> {
    /// Tells what would be done.
    pub(crate) async fn tell(&self) -> Result<(), CommandError> {
        let steps = self.preview().await?;
        self.events.send(Event::Planned { steps });
        // That saves time, and nothing else depends on it.
        drop(self.keep_digests());
        Ok(())
    }

    /// What would be done, component by component.
    pub(crate) async fn preview(&self) -> Result<Vec<PlannedStep>, CommandError> {
        let mut expected = Expected::default();
        let mut steps = Vec::new();
        for step in &self.plan.steps {
            let previewed = self.preview_step(step, &mut expected).await;
            let wrong = |error: StepError| Problems::from(Problem::of_request(error.to_string()));
            steps.push(previewed.map_err(wrong)?);
        }
        Ok(steps)
    }

    async fn preview_step(
        &self,
        step: &Step,
        expected: &mut Expected,
    ) -> Result<PlannedStep, StepError> {
        let component = self.component(step);
        let undecided = self.undecided(step, component, expected).await?;
        if let Some(why) = &undecided {
            expected.unknown_trees.insert(step.component, why.clone());
        } else if component.post_hook.is_some() && component.inputs.is_none() {
            let why = format!("decided after {}'s build-post.sh", component.name);
            expected.unknown_trees.insert(step.component, why);
        }
        let mut images = Vec::new();
        for image in step.images.iter().map(|image| &component.images[image.place]) {
            let planned = self.preview_image(step, image, undecided.as_ref(), expected).await?;
            expected.images.insert(image.name.clone(), planned.expectation.clone());
            images.push(planned);
        }
        Ok(PlannedStep { component: component.name.clone(), hooks: undecided, images })
    }

    /// Why it is not known what the component's images will be made from.
    async fn undecided(
        &self,
        step: &Step,
        component: &Component,
        expected: &mut Expected,
    ) -> Result<Option<String>, StepError> {
        let unknown = step.dependencies.iter().find_map(|place| {
            let why = expected.unknown_trees.get(place)?;
            let name = &self.workspace.components[*place].name;
            let is_passed_on = why.starts_with("decided after");
            Some(if is_passed_on { why.clone() } else { format!("decided after {name}'s hooks") })
        });
        if unknown.is_some() {
            return Ok(unknown);
        }
        if component.pre_hook.is_none() && component.inputs.is_none() {
            // A build puts aside what its build-post.sh left.
            let dir = component.dir();
            let outputs = self.trees.outputs(&dir);
            if !outputs.is_empty() {
                let found = self.trees.component(&dir).map_err(StepError::File)?;
                let (_, to_move) = self.choose(component, &found, &outputs)?;
                self.trees.hide(&dir, to_move);
            }
            return Ok(None);
        }
        let Some(key) = self.key(step, component)? else {
            return Ok(Some("hook inputs undeclared: decided after build-pre.sh".to_owned()));
        };
        if !self.is_asked(step)
            && let Some(settled) = self.settled(component, &key).await?
        {
            for (image, id) in &settled.to_tag {
                self.state.borrow_mut().engine_images.retag(id, &image.name);
                expected.restored.insert(image.name.clone());
            }
            self.note_settled(component, settled);
            return Ok(None);
        }
        let before = self.state.borrow().records.manifest(&hooks_of(component));
        let changes = before.map(|before| key.manifest().since(&before)).unwrap_or_default();
        let what = if changes.is_empty() {
            "hooks must run".to_owned()
        } else {
            Reason::Changed(changes).to_string()
        };
        Ok(Some(format!("{what}: decided after build-pre.sh")))
    }

    async fn preview_image(
        &self,
        step: &Step,
        image: &Image,
        undecided: Option<&String>,
        expected: &Expected,
    ) -> Result<PlannedImage, StepError> {
        let component = self.component(step);
        let mut reasons = Vec::new();
        let mut why = undecided.cloned();
        for name in image.uses.iter().filter_map(|used| self.local_name(used)) {
            match expected.images.get(name) {
                Some(Expectation::Stale(_)) => {
                    reasons.push(Reason::Rebuilt { image: name.to_owned(), is_planned: true });
                }
                Some(Expectation::Undecided(_)) if why.is_none() => {
                    why = Some(format!("decided after {name}"));
                }
                _ => {}
            }
        }
        reasons.dedup();
        let planned = |fingerprint, expectation| {
            Ok(PlannedImage { image: image.name.clone(), fingerprint, expectation })
        };
        if let Some(why) = why {
            reasons.splice(0..0, self.certain(step, component, image).await?);
            let is_stale = !reasons.is_empty();
            let expectation =
                if is_stale { Expectation::Stale(reasons) } else { Expectation::Undecided(why) };
            return planned(None, expectation);
        }
        if component.inputs.is_some() {
            // Its hooks are skipped, so it is what it was with them.
            let fingerprint = self.state.borrow().fingerprints.get(&image.name).cloned();
            let is_restored = expected.restored.contains(&image.name);
            return planned(
                fingerprint,
                if is_restored { Expectation::Restored } else { Expectation::UpToDate },
            );
        }
        let context = self.context(step, component, image).await?;
        let wanted = self.wanted(component, image, &context).await?;
        let verdict = self.decide(step, image, &wanted).await?;
        self.state.borrow_mut().fingerprints.insert(image.name.clone(), wanted.fingerprint.clone());
        let expectation = match (verdict, reasons.first()) {
            (Decision::Stale(reason), _) => {
                let found = self.reasons(image, reason, &wanted).into_iter();
                reasons.splice(0..0, found.filter(|reason| !is_said(reason, expected)));
                Expectation::Stale(reasons)
            }
            // From the same things a builder may make the same image again.
            (_, Some(Reason::Rebuilt { image, .. })) => {
                Expectation::Undecided(format!("decided after {image}"))
            }
            (Decision::Tag { id }, _) => {
                self.state.borrow_mut().engine_images.retag(&id, &image.name);
                Expectation::Restored
            }
            (Decision::UpToDate, _) => Expectation::UpToDate,
        };
        planned(Some(wanted.fingerprint), expectation)
    }

    /// What makes an image stale, whatever else is decided later.
    async fn certain(
        &self,
        step: &Step,
        component: &Component,
        image: &Image,
    ) -> Result<Option<Reason>, StepError> {
        let before = {
            let state = self.state.borrow();
            let Some(held) = state.engine_images.get(&image.name) else {
                return Ok(Some(Reason::Missing));
            };
            state.records.manifest(&image.name).filter(|before| held.is_of(&before.fingerprint))
        };
        let Some(before) = before.filter(|_| !component.has_hooks()) else { return Ok(None) };
        let context = self.context(step, component, image).await?;
        let wanted = self.wanted(component, image, &context).await?;
        let own = format!("{}/", component.dir());
        let is_own =
            |change: &Change| change.what != IngredientKind::Base && change.name.starts_with(&own);
        let changes: Vec<Change> =
            wanted.manifest().since(&before).into_iter().filter(is_own).collect();
        Ok((!changes.is_empty()).then_some(Reason::Changed(changes)))
    }
}

/// Whether a reason is the shadow of a base that is in the plan itself.
fn is_said(reason: &Reason, expected: &Expected) -> bool {
    matches!(reason, Reason::Rebuilt { image, .. }
        if matches!(expected.images.get(image), Some(Expectation::Stale(_))))
}
