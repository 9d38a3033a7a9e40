//! The answer to a build, a pull or a push, on a connection of our own.
//!
//! An engine answers with JSON, an object a line, and a line can be as long as what an
//! instruction writes or a registry answers. The client crate reads a line from its beginning with each
//! piece that comes of it, without bound. So where the engine can be reached without TLS
//! the answer is read here: each byte once, and of a line no more than [`LONGEST`].

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;

use bollard::models::{BuildInfo, ErrorDetail};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use super::{EngineError, cause_of};
use crate::engine::session::Address;
use crate::system::lines::{Line, Lines, shorten};

/// Of a longer line nothing is understood but its length.
const LONGEST: usize = 16 << 20;

/// An error is not worth more of memory and terminal than that.
const LONGEST_ERROR: usize = 64 << 10;

/// A piece of the answer.
pub(crate) enum Part<T> {
    /// What a line says.
    Info(Box<T>),
    /// A line of so many bytes, too long to be read.
    Skipped(usize),
}

/// What a line can say, the error that ends a build, a pull or a push among it.
pub(crate) trait Info: DeserializeOwned {
    fn take_error(&mut self) -> Option<ErrorDetail>;
}

impl Info for BuildInfo {
    fn take_error(&mut self) -> Option<ErrorDetail> {
        self.error_detail.take()
    }
}

/// What is said of a pull or a push.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Transfer {
    pub(crate) status: Option<String>,
    error_detail: Option<ErrorDetail>,
}

impl Transfer {
    pub(crate) fn new(status: Option<String>) -> Self {
        Self { status, error_detail: None }
    }
}

impl Info for Transfer {
    fn take_error(&mut self) -> Option<ErrorDetail> {
        self.error_detail.take()
    }
}

/// Sends a request; what comes back ends the connection when it is dropped.
pub(crate) async fn post<T, B>(
    address: &Address,
    request: Request<B>,
) -> Result<impl Stream<Item = Result<Part<T>, EngineError>> + Unpin + use<T, B>, EngineError>
where
    T: Info,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (answer, connection) = match address {
        Address::Socket(path) => send(UnixStream::connect(path).await, request).await?,
        Address::Port(port) => send(TcpStream::connect(port).await, request).await?,
    };
    if !answer.status().is_success() {
        return Err(refusal(answer).await);
    }
    let reader = AnswerReader {
        body: answer.into_body(),
        lines: Lines::new(LONGEST),
        ended: VecDeque::new(),
        info: PhantomData,
        _connection: connection,
    };
    Ok(Box::pin(stream::unfold(reader, async |mut reader| Some((reader.next().await?, reader)))))
}

async fn send<B>(
    stream: io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>,
    request: Request<B>,
) -> Result<(Response<Incoming>, JoinSet<()>), EngineError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = stream.map_err(|error| cause_of(&error))?;
    let (mut sender, running) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| cause_of(&error))?;
    let mut connection = JoinSet::new();
    // Whoever reads the answer hears of its errors.
    connection.spawn(async { drop(running.await) });
    let answer = sender.send_request(request).await.map_err(|error| cause_of(&error))?;
    Ok((answer, connection))
}

/// What the engine says in place of an answer.
async fn refusal(answer: Response<Incoming>) -> EngineError {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
    }
    let status = answer.status();
    let text = match Limited::new(answer.into_body(), LONGEST_ERROR).collect().await {
        Ok(text) => text.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return EngineError::Refused("the engine's reason is too long to be shown".to_owned());
        }
        Err(error) => return EngineError::Lost(error.to_string()),
    };
    let message = serde_json::from_slice(&text).map(|Refusal { message }| message);
    let message = message.unwrap_or_else(|_| String::from_utf8_lossy(&text).into_owned());
    EngineError::Refused(match message.trim() {
        "" => format!("the engine answers {status} and gives no reason"),
        _ => message,
    })
}

struct AnswerReader<T> {
    body: Incoming,
    lines: Lines,
    ended: VecDeque<Line>,
    info: PhantomData<T>,
    _connection: JoinSet<()>,
}

impl<T: Info> AnswerReader<T> {
    async fn next(&mut self) -> Option<Result<Part<T>, EngineError>> {
        loop {
            match self.ended.pop_front() {
                Some(line) if line.more > 0 => {
                    return Some(Ok(Part::Skipped(line.bytes.len() + line.more)));
                }
                Some(line) if line.bytes.trim_ascii().is_empty() => continue,
                Some(line) => return Some(understand(&line.bytes)),
                None => {}
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    let bytes = frame.into_data().unwrap_or_default();
                    let ended = &mut self.ended;
                    self.lines.push(&bytes, |line| ended.push_back(line));
                }
                Some(Err(error)) => return Some(Err(EngineError::Lost(error.to_string()))),
                None => self.ended.push_back(self.lines.end()?),
            }
        }
    }
}

fn understand<T: Info>(line: &[u8]) -> Result<Part<T>, EngineError> {
    let mut info: T =
        serde_json::from_slice(line).map_err(|error| EngineError::Lost(error.to_string()))?;
    match info.take_error().and_then(|detail| detail.message) {
        Some(message) => Err(EngineError::Refused(shorten(message, LONGEST_ERROR))),
        None => Ok(Part::Info(Box::new(info))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_the_answer_is_what_the_engine_refuses() {
        let refused =
            understand::<BuildInfo>(br#"{"errorDetail":{"code":1,"message":"no"},"error":"no"}"#);
        assert!(matches!(refused, Err(EngineError::Refused(message)) if message == "no"));
        assert!(matches!(understand::<BuildInfo>(b"<html>"), Err(EngineError::Lost(_))));
        assert!(matches!(understand::<BuildInfo>(br#"{"stream":"x"}"#), Ok(Part::Info(_))));
        let refused = understand::<Transfer>(br#"{"errorDetail":{"message":"no"},"error":"no"}"#);
        assert!(matches!(refused, Err(EngineError::Refused(message)) if message == "no"));
    }
}
