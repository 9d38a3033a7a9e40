//! Pushing one image, until it is there or cannot be.
//!
//! What may pass (a registry that restarts, a limit on requests, a server's own
//! error) is tried again with growing pauses; what will not pass by itself (a
//! wrong password, a missing right, an unknown repository) fails at once.

use std::time::{Duration, Instant};

use bollard::auth::DockerCredentials;
use bollard::models::PushImageInfo;
use bollard::query_parameters::PushImageOptionsBuilder;
use futures_util::StreamExt;

use super::{
    DockerEngine, Engine, EngineError, Logins, credentials, query, to_their_end, transfer,
};
use crate::engine::answer::Transfer;
use crate::engine::passing::may_pass;
use crate::event::{Event, Events};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// What is pushed where.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// The image in the engine.
    pub image: String,
    /// `domain/namespace/image`.
    pub repository: String,
    /// The tag there.
    pub tag: String,
}

impl PushRequest {
    /// The whole reference.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

impl DockerEngine {
    /// Tags and pushes an image; the answer is its manifest's digest. What may
    /// pass is tried again until `retry_for` after the first failure: an engine tries for a
    /// while by itself before it gives up.
    pub async fn push(
        &self,
        request: &PushRequest,
        logins: &Logins,
        retry_for: Duration,
        events: &Events,
    ) -> Result<String, EngineError> {
        self.tag(&request.image, &request.repository, &request.tag).await?;
        let login = logins.get(credentials::domain_of(&request.repository));
        let mut failed = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.push_once(request, login).await {
                Ok(digest) => return Ok(digest),
                Err(error) => error,
            };
            let since = *failed.get_or_insert_with(Instant::now);
            let is_passing = matches!(&error, EngineError::Refused(text) if may_pass(text));
            if !is_passing || since.elapsed() + pause > retry_for {
                return Err(error);
            }
            events.send(Event::PushRetried {
                reference: request.reference(),
                reason: error.to_string(),
                delay: pause,
            });
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn push_once(
        &self,
        request: &PushRequest,
        login: Option<&DockerCredentials>,
    ) -> Result<String, EngineError> {
        let options = PushImageOptionsBuilder::default().tag(&request.tag).build();
        let mut wait = self.waiting.begin(format!("the engine to push {}", request.reference()));
        let mut answers = if let Some(address) = &self.address {
            let path = format!("/images/{}/push?{}", request.repository, query(&options)?);
            wait.answer(transfer(address, &path, login)).await??
        } else {
            let answers =
                self.transfers.push_image(&request.repository, Some(options), login.cloned());
            let status = |info: PushImageInfo| Transfer::new(info.status);
            to_their_end(answers).map(move |it| it.map(status).map_err(EngineError::from)).boxed()
        };
        let pushed = async {
            let mut digest = None;
            while let Some(answer) = answers.next().await {
                let status = answer?.status.unwrap_or_default();
                digest = digest_in(&status).or(digest);
            }
            Ok::<_, EngineError>(digest)
        };
        // An engine that tries again by itself says so every second, and nothing else.
        wait.answer(pushed)
            .await??
            .ok_or_else(|| EngineError::Lost("the push ended without a digest".to_owned()))
    }
}

/// `v1: digest: sha256:0c3c… size: 735`: the only place that tells the digest.
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
