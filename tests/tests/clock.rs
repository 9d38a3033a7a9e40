//! A clock that is wrong, or jumps while the tool runs: what is stale is built all the same, and
//! nothing else. The tool sees the time of `libfaketime`, files have the time of the machine.

use std::collections::BTreeMap;
use std::fs;

use tests::engine::image_files;
use tests::{Workspace, library};

/// Days by which the clock is off, one after the other.
const DAYS: [i32; 6] = [0, -1, 2, -400, 400, 0];

/// `web` is made from `base`, and has what two hooks copy: one declares its inputs.
fn tree() -> Workspace {
    let copies = "#!/bin/sh -e\ncp -arf version src/web/version\n";
    let generates =
        "#!/bin/sh -e\nmkdir -p src/gen/generated\ncp version src/gen/generated/version\n";
    Workspace::new()
        .file("version", "0")
        .image("base", "FROM scratch\nCOPY own /own\n")
        .file("src/base/own", "0")
        .image("gen", "FROM scratch\nCOPY generated/version /version\n")
        .file("src/gen/build/inputs", "version\n")
        .script("src/gen/build/build-pre.sh", generates)
        .image("web", "FROM tt-base\nCOPY version /version\n")
        .script("src/web/build/build-pre.sh", copies)
}

/// What lets the tool see another time; the file says which.
fn clock(workspace: &Workspace) -> BTreeMap<String, String> {
    let file = workspace.root().join("target/clock").display().to_string();
    let library = library("faketime/libfaketimeMT.so.1").display().to_string();
    [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME_TIMESTAMP_FILE", &file),
        ("FAKETIME_NO_CACHE", "1"),
        // A clock that is set moves neither.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("NO_FAKE_STAT", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

fn set_clock(workspace: &Workspace, days: i32) {
    workspace.save("target/clock", &format!("{days:+}d"));
}

/// Edits what everything is made from; the same length each time.
fn edit(workspace: &Workspace, text: &str) {
    workspace.write("src/base/own", text);
    workspace.write("version", text);
}

/// Expects a file of an image to have a text.
#[track_caller]
fn has(workspace: &Workspace, image: &str, path: &str, text: &str) {
    let found = &image_files(&workspace.own(image))[path];
    assert!(found.ends_with(&format!(" {text}")), "{image}: {path}: {found}");
}

#[test]
fn builds_are_right_whatever_the_clock_says() {
    let workspace = tree();
    let variables = clock(&workspace);
    for (round, days) in DAYS.into_iter().enumerate() {
        set_clock(&workspace, days);
        edit(&workspace, &round.to_string());
        let output = workspace.xtask_with(&variables, &["build"]).exits_with(0);
        assert_eq!(output.built_by_name(), ["base", "gen", "web"], "{days}: {}", output.stderr);
        for (image, path) in [("tt-web", "own"), ("tt-web", "version"), ("tt-gen", "version")] {
            has(&workspace, image, path, &round.to_string());
        }
        let again = workspace.xtask_with(&variables, &["build"]).exits_with(0);
        assert!(again.built().is_empty(), "{days}: {}", again.stderr);
    }
    let files = fs::read_dir(workspace.root().join("src/web")).unwrap();
    assert_eq!(files.count(), 2, "a hook's copy, and `build`");
}

#[test]
fn watch_builds_what_is_saved_while_the_clock_jumps() {
    let workspace = tree();
    set_clock(&workspace, 0);
    let mut running = workspace.start_with(&clock(&workspace), &["watch"]);
    running.wait_for("watching: ");
    for (round, days) in DAYS.into_iter().enumerate().skip(1) {
        set_clock(&workspace, days);
        workspace.save("src/base/own", &round.to_string());
        running.wait_for("finished: 2 built");
        running.wait_for("watching: ");
        workspace.save("version", &round.to_string());
        // What `web`'s hook reads is not declared, so nobody watches it.
        running.wait_for("finished: 1 built");
        running.wait_for("watching: ");
        has(&workspace, "tt-web", "own", &round.to_string());
        has(&workspace, "tt-gen", "version", &round.to_string());
    }
    running.interrupt();
    running.finish().exits_with(0);
}
