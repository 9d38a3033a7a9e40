//! Streams a context as a tar archive.
//!
//! Entries are written part by part, sorted by path, with the modification times of the
//! files. So an unchanged tree yields the same bytes, which lets engines reuse an archive
//! that they unpacked before. A file that changed since it was digested is an error that
//! names it, never a truncated archive.

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;

use rustix::fs::{major, minor};

use crate::context::build_context::{Context, ContextEntry, HardLinks};
use crate::context::read_ahead::{self, ReadAhead};
use crate::context::tree::Kind;
use crate::context::verified_reader::{VerifiedReader, changed_while_sending};
use crate::paths::{DEPENDENCY, IGNORE_FILE};
use crate::regular_file::with_path;

/// The name of the Dockerfile in the archive, if it is not at its own path: builders follow no
/// link out of an archive, and know of no ignore file that is not in it.
pub fn dockerfile_apart(context: &Context) -> Option<String> {
    let digest = match context.linked_dockerfile() {
        Some(linked) => linked.digest(),
        None => ignored_dockerfile(context)?.digest,
    };
    Some(format!(".dockerfile.{}", &digest.to_hex()[..20]))
}

/// The Dockerfile, if it is ignored and the archive has no ignore file that says so. One that
/// instructions can read stays as it is, even if it does not.
fn ignored_dockerfile(context: &Context) -> Option<ContextEntry<'_>> {
    let dockerfile = context.items().find(|item| item.is_ignored)?;
    ignore_file(context).is_none().then_some(dockerfile)
}

/// Writes a context to `out`. A Dockerfile that is not at its own path gets a name, and the ignore
/// file a line with it, so that no instruction reads it; as the docker CLI does.
///
/// # Errors
/// A file cannot be read, a file changed since it was digested, or `out` fails.
pub fn write(context: &Context, out: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    if context.has_dependencies() {
        let mut header = new_header(0o755, 0, Kind::Folder);
        archive.append_data(&mut header, DEPENDENCY, io::empty())?;
    }
    let apart = dockerfile_apart(context);
    let mut hard_links = HardLinks::default();
    thread::scope(|scope| {
        for (item, read) in ReadAhead::start(scope, context) {
            let source = item.part.source_path(item.entry);
            if apart.is_some() && (item.is_ignored || item.path() == Path::new(IGNORE_FILE)) {
                continue;
            }
            read.and_then(|read| append(&mut archive, &item, read, &mut hard_links))
                .map_err(with_path(&source))?;
        }
        Ok::<_, io::Error>(())
    })?;
    if let Some(name) = apart {
        let linked = context.linked_dockerfile().into_iter().flat_map(Context::items);
        for file in linked.chain(ignored_dockerfile(context)).take(1) {
            append_contents(&mut archive, &name, &read_file(&file)?)?;
        }
        append_contents(&mut archive, IGNORE_FILE, &rules_with(&name, context)?)?;
    }
    archive.into_inner()?.flush()
}

/// Writes a context into an empty folder, as a builder would unpack it; all belongs to the user.
///
/// # Errors
/// As of [`write()`], or the folder cannot be written.
pub fn unpack(context: &Context, folder: &Path) -> io::Result<()> {
    let (reader, writer) = io::pipe()?;
    thread::scope(|scope| {
        let writing = scope.spawn(|| write(context, writer));
        let mut archive = tar::Archive::new(reader);
        archive.set_preserve_permissions(true);
        let unpacked = archive.unpack(folder);
        // Closed, so that the writer ends.
        drop(archive);
        let written = writing.join().map_err(|_| io::ErrorKind::Other.into()).flatten();
        unpacked.and(written)
    })
}

fn ignore_file(context: &Context) -> Option<ContextEntry<'_>> {
    context
        .items()
        .find(|item| item.entry.kind == Kind::File && item.path() == Path::new(IGNORE_FILE))
}

/// The ignore file of a context, with one more rule.
fn rules_with(name: &str, context: &Context) -> io::Result<Vec<u8>> {
    let mut rules = match ignore_file(context) {
        Some(ignore) => read_file(&ignore)?,
        None => IGNORE_FILE.into(),
    };
    rules.extend(format!("\n{name}\n").bytes());
    Ok(rules)
}

fn append_contents<W: Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    contents: &[u8],
) -> io::Result<()> {
    let mut header = new_header(0o600, 0, Kind::File);
    header.set_size(contents.len() as u64);
    archive.append_data(&mut header, name, contents)
}

