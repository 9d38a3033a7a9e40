//! Serves a builder the blobs of images that it does not have.
//!
//! It is the reading half of containerd's content service (`containerd.services.content.v1`), which
//! BuildKit calls over a session for images of an OCI layout. The client crate's definitions lack
//! it, so its few messages are written down here.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::engine::saved_image::SavedImage;

/// The paths of its methods.
pub(super) const METHODS: [&str; 2] = [
    "/containerd.services.content.v1.Content/Info",
    "/containerd.services.content.v1.Content/Read",
];

/// As large as a message may be that gRPC's clients accept, with room to spare.
const CHUNK: usize = 1 << 20;
const CHUNKS_IN_FLIGHT: usize = 4;

#[derive(Clone, PartialEq, prost::Message)]
struct InfoRequest {
    #[prost(string, tag = "1")]
    digest: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Info {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(int64, tag = "2")]
    size: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct InfoResponse {
    #[prost(message, optional, tag = "1")]
    info: Option<Info>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReadRequest {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(int64, tag = "2")]
    offset: i64,
    /// How much to read; everything if 0.
    #[prost(int64, tag = "3")]
    size: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReadResponse {
    #[prost(int64, tag = "1")]
    offset: i64,
    #[prost(bytes = "vec", tag = "2")]
    data: Vec<u8>,
}

/// The blobs of several images.
#[derive(Clone, Debug)]
pub(crate) struct ContentService(Arc<Vec<Arc<SavedImage>>>);

impl ContentService {
    pub(crate) fn new(images: Vec<Arc<SavedImage>>) -> Self {
        Self(Arc::new(images))
    }

    /// An image that has a blob, and the blob's size.
    fn find(&self, digest: &str) -> Result<(Arc<SavedImage>, u64), Status> {
        let found = self.0.iter().find_map(|image| Some((Arc::clone(image), image.size(digest)?)));
        found.ok_or_else(|| Status::not_found(format!("content {digest}: not found")))
    }

    fn info(&self, digest: String) -> Result<Response<InfoResponse>, Status> {
        let (_, size) = self.find(&digest)?;
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        Ok(Response::new(InfoResponse { info: Some(Info { digest, size }) }))
    }

    fn read(&self, request: ReadRequest) -> Result<Response<Chunks>, Status> {
        let (image, size) = self.find(&request.digest)?;
        let offset = u64::try_from(request.offset).unwrap_or_default();
        let wanted = u64::try_from(request.size).ok().filter(|wanted| *wanted > 0);
        let end = wanted.map_or(size, |wanted| size.min(offset.saturating_add(wanted)));
        let (chunks, response) = mpsc::channel(CHUNKS_IN_FLIGHT);
        tokio::task::spawn_blocking(move || {
            send(&image, &request.digest, offset..end, &chunks);
        });
        Ok(Response::new(ReceiverStream::new(response)))
    }
}

type Chunk = Result<ReadResponse, Status>;
type Chunks = ReceiverStream<Chunk>;

/// Sends a range of a blob, until it ends or nobody listens.
fn send(
    image: &SavedImage,
    digest: &str,
    range: std::ops::Range<u64>,
    chunks: &mpsc::Sender<Chunk>,
) {
    let mut offset = range.start;
    while offset < range.end {
        let left = usize::try_from(range.end - offset).unwrap_or(CHUNK);
        let mut data = vec![0; left.min(CHUNK)];
        let chunk = match image.read_at(digest, offset, &mut data) {
            Ok(0) => Err(Status::data_loss(format!("content {digest} ends early"))),
            Ok(read) => {
                data.truncate(read);
                let response = ReadResponse { offset: i64::try_from(offset).unwrap_or(0), data };
                offset += read as u64;
                Ok(response)
            }
            Err(error) => Err(Status::data_loss(error.to_string())),
        };
        let is_last = chunk.is_err();
        if chunks.blocking_send(chunk).is_err() || is_last {
            return;
        }
    }
}

impl NamedService for ContentService {
    const NAME: &'static str = "containerd.services.content.v1.Content";
}

impl Service<http::Request<Body>> for ContentService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let [info, read] = METHODS;
        let service = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                path if path == info => {
                    Grpc::new(ProstCodec::default()).unary(InfoMethod(service), request).await
                }
                path if path == read => {
                    let mut grpc = Grpc::new(ProstCodec::default());
                    grpc.server_streaming(ReadMethod(service), request).await
                }
                // A builder that writes, lists or deletes gets it wrong.
                _ => Status::unimplemented("only reading").into_http(),
            })
        })
    }
}

struct InfoMethod(ContentService);

impl UnaryService<InfoRequest> for InfoMethod {
    type Response = InfoResponse;
    type Future = BoxFuture<Response<InfoResponse>, Status>;

    fn call(&mut self, request: Request<InfoRequest>) -> Self::Future {
        let answer = self.0.info(request.into_inner().digest);
        Box::pin(async { answer })
    }
}

struct ReadMethod(ContentService);

impl ServerStreamingService<ReadRequest> for ReadMethod {
    type Response = ReadResponse;
    type ResponseStream = Chunks;
    type Future = BoxFuture<Response<Chunks>, Status>;

    fn call(&mut self, request: Request<ReadRequest>) -> Self::Future {
        let answer = self.0.read(request.into_inner());
        Box::pin(async { answer })
    }
}
