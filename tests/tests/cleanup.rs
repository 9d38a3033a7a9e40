//! However a round ends, the tree is as clean as before; and one command at a
//! time works in a workspace.

use std::fs;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::{Duration, Instant};

use expect_test::expect;
use rustix::process::Signal;
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
    // Two at once are one.
    thread::sleep(Duration::from_millis(150));
    running.interrupt();
    let _ = running.finish().exits_with(130);
    while runs("sleep\u{0}974") {}
    workspace.write("src/a/build/build-pre.sh", "#!/bin/sh\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    workspace.write("src/a/build/build-pre.sh", stubborn);
    assert_eq!(workspace.tree(), before);
}

/// `timeout` sends its signal to the process, and then to its group.
#[test]
fn two_signals_at_once_are_one() {
    let hook = "#!/bin/sh\ntrap 'rm target/there; exit 1' TERM\ntouch target/there\necho ready\n\
                while true; do sleep 0.1; done\n";
    let workspace = Workspace::new().image("a", BASE).script("src/a/build/build-pre.sh", hook);
    let mut running = workspace.start(&["build"]);
    running.wait_for("| ready");
    running.signal(Signal::TERM);
    running.signal(Signal::TERM);
    let _ = running.finish().exits_with(130);
    assert!(!workspace.root().join("target/there").exists(), "the hook was killed at once");
}

#[test]
fn a_signal_that_is_ignored_from_the_start_stays_ignored() {
    let hook = "#!/bin/sh\necho ready\nwhile [ ! -e target/go ]; do sleep 0.1; done\n";
    let workspace = Workspace::new().image("a", BASE).script("src/a/build/build-pre.sh", hook);
    let mut command = workspace.command_below(&["sh", "-c", "trap '' HUP INT; exec \"$@\"", "sh"]);
    let mut running = workspace.run(command.arg("build"));
    running.wait_for("| ready");
    running.signal(Signal::HUP);
    running.signal(Signal::INT);
    workspace.write("target/go", "");
    let _ = running.finish().exits_with(0);
}

/// The hook's own process ends at once, and what it started a moment later.
#[test]
fn ctrl_c_waits_for_all_that_a_hook_started() {
    let child = "trap 'sleep 0.5; mkdir -p src/a/generated; echo late > src/a/generated/late; exit' TERM; \
                 echo ready; while true; do sleep 0.1; done";
    let hook = format!("#!/bin/sh\nsh -c '{}' &\nwait\n", child.replace('\'', "'\\''"));
    let workspace = Workspace::new().image("a", BASE).script("src/a/build/build-pre.sh", &hook);
    let before = workspace.tree();
    let mut running = workspace.start(&["build"]);
    running.wait_for("| ready");
    running.interrupt();
    let _ = running.finish().exits_with(130);
    assert_eq!(workspace.tree(), before);
    workspace.write("src/a/build/build-pre.sh", "#!/bin/sh\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
}

/// The hook of a killed build would write what it read before, once the next one has built.
#[test]
fn the_hooks_of_a_killed_build_are_ended_by_the_next_one() {
    let hook = "#!/bin/sh\nread=$(cat src/a/text)\necho began\n\
                while [ -e target/wait ]; do sleep 0.1; done\n\
                mkdir -p src/a/generated\necho $read > src/a/generated/text\n";
    let workspace = Workspace::new()
        .file("src/a/text", "old")
        .file("target/wait", "")
        .file("src/a/build/inputs", "# none\n")
        .script("src/a/build/build-pre.sh", hook)
        .image("a", "FROM scratch\nCOPY generated /\n");
    let mut killed = workspace.start(&["build"]);
    killed.wait_for("| began");
    killed.signal(Signal::KILL);
    let _ = killed.finish().exits_with(-1);
    workspace.write("src/a/text", "new");
    let mut next = workspace.start(&["build"]);
    next.wait_for("hooks of a killed build were still running: they were ended");
    fs::remove_file(workspace.root().join("target/wait")).unwrap();
    let _ = next.finish().exits_with(0);
    let image = tests::engine::image_tree(&workspace.own("tt-a"));
    assert!(image["text"].ends_with("new\n"), "{image:?}");
    assert!(!workspace.root().join("src/a/generated").exists());
}

/// In a group that is not the terminal's own, the system would stop whoever reads from it.
#[test]
fn a_hook_that_asks_at_the_terminal_fails() {
    let hook = "#!/bin/sh\necho asks\nread answer < /dev/tty && echo answered\n";
    let workspace = Workspace::new().image("a", BASE).script("src/a/build/build-pre.sh", hook);
    let terminal = workspace.start_on_terminal(80, &["build"]);
    let (code, screen) = terminal.finish();
    assert_eq!(code, 1, "{screen}");
    assert!(screen.contains("/dev/tty") && !screen.contains("answered"), "{screen}");
}

#[test]
fn a_hook_cannot_wait_for_the_build_that_runs_it() {
    let workspace = Workspace::new().image("a", BASE);
    let binary = tests::compile().display().to_string();
    let hook = format!("#!/bin/sh\n{binary} build -n && {binary} build b\n");
    let workspace = workspace.image("b", BASE).script("src/a/build/build-pre.sh", &hook);
    let output = workspace.xtask(&["build", "a"]).exits_with(1);
    let error = "is locked by 'build' (process ";
    assert!(output.stderr.contains(error), "{}", output.stderr);
    assert!(
        output.stderr.contains("which runs this command: a hook cannot use"),
        "{}",
        output.stderr
    );
}

/// The lock's file goes with `clean --state`.
#[test]
fn who_waits_while_the_state_is_removed_still_excludes_others() {
    let hook = "#!/bin/sh\necho began\nwhile [ ! -e go ]; do sleep 0.1; done\n";
    let workspace = Workspace::new()
        .script("src/a/build/build-pre.sh", hook)
        .image("a", "FROM scratch\nCOPY build /build\n");
    let mut first = workspace.start(&["build"]);
    first.wait_for("| began");
    let mut clean = workspace.start(&["clean", "--state"]);
    clean.wait_for("waiting: for 'build' (process ");
    let mut second = workspace.start(&["build"]);
    second.wait_for("waiting: for 'build' (process ");
    workspace.write("go", "");
    let _ = first.finish().exits_with(0);
    let _ = clean.finish().exits_with(0);
    let _ = second.finish().exits_with(0);
    fs::remove_file(workspace.root().join("go")).unwrap();
    let mut third = workspace.start(&["build"]);
    third.wait_for("| began");
    let refused = workspace.xtask(&["build", "--no-wait"]).exits_with(1);
    assert!(refused.error().contains("the workspace is locked by"), "{}", refused.error());
    workspace.write("go", "");
    let _ = third.finish().exits_with(0);
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
