//! Why a call to the engine failed.

use std::error::Error as StdError;
use std::time::Duration;

use bollard::errors::Error as ClientError;

use crate::engine::address::DEFAULT_SOCKET;
use crate::engine::programs::how_to_get_an_engine;
use crate::engine::upload::ContextError;

/// How long a call other than an upload may take.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_mins(1);

/// Why a call to the engine failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No connection.
    #[error(
        "cannot connect to the engine at {endpoint}: {cause}. {}, or point DOCKER_HOST or the \
         Docker context at a running engine",
        how_to_start(endpoint)
    )]
    Unreachable {
        /// The engine's URL.
        endpoint: String,
        /// The error of the connection.
        cause: String,
    },
    /// The engine's URL, TLS files or Docker context are invalid.
    #[error("{0}")]
    Endpoint(String),
    /// The connection broke during a call.
    #[error("the connection to the engine was lost: {0}")]
    Lost(String),
    /// The engine accepted a request and did not respond.
    #[error("the engine did not respond within {} seconds", CALL_TIMEOUT.as_secs())]
    Timeout,
    /// A response is not what the API specifies.
    #[error("the engine sent an invalid response: {0}")]
    InvalidResponse(String),
    /// A request cannot be sent as HTTP.
    #[error("cannot create the request to the engine: {0}")]
    InvalidRequest(String),
    /// A file of the context cannot be read.
    #[error("{0}")]
    Context(String),
    /// An instruction of a Dockerfile failed.
    #[error("{message}")]
    Instruction {
        /// The instruction as the engine names it.
        text: String,
        /// The engine's message.
        message: String,
    },
    /// The engine's own error message.
    #[error("{0}")]
    Refused(String),
    /// The user pressed Ctrl-C during the call.
    #[error("interrupted")]
    Interrupted,
}

/// Why there is no connection to an engine behind TLS or ssh.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// Nobody answers there.
    Away(String),
    /// Somebody answers, and something has to be done about it.
    Refused(String),
}

/// What is to be done where nobody answers.
fn how_to_start(endpoint: &str) -> String {
    if endpoint == DEFAULT_SOCKET { how_to_get_an_engine() } else { "Start Docker".to_owned() }
}

pub(crate) fn invalid_request(error: &dyn StdError) -> EngineError {
    EngineError::InvalidRequest(error.to_string())
}

impl From<ClientError> for EngineError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::DockerStreamError { error } => Self::Refused(error),
            ClientError::DockerResponseServerError { message, .. } => Self::Refused(message),
            ClientError::RequestTimeoutError => Self::Timeout,
            ClientError::JsonDataError { .. }
            | ClientError::JsonSerdeError { .. }
            | ClientError::StrParseError { .. } => Self::InvalidResponse(error.to_string()),
            ClientError::IOError { err } => transport_error(&err),
            other => transport_error(&other),
        }
    }
}

/// Whether a request failed because our own body could not be read, or the connection.
pub(crate) fn transport_error(error: &(dyn StdError + 'static)) -> EngineError {
    let mut cause = error;
    loop {
        if let Some(context) = ContextError::find(cause) {
            return EngineError::Context(context.to_string());
        }
        match cause.source() {
            Some(source) => cause = source,
            None => return EngineError::Lost(cause.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use bollard::query_parameters::BuildImageOptionsBuilder;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use bollard::Docker;
    use bytes::Bytes;
    use futures_util::{Stream, StreamExt};
    use hyper::Request;

    use super::*;
    use crate::engine::address::Socket;
    use crate::engine::response::{self, TransferStatus};

    /// An endpoint that reads what it is sent, and never responds.
    async fn silent_endpoint() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                tokio::spawn(async move { while connection.read_u8().await.is_ok() {} });
            }
        });
        format!("tcp://{address}")
    }

    fn unreadable_context() -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static {
        let error = io::Error::new(io::ErrorKind::NotFound, "src/a/file: gone");
        let chunks = [Ok(Bytes::from_static(b"tar")), Err(ContextError::wrap(error))];
        futures_util::stream::iter(chunks)
    }

    #[tokio::test]
    async fn an_unreadable_context_is_not_reported_as_a_lost_connection() {
        let endpoint = silent_endpoint().await;
        let client = Docker::connect_with_http(&endpoint, 60, bollard::API_DEFAULT_VERSION);
        let body = bollard::body_try_stream(unreadable_context());
        let options = BuildImageOptionsBuilder::default().build();
        let client = client.unwrap();
        let mut messages = client.build_image(options, None, Some(body));
        let error = EngineError::from(messages.next().await.unwrap().unwrap_err());
        assert!(matches!(&error, EngineError::Context(text) if text == "src/a/file: gone"));

        let socket = Socket::of_endpoint(&endpoint).unwrap();
        let body = http_body_util::StreamBody::new(
            unreadable_context().map(|chunk| chunk.map(hyper::body::Frame::data)),
        );
        let request = Request::post("/build").header("Host", "docker").body(body).unwrap();
        let error = response::post::<TransferStatus, _>(&socket, request).await.err().unwrap();
        assert!(matches!(&error, EngineError::Context(text) if text == "src/a/file: gone"));
    }

    #[tokio::test]
    async fn a_closed_connection_is_a_lost_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                drop(connection.shutdown().await);
            }
        });
        let client = Docker::connect_with_http(&endpoint, 60, bollard::API_DEFAULT_VERSION);
        let error = client.unwrap().ping().await.unwrap_err();
        assert!(matches!(EngineError::from(error), EngineError::Lost(_)));
    }
}
