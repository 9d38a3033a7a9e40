//! What a shell offers for components and images: those of the workspace in the current folder.

use std::env;
use std::ffi::OsStr;

use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter};
use xtask_core::escape;
use xtask_core::workspace::components::{self, Workspace};

use crate::cli::environment::options_of_environment;

/// Components that begin with a word; folders, if it is a path.
pub(crate) fn components(word: &OsStr) -> Vec<CompletionCandidate> {
    let Some(word) = word.to_str() else { return Vec::new() };
    if word.contains('/') {
        return PathCompleter::dir().complete(OsStr::new(word));
    }
    let Some(workspace) = workspace() else { return Vec::new() };
    let names = workspace.components.iter().map(|it| it.name.as_str());
    beginning_with(word, names).collect()
}

/// Images that begin with a word.
pub(crate) fn images(word: &OsStr) -> Vec<CompletionCandidate> {
    let (Some(word), Some(workspace)) = (word.to_str(), workspace()) else { return Vec::new() };
    beginning_with(word, workspace.images().map(|(_, image)| image.name.as_str())).collect()
}

/// Components and images that begin with a word; folders, if it is a path.
pub(crate) fn components_and_images(word: &OsStr) -> Vec<CompletionCandidate> {
    let mut all = components(word);
    all.extend(images(word));
    all.dedup_by(|one, other| one.get_value() == other.get_value());
    all
}

fn workspace() -> Option<Workspace> {
    let root = components::find_root(&env::current_dir().ok()?)?;
    Some(Workspace::read(&root, &options_of_environment(), &mut Vec::new()))
}

/// Names with control characters would be read as several by a shell.
fn beginning_with<'n>(
    word: &str,
    names: impl Iterator<Item = &'n str>,
) -> impl Iterator<Item = CompletionCandidate> {
    names
        .filter(move |name| name.starts_with(word) && !name.contains(escape::is_control))
        .map(CompletionCandidate::new)
}
