//! The engine: everything that is said to whatever answers the Docker Engine
//! API, and the only module that knows the client crate.
//!
//! BuildKit is used where the engine has it and it works. It does not for a
//! context that is sent as a stream on an engine with the containerd image store
//! before 27.5 (moby#47717); podman and Windows engines have none. There the
//! classic builder makes the same images.

mod answer;
mod build;
mod credentials;
mod docker_config;
mod endpoint;
mod file_list;
mod file_sync;
mod passing;
mod progress;
mod push;
mod session;
mod sync_ledger;
mod upload;
mod waiting;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ListImagesOptionsBuilder, TagImageOptionsBuilder,
};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, future};
use http_body_util::Full;
use hyper::Request;
use serde::Serialize;
use tokio::sync::{Mutex, OnceCell};
use xtask_core::staleness::engine_images::{EngineImages, TrackedImage};
use xtask_core::staleness::fingerprint::LABEL;
use xtask_core::workspace::registry_config::RegistryConfig;

use crate::event::Events;
use crate::system::signals::Interrupt;

pub use build::BuildRequest;
pub use credentials::{Logins, domains_of};
pub use endpoint::Environment;
pub use push::PushRequest;

use answer::{Part, Transfer};
use credentials::Stored;
use session::Address;
use waiting::{Wait, Waiting};

/// Long enough for any upload: the client's time-out runs until the answer's
/// headers, which an engine sends only after it has the whole context.
const TRANSFER_TIMEOUT: Duration = Duration::from_hours(24);
const QUESTION_TIMEOUT: Duration = Duration::from_mins(1);

/// What went wrong between us and the engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nobody answers.
    #[error(
        "no engine answers at {endpoint}: start Docker, or point DOCKER_HOST or the Docker context at one"
    )]
    Unreachable {
        /// Where we asked.
        endpoint: String,
        /// What the connection said.
        source: Option<Box<bollard::errors::Error>>,
    },
    /// The endpoint itself makes no sense.
    #[error("{0}")]
    Endpoint(String),
    /// The engine went away during a call.
    #[error("the connection to the engine was lost: {0}")]
    Lost(String),
    /// The context could not be read.
    #[error("{0}")]
    Context(String),
    /// An instruction failed.
    #[error("{message}")]
    Instruction {
        /// As the engine names it.
        text: String,
        /// What went wrong.
        message: String,
    },
    /// The engine said no.
    #[error("{0}")]
    Refused(String),
    /// The user stopped waiting for it.
    #[error("interrupted")]
    Interrupted,
}

/// Which of the engine's builders is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builder {
    /// BuildKit, through the engine's own API.
    BuildKit,
    /// The builder that every engine has.
    Classic,
}

/// An image in the engine.
#[derive(Clone, Debug)]
pub struct FoundImage {
    /// The engine's id of it.
    pub id: String,
    /// Whether it has `ONBUILD` instructions for those who build on it.
    pub has_onbuild: bool,
    /// The names of the environment variables that it sets.
    pub variables: Vec<String>,
    /// What its labels say, if it has ours.
    pub held: Option<TrackedImage>,
    /// All its labels.
    pub labels: BTreeMap<String, String>,
    /// The digests of its layers, the lowest first.
    pub layers: Vec<String>,
}

/// What builds ask of an engine. The tests have one that plays an engine; all
/// others are [`DockerEngine`].
pub trait Engine {
    /// All images with our labels, by one question.
    fn engine_images(&self) -> impl Future<Output = Result<EngineImages, EngineError>>;

    /// The image of this reference, if the engine holds one.
    fn image(
        &self,
        reference: &str,
    ) -> impl Future<Output = Result<Option<FoundImage>, EngineError>>;

    /// The instructions that made an image, as its history tells them, the first one
    /// first; those of its base come before its own.
    fn history(&self, id: &str) -> impl Future<Output = Result<Vec<String>, EngineError>>;

    /// Gives an image a second reference.
    fn tag(
        &self,
        image: &str,
        repository: &str,
        tag: &str,
    ) -> impl Future<Output = Result<(), EngineError>>;

    /// Fetches an image from its registry.
    fn pull(
        &self,
        reference: &str,
        platform: Option<&str>,
        credentials: &Logins,
    ) -> impl Future<Output = Result<(), EngineError>>;

