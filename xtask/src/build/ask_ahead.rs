//! Asks the registry for all images that are stale, at the same time, before the first one is
//! built.
//!
//! The fingerprints of an image's bases are part of its own, and known without building them. What
//! hooks will write is not known: what depends on that is asked for later, one by one.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use xtask_core::ids::ComponentId;
use xtask_core::plan::steps::Step;
use xtask_core::staleness::fingerprint::Fingerprint;
use xtask_core::workspace::components::Image;

use crate::build::decide::Decision;
use crate::build::image::ImageBuilder;
use crate::build::step_error::StepError;
use crate::engine::Engine;

/// Asks for the images of all steps that are stale, as far as that is known. What is wrong with
/// them is said when they are built.
pub(crate) async fn ask_ahead<E: Engine>(builder: &ImageBuilder<'_, E>) {
    let mut unknown = BTreeSet::new();
    let mut stale = Vec::new();
    for step in &builder.round.plan.steps {
        if is_unknown(builder, step, &unknown) {
            unknown.insert(step.component);
            continue;
        }
        for image in builder.round.images(step) {
            if let Ok(Some(fingerprint)) = stale_fingerprint(builder, step, image).await {
                stale.push((image, fingerprint));
            }
        }
    }
    join_all(stale.iter().map(|(image, wanted)| builder.shared.ask(image, wanted))).await;
}

/// Whether it is unknown what a component's images will be made from.
fn is_unknown<E: Engine>(
    builder: &ImageBuilder<'_, E>,
    step: &Step,
    unknown: &BTreeSet<ComponentId>,
) -> bool {
    let component = builder.round.component(step);
    component.has_hooks()
        || !component.problems.is_empty()
        || step.dependencies.iter().any(|dependency| unknown.contains(dependency))
}

/// The fingerprint of an image that is stale.
async fn stale_fingerprint<E: Engine>(
    builder: &ImageBuilder<'_, E>,
    step: &Step,
    image: &Image,
) -> Result<Option<Fingerprint>, StepError> {
    let component = builder.round.component(step);
    let context = builder.context(step, image).await?;
    let expected = builder.expected(component, image, &context).await?;
    builder.images.set_fingerprint(&image.name, expected.fingerprint.clone());
    Ok(match builder.decide(step, image, &expected).await? {
        Decision::Build(_) => Some(expected.fingerprint),
        Decision::UpToDate | Decision::Restore { .. } => None,
    })
}
