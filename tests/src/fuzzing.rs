//! Readers of files and answers that people, registries and crashes can break, as functions that
//! take any bytes: none of them panics, hangs or takes memory without bound, whatever they are.
//!
//! `tests/fuzz` gives them to `cargo fuzz`; `tests/tests/fuzzing.rs` calls them with mutated seeds
//! in every test run. Both begin with the files in `tests/fuzz/seeds`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use xtask_core::context::dockerignore::Dockerignore;
use xtask_core::context::sync_ledger::SyncLedger;
use xtask_core::dockerfile::{excerpt, parser};
use xtask_core::image_reference;
use xtask_core::plan::graph::Graph;
use xtask_core::plan::steps::Plan;
use xtask_core::saved;
use xtask_core::staleness::engine_images::TrackedImage;
use xtask_core::staleness::image_list;
use xtask_core::workspace::components::{Workspace, WorkspaceOptions};
use xtask_core::workspace::hook_script;
use xtask_core::workspace::inputs::Inputs;
use xtask_core::workspace::registry_config::RegistryConfig;

use crate::repository;

/// A reader, by the name of the folder of its seeds.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 11] = [
    ("component_dep", component_dep),
    ("dockerfile", dockerfile),
    ("dockerignore", dockerignore),
    ("hook", hook),
    ("image_labels", image_labels),
    ("image_list", image_list),
    ("inputs", inputs),
    ("reference", reference),
    ("registry_config", registry_config),
    ("state", state),
    ("xtask_toml", xtask_toml),
];

/// Calls the reader of this name.
///
/// # Panics
///
/// If there is none, or if the reader is broken.
pub fn run(name: &str, bytes: &[u8]) {
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    let (_, target) = found.unwrap_or_else(|| panic!("no target {name}"));
    target(bytes);
}

/// The contents of the seeds of a target.
///
/// # Panics
///
/// If there is none.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = repository().join("tests/fuzz/seeds").join(name);
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("a seed").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.iter().map(|file| fs::read(file).expect("a seed")).collect()
}

fn dockerfile(bytes: &[u8]) {
    let args = BTreeMap::from([("A".to_owned(), "a$A".to_owned())]);
    drop(parser::parse(bytes, &args, None));
    drop(parser::parse(bytes, &args, Some("build")));
    let _ =
        excerpt::locate(bytes, Some("[build 2/3] RUN x"), "failed to compute cache key: \"/a\"");
}

/// The file, and after it the paths that are asked about, one a line.
fn dockerignore(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(rules) = Dockerignore::parse(&text) else { return };
    for path in text.lines().chain(["a/b/c", ".", ""]).take(50) {
        let ignored = rules.ignores(path);
        assert_eq!(ignored, rules.line_for(path).is_some(), "{path}");
        let _ = (rules.may_keep(path), rules.may_keep_below(path));
    }
}

fn inputs(bytes: &[u8]) {
    let Ok(inputs) = Inputs::parse(&String::from_utf8_lossy(bytes), "inputs") else { return };
    for path in ["src/a/b", "/", "..", ""] {
        let _ = inputs.declares(Path::new(path));
    }
    assert!(inputs.base_paths().all(Path::is_relative));
}

fn hook(bytes: &[u8]) {
    drop(hook_script::interpreter(bytes));
}

fn registry_config(bytes: &[u8]) {
    if let Ok(config) = RegistryConfig::parse(&String::from_utf8_lossy(bytes), "c.yaml") {
        let _ = (config.names(), config.prefix());
    }
}

fn reference(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = image_reference::repository_and_tag(&text);
    if image_reference::check(&text).is_ok() {
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?}");
    }
}

/// What the engine lists.
fn image_list(bytes: &[u8]) {
    for image in image_list::parse(bytes).unwrap_or_default() {
        let _ = (image.names().count(), image.size());
        let _ = TrackedImage::from_labels(String::new(), |key| image.label(key).map(str::to_owned));
    }
}

/// The labels of an image that anybody can have made: three lines.
fn image_labels(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // Which line is which label does not matter.
    let label = |name: &str| text.lines().nth(name.len() % 3).map(str::to_owned);
    drop(TrackedImage::from_labels("sha256:0".to_owned(), label));
}

/// What a crash can leave of a file in `target/xtask`.
fn state(bytes: &[u8]) {
    drop(SyncLedger::decode(bytes));
    let _ = saved::decode::<BTreeMap<String, Vec<(String, u64)>>>(bytes);
}

fn component_dep(bytes: &[u8]) {
    workspace("src/a/build/component.dep", bytes);
}

fn xtask_toml(bytes: &[u8]) {
    workspace("xtask.toml", bytes);
}

/// Reads a workspace of two components in which one file has these bytes.
fn workspace(file: &str, bytes: &[u8]) {
    let root = tempfile::tempdir().expect("a folder");
    for component in ["a", "b"] {
        let build = root.path().join("src").join(component).join("build");
        fs::create_dir_all(&build).expect("a folder");
        let dockerfile = build.join(format!("{component}.dockerfile"));
        fs::write(dockerfile, "FROM scratch\nCOPY f /\n").expect("a Dockerfile");
    }
    fs::write(root.path().join(file), bytes).expect("a file");
    let mut problems = Vec::new();
    let options = WorkspaceOptions::default();
    let mut workspace = Workspace::read(root.path(), &options, &mut problems);
    let graph = Graph::resolve(&mut workspace);
    drop(Plan::new(&workspace, &graph, None).tasks());
    for problem in problems.iter().chain(workspace.components.iter().flat_map(|it| &it.problems)) {
        assert!(!problem.to_string().is_empty());
    }
}
