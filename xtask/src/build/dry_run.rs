//! What a round would do, found out without doing any of it.
//!
//! Everything that files and the engine say is known before a round; what hooks will write is
//! not. So a component whose hooks must run, and every image made from what they write, is
//! undecided unless something else makes it stale.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use xtask_core::ids::ComponentId;
use xtask_core::plan::steps::Step;
use xtask_core::problem::{Problem, Problems};
use xtask_core::staleness::fingerprint::{Change, IngredientKind};
use xtask_core::staleness::reason::Reason;
use xtask_core::workspace::components::{Component, Image};

use crate::build::decide::Decision;
use crate::build::hook_cache::HookCache;
use crate::build::hook_outputs::OutputTracker;
use crate::build::image::ImageBuilder;
use crate::build::round::Round;
use crate::build::step_error::StepError;
use crate::command_error::CommandError;
use crate::engine::Engine;
use crate::outcome::{ImageState, PlannedImage, PlannedStep};

/// Walks a plan in build order.
pub(crate) struct DryRun<'a, E> {
    round: &'a Round<'a, E>,
    builder: &'a ImageBuilder<'a, E>,
    hook_cache: &'a HookCache<'a, E>,
    outputs: OutputTracker<'a, E>,
    /// Why it is unknown what the dependents of a component will get of it.
    unknown_folders: BTreeMap<ComponentId, Unknown>,
    /// By image.
    expected: BTreeMap<String, ImageState>,
    /// The components whose outputs and images the hook cache has.
    cached: BTreeSet<ComponentId>,
    /// Their images that are tagged again.
    restored: BTreeSet<String>,
}

/// Why something is not known before a round.
#[derive(Clone)]
struct Unknown {
    why: String,
    /// Whether it holds for whatever depends on it, too.
    is_passed_on: bool,
}

impl<'a, E: Engine> DryRun<'a, E> {
    pub(crate) fn new(
        round: &'a Round<'a, E>,
        builder: &'a ImageBuilder<'a, E>,
        hook_cache: &'a HookCache<'a, E>,
    ) -> Self {
        Self {
            round,
            builder,
            hook_cache,
            outputs: OutputTracker { round },
            unknown_folders: BTreeMap::new(),
            expected: BTreeMap::new(),
            cached: BTreeSet::new(),
            restored: BTreeSet::new(),
        }
    }

    /// What would be done, component by component.
    pub(crate) async fn run(mut self) -> Result<Vec<PlannedStep>, CommandError> {
        let mut planned = Vec::new();
        for step in &self.round.plan.steps {
            let step = self.step(step).await;
            let wrong = |error: StepError| Problems::from(Problem::of_request(error.to_string()));
            planned.push(step.map_err(wrong)?);
        }
        Ok(planned)
    }

    async fn step(&mut self, step: &Step) -> Result<PlannedStep, StepError> {
        let component = self.round.component(step);
        if let Some(problem) = component.problems.first() {
            return Ok(self.broken(step, component, problem));
        }
        let unknown = self.unknown(step, component).await?;
        let undecided = unknown.as_ref().map(|unknown| unknown.why.clone());
        if let Some(unknown) = unknown {
            self.unknown_folders.insert(step.component, unknown);
        } else if component.post_hook.is_some() && component.inputs.is_none() {
            let why = format!("decided after {}'s build-post.sh", component.name);
            self.unknown_folders.insert(step.component, Unknown { why, is_passed_on: true });
        }
        let mut images = Vec::new();
        for image in self.round.images(step) {
            let planned = self.image(step, image, undecided.as_ref()).await?;
            self.expected.insert(image.name.clone(), planned.state.clone());
            images.push(planned);
        }
        Ok(PlannedStep { component: component.name.clone(), hooks: undecided, images })
    }

    /// The step of a component that cannot be built.
    fn broken(&mut self, step: &Step, component: &Component, problem: &Problem) -> PlannedStep {
        let why = format!("{} cannot be built", component.name);
        self.unknown_folders.insert(step.component, Unknown { why, is_passed_on: true });
        let undecided = format!("cannot be built: {problem}");
        let images = component.images.iter().map(|image| {
            let state = ImageState::Undecided { undecided: undecided.clone() };
            self.expected.insert(image.name.clone(), state.clone());
            PlannedImage { image: image.name.clone(), fingerprint: None, state }
        });
        let images = images.collect();
        PlannedStep { component: component.name.clone(), hooks: Some(undecided), images }
    }

    /// Why it is unknown what the component's images will be made from.
    async fn unknown(
        &mut self,
        step: &Step,
        component: &Component,
    ) -> Result<Option<Unknown>, StepError> {
        let of_dependency = step.dependencies.iter().find_map(|dependency| {
            let unknown = self.unknown_folders.get(dependency)?;
            let name = &self.round.workspace.components[*dependency].name;
            let why = if unknown.is_passed_on {
                unknown.why.clone()
            } else {
                format!("decided after {name}'s hooks")
            };
            Some(Unknown { why, is_passed_on: true })
        });
        if of_dependency.is_some() {
            return Ok(of_dependency);
        }
        if component.pre_hook.is_none() && component.inputs.is_none() {
            self.hide_outputs(component)?;
            return Ok(None);
        }
        let own = |what: String| {
            let why = format!("{what}: decided after build-pre.sh");
            Ok(Some(Unknown { why, is_passed_on: false }))
        };
        let Some(key) = self.hook_cache.key(step, component)? else {
            return own("hook inputs undeclared".to_owned());
        };
        if !self.round.runs_hooks_anyway(step)
            && let Some(hit) = self.hook_cache.find(component, &key).await?
        {
            self.restored.extend(hit.to_restore.iter().map(|(image, _)| image.name.clone()));
            self.hook_cache.expect(component, hit);
            self.cached.insert(step.component);
            // From the same inputs a builder may make the same base again.
            return Ok(self.unsettled_base(step).map(|base| Unknown {
                why: format!("decided after {base}"),
                is_passed_on: false,
            }));
        }
        match self.hook_cache.changes(component, &key) {
            changes if changes.is_empty() => own("hooks must run".to_owned()),
            changes => own(Reason::Changed { changes }.to_string()),
        }
    }

