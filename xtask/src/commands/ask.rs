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

use super::round::Round;
use crate::core::fingerprint::Fingerprint;
use crate::core::holdings::{Bases, Holdings, Verdict};
use crate::core::workspace::Image;
use crate::effects::engine::{Engine, EngineError};

/// So many images are few.
const FEW: usize = 64;

/// What a question about one image takes.
const QUESTION: Duration = Duration::from_micros(500);

/// Asks for all images, or for those of the `names` that will be known.
pub(super) async fn ask<E: Engine>(
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
pub(super) fn are_few(names: &BTreeSet<String>) -> bool {
    names.len() <= FEW
}

/// Asks for these images one by one.
pub(super) async fn ask_for<E: Engine>(
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
    /// elsewhere, so all that the engine holds is asked for before that is said.
    pub(super) async fn verdict(
        &self,
        image: &Image,
        wanted: &Fingerprint,
        bases: &Bases,
    ) -> Result<Verdict, EngineError> {
        let verdict = || {
            let known = self.known.borrow();
            let built = known.records.id(&image.name, wanted);
            known.holdings.verdict(&image.name, wanted, bases, built)
        };
        let first = verdict();
        if !matches!(first, Verdict::Stale(_)) || self.known.borrow().holdings.is_complete() {
            return Ok(first);
        }
        let list = async || {
            let all = self.engine.holdings().await?;
            self.known.borrow_mut().holdings.add_others(all);
            Ok::<_, EngineError>(())
        };
        self.listed.get_or_try_init(list).await?;
        Ok(verdict())
    }
}
