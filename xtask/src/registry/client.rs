//! The calls of a registry's API: its manifests and small blobs.
//!
//! What is only busy is asked again, for a short while. A registry that does not answer, or has
//! no end of errors, is away: nothing more is asked of it, so that a command waits for it once.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, LINK, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::http::uri::Authority;
use hyper::{Method, Request, StatusCode, Uri};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use xtask_core::workspace::registry_config::DOCKER_HUB;

use crate::engine::{Login, Logins, digest_of, domain_of};
use crate::registry::auth::Authorizations;
use crate::registry::http::{Answer, Http, base_url};

/// The server of Docker Hub.
const HUB_HOST: &str = "registry-1.docker.io";

/// The media types of manifests, and of lists of them.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// How many tags are asked for at a time.
const TAGS: usize = 1000;

/// How many requests are under way at the same time.
const REQUESTS: usize = 32;

/// How long a build waits for an answer: what the registry might have, it can make itself.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a command waits that is about the registry.
const LONG_PATIENCE: Duration = Duration::from_secs(30);

/// How often a busy registry is asked.
const TRIES: u32 = 3;

const FIRST_DELAY: Duration = Duration::from_millis(200);

/// A registry that wants a longer pause is left alone.
const MAX_DELAY: Duration = Duration::from_secs(2);

/// Blobs are often elsewhere.
const REDIRECTS: usize = 3;

/// A registry.
pub(crate) struct Client {
    /// `HOST[:PORT]`.
    domain: String,
    /// What the repositories begin with.
    path: String,
    login: Option<Login>,
    http: Http,
    authorizations: Authorizations,
    permits: Semaphore,
    away: OnceLock<String>,
}

/// Why a registry gave no answer to a question.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    /// It is asked no more.
    #[error("{0}")]
    Away(String),
    /// It does not let us.
    #[error("{0}")]
    Refused(String),
    /// It has something else than it says.
    #[error("{0}")]
    Invalid(String),
}

/// A page of a list of tags.
#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

/// A manifest as it is in a registry.
pub(crate) struct Stored {
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
}

impl Client {
    /// For the repositories below `prefix`: `HOST[:PORT]/PATH`.
    pub(crate) fn new(prefix: &str, logins: &Logins) -> Self {
        Self::with_patience(prefix, logins, PATIENCE)
    }

    /// The same for a command that has nothing else to do than to wait.
    pub(crate) fn patient(prefix: &str, logins: &Logins) -> Self {
        Self::with_patience(prefix, logins, LONG_PATIENCE)
    }

    fn with_patience(prefix: &str, logins: &Logins, patience: Duration) -> Self {
        let domain = domain_of(&format!("{prefix}/")).to_owned();
        let path = prefix.strip_prefix(&domain).unwrap_or(prefix).trim_matches('/').to_owned();
        Self {
            login: logins.get(&domain).cloned(),
            domain,
            path,
            http: Http::new(patience),
            authorizations: Authorizations::default(),
            permits: Semaphore::new(REQUESTS),
            away: OnceLock::new(),
        }
    }

    /// The manifest that a tag or a digest leads to, if there is one.
    pub(crate) async fn manifest(
        &self,
        image: &str,
        reference: &str,
    ) -> Result<Option<Stored>, RegistryError> {
        let path = format!("{}/manifests/{reference}", self.repository(image));
        let request = || Request::get(self.url(&path)).header(ACCEPT, MANIFESTS);
        let scope = self.scope(image, "pull");
        let answer = self.ask(&scope, || request().body(Full::default())).await?;
        let Some(answer) = answer else { return Ok(None) };
        check(reference, &answer.body)?;
        let media_type = answer.header(CONTENT_TYPE.as_str()).unwrap_or_default().to_owned();
        Ok(Some(Stored { media_type, bytes: answer.body }))
    }

    /// A small blob, if there is one.
    pub(crate) async fn blob(
        &self,
        image: &str,
        digest: &str,
    ) -> Result<Option<Bytes>, RegistryError> {
        let path = format!("{}/blobs/{digest}", self.repository(image));
        let scope = self.scope(image, "pull");
        let request = || Request::get(self.url(&path)).body(Full::default());
        let Some(answer) = self.ask(&scope, request).await? else { return Ok(None) };
        check(digest, &answer.body)?;
        Ok(Some(answer.body))
    }

    /// Writes a blob.
    pub(crate) async fn put_blob(&self, image: &str, bytes: Bytes) -> Result<(), RegistryError> {
        let path = format!("{}/blobs/uploads/", self.repository(image));
        let scope = self.scope(image, "pull,push");
        let begin = || Request::post(self.url(&path)).body(Full::default());
        let begun = self.ask(&scope, begin).await?;
        let invalid = |why: &str| RegistryError::Invalid(format!("{why} for an upload"));
        let begun = begun.ok_or_else(|| invalid("it has no place"))?;
        let place = begun.header(LOCATION.as_str()).ok_or_else(|| invalid("it names no place"))?;
        let to = if place.starts_with('/') { self.base() + place } else { place.to_owned() };
        let mark = if to.contains('?') { '&' } else { '?' };
        let to = format!("{to}{mark}digest={}", digest_of(&bytes));
        let put = || {
            let request = Request::put(&to).header(CONTENT_TYPE, "application/octet-stream");
            request.body(Full::from(bytes.clone()))
        };
        self.ask(&scope, put).await?.map(drop).ok_or_else(|| invalid("it has lost its place"))
    }

