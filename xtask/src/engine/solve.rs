//! A build by BuildKit's own API, for what the engine's `/build` does not take: stages without
//! cache, named contexts, other caches than images, attestations, and several platforms.
//!
//! The engine exposes that API at `POST /grpc`, which `docker buildx` uses as well. The request is
//! the one that `/build` makes of its options, with more attributes. A builder has no other API.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::{
    CacheOptions, CacheOptionsEntry, SolveRequest, SolveResponse, StatusRequest, StatusResponse,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::codegen::http::Uri;
use tonic::codegen::{BoxFuture, Service};
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};
use xtask_core::image_reference;
use xtask_core::workspace::config::exports::Attestation;
use xtask_core::workspace::config::named_context::NamedContext;
use xtask_core::workspace::config::settings::{ImageSettings, Sourced};

use crate::engine::address::{Address, Socket};
use crate::engine::api::BuildRequest;
use crate::engine::build_caches::{GithubJob, caches, exports, imports, parsed};
use crate::engine::error::EngineError;
use crate::engine::file_sync::local_name;
use crate::engine::local_cache::LocalCache;
use crate::engine::saved_image::SavedImage;
use crate::engine::session::{Services, Session, upgrade};
use crate::engine::unique_id::unique_id;

/// A longer message ends the build: logs come in pieces, so none is.
const MAX_MESSAGE: usize = 16 << 20;

/// The key of the response with what leads to a cache that was written.
const CACHE_KEY: &str = "cache.manifest";

/// The keys of the response with the ID of an image, the one to prefer first.
const ID_KEYS: [&str; 2] = ["containerimage.digest", "containerimage.config.digest"];

/// Whether `/build` cannot take what is set for an image.
pub(crate) fn is_needed(settings: &ImageSettings, job: &GithubJob) -> bool {
    let ImageSettings { contexts, no_cache_filter, attest, platforms, .. } = settings;
    !contexts.is_empty()
        || !no_cache_filter.is_empty()
        || !attest.is_empty()
        || platforms.len() > 1
        || caches(&settings.cache_from, "", job).any(|cache| cache.image().is_none())
        || caches(&settings.cache_to, "", job).any(|cache| cache.kind != "inline")
}

/// Where an image is built.
pub(crate) enum Place<'a> {
    /// In the engine, which has its bases and keeps it.
    Engine,
    /// In a builder, which is served these bases, by their references, and sends the image. It
    /// may be on a machine of another architecture.
    Builder { bases: &'a BTreeMap<String, Arc<SavedImage>>, platform: &'a str },
}

/// A build on its own connection, which cancels it when it is dropped.
pub(crate) struct Solve {
    client: ControlClient<Channel>,
    reference: String,
}

impl Solve {
    /// Connects to the engine.
    pub(crate) async fn connect(address: &Address) -> Result<Self, EngineError> {
        let path = address.path("/grpc");
        let upgraded = match &address.socket {
            Socket::Unix(socket) => upgraded(UnixStream::connect(socket).await, &path).await,
            Socket::Tcp(host) => upgraded(TcpStream::connect(host).await, &path).await,
        };
        Self::over(upgraded).map_err(|error| EngineError::Lost(error.to_string()))
    }

    /// Connects to a builder behind a socket of this machine.
    pub(crate) async fn connect_to_builder(socket: &Path) -> io::Result<Self> {
        Self::over(channel(UnixStream::connect(socket).await?).await)
    }

    fn over(channel: io::Result<Channel>) -> io::Result<Self> {
        let client = ControlClient::new(channel?).max_decoding_message_size(MAX_MESSAGE);
        Ok(Self { client, reference: unique_id() })
    }

    /// Opens a session on the same connection.
    pub(crate) fn open_session(&self, key: &str, services: Services) -> io::Result<Session> {
        Session::open_by_call(self.client.clone(), key, services)
    }

    /// Builds and tags an image, and returns the IDs that it may have, the likeliest first.
    pub(crate) async fn run(
        &self,
        request: &BuildRequest<'_>,
        session: &str,
        place: &Place<'_>,
        job: &GithubJob,
    ) -> Result<Vec<String>, EngineError> {
        let solve = self.request(request, session, place, job);
        let response = self.client.clone().solve(solve).await;
        let response = response.map_err(|status| error_of(&status))?.into_inner();
        if let Some(written) = response.exporter_response.get(CACHE_KEY) {
            finish_caches(request, written)?;
        }
        let ids = ids_in(&response);
        if ids.is_empty() {
            return Err(EngineError::InvalidResponse("it has no image ID".to_owned()));
        }
        Ok(ids)
    }

