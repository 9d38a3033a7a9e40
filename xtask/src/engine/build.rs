//! Builds one image: the context goes to the engine, its progress comes back as events.
//!
//! BuildKit requests files over a session and keeps those of the last build: after a small
//! change in a large context, little is sent and nothing is unpacked. The classic builder, and
//! BuildKit behind TLS, get the context as a tar stream.
//!
//! A builder of `docker buildx` builds in the engine's place, if one was chosen ([`Buildx`]).
//!
//! Dropping the future cancels the build in the engine too: the connection closes, and the
//! engine stops what runs for it.

use std::collections::{BTreeMap, HashMap};
use std::error::Error as StdError;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bollard::auth::DockerCredentials;
use bollard::models::{BuildInfo, BuildInfoAux};
use bollard::query_parameters::{BuildImageOptions, BuildImageOptionsBuilder, BuilderVersion};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body_util::{Full, StreamBody};
use hyper::Request;
use hyper::body::{Body, Frame};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use xtask_core::context::archive;
use xtask_core::context::sync_ledger::SyncLedger;
use xtask_core::problem::Problem;
use xtask_core::workspace::config::exports::CacheEntry;
use xtask_core::workspace::config::settings::ImageSettings;

use crate::engine::address::Address;
use crate::engine::api::{BuildRequest, Built, Engine};
use crate::engine::build_caches::{local_caches, missing_caches, parsed};
use crate::engine::builder::Builder;
use crate::engine::buildx::Buildx;
use crate::engine::content::ContentService;
use crate::engine::credentials::{Logins, server_of};
use crate::engine::docker::{DockerEngine, TRIES, is_vanished};
use crate::engine::error::{EngineError, invalid_request};
use crate::engine::exported_image::{ExportedImage, load};
use crate::engine::file_sync::FileSyncService;
use crate::engine::meter::Meter;
use crate::engine::mounts::Mounts;
use crate::engine::progress::BuildProgress;
use crate::engine::response::{self, ResponseLine};
use crate::engine::session::{Services, Session};
use crate::engine::solve::{self, Place, Solve};
use crate::engine::transfer::query;
use crate::engine::unique_id::unique_id;
use crate::engine::upload;
use crate::engine::waiting::Wait;
use crate::event::{Event, Operation};
use crate::event_channel::Events;
use crate::system::state;

/// How often the classic builder is asked if its cache has what is gone: the last time, it is to do
/// without.
const CLASSIC_TRIES: usize = 4;

impl DockerEngine {
    /// Builds and tags an image.
    pub(crate) async fn build_image(
        &self,
        request: BuildRequest<'_>,
        events: &Events,
    ) -> Result<Built, EngineError> {
        self.refuse_impossible(request.settings).await?;
        for folder in missing_caches(request.settings, request.root) {
            let image = request.image;
            let message = format!("'cache-from' of {image}: {folder} has no build cache");
            events.send(Event::Warning(Problem::of_request(message)));
        }
        let builder = match &self.buildx {
            Some(_) => Builder::BuildKit,
            None => self.builder().await?,
        };
        let mounts = Mounts::read(request.settings, request.root, request.environment);
        let mounts = mounts.map_err(EngineError::Context)?;
        let sent = Event::ContextSent {
            component: request.component.to_owned(),
            image: request.image.to_owned(),
        };
        let sent_events = events.clone();
        let on_sent = move || sent_events.send(sent.clone());
        let (endpoint, image) = (&self.endpoint, request.image);
        let meter = |total| {
            let component = Some(request.component);
            Arc::new(Meter::new(events, component, Operation::Send, image, total))
        };
        let place = match &self.buildx {
            Some(buildx) => format!("builder {}", buildx.name()),
            None => format!("the engine at {endpoint}"),
        };
        let mut build = Build {
            engine: self,
            request: &request,
            builder,
            mounts,
            wait: self.waiting.begin(format!("{place} to start building image '{image}'")),
            progress: BuildProgress::new(request.component, request.image, events),
        };
        let served = (builder == Builder::BuildKit)
            .then(|| ServedContext::new(&request, meter(None), on_sent.clone()))
            .flatten();
        let id = if let Some(buildx) = &self.buildx {
            build.by_buildx(buildx, served).await?
        } else if let Some(id) = build.over_session(served).await? {
            id
        } else if solve::is_needed(request.settings, &self.environment.github_job) {
            return Err(self.without_session().await);
        } else {
            let size = Some(request.context.size());
            build.build_from_archive(|| meter(size), on_sent).await?
        };
        Ok(Built { id, bases: build.progress.take_bases() })
    }
}

