//! What a builder made, passed on to the engine as it arrives.
//!
//! A builder sends the image over the session, as an archive for `docker load`.

use std::io;
use std::sync::{Mutex, PoisonError};

use bollard::models::BuildInfo;
use bollard_buildkit_proto::moby::filesync::v1::BytesMessage;
use bollard_buildkit_proto::moby::filesync::v1::file_send_server::FileSend;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::StreamBody;
use hyper::Request as HttpRequest;
use hyper::body::Frame;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::engine::address::Address;
use crate::engine::error::{EngineError, invalid_request};
use crate::engine::response;
use crate::engine::upload::ContextError;

/// Its only method.
pub(super) const METHOD: &str = "/moby.filesync.v1.FileSend/DiffCopy";

const CHUNKS_IN_FLIGHT: usize = 16;

/// The archive of an image, in pieces.
pub(super) type Archive = Receiver<io::Result<Bytes>>;

/// Receives one image.
#[derive(Debug)]
pub(super) struct ExportedImage(Mutex<Option<Sender<io::Result<Bytes>>>>);

impl ExportedImage {
    pub(super) fn receive() -> (Self, Archive) {
        let (sender, archive) = mpsc::channel(CHUNKS_IN_FLIGHT);
        (Self(Mutex::new(Some(sender))), archive)
    }
}

#[tonic::async_trait]
impl FileSend for ExportedImage {
    type DiffCopyStream = stream::Empty<Result<BytesMessage, Status>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let sender = sender.ok_or_else(|| Status::already_exists("there is one image"))?;
        let mut messages = request.into_inner();
        loop {
            let chunk = match messages.message().await {
                Ok(Some(message)) => Ok(Bytes::from(message.data)),
                Ok(None) => return Ok(Response::new(stream::empty())),
                // An archive that merely ends would look complete to the engine.
                Err(status) => {
                    Err(ContextError::wrap(io::Error::other(status.message().to_owned())))
                }
            };
            if sender.send(chunk).await.is_err() {
                return Err(Status::aborted("the engine does not load the image"));
            }
        }
    }
}

/// Loads an image into the engine, once its first bytes are here. Nothing is loaded if none come.
pub(super) async fn load(address: &Address, mut archive: Archive) -> Result<(), EngineError> {
    let Some(first) = archive.recv().await else { return Ok(()) };
    let chunks = stream::once(async { first }).chain(ReceiverStream::new(archive));
    let request = HttpRequest::post(address.path("/images/load?quiet=1"))
        .header("Host", address.socket.host())
        .header("Content-Type", "application/x-tar")
        .body(StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))))
        .map_err(|error| invalid_request(&error))?;
    let mut lines = response::post::<BuildInfo, _>(&address.socket, request).await?;
    while let Some(line) = lines.next().await {
        line?;
    }
    Ok(())
}