    /// Writes a manifest under a tag.
    pub(crate) async fn put_manifest(
        &self,
        image: &str,
        tag: &str,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> Result<(), RegistryError> {
        let path = format!("{}/manifests/{tag}", self.repository(image));
        let bytes = Bytes::from(bytes);
        let request = || {
            let request = Request::builder().method(Method::PUT).uri(self.url(&path));
            request.header(CONTENT_TYPE, media_type).body(Full::from(bytes.clone()))
        };
        match self.ask(&self.scope(image, "pull,push"), request).await? {
            Some(_) => Ok(()),
            None => Err(RegistryError::Invalid(format!("{} has no {path}", self.domain))),
        }
    }

    /// All tags of an image's repository; none if there is no such repository.
    pub(crate) async fn tags(&self, image: &str) -> Result<Vec<String>, RegistryError> {
        let mut path = format!("{}/tags/list?n={TAGS}", self.repository(image));
        let mut tags = Vec::new();
        loop {
            let request = || Request::get(self.url(&path)).body(Full::default());
            let Some(answer) = self.ask(&self.scope(image, "pull"), request).await? else {
                return Ok(tags);
            };
            let page: Tags = serde_json::from_slice(&answer.body)
                .map_err(|error| RegistryError::Invalid(format!("its list of tags: {error}")))?;
            let page = page.tags.unwrap_or_default();
            let Some(next) = answer.header(LINK.as_str()).and_then(next_page) else {
                tags.extend(page);
                return Ok(tags);
            };
            // It would go on for ever otherwise.
            if page.is_empty() || path == next {
                return Err(RegistryError::Invalid("its list of tags has no end".to_owned()));
            }
            tags.extend(page);
            next.clone_into(&mut path);
        }
    }

    /// Deletes the manifest of a digest, and with it all tags that lead to it.
    pub(crate) async fn delete(&self, image: &str, digest: &str) -> Result<(), RegistryError> {
        let path = format!("{}/manifests/{digest}", self.repository(image));
        let request = || Request::delete(self.url(&path)).body(Full::default());
        // What is gone already need not be deleted.
        self.ask(&self.scope(image, "pull,delete"), request).await.map(drop)
    }

    fn repository(&self, image: &str) -> String {
        if self.path.is_empty() { image.to_owned() } else { format!("{}/{image}", self.path) }
    }

    fn scope(&self, image: &str, actions: &str) -> String {
        format!("repository:{}:{actions}", self.repository(image))
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v2/{path}", self.base())
    }

    fn base(&self) -> String {
        base_url(if self.domain == DOCKER_HUB { HUB_HOST } else { &self.domain })
    }

    /// The answer to a request; none if the registry does not have what it is about.
    async fn ask(
        &self,
        scope: &str,
        request: impl Fn() -> hyper::http::Result<Request<Full<Bytes>>>,
    ) -> Result<Option<Answer>, RegistryError> {
        let mut delay = FIRST_DELAY;
        for attempt in 1.. {
            let invalid = |error: hyper::http::Error| RegistryError::Invalid(error.to_string());
            let permit = self.permits.acquire().await;
            // It may have been found away while this one waited for its turn.
            if let Some(why) = self.away.get() {
                return Err(RegistryError::Away(why.clone()));
            }
            let answer = self.authorized(scope, request().map_err(invalid)?).await;
            let answer = answer.map_err(|why| self.found_away(why))?;
            drop(permit);
            match answer.status {
                StatusCode::NOT_FOUND => return Ok(None),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    let login = if self.login.is_some() {
                        "the login is refused"
                    } else {
                        "it wants a login"
                    };
                    return Err(RegistryError::Refused(format!(
                        "{login} ({}): run 'docker login {}'",
                        answer.status, self.domain
                    )));
                }
                status if status.is_success() => return Ok(Some(answer)),
                status if is_busy(status) => {
                    let asked = answer.header(RETRY_AFTER.as_str()).and_then(|it| it.parse().ok());
                    delay = asked.map_or(delay, Duration::from_secs);
                    if attempt == TRIES || delay > MAX_DELAY {
                        return Err(self.found_away(format!("it answers {status}")));
                    }
                    sleep(delay).await;
                    delay *= 2;
                }
                status => {
                    return Err(RegistryError::Invalid(format!("it answers {status}")));
                }
            }
        }
        Ok(None)
    }

    /// Notes that it is asked no more; the first reason counts.
    fn found_away(&self, why: String) -> RegistryError {
        RegistryError::Away(self.away.get_or_init(|| why).clone())
    }