struct Build<'a> {
    engine: &'a DockerEngine,
    request: &'a BuildRequest<'a>,
    builder: Builder,
    /// The secrets and agents that its session serves.
    mounts: Mounts,
    /// For the start of the response.
    wait: Wait<'a>,
    progress: BuildProgress<'a>,
}

impl Build<'_> {
    /// Builds at a builder, and asks again where it only waited for a build that has ended.
    async fn by_buildx(
        &mut self,
        buildx: &Buildx,
        served: Option<ServedContext>,
    ) -> Result<String, EngineError> {
        let served = served.ok_or_else(|| {
            EngineError::Context("a file's name is not UTF-8, so no builder takes it".to_owned())
        })?;
        let mut built = self.at_builder(buildx, &served).await;
        for _ in 1..TRIES {
            if !built.as_ref().is_err_and(is_cut_off) {
                break;
            }
            built = self.at_builder(buildx, &served).await;
        }
        served.explain(built)
    }

    /// Builds from the files that a session serves. None if no session can be opened.
    async fn over_session(
        &mut self,
        served: Option<ServedContext>,
    ) -> Result<Option<String>, EngineError> {
        let Some(served) = served else { return Ok(None) };
        let (engine, request) = (self.engine, self.request);
        let opening = served.open(&engine.address, request, &self.mounts);
        let Some(session) = self.wait.until(opening).await? else { return Ok(None) };
        let mut built = self.build_from_session(&session).await;
        for _ in 1..TRIES {
            if !built.as_ref().is_err_and(is_vanished) {
                break;
            }
            built = self.build_from_session(&session).await;
        }
        served.explain(built).map(Some)
    }

    async fn build_from_session(&mut self, session: &Session) -> Result<String, EngineError> {
        if solve::is_needed(self.request.settings, &self.engine.environment.github_job) {
            return self.solve(session.id()).await;
        }
        let options = options(self.request).version(BuilderVersion::BuilderBuildKit);
        let options = options.remote("client-session").session(session.id()).build();
        self.post(&options, Full::new(Bytes::new())).await
    }

    /// Builds from an archive of the context, again if the classic builder's cache misleads it.
    async fn build_from_archive(
        &mut self,
        meter: impl Fn() -> Arc<Meter>,
        on_sent: impl Fn() + Send + Clone + 'static,
    ) -> Result<String, EngineError> {
        for _ in 1..CLASSIC_TRIES {
            let no_cache = self.request.no_cache;
            match self.send_archive(meter(), on_sent.clone(), no_cache).await {
                Err(error)
                    if self.builder == Builder::Classic && is_missing_cached_image(&error) => {}
                built => return built,
            }
        }
        self.send_archive(meter(), on_sent, true).await
    }

    async fn send_archive(
        &mut self,
        meter: Arc<Meter>,
        on_sent: impl Fn() + Send + 'static,
        no_cache: bool,
    ) -> Result<String, EngineError> {
        let Self { engine, request, builder, .. } = *self;
        let mut options = options(request).nocache(no_cache);
        if let Some(name) = archive::dockerfile_apart(&request.context) {
            options = options.dockerfile(&name);
        }
        let mut session = None;
        if builder == Builder::BuildKit {
            let mut id = unique_id();
            let (logins, mounts) = (request.credentials.clone(), self.mounts.clone());
            let services = Services { logins, mounts, ..Services::default() };
            let opening = Session::open(&engine.address, &id, services);
            // Without a session, the engine reports what it needs one for.
            session = self.wait.until(opening).await?.ok();
            if let Some(session) = &session {
                session.id().clone_into(&mut id);
            }
            options = options.version(BuilderVersion::BuilderBuildKit).session(&id);
        }
        let options = options.build();
        let chunks = upload::stream(request.context.clone(), engine.is_local, meter, on_sent);
        let chunks = ReceiverStream::new(chunks);
        let body = StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data)));
        let built = self.post(&options, body).await;
        drop(session);
        built
    }

    /// Requests the build on a new connection.
    async fn post<B>(&mut self, options: &BuildImageOptions, body: B) -> Result<String, EngineError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let hosts = self.request.settings.extra_hosts.iter();
        let hosts =
            hosts.map(|(name, address)| ("extrahosts", format!("{name}:{}", address.value)));
        let hosts = query(&hosts.collect::<Vec<_>>())?;
        let call = format!("/build?{}&{hosts}", query(options)?);
        let address = &self.engine.address;
        let mut request = Request::post(address.path(&call))
            .header("Host", address.socket.host())
            .header("Content-Type", "application/x-tar");
        // BuildKit gets credentials from its session.
        if self.builder == Builder::Classic {
            request =
                request.header("X-Registry-Config", registry_config(self.request.credentials));
        }
        let request = request.body(body).map_err(|error| invalid_request(&error))?;
        let lines = self.wait.until(response::post(&address.socket, request)).await??;
        self.follow(lines).await
    }

    /// Builds by BuildKit's own API.
    async fn solve(&mut self, session: &str) -> Result<String, EngineError> {
        let solve = self.wait.until(Solve::connect(&self.engine.address)).await??;
        let ids = self.follow_solve(&solve, session, &Place::Engine).await?;
        Ok(ids.into_iter().next().unwrap_or_default())
    }

    /// Builds at a builder, and loads what it makes.
    async fn at_builder(
        &mut self,
        buildx: &Buildx,
        served: &ServedContext,
    ) -> Result<String, EngineError> {
        let (engine, request) = (self.engine, self.request);
        let bases = self.wait.until(buildx.save(&engine.address, request)).await??;
        let platform = engine.platform().await?;
        let solve = self.wait.until(buildx.connect()).await??;
        let (export, archive) = ExportedImage::receive();
        let mut services = served.services(request, &self.mounts);
        let caches = local_caches(request.settings, request.root);
        services.content = ContentService::new(bases.values().cloned().collect(), caches);
        services.export = Some(export);
        let session = solve.open_session(&served.key, services);
        let session = session.map_err(|error| EngineError::Lost(error.to_string()))?;
        let mut loading = JoinSet::new();
        let address = engine.address.clone();
        loading.spawn(async move { load(&address, archive).await });
        let place = Place::Builder { bases: &bases, platform: &platform };
        let solved = self.follow_solve(&solve, session.id(), &place).await;
        // Without a session, nothing more can come.
        drop(session);
        let loaded = loading.join_next().await.transpose();
        let loaded = loaded.map_err(|error| EngineError::Lost(error.to_string()))?;
        let ids = match (solved, loaded) {
            // A builder whose image is not taken only says that it was not.
            (_, Some(Err(error))) if !matches!(error, EngineError::Context(_)) => {
                return Err(error);
            }
            (solved, _) => solved.map_err(|error| buildx.explain(error))?,
        };
        for id in &ids {
            if let Some(found) = engine.image_details(id).await? {
                return Ok(found.id);
            }
        }
        Ok(ids.into_iter().next().unwrap_or_default())
    }

    /// Reports the progress of a build by BuildKit's own API, and returns the IDs that the image
    /// may have.
    async fn follow_solve(
        &mut self,
        solve: &Solve,
        session: &str,
        place: &Place<'_>,
    ) -> Result<Vec<String>, EngineError> {
        let solving = solve.run(self.request, session, place, &self.engine.environment.github_job);
        tokio::pin!(solving);
        let begin = async {
            tokio::select! {
                // What is refused at once has no progress.
                built = &mut solving => Err(built),
                statuses = solve.progress() => Ok(statuses.ok()),
            }
        };
        let mut statuses = match self.wait.until(begin).await? {
            Ok(statuses) => statuses,
            Err(built) => return built.map_err(|error| self.failed(error)),
        };
        while let Some(statuses) = &mut statuses
            && let Ok(Some(status)) = statuses.message().await
        {
            self.progress.buildkit(status);
            self.progress.wait_for_readers().await;
        }
        let ids = solving.await.map_err(|error| self.failed(error))?;
        self.progress.finish();
        Ok(ids)
    }

    fn failed(&mut self, error: EngineError) -> EngineError {
        self.progress.flush();
        self.progress.with_instruction(error)
    }

    /// Reports a build's progress until its end, and returns the image's ID.
    async fn follow(
        &mut self,
        mut lines: impl Stream<Item = Result<ResponseLine<BuildInfo>, EngineError>> + Unpin,
    ) -> Result<String, EngineError> {
        let mut id = None;
        let mut next = self.wait.until(lines.next()).await?;
        while let Some(line) = next {
            match line {
                Ok(ResponseLine::Message(info)) => match info.aux {
                    Some(BuildInfoAux::BuildKit(status)) => self.progress.buildkit(status),
                    Some(BuildInfoAux::Default(image)) => id = image.id.or(id),
                    None if self.builder == Builder::Classic => {
                        self.progress.classic(info.stream.as_deref().unwrap_or_default());
                    }
                    None => {}
                },
                Ok(ResponseLine::Oversized(bytes)) => self.progress.oversized_line(bytes),
                Err(error) => return Err(self.failed(error)),
            }
            self.progress.wait_for_readers().await;
            next = lines.next().await;
        }
        self.progress.finish();
        id.ok_or_else(|| EngineError::InvalidResponse("it has no image ID".to_owned()))
    }
}

