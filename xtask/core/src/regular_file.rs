//! Regular files, and nothing else in their place.
//!
//! Whoever opens a named pipe waits until somebody writes into it, and a device never ends.
//! So a file is opened without waiting, and is looked at before it is used. What people
//! write (Dockerfiles, hooks, ignore rules, …) is small: what is larger is none of it.

use std::error::Error;
use std::fs::{self, File, FileType};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open as open_at};

/// No text that people write is larger, in bytes.
const LARGEST: u64 = 16 << 20;

/// Why what is at a path is not read.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("is {0}, not a regular file: put a file in its place")]
    Other(String),
    #[error("is larger than {} MiB: this is not the file that belongs here", LARGEST >> 20)]
    TooLarge,
}

/// Opens a file to be read.
///
/// # Errors
/// It is no regular file, or cannot be opened.
pub fn open(path: &Path) -> io::Result<File> {
    open_as(path, OFlags::RDONLY)
}

/// Opens an empty file to be written, in the place of one that may be there.
///
/// # Errors
/// What is there is no regular file, or it cannot be opened.
pub fn create(path: &Path) -> io::Result<File> {
    let file = open_as(path, OFlags::WRONLY | OFlags::CREATE)?;
    file.set_len(0).map(|()| file)
}

/// Opens a file to write at its end, and makes it if it is not there.
///
/// # Errors
/// As [`create`].
pub fn append(path: &Path) -> io::Result<File> {
    open_as(path, OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND)
}

fn open_as(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match open_at(path, flags, Mode::from_raw_mode(0o666)) {
        Ok(opened) => {
            let file = File::from(opened);
            let kind = file.metadata()?.file_type();
            if kind.is_file() { Ok(file) } else { Err(other(path, kind)) }
        }
        // Sockets cannot be opened, nor devices that nothing drives.
        Err(error) => match fs::metadata(path) {
            Ok(found) if !found.is_file() => Err(other(path, found.file_type())),
            _ => Err(error.into()),
        },
    }
}

/// Reads a file that somebody wrote.
///
/// # Errors
/// It is no regular file, is larger than any such file, or cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::new(ErrorKind::FileTooLarge, Unfit::TooLarge));
    }
    Ok(bytes)
}

/// Reads a file that we wrote, however large it is.
///
/// # Errors
/// It is no regular file, or cannot be read.
pub fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The same as [`read`], of a text.
///
/// # Errors
/// As [`read`], or it is not UTF-8.
pub fn read_to_string(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

/// What is wrong with the file at a path, to be said after its name.
pub fn explain(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::InvalidData => "is not UTF-8 text: save it as UTF-8".to_owned(),
        ErrorKind::NotFound if path.is_symlink() => {
            "is a symbolic link to nothing: mend or remove it".to_owned()
        }
        _ if error.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<Unfit>) => {
            error.to_string()
        }
        _ => format!("cannot be read: {error}"),
    }
}

fn other(path: &Path, kind: FileType) -> io::Error {
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
    io::Error::new(ErrorKind::InvalidInput, Unfit::Other(format!("{link}{name}")))
}

/// Puts the path in front of an error that lacks it.
pub fn naming<E: Into<io::Error>>(path: &Path) -> impl Fn(E) -> io::Error {
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
    fn what_is_no_file_says_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mode = Mode::from_raw_mode(0o644);
        mknodat(CWD, at("pipe"), FileType::Fifo, mode, 0).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        symlink("zero", at("links")).unwrap();
        symlink("missing", at("nothing")).unwrap();
        let large = File::create(at("large")).unwrap();
        large.set_len(LARGEST + 1).unwrap();
        fs::write(at("latin"), b"\xff").unwrap();
        for (name, said) in [
            ("pipe", "is a named pipe, not a regular file: put a file in its place"),
            ("socket", "is a socket, not a regular file: put a file in its place"),
            ("folder", "is a folder, not a regular file: put a file in its place"),
            ("zero", "is a symbolic link to a device, not a regular file: put a file in its place"),
            (
                "links",
                "is a symbolic link to a device, not a regular file: put a file in its place",
            ),
            ("nothing", "is a symbolic link to nothing: mend or remove it"),
            ("large", "is larger than 16 MiB: this is not the file that belongs here"),
            ("latin", "is not UTF-8 text: save it as UTF-8"),
            ("gone", "cannot be read: No such file or directory (os error 2)"),
        ] {
            let error = read_to_string(&at(name)).unwrap_err();
            assert_eq!(explain(&at(name), &error), said, "{name}");
        }
        for name in ["pipe", "socket", "folder", "zero"] {
            for opened in [create(&at(name)), append(&at(name))] {
                let said = explain(&at(name), &opened.unwrap_err());
                assert!(said.contains("not a regular file"), "{name}: {said}");
            }
        }
        large.set_len(LARGEST).unwrap();
        assert_eq!(read(&at("large")).unwrap().len() as u64, LARGEST);
    }
}
