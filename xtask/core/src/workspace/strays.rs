//! Dockerfiles that no image is made from, for those who expect that one is.

use std::fs;
use std::path::Path;

use crate::paths::join;

/// Folders in which Dockerfiles are mostly not meant to be built.
const SKIPPED: [&str; 6] = [".git", "target", "node_modules", "vendor", ".devcontainer", ".venv"];

/// The most folders that are looked into.
const MOST_FOLDERS: usize = 20_000;

/// The deepest folders that are looked into.
const DEEPEST: usize = 8;

/// Whether a file is named as Dockerfiles are.
pub fn is_dockerfile_name(name: &str) -> bool {
    const TEMPLATES: [&str; 10] =
        [".dockerignore", ".md", ".in", ".em", ".j2", ".tmpl", ".template", ".orig", ".bak", "~"];
    let lower = name.to_ascii_lowercase();
    let is_named = name == "Dockerfile"
        || name == "Containerfile"
        || name.starts_with("Dockerfile.")
        || lower.ends_with(".dockerfile");
    is_named && !TEMPLATES.iter().any(|end| lower.ends_with(end))
}

/// The Dockerfiles below a folder, relative to it, sorted: those near the top first.
pub fn find_dockerfiles(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![(String::new(), 0)];
    let mut looked_at = 0;
    while let Some((folder, depth)) = folders.pop() {
        looked_at += 1;
        if looked_at > MOST_FOLDERS {
            break;
        }
        for entry in fs::read_dir(root.join(&folder)).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                if depth < DEEPEST && !SKIPPED.contains(&name.as_str()) {
                    folders.push((join(&folder, &name), depth + 1));
                }
            } else if is_dockerfile_name(&name) {
                found.push(join(&folder, &name));
            }
        }
    }
    found.sort_by_key(|path| (path.matches('/').count(), path.clone()));
    found
}

/// A few of them, as the end of a sentence; `None` if there are none.
pub fn name_a_few(found: &[String]) -> Option<String> {
    const FEW: usize = 3;
    let (first, rest) = found.split_at(found.len().min(FEW));
    let more = if rest.is_empty() { String::new() } else { format!(" (+{} more)", rest.len()) };
    (!first.is_empty()).then(|| format!("{}{more}", first.join(", ")))
}
