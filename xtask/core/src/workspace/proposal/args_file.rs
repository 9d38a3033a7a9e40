//! Finds the file with the args of a Dockerfile, where its `FROM` names nothing without them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::paths::join;
use crate::regular_file;
use crate::workspace::config::settings::arg_lines;

/// What such files are called.
const ENDINGS: [&str; 3] = [".conf", ".env", ".args"];

/// The only file in the Dockerfile's folder, or in a folder there, whose name is that of the
/// Dockerfile or its suffix, or that of no other; with its args.
pub(super) fn find(root: &Path, dockerfile: &str) -> Option<(String, BTreeMap<String, String>)> {
    let (folder, name) = dockerfile.rsplit_once('/').unwrap_or(("", dockerfile));
    let suffix = name.strip_prefix("Dockerfile.").unwrap_or(name);
    let own = files(root, folder);
    let nested = folders(root, folder).flat_map(|folder| files(root, &folder));
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
    let entries = fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut files: Vec<String> = names
        .filter(|name| ENDINGS.iter().any(|ending| name.ends_with(ending)))
        .map(|name| join(folder, &name))
        .collect();
    files.sort();
    files
}

fn folders(root: &Path, folder: &str) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let names = folders.filter_map(|entry| entry.file_name().into_string().ok());
    names.map(move |name| join(folder, &name)).collect::<Vec<_>>().into_iter()
}
