//! One image's build: the context goes to the engine while its progress comes back as
//! events.
//!
//! BuildKit asks for files, and has those of the last build: after a small change in a large
//! context, little is sent, and nothing unpacked. The classic builder, and BuildKit behind
//! TLS, get the context as an archive that is made while it is sent.
//!
//! The build is cancelled, in the engine too, by dropping the future: the
//! connection closes and the engine stops what runs for it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bollard::auth::DockerCredentials;
use bollard::models::{BuildInfo, BuildInfoAux};
use bollard::query_parameters::{BuildImageOptions, BuildImageOptionsBuilder, BuilderVersion};
use bytes::Bytes;
use futures_util::{Stream as Answers, StreamExt};
use http_body_util::{Full, StreamBody};
use hyper::Request;
use hyper::body::{Body, Frame};
use tokio_stream::wrappers::ReceiverStream;
use xtask_core::context::build_context::Context;

use super::{Builder, DockerEngine, EngineError, Logins, query, to_their_end, upload};
use crate::engine::answer::{self, Part};
use crate::engine::credentials::server_of;
use crate::engine::file_sync::Files;
use crate::engine::progress::BuildProgress;
use crate::engine::session::{Address, Session, unique_session};
use crate::engine::sync_ledger::SyncLedger;
use crate::engine::waiting::Wait;
use crate::event::{Event, Events};
use crate::system::state;

/// What is asked of the engine for one image.
#[derive(Debug)]
pub struct BuildRequest<'a> {
    /// The workspace's.
    pub root: &'a Path,
    /// For the events.
    pub component: &'a str,
    /// The image's name, which becomes its `latest` tag.
    pub image: &'a str,
    /// The Dockerfile, relative to the context.
    pub dockerfile: &'a str,
    /// What the engine receives.
    pub context: Context,
    /// Values for the Dockerfile's `ARG`s.
    pub build_args: &'a BTreeMap<String, String>,
    /// What the image says of itself.
    pub labels: &'a BTreeMap<&'static str, String>,
    /// Run every instruction again.
    pub no_cache: bool,
    /// Logins, by registry.
    pub credentials: &'a Logins,
}

/// Builds and tags one image, and tells its id.
pub(crate) async fn run(
    engine: &DockerEngine,
    request: BuildRequest<'_>,
    events: &Events,
) -> Result<String, EngineError> {
    let builder = engine.builder().await?;
    let sent = Event::ContextSent {
        component: request.component.to_owned(),
        image: request.image.to_owned(),
    };
    let told = events.clone();
    let is_sent = move || told.send(sent.clone());
    let mut build = Build {
        engine,
        request: &request,
        builder,
        wait: engine
            .waiting
            .begin(format!("the engine at {} to begin image '{}'", engine.endpoint, request.image)),
        progress: BuildProgress::new(request.component, request.image, events),
    };
    if builder == Builder::BuildKit
        && let Some(address) = &engine.address
        && let Some(shared) =
            build.wait.answer(Shared::open(address, &request, is_sent.clone())).await?
    {
        let options = shared.options(options(&request));
        let built = build.posted(address, &options, Full::new(Bytes::new())).await;
        return shared.blame(built);
    }
    match build.streamed(is_sent.clone()).await {
        Err(error) if builder == Builder::Classic && lost_a_cached_image(&error) => {
            build.streamed(is_sent).await
        }
        built => built,
    }
}

/// A build that is asked for.
struct Build<'a> {
    engine: &'a DockerEngine,
    request: &'a BuildRequest<'a>,
    builder: Builder,
    /// For the beginning of the answer.
    wait: Wait<'a>,
    progress: BuildProgress<'a>,
}

