//! Serves a builder the blobs of images that it does not have, and of build caches in folders of
//! this machine, which it writes, too.
//!
//! It is the part of containerd's content service (`containerd.services.content.v1`) that BuildKit
//! calls over a session. The client crate's definitions lack it, so its few messages are written
//! down here. A header says which store is meant; for images, any digest leads to what it is for.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{Grpc, NamedService, ServerStreamingService, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::engine::local_cache::{LocalCache, Upload};
use crate::engine::saved_image::SavedImage;

/// The paths of its methods.
pub(super) const METHODS: [&str; 3] = [
    "/containerd.services.content.v1.Content/Info",
    "/containerd.services.content.v1.Content/Read",
    "/containerd.services.content.v1.Content/Write",
];

/// The header with the name of a store. That of a cache is `local:FOLDER`.
const STORE: &str = "buildkit-attachable-store-id";

/// What an action of a write means. 0 only asks how far it is.
const WRITE: i32 = 1;
const COMMIT: i32 = 2;

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

#[derive(Clone, PartialEq, prost::Message)]
struct WriteRequest {
    #[prost(int32, tag = "1")]
    action: i32,
    #[prost(int64, tag = "3")]
    total: i64,
    /// The digest; empty if it is not known yet.
    #[prost(string, tag = "4")]
    expected: String,
    #[prost(int64, tag = "5")]
    offset: i64,
    #[prost(bytes = "vec", tag = "6")]
    data: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WriteResponse {
    #[prost(int32, tag = "1")]
    action: i32,
    #[prost(int64, tag = "4")]
    offset: i64,
    #[prost(int64, tag = "5")]
    total: i64,
    #[prost(string, tag = "6")]
    digest: String,
}

/// The blobs of several images and caches.
#[derive(Clone, Debug)]
pub(crate) struct ContentService {
    images: Arc<Vec<Arc<SavedImage>>>,
    caches: Arc<Vec<LocalCache>>,
}

/// What has a blob.
enum Holder {
    Image(Arc<SavedImage>),
    Cache(LocalCache),
}

impl Holder {
    fn size(&self, digest: &str) -> Option<u64> {
        match self {
            Self::Image(image) => image.size(digest),
            Self::Cache(cache) => cache.size(digest),
        }
    }

    fn read_at(&self, digest: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Image(image) => image.read_at(digest, offset, buffer),
            Self::Cache(cache) => cache.read_at(digest, offset, buffer),
        }
    }
}

impl ContentService {
    /// None if there is nothing to serve.
    pub(crate) fn new(images: Vec<Arc<SavedImage>>, caches: Vec<LocalCache>) -> Option<Self> {
        let is_needed = !images.is_empty() || !caches.is_empty();
        is_needed.then(|| Self { images: Arc::new(images), caches: Arc::new(caches) })
    }

    /// The cache that a request is about, if it is about one.
    fn cache<T>(&self, request: &Request<T>) -> Option<LocalCache> {
        let store = request.metadata().get(STORE)?.to_str().ok()?;
        let folder = Path::new(store.strip_prefix("local:")?);
        self.caches.iter().find(|cache| cache.folder() == folder).cloned()
    }

    /// What has a blob, and the blob's size.
    fn find(&self, cache: Option<LocalCache>, digest: &str) -> Result<(Holder, u64), Status> {
        let images = self.images.iter().map(|image| Holder::Image(Arc::clone(image)));
        let mut holders = cache.map(Holder::Cache).into_iter().chain(images);
        let found = holders.find_map(|holder| holder.size(digest).map(|size| (holder, size)));
        found.ok_or_else(|| Status::not_found(format!("content {digest}: not found")))
    }

    fn info(&self, request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let cache = self.cache(&request);
        let digest = request.into_inner().digest;
        let (_, size) = self.find(cache, &digest)?;
        let size = length(size);
        Ok(Response::new(InfoResponse { info: Some(Info { digest, size }) }))
    }

    fn read(&self, request: Request<ReadRequest>) -> Result<Response<Chunks>, Status> {
        let cache = self.cache(&request);
        let request = request.into_inner();
        let (holder, size) = self.find(cache, &request.digest)?;
        let offset = u64::try_from(request.offset).unwrap_or_default();
        let wanted = u64::try_from(request.size).ok().filter(|wanted| *wanted > 0);
        let end = wanted.map_or(size, |wanted| size.min(offset.saturating_add(wanted)));
        let (chunks, response) = mpsc::channel(CHUNKS_IN_FLIGHT);
        tokio::task::spawn_blocking(move || {
            send(&holder, &request.digest, offset..end, &chunks);
        });
        Ok(Response::new(ReceiverStream::new(response)))
    }

