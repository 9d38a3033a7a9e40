//! The response to a build, a pull or a push, read on a connection of our own.
//!
//! An engine responds with one JSON object per line, and a line can be as long as what an
//! instruction writes or a registry returns. The client crate buffers lines without a limit and
//! rescans a line from its start with each chunk. So such a response is read here: each byte once,
//! and at most [`MAX_LINE`] bytes of a line.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::marker::PhantomData;

use bollard::models::{BuildInfo, ErrorDetail, ProgressDetail};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use crate::engine::address::{Address, Socket};
use crate::engine::error::{CALL_TIMEOUT, EngineError, invalid_request, transport_error};
use crate::system::lines::{Line, Lines, shorten};

/// A longer line is skipped.
const MAX_LINE: usize = 16 << 20;

const MAX_ERROR: usize = 64 << 10;

/// A line of a response.
pub(crate) enum ResponseLine<T> {
    Message(Box<T>),
    /// The length of a line above [`MAX_LINE`].
    Oversized(usize),
}

/// A message in a response, which may be the error that ends it.
pub(crate) trait Message: DeserializeOwned {
    fn take_error(&mut self) -> Option<ErrorDetail>;
}

impl Message for BuildInfo {
    fn take_error(&mut self) -> Option<ErrorDetail> {
        self.error_detail.take()
    }
}

/// A message of a pull or a push.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TransferStatus {
    /// The layer.
    pub(crate) id: Option<String>,
    pub(crate) status: Option<String>,
    progress_detail: Option<ProgressDetail>,
    error_detail: Option<ErrorDetail>,
}

impl TransferStatus {
    pub(crate) fn new(
        id: Option<String>,
        status: Option<String>,
        progress_detail: Option<ProgressDetail>,
    ) -> Self {
        Self { id, status, progress_detail, error_detail: None }
    }

    /// The bytes of the layer that are done, and all of them.
    pub(crate) fn progress(&self) -> Option<(u64, u64)> {
        let ProgressDetail { current, total } = self.progress_detail.as_ref()?;
        let bytes = |count: Option<i64>| u64::try_from(count?).ok();
        Some((bytes(*current)?, bytes(*total).unwrap_or_default()))
    }
}

impl Message for TransferStatus {
    fn take_error(&mut self) -> Option<ErrorDetail> {
        self.error_detail.take()
    }
}

/// Sends a request. Dropping the stream closes the connection.
pub(crate) async fn post<T, B>(
    socket: &Socket,
    request: Request<B>,
) -> Result<impl Stream<Item = Result<ResponseLine<T>, EngineError>> + Unpin + use<T, B>, EngineError>
where
    T: Message,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let (response, connection) = send(socket, request).await?;
    if !response.status().is_success() {
        return Err(error_in(response).await);
    }
    let reader = ResponseReader {
        body: response.into_body(),
        lines: Lines::new(MAX_LINE),
        complete: VecDeque::new(),
        message: PhantomData,
        _connection: connection,
    };
    Ok(Box::pin(stream::unfold(reader, async |mut reader| Some((reader.next().await?, reader)))))
}

/// The whole response to a call that only reads something.
pub(super) async fn get(address: &Address, call: &str) -> Result<Bytes, EngineError> {
    let sent = tokio::time::timeout(CALL_TIMEOUT, read_from(address, call)).await;
    let (response, _connection) = sent.unwrap_or(Err(EngineError::Timeout))?;
    let body = response.into_body().collect().await.map_err(|error| transport_error(&error))?;
    Ok(body.to_bytes())
}

/// Writes the response to a call to a file, however long it takes.
pub(super) async fn download(
    address: &Address,
    call: &str,
    mut file: File,
) -> Result<File, EngineError> {
    let (response, _connection) = read_from(address, call).await?;
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| transport_error(&error))?;
        let bytes = frame.into_data().unwrap_or_default();
        file.write_all(&bytes).map_err(|error| EngineError::Context(error.to_string()))?;
    }
    file.rewind().map_err(|error| EngineError::Context(error.to_string()))?;
    Ok(file)
}

/// The response to a call that only reads something, if it succeeds.
async fn read_from(
    address: &Address,
    call: &str,
) -> Result<(Response<Incoming>, JoinSet<()>), EngineError> {
    let Address { socket, .. } = address;
    let request = Request::get(address.path(call)).header("Host", socket.host());
    let request = request.body(Empty::new()).map_err(|error| invalid_request(&error))?;
    let (response, connection) = send(socket, request).await?;
    if !response.status().is_success() {
        return Err(error_in(response).await);
    }
    Ok((response, connection))
}