impl Build<'_> {
    /// Builds from an archive that is made while it is sent.
    async fn streamed(
        &mut self,
        is_sent: impl Fn() + Send + 'static,
    ) -> Result<String, EngineError> {
        let Self { engine, request, builder, .. } = *self;
        let logins = request.credentials;
        let mut options = options(request);
        let mut session = None;
        if builder == Builder::BuildKit {
            let mut id = unique_session();
            if let Some(address) = &engine.address {
                let opening = Session::open(address, &id, None, logins.clone());
                // Without one, the engine says what it misses.
                session = self.wait.answer(opening).await?.ok();
            }
            if let Some(session) = &session {
                session.id().clone_into(&mut id);
            }
            options = options.version(BuilderVersion::BuilderBuildKit).session(&id);
        }
        let options = options.build();
        let chunks = upload::stream(request.context.clone(), engine.is_local, is_sent);
        let chunks = ReceiverStream::new(chunks);
        let built = if let Some(address) = &engine.address {
            let body = StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data)));
            self.posted(address, &options, body).await
        } else {
            let body = Some(bollard::body_try_stream(chunks));
            let answers = engine.transfers.build_image(options, Some(logins.clone()), body);
            let answers = to_their_end(answers).map(|answer| match answer {
                Ok(info) => Ok(Part::Info(Box::new(info))),
                Err(error) => Err(error.into()),
            });
            self.follow(answers).await
        };
        drop(session);
        built
    }

    /// Asks for the build on a connection of its own.
    async fn posted<B>(
        &mut self,
        address: &Address,
        options: &BuildImageOptions,
        body: B,
    ) -> Result<String, EngineError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let unsayable = |error: &dyn std::error::Error| EngineError::Refused(error.to_string());
        let mut request = Request::post(format!("/build?{}", query(options)?))
            .header("Host", address.host())
            .header("Content-Type", "application/x-tar");
        // BuildKit asks for them in its session.
        if self.builder == Builder::Classic {
            request = request.header("X-Registry-Config", logins_header(self.request.credentials));
        }
        let request = request.body(body).map_err(|error| unsayable(&error))?;
        let answers = self.wait.answer(answer::post(address, request)).await??;
        self.follow(answers).await
    }

    /// Follows a build to its end; gives the image's id.
    async fn follow(
        &mut self,
        mut answers: impl Answers<Item = Result<Part<BuildInfo>, EngineError>> + Unpin,
    ) -> Result<String, EngineError> {
        let mut made = None;
        let mut next = self.wait.answer(answers.next()).await?;
        while let Some(part) = next {
            match part {
                Ok(Part::Info(info)) => match info.aux {
                    Some(BuildInfoAux::BuildKit(status)) => self.progress.buildkit(status),
                    Some(BuildInfoAux::Default(image)) => made = image.id.or(made),
                    None if self.builder == Builder::Classic => {
                        self.progress.classic(info.stream.as_deref().unwrap_or_default());
                    }
                    None => {}
                },
                Ok(Part::Skipped(bytes)) => self.progress.skipped(bytes),
                Err(error) => {
                    self.progress.flush();
                    return Err(self.progress.blame(error));
                }
            }
            self.progress.room().await;
            next = answers.next().await;
        }
        self.progress.end();
        made.ok_or_else(|| EngineError::Lost("it ended before the image was made".to_owned()))
    }
}

/// The logins for the bases of a build, as the classic builder wants them.
fn logins_header(logins: &Logins) -> String {
    let by_server: BTreeMap<String, &DockerCredentials> =
        logins.iter().map(|(domain, login)| (server_of(domain), login)).collect();
    URL_SAFE.encode(serde_json::to_vec(&by_server).unwrap_or_default())
}

/// Whether the classic builder found an instruction's image in its cache that somebody
/// removed before it could be used. The second time it is not found.
fn lost_a_cached_image(error: &EngineError) -> bool {
    let (EngineError::Instruction { message, .. } | EngineError::Refused(message)) = error else {
        return false;
    };
    message.starts_with("unable to find image \"sha256:")
}

/// A session with the files of an image, and where it is remembered what they are.
struct Shared {
    session: Session,
    files: Files,
    record: PathBuf,
}

impl Shared {
    /// None where files cannot be sent this way: a name is not UTF-8, or the engine, or
    /// what stands before it, does not know sessions.
    async fn open(
        address: &Address,
        request: &BuildRequest<'_>,
        is_sent: impl Fn() + Send + Sync + 'static,
    ) -> Option<Self> {
        let files = Files::new(&request.context, request.dockerfile, is_sent)?;
        let folder = request.root.join(state::DIR).join("offers");
        let record = folder.join(request.image.replace('/', "%"));
        let nonce = unique_session();
        let offers = SyncLedger::next(state::read(&record), &nonce, files.offers());
        // Nothing may be offered that is not remembered, but under a key of its own.
        let written = state::write(&record, &offers).and_then(|()| state::identity(&folder));
        let key = written.map_or(nonce, |folder| format!("{}-{folder}", offers.key()));
        let logins = request.credentials.clone();
        let session = Session::open(address, &key, Some(files.clone()), logins).await.ok()?;
        Some(Self { session, files, record })
    }

    fn options(&self, options: BuildImageOptionsBuilder) -> BuildImageOptions {
        let options = options.version(BuilderVersion::BuilderBuildKit).remote("client-session");
        options.session(self.session.id()).build()
    }

    /// Says what is wrong with a file if that is what a build failed by.
    fn blame(&self, built: Result<String, EngineError>) -> Result<String, EngineError> {
        match self.files.failure() {
            Some(message) if built.is_err() => {
                drop(fs::remove_file(&self.record));
                Err(EngineError::Context(message))
            }
            _ => built,
        }
    }
}

fn options(request: &BuildRequest<'_>) -> BuildImageOptionsBuilder {
    let args: HashMap<&str, &str> =
        request.build_args.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let labels: HashMap<&str, &str> =
        request.labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
    BuildImageOptionsBuilder::default()
        .t(request.image)
        .dockerfile(request.dockerfile)
        .buildargs(&args)
        .labels(&labels)
        .nocache(request.no_cache)
        .rm(true)
        .forcerm(true)
}
