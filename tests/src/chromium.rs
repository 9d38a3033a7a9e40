//! Chromium without a window, on a page of the tool.

use std::path::Path;
use std::process::{Command, Output};

/// Opens a page in a window of some size, and ends. Nothing may be on its console.
///
/// # Panics
///
/// If Chromium is missing, or a script failed.
pub fn chromium(page: &Path, hash: &str, size: (u32, u32), arguments: &[&str]) -> Output {
    let mut chromium = Command::new("chromium");
    chromium.args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]);
    chromium.arg(format!("--window-size={},{}", size.0, size.1)).args(arguments);
    chromium.arg(format!("file://{}{hash}", page.display()));
    let output = chromium.output().expect("chromium is missing: run tests/run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("CONSOLE"), "{errors}");
    output
}
