//! `watch` builds what a change affects, once, and nothing else.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use tests::engine::{cli_build, docker, image_tree};
use tests::{Running, Workspace};

const COPY: &str = "FROM scratch\nCOPY app /\n";

/// `b` is made from `a`; `c` is by itself.
fn three() -> Workspace {
    Workspace::new()
        .image("a", COPY)
        .image("b", "FROM tt-a\nCOPY app /b\n")
        .image("c", COPY)
        .file("src/a/app/x", "1")
        .file("src/b/app/x", "1")
        .file("src/c/app/x", "1")
}

fn waits_for(path: &str) -> String {
    format!("#!/bin/sh\nwhile [ ! -e {path} ]; do sleep 0.1; done\n")
}

fn watch<'w>(workspace: &'w Workspace, arguments: &[&str]) -> Running<'w> {
    let mut running = workspace.start(&[&["watch"], arguments].concat());
    running.wait_for("watching: ");
    running
}

/// Writes over a file in place, at one stroke.
fn overwrite(workspace: &Workspace, path: &str, text: &str) {
    let mut file = OpenOptions::new().write(true).open(workspace.root().join(path)).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Ends the loop, and tells which components were built in it, in order.
fn built(running: Running<'_>) -> Vec<String> {
    running.interrupt();
    let output = running.finish().exits_with(0);
    let mut built: Vec<String> = output.built().into_iter().map(str::to_owned).collect();
    // The first round is parallel.
    if let Some(first) = built.get_mut(..3) {
        first.sort();
    }
    built
}

#[test]
fn a_save_builds_what_it_affects_and_equal_bytes_build_nothing() {
    let workspace = three();
    let mut running = watch(&workspace, &[]);
    overwrite(&workspace, "src/a/app/x", "2");
    running.wait_for("watching: ");
    // The same bytes, other times, a file that comes and goes, and reading.
    overwrite(&workspace, "src/b/app/x", "1");
    workspace.write("src/b/app/swap", "1");
    fs::remove_file(workspace.root().join("src/b/app/swap")).unwrap();
    fs::read(workspace.root().join("src/b/app/x")).unwrap();
    // As editors save.
    workspace.write("src/c/app/.x.tmp", "2");
    let at = |path: &str| workspace.root().join(path);
    fs::rename(at("src/c/app/.x.tmp"), at("src/c/app/x")).unwrap();
    running.wait_for("changed: src/c/app/x");
    running.wait_for("watching: ");
    assert_eq!(built(running), ["a", "b", "c", "a", "b", "c"]);
    assert!(image_tree(&workspace.own("tt-c"))["x"].ends_with('2'));
}

#[test]
fn a_file_that_no_instruction_can_read_builds_nothing() {
    let workspace = three()
        .with_box()
        .image("a", "FROM tt-box\nCOPY app /\n")
        .file("src/b/build/component.dep", "c\n");
    let mut running = watch(&workspace, &[]);
    for file in ["src/a/notes", "src/b/notes", "src/c/notes"] {
        workspace.write(file, "2");
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    workspace.save("src/b/app/x", "2");
    running.wait_for("changed: src/b/app/x → b");
    running.wait_for("watching: ");
    running.interrupt();
    let output = running.finish().exits_with(0);
    assert_eq!(output.stderr.matches("changed: ").count(), 1, "{}", output.stderr);
    assert_eq!(output.built_by_name(), ["a", "b", "b", "c"]);
}

#[test]
fn a_base_with_triggers_is_watched_for_with_all_that_there_is() {
    let workspace = Workspace::new()
        .image("a", "FROM tt-outer\nCOPY app /\n")
        .file("src/a/app/x", "1")
        .file("src/a/other", "1")
        .file("outer/Dockerfile", "FROM scratch\nONBUILD COPY other /\nCOPY . /\n");
    cli_build(&workspace.root().join("outer"), "Dockerfile", &workspace.own("tt-outer"), &[]);
    workspace.xtask(&["build"]).exits_with(0);
    let mut running = watch(&workspace, &["--no-initial"]);
    workspace.save("src/a/other", "2");
    running.wait_for("changed: src/a/other");
    running.wait_for("watching: ");
    running.interrupt();
    assert_eq!(running.finish().exits_with(0).built(), ["a"]);
}

#[test]
fn a_new_folder_is_watched_with_all_that_is_in_it() {
    let workspace = three();
    let mut running = watch(&workspace, &["-s", "c"]);
    // Filled elsewhere and moved in; then a file deep in it.
    workspace.write("aside/d/e/f", "1");
    fs::rename(workspace.root().join("aside"), workspace.root().join("src/c/app/in")).unwrap();
    running.wait_for("watching: ");
    workspace.save("src/c/app/in/d/e/f", "2");
    running.wait_for("watching: ");
    // Removed and made again.
    fs::remove_dir_all(workspace.root().join("src/c/app")).unwrap();
    workspace.save("src/c/app/x", "3");
    running.wait_for("watching: ");
    workspace.save("src/c/app/x", "4");
    running.wait_for("watching: ");
    assert_eq!(built(running), ["c"; 5]);
    assert!(image_tree(&workspace.own("tt-c"))["x"].ends_with('4'));
}

#[test]
fn a_linked_component_and_declared_inputs_are_watched_where_they_lie() {
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nCOPY generated /\n")
        .script("src/a/build/build-pre.sh", "mkdir src/a/generated; cp proto/* src/a/generated\n")
        .file("src/a/build/inputs", "proto/*.txt\n")
        .file("proto/x.txt", "1")
        .file("elsewhere/build/tt-l.dockerfile", COPY)
        .file("elsewhere/app/x", "1");
    symlink("../elsewhere", workspace.root().join("src/l")).unwrap();
    let mut running = watch(&workspace, &[]);
    workspace.save("proto/x.txt", "2");
    running.wait_for("changed: proto/x.txt → a");
    running.wait_for("watching: ");
    workspace.write("proto/undeclared", "2");
    workspace.save("elsewhere/app/x", "2");
    running.wait_for("→ l");
    running.wait_for("watching: ");
    running.interrupt();
    let output = running.finish().exits_with(0);
    assert_eq!(output.built()[2..], ["a", "l"]);
}

/// Such a folder is watched by several paths, and has events for one of them.
#[test]
fn what_has_several_paths_changes_under_all_of_them() {
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nCOPY generated /\n")
        .script(
            "src/a/build/build-pre.sh",
            "mkdir src/a/generated; cp away/app/x src/a/generated\n",
        )
        .file("src/a/build/inputs", "away/app/*\n")
        .file("away/build/tt-l.dockerfile", COPY)
        .file("away/app/x", "1");
    symlink("../away", workspace.root().join("src/l")).unwrap();
    let mut running = watch(&workspace, &[]);
    workspace.save("away/app/x", "2");
    running.wait_for("watching: ");
    running.interrupt();
    let output = running.finish().exits_with(0);
    let mut built = output.built()[2..].to_vec();
    built.sort_unstable();
    assert_eq!(built, ["a", "l"]);
}

#[test]
fn args_files_and_ignore_files_that_are_links_are_watched_where_they_lie() {
    let workspace = Workspace::new()
        .file("web/Dockerfile", "FROM scratch\nARG V\nLABEL v=$V\nCOPY . /\n")
        .file("ctx/a", "1")
        .file("ctx/b", "1")
        .file("away/ignore", "nothing\n")
        .file("away/env", "V=1\n")
        .file(
            "xtask.toml",
            "[image.tt-web]\ndockerfile = \"web/Dockerfile\"\ncontext = \"ctx\"\n\
             args-file = \"env\"\n",
        );
    symlink("away/env", workspace.root().join("env")).unwrap();
    symlink("../away/ignore", workspace.root().join("ctx/.dockerignore")).unwrap();
    let mut running = watch(&workspace, &[]);
    workspace.save("away/env", "V=2\n");
    running.wait_for("env → web");
    running.wait_for("watching: ");
    workspace.save("away/ignore", "b\n");
    running.wait_for("ignore → web");
    running.wait_for("watching: ");
    assert_eq!(built(running), ["web"; 3]);
    let files = image_tree(&workspace.own("tt-web"));
    assert!(files.contains_key("a") && !files.contains_key("b"), "{files:?}");
}

#[test]
fn components_come_and_go_and_what_is_wrong_ends_no_loop() {
    let workspace = three();
    let mut running = watch(&workspace, &[]);
    workspace.save("src/d/app/x", "1");
    workspace.save("src/d/build/component.dep", "nobody\n");
    workspace.save(&workspace.own("src/d/build/tt-d.dockerfile"), COPY);
    running.wait_for("src/d/build/component.dep:1: no component 'nobody'");
    running.wait_for("watching: ");
    workspace.save("src/c/app/x", "2");
    workspace.save("src/d/build/component.dep", "c\n");
    running.wait_for("watching: ");
    fs::remove_dir_all(workspace.root().join("src/d")).unwrap();
    workspace.save("src/c/app/x", "3");
    running.wait_for("changed: src/c/app/x");
    running.wait_for("watching: ");
    assert_eq!(built(running), ["a", "b", "c", "c", "d", "c"]);
}

#[test]
fn a_broken_dockerfile_stops_only_its_component() {
    let workspace = three();
    let dockerfile = workspace.own("src/a/build/tt-a.dockerfile");
    let mut running = watch(&workspace, &[]);
    workspace.save(&dockerfile, "FROM scratch\nCOYP app /app\n");
    running.wait_for("error: src/a/build/tt-a.dockerfile:2: is not a Dockerfile: unknown instruc");
    running.wait_for("watching: ");
    workspace.save("src/c/app/x", "2");
    running.wait_for("changed: src/c/app/x → c");
    running.wait_for("watching: ");
    workspace.save(&dockerfile, "FROM scratch\nCOPY app /other\n");
    running.wait_for("watching: ");
    assert_eq!(built(running), ["a", "b", "c", "c", "a", "b"]);
    assert!(image_tree(&workspace.own("tt-a")).contains_key("other/x"));
}

#[test]
fn a_failed_build_is_tried_again_only_when_it_may_succeed() {
    let workspace = three().image("a", "FROM scratch\nCOPY missing /\n");
    let mut running = watch(&workspace, &[]);
    workspace.save("src/c/app/x", "2");
    running.wait_for("changed: src/c/app/x → c");
    running.wait_for("watching: ");
    workspace.save("src/a/missing", "1");
    running.wait_for("changed: src/a/missing → a");
    running.wait_for("watching: ");
    running.interrupt();
    let output = running.finish().exits_with(0);
    assert_eq!(output.built(), ["c", "c", "a", "b"], "{}", output.stderr);
    let failures = output.stderr.lines().filter(|line| line.contains("a | failed in"));
    assert_eq!(failures.count(), 1, "{}", output.stderr);
}

#[test]
fn a_save_during_a_build_starts_over_while_others_go_on() {
    let workspace = three()
        .with_box()
        .script("src/c/build/build-pre.sh", &waits_for("target/go"))
        .image("b", "FROM tt-a\nCOPY app /b\nRUN : tt-; [ $(cat /x) = 2 ] || sleep 60\n")
        .image("a", "FROM tt-box\nCOPY app /\n");
    let mut running = workspace.start(&["watch", "-j", "4"]);
    // `a` is done, `b` is being built from it.
    running.wait_for("sleep 60");
    workspace.save("src/a/app/x", "2");
    running.wait_for("changed: src/a/app/x → a");
    running.wait_for("b | changed during the build");
    running.wait_for("a | building");
    running.wait_for("b | built");
    // Meanwhile, a failure is mended.
    workspace.save("src/b/build/tt-b.dockerfile", "FROM tt-a\nCOPY nothing /b\n");
    workspace.write("target/go", "");
    running.wait_for("COPY nothing");
    running.wait_for("1 failed");
    running.wait_for("watching: ");
    running.interrupt();
    let output = running.finish().exits_with(0);
    assert_eq!(output.built(), ["a", "a", "b", "c"], "{}", output.stderr);
    assert!(image_tree(&workspace.own("tt-b"))["x"].ends_with('2'));
}

#[test]
fn a_failure_is_mended_while_others_go_on() {
    let workspace = three()
        .with_box()
        .script("src/c/build/build-pre.sh", &waits_for("target/go"))
        .image("a", "FROM tt-box\nCOPY app /\nRUN [ $(cat /x) = 2 ]\n");
    let mut running = workspace.start(&["watch", "-j", "4"]);
    running.wait_for("a | failed");
    workspace.save("src/a/app/x", "2");
    running.wait_for("b | built");
    workspace.write("target/go", "");
    running.wait_for("3 built, 0 up to date, 0 failed");
    running.wait_for("watching: ");
    running.interrupt();
    let output = running.finish().exits_with(0);
    assert_eq!(output.built(), ["a", "b", "c"]);
    assert_eq!(output.stderr.matches("error: ").count(), 1, "it is good again");
}

#[test]
fn a_hook_that_is_started_over_finds_what_it_found_at_first() {
    let hook = "#!/bin/sh\nmkdir src/b/generated || exit\ncp src/a/app/x src/b/generated/\n\
                echo it has a $(cat src/b/generated/x)\n\
                [ $(cat src/b/generated/x) = 2 ] || sleep 1000\n";
    let workspace = three()
        .image("b", "FROM tt-a\nCOPY generated /\n")
        .script("src/b/build/build-pre.sh", hook);
    let mut running = workspace.start(&["watch"]);
    running.wait_for("it has a 1");
    workspace.save("src/a/app/x", "2");
    running.wait_for("it has a 2");
    running.wait_for("watching: ");
    running.interrupt();
    running.finish().exits_with(0);
    assert!(image_tree(&workspace.own("tt-b"))["x"].ends_with('2'));
    assert!(!workspace.root().join("src/b/generated").exists());
}

#[test]
fn a_save_while_a_hook_runs_starts_it_over_once_it_is_known_to_write_nothing() {
    let hook = "#!/bin/sh\nmkdir src/a/generated\necho it has $(cat src/a/app/x)\n\
                [ $(cat src/a/app/x) != slow ] || sleep 1000\n";
    let workspace = three().script("src/a/build/build-pre.sh", hook);
    let mut running = watch(&workspace, &[]);
    workspace.save("src/a/app/x", "slow");
    running.wait_for("it has slow");
    workspace.save("src/a/app/x", "2");
    running.wait_for("it has 2");
    running.wait_for("watching: ");
    running.interrupt();
    running.finish().exits_with(0);
    assert!(image_tree(&workspace.own("tt-b"))["x"].ends_with('2'));
}

#[test]
fn a_hook_that_writes_into_its_own_tree_does_not_loop() {
    let steady = "echo same > src/a/app/made\n";
    let unsteady = "cat /proc/sys/kernel/random/uuid > src/c/app/made\n";
    let workspace = three()
        .file("src/c/app/made", "first")
        .script("src/a/build/build-pre.sh", steady)
        .script("src/c/build/build-pre.sh", unsteady);
    let mut running = workspace.start(&["watch"]);
    running.wait_for("src/c/build/build-pre.sh: wrote src/c/app/made again");
    running.wait_for("watching: ");
    workspace.save("src/a/app/x", "2");
    running.wait_for("changed: src/a/app/x → a");
    running.wait_for("watching: ");
    running.interrupt();
    let output = running.finish().exits_with(0);
    let of = |name: &str| output.built().iter().filter(|built| **built == name).count();
    assert_eq!([of("a"), of("b"), of("c")], [2, 2, 3], "{}", output.stderr);
}

#[test]
fn a_hook_that_leaves_the_same_at_its_end_is_neither_stopped_nor_run_again() {
    let waits = "echo it ran\nwhile [ ! -e target/go ]; do sleep 0.1; done\n";
    let removes = format!(
        "set -e\nrm -r src/a/app/made\n{waits}mkdir src/a/app/made\n\
         echo same > src/a/app/made/it\n"
    );
    let rewrites = format!("echo same > src/a/app/made/it\n{waits}");
    for hook in [removes, rewrites] {
        let workspace =
            three().file("src/a/app/made/it", "same\n").script("src/a/build/build-pre.sh", &hook);
        let mut running = workspace.start(&["watch"]);
        for text in ["2", "3"] {
            running.wait_for("it ran");
            // Once this is noticed, so is what the hook did before.
            workspace.save("src/b/app/x", text);
            running.wait_for("changed: src/b/app/x → b");
            let go = workspace.write("target/go", "");
            running.wait_for("watching: ");
            if text == "2" {
                fs::remove_file(go).unwrap();
                workspace.save("src/a/app/x", text);
            }
        }
        workspace.save("src/c/app/x", "2");
        running.wait_for("changed: src/c/app/x → c");
        running.wait_for("watching: ");
        running.interrupt();
        let output = running.finish().exits_with(0);
        assert_eq!(output.stderr.matches("it ran").count(), 2, "{}", output.stderr);
        assert_eq!(fs::read(workspace.root().join("src/a/app/made/it")).unwrap(), b"same\n");
    }
}

#[test]
fn a_hook_that_writes_what_it_is_run_for_does_not_loop() {
    let writes = |path: &str| format!("cat /proc/sys/kernel/random/uuid > {path}\n");
    let four = || three().image("d", COPY).file("src/d/app/x", "1");
    let cases = [
        // What it declares to read.
        four()
            .file("version/stamp", "first")
            .file("src/c/build/inputs", "version/**\n")
            .script("src/c/build/build-pre.sh", &writes("version/stamp")),
        // What its component depends on: without an image, and with one.
        four()
            .file("src/p/x", "1")
            .file("src/c/build/component.dep", "p\n")
            .script("src/c/build/build-pre.sh", &writes("src/p/stamp")),
        four().script("src/b/build/build-post.sh", &writes("src/a/app/made")),
        // A component whose hook writes back.
        four()
            .file("src/a/app/made", "first")
            .file("src/c/app/made", "first")
            .script("src/a/build/build-pre.sh", &writes("src/c/app/made"))
            .script("src/c/build/build-pre.sh", &writes("src/a/app/made")),
    ];
    for workspace in cases {
        let mut running = workspace.start(&["watch"]);
        running.wait_for(" again, which makes ");
        running.wait_for("watching: ");
        workspace.save("src/d/app/x", "2");
        running.wait_for("changed: src/d/app/x → d");
        running.wait_for("watching: ");
        running.interrupt();
        let output = running.finish().exits_with(0);
        let (_, after) = output.stderr.split_once("changed: src/d/app/x → d").unwrap();
        assert_eq!(after.matches("changed: ").count(), 0, "{}", output.stderr);
        let hook = "/build/build-p";
        let warning = output.stderr.lines().find(|line| line.contains(" again, which makes "));
        assert!(warning.is_some_and(|line| line.contains(hook)), "{}", output.stderr);
    }
}

#[test]
fn what_a_hook_left_and_is_gone_is_made_again_in_one_round() {
    let hook = "#!/bin/sh\nmkdir -p src/a/app/made\necho same > src/a/app/made/it\n\
                x=$(cat src/a/app/x)\necho it has $x\n[ $x != slow ] || sleep 1000\n";
    let workspace = three().script("src/a/build/build-pre.sh", hook);
    let mut running = watch(&workspace, &[]);
    fs::remove_dir_all(workspace.root().join("src/a/app/made")).unwrap();
    running.wait_for("changed: src/a/app/made");
    running.wait_for("watching: ");
    workspace.save("src/a/app/x", "2");
    running.wait_for("it has 2");
    running.wait_for("watching: ");
    // A save that makes the hook begin again, with what it leaves aside.
    workspace.save("src/a/app/x", "slow");
    running.wait_for("it has slow");
    workspace.save("src/a/app/x", "3");
    running.wait_for("it has 3");
    running.wait_for("watching: ");
    workspace.save("src/c/app/x", "2");
    running.wait_for("changed: src/c/app/x");
    running.wait_for("watching: ");
    running.interrupt();
    let output = running.finish().exits_with(0);
    assert_eq!(output.stderr.matches("finished: ").count(), 5, "{}", output.stderr);
    let tree = image_tree(&workspace.own("tt-a"));
    assert!(tree["made/it"].ends_with("same\n") && tree["x"].ends_with('3'));
}

#[test]
fn hooks_that_declare_nothing_are_warned_of_once_also_if_they_come_later() {
    let hook = "#!/bin/sh\ntrue\n";
    let workspace = three()
        .script("src/a/build/build-pre.sh", hook)
        .file("src/b/build/component.dep", "missing\n");
    let mut running = workspace.start(&["watch"]);
    running.wait_for("what the hooks of a read outside");
    running.wait_for("no component 'missing'");
    running.wait_for("watching: ");
    fs::remove_file(workspace.root().join("src/b/build/component.dep")).unwrap();
    running.wait_for("finished: ");
    workspace.write("src/c/build/build-pre.sh", hook);
    running.wait_for("what the hooks of c read outside");
    running.wait_for("watching: ");
    running.interrupt();
    let output = running.finish().exits_with(0);
    assert_eq!(output.stderr.matches("what the hooks of ").count(), 2, "{}", output.stderr);
}

#[test]
fn a_save_is_not_lost_while_others_use_the_engine() {
    let workspace = three();
    let mut running = watch(&workspace, &["c"]);
    let (other, image) = (workspace.own("tt-other"), workspace.own("tt-c"));
    // Somebody looks at the images once the engine has been silent for a while after a report,
    // and each time this comes at another moment of what a save sets off.
    for (count, delay) in (150..310).step_by(20).enumerate() {
        docker(&["tag", &image, &other]);
        thread::sleep(Duration::from_millis(delay));
        workspace.save("src/c/app/x", &format!("edit {count}"));
        running.wait_for("changed: src/c/app/x");
        running.wait_for("watching: ");
    }
    assert!(image_tree(&image)["x"].ends_with("edit 7"));
    running.interrupt();
    let _ = running.finish().exits_with(0);
}

#[test]
fn a_checkout_is_one_round() {
    let workspace = three().git();
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(workspace.root()).args(["-c", "user.name=n", "-c", "user.email=e"]);
        assert!(git.args(arguments).output().unwrap().status.success());
    };
    git(&["add", "."]);
    git(&["commit", "-qm", "one"]);
    git(&["checkout", "-qb", "other"]);
    for number in 0..3000 {
        workspace.write(&format!("src/a/app/d{}/{number}", number % 50), "text");
    }
    git(&["add", "."]);
    git(&["commit", "-qm", "two"]);
    let mut running = watch(&workspace, &[]);
    git(&["checkout", "-q", "-"]);
    running.wait_for("watching: ");
    git(&["checkout", "-q", "other"]);
    running.wait_for("watching: ");
    running.interrupt();
    let output = running.finish().exits_with(0);
    let count = |text: &str| output.stderr.matches(text).count();
    // The images of the first branch are still there, under no name.
    assert_eq!([output.built().len(), count("| restored in")], [5, 2], "{}", output.stderr);
    assert_eq!(count("finished: "), 3, "{}", output.stderr);
}

#[test]
fn what_git_changes_in_a_worktree_is_one_round() {
    let workspace = three().file(".git", "gitdir: repository/worktrees/one\n");
    let mut running = watch(&workspace, &[]);
    let lock = workspace.write("repository/worktrees/one/index.lock", "");
    workspace.write("src/c/app/x", "2");
    // Longer than changes that belong together may be apart.
    thread::sleep(Duration::from_millis(600));
    workspace.write("src/c/app/y", "2");
    fs::remove_file(lock).unwrap();
    running.wait_for("changed: src/c/app/x (+1 more)");
    running.wait_for("watching: ");
    assert_eq!(built(running), ["a", "b", "c", "c"]);
}

#[test]
fn lost_news_are_looked_for() {
    let workspace = three();
    let mut running = watch(&workspace, &[]);
    running.signal(Signal::STOP);
    // More than the system keeps for a process that does not listen.
    let kept = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    for number in 0..=kept.trim().parse::<usize>().unwrap() {
        let path = workspace.root().join(format!("src/b/app/{number}"));
        fs::write(&path, "").unwrap();
        fs::remove_file(path).unwrap();
    }
    workspace.save("src/c/app/x", "2");
    running.signal(Signal::CONT);
    running.wait_for("changed: ");
    running.wait_for("watching: ");
    assert_eq!(built(running), ["a", "b", "c", "c"]);
}

#[test]
fn what_cannot_be_watched_is_looked_at() {
    let workspace = three();
    let mut command = workspace.command_below(&[
        "unshare",
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        "echo 4 > /proc/sys/user/max_inotify_watches && exec \"$@\"",
        "sh",
    ]);
    let mut running = workspace.run(command.args(["watch"]));
    running.wait_for("folders cannot be watched because the limit fs.inotify.max_user_watches");
    running.wait_for("watching: ");
    for component in ["a", "b", "c"] {
        workspace.save(&format!("src/{component}/app/x"), "2");
    }
    running.wait_for("watching: ");
    workspace.save("src/c/app/x", "3");
    running.wait_for("watching: ");
    let built = built(running);
    assert_eq!(built.last().map(String::as_str), Some("c"));
    assert!(image_tree(&workspace.own("tt-c"))["x"].ends_with('3'));
}

#[test]
fn everything_can_be_looked_at_instead() {
    let workspace = three();
    let mut running = watch(&workspace, &["--poll=100"]);
    workspace.save("src/c/app/x", "2");
    running.wait_for("watching: ");
    assert_eq!(built(running), ["a", "b", "c", "c"]);
}

#[test]
fn a_hook_that_is_looked_at_does_not_loop() {
    let unsteady = "cat /proc/sys/kernel/random/uuid > src/c/app/made\n";
    let workspace =
        three().file("src/c/app/made", "first").script("src/c/build/build-pre.sh", unsteady);
    let mut running = workspace.start(&["watch", "--poll=100"]);
    running.wait_for("src/c/build/build-pre.sh: wrote src/c/app/made again");
    running.wait_for("watching: ");
    let built = built(running);
    // A file that is written just when it is looked at counts as written twice.
    let of = |name: &str| built.iter().filter(|built| *built == name).count();
    assert!(of("a") == 1 && of("b") == 1 && (3..=4).contains(&of("c")), "{built:?}");
}

#[test]
fn without_a_first_round_only_changes_are_built() {
    let workspace = three();
    let mut running = watch(&workspace, &["--no-initial"]);
    workspace.save("src/c/app/x", "2");
    running.wait_for("watching: ");
    assert_eq!(built(running), ["c"]);
}

#[test]
fn what_runs_after_a_round_ends_before_the_next() {
    let workspace = three();
    let server = "echo $XTASK_COMPONENTS: $XTASK_IMAGES >> target/ran; \
                  trap 'echo ended >> target/ran; exit' TERM; while :; do sleep 0.05; done";
    let mut running = watch(
        &workspace,
        &["-s", "c", "--on-success", server, "--on-failure", "echo failed >> target/ran"],
    );
    let ran = || fs::read_to_string(workspace.root().join("target/ran")).unwrap_or_default();
    let has = |text: &str| while !ran().contains(text) {};
    has(&workspace.own("c: tt-c\n"));
    workspace.save(&workspace.own("src/c/build/tt-c.dockerfile"), "FROM scratch\nCOPY nothing /\n");
    running.wait_for("watching: ");
    has("failed\n");
    running.interrupt();
    let _ = running.finish().exits_with(0);
    assert_eq!(ran(), workspace.own("c: tt-c\nended\nfailed\n"));
}

#[test]
fn ignored_and_generated_files_wake_nobody() {
    let workspace = three().file("src/c/.dockerignore", "node_modules\n*.log\n");
    fs::create_dir(workspace.root().join("src/c/node_modules")).unwrap();
    let mut running = watch(&workspace, &[]);
    for path in
        ["src/c/node_modules/m/x", "src/c/a.log", "src/c/generated/x", "target/x", ".git/x", "y"]
    {
        workspace.write(path, "1");
    }
    fs::remove_dir_all(workspace.root().join("src/c/generated")).unwrap();
    workspace.save("src/a/app/x", "2");
    running.wait_for("changed: src/a/app/x → a");
    running.wait_for("watching: ");
    assert_eq!(built(running), ["a", "b", "c", "a", "b"]);
    assert!(Path::new(&workspace.root().join("src/c/node_modules/m/x")).exists());
}

#[test]
fn an_engine_that_goes_away_ends_no_loop() {
    let workspace = three();
    let proxy = tests::engine::Proxy::start();
    let workspace = workspace.env("DOCKER_HOST", &proxy.host());
    let mut running = watch(&workspace, &[]);
    let socket = proxy.host().replace("unix://", "");
    let aside = format!("{socket}-aside");
    fs::rename(&socket, &aside).unwrap();
    proxy.cut();
    workspace.save("src/c/app/x", "2");
    running.wait_for("error: the connection to the engine was lost");
    running.wait_for("watching: ");
    fs::rename(&aside, &socket).unwrap();
    // Whatever is saved next, nothing is forgotten.
    workspace.save("src/b/app/x", "2");
    running.wait_for("watching: ");
    assert_eq!(built(running)[3..].iter().collect::<BTreeSet<_>>().len(), 2);
}

#[test]
fn a_name_that_means_nothing_ends_it_at_once() {
    let workspace = three();
    let output = workspace.xtask(&["watch", "aa", "x*"]).exits_with(2);
    assert!(output.stderr.contains("'aa'") && output.stderr.contains("'x*'"), "{}", output.stderr);
}

#[test]
fn images_of_a_configuration_are_watched_where_they_are() {
    let workspace = Workspace::new()
        .file(
            "xtask.toml",
            "[image.\"tt-{app}\"]\ndockerfile = \"apps/{app}/Dockerfile\"\n\
             [image.tt-b]\ncontext = \".\"\nargs-file = \"b.conf\"\n",
        )
        .file("b.conf", "VALUE=1\n")
        .file(".dockerignore", "*.md\n")
        .file("apps/a/Dockerfile", "FROM scratch\nCOPY f /\n")
        .file("apps/a/f", "1")
        .file("apps/b/Dockerfile", "FROM scratch\nARG VALUE\nENV VALUE=$VALUE\nCOPY lib /\n")
        .file("lib/f", "1");
    let mut running = watch(&workspace, &[]);
    let mut saved = |path: &str, text: &str, changed: &str| {
        workspace.save(path, text);
        running.wait_for(&format!("changed: {changed}"));
        running.wait_for("watching: ");
    };
    saved("apps/a/f", "2", "apps/a/f → a");
    saved("lib/f", "2", "lib/f → b");
    workspace.save("notes.md", "nothing");
    saved("b.conf", "VALUE=2\n", "b.conf → b");
    saved("apps/c/Dockerfile", "FROM tt-a\nLABEL of=c\n", "apps/c");
    saved("apps/c/Dockerfile", "FROM tt-a\nLABEL of=d\n", "apps/c/Dockerfile → c");
    workspace.save("xtask.toml", "[image.\"tt-{app}\"]\ndockerfile = 1\n");
    running.wait_for("expected a list of texts, found an integer");
    running.wait_for("watching: ");
    workspace
        .save("xtask.toml", "labels.x = \"y\"\n[image.tt-a]\ndockerfile = \"apps/a/Dockerfile\"\n");
    running.wait_for("image tt-a built");
    running.wait_for("watching: ");
    running.interrupt();
    let output = running.finish().exits_with(0);
    assert_eq!(output.built()[2..], ["a", "b", "b", "c", "c", "a"], "{}", output.stderr);
}

#[test]
fn a_context_outside_of_src_is_watched_too() {
    let workspace = three()
        .file("xtask.toml", "[image.tt-c]\ncontext = \"shared\"\n")
        .file("shared/app/x", "1");
    let mut running = watch(&workspace, &[]);
    workspace.save("shared/app/x", "2");
    running.wait_for("changed: shared/app/x → c");
    running.wait_for("watching: ");
    workspace.save("src/a/app/x", "2");
    running.wait_for("changed: src/a/app/x → a");
    running.wait_for("watching: ");
    assert_eq!(built(running)[3..], ["c", "a", "b"]);
}

#[test]
fn a_root_that_is_moved_or_replaced_ends_it() {
    for (is_replaced, arguments) in [(false, &[][..]), (true, &[]), (true, &["--poll=100"])] {
        let workspace = Workspace::new()
            .file("in/src/a/build/tt-a.dockerfile", COPY)
            .file("in/src/a/app/x", "1")
            .file("other/src/a/build/tt-a.dockerfile", COPY)
            .file("other/src/a/app/x", "2");
        let at = |path: &str| workspace.root().join(path);
        let mut running = workspace.start(&[&["--root", "in", "watch"], arguments].concat());
        running.wait_for("watching: ");
        fs::rename(at("in"), at("moved")).unwrap();
        if is_replaced {
            fs::rename(at("other"), at("in")).unwrap();
        }
        let output = running.finish().exits_with(2);
        let error = "/in was moved, removed or replaced, so its changes are no longer seen";
        assert!(output.error().contains(error), "{}", output.stderr);
        assert!(!at("in/target").exists());
    }
}

#[test]
fn what_is_saved_while_a_post_hook_runs_is_in_the_image_of_the_next_build() {
    let hook = "[ -e target/saved ] || echo mine > src/a/notes\ntouch target/saved\n\
                echo made > src/a/made\n";
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nCOPY . /\n")
        .script("src/a/build/build-post.sh", hook);
    workspace.xtask(&["build"]).exits_with(0);
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert!(output.stderr.contains("src/a/notes: appeared while hooks ran"), "{}", output.stderr);
    assert!(image_tree(&workspace.own("tt-a"))["notes"].ends_with("mine\n"));
    assert!(!image_tree(&workspace.own("tt-a")).contains_key("made"));
    assert_eq!(workspace.xtask(&["build"]).exits_with(0).built(), [""; 0]);
}

fn git(workspace: &Workspace, arguments: &[&str]) {
    let who = ["-c", "user.name=t", "-c", "user.email=t@t"];
    let git = Command::new("git").current_dir(workspace.root()).args(who).args(arguments).status();
    assert!(git.unwrap().success(), "git {arguments:?}");
}

/// A program that Cargo built, and a context that is in `target/` as a whole.
#[test]
fn what_contexts_have_in_target_is_watched() {
    let workspace = Workspace::new()
        .file(
            "xtask.toml",
            "[image.tt-rust]\ndockerfile = \"Dockerfile\"\ncontext = \".\"\n\
             [image.tt-dist]\ndockerfile = \"web/Dockerfile\"\ncontext = \"target/dist\"\n",
        )
        .file("Dockerfile", "FROM scratch\nCOPY target/release/app /\n")
        .file("web/Dockerfile", "FROM scratch\nCOPY page /\n")
        .file("target/release/app", "1")
        .file("target/dist/page", "1");
    let mut running = watch(&workspace, &[]);
    workspace.write("target/debug/app", "2");
    workspace.write("target/release/other", "2");
    workspace.save("target/release/app", "2");
    running.wait_for("changed: target/release/app → ");
    running.wait_for("watching: ");
    // As a build from nothing does.
    fs::remove_dir_all(workspace.root().join("target/dist")).unwrap();
    workspace.write("target/new/page", "2");
    fs::rename(workspace.root().join("target/new"), workspace.root().join("target/dist")).unwrap();
    running.wait_for("changed: target/dist");
    running.wait_for("watching: ");
    running.interrupt();
    let output = running.finish().exits_with(0);
    assert_eq!(output.stderr.matches("changed: ").count(), 2, "{}", output.stderr);
    assert!(image_tree(&workspace.own("tt-rust"))["app"].ends_with('2'));
    assert!(image_tree(&workspace.own("tt-dist"))["page"].ends_with('2'));
}

/// Names, also of a component with hooks, and args.
#[test]
fn what_is_named_after_the_branch_follows_it() {
    const ARG: &str = "FROM scratch\nARG V\nLABEL v=$V\n";
    let workspace = Workspace::new()
        .file(
            "xtask.toml",
            "[image.\"tt-{branch}-{app}\"]\ndockerfile = \"apps/{app}/Dockerfile\"\n\
             [image.tt-arg]\ndockerfile = \"arg/Dockerfile\"\nargs = { V = \"{branch}\" }\n",
        )
        .file("apps/web/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
        .file("apps/api/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
        .script("apps/api/build/build-pre.sh", "#!/bin/sh\n")
        .file("arg/Dockerfile", ARG)
        .file(".gitignore", "/target/\n")
        .git();
    git(&workspace, &["checkout", "-qb", "one"]);
    git(&workspace, &["commit", "-qm", "1"]);
    let mut running = watch(&workspace, &[]);
    git(&workspace, &["checkout", "-qb", "two"]);
    running.wait_for("changed: .git/HEAD");
    running.wait_for("watching: ");
    for name in ["tt-two-web", "tt-two-api"] {
        assert!(image_tree(&workspace.own(name)).contains_key("Dockerfile"), "{name}");
    }
    let format = "{{.Config.Labels.v}}";
    let label = docker(&["image", "inspect", "-f", format, &workspace.own("tt-arg")]);
    assert_eq!(label.trim_ascii(), b"two");
    running.interrupt();
    running.finish().exits_with(0);
}

/// In a folder above, beside a worktree, and in a folder of any other name.
#[test]
fn the_commit_is_watched_wherever_git_keeps_it() {
    let hook = "#!/bin/sh\nmkdir src/a/generated; git log -1 --format=%s > src/a/generated/text\n";
    for (init, folder) in [
        (&["init", "-q", "."][..], "top"),
        (&["init", "-q", "top"], "tree"),
        (&["init", "-q", "--separate-git-dir", "kept", "top"], "top"),
    ] {
        let workspace = Workspace::new()
            .file("top/src/a/build/inputs", "git:HEAD\n")
            .file("top/src/a/build/tt-a.dockerfile", "FROM scratch\nCOPY generated/text /\n")
            .script("top/src/a/build/build-pre.sh", hook);
        git(&workspace, init);
        git(&workspace, &["-C", "top", "add", "."]);
        git(&workspace, &["-C", "top", "commit", "-qm", "1"]);
        if folder == "tree" {
            git(&workspace, &["-C", "top", "worktree", "add", "-q", "../tree"]);
        }
        let mut running =
            workspace.run(&mut workspace.bash(&format!("cd {folder}; exec $XTASK watch")));
        running.wait_for("watching: ");
        git(&workspace, &["-C", folder, "commit", "-q", "--allow-empty", "-m", "2"]);
        running.wait_for("changed: .git/");
        running.wait_for("watching: ");
        running.interrupt();
        running.finish().exits_with(0);
        let text = &image_tree(&workspace.own("tt-a"))["text"];
        assert!(text.trim_end().ends_with('2'), "{init:?}: {text}");
    }
}

/// Also deep in it, as a checkout brings it.
#[test]
fn what_links_in_a_new_folder_lead_to_is_watched() {
    let workspace = Workspace::new()
        .file("shared/one", "1")
        .file("other/one", "1")
        .file("src/a/x", "1")
        .file("src/b/build/component.dep", "a\n")
        .image("b", "FROM scratch\nCOPY dependency/a/ /a/\n");
    let mut running = watch(&workspace, &[]);
    for (top, folder, target) in
        [("d", "d", "../../../shared/one"), ("e", "e/f/g", "../../../../../other/one")]
    {
        let beside = workspace.write(&format!("aside/{folder}/own"), "1");
        symlink(target, beside.with_file_name("link")).unwrap();
        let at = |folder: &str| workspace.root().join(folder).join(top);
        fs::rename(at("aside"), at("src/a")).unwrap();
        running.wait_for("watching: ");
        let target = target.trim_start_matches("../");
        workspace.save(target, "2");
        running.wait_for(&format!("changed: {target} → "));
        running.wait_for("watching: ");
    }
    running.interrupt();
    running.finish().exits_with(0);
    let output = workspace.xtask(&["build", "-n", "--exit-code"]).exits_with(0);
    assert!(output.stdout.contains("up to date"), "{}", output.stdout);
}

/// A component is gone, and a Dockerfile.
#[test]
fn what_needs_something_that_is_gone_is_looked_at() {
    let workspace = three().file("src/c/build/component.dep", "d\n").file("src/d/text", "1");
    let mut running = watch(&workspace, &[]);
    fs::remove_dir_all(workspace.root().join("src/d")).unwrap();
    running.wait_for("src/c/build/component.dep:1: no component 'd'");
    running.wait_for("watching: ");
    workspace.save("src/d/text", "1");
    running.wait_for("watching: ");
    fs::remove_file(workspace.root().join(workspace.own("src/a/build/tt-a.dockerfile"))).unwrap();
    running.wait_for("image tt-a removed");
    running.wait_for("watching: ");
    running.interrupt();
    let output = running.finish().exits_with(0);
    assert_eq!(output.built()[3..], ["b"], "{}", output.stderr);
}
