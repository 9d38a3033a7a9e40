//! Pushing one image, until it is there or cannot be.
//!
//! What may pass (a registry that restarts, a limit on requests, a server's own
//! error) is tried again with growing pauses; what will not pass by itself (a
//! wrong password, a missing right, an unknown repository) fails at once. The
//! engine tells which only in words, so the words that mean "may pass" are listed
//! here and everything else is final.

use std::time::{Duration, Instant};

use bollard::auth::DockerCredentials;
use bollard::query_parameters::PushImageOptionsBuilder;
use futures_util::StreamExt;

use super::{DockerEngine, Engine, EngineError, Logins, credentials, to_their_end};
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
    /// pass is tried again for `retry_for`.
    pub async fn push(
        &self,
        request: &PushRequest,
        logins: &Logins,
        retry_for: Duration,
        events: &Events,
    ) -> Result<String, EngineError> {
        self.tag(&request.image, &request.repository, &request.tag).await?;
        let login = logins.get(credentials::domain_of(&request.repository));
        let started = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.push_once(request, login).await {
                Ok(digest) => return Ok(digest),
                Err(error) => error,
            };
            if !may_pass(&error) || started.elapsed() + pause > retry_for {
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
        let mut answers = to_their_end(self.transfers.push_image(
            &request.repository,
            Some(options),
            login.cloned(),
        ));
        let mut digest = None;
        while let Some(answer) = answers.next().await {
            let status = answer?.status.unwrap_or_default();
            digest = digest_in(&status).or(digest);
        }
        digest.ok_or_else(|| EngineError::Lost("the push ended without a digest".to_owned()))
    }
}

/// `v1: digest: sha256:0c3c… size: 735`: the only place that tells the digest.
fn digest_in(status: &str) -> Option<String> {
    let (_, rest) = status.split_once(": digest: ")?;
    let digest = rest.split(' ').next()?;
    digest.starts_with("sha256:").then(|| digest.to_owned())
}

fn may_pass(error: &EngineError) -> bool {
    const PASSING: [&str; 14] = [
        "connection refused",
        "connection reset",
        "broken pipe",
        "no such host",
        "no route to host",
        "network is unreachable",
        "timeout",
        "timed out",
        "deadline exceeded",
        "eof",
        "http status: 5",
        "service unavailable",
        "too many requests",
        "toomanyrequests",
    ];
    let EngineError::Refused(message) = error else {
        return false;
    };
    let message = message.to_lowercase();
    PASSING.iter().any(|text| message.contains(text))
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

    fn is_passing(text: &str) -> bool {
        may_pass(&EngineError::Refused(text.to_owned()))
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let passing = [
            "Get \"http://127.0.0.1:5000/v2/\": dial tcp 127.0.0.1:5000: connect: connection refused",
            "received unexpected HTTP status: 500 Internal Server Error",
            "received unexpected HTTP status: 503 Service Unavailable",
            "toomanyrequests: slow down",
            "net/http: TLS handshake timeout",
        ];
        assert!(passing.into_iter().all(is_passing));
        let last = [
            "unauthorized: authentication required",
            "no basic auth credentials",
            "denied: requested access to the resource is denied",
            "An image does not exist locally with the tag: x",
            "received unexpected HTTP status: 404 Not Found",
        ];
        assert!(!last.into_iter().any(is_passing));
    }
}
