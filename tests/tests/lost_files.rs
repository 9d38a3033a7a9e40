//! Only what a build made is removed. What anybody else made in the place of a temporary
//! folder is named, and nothing is done; git is believed only where it answers.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use expect_test::expect;
use rustix::process::Signal;
use tests::Workspace;
use tests::engine::image_tree;

const BASE: &str = "FROM scratch\nCOPY build /build\n";

/// Fills both temporary folders and kills the tool, unless `target/again` is there.
const KILLS: &str = "#!/bin/sh\nmkdir -p src/a/generated src/a/dependency/x\n\
                     echo left > src/a/generated/left\n\
                     if [ ! -e target/again ]; then kill -9 $PPID; fi\n";

/// `a` has hooks, `b` does not.
fn two() -> Workspace {
    Workspace::new()
        .image("a", "FROM scratch\nCOPY generated /\n")
        .script("src/a/build/build-pre.sh", KILLS)
        .image("b", BASE)
}

/// The same after a build that was killed.
fn killed() -> Workspace {
    let workspace = two();
    let _ = workspace.xtask(&["build", "-s", "a"]).exits_with(-1);
    workspace.write("target/again", "");
    workspace
}

fn left(workspace: &Workspace) -> bool {
    workspace.root().join("src/a/generated/left").exists()
}

