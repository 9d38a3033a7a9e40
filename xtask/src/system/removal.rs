//! Removes what builds and hooks made: folders that may be read-only, and never what is mounted in
//! them.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Removes a file, a link, or a folder with all in it, if it is there.
///
/// # Errors
/// Something is mounted in the folder, which would be emptied.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.is_dir() {
        return fs::remove_file(path);
    }
    if let Some(mounted) = mounted_below(path)? {
        let message = format!("{} is a mount point: unmount it", mounted.display());
        return Err(io::Error::other(message));
    }
    match fs::remove_dir_all(path) {
        // As in Go's module cache.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            make_writable(path)?;
            fs::remove_dir_all(path)
        }
        removed => removed,
    }
}

/// What is mounted at a folder or below it: `mountinfo` in proc(5).
fn mounted_below(folder: &Path) -> io::Result<Option<PathBuf>> {
    let folder = folder.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    Ok(points.find(|point| point.starts_with(&folder)))
}

/// The path of a mount point, in which blanks and their like are octal numbers.
fn unescape(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (number, rest) = part.split_at_checked(3).unwrap_or((part, ""));
        bytes.extend(u8::from_str_radix(number, 8));
        bytes.extend_from_slice(rest.as_bytes());
    }
    OsString::from_vec(bytes).into()
}

fn make_writable(folder: &Path) -> io::Result<()> {
    let mode = fs::symlink_metadata(folder)?.permissions().mode();
    fs::set_permissions(folder, Permissions::from_mode(mode | 0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_blanks_are_known() {
        assert_eq!(unescape(r"/a\040b\134c"), Path::new(r"/a b\c"));
        assert_eq!(unescape("/plain"), Path::new("/plain"));
    }

    #[test]
    fn read_only_folders_can_be_made_writable() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("one/two");
        fs::create_dir_all(&inner).unwrap();
        for folder in [&inner, &dir.path().join("one")] {
            fs::set_permissions(folder, Permissions::from_mode(0o555)).unwrap();
        }
        make_writable(&dir.path().join("one")).unwrap();
        assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o755);
        remove(&dir.path().join("one")).unwrap();
        remove(&dir.path().join("one")).unwrap();
    }
}
