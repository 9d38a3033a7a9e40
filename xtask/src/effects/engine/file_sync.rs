//! The files of a context one by one, as BuildKit asks for them.
//!
//! The protocol is that of `fsutil`, which BuildKit receives files with. It is told of
//! everything in the context, sorted by path, what it is, its size and its time. It asks
//! for the files that differ from what it has, by their place in that order; each is sent
//! in pieces, the last of them empty.
//!
//! It asks three times for a build: for the Dockerfile, for `.dockerignore`, and for the
//! context. What is ignored was decided before, so the second time there is nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSync;
use rustix::fs::{major, minor};
use tokio::sync::mpsc::{self, Sender, UnboundedReceiver, UnboundedSender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::core::context::{Context, FirstNames, Item};
use crate::core::offers::Offer;
use crate::core::tree::{Digest, Kind, naming};
use crate::core::whole::Whole;

/// Big enough that a packet costs nothing beside the copying.
const CHUNK: usize = 256 * 1024;
const PACKETS_IN_FLIGHT: usize = 16;

/// What Go's `os.FileMode` calls a folder, a link, a device, one of characters, and a fifo.
const FOLDER: u32 = 1 << 31;
const LINK: u32 = 1 << 27;
const DEVICE: u32 = 1 << 26;
const FIFO: u32 = 1 << 25;
const CHARACTERS: u32 = 1 << 21;
/// Its bits beside those of permission, and what the file system calls them.
const SPECIAL: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];

/// One entry of a context, as the engine is told of it.
#[derive(Clone, Debug)]
struct Told {
    stat: Stat,
    source: PathBuf,
    digest: Digest,
}

/// What the engine may ask for.
#[derive(Clone)]
pub(super) struct Files {
    context: Arc<Vec<Told>>,
    dockerfile: Arc<Vec<Told>>,
    /// What went wrong with one of them.
    failure: Arc<Mutex<Option<String>>>,
    is_sent: Arc<dyn Fn() + Send + Sync>,
}

impl Files {
    /// Those of a context; none if one has a name that the protocol cannot say.
    pub(super) fn new(
        context: &Context,
        dockerfile: &str,
        is_sent: impl Fn() + Send + Sync + 'static,
    ) -> Option<Self> {
        let mut first_names = FirstNames::default();
        let mut all = BTreeMap::new();
        let mut own = BTreeMap::new();
        for item in context.items() {
            let path = item.part.path(item.entry);
            if path == Path::new(dockerfile) {
                own.insert(path.clone(), Told::new(&item, dockerfile, None)?);
            }
            if !item.is_ignored {
                let told = Told::new(&item, path.to_str()?, first_names.before(&item))?;
                all.insert(path, told);
            }
        }
        Some(Self {
            context: Arc::new(with_folders(all)),
            dockerfile: Arc::new(with_folders(own)),
            failure: Arc::default(),
            is_sent: Arc::new(is_sent),
        })
    }

    /// The contents that they offer.
    pub(super) fn offers(&self) -> impl Iterator<Item = Offer<'_>> {
        self.context.iter().chain(self.dockerfile.iter()).map(Told::offer)
    }

    /// What went wrong with one of them, if that was it.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().ok()?.clone()
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("context", &self.context.len()).finish_non_exhaustive()
    }
}

/// Adds the folders above, where they are missing.
fn with_folders(mut told: BTreeMap<PathBuf, Told>) -> Vec<Told> {
    let paths = told.keys().flat_map(|path| path.ancestors().skip(1));
    let missing: Vec<PathBuf> = paths
        .filter(|above| !above.as_os_str().is_empty() && !told.contains_key(*above))
        .map(Path::to_owned)
        .collect();
    for path in missing {
        let stat = Stat {
            path: path.to_string_lossy().into_owned(),
            mode: FOLDER | 0o755,
            ..Stat::default()
        };
        told.insert(path, Told { stat, source: PathBuf::new(), digest: blake3::hash(b"") });
    }
    told.into_values().collect()
}

impl Told {
    fn new(item: &Item<'_>, path: &str, first_name: Option<PathBuf>) -> Option<Self> {
        let Item { part, entry, digest, .. } = item;
        let source = part.source(entry);
        let special = SPECIAL.into_iter().filter(|(own, _)| entry.mode & own != 0);
        let mut stat = Stat {
            path: path.to_owned(),
            mode: special.fold(entry.mode & 0o777, |mode, (_, theirs)| mode | theirs),
            mod_time: entry.modified(),
            ..Stat::default()
        };
        match entry.kind {
            Kind::File => match first_name {
                Some(first) => first.to_str()?.clone_into(&mut stat.linkname),
                None => stat.size = i64::try_from(entry.size()).ok()?,
            },
            Kind::Folder => stat.mode |= FOLDER,
            Kind::Fifo => stat.mode |= FIFO,
            Kind::Link => {
                fs::read_link(&source).ok()?.to_str()?.clone_into(&mut stat.linkname);
                stat.size = i64::try_from(stat.linkname.len()).ok()?;
                stat.mode |= LINK;
            }
            Kind::Characters(number) | Kind::Blocks(number) => {
                let is_characters = matches!(entry.kind, Kind::Characters(_));
                stat.mode |= if is_characters { DEVICE | CHARACTERS } else { DEVICE };
                (stat.devmajor, stat.devminor) = (major(number).into(), minor(number).into());
            }
        }
        Some(Self { stat, source, digest: *digest })
    }

    fn offer(&self) -> Offer<'_> {
        let Stat { path, size, mod_time, .. } = &self.stat;
        Offer { path, size: *size, modified: *mod_time, digest: self.digest }
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
        let (all, list) = (Arc::clone(&told), packets.clone());
        tokio::task::spawn_blocking(move || tell(&all, &list));
        let (files, data) = (self.clone(), packets.clone());
        tokio::task::spawn_blocking(move || files.send_all(&told, asked, &data));
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

/// Tells of everything.
fn tell(all: &[Told], packets: &Sender<Result<Packet, Status>>) {
    for told in all {
        let stat = Some(told.stat.clone());
        let packet = Packet { stat, ..packet(PacketType::PacketStat) };
        if packets.blocking_send(Ok(packet)).is_err() {
            return;
        }
    }
    drop(packets.blocking_send(Ok(packet(PacketType::PacketStat))));
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
    fn send_all(
        &self,
        told: &[Told],
        mut asked: UnboundedReceiver<u32>,
        packets: &Sender<Result<Packet, Status>>,
    ) {
        while let Some(id) = asked.blocking_recv() {
            let Some(told) = usize::try_from(id).ok().and_then(|place| told.get(place)) else {
                return;
            };
            match send(told, id, packets) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    let message = naming(&told.source)(error).to_string();
                    if let Ok(mut failure) = self.failure.lock() {
                        *failure = Some(message.clone());
                    }
                    drop(packets.blocking_send(Err(Status::aborted(message))));
                    return;
                }
            }
        }
    }
}

/// Sends a file; false if nobody listens any more.
fn send(told: &Told, id: u32, packets: &Sender<Result<Packet, Status>>) -> io::Result<bool> {
    let mut whole = Whole::open(&told.source)?;
    loop {
        let size = usize::try_from(whole.left()).map_or(CHUNK, |left| left.min(CHUNK));
        let mut data = vec![0; size];
        whole.read_exact(&mut data)?;
        if data.is_empty() {
            whole.check_end(told.digest)?;
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
