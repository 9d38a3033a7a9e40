//! Pulls and pushes, each on a connection of its own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bollard::auth::DockerCredentials;
use bollard::errors::Error as ClientError;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, future};
use http_body_util::Full;
use hyper::Request;
use serde::Serialize;

use crate::engine::error::{EngineError, invalid_request};
use crate::engine::response::{self, ResponseLine, TransferStatus};
use crate::engine::session::Address;

/// The status messages of a pull or a push.
pub(crate) type TransferStatuses<'a> = BoxStream<'a, Result<TransferStatus, EngineError>>;

/// Requests a pull or a push on a new connection.
pub(crate) async fn transfer(
    address: &Address,
    path: &str,
    login: Option<&DockerCredentials>,
) -> Result<TransferStatuses<'static>, EngineError> {
    let login = serde_json::to_vec(login.unwrap_or(&DockerCredentials::default()))
        .map_err(|error| invalid_request(&error))?;
    let request = Request::post(path)
        .header("Host", address.host())
        .header("X-Registry-Auth", URL_SAFE.encode(login))
        .body(Full::new(Bytes::new()))
        .map_err(|error| invalid_request(&error))?;
    let lines = response::post(address, request).await?;
    let status = |line: ResponseLine<TransferStatus>| match line {
        ResponseLine::Message(status) => *status,
        ResponseLine::Oversized(_) => TransferStatus::new(None),
    };
    Ok(lines.map(move |line| line.map(status)).boxed())
}

/// Options as a URL's query.
pub(crate) fn query(options: &impl Serialize) -> Result<String, EngineError> {
    serde_urlencoded::to_string(options).map_err(|error| invalid_request(&error))
}

/// Drops the error with which the client crate ends a stream whose last line break arrived
/// separately (bollard#560). Nothing is lost: a connection that breaks gives another error, as
/// HTTP marks the end of a body.
pub(crate) fn without_leftover_bytes<T>(
    stream: impl Stream<Item = Result<T, ClientError>> + Unpin,
) -> impl Stream<Item = Result<T, ClientError>> + Unpin {
    stream.take_while(|item| {
        let is_leftover = matches!(
            item,
            Err(ClientError::IOError { err }) if err.to_string() == "bytes remaining on stream"
        );
        future::ready(!is_leftover)
    })
}