/// The classic builder's header with the credentials for base images.
fn registry_config(logins: &Logins) -> String {
    let by_server: BTreeMap<String, &DockerCredentials> =
        logins.iter().map(|(domain, login)| (server_of(domain), login)).collect();
    URL_SAFE.encode(serde_json::to_vec(&by_server).unwrap_or_default())
}

/// Whether the classic builder, or Podman's, found an image in its cache that was removed before it
/// was used. A later build does not find it.
fn is_missing_cached_image(error: &EngineError) -> bool {
    let (EngineError::Instruction { message, .. } | EngineError::Refused(message)) = error else {
        return false;
    };
    message.starts_with("unable to find image \"sha256:")
        || message.starts_with("checking if cached image exists from a previous build: ")
}

/// Whether a builder waited for a base that another build served, which has ended: it asks once for
/// what several builds need, be they ours or others'.
fn is_cut_off(error: &EngineError) -> bool {
    let (EngineError::Instruction { message, .. } | EngineError::Refused(message)) = error else {
        return false;
    };
    let copied = message.split("failed to copy: ").nth(1);
    message.contains("no active session for ")
        || copied
            .is_some_and(|cause| cause.starts_with("rpc error: ") || cause == "unsupported offset")
}

/// An image's context as it is served, and the record of what is.
struct ServedContext {
    files: FileSyncService,
    /// The builder caches the files under it.
    key: String,
    record: PathBuf,
}