    /// A base of the component's images whose id is not known yet.
    fn unsettled_base(&self, step: &Step) -> Option<&'a str> {
        let uses = self.round.images(step).flat_map(|image| &image.uses);
        let mut bases = uses.filter_map(|used| used.local.as_deref());
        bases.find(|base| {
            let state = self.expected.get(*base);
            matches!(state, Some(ImageState::Stale { .. } | ImageState::Undecided { .. }))
        })
    }

    /// A build puts aside what a component's `build-post.sh` left.
    fn hide_outputs(&self, component: &Component) -> Result<(), StepError> {
        let (trees, dir) = (self.round.trees, component.dir.clone());
        let outputs = trees.outputs(&dir);
        if !outputs.is_empty() {
            let found = trees.component_files(&dir).map_err(StepError::File)?;
            let (_, to_move) = self.outputs.select_to_move(component, &found, &outputs)?;
            trees.hide_outputs(&dir, to_move);
        }
        Ok(())
    }

    async fn image(
        &self,
        step: &Step,
        image: &Image,
        undecided: Option<&String>,
    ) -> Result<PlannedImage, StepError> {
        let component = self.round.component(step);
        let planned =
            |fingerprint, state| PlannedImage { image: image.name.clone(), fingerprint, state };
        if self.cached.contains(&step.component) {
            let state = match undecided {
                Some(why) => ImageState::Undecided { undecided: why.clone() },
                None if self.restored.contains(&image.name) => ImageState::Restored,
                None => ImageState::UpToDate,
            };
            return Ok(planned(self.builder.images.fingerprint(&image.name), state));
        }
        let (mut reasons, undecided_base) = self.of_bases(image);
        if let Some(why) = undecided.cloned().or(undecided_base) {
            reasons.splice(0..0, self.certain_reason(step, image).await?);
            let is_stale = !reasons.is_empty();
            let state = if is_stale {
                ImageState::Stale { reasons }
            } else {
                ImageState::Undecided { undecided: why }
            };
            return Ok(planned(None, state));
        }
        let context = self.builder.context(step, image).await?;
        let expected = self.builder.expected(component, image, &context).await?;
        let decision = self.builder.decide(step, image, &expected).await?;
        self.builder.images.set_fingerprint(&image.name, expected.fingerprint.clone());
        let state = match (decision, reasons.first()) {
            (Decision::Build(found), _) => {
                let found = found.into_iter().filter(|reason| !self.is_said(reason));
                reasons.splice(0..0, found);
                ImageState::Stale { reasons }
            }
            // From the same inputs a builder may make the same base again.
            (_, Some(Reason::BaseRebuilt { image, .. })) => {
                ImageState::Undecided { undecided: format!("decided after {image}") }
            }
            (Decision::Restore { id }, _) => {
                self.builder.images.expect_restored(image, &id);
                ImageState::Restored
            }
            (Decision::UpToDate, _) => ImageState::UpToDate,
        };
        Ok(planned(Some(expected.fingerprint), state))
    }

    /// What an image's bases in the plan make of it: reasons, and why it is undecided.
    fn of_bases(&self, image: &Image) -> (Vec<Reason>, Option<String>) {
        let (mut reasons, mut undecided) = (Vec::new(), None);
        for name in image.uses.iter().filter_map(|used| used.local.as_deref()) {
            match self.expected.get(name) {
                Some(ImageState::Stale { .. }) => {
                    reasons.push(Reason::BaseRebuilt { image: name.to_owned(), is_planned: true });
                }
                Some(ImageState::Undecided { .. }) if undecided.is_none() => {
                    undecided = Some(format!("decided after {name}"));
                }
                _ => {}
            }
        }
        reasons.dedup();
        (reasons, undecided)
    }

    /// What makes an image stale, whatever else is decided later.
    async fn certain_reason(
        &self,
        step: &Step,
        image: &Image,
    ) -> Result<Option<Reason>, StepError> {
        let component = self.round.component(step);
        if self.builder.images.id(&image.name).is_none() {
            return Ok(Some(Reason::Missing));
        }
        let before = self.builder.images.manifest(&image.name);
        let Some(before) = before.filter(|_| !component.has_hooks()) else { return Ok(None) };
        let context = self.builder.context(step, image).await?;
        let expected = self.builder.expected(component, image, &context).await?;
        let is_own = |change: &Change| {
            change.ingredient != IngredientKind::Base
                && Path::new(&change.name).starts_with(&component.dir)
        };
        let changes: Vec<Change> =
            expected.manifest().changes_since(&before).into_iter().filter(is_own).collect();
        Ok((!changes.is_empty()).then_some(Reason::Changed { changes }))
    }

    /// Whether a reason only repeats that of a base that is in the plan itself.
    fn is_said(&self, reason: &Reason) -> bool {
        matches!(reason, Reason::BaseRebuilt { image, .. }
            if matches!(self.expected.get(image), Some(ImageState::Stale { .. })))
    }
}