    /// The progress of the build, until it ends.
    pub(crate) async fn progress(&self) -> Result<Streaming<StatusResponse>, EngineError> {
        let request = StatusRequest { r#ref: self.reference.clone() };
        let response = self.client.clone().status(request).await;
        Ok(response.map_err(|status| error_of(&status))?.into_inner())
    }

    fn request(
        &self,
        request: &BuildRequest<'_>,
        session: &str,
        place: &Place<'_>,
        job: &GithubJob,
    ) -> SolveRequest {
        let settings = request.settings;
        let exports = exports(&settings.cache_to, request.image, job, request.root).map(|cache| {
            CacheOptionsEntry { r#type: cache.kind, attrs: cache.attributes.into_iter().collect() }
        });
        let exporter = [("name".to_owned(), request.image.to_owned())];
        // The engine asks whether the client allows it.
        let is_host = settings.network.as_ref().is_some_and(|network| network.value == "host");
        let exporter_kind = match place {
            Place::Engine => "moby",
            Place::Builder { .. } => "docker",
        };
        SolveRequest {
            r#ref: self.reference.clone(),
            exporter_deprecated: exporter_kind.to_owned(),
            exporter_attrs_deprecated: exporter.into(),
            session: session.to_owned(),
            frontend: "dockerfile.v0".to_owned(),
            frontend_attrs: attributes(request, place, job),
            // The frontend imports caches itself.
            cache: Some(CacheOptions { exports: exports.collect(), ..CacheOptions::default() }),
            entitlements: is_host.then(|| "network.host".to_owned()).into_iter().collect(),
            ..SolveRequest::default()
        }
    }
}

/// The options of the Dockerfile frontend.
fn attributes(
    request: &BuildRequest<'_>,
    place: &Place<'_>,
    job: &GithubJob,
) -> HashMap<String, String> {
    let ImageSettings { target, platforms, network, extra_hosts, contexts, .. } = request.settings;
    let mut attributes = HashMap::from([("filename".to_owned(), request.dockerfile.to_owned())]);
    let mut add = |name: &str, value: String| drop(attributes.insert(name.to_owned(), value));
    for (name, value) in request.build_args {
        add(&format!("build-arg:{name}"), value.clone());
    }
    for (name, value) in request.labels {
        add(&format!("label:{name}"), value.clone());
    }
    if let Some(target) = target {
        add("target", target.value.clone());
    }
    match place {
        Place::Builder { platform, .. } if platforms.is_empty() => {
            add("platform", (*platform).to_owned());
        }
        _ if platforms.is_empty() => {}
        _ => add("platform", joined(platforms)),
    }
    if let Some(network) = network {
        add("force-network-mode", network.value.clone());
    }
    let hosts = extra_hosts.iter().map(|(name, address)| format!("{name}={}", address.value));
    let hosts: Vec<String> = hosts.collect();
    if !hosts.is_empty() {
        add("add-hosts", hosts.join(","));
    }
    let without_cache = &request.settings.no_cache_filter;
    if request.no_cache {
        add("no-cache", String::new());
    } else if !without_cache.is_empty() {
        add("no-cache", joined(without_cache));
    }
    let imports = imports(&request.settings.cache_from, request.image, job, request.root);
    let imports: Vec<Value> =
        imports.map(|cache| json!({ "Type": cache.kind, "Attrs": cache.attributes })).collect();
    if !imports.is_empty() {
        add("cache-imports", Value::from(imports).to_string());
    }
    let served = |reference: &str| match place {
        Place::Builder { bases, .. } => Some(layout(bases.get(reference)?)),
        Place::Engine => None,
    };
    if let Place::Builder { bases, .. } = place {
        for (reference, base) in *bases {
            add(&format!("context:{}", image_reference::familiar(reference)), layout(base));
        }
    }
    for (name, context) in contexts {
        add(
            &format!("context:{name}"),
            match &context.value {
                NamedContext::Image(reference) | NamedContext::Target(reference) => {
                    served(reference).unwrap_or_else(|| format!("docker-image://{reference}"))
                }
                NamedContext::Url(url) => url.clone(),
                NamedContext::Folder(_) => format!("local:{}", local_name(name)),
            },
        );
    }
    for attestation in &request.settings.attest {
        if let Ok(Attestation { kind, attributes }) = Attestation::parse(&attestation.value) {
            add(&format!("attest:{kind}"), attributes);
        }
    }
    attributes
}

fn joined(values: &[Sourced<String>]) -> String {
    values.iter().map(|value| value.value.as_str()).collect::<Vec<_>>().join(",")
}

/// Where a builder finds an image that it is served. The name of the store is of no matter, as
/// digests lead to all that is served.
fn layout(image: &SavedImage) -> String {
    format!("oci-layout://xtask@{}", image.digest())
}

/// Makes what was written to folders of this machine their caches.
fn finish_caches(request: &BuildRequest<'_>, written: &str) -> Result<(), EngineError> {
    for mut cache in parsed(&request.settings.cache_to) {
        let Some(folder) = LocalCache::of(&mut cache, request.root) else { continue };
        let tag = cache.attributes.get("tag").map(String::as_str);
        folder.finish(written, tag).map_err(|error| {
            let folder = folder.folder().display();
            EngineError::Context(format!("the build cache in {folder} cannot be written: {error}"))
        })?;
    }
    Ok(())
}

fn ids_in(response: &SolveResponse) -> Vec<String> {
    ID_KEYS.iter().filter_map(|key| response.exporter_response.get(*key)).cloned().collect()
}

fn error_of(status: &Status) -> EngineError {
    match status.source() {
        // What is not an answer has a cause here.
        Some(cause) => EngineError::Lost(cause.to_string()),
        None => EngineError::Refused(status.message().to_owned()),
    }
}

/// A gRPC channel on a connection to the engine's `/grpc`.
async fn upgraded<S>(connection: io::Result<S>, path: &str) -> io::Result<Channel>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut connection = connection?;
    upgrade(&mut connection, path, "").await?;
    channel(connection).await
}

async fn channel<S>(connection: S) -> io::Result<Channel>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connector = Only(Arc::new(Mutex::new(Some(TokioIo::new(connection)))));
    // The address is of no matter, as there is a connection.
    let endpoint = Endpoint::from_static("http://engine");
    endpoint.connect_with_connector(connector).await.map_err(io::Error::other)
}

/// "Connects" once, to the connection that there is.
struct Only<S>(Arc<Mutex<Option<TokioIo<S>>>>);

impl<S: Send + 'static> Service<Uri> for Only<S> {
    type Response = TokioIo<S>;
    type Error = io::Error;
    type Future = BoxFuture<TokioIo<S>, io::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connection = self.0.lock().ok().and_then(|mut connection| connection.take());
        let closed = || io::Error::from(io::ErrorKind::NotConnected);
        Box::pin(async move { connection.ok_or_else(closed) })
    }
}
