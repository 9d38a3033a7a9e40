//! Infers the context of a Dockerfile: the nearest folder at or above it that has every file
//! that its `COPY` and `ADD` name literally, or else the only other folder that has them.

use std::path::Path;

use crate::dockerfile::parser::decode;
use crate::dockerfile::syntax::{Keyword, Syntax};
use crate::paths::join;
use crate::regular_file;

/// The folder, relative to the root; `None` for the Dockerfile's own.
pub(super) fn infer(root: &Path, dockerfile: &str) -> Option<String> {
    let own = dockerfile.rsplit_once('/').map_or("", |(folder, _)| folder);
    let sources = sources(&root.join(dockerfile));
    let has_all = |folder: &str| {
        sources.iter().all(|source| root.join(folder).join(source).symlink_metadata().is_ok())
    };
    if sources.is_empty() {
        return None;
    }
    let mut folder = own;
    loop {
        if has_all(folder) {
            return (folder != own)
                .then(|| if folder.is_empty() { ".".to_owned() } else { folder.to_owned() });
        }
        if folder.is_empty() {
            break;
        }
        folder = folder.rsplit_once('/').map_or("", |(above, _)| above);
    }
    // A folder beside the Dockerfile, such as `context/`.
    let entries = root.join(own).read_dir().ok()?.flatten();
    let beside = entries.filter_map(|entry| Some(join(own, entry.file_name().to_str()?)));
    let mut beside = beside.filter(|folder| root.join(folder).is_dir() && has_all(folder));
    match (beside.next(), beside.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// What a Dockerfile reads by literal paths.
fn sources(path: &Path) -> Vec<String> {
    let text = regular_file::read(path).ok().and_then(|bytes| decode(&bytes).ok());
    let Some(syntax) = text.and_then(|text| Syntax::parse(&text).ok()) else { return Vec::new() };
    let mut sources = Vec::new();
    for instruction in &syntax.instructions {
        let is_read = matches!(instruction.keyword, Keyword::Copy | Keyword::Add);
        let is_other = instruction.flag("from").next().is_some();
        if !is_read || is_other || !instruction.here_docs.is_empty() {
            continue;
        }
        let mut words = instruction.list();
        words.pop();
        let is_literal = |word: &String| {
            !word.contains(['$', '*', '?', '[', '"', '\'', '\\']) && !word.contains("://")
        };
        let words = words.into_iter().filter(is_literal);
        let clean = words.map(|word| word.trim_start_matches("./").trim_matches('/').to_owned());
        sources.extend(clean.filter(|word| !matches!(word.as_str(), "" | "." | ".git")));
    }
    sources
}
