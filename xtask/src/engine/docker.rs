//! The calls of [`Engine`] on a real engine.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bollard::Docker;
use bollard::errors::Error as ClientError;
use bollard::models::ImageInspect;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, EventsOptionsBuilder, ListImagesOptionsBuilder,
    TagImageOptionsBuilder,
};
use futures_util::StreamExt;
use tokio::sync::{Mutex, OnceCell};
use tokio::task::JoinSet;
use tracing::debug;
use xtask_core::image_reference;
use xtask_core::problem::Problem;
use xtask_core::staleness::engine_images::{EngineImages, TrackedImage};
use xtask_core::staleness::fingerprint::LABEL;
use xtask_core::staleness::image_list::{self, ListedImage};
use xtask_core::workspace::config::settings::ImageSettings;
use xtask_core::workspace::registry_config::RegistryConfig;

use crate::engine::address::{Address, DEFAULT_SOCKET};
use crate::engine::api::{BuildRequest, Built, Engine, FoundImage, ImageDetails, Kept};
use crate::engine::builder::{Builder, ChosenBuilder, detect_builder};
use crate::engine::buildx::Buildx;
use crate::engine::credentials::{self, LoginCache, Logins};
use crate::engine::endpoint::Environment;
use crate::engine::error::EngineError;
use crate::engine::image_contents;
use crate::engine::meter::Meter;
use crate::engine::podman;
use crate::engine::response;
use crate::engine::transfer::{LayerBytes, query, transfer};
use crate::engine::tunnel::Tunnel;
use crate::engine::waiting::{Wait, Waiting};
use crate::event::{Event, Operation};
use crate::event_channel::Events;

/// How often an engine is asked if images vanish while it answers.
pub(super) const TRIES: usize = 5;

/// The time between two tries to reach an engine that is away.
const RECONNECT_DELAY: Duration = Duration::from_secs(2);

/// A connection to an engine that responded to a ping.
#[derive(Clone, Debug)]
pub(crate) struct DockerEngine {
    pub(crate) client: Docker,
    pub(crate) builder: OnceCell<Builder>,
    /// What builds in its place.
    pub(crate) buildx: Option<Arc<Buildx>>,
    pub(crate) environment: Environment,
    pub(crate) is_local: bool,
    pub(super) is_podman: bool,
    /// Where [`session`] and [`response`] connect to, which speak no TLS.
    pub(crate) address: Address,
    /// The engine's address, as the user gave it.
    pub(crate) endpoint: String,
    /// What leads to it, if that is no socket or port of its own.
    pub(super) _tunnel: Option<Arc<Tunnel>>,
    pub(crate) waiting: Waiting,
    pub(crate) events: Events,
    pub(crate) logins: Arc<Mutex<LoginCache>>,
    /// Whether an image goes with its last name, once that is known.
    pub(crate) removes_unnamed: OnceCell<bool>,
    /// What it builds for, as `OS/ARCH`.
    pub(crate) platform: OnceCell<String>,
}

impl DockerEngine {
    /// The builder to use, detected when the first build needs it.
    pub(crate) async fn builder(&self) -> Result<Builder, EngineError> {
        let detect = async || {
            let session = async { self.opens_session().await.unwrap_or_default() };
            let (builder, why) = self.call(detect_builder(&self.client, session)).await?;
            let chosen = &self.environment.builder;
            if let (Some(ChosenBuilder::Own(Builder::BuildKit)), Some(why)) = (chosen, &why) {
                return Err(EngineError::Endpoint(format!("--builder buildkit: {why}")));
            }
            if let Some(why) = why {
                let message = format!("images are built with the classic builder: {why}");
                self.events.send(Event::Warning(Problem::of_request(message)));
            }
            Ok(builder)
        };
        // Boxed: few builds need it, and all would have room for it.
        self.builder.get_or_try_init(|| Box::pin(detect())).await.copied()
    }

