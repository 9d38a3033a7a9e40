//! Connects to an engine, and says why there is none: whatever leads to it is made here, a socket,
//! a port, TLS or ssh.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as ClientError;
use tokio::sync::OnceCell;

use crate::engine::authority::host_and_port;
use crate::engine::builder::Builder;
use crate::engine::docker::{DockerEngine, response_of};
use crate::engine::endpoint::{self, Endpoint, Environment};
use crate::engine::error::{CALL_TIMEOUT, EngineError, Trouble};
use crate::engine::session::Address;
use crate::engine::ssh::Ssh;
use crate::engine::tls::{Tls, TlsFiles};
use crate::engine::tunnel::{Tunnel, Way};
use crate::engine::waiting::Waiting;
use crate::event_channel::Events;
use crate::system::signals::Interrupt;

/// Long enough for any upload: the client's timeout runs until the response headers, which an
/// engine sends only after it has the whole context.
const TRANSFER_TIMEOUT: Duration = Duration::from_hours(24);

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
        let Endpoint { url: endpoint, tls } = endpoint::resolve(&environment)?;
        let tunnel = tunnel(&endpoint, tls)?;
        let reached = tunnel.as_ref().map_or_else(|| with_port(&endpoint), |tunnel| tunnel.url());
        let timeout = CALL_TIMEOUT.as_secs();
        // The client crate would turn TLS on for an empty DOCKER_TLS_VERIFY.
        let client = if reached.starts_with("unix:") {
            Docker::connect_with_socket(&reached, timeout, bollard::API_DEFAULT_VERSION)
        } else {
            Docker::connect_with_http(&reached, timeout, bollard::API_DEFAULT_VERSION)
        };
        let client = client
            .map_err(|error| client_error(&endpoint, &error))?
            .with_request_modifier(make_credentials_url_safe)
            .with_timeout(CALL_TIMEOUT);
        let waiting = Waiting::new(events, interrupt);
        let pinged = waiting.begin(response_of(&endpoint)).until(client.ping()).await?;
        pinged.map_err(|error| {
            let cause = tunnel.as_ref().and_then(|tunnel| tunnel.trouble());
            match cause {
                Some(Trouble::Away(cause)) => {
                    EngineError::Unreachable { endpoint: endpoint.clone(), cause }
                }
                Some(Trouble::Refused(cause)) => EngineError::Endpoint(format!(
                    "cannot connect to the engine at {endpoint}: {cause}"
                )),
                None => ping_error(&endpoint, error),
            }
        })?;
        // The classic builder is everywhere.
        let chosen = environment.builder.filter(|builder| *builder == Builder::Classic);
        let builder = chosen.map(OnceCell::from).unwrap_or_default();
        let transfer_client = client.clone().with_timeout(TRANSFER_TIMEOUT);
        let is_local = endpoint.starts_with("unix:");
        let address = Address::of_endpoint(&reached);
        let engine = Self {
            client,
            transfer_client,
            builder,
            environment,
            is_local,
            address,
            endpoint,
            waiting,
            _tunnel: tunnel,
            events: events.clone(),
            logins: Arc::default(),
        };
        Ok(engine)
    }
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
    let failed = |message: String| {
        EngineError::Endpoint(format!("cannot use the engine at {url}: {message}"))
    };
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

/// Why no client can be made for an endpoint.
fn client_error(endpoint: &str, error: &ClientError) -> EngineError {
    let (endpoint, cause) = (endpoint.to_owned(), error.to_string());
    match error {
        ClientError::SocketNotFoundError(_) => EngineError::Unreachable { endpoint, cause },
        _ => EngineError::Endpoint(format!("cannot use the engine endpoint {endpoint}: {cause}")),
    }
}

/// The socket of an engine, if this user may not use it, with what to do.
fn forbidden(endpoint: &str) -> Option<EngineError> {
    let socket = endpoint.strip_prefix("unix://")?;
    let error = UnixStream::connect(socket).err()?;
    if error.kind() != ErrorKind::PermissionDenied {
        return None;
    }
    let group = fs::metadata(socket).ok().and_then(|it| group_name(it.gid()));
    let advice = match group.as_deref() {
        None | Some("root") => "run this as the user that it belongs to".to_owned(),
        Some(group) => format!(
            "it is for the group '{group}': join it by 'sudo usermod -aG {group} $USER', and log in \
             again"
        ),
    };
    Some(EngineError::Endpoint(format!(
        "permission denied on the engine's socket {socket}: {advice}"
    )))
}

/// The name of a group, from the local list.
fn group_name(id: u32) -> Option<String> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(id)).then(|| name.to_owned())
    })
}

/// Why an engine cannot be pinged.
fn ping_error(endpoint: &str, error: ClientError) -> EngineError {
    if let Some(forbidden) = forbidden(endpoint) {
        return forbidden;
    }
    let endpoint = endpoint.to_owned();
    match error {
        // Plain HTTP at a port with TLS is answered in plain HTTP.
        ClientError::DockerResponseServerError { status_code: 400, message }
            if message.contains("HTTPS") =>
        {
            EngineError::Endpoint(format!(
                "the engine at {endpoint} is behind TLS: set DOCKER_TLS_VERIFY=1, and \
                 DOCKER_CERT_PATH to the folder with ca.pem, cert.pem and key.pem"
            ))
        }
        ClientError::DockerResponseServerError { status_code, message } => EngineError::Refused(
            format!("the engine at {endpoint} responded with status {status_code}: {message}"),
        ),
        error => match EngineError::from(error) {
            EngineError::Lost(cause) => EngineError::Unreachable { endpoint, cause },
            EngineError::Timeout => {
                EngineError::Unreachable { endpoint, cause: EngineError::Timeout.to_string() }
            }
            error => error,
        },
    }
}

/// The client crate encodes credentials in standard base64, and the engine decodes the URL-safe
/// alphabet: without this, passwords with some characters fail.
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
