//! What the engine is asked before a round: about all images that it holds, or about those
//! of the round alone.
//!
//! To list its images takes an engine as long as it has images, whosesoever they are: 0.1
//! ms for each (Docker 20.10). A question about one takes half a millisecond. So all are
//! asked for, and where there are few in the round, and the answer takes longer than
//! questions about these would, they are asked for one by one as well: what comes first
//! counts.

use std::collections::BTreeSet;
use std::future::pending;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use xtask_core::dockerfile::provenance::ImageFacts;
use xtask_core::staleness::engine_images::{
    Bases, Decision, EngineImages, Standing, TrackedImage, Unproven,
};
use xtask_core::staleness::fingerprint::Fingerprint;
use xtask_core::workspace::components::Image;

use crate::build::executor::{Round, RoundState};
use crate::engine::{Engine, EngineError, FoundImage};

/// So many images are few.
const FEW: usize = 64;

/// What a question about one image takes.
const QUESTION: Duration = Duration::from_micros(500);

/// Asks for all images, or for those of the `names` that will be known.
pub(crate) async fn ask<E: Engine>(
    engine: &E,
    names: oneshot::Receiver<BTreeSet<String>>,
) -> Result<EngineImages, EngineError> {
    let started = Instant::now();
    let few = async {
        let Some(names) = names.await.ok().filter(are_few) else { return pending().await };
        sleep_until(started + QUESTION * u32::try_from(names.len()).unwrap_or(u32::MAX)).await;
        let mut engine_images = EngineImages::default();
        ask_for(engine, &names, &mut engine_images).await?;
        Ok(engine_images)
    };
    tokio::select! {
        biased;
        all = engine.engine_images() => all,
        few = few => few,
    }
}

/// Whether these are few enough to be asked for one by one.
pub(crate) fn are_few(names: &BTreeSet<String>) -> bool {
    names.len() <= FEW
}

/// Asks for these images one by one.
pub(crate) async fn ask_for<E: Engine>(
    engine: &E,
    names: &BTreeSet<String>,
    engine_images: &mut EngineImages,
) -> Result<(), EngineError> {
    let found = try_join_all(names.iter().map(|name| engine.image(name))).await?;
    for (name, found) in names.iter().zip(found) {
        engine_images.renew(name, found.and_then(|found| found.held));
    }
    Ok(())
}

impl<E: Engine> Round<'_, E> {
    /// What is to be done about an image. What is not there under its name may be
    /// elsewhere, so the one on record, and then all that the engine holds, are asked for
    /// before that is said: an image that others are made from is in no list.
    pub(crate) async fn verdict(
        &self,
        image: &Image,
        wanted: &Fingerprint,
        bases: &Bases,
    ) -> Result<Decision, EngineError> {
        loop {
            let verdict = {
                let state = self.state.borrow();
                let standing = |held: &TrackedImage| state.standing(image, wanted, &held.id);
                state.engine_images.verdict(&image.name, wanted, bases, standing)
            };
            match verdict {
                Err(Unproven(id)) => {
                    let is_ours = self.proves_itself(image, &id).await?;
                    let key = (image.name.clone(), id);
                    self.state.borrow_mut().proved.insert(key, is_ours);
                }
                Ok(Decision::Stale(_)) if self.finds_recorded(image, wanted).await? => {}
                Ok(Decision::Stale(_)) if !self.state.borrow().engine_images.is_complete() => {
                    let list = async || {
                        let all = self.engine.engine_images().await?;
                        self.state.borrow_mut().engine_images.add_others(all);
                        Ok::<_, EngineError>(())
                    };
                    self.listed.get_or_try_init(list).await?;
                }
                Ok(verdict) => return Ok(verdict),
            }
        }
    }

    /// Whether the image on record was not known to be there, and is.
    async fn finds_recorded(
        &self,
        image: &Image,
        wanted: &Fingerprint,
    ) -> Result<bool, EngineError> {
        let id = {
            let state = self.state.borrow();
            let id = state.records.id(&image.name, wanted).map(str::to_owned);
            id.filter(|id| !state.engine_images.has(id))
        };
        let Some(id) = id else { return Ok(false) };
        let held = self.engine.image(&id).await?.and_then(|found| found.held);
        let Some(held) = held.filter(|held| held.id == id) else { return Ok(false) };
        self.state.borrow_mut().engine_images.add([], &held);
        Ok(true)
    }

    /// Whether an image that is not on record is what its Dockerfile makes.
    async fn proves_itself(&self, image: &Image, id: &str) -> Result<bool, EngineError> {
        let Some(made) = self.facts(id).await? else { return Ok(false) };
        let Some(base) = &image.provenance.base else {
            return Ok(image.provenance.is_of(&made, None));
        };
        let used = image.uses.iter().find(|used| used.reference == *base);
        let own = used.and_then(|used| self.local_name(used));
        let own =
            own.and_then(|name| self.state.borrow().engine_images.id(name).map(str::to_owned));
        let id = own.unwrap_or_else(|| base.clone());
        let Some(found) = self.engine.image(&id).await? else { return Ok(false) };
        let base = self.facts(&found.id).await?.filter(|_| !found.has_onbuild);
        Ok(base.is_some_and(|base| image.provenance.is_of(&made, Some(&base))))
    }

    async fn facts(&self, id: &str) -> Result<Option<ImageFacts>, EngineError> {
        let Some(found) = self.engine.image(id).await? else { return Ok(None) };
        // An engine that does not tell it in Docker's way proves nothing.
        let history = match self.engine.history(id).await {
            Err(EngineError::Refused(_) | EngineError::Lost(_)) => return Ok(None),
            history => history?,
        };
        let FoundImage { layers, labels, has_onbuild, .. } = found;
        Ok(Some(ImageFacts { history, layers, labels, has_onbuild }))
    }
}

impl RoundState {
    /// Whether an image with a fingerprint is one that we built: the record says so, or,
    /// where there is none, the image itself.
    fn standing(&self, image: &Image, fingerprint: &Fingerprint, id: &str) -> Standing {
        match self.records.standing(&image.name, fingerprint, id) {
            Standing::Unknown => match self.proved.get(&(image.name.clone(), id.to_owned())) {
                Some(true) => Standing::Ours,
                Some(false) => Standing::Foreign,
                None => Standing::Unknown,
            },
            standing => standing,
        }
    }
}