    /// Whether an image of Podman may have `ONBUILD` triggers, which Podman's API does not tell.
    /// BuildKit writes none of them into the history of what it builds.
    async fn may_have_triggers(&self, id: &str) -> Result<bool, EngineError> {
        let history = self.call(self.client.image_history(id)).await?;
        let is_buildkits = |comment: &str| comment.starts_with("buildkit.");
        Ok(history.first().is_some_and(|newest| is_buildkits(&newest.comment))
            || history.iter().any(|entry| entry.created_by.contains("ONBUILD ")))
    }

    /// Inspects the image of a reference, if the engine has it.
    pub(crate) async fn image_details(
        &self,
        reference: &str,
    ) -> Result<Option<ImageDetails>, EngineError> {
        match self.wait().until(self.client.inspect_image(reference)).await? {
            Ok(found) => {
                let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
                let id = found.id.unwrap_or_default();
                Ok(Some(ImageDetails {
                    tracked: TrackedImage::from_labels(id.clone(), |label| {
                        labels.get(label).cloned()
                    }),
                    id,
                    bytes: found.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                    created: found.created.map(SystemTime::from),
                }))
            }
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the response to a call.
    pub(crate) async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, EngineError> {
        Ok(self.wait().until(call).await??)
    }

    /// The images that pass these filters.
    pub(super) async fn list_images(
        &self,
        filters: &HashMap<&str, Vec<&str>>,
    ) -> Result<Vec<ListedImage>, EngineError> {
        let options = ListImagesOptionsBuilder::default().filters(filters).build();
        let call = format!("/images/json?{}", query(&options)?);
        let list = self.wait().until(response::get(&self.address, &call)).await??;
        image_list::parse(&list).map_err(|error| EngineError::InvalidResponse(error.to_string()))
    }

    /// Waits for the response to a call that is made again if the image store was changed
    /// meanwhile.
    async fn settled<T, F: Future<Output = Result<T, ClientError>>>(
        &self,
        call: impl Fn() -> F,
    ) -> Result<Result<T, ClientError>, EngineError> {
        for _ in 1..TRIES {
            let response = self.wait().until(call()).await?;
            if !response.as_ref().is_err_and(is_changing) {
                return Ok(response);
            }
        }
        self.wait().until(call()).await
    }

    pub(crate) fn wait(&self) -> Wait<'_> {
        self.waiting.begin(response_of(&self.endpoint))
    }
}

/// What a call waits for.
pub(super) fn response_of(endpoint: &str) -> String {
    format!("the engine at {endpoint} to respond")
}

/// Whether the containerd image store failed because somebody removed or tagged an image
/// meanwhile.
pub(super) fn is_vanished(error: &EngineError) -> bool {
    let (EngineError::Instruction { message, .. } | EngineError::Refused(message)) = error else {
        return false;
    };
    let is_gone = message.contains("content digest sha256:") && message.ends_with(": not found");
    let is_taken = message.starts_with("image \"") && message.ends_with("\": already exists");
    is_gone || is_taken || message.ends_with(CHANGED)
}

/// How the containerd image store says that somebody changed an image meanwhile.
const CHANGED: &str = "data changed during operation, retry";

fn is_changing(error: &ClientError) -> bool {
    let ClientError::DockerResponseServerError { message, .. } = error else { return false };
    message.ends_with(CHANGED)
}

/// Podman's registry of images that were built there.
const LOCAL: &str = "localhost/";

/// The name in `NAME=VALUE`.
fn name_of(variable: &str) -> String {
    variable.split('=').next().unwrap_or_default().to_owned()
}

impl Engine for DockerEngine {
    /// Its endpoint: to ask for its ID would take longer than to find out that it is another one
    /// behind the same endpoint, which has no image on record.
    fn identity(&self) -> String {
        self.endpoint.clone()
    }

    async fn keep(&self, id: &str, fingerprint: &str) -> Result<bool, EngineError> {
        self.keep_image(id, fingerprint).await
    }

