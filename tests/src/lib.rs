//! What the tests are written with: a scratch workspace, the real binary, a real
//! engine and a real registry.
//!
//! A test reads as files in, command, output. In files, arguments and output
//! `tt-` stands for a prefix that no other test has, so that tests run side by
//! side and only ever touch images that they made.

pub mod engine;
pub mod model;
mod output;
pub mod registry;
pub mod scripted;
mod terminal;
mod workspace;

pub use output::Output;
pub use terminal::Terminal;
pub use workspace::{Running, Workspace};

use std::path::PathBuf;

/// The root of this repository.
pub fn repository() -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests lie in the repository").to_owned()
}

/// A program that `tests/run` unpacked.
fn tool(path: &str) -> PathBuf {
    let tool = repository().join("target/test-tools").join(path);
    assert!(tool.exists(), "{} is missing: run tests/run", tool.display());
    tool
}