/// Sends a request, and returns the response and what has to be kept to read its body.
pub(super) async fn send<B>(
    socket: &Socket,
    request: Request<B>,
) -> Result<(Response<Incoming>, JoinSet<()>), EngineError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    match socket {
        Socket::Unix(path) => exchange(UnixStream::connect(path).await, request).await,
        Socket::Tcp(host) => exchange(TcpStream::connect(host).await, request).await,
    }
}

async fn exchange<B>(
    stream: io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>,
    request: Request<B>,
) -> Result<(Response<Incoming>, JoinSet<()>), EngineError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let stream = stream.map_err(|error| transport_error(&error))?;
    let (mut sender, running) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| transport_error(&error))?;
    let mut connection = JoinSet::new();
    // The request and the response return its errors too.
    connection.spawn(async { drop(running.await) });
    let response = sender.send_request(request).await.map_err(|error| transport_error(&error))?;
    Ok((response, connection))
}

/// The error in a response whose status is not a success.
pub(super) async fn error_in(response: Response<Incoming>) -> EngineError {
    #[derive(Deserialize)]
    struct ErrorResponse {
        // Podman's is that of a stream.
        #[serde(alias = "error")]
        message: String,
    }
    let status = response.status();
    let text = match Limited::new(response.into_body(), MAX_ERROR).collect().await {
        Ok(text) => text.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return EngineError::Refused(format!(
                "the engine responded with status {status} and an error message of more than \
                 {MAX_ERROR} bytes"
            ));
        }
        Err(error) => return EngineError::Lost(error.to_string()),
    };
    let message = serde_json::from_slice(&text).map(|ErrorResponse { message }| message);
    let message = message.unwrap_or_else(|_| String::from_utf8_lossy(&text).into_owned());
    EngineError::Refused(match message.trim() {
        "" => format!("the engine responded with status {status} and no error message"),
        _ => message,
    })
}

struct ResponseReader<T> {
    body: Incoming,
    lines: Lines,
    complete: VecDeque<Line>,
    message: PhantomData<T>,
    _connection: JoinSet<()>,
}

impl<T: Message> ResponseReader<T> {
    async fn next(&mut self) -> Option<Result<ResponseLine<T>, EngineError>> {
        loop {
            match self.complete.pop_front() {
                Some(line) if line.omitted > 0 => {
                    return Some(Ok(ResponseLine::Oversized(line.bytes.len() + line.omitted)));
                }
                Some(line) if line.bytes.trim_ascii().is_empty() => continue,
                Some(line) => return Some(parse(&line.bytes)),
                None => {}
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    let bytes = frame.into_data().unwrap_or_default();
                    let complete = &mut self.complete;
                    self.lines.push(&bytes, |line| complete.push_back(line));
                }
                Some(Err(error)) => return Some(Err(EngineError::Lost(error.to_string()))),
                None => self.complete.push_back(self.lines.end()?),
            }
        }
    }
}

fn parse<T: Message>(line: &[u8]) -> Result<ResponseLine<T>, EngineError> {
    let mut message: T = serde_json::from_slice(line)
        .map_err(|error| EngineError::InvalidResponse(error.to_string()))?;
    match message.take_error().and_then(|detail| detail.message) {
        Some(error) => Err(EngineError::Refused(shorten(error, MAX_ERROR))),
        None => Ok(ResponseLine::Message(Box::new(message))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_a_response_is_the_error_of_the_call() {
        let error =
            parse::<BuildInfo>(br#"{"errorDetail":{"code":1,"message":"no"},"error":"no"}"#);
        assert!(matches!(error, Err(EngineError::Refused(message)) if message == "no"));
        assert!(matches!(parse::<BuildInfo>(b"<html>"), Err(EngineError::InvalidResponse(_))));
        let line = parse::<BuildInfo>(br#"{"stream":"x"}"#);
        assert!(matches!(line, Ok(ResponseLine::Message(_))));
        let error = parse::<TransferStatus>(br#"{"errorDetail":{"message":"no"},"error":"no"}"#);
        assert!(matches!(error, Err(EngineError::Refused(message)) if message == "no"));
    }
}
