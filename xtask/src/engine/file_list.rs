//! What is in a context, as BuildKit is told of it before it asks for files: sorted by
//! path, each folder before what is in it, with what the file system says of each.
//!
//! A context can have very many files, so only their order is kept here. What is told of
//! one is made when it is told.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bollard_buildkit_proto::fsutil::types::Stat;
use rustix::fs::{major, minor};
use xtask_core::context::build_context::{Context, ContextEntry, FirstNames, Place};
use xtask_core::context::tree::Kind;
use xtask_core::context::verified_reader::changed;
use xtask_core::regular_file::naming;

use crate::engine::sync_ledger::SyncedFolder;

/// The mode of a folder that is told of only because something is in it.
const MADE_UP: u32 = 0o755;

/// What Go's `os.FileMode` calls a folder, a link, a device, one of characters, and a fifo.
const FOLDER: u32 = 1 << 31;
const LINK: u32 = 1 << 27;
const DEVICE: u32 = 1 << 26;
const FIFO: u32 = 1 << 25;
const CHARACTERS: u32 = 1 << 21;
/// Its bits beside those of permission, and what the file system calls them.
const SPECIAL: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];

/// Some or all of a context, in the order in which it is told of.
#[derive(Debug, Default)]
pub(crate) struct FileList {
    context: Option<Context>,
    rows: Vec<Row>,
}

#[derive(Debug)]
enum Row {
    Entry(Place),
    /// A folder that holds entries and is none.
    Folder(PathBuf),
}

impl FileList {
    /// What is wanted of a context; none if anything has a name that the protocol cannot
    /// say.
    pub(crate) fn new(
        context: &Context,
        is_wanted: impl Fn(&ContextEntry<'_>) -> bool,
    ) -> Option<Self> {
        let mut places = Vec::new();
        for place in context.places() {
            let item = context.item(place)?;
            if is_wanted(&item) {
                item.path().to_str()?;
                if item.entry.kind == Kind::Link {
                    fs::read_link(item.part.source(item.entry)).ok()?.to_str()?;
                }
                places.push(place);
            }
        }
        let item = |place: &Place| context.item(*place);
        // Nearly sorted, as each part is sorted.
        places.sort_by(|a, b| item(a).zip(item(b)).map_or(Ordering::Equal, by_path));
        let mut rows = Vec::with_capacity(places.len());
        let mut above = PathBuf::new();
        for place in places {
            let path = item(&place)?.path();
            let folders = path.ancestors().skip(1).filter(|it| !it.as_os_str().is_empty());
            let missing: Vec<&Path> = folders.take_while(|it| !above.starts_with(it)).collect();
            rows.extend(missing.into_iter().rev().map(|it| Row::Folder(it.to_owned())));
            rows.push(Row::Entry(place));
            above = path;
        }
        Some(Self { context: Some(context.clone()), rows })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The file that is asked for by its place in the order.
    pub(crate) fn get(&self, place: usize) -> Option<ContextEntry<'_>> {
        match self.rows.get(place)? {
            Row::Entry(place) => self.item(*place),
            Row::Folder(_) => None,
        }
    }

    fn item(&self, place: Place) -> Option<ContextEntry<'_>> {
        self.context.as_ref()?.item(place)
    }

    /// What is told of each.
    ///
    /// # Errors
    /// A link is not what it was.
    pub(crate) fn stats(&self) -> impl Iterator<Item = io::Result<Stat>> {
        let mut first_names = FirstNames::default();
        self.rows.iter().map(move |row| match row {
            Row::Folder(path) => Ok(Stat {
                path: path.to_string_lossy().into_owned(),
                mode: FOLDER | MADE_UP,
                ..Stat::default()
            }),
            Row::Entry(place) => {
                let item = self.item(*place).ok_or_else(changed)?;
                let source = item.part.source(item.entry);
                stat(&item, &source, &mut first_names).map_err(naming(&source))
            }
        })
    }

    /// The contents that they offer.
    pub(crate) fn offers(&self) -> impl Iterator<Item = SyncedFolder> {
        let items = (0..self.len()).filter_map(|place| self.get(place));
        items.filter(|item| item.entry.kind == Kind::File).map(|item| SyncedFolder {
            path: item.path(),
            size: item.entry.size(),
            modified: item.entry.modified(),
            digest: item.digest,
        })
    }

    /// The folders that they offer.
    pub(crate) fn folders(&self) -> impl Iterator<Item = SyncedFolder> {
        self.rows.iter().filter_map(|row| match row {
            Row::Folder(path) => Some(SyncedFolder::folder(path.clone(), MADE_UP)),
            Row::Entry(place) => {
                let item = self.item(*place).filter(|item| item.entry.kind == Kind::Folder)?;
                Some(SyncedFolder::folder(item.path(), item.entry.mode))
            }
        })
    }
}

fn by_path((a, b): (ContextEntry<'_>, ContextEntry<'_>)) -> Ordering {
    a.part.names(a.entry).cmp(b.part.names(b.entry))
}

fn stat(item: &ContextEntry<'_>, source: &Path, first_names: &mut FirstNames) -> io::Result<Stat> {
    let ContextEntry { entry, digest, .. } = item;
    let special = SPECIAL.into_iter().filter(|(own, _)| entry.mode & own != 0);
    let mut stat = Stat {
        path: text(item.path().as_os_str()),
        mode: special.fold(entry.mode & 0o777, |mode, (_, theirs)| mode | theirs),
        mod_time: entry.modified(),
        ..Stat::default()
    };
    match entry.kind {
        Kind::File => match first_names.before(item) {
            Some(first) => stat.linkname = text(first.as_os_str()),
            None => stat.size = entry.size().try_into().map_err(io::Error::other)?,
        },
        Kind::Folder => stat.mode |= FOLDER,
        Kind::Fifo => stat.mode |= FIFO,
        Kind::Link => {
            let target = fs::read_link(source)?;
            if blake3::hash(target.as_os_str().as_bytes()) != *digest {
                return Err(changed());
            }
            stat.linkname = text(target.as_os_str());
            stat.size = stat.linkname.len().try_into().map_err(io::Error::other)?;
            stat.mode |= LINK;
        }
        Kind::Characters(number) | Kind::Blocks(number) => {
            let is_characters = matches!(entry.kind, Kind::Characters(_));
            stat.mode |= if is_characters { DEVICE | CHARACTERS } else { DEVICE };
            (stat.devmajor, stat.devminor) = (major(number).into(), minor(number).into());
        }
    }
    Ok(stat)
}

/// Of a name that can be said, as all were.
fn text(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}
