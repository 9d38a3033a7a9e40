//! Trees like OpenPAI's, whose hooks copy files from elsewhere into their own components:
//! they are built once, from what is there now, and watched in peace.
//!
//! `QUIET_SECONDS` says how long a watched tree is observed (15).

use std::collections::BTreeMap;
use std::env;
use std::thread;
use std::time::Duration;

use tests::engine::image_tree;
use tests::trees::{COMPONENTS, fresh_clone, openpai_like, set_version, track};
use tests::{Output, Running, Workspace};

fn build(workspace: &Workspace) -> Output {
    workspace.xtask(&["build"]).exits_with(0)
}

/// What is in all images, without the prefix.
fn images(workspace: &Workspace) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for component in COMPONENTS {
        let prefix = workspace.own("tt-");
        for (path, what) in image_tree(&workspace.own(&format!("tt-{component}"))) {
            let is_ours = COMPONENTS.iter().any(|own| path.split('/').next() == Some(own));
            if is_ours {
                let place = format!("{component}: {}", path.replace(&prefix, "tt-"));
                found.insert(place, what.replace(&prefix, "tt-"));
            }
        }
    }
    found
}

fn is_the_same_as_a_fresh_clone(workspace: &Workspace, version: u32) {
    let clone = fresh_clone(version);
    build(&clone);
    let (built, fresh) = (images(workspace), images(&clone));
    let only = |a: &BTreeMap<String, String>, b: &BTreeMap<String, String>| {
        a.iter()
            .filter(|(place, what)| b.get(*place) != Some(what))
            .map(|(p, _)| p.clone())
            .collect()
    };
    let (more, less): (Vec<String>, Vec<String>) = (only(&built, &fresh), only(&fresh, &built));
    assert!(
        more.is_empty() && less.is_empty(),
        "version {version}: only or otherwise in the built tree's images: {more:?}\n\
         in the fresh clone's: {less:?}"
    );
}

fn has_one_build_and_no_more(workspace: &Workspace) {
    assert_eq!(build(workspace).built_by_name(), COMPONENTS);
    let second = build(workspace);
    assert_eq!(second.built(), Vec::<&str>::new(), "{}", second.stderr);
    assert!(!second.stderr.contains("warning"), "{}", second.stderr);
    let third = build(workspace);
    assert_eq!(third.built(), Vec::<&str>::new(), "{}", third.stderr);
    assert!(!third.stderr.contains("warning"), "{}", third.stderr);
}

#[test]
fn a_second_build_builds_nothing_and_warns_of_nothing() {
    has_one_build_and_no_more(&openpai_like());
}

#[test]
fn nor_does_it_in_a_git_repository() {
    has_one_build_and_no_more(&track(openpai_like()));
}

#[test]
fn a_built_tree_comes_to_the_images_of_a_fresh_clone() {
    let workspace = track(openpai_like());
    for version in 1..=3 {
        set_version(&workspace, version);
        let output = build(&workspace);
        if version > 1 {
            // What takes the version, and what is made from that.
            let expected = ["box", "exporter", "plain", "portal", "server"];
            assert_eq!(output.built_by_name(), expected, "version {version}");
        }
        assert_eq!(build(&workspace).built(), Vec::<&str>::new(), "version {version}");
        is_the_same_as_a_fresh_clone(&workspace, version);
    }
}

#[test]
fn so_it_does_without_git_and_after_a_file_of_the_documentation_is_gone() {
    let workspace = openpai_like();
    build(&workspace);
    workspace.write("docs/manual/old.md", "Old.\n");
    set_version(&workspace, 2);
    build(&workspace);
    std::fs::remove_file(workspace.root().join("docs/manual/old.md")).unwrap();
    build(&workspace);
    is_the_same_as_a_fresh_clone(&workspace, 2);
}

/// Starts `watch` with its events on standard error, where they can be waited for.
fn watch(workspace: &Workspace) -> Running<'_> {
    let mut command = workspace.command_below(&["sh", "-c", "exec \"$@\" >&2", "sh"]);
    workspace.run(command.args(["watch", "--progress", "json"]))
}

fn quiet_seconds() -> u64 {
    env::var("QUIET_SECONDS").map_or(15, |text| text.parse().expect("a number"))
}

const WATCHING: &str = "\"event\":\"watching\"";
const ROUND: &str = "\"event\":\"round_started\"";

/// After the first round nothing happens by itself, and one edit is one round. Whether a
/// loop begins depends on when the hook writes, so the tree is watched several times.
fn is_watched_in_peace(workspace: &Workspace, edited: &str) {
    build(workspace);
    for times in 1..=3 {
        let mut running = watch(workspace);
        running.wait_for(WATCHING);
        thread::sleep(Duration::from_secs(quiet_seconds()) / 3);
        workspace.save(edited, &format!("edited {times}\n"));
        running.wait_for(edited);
        running.wait_for(WATCHING);
        thread::sleep(Duration::from_secs(quiet_seconds()) / 3);
        running.interrupt();
        let output = running.finish().exits_with(0);
        // The first one and the edit's: a loop runs before it is said that files are watched.
        let rounds = output.stderr.matches(ROUND).count();
        assert_eq!(rounds, 2, "watched the {times}. time:\n{}", output.stderr);
    }
}

#[test]
fn a_watched_tree_is_built_when_it_is_edited_and_not_by_itself() {
    let workspace = track(openpai_like());
    is_watched_in_peace(&workspace, "src/server/index.js");
    let server = image_tree(&workspace.own("tt-server"));
    assert!(server["server/index.js"].ends_with(" edited 3\n"), "{}", server["server/index.js"]);
}

#[test]
fn nor_by_a_hook_that_writes_the_same_again() {
    let workspace = Workspace::new()
        .file("version/1.txt", "1\n")
        .file("src/server/index.js", "serve()\n")
        .image("server", "FROM scratch\nCOPY . /server\n")
        .script(
            "src/server/build/build-pre.sh",
            "#!/bin/sh -e\nmkdir -p src/server/v\ncp version/1.txt src/server/v/\n",
        );
    is_watched_in_peace(&workspace, "src/server/index.js");
}
