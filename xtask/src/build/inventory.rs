//! What the engine has, before a round.
//!
//! Listing images takes an engine 0.1 ms for each image that it holds, whoever made it
//! (Docker 20.10); inspecting one takes half a millisecond. So all images are listed, and in
//! a small round, once the list takes longer than inspecting its images would, those are
//! inspected as well: the first answer counts. The containerd store takes a hundred times as long
//! to list: where that was seen ([`slow_lists`]), nothing is listed.

use std::collections::BTreeSet;
use std::future::pending;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use xtask_core::staleness::engine_images::EngineImages;

use crate::engine::{Engine, EngineError};
use crate::system::slow_lists;

/// Up to this many images are inspected one by one.
const FEW: usize = 64;

/// How long it takes to inspect one image.
const INSPECTION: Duration = Duration::from_micros(500);

/// How many images are inspected at the same time.
const AT_ONCE: usize = 32;

/// Lists all images, or inspects those of the `names`, which arrive later.
pub(crate) async fn list_or_inspect<E: Engine>(
    engine: &E,
    root: &Path,
    names: oneshot::Receiver<BTreeSet<String>>,
) -> Result<EngineImages, EngineError> {
    let started = Instant::now();
    let lists_slowly = slow_lists::is_noted(root, &engine.identity());
    let few = async {
        let are_few = |names: &BTreeSet<String>| lists_slowly || are_few(names);
        let Some(names) = names.await.ok().filter(are_few) else { return pending().await };
        if !lists_slowly {
            let inspections = u32::try_from(names.len()).unwrap_or(u32::MAX);
            sleep_until(started + INSPECTION * inspections).await;
        }
        let mut engine_images = EngineImages::default();
        inspect_all(engine, &names, &mut engine_images).await?;
        Ok(engine_images)
    };
    if lists_slowly {
        return few.await;
    }
    tokio::select! {
        biased;
        all = engine.engine_images() => all,
        few = few => few,
    }
}

/// Whether these images of a workspace are inspected rather than listed with all others.
pub(crate) fn are_inspected<E: Engine>(engine: &E, root: &Path, names: &BTreeSet<String>) -> bool {
    are_few(names) || slow_lists::is_noted(root, &engine.identity())
}

fn are_few(names: &BTreeSet<String>) -> bool {
    names.len() <= FEW
}

/// Inspects these images one by one.
pub(crate) async fn inspect_all<'n, E: Engine>(
    engine: &E,
    names: &'n BTreeSet<String>,
    engine_images: &mut EngineImages,
) -> Result<(), EngineError> {
    let inspect =
        |name: &'n String| async move { Ok::<_, EngineError>((name, engine.image(name).await?)) };
    let mut inspected = pin!(stream::iter(names).map(inspect).buffer_unordered(AT_ONCE));
    while let Some((name, found)) = inspected.try_next().await? {
        engine_images.set_latest(name, found.and_then(|found| found.held));
    }
    Ok(())
}
