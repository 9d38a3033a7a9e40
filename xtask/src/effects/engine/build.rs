//! One image's build: the context goes to the engine while its progress comes back as
//! events.
//!
//! BuildKit asks for files, and has those of the last build: after a small change in a large
//! context, little is sent, and nothing unpacked. The classic builder, and BuildKit behind
//! TLS, get the context as an archive that is made while it is sent.
//!
//! The build is cancelled, in the engine too, by dropping the future: the
//! connection closes and the engine stops what runs for it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use bollard::models::{BuildInfo, BuildInfoAux};
use bollard::query_parameters::{BuildImageOptions, BuildImageOptionsBuilder, BuilderVersion};
use bytes::Bytes;
use futures_util::{Stream as Answers, StreamExt};
use tokio_stream::wrappers::ReceiverStream;

use super::file_sync::Files;
use super::session::{Address, Session, unique_session};
use super::{Builder, DockerEngine, EngineError, Logins, to_their_end, upload};
use crate::core::context::Context;
use crate::core::offers::Offers;
use crate::effects::state;
use crate::event::{Event, Events, InstructionState, Stream};

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
pub(super) async fn run(
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
    let mut progress = Progress::new(request.component, request.image, events);
    if builder == Builder::BuildKit
        && let Some(address) = &engine.sessions
        && let Some(shared) = Shared::open(address, &request, is_sent.clone()).await
    {
        let options = shared.options(options(&request));
        let docker = engine.transfers.clone().with_request_modifier(ask_for_buildkit);
        let answers = docker.build_image(options, None, Some(bollard::body_full(Bytes::new())));
        let built = follow(answers, builder, &mut progress).await;
        return shared.blame(built);
    }
    match streamed(engine, &request, builder, &mut progress, is_sent.clone()).await {
        Err(error) if builder == Builder::Classic && lost_a_cached_image(&error) => {
            streamed(engine, &request, builder, &mut progress, is_sent).await
        }
        built => built,
    }
}

/// Builds from an archive that is made while it is sent.
async fn streamed(
    engine: &DockerEngine,
    request: &BuildRequest<'_>,
    builder: Builder,
    progress: &mut Progress<'_>,
    is_sent: impl Fn() + Send + 'static,
) -> Result<String, EngineError> {
    let options = match builder {
        Builder::Classic => options(request),
        Builder::BuildKit => {
            options(request).version(BuilderVersion::BuilderBuildKit).session(&unique_session())
        }
    };
    let chunks = upload::stream(request.context.clone(), engine.is_local, is_sent);
    let body = bollard::body_try_stream(ReceiverStream::new(chunks));
    let credentials = Some(request.credentials.clone());
    let answers = engine.transfers.build_image(options.build(), credentials, Some(body));
    follow(answers, builder, progress).await
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
        let offers = Offers::next(state::read(&record), &nonce, files.offers());
        // Nothing may be offered that is not remembered, but under a key of its own.
        let written = state::write(&record, &offers).and_then(|()| state::identity(&folder));
        let key = written.map_or(nonce, |folder| format!("{}-{folder}", offers.key()));
        let logins = request.credentials.clone();
        let session = Session::open(address, &key, files.clone(), logins).await.ok()?;
        Some(Self { session, files, record })
    }

    fn options(&self, options: BuildImageOptionsBuilder) -> BuildImageOptions {
        options.remote("client-session").session(self.session.id()).build()
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

/// Asked for BuildKit by its options, the client crate begins a session of its own. No
/// value of a query has a '=' in it that is not escaped.
fn ask_for_buildkit(mut request: bollard::BollardRequest) -> bollard::BollardRequest {
    let uri = request.uri().to_string().replacen("version=1", "version=2", 1);
    if let Ok(uri) = uri.parse() {
        *request.uri_mut() = uri;
    }
    request
}

/// Follows a build to its end; gives the image's id.
async fn follow(
    answers: impl Answers<Item = Result<BuildInfo, bollard::errors::Error>> + Unpin,
    builder: Builder,
    progress: &mut Progress<'_>,
) -> Result<String, EngineError> {
    let mut answers = to_their_end(answers);
    let mut made = None;
    while let Some(answer) = answers.next().await {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                progress.flush();
                return Err(progress.blame(error.into()));
            }
        };
        match answer.aux {
            Some(BuildInfoAux::BuildKit(status)) => progress.buildkit(status),
            Some(BuildInfoAux::Default(image)) => made = image.id.or(made),
            None if builder == Builder::Classic => {
                progress.classic(answer.stream.as_deref().unwrap_or_default());
            }
            None => {}
        }
    }
    progress.flush();
    made.ok_or_else(|| EngineError::Lost("it ended before the image was made".to_owned()))
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