fn git(folder: &Path, arguments: &[&str]) {
    let mut git = Command::new("git");
    git.current_dir(folder).args(["-c", "user.name=x", "-c", "user.email=x@localhost"]);
    git.args(["-c", "protocol.file.allow=always"]).args(arguments);
    let ended = git.output().expect("git runs");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

fn variables(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn what_no_build_made_is_named_and_nothing_is_done() {
    let workspace = Workspace::new()
        .file(".gitignore", "ignored\n")
        .script("src/a/build/build-pre.sh", "#!/bin/sh\nmkdir -p src/a/generated\n")
        .image("a", BASE)
        .file("src/a/build/component.dep", "source\n")
        .file("src/a/generated/deep/one", "mine")
        .file("src/source/generated/ignored", "mine")
        .file("src/source/dependency", "mine")
        .image("b", BASE);
    for name in ["two", "three", "four"] {
        workspace.write(&format!("src/a/generated/{name}"), "mine");
    }
    fs::create_dir(workspace.root().join("src/a/dependency")).unwrap();
    symlink("/nowhere", workspace.root().join("src/b/generated")).unwrap();
    git(workspace.root(), &["init", "-q"]);
    let before = workspace.tree();
    for arguments in
        [&["build"][..], &["build", "-n"], &["build", "--force"], &["graph", "--stale"]]
    {
        let output = workspace.xtask(arguments).exits_with(2);
        expect![[r#"
            error: src/a/dependency: is a folder that no build created: builds create a folder of this name and remove it afterwards. Move it elsewhere, or remove it
            src/a/generated: contains 4 files that no build created (deep/one, four, three, …): builds create a folder of this name and remove it afterwards. Move it elsewhere, or remove it
            src/b/generated: is a symbolic link that no build created: builds create a folder of this name and remove it afterwards. Move it elsewhere, or remove it
            src/source/dependency: is a file that no build created: builds create a folder of this name and remove it afterwards. Move it elsewhere, or remove it
            src/source/generated: contains 1 file that no build created (ignored): builds create a folder of this name and remove it afterwards. Move it elsewhere, or remove it
        "#]]
        .assert_eq(output.error());
        assert_eq!(workspace.tree(), before, "{arguments:?}");
    }
    for arguments in [&["context", "b"][..], &["context", "a"], &["context", "a", "--hooks"]] {
        let output = workspace.xtask(arguments).exits_with(2);
        assert!(output.error().contains(" that no build created"), "{}", output.error());
        assert_eq!(workspace.tree(), before, "{arguments:?}");
    }
}

#[test]
fn files_of_git_and_others_in_one_folder_are_both_named() {
    let workspace = Workspace::new().image("b", BASE).file("src/b/generated/tracked", "mine").git();
    workspace.write("src/b/generated/other", "mine");
    expect![[r#"
        error: src/b/generated: contains 1 file that no build created (other): builds create a folder of this name and remove it afterwards. Move it elsewhere, or remove it
        src/b/generated/tracked: is tracked by git in a folder that every build removes: move it, or run 'git rm --cached' on it
    "#]]
    .assert_eq(workspace.xtask(&["build"]).exits_with(2).error());
}

#[test]
fn components_that_take_no_part_are_left_alone() {
    let workspace =
        two().file("src/b/generated/work", "mine").file("src/c/dependency/work", "mine");
    workspace.write("target/again", "");
    let before = workspace.tree();
    assert_eq!(workspace.xtask(&["build", "-s", "a"]).exits_with(0).built(), ["a"]);
    assert_eq!(workspace.tree(), before);
}

#[test]
fn what_a_killed_build_left_goes_and_what_the_user_made_stays() {
    for component in ["a", "b"] {
        let workspace = killed();
        let before = two().tree();
        assert!(left(&workspace));
        let mine = workspace.write("src/c/generated/work", "mine");
        let _ = workspace.xtask(&["build", "-s", component]).exits_with(0);
        assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
        fs::remove_dir_all(workspace.root().join("src/c")).unwrap();
        assert_eq!(workspace.tree().len(), before.len(), "{:?}", workspace.tree());
        // They are on record no longer.
        workspace.write("src/a/generated/left", "mine");
        let _ = workspace.xtask(&["build"]).exits_with(2);
        assert!(left(&workspace));
    }
}

#[test]
fn without_a_record_leftovers_are_not_touched() {
    let workspace = killed();
    fs::remove_dir_all(workspace.root().join("target/xtask")).unwrap();
    let output = workspace.xtask(&["build"]).exits_with(2);
    let named = "src/a/generated: contains 1 file that no build created (left): ";
    assert!(output.error().contains(named), "{}", output.error());
    assert!(left(&workspace));
}

#[test]
fn a_question_neither_removes_leftovers_nor_sees_them() {
    let post = "#!/bin/sh\nmkdir -p src/a/generated\necho left > src/a/generated/left\n\
                if [ ! -e target/again ]; then kill -9 $PPID; fi\n";
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nCOPY . /\n")
        .script("src/a/build/build-post.sh", post)
        .image("b", "FROM scratch\nCOPY dependency/a /a\n")
        .file("src/b/build/component.dep", "a\n");
    let _ = workspace.xtask(&["build"]).exits_with(-1);
    assert!(left(&workspace));
    let before = workspace.tree();
    let planned = workspace.xtask(&["build", "-n", "-s", "a"]).exits_with(0);
    assert_eq!(planned.stdout, "a  tt-a  up to date\n1 image is up to date\n");
    let _ = workspace.xtask(&["graph", "--stale"]).exits_with(0);
    for component in ["a", "b"] {
        let sent = workspace.xtask(&["context", component]).exits_with(0);
        assert!(!sent.stdout.contains("generated"), "{}", sent.stdout);
    }
    assert_eq!(workspace.tree(), before);
    workspace.write("target/again", "");
    assert_eq!(workspace.xtask(&["build"]).exits_with(0).built(), ["b"]);
    assert!(!left(&workspace));
}

#[test]
fn a_folder_that_comes_while_a_build_runs_is_not_removed() {
    let waits = "#!/bin/sh\necho waits\nwhile [ ! -e target/go ]; do sleep 0.1; done\n";
    let workspace = Workspace::new()
        .image("a", BASE)
        .script("src/a/build/build-pre.sh", waits)
        .image("b", BASE)
        .script("src/b/build/build-pre.sh", "#!/bin/sh\nmkdir -p src/b/generated\n")
        .file("src/b/build/component.dep", "a\n");
    let mut running = workspace.start(&["build"]);
    running.wait_for("| waits");
    let mine = workspace.write("src/b/generated/work", "mine");
    workspace.write("target/go", "");
    let output = running.finish().exits_with(1);
    assert!(output.error().contains("src/b/generated: contains 1 file"), "{}", output.error());
    assert_eq!(fs::read_to_string(mine).unwrap(), "mine");
}

#[test]
fn watch_leaves_a_folder_that_comes_between_two_rounds() {
    let workspace = two().file("src/a/x", "1");
    workspace.write("target/again", "");
    let mut running = workspace.start(&["watch"]);
    running.wait_for("watching: ");
    let mine = workspace.write("src/a/generated/work", "mine");
    workspace.save("src/a/x", "2");
    running.wait_for("error: src/a/generated: contains 1 file that no build created (work)");
    running.wait_for("watching: ");
    assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
    fs::remove_dir_all(workspace.root().join("src/a/generated")).unwrap();
    workspace.save("src/a/x", "3");
    running.wait_for("a | up to date in ");
    running.wait_for("watching: ");
    running.interrupt();
    let _ = running.finish().exits_with(0);
    assert!(!workspace.root().join("src/a/generated").exists());
}

/// Leftovers of a build, and git tracks one of them since.
#[test]
fn what_git_tracks_is_never_removed_whatever_the_environment_says() {
    let workspace = killed().git();
    let before = workspace.tree();
    let other = tempfile::tempdir().unwrap();
    git(other.path(), &["init", "-q"]);
    let (git_dir, none) = (other.path().join(".git"), other.path().join("none"));
    let (git_dir, none) = (git_dir.to_str().unwrap(), none.to_str().unwrap());
    let tracked = "src/a/generated/left: is tracked by git in a folder that every build removes";
    let unknown =
        "src/a/dependency, src/a/generated: cannot determine whether git tracks files there: ";
    let ownership = format!("{unknown}git ls-files: fatal: detected dubious ownership");
    let missing = format!(
        "{unknown}[ROOT]/.git: git is not installed or not in PATH: install it, or add it to PATH"
    );
    for (environment, words) in [
        (&[][..], tracked),
        (&[("GIT_DIR", git_dir)], tracked),
        (&[("GIT_DIR", git_dir), ("GIT_WORK_TREE", none)], tracked),
        (&[("GIT_INDEX_FILE", none)], tracked),
        (&[("GIT_CEILING_DIRECTORIES", "/"), ("GIT_GLOB_PATHSPECS", "1")], tracked),
        (&[("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")], &ownership),
        (&[("PATH", none)], &missing),
    ] {
        let output = workspace.xtask_with(&variables(environment), &["build"]).exits_with(2);
        assert!(output.error().contains(words), "{environment:?}: {}", output.error());
        assert_eq!(workspace.tree(), before, "{environment:?}");
    }
    fs::write(workspace.root().join(".git/index"), "broken").unwrap();
    let output = workspace.xtask(&["build"]).exits_with(2);
    assert!(output.error().contains("git ls-files: "), "{}", output.error());
    fs::remove_dir_all(workspace.root().join(".git")).unwrap();
    fs::write(workspace.root().join(".git"), "gitdir: /nowhere\n").unwrap();
    let output = workspace.xtask(&["build"]).exits_with(2);
    assert!(output.error().contains("not a git repository: /nowhere"), "{}", output.error());
    assert_eq!(workspace.tree(), before);
    fs::remove_file(workspace.root().join(".git")).unwrap();
    let _ = workspace.xtask(&["build", "-s", "b"]).exits_with(0);
    assert!(!left(&workspace), "where there is no git it tracks nothing");
}

#[test]
fn a_component_in_a_repository_of_its_own_is_asked_about_there() {
    let workspace = killed().git();
    git(workspace.root(), &["rm", "-rq", "--cached", "src/a"]);
    git(&workspace.root().join("src/a"), &["init", "-q"]);
    git(&workspace.root().join("src/a"), &["add", "-f", "."]);
    let output = workspace.xtask(&["build"]).exits_with(2);
    let tracked = "error: src/a/generated/left: is tracked by git ";
    assert!(output.error().starts_with(tracked), "{}", output.error());
    // Broken, it must not hide behind the repository around it.
    fs::remove_file(workspace.root().join("src/a/.git/HEAD")).unwrap();
    let output = workspace.xtask(&["build"]).exits_with(2);
    assert!(output.error().contains("not a git repository"), "{}", output.error());
    assert!(left(&workspace));
}

#[test]
fn since_asks_the_repository_of_the_workspace() {
    let workspace = Workspace::new().image("a", BASE).image("b", BASE).git();
    git(workspace.root(), &["commit", "-qm", "1"]);
    git(workspace.root(), &["tag", "start"]);
    workspace.write("src/b/new", "");
    let other = tempfile::tempdir().unwrap();
    git(other.path(), &["init", "-q"]);
    let other = other.path().join(".git");
    let elsewhere = [("GIT_DIR", other.to_str().unwrap()), ("GIT_WORK_TREE", "/")];
    let since = ["build", "-n", "--since", "start"];
    let output = workspace.xtask_with(&variables(&elsewhere), &since).exits_with(0);
    let row = "b  tt-b  stale  image missing in the engine\n";
    assert_eq!(output.stdout, format!("{row}1 of 1 image would be built\n"));
    let owner = variables(&[("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")]);
    let output = workspace.xtask_with(&owner, &since).exits_with(2);
    let words = "error: --since start: git rev-parse: fatal: detected dubious ownership in repository \
                 at '[ROOT]' To add an exception for this directory, call: git config --global \
                 --add safe.directory [ROOT]\n";
    assert_eq!(output.error(), words);
    let output = workspace.xtask_with(&variables(&[("PATH", "/none")]), &since).exits_with(2);
    let words = "error: --since start: [ROOT]/.git: git is not installed or not in PATH: install it, or add it to PATH";
    assert!(output.error().starts_with(words), "{}", output.error());
}

#[test]
fn since_sees_what_changed_in_other_repositories_below() {
    let library = Workspace::new().image("a", BASE).image("b", BASE).git();
    git(library.root(), &["commit", "-qm", "1"]);
    let workspace = Workspace::new()
        .image("c", BASE)
        .file(".gitignore", "src/d\n")
        .image("e", BASE)
        .file("src/e/build/inputs", "lib/src/a/*\n")
        .script("src/e/build/build-pre.sh", "#!/bin/sh\n")
        .git();
    let library = library.root().to_str().unwrap();
    git(workspace.root(), &["submodule", "--quiet", "add", library, "lib"]);
    git(workspace.root(), &["submodule", "--quiet", "add", library, "src/s"]);
    workspace.write("src/s/build/tt-s.dockerfile", BASE);
    git(&workspace.root().join("src/s"), &["add", "."]);
    git(&workspace.root().join("src/s"), &["commit", "-qm", "2"]);
    git(workspace.root(), &["add", "."]);
    git(workspace.root(), &["commit", "-qm", "1"]);
    let since = || {
        let output = workspace.xtask(&["build", "-n", "--since", "HEAD"]).exits_with(0);
        let rows = output.stdout.lines().filter(|line| line.contains("  "));
        let names = rows.filter_map(|line| line.split_whitespace().next());
        names.filter(|name| name.len() == 1).collect::<String>()
    };
    assert_eq!(since(), "");
    workspace.write("lib/src/a/file", "");
    assert_eq!(since(), "e");
    workspace.write("src/s/file", "");
    git(&workspace.root().join("src/s"), &["add", "."]);
    git(&workspace.root().join("src/s"), &["commit", "-qm", "3"]);
    assert_eq!(since(), "es");
    workspace.write("src/d/build/tt-d.dockerfile", BASE);
    assert_eq!(since(), "es", "git ignores it");
    git(&workspace.root().join("src/d"), &["init", "-q"]);
    assert_eq!(since(), "des");
}

#[test]
fn an_unknown_commit_is_no_unchanged_commit() {
    let hook = "#!/bin/sh\necho it ran\n";
    let workspace = Workspace::new()
        .image("a", BASE)
        .script("src/a/build/build-pre.sh", hook)
        .file("src/a/build/inputs", "git:HEAD\n");
    let ran = || {
        let output = workspace.xtask(&["build"]).exits_with(0);
        (output.stderr.contains("a | it ran"), output.stderr)
    };
    assert!(ran().0);
    assert!(!ran().0, "there is no repository: that is known");
    git(workspace.root(), &["init", "-q"]);
    assert!(!ran().0, "there is no commit: that is known too");
    git(workspace.root(), &["commit", "-q", "--allow-empty", "-m", "1"]);
    assert!(ran().0);
    assert!(!ran().0);
    fs::write(workspace.root().join(".git/HEAD"), "ref: refs/heads/x\n").unwrap();
    fs::write(workspace.root().join(".git/refs/heads/x"), "broken\n").unwrap();
    for _ in 0..2 {
        let (ran, words) = ran();
        assert!(ran, "{words}");
        let warning = "warning: src/a/build/inputs: git:HEAD cannot be read: git log: fatal: your \
                       current branch appears to be broken: hooks run at every build";
        assert_eq!(words.matches(warning).count(), 1, "{words}");
    }
}

#[test]
fn a_folder_of_outputs_in_which_somebody_works_stays_whole() {
    let hooks = ["[ -d src/a/lib ] || cp -a vendor src/a/lib", "cp -a vendor src/a/lib"];
    let edits = ["src/a/lib/one", "src/a/lib/mine", "src/a/lib/deep/mine"];
    for (hook, edit) in hooks.into_iter().flat_map(|hook| edits.map(|edit| (hook, edit))) {
        let workspace = Workspace::new()
            .file("vendor/one", "1")
            .file("vendor/deep/two", "2")
            .script("src/a/build/build-pre.sh", &format!("#!/bin/sh\n{hook}\n"))
            .image("a", "FROM scratch\nCOPY lib /\n");
        let _ = workspace.xtask(&["build"]).exits_with(0);
        let _ = workspace.xtask(&["build"]).exits_with(0);
        let path = workspace.write(edit, "mine");
        for _ in 0..3 {
            let output = workspace.xtask(&["build"]).exits_with(0);
            let warning = format!("{edit}: was added or changed since hooks wrote src/a/lib, so");
            assert!(output.stderr.contains(&warning), "{}", output.stderr);
            assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
            let tree = image_tree(&workspace.own("tt-a"));
            assert!(tree[edit.strip_prefix("src/a/lib/").unwrap()].ends_with("mine"));
            assert!(tree.contains_key("one") && tree.contains_key("deep/two"), "{tree:?}");
        }
    }
}

#[test]
fn an_output_that_is_something_else_now_leaves_nothing_aside() {
    let hook = "#!/bin/sh\n\
                if [ -e which ]; then echo f > src/a/out; else mkdir src/a/out; \
                date +%N > src/a/out/f; fi\n";
    let workspace = Workspace::new()
        .script("src/a/build/build-pre.sh", hook)
        .image("a", "FROM scratch\nCOPY out /out\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    workspace.write("which", "");
    for _ in 0..2 {
        let output = workspace.xtask(&["build"]).exits_with(0);
        assert!(!output.stderr.contains("warning"), "{}", output.stderr);
    }
    assert!(workspace.root().join("src/a/out").is_file());
}

/// Runs the binary where it is alone with what it mounts, after `mounts`; none where that
/// is not allowed.
fn with_mounts(workspace: &Workspace, mounts: &str, arguments: &str) -> Option<tests::Output> {
    let is_allowed = |unshare: &&[&str]| {
        let ended = Command::new(unshare[0]).args(&unshare[1..]).arg("true").output();
        ended.is_ok_and(|ended| ended.status.success())
    };
    let ways = [&["unshare", "--mount"][..], &["unshare", "--map-root-user", "--mount"]];
    let unshare = ways.into_iter().find(is_allowed)?;
    let script = format!("set -e; {mounts}; exec \"$0\" {}", workspace.own(arguments));
    let command = [unshare, &["sh", "-c", &script]].concat();
    Some(workspace.run(&mut workspace.command_below(&command)).finish())
}

const READ_ONLY: &str = "mount --bind target target; mount -o remount,bind,ro target";
const FULL: &str = "mount -t tmpfs -o size=64k none target; \
                    dd if=/dev/zero of=target/fill bs=4k count=100 2>/dev/null || true";

#[test]
fn a_target_that_cannot_be_written_is_a_warning() {
    for mounts in [READ_ONLY, FULL, "rm -r target; touch target"] {
        let workspace = two().file("src/b/text", "1");
        workspace.write("src/a/build/build-pre.sh", &KILLS.replace("kill -9 $PPID", "true"));
        fs::create_dir(workspace.root().join("target")).unwrap();
        let before = workspace.tree();
        for arguments in ["build", "build -n", "build --force", "graph --stale"] {
            let Some(output) = with_mounts(&workspace, mounts, arguments) else { return };
            let output = output.exits_with(0);
            let warnings = output.stderr.matches("cannot be written, so the next build").count();
            assert!(warnings < 2, "{mounts}: {arguments}: {}", output.stderr);
            assert_eq!(workspace.tree(), before, "{mounts}: {arguments}");
            if mounts.starts_with("rm") {
                fs::remove_file(workspace.root().join("target")).unwrap();
                fs::create_dir(workspace.root().join("target")).unwrap();
            }
        }
        assert!(image_tree(&workspace.own("tt-a"))["left"].ends_with("left\n"));
    }
}

#[test]
fn a_lock_that_can_only_be_read_locks_as_well() {
    let waits = "#!/bin/sh\necho waits\nwhile [ ! -e target/go ]; do sleep 0.1; done\n";
    let workspace = Workspace::new().image("a", BASE).script("src/a/build/build-pre.sh", waits);
    let mut first = workspace.start(&["build"]);
    first.wait_for("| waits");
    if let Some(refused) = with_mounts(&workspace, READ_ONLY, "build --no-wait") {
        let refused = refused.exits_with(1);
        assert!(refused.error().contains("the workspace is locked by "), "{}", refused.error());
    }
    first.signal(Signal::INT);
    let _ = first.finish().exits_with(130);
}

#[test]
fn a_trace_that_is_cut_off_proposes_nothing() {
    for (mounts, reason) in [(READ_ONLY, "Read-only file system"), (FULL, "No space left")] {
        let workspace = Workspace::new()
            .file("read", "1")
            .image("a", BASE)
            .script("src/a/build/build-pre.sh", "#!/bin/sh\ncat read\n")
            .file("target/keep", "");
        let Some(output) = with_mounts(&workspace, mounts, "inputs a") else { return };
        let output = output.exits_with(2);
        let words = "error: target/xtask: ";
        assert!(output.error().starts_with(words), "{}", output.error());
        assert!(output.error().contains(reason), "{}", output.error());
        assert_eq!(output.stdout, "");
    }
}

#[test]
fn what_the_user_puts_beside_what_a_killed_build_left_is_kept() {
    let hook = "#!/bin/sh -e\nmkdir -p src/a/generated\necho made > src/a/generated/made\n\
                touch target/started\nwhile [ ! -e target/go ]; do sleep 0.05; done\n";
    let workspace = Workspace::new()
        .script("src/a/build/build-pre.sh", hook)
        .image("a", "FROM scratch\nCOPY generated/made /\n");
    let running = workspace.start(&["build"]);
    let started = workspace.root().join("target/started");
    tests::wait_until("the hook", || started.exists());
    running.signal(rustix::process::Signal::KILL);
    drop(running.finish());
    workspace.write("src/a/generated/mine", "mine");
    workspace.write("target/go", "");
    let output = workspace.xtask(&["build"]).exits_with(0);
    let warning = "warning: src/a/generated: was left by a killed build: it was moved to \
                   target/xtask/removed/src/a/generated, and is kept there until this happens again";
    assert!(output.stderr.contains(warning), "{}", output.stderr);
    let kept = workspace.root().join("target/xtask/removed/src/a/generated/mine");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "mine");
}

/// Some save a file while a hook runs, others start a component as a copy of another one.
#[test]
fn a_folder_that_is_copied_while_a_hook_runs_is_kept() {
    let hook = "#!/bin/sh\n\
                if [ -e copies ]; then mkdir -p src/a/plugin; cp src/b/LICENSE src/b/code src/a/plugin; rm copies; fi\n\
                echo 1 > src/a/out\n";
    let workspace = Workspace::new()
        .file("src/b/LICENSE", "MIT License")
        .file("src/b/code", "code")
        .file("copies", "")
        .script("src/a/build/build-pre.sh", hook)
        .image("a", "FROM scratch\nCOPY . /\n");
    for _ in 0..4 {
        let _ = workspace.xtask(&["build"]).exits_with(0);
        for file in ["LICENSE", "code"] {
            assert!(workspace.root().join("src/a/plugin").join(file).exists(), "{file} is gone");
        }
    }
    assert!(image_tree(&workspace.own("tt-a")).contains_key("plugin/code"));
}

/// Of a folder that the hook copies, what it no longer copies goes.
#[test]
fn what_a_copy_no_longer_has_goes() {
    let workspace = Workspace::new()
        .file("vendor/one", "1")
        .file("vendor/two", "2")
        .script("src/a/build/build-pre.sh", "#!/bin/sh\ncp -a vendor src/a/lib\n")
        .image("a", "FROM scratch\nCOPY lib /\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    fs::remove_file(workspace.root().join("vendor/two")).unwrap();
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let tree = image_tree(&workspace.own("tt-a"));
    assert!(tree.contains_key("one") && !tree.contains_key("two"), "{tree:?}");
}

#[test]
fn edits_in_a_submodule_that_a_hook_checks_out_stay() {
    let library = tempfile::tempdir().unwrap();
    fs::create_dir(library.path().join("src")).unwrap();
    fs::write(library.path().join("src/code"), "1\n").unwrap();
    fs::write(library.path().join("README"), "2\n").unwrap();
    git(library.path(), &["init", "-q"]);
    git(library.path(), &["add", "."]);
    git(library.path(), &["commit", "-q", "-m", "1"]);
    let hook =
        "#!/bin/sh\ngit -c protocol.file.allow=always submodule update --init src/a/vendor\n";
    let workspace = Workspace::new()
        .file(".gitignore", "/target\n")
        .script("src/a/build/build-pre.sh", hook)
        .image("a", "FROM scratch\nCOPY . /\n");
    git(workspace.root(), &["init", "-q"]);
    let from = library.path().to_str().unwrap();
    git(workspace.root(), &["submodule", "-q", "add", from, "src/a/vendor"]);
    git(workspace.root(), &["add", "."]);
    git(workspace.root(), &["commit", "-q", "-m", "1"]);
    git(workspace.root(), &["submodule", "-q", "deinit", "-f", "src/a/vendor"]);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let code = workspace.write("src/a/vendor/src/code", "edited\n");
    for _ in 0..2 {
        let _ = workspace.xtask(&["build"]).exits_with(0);
        assert_eq!(fs::read_to_string(&code).unwrap(), "edited\n");
        assert!(workspace.root().join("src/a/vendor/.git").exists());
    }
}

#[test]
fn clean_refuses_what_git_tracks_and_what_is_aside() {
    let workspace = killed();
    fs::create_dir_all(workspace.root().join("src/a/dependency")).unwrap();
    workspace.write("src/a/dependency/mine", "mine");
    git(workspace.root(), &["init", "-q"]);
    git(workspace.root(), &["add", "-f", "src/a/dependency/mine"]);
    for arguments in [&["clean"][..], &["clean", "--state"], &["doctor", "--fix"]] {
        let output = workspace.xtask(arguments);
        assert_ne!(output.code, 0, "{arguments:?}");
        assert!(workspace.root().join("src/a/dependency/mine").exists(), "{arguments:?}");
    }
    let workspace = Workspace::new().image("a", BASE);
    workspace.write("target/xtask/aside/a/notes", "mine");
    let output = workspace.xtask(&["clean", "--state"]).exits_with(2);
    assert!(output.error().contains("target/xtask/aside: has files of components"), "{output:?}");
    assert!(workspace.root().join("target/xtask/aside/a/notes").exists());
}

#[test]
fn what_clean_just_moved_is_kept_when_it_removes_the_state() {
    let workspace = killed();
    workspace.write("src/a/generated/mine", "mine");
    let output = workspace.xtask(&["clean", "--state"]).exits_with(0);
    assert!(output.stderr.contains("it was moved to target/xtask/removed/"), "{}", output.stderr);
    let moved = workspace.root().join("target/xtask/removed/src/a/generated/mine");
    assert_eq!(fs::read_to_string(moved).unwrap(), "mine");
    let _ = workspace.xtask(&["build"]).exits_with(0);
}

/// As after `git clean -fd`, which leaves the record of a killed build.
#[test]
fn a_dependency_folder_of_the_users_is_not_lost_with_a_killed_build() {
    let workspace = killed();
    fs::remove_dir_all(workspace.root().join("src/a/dependency")).unwrap();
    workspace.write("src/a/dependency/mine", "mine");
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert!(output.stderr.contains("src/a/dependency: was left by a killed build"), "{output:?}");
    let moved = workspace.root().join("target/xtask/removed/src/a/dependency/mine");
    assert_eq!(fs::read_to_string(moved).unwrap(), "mine");
}

#[test]
fn what_is_mounted_in_a_temporary_folder_is_not_emptied() {
    let hook = "#!/bin/sh -e\nmkdir -p src/a/generated/cache\n\
                mount --bind precious src/a/generated/cache\n";
    let workspace = Workspace::new()
        .file("precious/file", "mine")
        .script("src/a/build/build-pre.sh", hook)
        .image("a", BASE);
    let Some(output) = with_mounts(&workspace, "true", "build") else { return };
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains("src/a/generated/cache is a mount point"), "{output:?}");
    assert!(workspace.root().join("precious/file").exists());
}

/// Its temporary folders are in the root, and not in that of the machine.
#[test]
fn the_root_can_be_a_component_with_hooks() {
    let toml = "[image.tt-root]\ndockerfile = \"Dockerfile\"\ndepends-on = [\"lib\"]\n\
                pre-build = [\"sh\", \"-c\", \"mkdir generated; cp dependency/lib/f generated/\"]\n\
                [image.tt-web]\ndockerfile = \"services/web/Dockerfile\"\n\
                [image.tt-lib]\ndockerfile = \"lib/Dockerfile\"\n";
    let workspace = Workspace::new()
        .file("xtask.toml", toml)
        .file("Dockerfile", "FROM scratch\nCOPY generated dependency/lib/f /\n")
        .file("lib/f", "of lib")
        .file("lib/Dockerfile", "FROM scratch\nCOPY f /\n")
        .file("services/web/f", "of web")
        .file("services/web/Dockerfile", "FROM scratch\nCOPY f out /\n")
        .script("services/web/build/build-pre.sh", "#!/bin/sh\necho out > services/web/out\n");
    for _ in 0..2 {
        let _ = workspace.xtask(&["build"]).exits_with(0);
    }
    assert!(image_tree(&workspace.own("tt-root"))["f"].ends_with("of lib"));
    for name in ["generated", "dependency", "out"] {
        assert!(!workspace.root().join(name).exists(), "{name}");
    }
    workspace.write("dependency/lib/f", "mine");
    let output = workspace.xtask(&["build"]).exits_with(2);
    assert!(output.error().contains("dependency: contains 1 file that no build created"));
    assert_eq!(fs::read_to_string(workspace.root().join("dependency/lib/f")).unwrap(), "mine");
}
