//! The contents of a build context, as text and as JSON.
//!
//! The JSON document's `version` changes with every incompatible change. `contexts` has an
//! object for each image: `component`, `image`, `dockerfile`, `files` (each with `path`,
//! `kind`, `mode` in octal and `bytes`), `bytes`, `left_out` (for each ignore pattern its
//! `file` and `line`, and the `files`, `bytes` and an `example` that it excludes), `unread`
//! (the same for files that no instruction of the Dockerfile reads), and `hooks` (those that
//! would run before the build).

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use xtask_core::context::build_context::{Context, ContextEntry};
use xtask_core::context::tree::Kind;
use xtask_core::escape;
use xtask_core::paths::DEPENDENCY;

use crate::commands::context::{ImageContext, LeftOut};
use crate::event::VERSION;
use crate::report::text;

/// A folder gets a hint if it has at least this percentage of all bytes,
const HINT_PERCENT: u64 = 60;
/// and at least this many.
const HINT_BYTES: u64 = 10 << 20;

/// The files, largest first, followed by totals by folder, excluded files and hints.
pub(crate) fn lines(contents: &ImageContext) -> Vec<String> {
    let mut items: Vec<ContextEntry<'_>> = contents.context.items().collect();
    items.sort_by_key(|item| std::cmp::Reverse(item.entry.size()));
    let files = items.iter().filter(|item| item.entry.kind != Kind::Folder).count();
    let total = contents.context.size();
    let ImageContext { image, dockerfile, .. } = contents;
    let mut lines = vec![
        format!("{image} ({dockerfile}): {}, {}", text::counted(files), text::bytes(total)),
        String::new(),
    ];
    let paths: Vec<PathBuf> = items.iter().map(ContextEntry::path).collect();
    let filled: HashSet<&Path> = paths.iter().filter_map(|path| path.parent()).collect();
    let is_shown = |(item, path): &(&ContextEntry<'_>, &PathBuf)| {
        item.entry.kind != Kind::Folder || !filled.contains(path.as_path())
    };
    for (item, path) in items.iter().zip(&paths).filter(is_shown) {
        let (mode, size) = (item.entry.mode, text::bytes(item.entry.size()));
        let mark = match item.entry.kind {
            Kind::Folder => "/",
            Kind::Link => "@",
            Kind::Fifo => "|",
            Kind::File | Kind::CharDevice(_) | Kind::BlockDevice(_) => "",
        };
        lines.push(format!("{size:>10}  {mode:04o}  {}{mark}", path.display()));
    }
    let folders = folders(&contents.context);
    if folders.len() > 1 {
        lines.extend([String::new(), "by folder".to_owned()]);
        for (folder, (files, size)) in largest_first(&folders) {
            let shown = if folder.as_os_str().is_empty() {
                ".".into()
            } else {
                folder.display().to_string()
            };
            lines.push(format!("{:>10}  {shown}  {}", text::bytes(*size), text::counted(*files)));
        }
    }
    for (name, folder) in contents.context.named() {
        lines.extend([String::new(), format!("called '{name}'")]);
        for item in folder.items().filter(|item| item.entry.kind != Kind::Folder) {
            let (mode, size) = (item.entry.mode, text::bytes(item.entry.size()));
            lines.push(format!("{size:>10}  {mode:04o}  {}", item.shown()));
        }
    }
    let mut left_out: Vec<String> = Vec::new();
    for (line, out) in &contents.left_out {
        let file = contents.ignore_file.as_deref().unwrap_or_default();
        left_out.push(excluded(out, &format!("{file}:{line}")));
    }
    if contents.unread.files > 0 {
        left_out.push(excluded(&contents.unread, "not read by any instruction"));
    }
    if !left_out.is_empty() {
        lines.extend([String::new(), "excluded".to_owned()]);
        lines.extend(left_out);
    }
    lines.extend(hints(contents, total));
    lines.iter().map(|line| escape::line(line).into_owned()).collect()
}

fn excluded(out: &LeftOut, why: &str) -> String {
    let (size, files) = (text::bytes(out.bytes), text::counted(out.files));
    let more = if out.files > 1 { " …" } else { "" };
    format!("{size:>10}  {why}  {files}: {}{more}", out.example)
}

