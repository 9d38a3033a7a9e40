//! What the engine has, before a round.
//!
//! Listing images takes an engine 0.1 ms for each image that it holds, whoever made it
//! (Docker 20.10); inspecting one takes half a millisecond. So all images are listed, and in
//! a small round, once the list takes longer than inspecting its images would, those are
//! inspected as well: the first answer counts.

use std::collections::BTreeSet;
use std::future::pending;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use xtask_core::staleness::engine_images::EngineImages;

use crate::engine::{Engine, EngineError};

/// Up to this many images are inspected one by one.
const FEW: usize = 64;

/// How long it takes to inspect one image.
const INSPECTION: Duration = Duration::from_micros(500);

/// Lists all images, or inspects those of the `names`, which arrive later.
pub(crate) async fn list_or_inspect<E: Engine>(
    engine: &E,
    names: oneshot::Receiver<BTreeSet<String>>,
) -> Result<EngineImages, EngineError> {
    let started = Instant::now();
    let few = async {
        let Some(names) = names.await.ok().filter(are_few) else { return pending().await };
        sleep_until(started + INSPECTION * u32::try_from(names.len()).unwrap_or(u32::MAX)).await;
        let mut engine_images = EngineImages::default();
        inspect_all(engine, &names, &mut engine_images).await?;
        Ok(engine_images)
    };
    tokio::select! {
        biased;
        all = engine.engine_images() => all,
        few = few => few,
    }
}

/// Whether these are few enough to be inspected one by one.
pub(crate) fn are_few(names: &BTreeSet<String>) -> bool {
    names.len() <= FEW
}

/// Inspects these images one by one.
pub(crate) async fn inspect_all<E: Engine>(
    engine: &E,
    names: &BTreeSet<String>,
    engine_images: &mut EngineImages,
) -> Result<(), EngineError> {
    let found = try_join_all(names.iter().map(|name| engine.image(name))).await?;
    for (name, found) in names.iter().zip(found) {
        engine_images.set_latest(name, found.and_then(|found| found.held));
    }
    Ok(())
}