impl ServedContext {
    /// None if a name is not UTF-8.
    fn new(
        request: &BuildRequest<'_>,
        meter: Arc<Meter>,
        on_sent: impl Fn() + Send + Sync + 'static,
    ) -> Option<Self> {
        let files = FileSyncService::new(&request.context, request.dockerfile, meter, on_sent)?;
        let (state, name) = (request.root.join(state::DIR), request.image.replace('/', "%"));
        let (folder, stamp) = (state.join("offers"), state.join("offered").join(&name));
        let record = folder.join(name);
        let new_key = unique_id();
        // One that was put back from a copy lacks what was served since.
        let is_latest = state::read(&stamp) == state::version(&record).ok();
        let last = state::read_bytes(&record).filter(|_| is_latest);
        let last = last.and_then(|bytes| SyncLedger::decode(&bytes));
        let ledger = SyncLedger::extend_or_restart(last, &new_key, files.entries());
        // What cannot be recorded is served under a key that is never used again.
        let written = ledger.encode().and_then(|bytes| state::write_bytes(&record, &bytes));
        let written = written.and_then(|()| state::write(&stamp, &state::version(&record)?));
        let written = written.and_then(|()| state::identity(&folder));
        let key = written.map_or(new_key, |folder| format!("{}-{folder}", ledger.key()));
        Some(Self { files, key, record })
    }

    fn services(&self, request: &BuildRequest<'_>, mounts: &Mounts) -> Services {
        let (files, logins) = (Some(self.files.clone()), request.credentials.clone());
        let content = ContentService::new(Vec::new(), local_caches(request.settings, request.root));
        Services { files, logins, mounts: mounts.clone(), content, ..Services::default() }
    }

    /// A session with the engine. None if it or a proxy before it does not support sessions.
    async fn open(
        &self,
        address: &Address,
        request: &BuildRequest<'_>,
        mounts: &Mounts,
    ) -> Option<Session> {
        Session::open(address, &self.key, self.services(request, mounts)).await.ok()
    }

    /// Replaces a build's error by the error of the file that it failed on, if there is one.
    fn explain(&self, built: Result<String, EngineError>) -> Result<String, EngineError> {
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
    let mut args: HashMap<&str, &str> =
        request.build_args.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    if parsed(&request.settings.cache_to).any(|cache| cache.kind == "inline") {
        args.insert("BUILDKIT_INLINE_CACHE", "1");
    }
    let labels: HashMap<&str, &str> =
        request.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let ImageSettings { target, platforms, network, cache_from, .. } = request.settings;
    let mut options = BuildImageOptionsBuilder::default();
    if let Some(target) = target {
        options = options.target(&target.value);
    }
    if let Some(platform) = platforms.first() {
        options = options.platform(&platform.value);
    }
    if let Some(network) = network {
        options = options.networkmode(&network.value);
    }
    let caches: Vec<CacheEntry> = parsed(cache_from).collect();
    let images: Vec<&str> = caches.iter().filter_map(CacheEntry::image).collect();
    if !images.is_empty() {
        options = options.cachefrom(&images);
    }
    options
        .t(request.image)
        .dockerfile(request.dockerfile)
        .buildargs(&args)
        .labels(&labels)
        .nocache(request.no_cache)
        .rm(true)
        .forcerm(true)
}