    /// The credentials for each of the `domains` that has some.
    fn credentials(
        &self,
        domains: Vec<String>,
        configured: Option<&RegistryConfig>,
    ) -> impl Future<Output = Logins>;

    /// How much the engine can do at a time: its host's CPUs.
    fn cpus(&self) -> impl Future<Output = Result<usize, EngineError>>;

    /// Builds and tags one image, and tells its id.
    fn build(
        &self,
        request: BuildRequest<'_>,
        events: &Events,
    ) -> impl Future<Output = Result<String, EngineError>>;
}

/// A connection to an engine that answered.
#[derive(Clone, Debug)]
pub struct DockerEngine {
    questions: Docker,
    transfers: Docker,
    builder: OnceCell<Builder>,
    environment: Environment,
    is_local: bool,
    /// Where connections of our own lead to it, if they can.
    address: Option<Address>,
    endpoint: String,
    waiting: Waiting,
    events: Events,
    stored: Arc<Mutex<Stored>>,
}

impl DockerEngine {
    /// Connects to the engine that `environment` points at.
    pub async fn connect(
        environment: Environment,
        events: &Events,
        interrupt: &Interrupt,
    ) -> Result<Self, EngineError> {
        let endpoint = endpoint::resolve(&environment)?;
        let unreachable = |source| EngineError::Unreachable {
            endpoint: endpoint.clone(),
            source: Some(Box::new(source)),
        };
        let has_tls = environment.has_tls;
        // The client crate takes an empty DOCKER_TLS_VERIFY for a wish, too.
        let is_plain_port = endpoint.starts_with("tcp:") && !has_tls;
        let connected = if is_plain_port {
            let timeout = QUESTION_TIMEOUT.as_secs();
            Docker::connect_with_http(&endpoint, timeout, bollard::API_DEFAULT_VERSION)
        } else {
            Docker::connect_with_host(&endpoint)
        };
        let docker =
            connected.map_err(unreachable)?.with_request_modifier(make_credentials_url_safe);
        let questions = docker.clone().with_timeout(QUESTION_TIMEOUT);
        let waiting = Waiting::new(events, interrupt);
        let pinged = waiting.begin(answer_of(&endpoint)).answer(questions.ping()).await?;
        pinged.map_err(unreachable)?;
        let builder = environment.builder.map(OnceCell::from).unwrap_or_default();
        let transfers = docker.with_timeout(TRANSFER_TIMEOUT);
        let is_local = endpoint.starts_with("unix:") || endpoint.starts_with("npipe:");
        let address = Address::of(&endpoint, has_tls);
        let engine = Self {
            questions,
            transfers,
            builder,
            environment,
            is_local,
            address,
            endpoint,
            waiting,
            events: events.clone(),
            stored: Arc::default(),
        };
        Ok(engine)
    }

    /// The builder that is used, found out when the first build needs one.
    async fn builder(&self) -> Result<Builder, EngineError> {
        let find = || self.ask(best_builder(&self.questions));
        self.builder.get_or_try_init(find).await.copied()
    }

    /// Waits for the answer to a question.
    async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, EngineError> {
        Ok(self.answer().answer(question).await??)
    }

    /// A wait for the engine to answer.
    fn answer(&self) -> Wait<'_> {
        self.waiting.begin(answer_of(&self.endpoint))
    }
}

/// What a question waits for.
fn answer_of(endpoint: &str) -> String {
    format!("the engine at {endpoint} to answer")
}

/// The name in `NAME=VALUE`.
fn name_of(variable: &str) -> String {
    variable.split('=').next().unwrap_or_default().to_owned()
}