    async fn release(&self, fingerprint: &str) -> Result<(), EngineError> {
        self.release_image(fingerprint).await
    }

    async fn kept(&self, fingerprint: &str) -> Result<Kept, EngineError> {
        self.kept_image(fingerprint).await
    }

    async fn image(&self, reference: &str) -> Result<Option<FoundImage>, EngineError> {
        debug!(reference, "inspect image");
        match self.settled(|| self.client.inspect_image(reference)).await? {
            Ok(inspected) => {
                let mut found = found_image(inspected);
                found.has_onbuild |= self.is_podman && self.may_have_triggers(&found.id).await?;
                Ok(Some(found))
            }
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn engine_images(&self) -> Result<EngineImages, EngineError> {
        debug!("list images");
        let filters = HashMap::from([("label", vec![LABEL])]);
        let list = || self.list_images(&filters);
        let mut listed = list().await;
        for _ in 1..TRIES {
            if !listed.as_ref().is_err_and(is_vanished) {
                break;
            }
            listed = list().await;
        }
        let images = listed?;
        let all_names = || images.iter().flat_map(ListedImage::names);
        // A namespace of this name would be another one with Docker.
        let has_local = all_names().any(|name| name.starts_with(LOCAL)) && self.is_podman;
        let mut engine_images = EngineImages::complete();
        let mut local = Vec::new();
        for image in images {
            // Podman's have the registry that it takes them to be from.
            let names = image.names().map(|name| image_reference::without_hub(name).to_owned());
            let label = |key: &str| image.label(key).map(str::to_owned);
            if let Some(held) = TrackedImage::from_labels(image.id.clone(), label) {
                let names: Vec<String> = names.collect();
                let aliases = names.iter().filter_map(|name| name.strip_prefix(LOCAL));
                local.extend(aliases.map(|alias| (alias.to_owned(), held.clone())));
                engine_images.add(names, &held);
            }
        }
        for (alias, held) in local.into_iter().filter(|_| has_local) {
            if engine_images.get(&alias).is_none() {
                engine_images.add([alias], &held);
            }
        }
        Ok(engine_images)
    }

    async fn history(&self, id: &str) -> Result<Vec<String>, EngineError> {
        debug!(id, "read history");
        let history = self.call(self.client.image_history(id)).await?;
        Ok(history.into_iter().rev().map(|item| item.created_by).collect())
    }

    fn listen_for_images(&self, on_report: impl Fn() + Send + 'static) -> JoinSet<()> {
        let client = self.client.clone();
        let mut listening = JoinSet::new();
        listening.spawn(async move {
            loop {
                let images = HashMap::from([("type", vec!["image"])]);
                let options = EventsOptionsBuilder::default().filters(&images).build();
                let mut reports = client.events(Some(options));
                while let Some(Ok(_)) = reports.next().await {
                    on_report();
                }
                while client.ping().await.is_err() {
                    tokio::time::sleep(RECONNECT_DELAY).await;
                }
                // What happened meanwhile is unknown.
                on_report();
                tokio::time::sleep(RECONNECT_DELAY).await;
            }
        });
        listening
    }

    async fn tag(&self, image: &str, repository: &str, tag: &str) -> Result<(), EngineError> {
        debug!(image, repository, tag, "tag image");
        let options = TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
        Ok(self.settled(|| self.client.tag_image(image, Some(options.clone()))).await??)
    }

    async fn pull(
        &self,
        component: &str,
        reference: &str,
        platform: Option<&str>,
        credentials: &Logins,
    ) -> Result<(), EngineError> {
        debug!(reference, platform, "pull image");
        let mut options = CreateImageOptionsBuilder::default().from_image(reference);
        if !reference.contains('@') && !has_tag(reference) {
            options = options.tag("latest");
        }
        if let Some(platform) = platform {
            options = options.platform(platform);
        }
        let login = credentials.get(credentials::domain_of(reference));
        let options = options.build();
        let meter = Meter::new(&self.events, Some(component), Operation::Pull, reference, None);
        let mut wait = self.waiting.begin(format!("the engine to pull {reference}"));
        let call = format!("/images/create?{}", query(&options)?);
        let mut statuses = wait.until(transfer(&self.address, &call, login)).await??;
        let mut layers = LayerBytes::default();
        while let Some(status) = wait.until(statuses.next()).await? {
            layers.note(&status?);
            meter.set(layers.sum());
        }
        Ok(())
    }

    async fn credentials(
        &self,
        domains: Vec<String>,
        configured: Option<&RegistryConfig>,
    ) -> Logins {
        let Self { environment, logins, waiting, events, .. } = self;
        credentials::find(environment, domains, configured, logins, waiting, events).await
    }

    async fn platform(&self) -> Result<String, EngineError> {
        let ask = async || {
            let version = self.call(self.client.version()).await?;
            let (os, architecture) = (version.os, version.arch);
            Ok(format!("{}/{}", os.unwrap_or_default(), architecture.unwrap_or_default()))
        };
        self.platform.get_or_try_init(ask).await.cloned()
    }

    async fn untag(&self, reference: &str) -> Result<(), EngineError> {
        self.remove_image(reference).await.map(drop)
    }

    /// Only behind Linux's own sockets is it certain that the engine works on this machine: another
    /// one may lead into a virtual machine, or elsewhere.
    async fn cpus(&self) -> Result<usize, EngineError> {
        let is_here = self.endpoint == DEFAULT_SOCKET || self.endpoint == podman::NAME;
        if cfg!(target_os = "linux") && is_here {
            return Ok(std::thread::available_parallelism().map_or(1, usize::from));
        }
        let cpus = self.call(self.client.info()).await?.ncpu.unwrap_or_default();
        Ok(usize::try_from(cpus).unwrap_or(1))
    }

    async fn check_settings(&self, settings: &ImageSettings) -> Result<(), EngineError> {
        self.refuse_impossible(settings).await
    }

    async fn build(
        &self,
        request: BuildRequest<'_>,
        events: &Events,
    ) -> Result<Built, EngineError> {
        debug!(image = request.image, "build image");
        self.build_image(request, events).await
    }
}

/// Whether there is no such image. The containerd store can have the name of one and not what it
/// holds: then nothing is known of its layers, and the client crate wants to know their type.
fn is_missing(error: &ClientError) -> bool {
    match error {
        ClientError::DockerResponseServerError { status_code, .. } => *status_code == 404,
        ClientError::JsonDataError { message, .. } => message.starts_with("missing field `Type`"),
        _ => false,
    }
}

/// What an engine says of an image.
pub(super) fn found_image(inspected: ImageInspect) -> FoundImage {
    let contents = image_contents::digest(&inspected);
    let config = inspected.config.unwrap_or_default();
    let id = inspected.id.unwrap_or_default();
    let labels: BTreeMap<String, String> = config.labels.unwrap_or_default().into_iter().collect();
    let layers = inspected.root_fs.and_then(|root| root.layers).unwrap_or_default();
    let triggers = config.on_build.unwrap_or_default();
    let platform = inspected.os.zip(inspected.architecture).filter(|(_, it)| !it.is_empty());
    FoundImage {
        has_onbuild: !triggers.is_empty(),
        triggers,
        variables: config.env.unwrap_or_default().iter().map(|it| name_of(it)).collect(),
        held: TrackedImage::from_labels(id.clone(), |label| labels.get(label).cloned()),
        labels,
        layers,
        platform: platform
            .map(|(os, architecture)| format!("{os}/{architecture}"))
            .unwrap_or_default(),
        contents,
        created: inspected.created.map(SystemTime::from),
        digests: inspected.repo_digests.unwrap_or_default(),
        id,
    }
}

fn has_tag(reference: &str) -> bool {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    name.contains(':')
}
