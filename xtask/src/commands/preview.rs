//! What a round would do, found out without doing any of it.
//!
//! All that files and the engine say is known before a round; what hooks will
//! leave behind is not. So a component whose hooks must run, and all that is made
//! from what they make, is undecided unless something else makes it stale.

use std::collections::BTreeMap;

use super::CommandError;
use super::failure::StepError;
use super::round::Round;
use super::settled::hooks_of;
use crate::core::fingerprint::{Change, Fingerprint, What};
use crate::core::holdings::Verdict;
use crate::core::plan::Step;
use crate::core::problem::{Problem, Problems};
use crate::core::reason::Reason;
use crate::core::workspace::{Component, Image};
use crate::effects::engine::Engine;
use crate::event::{Event, Expectation, PlannedImage, PlannedStep};

/// What is expected of the components and images so far.
#[derive(Default)]
struct Expected {
    /// By component: why nobody knows yet what it will leave for its dependents.
    unknown_trees: BTreeMap<usize, String>,
    /// By image.
    images: BTreeMap<String, Expectation>,
}

impl<E: Engine> Round<'_, E> {
    /// Tells what would be done.
    pub(super) async fn tell(&self) -> Result<(), CommandError> {
        let steps = self.preview().await?;
        self.events.send(Event::Planned { steps });
        self.end();
        Ok(())
    }

    /// What would be done, component by component.
    pub(super) async fn preview(&self) -> Result<Vec<PlannedStep>, CommandError> {
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
        expected: &Expected,
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
            return Ok(None);
        }
        let Some(key) = self.key(step, component)? else {
            return Ok(Some("hook inputs undeclared: decided after build-pre.sh".to_owned()));
        };
        if !self.is_asked(step) && self.settled(component, &key.fingerprint()).await?.is_some() {
            return Ok(None);
        }
        let before = self.known.borrow().records.manifest(&hooks_of(component));
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
        let mut fingerprint = None;
        let is_settled = component.inputs.is_some() && why.is_none();
        if is_settled {
            fingerprint = self.known.borrow().fingerprints.get(&image.name).cloned();
        } else if why.is_none() {
            let (wanted, reason) = self.judge(step, component, image).await?;
            reasons.splice(0..0, reason.into_iter().filter(|reason| !is_said(reason, expected)));
            self.known.borrow_mut().fingerprints.insert(image.name.clone(), wanted.clone());
            fingerprint = Some(wanted);
        } else {
            reasons.splice(0..0, self.certain(step, component, image).await?);
        }
        let expectation = match why {
            _ if !reasons.is_empty() => Expectation::Stale(reasons),
            Some(why) => Expectation::Undecided(why),
            None => Expectation::UpToDate,
        };
        Ok(PlannedImage { image: image.name.clone(), fingerprint, expectation })
    }

    /// What makes an image stale, whatever else is decided later.
    async fn certain(
        &self,
        step: &Step,
        component: &Component,
        image: &Image,
    ) -> Result<Option<Reason>, StepError> {
        let before = {
            let known = self.known.borrow();
            let Some(held) = known.holdings.get(&image.name) else {
                return Ok(Some(Reason::Missing));
            };
            known.records.manifest(&image.name).filter(|before| held.is_of(&before.fingerprint))
        };
        let Some(before) = before.filter(|_| !component.has_hooks()) else { return Ok(None) };
        let context = self.context(step, component, image).await?;
        let wanted = self.wanted(component, image, &context).await?;
        let own = format!("{}/", component.dir());
        let is_own = |change: &Change| change.what != What::Base && change.name.starts_with(&own);
        let changes: Vec<Change> =
            wanted.manifest().since(&before).into_iter().filter(is_own).collect();
        Ok((!changes.is_empty()).then_some(Reason::Changed(changes)))
    }

    /// What an image must be made from, and why it is stale, if it is.
    async fn judge(
        &self,
        step: &Step,
        component: &Component,
        image: &Image,
    ) -> Result<(Fingerprint, Vec<Reason>), StepError> {
        let context = self.context(step, component, image).await?;
        let wanted = self.wanted(component, image, &context).await?;
        let reasons = match self.decide(step, image, &wanted).await? {
            Verdict::UpToDate | Verdict::Tag { .. } => Vec::new(),
            Verdict::Stale(reason) => self.reasons(image, reason, &wanted),
        };
        Ok((wanted.fingerprint, reasons))
    }
}

/// Whether a reason is the shadow of a base that is in the plan itself.
fn is_said(reason: &Reason, expected: &Expected) -> bool {
    matches!(reason, Reason::Rebuilt { image, .. }
        if matches!(expected.images.get(image), Some(Expectation::Stale(_))))
}