impl Engine for DockerEngine {
    async fn image(&self, reference: &str) -> Result<Option<FoundImage>, EngineError> {
        match self.answer().answer(self.questions.inspect_image(reference)).await? {
            Ok(found) => {
                let config = found.config.unwrap_or_default();
                let id = found.id.unwrap_or_default();
                let labels: BTreeMap<String, String> =
                    config.labels.unwrap_or_default().into_iter().collect();
                let layers = found.root_fs.and_then(|root| root.layers).unwrap_or_default();
                Ok(Some(FoundImage {
                    has_onbuild: config.on_build.is_some_and(|triggers| !triggers.is_empty()),
                    variables: config
                        .env
                        .unwrap_or_default()
                        .iter()
                        .map(|it| name_of(it))
                        .collect(),
                    held: TrackedImage::from_labels(id.clone(), |label| labels.get(label).cloned()),
                    labels,
                    layers,
                    id,
                }))
            }
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn engine_images(&self) -> Result<EngineImages, EngineError> {
        let filters = HashMap::from([("label", vec![LABEL])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let mut engine_images = EngineImages::complete();
        for image in self.ask(self.questions.list_images(Some(options))).await? {
            let names = image.repo_tags.into_iter().filter(|name| name != "<none>:<none>");
            if let Some(held) =
                TrackedImage::from_labels(image.id, |label| image.labels.get(label).cloned())
            {
                engine_images.add(names, &held);
            }
        }
        Ok(engine_images)
    }

    async fn history(&self, id: &str) -> Result<Vec<String>, EngineError> {
        let history = self.ask(self.questions.image_history(id)).await?;
        Ok(history.into_iter().rev().map(|item| item.created_by).collect())
    }

    async fn tag(&self, image: &str, repository: &str, tag: &str) -> Result<(), EngineError> {
        let options = TagImageOptionsBuilder::default().repo(repository).tag(tag);
        self.ask(self.questions.tag_image(image, Some(options.build()))).await
    }

    async fn pull(
        &self,
        reference: &str,
        platform: Option<&str>,
        credentials: &Logins,
    ) -> Result<(), EngineError> {
        let mut options = CreateImageOptionsBuilder::default().from_image(reference);
        if !reference.contains('@') && !has_tag(reference) {
            options = options.tag("latest");
        }
        if let Some(platform) = platform {
            options = options.platform(platform);
        }
        let login = credentials.get(credentials::domain_of(reference));
        let options = options.build();
        let mut wait = self.waiting.begin(format!("the engine to pull {reference}"));
        let mut answers = if let Some(address) = &self.address {
            let path = format!("/images/create?{}", query(&options)?);
            wait.answer(transfer(address, &path, login)).await??
        } else {
            let answers = self.transfers.create_image(Some(options), None, login.cloned());
            let status = |info: CreateImageInfo| Transfer::new(info.status);
            to_their_end(answers).map(move |it| it.map(status).map_err(EngineError::from)).boxed()
        };
        while let Some(answer) = wait.answer(answers.next()).await? {
            answer?;
        }
        Ok(())
    }

    async fn credentials(
        &self,
        domains: Vec<String>,
        configured: Option<&RegistryConfig>,
    ) -> Logins {
        let Self { environment, stored, waiting, events, .. } = self;
        credentials::find(environment, domains, configured, stored, waiting, events).await
    }

    async fn cpus(&self) -> Result<usize, EngineError> {
        // An engine behind a local socket has the CPUs that we have.
        if self.is_local {
            return Ok(std::thread::available_parallelism().map_or(1, usize::from));
        }
        let cpus = self.ask(self.questions.info()).await?.ncpu.unwrap_or_default();
        Ok(usize::try_from(cpus).unwrap_or(1))
    }

    async fn build(
        &self,
        request: BuildRequest<'_>,
        events: &Events,
    ) -> Result<String, EngineError> {
        build::run(self, request, events).await
    }
}

/// What an engine says of a pull or a push.
type Transfers<'a> = BoxStream<'a, Result<Transfer, EngineError>>;

/// Asks for a pull or a push on a connection of its own.
async fn transfer(
    address: &Address,
    path: &str,
    login: Option<&DockerCredentials>,
) -> Result<Transfers<'static>, EngineError> {
    let unsayable = |error: &dyn std::error::Error| EngineError::Refused(error.to_string());
    let login = serde_json::to_vec(login.unwrap_or(&DockerCredentials::default()))
        .map_err(|error| unsayable(&error))?;
    let request = Request::post(path)
        .header("Host", address.host())
        .header("X-Registry-Auth", URL_SAFE.encode(login))
        .body(Full::new(Bytes::new()))
        .map_err(|error| unsayable(&error))?;
    let answers = answer::post(address, request).await?;
    let said = |part: Part<Transfer>| match part {
        Part::Info(info) => *info,
        Part::Skipped(_) => Transfer::new(None),
    };
    Ok(answers.map(move |part| part.map(said)).boxed())
}

/// Options as a URL has them.
fn query(options: &impl Serialize) -> Result<String, EngineError> {
    serde_urlencoded::to_string(options).map_err(|error| EngineError::Refused(error.to_string()))
}

/// Answers without what the client crate says of the end of the last one's line where
/// that came apart from it: that something was left over (bollard#560). A connection that
/// was cut is another error, as HTTP tells the end of a body.
fn to_their_end<T>(
    answers: impl Stream<Item = Result<T, bollard::errors::Error>> + Unpin,
) -> impl Stream<Item = Result<T, bollard::errors::Error>> + Unpin {
    answers.take_while(|answer| {
        let is_left_over = matches!(
            answer,
            Err(bollard::errors::Error::IOError { err })
                if err.to_string() == "bytes remaining on stream"
        );
        future::ready(!is_left_over)
    })
}

fn has_tag(reference: &str) -> bool {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    name.contains(':')
}

/// The client encodes credentials with the standard alphabet of base64, the
/// engine decodes the URL-safe one: passwords with some characters would fail.
fn make_credentials_url_safe(mut request: bollard::BollardRequest) -> bollard::BollardRequest {
    for name in ["X-Registry-Auth", "X-Registry-Config"] {
        if let Some(value) = request.headers_mut().get_mut(name) {
            let safe = value.to_str().ok().map(|text| text.replace('+', "-").replace('/', "_"));
            if let Some(safe) = safe.and_then(|text| text.parse().ok()) {
                *value = safe;
            }
        }
    }
    request
}

async fn best_builder(docker: &Docker) -> Result<Builder, bollard::errors::Error> {
    let version = docker.version().await?;
    let components = version.components.unwrap_or_default();
    let is_podman = components.iter().any(|component| component.name.contains("Podman"));
    let is_windows = version.os.as_deref() == Some("windows");
    if is_podman || is_windows {
        return Ok(Builder::Classic);
    }
    let uses_containerd_store = docker
        .info()
        .await?
        .driver_status
        .unwrap_or_default()
        .iter()
        .flatten()
        .any(|value| value == "io.containerd.snapshotter.v1");
    let number = version.version.unwrap_or_default();
    if uses_containerd_store && is_before_27_5(&number) {
        return Ok(Builder::Classic);
    }
    Ok(Builder::BuildKit)
}

fn is_before_27_5(version: &str) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0u32));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (27, 5)
}

