//! However a round ends, the tree is as clean as before; and one command at a
//! time works in a workspace.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use expect_test::expect;
use tests::Workspace;

const BASE: &str = "FROM scratch\nCOPY build /build\n";
const WRITES: &str =
    "#!/bin/sh\nmkdir -p src/a/generated/x src/a/dependency/y\ntouch src/a/generated/x/z\n";

/// A hook that says so and waits to be killed, with a child that would outlive it.
const WAITS: &str = "#!/bin/sh\nmkdir -p src/a/generated\nsleep 971 &\necho child $!\nwait\n";

#[test]
fn temporary_folders_are_gone_after_success() {
    let workspace = Workspace::new()
        .image("a", BASE)
        .file("src/b/text", "")
        .file("src/a/build/component.dep", "b")
        .script("src/a/build/build-pre.sh", WRITES);
    let before = workspace.tree();
    workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(workspace.tree(), before);
}

#[test]
fn what_a_killed_run_left_is_gone_after_the_next() {
    // Not even what the killed hook left is there when the next one runs.
    let hook = "#!/bin/sh\nmkdir src/a/generated || exit\n\
                if [ -e target/again ]; then exit; fi\n\
                mkdir -p src/a/dependency/old src/a/generated/old\nkill -9 $PPID\n";
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nCOPY . /\n")
        .script("src/a/build/build-pre.sh", hook);
    let before = workspace.tree();
    workspace.xtask(&["build"]).exits_with(-1);
    assert_ne!(workspace.tree(), before);
    workspace.write("target/again", "");
    workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(workspace.tree(), before);
    let image = tests::engine::image_tree(&workspace.own("tt-a"));
    assert!(!image.keys().any(|path| path.contains("old")), "{image:?}");
}

#[test]
fn ctrl_c_in_a_hook_ends_all_that_it_started() {
    let workspace = Workspace::new().image("a", BASE).script("src/a/build/build-pre.sh", WAITS);
    let before = workspace.tree();
    let mut running = workspace.start(&["build"]);
    running.wait_for("| child ");
    running.interrupt();
    let output = running.finish().exits_with(130);
    assert_eq!(output.error(), "error: interrupted\n");
    assert_eq!(workspace.tree(), before);
    let child = output.stderr.split("| child ").nth(1).and_then(|rest| rest.lines().next());
    let process = format!("/proc/{}/cmdline", child.expect("a process id"));
    let command = fs::read_to_string(process).unwrap_or_default();
    assert!(!command.contains("971"), "{command}");
}

#[test]
fn ctrl_c_in_an_instruction_ends_the_build() {
    let workspace = Workspace::new()
        .with_box()
        .script("src/a/build/build-pre.sh", WRITES)
        .image("a", "FROM tt-box\nRUN echo here; sleep 972\n");
    let before = workspace.tree();
    let mut running = workspace.start(&["build", "--no-cache"]);
    running.wait_for("| here");
    // The shell starts it a moment after its line is here.
    while !runs("sleep\u{0}972") {
        assert!(running.is_alive(), "it never slept");
    }
    let interrupted = Instant::now();
    running.interrupt();
    running.finish().exits_with(130);
    while runs("sleep\u{0}972") {
        assert!(interrupted.elapsed() < Duration::from_secs(2), "the engine still runs it");
    }
    assert_eq!(workspace.tree(), before);
    assert!(!tests::engine::has_image(&workspace.own("tt-a")));
}

#[test]
fn the_second_ctrl_c_does_not_wait() {
    let stubborn = "#!/bin/sh\ntrap '' TERM\necho ready\nsleep 974; sleep 974\n";
    let workspace = Workspace::new()
        .image("a", BASE)
        .script("src/a/build/build-pre.sh", stubborn)
        .script("src/a/build/build-post.sh", WRITES);
    let before = workspace.tree();
    let mut running = workspace.start(&["build"]);
    running.wait_for("| ready");
    running.interrupt();
    running.interrupt();
    let _ = running.finish().exits_with(130);
    while runs("sleep\u{0}974") {}
    workspace.write("src/a/build/build-pre.sh", "#!/bin/sh\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    workspace.write("src/a/build/build-pre.sh", stubborn);
    assert_eq!(workspace.tree(), before);
}

/// Whether a process of this machine, the engine's included, has such a command line.
fn runs(command: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let command_line = |process: fs::DirEntry| fs::read(process.path().join("cmdline")).ok();
    processes.filter_map(command_line).any(|line| String::from_utf8_lossy(&line).contains(command))
}

#[test]
fn tracked_files_in_a_temporary_folder_are_refused() {
    let workspace = Workspace::new()
        .image("a", BASE)
        .file("src/a/generated/work", "mine")
        .file("src/a/dependency/deep/er", "mine")
        .file("src/a/build/component.dep", "b\n")
        .file("src/b/file", "mine");
    symlink("nowhere", workspace.root().join("src/b/generated")).unwrap();
    let workspace = workspace.git();
    let before = workspace.tree();
    let output = workspace.xtask(&["build"]).exits_with(2);
    expect![[r#"
        error: src/a/dependency/deep/er: is tracked by git in a folder that every build removes: move it, or run 'git rm --cached' on it
        src/a/generated/work: is tracked by git in a folder that every build removes: move it, or run 'git rm --cached' on it
        src/b/generated: is tracked by git in a folder that every build removes: move it, or run 'git rm --cached' on it
    "#]].assert_eq(output.error());
    assert_eq!(workspace.tree(), before);
}

#[test]
fn the_second_command_waits_or_fails_at_once() {
    let workspace = Workspace::new().image("a", BASE).script(
        "src/a/build/build-pre.sh",
        "#!/bin/sh\necho began\nwhile [ ! -e target/go ]; do sleep 0.1; done\n",
    );
    let mut first = workspace.start(&["build"]);
    first.wait_for("| began");
    let refused = workspace.xtask(&["build", "--no-wait"]).exits_with(1);
    assert!(
        refused.error().contains("the workspace is locked by 'build' (process "),
        "{}",
        refused.error()
    );
    let mut second = workspace.start(&["build"]);
    second.wait_for("waiting: for 'build' (process ");
    workspace.write("target/go", "");
    first.finish().exits_with(0);
    second.finish().exits_with(0);
}
