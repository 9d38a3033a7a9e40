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
use xtask_core::staleness::engine_images::{Bases, Held, Holdings, Standing, Unproven, Verdict};
use xtask_core::staleness::fingerprint::Fingerprint;
use xtask_core::workspace::components::Image;

use crate::build::executor::{Known, Round};
use crate::engine::{Engine, EngineError, FoundImage};

/// So many images are few.
const FEW: usize = 64;

/// What a question about one image takes.
const QUESTION: Duration = Duration::from_micros(500);

/// Asks for all images, or for those of the `names` that will be known.
pub(crate) async fn ask<E: Engine>(
    engine: &E,
    names: oneshot::Receiver<BTreeSet<String>>,
) -> Result<Holdings, EngineError> {
    let started = Instant::now();
    let few = async {
        let Some(names) = names.await.ok().filter(are_few) else { return pending().await };
        sleep_until(started + QUESTION * u32::try_from(names.len()).unwrap_or(u32::MAX)).await;
        let mut holdings = Holdings::default();
        ask_for(engine, &names, &mut holdings).await?;
        Ok(holdings)
    };
    tokio::select! {
        biased;
        all = engine.holdings() => all,
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
    holdings: &mut Holdings,
) -> Result<(), EngineError> {
    let found = try_join_all(names.iter().map(|name| engine.image(name))).await?;
    for (name, found) in names.iter().zip(found) {
        holdings.renew(name, found.and_then(|found| found.held));
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
    ) -> Result<Verdict, EngineError> {
        loop {
            let verdict = {
                let known = self.known.borrow();
                let standing = |held: &Held| known.standing(image, wanted, &held.id);
                known.holdings.verdict(&image.name, wanted, bases, standing)
            };
            match verdict {
                Err(Unproven(id)) => {
                    let is_ours = self.proves_itself(image, &id).await?;
                    let key = (image.name.clone(), id);
                    self.known.borrow_mut().proved.insert(key, is_ours);
                }
                Ok(Verdict::Stale(_)) if self.finds_recorded(image, wanted).await? => {}
                Ok(Verdict::Stale(_)) if !self.known.borrow().holdings.is_complete() => {
                    let list = async || {
                        let all = self.engine.holdings().await?;
                        self.known.borrow_mut().holdings.add_others(all);
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
            let known = self.known.borrow();
            let id = known.records.id(&image.name, wanted).map(str::to_owned);
            id.filter(|id| !known.holdings.has(id))
        };
        let Some(id) = id else { return Ok(false) };
        let held = self.engine.image(&id).await?.and_then(|found| found.held);
        let Some(held) = held.filter(|held| held.id == id) else { return Ok(false) };
        self.known.borrow_mut().holdings.add([], &held);
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
        let own = own.and_then(|name| self.known.borrow().holdings.id(name).map(str::to_owned));
        let id = own.unwrap_or_else(|| base.clone());
        let Some(found) = self.engine.image(&id).await? else { return Ok(false) };
        let base = self.facts(&found.id).await?.filter(|_| !found.has_triggers);
        Ok(base.is_some_and(|base| image.provenance.is_of(&made, Some(&base))))
    }

    async fn facts(&self, id: &str) -> Result<Option<ImageFacts>, EngineError> {
        let Some(found) = self.engine.image(id).await? else { return Ok(None) };
        // An engine that does not tell it in Docker's way proves nothing.
        let history = match self.engine.history(id).await {
            Err(EngineError::Refused(_) | EngineError::Lost(_)) => return Ok(None),
            history => history?,
        };
        let FoundImage { layers, labels, has_triggers, .. } = found;
        Ok(Some(ImageFacts { history, layers, labels, has_triggers }))
    }
}

impl Known {
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