impl From<bollard::errors::Error> for EngineError {
    fn from(error: bollard::errors::Error) -> Self {
        use bollard::errors::Error;
        match error {
            Error::DockerStreamError { error } => Self::Refused(error),
            Error::DockerResponseServerError { message, .. } => Self::Refused(message),
            Error::RequestTimeoutError => {
                Self::Lost(format!("no answer for {} seconds", QUESTION_TIMEOUT.as_secs()))
            }
            other => cause_of(&other),
        }
    }
}

/// What a connection failed by: our own stream, or the connection.
fn cause_of(error: &dyn std::error::Error) -> EngineError {
    let chain = chain_of(error);
    match chain.iter().position(|text| text.contains(CONTEXT_MARK)) {
        Some(place) => EngineError::Context(chain[place].replacen(CONTEXT_MARK, "", 1)),
        None => EngineError::Lost(chain.last().cloned().unwrap_or_default()),
    }
}

/// Tells an error of our own stream from one of the connection, wherever in the
/// client's chain of errors it comes out.
const CONTEXT_MARK: &str = "context: ";

fn chain_of(error: &dyn std::error::Error) -> Vec<String> {
    let mut chain = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        chain.push(error.to_string());
        next = error.source();
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_containerd_store_works_with_streams_from_27_5_on() {
        assert!(is_before_27_5("26.1.5+dfsg1"));
        assert!(is_before_27_5("27.4.1"));
        assert!(!is_before_27_5("27.5.0-rc.1"));
        assert!(!is_before_27_5("28.5.2"));
    }
}
