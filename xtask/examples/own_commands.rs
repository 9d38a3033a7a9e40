//! Commands of one's own beside the tool's: `release TAG` builds and pushes everything, and all
//! other arguments go to the tool.
//!
//! In an `xtask` package of your own, depend on the tool's library and write a `main` like this:
//! `xtask = { path = "tools/xtask", package = "xtask" }`.

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["release", tag] => release(tag),
        _ => xtask::main(),
    }
}

/// Runs two of the tool's commands, as they would be typed.
fn release(tag: &str) -> ExitCode {
    let built = xtask::run(["xtask", "build"]);
    if built != ExitCode::SUCCESS {
        return built;
    }
    xtask::run(["xtask", "push", "--deny-stale", "--tag", tag])
}