fn hints(contents: &ImageContext, total: u64) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some((folder, size)) = largest_folder(&contents.context, total) {
        let file = contents.ignore_file.clone().unwrap_or_else(|| {
            let own = contents.dockerfile.split("/build/").next().unwrap_or_default();
            format!("{own}/.dockerignore")
        });
        lines.push(String::new());
        lines.push(format!(
            "hint: {}/ is {} of {}; if the image does not need it, add '{}' to {file}",
            folder.display(),
            text::bytes(size),
            text::bytes(total),
            folder.display()
        ));
    }
    if !contents.hooks.is_empty() {
        lines.push(String::new());
        lines.push(format!(
            "note: files that these hooks would add are not listed: {}; use --hooks to run them",
            contents.hooks.join(", ")
        ));
    }
    lines
}

/// The deepest folder that has most of the bytes.
fn largest_folder(context: &Context, total: u64) -> Option<(PathBuf, u64)> {
    let mut sizes: BTreeMap<PathBuf, u64> = BTreeMap::new();
    for item in context.items() {
        for folder in item.path().ancestors().skip(1) {
            *sizes.entry(folder.to_owned()).or_default() += item.entry.size();
        }
    }
    sizes.remove(Path::new(""));
    let is_large = |size: &u64| *size >= HINT_BYTES && *size * 100 >= total * HINT_PERCENT;
    let large = sizes.into_iter().filter(|(_, size)| is_large(size));
    large.max_by_key(|(folder, _)| folder.components().count())
}

/// The number of files and bytes by top-level folder, and by dependency.
fn folders(context: &Context) -> BTreeMap<PathBuf, (usize, u64)> {
    let mut found: BTreeMap<PathBuf, (usize, u64)> = BTreeMap::new();
    for item in context.items().filter(|item| item.entry.kind != Kind::Folder) {
        let path = item.path();
        let parts = if path.starts_with(DEPENDENCY) { 2 } else { 1 };
        let folder: PathBuf = path.parent().into_iter().flatten().take(parts).collect();
        let sums = found.entry(folder).or_default();
        sums.0 += 1;
        sums.1 += item.entry.size();
    }
    found
}

fn largest_first(folders: &BTreeMap<PathBuf, (usize, u64)>) -> Vec<(&PathBuf, &(usize, u64))> {
    let mut sorted: Vec<_> = folders.iter().collect();
    sorted.sort_by_key(|(_, (_, size))| std::cmp::Reverse(*size));
    sorted
}

/// The JSON document.
pub(crate) fn document(contexts: &[ImageContext]) -> Value {
    let contexts: Vec<Value> = contexts.iter().map(context).collect();
    json!({ "version": VERSION, "contexts": contexts })
}

fn context(contents: &ImageContext) -> Value {
    let file = |item: ContextEntry<'_>| {
        let kind = match item.entry.kind {
            Kind::Folder => "folder",
            Kind::Link => "link",
            Kind::File => "file",
            Kind::Fifo => "fifo",
            Kind::CharDevice(_) | Kind::BlockDevice(_) => "device",
        };
        let path = item.path();
        let mode = format!("{:04o}", item.entry.mode);
        json!({ "path": path.to_string_lossy(), "kind": kind, "mode": mode, "bytes": item.entry.size() })
    };
    let left_out = contents.left_out.iter().map(|(line, out)| {
        let (files, bytes, example) = (out.files, out.bytes, &out.example);
        json!({ "file": contents.ignore_file, "line": line, "files": files, "bytes": bytes, "example": example })
    });
    json!({
        "component": contents.component,
        "image": contents.image,
        "dockerfile": contents.dockerfile,
        "files": contents.context.items().map(file).collect::<Vec<_>>(),
        "bytes": contents.context.size(),
        "left_out": left_out.collect::<Vec<_>>(),
        "unread": {
            "files": contents.unread.files,
            "bytes": contents.unread.bytes,
            "example": contents.unread.example,
        },
        "hooks": contents.hooks,
    })
}
