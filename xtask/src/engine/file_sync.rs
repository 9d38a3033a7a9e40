//! Serves the files of a context one by one, as BuildKit requests them.
//!
//! The protocol is `fsutil`'s. BuildKit first receives the path, kind, size and time of every
//! file, sorted by path. It then requests the files that differ from its cache, by their position
//! in that list; each is sent in packets, of which the last one is empty.
//!
//! A build makes three requests: for the Dockerfile, for `.dockerignore`, and for the context; and
//! two for each folder that the Dockerfile calls by a name. The ignore rules were applied before,
//! and what they exclude from the context is not asked for again. A Dockerfile that reads nothing
//! but `.dockerignore` makes two requests for it that do not differ, so both get that file.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSync;
use tokio::sync::mpsc::{self, Sender, UnboundedReceiver, UnboundedSender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use xtask_core::context::build_context::{Context, ContextEntry};
use xtask_core::context::file_list::{FileList, FileStat};
use xtask_core::context::sync_ledger::SyncEntry;
use xtask_core::context::verified_reader::VerifiedReader;
use xtask_core::digest::Digest;
use xtask_core::paths::IGNORE_FILE;
use xtask_core::regular_file::with_path;

use crate::engine::meter::Meter;

/// Large enough to make a packet's cost negligible.
const CHUNK: usize = 256 * 1024;
const PACKETS_IN_FLIGHT: usize = 16;

/// Files that are read in parallel.
const READERS: usize = 4;

type Packets = Sender<Result<Packet, Status>>;

/// What the engine calls a folder that the Dockerfile calls by a name: nothing that it uses itself.
pub(crate) fn local_name(name: &str) -> String {
    format!("context-{name}")
}

/// The file sync service of a session.
#[derive(Clone)]
pub(crate) struct FileSyncService {
    context: Arc<FileList>,
    dockerfile: Arc<FileList>,
    /// `.dockerignore`, if it is in the context.
    ignore_file: Arc<FileList>,
    /// The folders that the Dockerfile calls by names, by the names that the engine asks for.
    named: Arc<BTreeMap<String, Arc<FileList>>>,
    /// Why a file could not be sent.
    failure: Arc<Mutex<Option<String>>>,
    meter: Arc<Meter>,
    on_sent: Arc<dyn Fn() + Send + Sync>,
}

impl FileSyncService {
    /// Calls `on_sent` when the engine has the whole context. None if a name or link target is not
    /// UTF-8.
    pub(crate) fn new(
        context: &Context,
        dockerfile: &str,
        meter: Arc<Meter>,
        on_sent: impl Fn() + Send + Sync + 'static,
    ) -> Option<Self> {
        let all = FileList::new(context, |item| !item.is_ignored)?;
        let dockerfile = match context.linked_dockerfile() {
            Some(file) => FileList::new(file, |_| true)?,
            None => FileList::new(context, |item| item.path() == Path::new(dockerfile))?,
        };
        let is_ignore_file =
            |item: &ContextEntry<'_>| !item.is_ignored && item.path() == Path::new(IGNORE_FILE);
        let ignore_file = FileList::new(context, is_ignore_file)?;
        let mut named = BTreeMap::new();
        for (name, folder) in context.named() {
            named.insert(local_name(name), Arc::new(FileList::new(folder, |_| true)?));
        }
        Some(Self {
            context: Arc::new(all),
            dockerfile: Arc::new(dockerfile),
            ignore_file: Arc::new(ignore_file),
            named: Arc::new(named),
            failure: Arc::default(),
            meter,
            on_sent: Arc::new(on_sent),
        })
    }

    /// Everything that is served, without the Dockerfile's folders: no `COPY` reads those.
    pub(crate) fn entries(&self) -> impl Iterator<Item = SyncEntry> {
        let named = self.named.iter().flat_map(|(name, list)| {
            list.folders().chain(list.files()).map(|entry| entry.below(name))
        });
        let own = self.context.folders().chain(self.context.files());
        own.chain(self.dockerfile.files()).chain(named)
    }

    /// Why a file could not be sent, if that happened.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().ok()?.clone()
    }
}

impl fmt::Debug for FileSyncService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSyncService")
            .field("context", &self.context.count())
            .finish_non_exhaustive()
    }
}

