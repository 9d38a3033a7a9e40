//! What the tests are written with: a scratch workspace, the real binary, a real
//! engine and a real registry.
//!
//! A test reads as files in, command, output. In files, arguments and output
//! `tt-` stands for a prefix that no other test has, so that tests run side by
//! side and only ever touch images that they made.

mod chromium;
pub mod detour;
pub mod engine;
pub mod far;
pub mod fuzzing;
pub mod ignore_files;
pub mod layered;
pub mod model;
pub mod other_engine;
mod output;
pub mod proxy;
pub mod reference;
pub mod registry;
pub mod remote_builder;
pub mod saboteur;
mod screen_picture;
pub mod scripted;
pub mod sink;
pub mod sites;
pub mod sized;
pub mod sshd;
mod terminal;
pub mod tls;
mod token_server;
pub mod trees;
pub mod versioned;
mod workspace;

pub use chromium::chromium;
pub use detour::{Answer, Detour};
pub use output::Output;
pub use terminal::Terminal;
pub use workspace::{Running, Workspace, wait_until};

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The root of this repository.
pub fn repository() -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests lie in the repository").to_owned()
}

/// Compiles the tool, which Cargo does for no benchmark of another package, and
/// tells where it is: the binary that `cargo xtask` runs, in the same profile.
///
/// # Panics
///
/// If it does not compile.
pub fn compile() -> PathBuf {
    eprintln!("compiling the tool");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", "xtask"]).current_dir(repository());
    let status = as_outside_of_cargo(&mut build).status();
    assert!(status.expect("cargo starts").success(), "the tool does not compile");
    binary()
}

/// Removes what Cargo tells tests and benchmarks of their package. For a Cargo that they run,
/// dependencies whose build scripts ask for it would have changed: it would compile them again,
/// and so would the next one outside.
pub fn as_outside_of_cargo(command: &mut Command) -> &mut Command {
    let is_about_package =
        |name: &String| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for name in std::env::vars().map(|(name, _)| name).filter(is_about_package) {
        command.env_remove(name);
    }
    command
}

/// What a benchmark was given; none where `cargo test` runs it, which measures nothing.
pub fn bench_arguments() -> Option<Vec<String>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(bench) = arguments.iter().position(|argument| argument == "--bench") else {
        eprintln!("nothing is measured by 'cargo test'");
        return None;
    };
    arguments.remove(bench);
    Some(arguments)
}

/// The middle one of several times.
///
/// # Panics
///
/// If there is none.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// A library that `tests/run` unpacked, by its path in the folder of the machine's libraries.
///
/// # Panics
///
/// If it is not there.
pub fn library(path: &str) -> PathBuf {
    let triplets = std::fs::read_dir(tool("usr/lib")).expect("a folder").flatten();
    let mut libraries = triplets.map(|entry| entry.path().join(path));
    libraries.find(|it| it.exists()).unwrap_or_else(|| panic!("{path} is missing: run tests/run"))
}

/// The folder that Cargo compiles into. Tests and benchmarks lie in `target/PROFILE/deps/`.
pub fn target() -> PathBuf {
    let this = std::env::current_exe().expect("a test knows where it is");
    this.ancestors().nth(3).expect("tests lie three folders deep").to_owned()
}

fn binary() -> PathBuf {
    let binary = target().join("debug/xtask");
    assert!(binary.exists(), "{} is missing: run 'cargo build -p xtask'", binary.display());
    binary
}

/// A program that `tests/run` unpacked.
fn tool(path: &str) -> PathBuf {
    let tool = repository().join("target/test-tools").join(path);
    assert!(tool.exists(), "{} is missing: run tests/run", tool.display());
    tool
}