/// Turns the engine's answers into events: each instruction once, output by line.
struct Progress<'a> {
    component: &'a str,
    image: &'a str,
    events: &'a Events,
    seen: HashSet<(String, bool)>,
    /// The instruction that failed, or, of the classic builder, the last one.
    last: Option<String>,
    /// The instructions that run, by digest: an engine may give up before it says
    /// which one failed.
    running: BTreeMap<String, String>,
    pending: BTreeMap<(String, i64), Vec<u8>>,
}

impl<'a> Progress<'a> {
    fn new(component: &'a str, image: &'a str, events: &'a Events) -> Self {
        let (seen, pending) = (HashSet::new(), BTreeMap::new());
        let running = BTreeMap::new();
        Self { component, image, events, seen, last: None, running, pending }
    }

    fn buildkit(&mut self, status: bollard::moby::buildkit::v1::StatusResponse) {
        for vertex in status.vertexes {
            if !vertex.name.starts_with('[') || vertex.name.starts_with("[internal]") {
                continue;
            }
            let state = match (vertex.cached, &vertex.started, &vertex.completed) {
                (true, _, _) => InstructionState::Cached,
                (false, Some(_), None) => InstructionState::Started,
                (false, Some(_), Some(_)) => InstructionState::Done,
                (false, None, _) => continue,
            };
            if !vertex.error.is_empty() {
                self.last = Some(vertex.name.clone());
            }
            match state {
                InstructionState::Started => {
                    self.running.insert(vertex.digest.clone(), vertex.name.clone());
                }
                _ => drop(self.running.remove(&vertex.digest)),
            }
            // An instruction that was quick is only ever heard of as done.
            let is_over = state == InstructionState::Done;
            let is_new = self.seen.insert((vertex.digest.clone(), false));
            if is_new && is_over {
                self.instruction(vertex.name.clone(), InstructionState::Started);
            }
            if (is_new && !is_over) || (is_over && self.seen.insert((vertex.digest, true))) {
                self.instruction(vertex.name, state);
            }
        }
        for log in status.logs {
            self.output((log.vertex, log.stream), &log.msg);
        }
    }

    /// The classic builder mixes its own words with what instructions write.
    fn classic(&mut self, text: &str) {
        if text.starts_with("Step ") {
            let text = text.trim_end().to_owned();
            self.last = Some(text.clone());
            self.instruction(text, InstructionState::Started);
        } else if !text.starts_with(" ---> ") {
            self.output((String::new(), 1), text.as_bytes());
        }
    }

    /// Names the instruction that an error comes from, if it is known.
    fn blame(&mut self, error: EngineError) -> EngineError {
        let running = self.running.values().next().filter(|_| self.running.len() == 1);
        match (error, self.last.take().or(running.cloned())) {
            (EngineError::Refused(message), Some(text)) => {
                EngineError::Instruction { text, message }
            }
            (error, _) => error,
        }
    }

    fn instruction(&self, text: String, state: InstructionState) {
        let (component, image) = (self.component.to_owned(), self.image.to_owned());
        self.events.send(Event::Instruction { component, image, text, state });
    }

    fn output(&mut self, source: (String, i64), bytes: &[u8]) {
        let mut buffer = self.pending.remove(&source).unwrap_or_default();
        buffer.extend_from_slice(bytes);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            self.line(source.1, &line);
        }
        if !buffer.is_empty() {
            self.pending.insert(source, buffer);
        }
    }

    fn flush(&mut self) {
        for ((_, stream), line) in std::mem::take(&mut self.pending) {
            self.line(stream, &line);
        }
    }

    fn line(&self, stream: i64, bytes: &[u8]) {
        self.events.send(Event::Log {
            component: self.component.to_owned(),
            image: Some(self.image.to_owned()),
            stream: if stream == 2 { Stream::Err } else { Stream::Out },
            line: String::from_utf8_lossy(bytes).trim_end().to_owned(),
        });
    }
}
