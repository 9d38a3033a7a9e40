//! The files of a context one by one, as BuildKit asks for them.
//!
//! The protocol is that of `fsutil`, which BuildKit receives files with. It is told of
//! everything in the context, sorted by path, what it is, its size and its time. It asks
//! for the files that differ from what it has, by their place in that order; each is sent
//! in pieces, the last of them empty.
//!
//! It asks three times for a build: for the Dockerfile, for `.dockerignore`, and for the
//! context. What is ignored was decided before, so the second time there is nothing.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bollard_buildkit_proto::fsutil::types::Packet;
use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSync;
use tokio::sync::mpsc::{self, Sender, UnboundedReceiver, UnboundedSender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use xtask_core::context::build_context::Context;
use xtask_core::context::verified_reader::VerifiedReader;
use xtask_core::digest::Digest;
use xtask_core::regular_file::naming;

use crate::engine::file_list::FileList;
use crate::engine::sync_ledger::SyncedFolder;

/// Big enough that a packet costs nothing beside the copying.
const CHUNK: usize = 256 * 1024;
const PACKETS_IN_FLIGHT: usize = 16;

/// So many files are read at a time.
const READERS: usize = 4;

type Packets = Sender<Result<Packet, Status>>;

/// What the engine may ask for.
#[derive(Clone)]
pub(crate) struct Files {
    context: Arc<FileList>,
    dockerfile: Arc<FileList>,
    /// What went wrong with one of them.
    failure: Arc<Mutex<Option<String>>>,
    is_sent: Arc<dyn Fn() + Send + Sync>,
}

impl Files {
    /// Those of a context; none if one has a name that the protocol cannot say.
    pub(crate) fn new(
        context: &Context,
        dockerfile: &str,
        is_sent: impl Fn() + Send + Sync + 'static,
    ) -> Option<Self> {
        let all = FileList::new(context, |item| !item.is_ignored)?;
        let own = FileList::new(context, |item| item.path() == Path::new(dockerfile))?;
        Some(Self {
            context: Arc::new(all),
            dockerfile: Arc::new(own),
            failure: Arc::default(),
            is_sent: Arc::new(is_sent),
        })
    }

    /// What they offer. Of the folders that the Dockerfile lies in, nothing is copied.
    pub(crate) fn offers(&self) -> impl Iterator<Item = SyncedFolder> {
        self.context.folders().chain(self.context.offers()).chain(self.dockerfile.offers())
    }

    /// What went wrong with one of them, if that was it.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().ok()?.clone()
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("context", &self.context.len()).finish_non_exhaustive()
    }
}

#[tonic::async_trait]
impl FileSync for Files {
    type DiffCopyStream = ReceiverStream<Result<Packet, Status>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let named = request.metadata().get("dir-name");
        let is_dockerfile = named.is_some_and(|name| name == "dockerfile");
        let mut wanted = request.metadata().get_all("followpaths").iter();
        let is_ignore_file = !is_dockerfile
            && wanted.any(|path| path.to_str().is_ok_and(|path| path.ends_with(".dockerignore")));
        let told = match (is_dockerfile, is_ignore_file) {
            (true, _) => Arc::clone(&self.dockerfile),
            (_, true) => Arc::default(),
            _ => Arc::clone(&self.context),
        };
        let (packets, answer) = mpsc::channel(PACKETS_IN_FLIGHT);
        let (ask, asked) = mpsc::unbounded_channel();
        let (files, all, list) = (self.clone(), Arc::clone(&told), packets.clone());
        tokio::task::spawn_blocking(move || files.tell(&all, &list));
        let asked = Arc::new(Mutex::new(asked));
        for _ in 0..READERS {
            let (files, told, asked, data) =
                (self.clone(), Arc::clone(&told), Arc::clone(&asked), packets.clone());
            tokio::task::spawn_blocking(move || files.send_some(&told, &asked, &data));
        }
        let is_sent = Arc::clone(&self.is_sent);
        let is_context = !is_dockerfile && !is_ignore_file;
        tokio::spawn(async move {
            let is_done = listen(request.into_inner(), &ask).await;
            if is_done {
                drop(packets.send(Ok(packet(PacketType::PacketFin))).await);
            }
            if is_done && is_context {
                is_sent();
            }
        });
        Ok(Response::new(ReceiverStream::new(answer)))
    }

    type TarStreamStream = ReceiverStream<Result<Packet, Status>>;

    async fn tar_stream(
        &self,
        _: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::TarStreamStream>, Status> {
        Err(Status::unimplemented("files are sent one by one"))
    }
}

fn packet(kind: PacketType) -> Packet {
    Packet { r#type: kind.into(), ..Packet::default() }
}

/// Takes what the engine asks for, to the end; tells whether it has all it wants. Nothing
/// may wait here: many small requests that are not taken look like an attack to h2.
async fn listen(mut packets: Streaming<Packet>, ask: &UnboundedSender<u32>) -> bool {
    while let Ok(Some(packet)) = packets.message().await {
        match packet.r#type() {
            PacketType::PacketReq if ask.send(packet.id).is_ok() => {}
            PacketType::PacketFin => return true,
            _ => return false,
        }
    }
    false
}

impl Files {
    /// Tells of everything.
    fn tell(&self, all: &FileList, packets: &Packets) {
        for stat in all.stats() {
            let stat = match stat {
                Ok(stat) => Some(stat),
                Err(error) => return self.fail(&error, packets),
            };
            let packet = Packet { stat, ..packet(PacketType::PacketStat) };
            if packets.blocking_send(Ok(packet)).is_err() {
                return;
            }
        }
        drop(packets.blocking_send(Ok(packet(PacketType::PacketStat))));
    }

    /// Sends what is asked for, one of several to do so, until nothing more is.
    fn send_some(&self, told: &FileList, asked: &Mutex<UnboundedReceiver<u32>>, packets: &Packets) {
        let next = || asked.lock().ok()?.blocking_recv();
        while let Some(id) = next() {
            let Some(item) = usize::try_from(id).ok().and_then(|place| told.get(place)) else {
                return;
            };
            let source = item.part.source(item.entry);
            match send(&source, item.digest, id, packets).map_err(naming(&source)) {
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
}

/// Sends a file; false if nobody listens any more.
fn send(source: &Path, digest: Digest, id: u32, packets: &Packets) -> io::Result<bool> {
    let mut whole = VerifiedReader::open(source)?;
    loop {
        let size = usize::try_from(whole.left()).map_or(CHUNK, |left| left.min(CHUNK));
        let mut data = vec![0; size];
        whole.read_exact(&mut data)?;
        if data.is_empty() {
            whole.check_end(digest)?;
        }
        let is_last = data.is_empty();
        let packet = Packet { id, data, ..packet(PacketType::PacketData) };
        if packets.blocking_send(Ok(packet)).is_err() {
            return Ok(false);
        }
        if is_last {
            return Ok(true);
        }
    }
}
