//! Notices images that somebody removes or tags anew while nothing is built.
//!
//! What the engine reports says little of which image it was, so the images are listed again,
//! once it has been silent for a moment, and compared with those of the last round. An image
//! that is taken away again and again is not built again and again: two `watch`es that use the
//! same names on one engine would go round for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use xtask_core::ids::ComponentId;
use xtask_core::problem::Problem;
use xtask_core::staleness::engine_images::EngineImages;
use xtask_core::workspace::components::Workspace;

use crate::engine::Engine;

/// How long the engine must be silent.
const SILENCE: Duration = Duration::from_millis(300);

/// How often an image that was taken away is built again before a file changes.
const TRIES: usize = 3;

/// The reports of the engine.
pub(crate) struct ImageWatch {
    news: Arc<Notify>,
    /// Something was reported that was not looked at yet.
    is_pending: bool,
    /// How often each image was found to be taken away.
    taken: BTreeMap<String, usize>,
    _listening: JoinSet<()>,
}

impl ImageWatch {
    pub(crate) fn new<E: Engine>(engine: &E) -> Self {
        let news = Arc::<Notify>::default();
        let reported = Arc::clone(&news);
        let listening = engine.listen_for_images(move || reported.notify_one());
        Self { news, is_pending: false, taken: BTreeMap::new(), _listening: listening }
    }

    /// Waits until images may have changed. Nothing is lost if this is cancelled.
    pub(crate) async fn next(&mut self) {
        if !self.is_pending {
            self.news.notified().await;
            self.is_pending = true;
        }
        while tokio::time::timeout(SILENCE, self.news.notified()).await.is_ok() {}
        self.is_pending = false;
    }

    /// What was reported is looked at later.
    pub(crate) fn postpone(&mut self) {
        self.is_pending = true;
    }

    /// A file changed: what is built now is built for a reason of its own.
    pub(crate) fn forgive(&mut self) {
        self.taken.clear();
    }

    /// The components one of whose images is not the one that it was, with warnings about
    /// those that are left alone.
    pub(crate) fn taken(
        &mut self,
        workspace: &Workspace,
        watched: &BTreeSet<ComponentId>,
        before: &EngineImages,
        now: &EngineImages,
    ) -> (BTreeSet<ComponentId>, Vec<Problem>) {
        let (mut components, mut warnings) = (BTreeSet::new(), Vec::new());
        for (component, image) in workspace.images().filter(|(id, _)| watched.contains(id)) {
            let name = &image.name;
            let Some(id) = before.id(name).filter(|id| now.id(name) != Some(id)) else { continue };
            let count = self.taken.entry(name.clone()).or_default();
            *count += 1;
            if *count <= TRIES {
                tracing::debug!(image = name, id, "taken away");
                components.insert(component);
            } else if *count == TRIES + 1 {
                warnings.push(Problem::of_request(format!(
                    "image '{name}' is removed or tagged by another program again and again: it \
                     is built again once a file of it changes"
                )));
            }
        }
        (components, warnings)
    }
}
