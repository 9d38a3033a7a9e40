//! Finds the file with the args of a Dockerfile, where its `FROM` names nothing without them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::regular_file;
use crate::workspace::config::settings::arg_lines;
use crate::workspace::proposal::other_files::names_in;

/// What such files are called.
const ENDINGS: [&str; 3] = [".conf", ".env", ".args"];

/// The only file in the Dockerfile's folder, or in a folder there, whose name is that of the
/// Dockerfile or its suffix, or that of no other; with its args.
pub(super) fn find(root: &Path, dockerfile: &str) -> Option<(String, BTreeMap<String, String>)> {
    let (folder, name) = dockerfile.rsplit_once('/').unwrap_or(("", dockerfile));
    let suffix = name.strip_prefix("Dockerfile.").unwrap_or(name);
    let own = files(root, folder);
    let nested = folders(root, folder).into_iter().flat_map(|folder| files(root, &folder));
    let all: Vec<String> = own.into_iter().chain(nested).collect();
    let is_of_it = |path: &&String| {
        let file = path.rsplit('/').next().unwrap_or(path);
        ENDINGS
            .iter()
            .any(|ending| file.strip_suffix(ending).is_some_and(|it| it == suffix || it == name))
    };
    let found = all.iter().find(is_of_it).or(match all.as_slice() {
        [only] => Some(only),
        _ => None,
    })?;
    let text = regular_file::read_to_string(&root.join(found)).ok()?;
    Some((found.clone(), arg_lines(&text).ok()?.into_iter().collect()))
}

fn files(root: &Path, folder: &str) -> Vec<String> {
    let mut files = names_in(root, folder);
    files.retain(|path| ENDINGS.iter().any(|ending| path.ends_with(ending)));
    files
}

/// The folders in a folder.
fn folders(root: &Path, folder: &str) -> Vec<String> {
    let mut folders = names_in(root, folder);
    folders.retain(|path| root.join(path).symlink_metadata().is_ok_and(|it| it.is_dir()));
    folders
}
