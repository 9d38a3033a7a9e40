//! An engine whose disk is full: the build fails and says so, and once there is room again, the
//! next one is right.
//!
//!     bash tests/engines full
//!
//! runs these, with a small disk of their own.

use std::fs;
use std::process::Command;

use tests::engine::image_files;
use tests::{Workspace, wait_until};

/// So much is added to `base` with each edit, in bytes.
const SIZE: usize = 20 << 20;

/// More edits than there is room for.
const EDITS: usize = 30;

/// The edit that an image was made from.
fn edit_in(workspace: &Workspace, image: &str, path: &str) -> String {
    let value = image_files(&workspace.own(image)).remove(path).expect("a file");
    value.rsplit_once(' ').expect("what it holds").1.to_owned()
}

fn succeeds(arguments: &[&str]) -> bool {
    Command::new("docker").args(arguments).output().expect("docker runs").status.success()
}

/// Another content of the large file, which nothing compresses, and of the small ones.
fn edit(workspace: &Workspace, number: usize) {
    let bytes: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(SIZE).collect();
    workspace.write_bytes("src/base/large", &bytes);
    workspace.write("src/base/number", &number.to_string());
    workspace.write("src/web/number", &number.to_string());
}

fn runs_full(builder: &str) {
    let workspace = Workspace::new()
        .image("base", "FROM scratch\nCOPY number large /\n")
        .image("web", "FROM tt-base\nCOPY number /web\n");
    let build = ["build", "--builder", builder];
    let failed = (0..EDITS).find_map(|number| {
        edit(&workspace, number);
        let output = workspace.xtask(&build);
        (output.code != 0).then_some((number, output))
    });
    let (number, output) = failed.expect("a full disk");
    assert_eq!(output.code, 1, "{}", output.stderr);
    assert!(output.stderr.contains("no space left on device"), "{}", output.stderr);
    assert!(number > 1, "it is full at once: {}", output.stderr);
    let built = fs::read_to_string(workspace.root().join("target/xtask/built")).unwrap();
    // A full engine cannot always write down that something is gone.
    wait_until("room", || {
        let _ = built.lines().rev().filter(|image| succeeds(&["rmi", "-f", image])).count();
        succeeds(&["builder", "prune", "-af"])
    });
    let after = workspace.xtask(&build).exits_with(0);
    assert_eq!(after.built(), ["base", "web"], "{}", after.stderr);
    let number = number.to_string();
    for (image, path) in [("tt-base", "number"), ("tt-web", "number"), ("tt-web", "web")] {
        assert_eq!(edit_in(&workspace, image, path), number, "{image}: {path}");
    }
    let again = workspace.xtask(&build).exits_with(0);
    assert!(again.built().is_empty(), "{}", again.stderr);
}

#[test]
#[ignore = "needs an engine with a small disk: bash tests/engines full"]
fn with_buildkit_a_full_disk_is_said_and_nothing_is_wrong_afterwards() {
    runs_full("buildkit");
}

#[test]
#[ignore = "needs an engine with a small disk: bash tests/engines full"]
fn with_the_classic_builder_a_full_disk_is_said_and_nothing_is_wrong_afterwards() {
    runs_full("classic");
}
