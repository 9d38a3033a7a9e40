//! Images that one machine built and another takes from the registry.

use std::fs;

use tests::Workspace;
use tests::engine::{docker, has_image};
use tests::registry::Registry;

/// Three images in a row, and one that is made from nobody else's.
fn tree(registry: &str) -> Workspace {
    Workspace::new()
        .replace(registry, "[REGISTRY]")
        .file("xtask.toml", &format!("registry = \"{registry}/team\"\n"))
        .with_box()
        .image("base", "FROM tt-box\nCOPY build/own /own\nRUN echo $(cat /proc/sys/kernel/random/uuid) > /random\n")
        .file("src/base/build/own", "base")
        .image("middle", "FROM tt-base\nCOPY build/own /middle\n")
        .file("src/middle/build/own", "middle")
        .image("web", "FROM tt-middle\nCOPY build/own /web\n")
        .file("src/web/build/own", "web")
        .image("alone", "FROM tt-box\nCOPY build/own /alone\n")
        .file("src/alone/build/own", "alone")
}

const IMAGES: [&str; 4] = ["web", "middle", "base", "alone"];

/// The same commit on a machine that has none of its images.
fn other_machine(workspace: &Workspace) -> Workspace {
    forget(workspace);
    checkout(workspace)
}

/// The same files, and nothing that is known of them.
fn checkout(workspace: &Workspace) -> Workspace {
    let config = fs::read_to_string(workspace.root().join("xtask.toml")).expect("a file");
    let copy = workspace.copy();
    copy.write("xtask.toml", &config);
    copy
}

/// Removes the images of a workspace from the engine.
fn forget(workspace: &Workspace) {
    for image in IMAGES {
        let name = workspace.own(&format!("tt-{image}"));
        if has_image(&name) {
            docker(&["rmi", &name]);
        }
    }
}

#[test]
fn what_one_machine_shared_another_does_not_build() {
    let registry = Registry::start();
    let here = tree(registry.address());
    here.xtask(&["build", "--share"]).exits_with(0);
    let there = other_machine(&here);
    let output = there.xtask(&["build", "--from-registry"]).exits_with(0);
    assert!(
        output.stderr.contains("0 built, 0 up to date, 0 failed, 4 pulled"),
        "{}",
        output.stderr
    );
    let again = there.xtask(&["build"]).exits_with(0);
    assert!(again.stderr.contains("0 built, 4 up to date"), "{}", again.stderr);
}