fn read_file(item: &ContextEntry<'_>) -> io::Result<Vec<u8>> {
    read_ahead::read(item).map_err(with_path(&item.part.source_path(item.entry)))
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    item: &ContextEntry<'_>,
    read: Option<Vec<u8>>,
    hard_links: &mut HardLinks,
) -> io::Result<()> {
    let ContextEntry { part, entry, digest, .. } = item;
    let (path, source) = (item.path(), part.source_path(entry));
    let seconds = entry.modified().div_euclid(1_000_000_000);
    let mut header = new_header(entry.mode, seconds, entry.kind);
    match entry.kind {
        Kind::File => {
            if let Some(first) = hard_links.first_path(item) {
                header.set_entry_type(tar::EntryType::Link);
                return archive.append_link(&mut header, &path, first);
            }
            if let Some(contents) = read {
                header.set_size(contents.len() as u64);
                return archive.append_data(&mut header, &path, &contents[..]);
            }
            let mut reader = VerifiedReader::open(&source)?;
            header.set_size(reader.remaining());
            archive.append_data(&mut header, &path, &mut reader)?;
            return reader.verify(*digest);
        }
        Kind::Link => {
            let target = fs::read_link(&source)?;
            if blake3::hash(target.as_os_str().as_bytes()) != *digest {
                return Err(changed_while_sending());
            }
            set_link_name(archive, &mut header, target.as_os_str().as_bytes())?;
        }
        Kind::CharDevice(number) | Kind::BlockDevice(number) => {
            header.set_device_major(major(number))?;
            header.set_device_minor(minor(number))?;
        }
        Kind::Folder | Kind::Fifo => {}
    }
    archive.append_data(&mut header, &path, io::empty())
}

/// Sets the target of a link as it is, unlike [`tar::Builder::append_link`]. One that is too long
/// for the header gets an entry before that.
fn set_link_name<W: Write>(
    archive: &mut tar::Builder<W>,
    header: &mut tar::Header,
    target: &[u8],
) -> io::Result<()> {
    if header.set_link_name_literal(target).is_ok() {
        return Ok(());
    }
    let mut long = new_header(0o644, 0, Kind::File);
    long.set_entry_type(tar::EntryType::GNULongLink);
    long.set_path("././@LongLink")?;
    long.set_size(target.len() as u64 + 1);
    long.set_cksum();
    archive.append(&long, io::Read::chain(target, &b"\0"[..]))
}

fn new_header(mode: u32, modified: i64, kind: Kind) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(match kind {
        Kind::Folder => tar::EntryType::Directory,
        Kind::File => tar::EntryType::Regular,
        Kind::Link => tar::EntryType::Symlink,
        Kind::Fifo => tar::EntryType::Fifo,
        Kind::CharDevice(_) => tar::EntryType::Char,
        Kind::BlockDevice(_) => tar::EntryType::Block,
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
    use crate::context::dockerignore::Dockerignore;
    use crate::context::tree::Tree;

    #[test]
    fn a_file_of_more_than_8_gib_has_its_size_in_its_header() {
        let mut header = new_header(0o644, 0, Kind::File);
        header.set_size(9 << 30);
        header.set_cksum();
        let read = tar::Archive::new(&header.as_bytes()[..]);
        let size = { read }.entries().unwrap().next().unwrap().unwrap().size();
        assert_eq!(size, 9 << 30);
    }

    /// The names in the archive of a folder, and what links lead to.
    fn archived(part: ContextPart) -> Vec<(String, Option<String>)> {
        let mut bytes = Vec::new();
        write(&Context::read(vec![part]).unwrap(), &mut bytes).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let entries = archive.entries().unwrap().map(Result::unwrap);
        entries
            .map(|it| (text(&it.path_bytes()), it.link_name_bytes().map(|it| text(&it))))
            .collect()
    }

    #[test]
    fn links_lead_where_they_do_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let long = format!("d/.//{}/..", "x".repeat(150));
        let targets = ["d//f", "d/.", "./d", "/d/../e/", &long];
        for (name, target) in ["a", "b", "c", "d", "e"].iter().zip(targets) {
            std::os::unix::fs::symlink(target, dir.path().join(name)).unwrap();
        }
        let tree = Arc::new(Tree::read(dir.path(), &[]).unwrap());
        let found = archived(ContextPart::without("src/a".into(), tree, &[]));
        let found: Vec<&str> = found.iter().filter_map(|(_, target)| target.as_deref()).collect();
        assert_eq!(found, targets);
    }

    #[test]
    fn an_ignored_dockerfile_is_hidden_by_a_rule_in_the_archive() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("build")).unwrap();
        fs::write(dir.path().join("build/a"), "FROM scratch\n").unwrap();
        fs::write(dir.path().join("f"), "").unwrap();
        let names = |rules: &str, text: &str| {
            fs::write(dir.path().join(IGNORE_FILE), text).unwrap();
            let tree = Arc::new(Tree::read(dir.path(), &[]).unwrap());
            let rules = Dockerignore::parse(rules).unwrap();
            let part = ContextPart::own("src/a".into(), tree, &rules, Some(Path::new("build/a")));
            archived(part).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let at_its_place = [IGNORE_FILE, "build/a", "f"];
        assert_eq!(names("build", "build"), at_its_place);
        let apart = [
            "f",
            &format!(".dockerfile.{}", &blake3::hash(b"FROM scratch\n").to_hex()[..20]),
            IGNORE_FILE,
        ];
        assert_eq!(names(".dockerignore\nbuild", ".dockerignore\nbuild"), apart);
        assert_eq!(names("build", "other"), at_its_place, "its own ignore file");
        assert_eq!(names("", "other"), [IGNORE_FILE, "build", "build/a", "f"]);
    }

    #[test]
    fn a_file_that_changed_since_it_was_digested_is_an_error() {
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
        assert!(error.ends_with("/f: changed while it was sent: run the build again"), "{error}");
    }
}
