//! Files that the user names on the command line, such as `--metadata-file`.
//!
//! A file is replaced at once, so that nobody reads half of it and an interruption loses nothing. A
//! link, a device or a pipe (`/dev/stdout`) is what it is: it is written to, and stays.

use std::fs;
use std::io;
use std::path::Path;

use crate::system::state;

/// Writes a file, and creates the folders above it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => fs::write(path, bytes),
        _ => state::replace(path, bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, symlink};
    use std::process::Command;
    use std::thread;

    use super::*;

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let [file, link] = ["folder/file", "link"].map(|name| dir.path().join(name));
        write(&file, b"one, and more").unwrap();
        symlink(&file, &link).unwrap();
        write(&link, b"two").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"two");
        write(&file, b"three").unwrap();
        assert_eq!(fs::read(&link).unwrap(), b"three");
    }

    #[test]
    fn a_pipe_stays_one_and_its_reader_gets_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        write(&pipe, b"text").unwrap();
        assert_eq!(reader.join().unwrap(), b"text");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    }
}
