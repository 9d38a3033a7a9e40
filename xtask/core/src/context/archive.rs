//! A context as a tar archive, made while it is read.
//!
//! Its entries come part by part and sorted by path, with the times that files have, so
//! that an unchanged tree makes the same bytes: engines know an archive again, and do not
//! unpack it twice. A file that is not what was digested any more is an error that names
//! it, never a truncated archive.

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::thread;

use rustix::fs::{major, minor};

use crate::context::build_context::{Context, ContextEntry, FirstNames};
use crate::context::read_ahead::ReadAhead;
use crate::context::tree::Kind;
use crate::context::verified_reader::{VerifiedReader, changed};
use crate::paths::DEPENDENCY;
use crate::regular_file::naming;

/// Writes all of it.
///
/// # Errors
/// A file cannot be read, or changed since it was digested; or `out` takes no more.
pub fn write(context: &Context, out: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    if context.has_dependencies() {
        let mut header = header_of(0o755, 0, Kind::Folder);
        archive.append_data(&mut header, DEPENDENCY, io::empty())?;
    }
    let mut first_names = FirstNames::default();
    thread::scope(|scope| {
        let mut ahead = ReadAhead::start(scope, context);
        for item in context.items() {
            let source = item.part.source(item.entry);
            let read = ahead.take(&item).transpose();
            read.and_then(|read| append(&mut archive, &item, read, &mut first_names))
                .map_err(naming(&source))?;
        }
        Ok::<_, io::Error>(())
    })?;
    archive.into_inner()?.flush()
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    item: &ContextEntry<'_>,
    read: Option<Vec<u8>>,
    first_names: &mut FirstNames,
) -> io::Result<()> {
    let ContextEntry { part, entry, digest, .. } = item;
    let (path, source) = (item.path(), part.source(entry));
    let seconds = entry.modified().div_euclid(1_000_000_000);
    let mut header = header_of(entry.mode, seconds, entry.kind);
    match entry.kind {
        Kind::File => {
            if let Some(first) = first_names.before(item) {
                header.set_entry_type(tar::EntryType::Link);
                return archive.append_link(&mut header, &path, first);
            }
            if let Some(contents) = read {
                header.set_size(contents.len() as u64);
                return archive.append_data(&mut header, &path, &contents[..]);
            }
            let mut whole = VerifiedReader::open(&source)?;
            header.set_size(whole.left());
            archive.append_data(&mut header, &path, &mut whole)?;
            return whole.check_end(*digest);
        }
        Kind::Link => {
            let target = fs::read_link(&source)?;
            if blake3::hash(target.as_os_str().as_bytes()) != *digest {
                return Err(changed());
            }
            return archive.append_link(&mut header, &path, target);
        }
        Kind::Characters(number) | Kind::Blocks(number) => {
            header.set_device_major(major(number))?;
            header.set_device_minor(minor(number))?;
        }
        Kind::Folder | Kind::Fifo => {}
    }
    archive.append_data(&mut header, &path, io::empty())
}

fn header_of(mode: u32, modified: i64, kind: Kind) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(match kind {
        Kind::Folder => tar::EntryType::Directory,
        Kind::File => tar::EntryType::Regular,
        Kind::Link => tar::EntryType::Symlink,
        Kind::Fifo => tar::EntryType::Fifo,
        Kind::Characters(_) => tar::EntryType::Char,
        Kind::Blocks(_) => tar::EntryType::Block,
    });
    header.set_size(0);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(modified).unwrap_or(0));
    header
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::context::build_context::ContextPart;
    use crate::context::tree::Tree;

    #[test]
    fn a_file_of_more_than_8_gib_has_its_size_in_its_header() {
        let mut header = header_of(0o644, 0, Kind::File);
        header.set_size(9 << 30);
        header.set_cksum();
        let read = tar::Archive::new(&header.as_bytes()[..]);
        let size = { read }.entries().unwrap().next().unwrap().unwrap().size();
        assert_eq!(size, 9 << 30);
    }

    #[test]
    fn what_is_not_what_was_digested_is_not_sent() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "1").unwrap();
        let part = ContextPart::without(
            "src/a".into(),
            Arc::new(Tree::read(dir.path(), &[]).unwrap()),
            &[],
        );
        let context = Context::read(vec![part]).unwrap();
        write(&context, io::sink()).unwrap();
        fs::write(dir.path().join("f"), "2").unwrap();
        let error = write(&context, io::sink()).unwrap_err().to_string();
        assert!(error.ends_with("/f: changed while it was sent: build again"), "{error}");
    }
}