    /// Each message of a write has an answer.
    fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let no_cache = || Status::unimplemented("images are only read");
        let cache = self.cache(&request).ok_or_else(no_cache)?;
        let mut messages = request.into_inner();
        let (answers, response) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut upload = None;
            while let Ok(Some(message)) = messages.message().await {
                let is_last = message.action == COMMIT;
                let answer = write(&cache, &mut upload, &message);
                let is_last = is_last || answer.is_err();
                if answers.send(answer).await.is_err() || is_last {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(response)))
    }
}

/// Does what one message of a write says.
fn write(
    cache: &LocalCache,
    upload: &mut Option<Upload>,
    message: &WriteRequest,
) -> Result<WriteResponse, Status> {
    let failed = |error: io::Error| {
        let folder = cache.folder().display();
        Status::internal(format!("the build cache in {folder} cannot be written: {error}"))
    };
    if cache.size(&message.expected).is_some() {
        return Err(Status::already_exists(format!(
            "content {}: already exists",
            message.expected
        )));
    }
    let mut current = match upload.take() {
        Some(upload) => upload,
        None => cache.begin().map_err(failed)?,
    };
    let is_change = matches!(message.action, WRITE | COMMIT);
    if is_change && message.offset == 0 && current.size > 0 {
        current.restart().map_err(failed)?;
    }
    if is_change && length(current.size) != message.offset {
        return Err(Status::out_of_range(format!("the write is at {}", current.size)));
    }
    if is_change {
        current.write(&message.data).map_err(failed)?;
    }
    let (action, offset, total) = (message.action, length(current.size), message.total);
    let mut digest = String::new();
    if action == COMMIT {
        digest = current.commit(cache, &message.expected).map_err(failed)?;
    } else {
        *upload = Some(current);
    }
    Ok(WriteResponse { action, offset, total, digest })
}

fn length(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

type Answers = ReceiverStream<Result<WriteResponse, Status>>;

type Chunk = Result<ReadResponse, Status>;
type Chunks = ReceiverStream<Chunk>;

/// Sends a range of a blob, until it ends or nobody listens.
fn send(holder: &Holder, digest: &str, range: std::ops::Range<u64>, chunks: &mpsc::Sender<Chunk>) {
    let mut offset = range.start;
    while offset < range.end {
        let left = usize::try_from(range.end - offset).unwrap_or(CHUNK);
        let mut data = vec![0; left.min(CHUNK)];
        let chunk = match holder.read_at(digest, offset, &mut data) {
            Ok(0) => Err(Status::data_loss(format!("content {digest} ends early"))),
            Ok(read) => {
                data.truncate(read);
                let response = ReadResponse { offset: length(offset), data };
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
        let [info, read, write] = METHODS;
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
                path if path == write => {
                    Grpc::new(ProstCodec::default()).streaming(WriteMethod(service), request).await
                }
                // A builder that lists or deletes gets it wrong.
                _ => Status::unimplemented("only reading and writing").into_http(),
            })
        })
    }
}

struct InfoMethod(ContentService);

impl UnaryService<InfoRequest> for InfoMethod {
    type Response = InfoResponse;
    type Future = BoxFuture<Response<InfoResponse>, Status>;

    fn call(&mut self, request: Request<InfoRequest>) -> Self::Future {
        let answer = self.0.info(request);
        Box::pin(async { answer })
    }
}

struct ReadMethod(ContentService);

impl ServerStreamingService<ReadRequest> for ReadMethod {
    type Response = ReadResponse;
    type ResponseStream = Chunks;
    type Future = BoxFuture<Response<Chunks>, Status>;

    fn call(&mut self, request: Request<ReadRequest>) -> Self::Future {
        let answer = self.0.read(request);
        Box::pin(async { answer })
    }
}

struct WriteMethod(ContentService);

impl StreamingService<WriteRequest> for WriteMethod {
    type Response = WriteResponse;
    type ResponseStream = Answers;
    type Future = BoxFuture<Response<Answers>, Status>;

    fn call(&mut self, request: Request<Streaming<WriteRequest>>) -> Self::Future {
        let answer = self.0.write(request);
        Box::pin(async { answer })
    }
}
