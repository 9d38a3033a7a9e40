//! Pushes one image, with retries.
//!
//! A transient error (a registry that restarts, a rate limit, an internal error of a server) is
//! retried with exponential backoff. A permanent one (a wrong password, a missing permission, an
//! unknown repository) fails at once.

use std::time::{Duration, Instant};

use bollard::auth::DockerCredentials;
use bollard::query_parameters::PushImageOptionsBuilder;
use futures_util::StreamExt;

use crate::engine::api::Engine;
use crate::engine::credentials::{self, Logins};
use crate::engine::docker::DockerEngine;
use crate::engine::error::EngineError;
use crate::engine::meter::Meter;
use crate::engine::retry::is_transient;
use crate::engine::transfer::{LayerBytes, query, transfer};
use crate::event::{Event, Operation};
use crate::event_channel::Events;

const FIRST_DELAY: Duration = Duration::from_millis(500);
const MAX_DELAY: Duration = Duration::from_secs(8);

/// A request to push an image of the engine to a registry.
#[derive(Clone, Debug)]
pub(crate) struct PushRequest {
    pub(crate) image: String,
    /// `domain/namespace/image`.
    pub(crate) repository: String,
    pub(crate) tag: String,
}

impl PushRequest {
    pub(crate) fn reference(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

impl DockerEngine {
    /// Tags and pushes an image, and returns its manifest's digest. Transient errors are retried
    /// until `retry_for` after the first one, not after the start: an engine retries for a while
    /// itself before it returns an error.
    pub(crate) async fn push(
        &self,
        request: &PushRequest,
        logins: &Logins,
        retry_for: Duration,
        events: &Events,
    ) -> Result<String, EngineError> {
        self.tag(&request.image, &request.repository, &request.tag).await?;
        let login = logins.get(credentials::domain_of(&request.repository));
        let meter = Meter::new(events, None, Operation::Push, &request.reference(), None);
        let mut first_failure = None;
        let mut delay = FIRST_DELAY;
        loop {
            let error = match self.push_once(request, login, &meter).await {
                Ok(digest) => return Ok(digest),
                Err(error) => error,
            };
            let since = *first_failure.get_or_insert_with(Instant::now);
            let may_retry = matches!(&error, EngineError::Refused(text) if is_transient(text));
            if !may_retry || since.elapsed() + delay > retry_for {
                return Err(error);
            }
            events.send(Event::PushRetried {
                reference: request.reference(),
                reason: error.to_string(),
                delay,
            });
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(MAX_DELAY);
        }
    }

    async fn push_once(
        &self,
        request: &PushRequest,
        login: Option<&DockerCredentials>,
        meter: &Meter,
    ) -> Result<String, EngineError> {
        let options = PushImageOptionsBuilder::default().tag(&request.tag).build();
        let mut wait = self.waiting.begin(format!("the engine to push {}", request.reference()));
        let call = format!("/images/{}/push?{}", request.repository, query(&options)?);
        let mut statuses = wait.until(transfer(&self.address, &call, login)).await??;
        let pushed = async {
            let (mut digest, mut layers) = (None, LayerBytes::default());
            while let Some(status) = statuses.next().await {
                let status = status?;
                layers.note(&status);
                meter.set(layers.sum());
                digest = digest_in(status.status.as_deref().unwrap_or_default()).or(digest);
            }
            Ok::<_, EngineError>(digest)
        };
        // One wait for all of it: an engine that retries sends a status every second.
        wait.until(pushed)
            .await??
            .ok_or_else(|| EngineError::InvalidResponse("it has no digest".to_owned()))
    }
}

/// The digest in `v1: digest: sha256:0c3c… size: 735`. No field of the API has it.
fn digest_in(status: &str) -> Option<String> {
    let (_, rest) = status.split_once(": digest: ")?;
    let digest = rest.split(' ').next()?;
    digest.starts_with("sha256:").then(|| digest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_read_from_the_last_status() {
        let status = "v1: digest: sha256:0c3c size: 735";
        assert_eq!(digest_in(status).as_deref(), Some("sha256:0c3c"));
        assert_eq!(digest_in("Pushed"), None);
    }
}