#[tonic::async_trait]
impl FileSync for FileSyncService {
    type DiffCopyStream = ReceiverStream<Result<Packet, Status>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let asked = request.metadata().get("dir-name").and_then(|name| name.to_str().ok());
        let is_dockerfile = asked == Some("dockerfile");
        let named = asked.and_then(|name| self.named.get(name)).cloned();
        let mut paths = request.metadata().get_all("followpaths").iter().peekable();
        let is_ignore_file = !is_dockerfile
            && paths.peek().is_some()
            && paths.all(|path| path.to_str().is_ok_and(|path| path == IGNORE_FILE));
        let is_context = !is_dockerfile && !is_ignore_file && named.is_none();
        let list = match named {
            _ if is_dockerfile => Arc::clone(&self.dockerfile),
            Some(named) if !is_ignore_file => named,
            Some(_) => Arc::default(),
            None if is_ignore_file => Arc::clone(&self.ignore_file),
            None => Arc::clone(&self.context),
        };
        let (packets, response) = mpsc::channel(PACKETS_IN_FLIGHT);
        let (queue, requests) = mpsc::unbounded_channel();
        let (service, stats, output) = (self.clone(), Arc::clone(&list), packets.clone());
        tokio::task::spawn_blocking(move || service.send_stats(&stats, &output));
        let requests = Arc::new(Mutex::new(requests));
        for _ in 0..READERS {
            let (service, list, requests, output) =
                (self.clone(), Arc::clone(&list), Arc::clone(&requests), packets.clone());
            tokio::task::spawn_blocking(move || service.send_requested(&list, &requests, &output));
        }
        let on_sent = Arc::clone(&self.on_sent);
        tokio::spawn(async move {
            let is_done = queue_requests(request.into_inner(), &queue).await;
            if is_done {
                drop(packets.send(Ok(packet(PacketType::PacketFin))).await);
            }
            if is_done && is_context {
                on_sent();
            }
        });
        Ok(Response::new(ReceiverStream::new(response)))
    }

    type TarStreamStream = ReceiverStream<Result<Packet, Status>>;

    async fn tar_stream(
        &self,
        _: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::TarStreamStream>, Status> {
        Err(Status::unimplemented("tar streams"))
    }
}

fn as_sent(stat: FileStat) -> Stat {
    let FileStat { path, mode, size, modified, link, device } = stat;
    let (devmajor, devminor) = device;
    Stat {
        path,
        mode,
        size,
        mod_time: modified,
        linkname: link,
        devmajor,
        devminor,
        ..Stat::default()
    }
}

fn packet(kind: PacketType) -> Packet {
    Packet { r#type: kind.into(), ..Packet::default() }
}

/// Queues the engine's requests; returns whether it got everything. It never waits for a reader:
/// h2 treats many small unread frames as an attack.
async fn queue_requests(mut packets: Streaming<Packet>, queue: &UnboundedSender<u32>) -> bool {
    while let Ok(Some(packet)) = packets.message().await {
        match packet.r#type() {
            PacketType::PacketReq if queue.send(packet.id).is_ok() => {}
            PacketType::PacketFin => return true,
            _ => return false,
        }
    }
    false
}

impl FileSyncService {
    fn send_stats(&self, list: &FileList, packets: &Packets) {
        for stat in list.stats() {
            let stat = match stat {
                Ok(stat) => Some(as_sent(stat)),
                Err(error) => return self.fail(&error, packets),
            };
            let packet = Packet { stat, ..packet(PacketType::PacketStat) };
            if packets.blocking_send(Ok(packet)).is_err() {
                return;
            }
        }
        drop(packets.blocking_send(Ok(packet(PacketType::PacketStat))));
    }

    /// Sends requested files until the queue ends. Several threads share the queue.
    fn send_requested(
        &self,
        list: &FileList,
        requests: &Mutex<UnboundedReceiver<u32>>,
        packets: &Packets,
    ) {
        let next = || requests.lock().ok()?.blocking_recv();
        while let Some(id) = next() {
            let Some(item) = usize::try_from(id).ok().and_then(|position| list.get(position))
            else {
                return;
            };
            let source = item.part.source_path(item.entry);
            match self.send_file(&source, item.digest, id, packets).map_err(with_path(&source)) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.fail(&error, packets),
            }
        }
    }

    fn fail(&self, error: &io::Error, packets: &Packets) {
        let message = error.to_string();
        if let Ok(mut failure) = self.failure.lock() {
            *failure = Some(message.clone());
        }
        drop(packets.blocking_send(Err(Status::aborted(message))));
    }

    /// Sends a file; false if the stream was closed.
    fn send_file(
        &self,
        source: &Path,
        digest: Digest,
        id: u32,
        packets: &Packets,
    ) -> io::Result<bool> {
        let mut reader = VerifiedReader::open(source)?;
        loop {
            let size = usize::try_from(reader.remaining()).map_or(CHUNK, |left| left.min(CHUNK));
            let mut data = vec![0; size];
            reader.read_exact(&mut data)?;
            if data.is_empty() {
                reader.verify(digest)?;
            }
            let is_last = data.is_empty();
            self.meter.add(data.len());
            let packet = Packet { id, data, ..packet(PacketType::PacketData) };
            if packets.blocking_send(Ok(packet)).is_err() {
                return Ok(false);
            }
            if is_last {
                return Ok(true);
            }
        }
    }
}
