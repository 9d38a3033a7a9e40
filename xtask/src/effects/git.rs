//! What git knows of the workspace.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a git command says in a folder; an error with its own words if it fails.
pub fn run(root: &Path, arguments: &[&str]) -> io::Result<Vec<u8>> {
    let output = Command::new("git").current_dir(root).args(arguments).output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// The paths of a list that was asked for with `-z`.
pub fn paths(listed: &[u8]) -> impl Iterator<Item = PathBuf> {
    let paths = listed.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    paths.map(|path| PathBuf::from(OsStr::from_bytes(path)))
}

/// The paths in a folder, relative to it, that git tracks.
pub fn tracked_below(folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
    if !folder.ancestors().any(|folder| folder.join(".git").exists()) {
        return Ok(BTreeSet::new());
    }
    Ok(paths(&run(folder, &["ls-files", "-z"])?).collect())
}

/// The untracked paths in a folder, relative to it, that git ignores.
pub fn ignored_below(folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let ignored = ["ls-files", "-z", "--others", "--ignored", "--exclude-standard"];
    Ok(paths(&run(folder, &ignored)?).collect())
}

/// The id of the commit that is checked out; empty without one.
pub fn head(root: &Path) -> String {
    let output = run(root, &["rev-parse", "HEAD"]).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}
