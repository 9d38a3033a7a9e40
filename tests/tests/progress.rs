//! Long work says how far it is.

use std::fs::File;
use std::io::{self, Read};

use serde_json::Value;
use tests::registry::Registry;
use tests::{Output, Workspace};

/// A context that takes a while to send and to push, as it cannot be compressed.
const LARGE: u64 = 150 << 20;

fn write_random(workspace: &Workspace, path: &str, bytes: u64) {
    let mut random = File::open("/dev/urandom").unwrap().take(bytes);
    let mut file = File::create(workspace.root().join(path)).unwrap();
    io::copy(&mut random, &mut file).unwrap();
}

/// The progress of an operation, in the order of its events.
fn progress(output: &Output, operation: &str) -> Vec<Value> {
    let events = output.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
    let is_wanted = |event: &Value| event["event"] == "progress" && event["operation"] == operation;
    events.filter(is_wanted).collect()
}

fn bytes(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["bytes"].as_u64().unwrap()).collect()
}

#[test]
fn reading_files_says_how_many_bytes_were_read() {
    let workspace = Workspace::new().image("a", "FROM scratch\nCOPY app /\n");
    workspace.write("src/a/app/x", "1");
    // It has no blocks on the disk, and is digested all the same.
    File::create(workspace.root().join("src/a/app/large")).unwrap().set_len(6 << 30).unwrap();
    let output = workspace.xtask(&["build", "-n", "--progress", "json"]).exits_with(0);
    let events = progress(&output, "read");
    assert!(!events.is_empty(), "{}", output.stdout);
    assert!(bytes(&events).is_sorted(), "{events:?}");
    let plain = workspace.copy();
    File::create(plain.root().join("src/a/app/large")).unwrap().set_len(14 << 30).unwrap();
    let output = plain.xtask(&["build", "-n"]).exits_with(0);
    assert!(output.stderr.contains("reading files: "), "{}", output.stderr);
    assert!(!output.stderr.contains("waiting: for the workspace's files"), "{}", output.stderr);
}

#[test]
fn sending_and_pushing_say_how_many_bytes_are_through() {
    let registry = Registry::start();
    let config = format!(
        "cluster:\n  docker-registry:\n    domain: {}\n    namespace: n\n    tag: v1\n",
        registry.address()
    );
    let workspace = Workspace::new()
        .file("config/services-configuration.yaml", &config)
        .image("a", "FROM scratch\nCOPY large /\n");
    write_random(&workspace, "src/a/large", LARGE);
    let build = ["build", "-c", "config", "--progress", "json"];
    for (builder, has_total) in [("classic", true), ("buildkit", false)] {
        write_random(&workspace, "src/a/large", LARGE);
        let output = workspace.xtask(&[&build[..], &["--builder", builder]].concat()).exits_with(0);
        let events = progress(&output, "send");
        assert!(!events.is_empty(), "{builder}: {}", output.stdout);
        // The classic builder is asked again if its cache lost an image to another test.
        let restarts = bytes(&events).windows(2).filter(|two| two[1] < two[0]).count();
        assert!(restarts == 0 || builder == "classic", "{events:?}");
        for event in &events {
            assert_eq!(event["component"], "a");
            assert_eq!(event["total_bytes"].as_u64().is_some(), has_total, "{event}");
            assert!(event["total_bytes"].as_u64().is_none_or(|total| total >= LARGE), "{event}");
        }
    }
    let output = workspace.xtask(&["push", "-c", "config", "--progress", "json"]).exits_with(0);
    let events = progress(&output, "push");
    assert!(!events.is_empty(), "{}", output.stdout);
    assert!(bytes(&events).is_sorted(), "{events:?}");
    let last = events.last().unwrap();
    assert!(last["total_bytes"].as_u64().unwrap() >= LARGE, "{last}");
    assert!(last["component"].is_null() && last["seconds"].as_f64().unwrap() > 0.0, "{last}");
}

#[test]
fn github_gets_the_lines_of_a_long_step_while_it_runs() {
    let hook = |from: &str| {
        format!(
            "#!/bin/sh\necho first\nwhile [ ! -e target/{from} ]; do sleep 0.1; done\n\
             echo second\nwhile [ ! -e target/end ]; do sleep 0.1; done\n"
        )
    };
    let workspace = Workspace::new()
        .env("GITHUB_ACTIONS", "true")
        .image("long", "FROM scratch\nCOPY build /\n")
        .script("src/long/build/build-pre.sh", &hook("again"))
        .image("other", "FROM scratch\nCOPY build /\n")
        .script(
            "src/other/build/build-pre.sh",
            "#!/bin/sh\nwhile [ ! -e target/other ]; do sleep 0.1; done\n",
        );
    let mut running = workspace.start(&["build", "-s", "long", "-s", "other", "-j", "2"]);
    running.wait_for("::group::long: in progress");
    running.wait_for("long | first");
    workspace.write("target/other", "");
    running.wait_for("::group::other: built in");
    workspace.write("target/again", "");
    running.wait_for("long | second");
    workspace.write("target/end", "");
    let output = running.finish().exits_with(0);
    let mut is_open = false;
    for line in output.stderr.lines() {
        if line.starts_with("::group::") {
            assert!(!std::mem::replace(&mut is_open, true), "nested: {}", output.stderr);
        } else if line == "::endgroup::" {
            assert!(std::mem::take(&mut is_open), "not open: {}", output.stderr);
        }
    }
    assert!(!is_open, "{}", output.stderr);
    assert_eq!(output.stderr.matches("long | first").count(), 1, "{}", output.stderr);
    assert!(output.stderr.contains("\n::endgroup::\nlong | built in"), "{}", output.stderr);
}
