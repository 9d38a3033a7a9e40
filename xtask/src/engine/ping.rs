//! Asks an engine whether it is there, for the version of its API, and says why it is not.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode};

use crate::engine::address::Socket;
use crate::engine::error::{CALL_TIMEOUT, EngineError, invalid_request};
use crate::engine::response::{error_in, send};

/// The call, which has no version.
pub(super) const PING: &str = "/_ping";

/// What an engine says about itself.
pub(super) struct Pong {
    /// The newest version of the API that it knows, if it says.
    pub(super) api_version: Option<String>,
    pub(super) is_podman: bool,
}

pub(super) async fn ping(socket: &Socket, endpoint: &str) -> Result<Pong, EngineError> {
    let request = Request::get(PING).header("Host", socket.host());
    let request = request.body(Full::new(Bytes::new())).map_err(|error| invalid_request(&error))?;
    let sent = tokio::time::timeout(CALL_TIMEOUT, send(socket, request)).await;
    let (response, _connection) =
        sent.unwrap_or(Err(EngineError::Timeout)).map_err(|error| unreachable(endpoint, error))?;
    let status = response.status();
    if !status.is_success() {
        return Err(refused(endpoint, status, &error_in(response).await.to_string()));
    }
    let version = response.headers().get("Api-Version").and_then(|version| version.to_str().ok());
    let api_version = version.map(str::to_owned);
    Ok(Pong { api_version, is_podman: response.headers().contains_key("Libpod-API-Version") })
}

fn unreachable(endpoint: &str, error: EngineError) -> EngineError {
    if let Some(forbidden) = forbidden(endpoint) {
        return forbidden;
    }
    let endpoint = endpoint.to_owned();
    match error {
        EngineError::Lost(cause) => EngineError::Unreachable { endpoint, cause },
        EngineError::Timeout => {
            EngineError::Unreachable { endpoint, cause: EngineError::Timeout.to_string() }
        }
        error => error,
    }
}

fn refused(endpoint: &str, status: StatusCode, message: &str) -> EngineError {
    // Plain HTTP at a port with TLS is answered in plain HTTP.
    if status == StatusCode::BAD_REQUEST && message.contains("HTTPS") {
        return EngineError::Endpoint(format!(
            "the engine at {endpoint} is behind TLS: set DOCKER_TLS_VERIFY=1, and \
             DOCKER_CERT_PATH to the folder with ca.pem, cert.pem and key.pem"
        ));
    }
    let status = status.as_u16();
    EngineError::Refused(format!(
        "the engine at {endpoint} responded with status {status}: {message}"
    ))
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
