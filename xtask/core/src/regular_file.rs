//! Opens regular files only.
//!
//! Opening a named pipe blocks until another process opens its other end, and reading a
//! device may never end. So files are opened non-blocking, and their type is checked before
//! they are used. Hand-written files (Dockerfiles, hooks, ignore rules, …) are small, so
//! larger ones are rejected.

use std::error::Error;
use std::fs::{self, File, FileType};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open as open_at};

/// The maximum size of a hand-written file, in bytes.
const MAX_SIZE: u64 = 16 << 20;

/// Why a file is rejected.
#[derive(Debug, thiserror::Error)]
enum Rejected {
    #[error("is {0}, not a regular file: replace it with a file")]
    NotRegular(String),
    #[error("is larger than {} MiB: a file of this kind is text written by hand", MAX_SIZE >> 20)]
    TooLarge,
}

/// Opens a file for reading.
///
/// # Errors
/// The path is not a regular file, or cannot be opened.
pub fn open(path: &Path) -> io::Result<File> {
    open_as(path, OFlags::RDONLY)
}

/// Opens a file for writing. Creates it if it does not exist, and truncates it if it does.
///
/// # Errors
/// The path exists but is not a regular file, or cannot be opened.
pub fn create(path: &Path) -> io::Result<File> {
    let file = open_as(path, OFlags::WRONLY | OFlags::CREATE)?;
    file.set_len(0).map(|()| file)
}

/// Opens a file for appending. Creates it if it does not exist.
///
/// # Errors
/// The same as for [`create`].
pub fn append(path: &Path) -> io::Result<File> {
    open_as(path, OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND)
}

fn open_as(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match open_at(path, flags, Mode::from_raw_mode(0o666)) {
        Ok(opened) => {
            let file = File::from(opened);
            let kind = file.metadata()?.file_type();
            if kind.is_file() { Ok(file) } else { Err(not_regular(path, kind)) }
        }
        // Opening a socket, or a device without a driver, fails.
        Err(error) => match fs::metadata(path) {
            Ok(found) if !found.is_file() => Err(not_regular(path, found.file_type())),
            _ => Err(error.into()),
        },
    }
}

/// Reads a hand-written file.
///
/// # Errors
/// The path is not a regular file, is too large for a hand-written one, or cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(io::Error::new(ErrorKind::FileTooLarge, Rejected::TooLarge));
    }
    Ok(bytes)
}

/// Reads a file that this tool wrote, of any size.
///
/// # Errors
/// The path is not a regular file, or cannot be read.
pub fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a hand-written text file.
///
/// # Errors
/// The same as for [`read`], or the contents are not UTF-8.
pub fn read_to_string(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

/// Describes a read error. The text follows the name of the file.
pub fn explain(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::InvalidData => "is not UTF-8 text: save it as UTF-8".to_owned(),
        ErrorKind::NotFound if path.is_symlink() => {
            "is a dangling symbolic link: fix or remove it".to_owned()
        }
        _ if error.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<Rejected>) => {
            error.to_string()
        }
        _ => format!("cannot be read: {error}"),
    }
}

fn not_regular(path: &Path, kind: FileType) -> io::Error {
    let name = if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    let link = if path.is_symlink() { "a symbolic link to " } else { "" };
    io::Error::new(ErrorKind::InvalidInput, Rejected::NotRegular(format!("{link}{name}")))
}

/// Prefixes an error with the path that it concerns. A broken pipe is left as it is: it
/// concerns the receiver and not the file.
pub fn with_path<E: Into<io::Error>>(path: &Path) -> impl Fn(E) -> io::Error {
    move |error| {
        let error: io::Error = error.into();
        if error.kind() == io::ErrorKind::BrokenPipe {
            return error;
        }
        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, mknodat};

    use super::*;

    #[test]
    fn anything_but_a_readable_text_file_is_described() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mode = Mode::from_raw_mode(0o644);
        mknodat(CWD, at("pipe"), FileType::Fifo, mode, 0).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        symlink("zero", at("links")).unwrap();
        symlink("missing", at("dangling")).unwrap();
        let large = File::create(at("large")).unwrap();
        large.set_len(MAX_SIZE + 1).unwrap();
        fs::write(at("latin"), b"\xff").unwrap();
        for (name, expected) in [
            ("pipe", "is a named pipe, not a regular file: replace it with a file"),
            ("socket", "is a socket, not a regular file: replace it with a file"),
            ("folder", "is a folder, not a regular file: replace it with a file"),
            ("zero", "is a symbolic link to a device, not a regular file: replace it with a file"),
            ("links", "is a symbolic link to a device, not a regular file: replace it with a file"),
            ("dangling", "is a dangling symbolic link: fix or remove it"),
            ("large", "is larger than 16 MiB: a file of this kind is text written by hand"),
            ("latin", "is not UTF-8 text: save it as UTF-8"),
            ("gone", "cannot be read: No such file or directory (os error 2)"),
        ] {
            let error = read_to_string(&at(name)).unwrap_err();
            assert_eq!(explain(&at(name), &error), expected, "{name}");
        }
        for name in ["pipe", "socket", "folder", "zero"] {
            for opened in [create(&at(name)), append(&at(name))] {
                let message = explain(&at(name), &opened.unwrap_err());
                assert!(message.contains("not a regular file"), "{name}: {message}");
            }
        }
        large.set_len(MAX_SIZE).unwrap();
        assert_eq!(read(&at("large")).unwrap().len() as u64, MAX_SIZE);
    }
}
