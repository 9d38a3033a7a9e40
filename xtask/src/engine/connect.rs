//! Connects to an engine: whatever leads to it is made here, a socket, a port, TLS or ssh, and the
//! client, whose requests are of the version of the API that was negotiated. Where nobody chose an
//! engine and none answers, it is Podman's.

use std::fmt::Display;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use bollard::errors::Error as ClientError;
use bollard::{BollardRequest, ClientVersion, Docker};
use hyper::Uri;
use tokio::sync::OnceCell;
use xtask_core::secret::hide;

use crate::engine::address::{Address, Socket, versioned};
use crate::engine::api_version;
use crate::engine::authority::host_and_port;
use crate::engine::builder::{Builder, ChosenBuilder};
use crate::engine::buildx::Buildx;
use crate::engine::docker::{DockerEngine, response_of};
use crate::engine::endpoint::{self, Endpoint, Environment};
use crate::engine::error::{CALL_TIMEOUT, EngineError, Trouble};
use crate::engine::ping::{PING, Pong, ping};
use crate::engine::podman::{self, PodmanService};
use crate::engine::ssh::Ssh;
use crate::engine::tls::{Tls, TlsFiles};
use crate::engine::tunnel::{Tunnel, Way};
use crate::engine::waiting::Waiting;
use crate::event_channel::Events;
use crate::system::signals::Interrupt;

/// The ports of engines, without TLS and with it.
const PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

impl DockerEngine {
    /// Connects to the engine that the environment names, and waits for its response to a ping.
    pub(crate) async fn connect(
        environment: Environment,
        events: &Events,
        interrupt: &Interrupt,
    ) -> Result<Self, EngineError> {
        let Endpoint { url, tls, is_chosen } = endpoint::resolve(&environment)?;
        let waiting = Waiting::new(events, interrupt);
        let podman = if is_chosen || is_listening(&url) {
            None
        } else {
            let start = || PodmanService::start(&waiting, events);
            environment.podman.get_or_try_init(start).await?.as_ref()
        };
        let (endpoint, tunnel) = match podman {
            Some(_) => (podman::NAME.to_owned(), None),
            None => (hide(&url), tunnel(&url, tls)?),
        };
        let socket_url = podman.map(PodmanService::url);
        let socket_url = socket_url.or_else(|| tunnel.as_ref().map(|tunnel| tunnel.url()));
        let reached = socket_url.unwrap_or_else(|| with_port(&url));
        let socket =
            Socket::of_endpoint(&reached).ok_or_else(|| unusable(&endpoint, "it has no port"))?;
        let pinged = waiting.begin(response_of(&endpoint)).until(ping(&socket, &endpoint)).await?;
        let Pong { api_version: offered, is_podman } =
            pinged.map_err(|error| match tunnel.as_ref().and_then(|tunnel| tunnel.trouble()) {
                Some(Trouble::Away(cause)) => {
                    EngineError::Unreachable { endpoint: endpoint.clone(), cause }
                }
                Some(Trouble::Refused(cause)) => EngineError::Endpoint(format!(
                    "cannot connect to the engine at {endpoint}: {cause}"
                )),
                None => error,
            })?;
        let chosen = environment.api_version.as_deref();
        let version = api_version::negotiate(&endpoint, offered.as_deref(), chosen)?;
        let client = client(&reached, version).map_err(|error| unusable(&endpoint, &error))?;
        // The classic builder is everywhere.
        let builder = match environment.builder {
            Some(ChosenBuilder::Own(Builder::Classic)) => OnceCell::from(Builder::Classic),
            _ => OnceCell::new(),
        };
        let buildx = match &environment.builder {
            Some(ChosenBuilder::Buildx(name)) => Some(Arc::new(Buildx::open(name)?)),
            _ => None,
        };
        let is_local = url.starts_with("unix:");
        let address = Address { socket, version };
        let engine = Self {
            client,
            builder,
            buildx,
            environment,
            is_local,
            is_podman,
            address,
            endpoint,
            waiting,
            _tunnel: tunnel,
            events: events.clone(),
            logins: Arc::default(),
            removes_unnamed: OnceCell::new(),
            platform: OnceCell::new(),
        };
        Ok(engine)
    }
}

/// Whether somebody listens at the default socket, even if this user may not use it.
fn is_listening(url: &str) -> bool {
    let socket = url.strip_prefix("unix://").unwrap_or(url);
    let connected = UnixStream::connect(socket);
    !connected.is_err_and(|error| {
        matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
    })
}

/// An address with its port.
fn with_port(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let host = rest.split('/').next().unwrap_or(rest);
    let port = match scheme {
        "tcp" => PORT,
        "http" => 80,
        _ => return url.to_owned(),
    };
    if has_port(host) { url.to_owned() } else { format!("{scheme}://{host}:{port}") }
}

fn has_port(host: &str) -> bool {
    host_and_port(host).1.is_some()
}

/// What leads to an engine behind TLS or ssh.
fn tunnel(url: &str, tls: Option<TlsFiles>) -> Result<Option<Arc<Tunnel>>, EngineError> {
    let failed = |message: String| unusable(url, message);
    let way = if let Some(rest) = url.strip_prefix("ssh://") {
        Way::Ssh(Ssh::parse(rest).map_err(failed)?)
    } else if let Some(files) = tls {
        let host = url.split_once("://").map_or(url, |(_, rest)| rest);
        let host = host.split('/').next().unwrap_or(host);
        let default = if url.starts_with("https:") { 443 } else { TLS_PORT };
        let address = if has_port(host) { host.to_owned() } else { format!("{host}:{default}") };
        Way::Tls(Tls::new(address, files).map_err(failed)?)
    } else {
        return Ok(None);
    };
    let opened = Tunnel::open(way).map_err(|error| failed(error.to_string()))?;
    Ok(Some(Arc::new(opened)))
}

fn unusable(endpoint: &str, cause: impl Display) -> EngineError {
    EngineError::Endpoint(format!("cannot use the engine at {endpoint}: {cause}"))
}

/// A client whose calls are of a version of the API.
fn client(url: &str, version: ClientVersion) -> Result<Docker, ClientError> {
    let timeout = CALL_TIMEOUT.as_secs();
    // The client crate would turn TLS on for an empty DOCKER_TLS_VERIFY.
    let client = if url.starts_with("unix:") {
        Docker::connect_with_socket(url, timeout, &version)?
    } else {
        Docker::connect_with_http(url, timeout, &version)?
    };
    Ok(client.with_request_modifier(move |mut request| {
        set_version(&mut request, version);
        request
    }))
}

/// The client crate drops the version of the API from its paths (fixed in its next release).
fn set_version(request: &mut BollardRequest, version: ClientVersion) {
    let mut parts = request.uri().clone().into_parts();
    let call = parts.path_and_query.as_ref().map_or("/", |call| call.as_str());
    // As with the docker CLI, a ping is for engines of all versions.
    if call == PING {
        return;
    }
    parts.path_and_query = versioned(version, call).parse().ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}