    /// Sends a request with what the registry wants to see, and follows where it leads.
    async fn authorized(
        &self,
        scope: &str,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Answer, String> {
        let mut answer = self.send(scope, &mut request).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            self.authorizations.forget(scope);
            let challenge = answer.header(WWW_AUTHENTICATE.as_str()).unwrap_or_default();
            let login = self.login.as_ref();
            if self.authorizations.meet(challenge, scope, login, &self.http).await? {
                answer = self.send(scope, &mut request).await?;
            }
        }
        for _ in 0..REDIRECTS {
            let location =
                answer.header(LOCATION.as_str()).filter(|_| answer.status.is_redirection());
            let Some(location) = location else { break };
            let elsewhere = Request::get(resolve(request.uri(), location)).body(Full::default());
            let mut elsewhere = elsewhere.map_err(|error| error.to_string())?;
            // Others must not see what the registry wants to see.
            answer = if is_same_server(elsewhere.uri(), request.uri()) {
                self.send(scope, &mut elsewhere).await?
            } else {
                self.http.send(&elsewhere).await?
            };
            request = elsewhere;
        }
        Ok(answer)
    }

    async fn send(
        &self,
        scope: &str,
        request: &mut Request<Full<Bytes>>,
    ) -> Result<Answer, String> {
        if let Some(value) = self.authorizations.get(scope).and_then(|it| it.parse().ok()) {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        self.http.send(request).await
    }
}

/// Where an answer to a request leads: to a whole URL, or to one that begins as the request's.
fn resolve(request: &Uri, location: &str) -> String {
    let scheme = request.scheme_str().unwrap_or("https");
    let server = request.authority().map_or("", Authority::as_str);
    let folder = request.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    if location.parse::<Uri>().is_ok_and(|location| location.scheme().is_some()) {
        location.to_owned()
    } else if let Some(elsewhere) = location.strip_prefix("//") {
        format!("{scheme}://{elsewhere}")
    } else if location.starts_with('/') {
        format!("{scheme}://{server}{location}")
    } else {
        format!("{scheme}://{server}{folder}/{location}")
    }
}

fn is_same_server(one: &Uri, other: &Uri) -> bool {
    one.scheme() == other.scheme() && one.authority() == other.authority()
}

/// The path of the next page, in `</v2/PATH>; rel="next"`; registries write whole URLs, too.
fn next_page(link: &str) -> Option<&str> {
    let (target, _) = link.strip_prefix('<')?.split_once('>')?;
    target.split_once("/v2/").map(|(_, path)| path)
}

fn is_busy(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || status.is_server_error()
}

/// What is asked for by its digest has that digest.
fn check(reference: &str, bytes: &[u8]) -> Result<(), RegistryError> {
    if reference.starts_with("sha256:") && digest_of(bytes) != reference {
        return Err(RegistryError::Invalid(format!("it has other bytes under {reference}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::net::TcpListener;

    use super::*;

    /// Many questions at the same time, to a registry that takes connections and says nothing.
    #[tokio::test]
    async fn a_silent_registry_is_waited_for_once_however_much_is_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let accepting = tokio::spawn(async move {
            let mut taken = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                taken.push(connection);
            }
        });
        let client = Client::new(&format!("{address}/team"), &Logins::new());
        let questions = (0..10 * REQUESTS).map(|_| client.manifest("image", "tag"));
        for answer in join_all(questions).await {
            assert!(matches!(answer, Err(RegistryError::Away(_))));
        }
        assert_eq!(count.load(Ordering::SeqCst), REQUESTS);
        accepting.abort();
    }

    #[test]
    fn an_answer_leads_to_a_url_or_a_part_of_one() {
        let from = "https://r.example:5000/v2/a/blobs/x?b=c".parse().unwrap();
        for (location, url) in [
            ("https://cdn.example/x?y=z", "https://cdn.example/x?y=z"),
            ("http://cdn.example/x", "http://cdn.example/x"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("/raw/x?y=https://z", "https://r.example:5000/raw/x?y=https://z"),
            ("raw/x", "https://r.example:5000/v2/a/blobs/raw/x"),
        ] {
            assert_eq!(resolve(&from, location), url);
        }
    }

    #[test]
    fn the_next_page_is_in_a_header() {
        for (link, next) in [
            ("</v2/a/tags/list?n=2&last=x>; rel=\"next\"", Some("a/tags/list?n=2&last=x")),
            ("<https://r.example/v2/a/tags/list?last=x>; rel=\"next\"", Some("a/tags/list?last=x")),
            ("", None),
        ] {
            assert_eq!(next_page(link), next);
        }
    }

    #[test]
    fn repositories_are_below_the_prefix() {
        for (prefix, url) in [
            ("localhost:5000/team", "http://localhost:5000/v2/team/web/tags"),
            ("ghcr.io/a/b", "https://ghcr.io/v2/a/b/web/tags"),
            ("docker.io/a", "https://registry-1.docker.io/v2/a/web/tags"),
            ("a", "https://registry-1.docker.io/v2/a/web/tags"),
            ("localhost:5000", "http://localhost:5000/v2/web/tags"),
        ] {
            let client = Client::new(prefix, &Logins::new());
            assert_eq!(client.url(&format!("{}/tags", client.repository("web"))), url);
        }
    }
}
