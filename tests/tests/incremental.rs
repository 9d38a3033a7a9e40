//! A build does nothing that is not needed and misses nothing that is.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use expect_test::expect;
use tests::Workspace;
use tests::engine::{cli_build, docker, image_config, image_tree, remove_image};

const BASE: &str = "FROM scratch\nCOPY text /text\n";

/// a ← b ← c by `FROM`, d on its own, e takes a's folder.
fn chain() -> Workspace {
    Workspace::new()
        .image("a", BASE)
        .image("b", "FROM tt-a\nARG WORD=none\nLABEL word=$WORD\nCOPY text /b\n")
        .image("c", "FROM tt-b\nCOPY text /c\n")
        .image("d", BASE)
        .image("e", "FROM scratch\nCOPY dependency/a/text /e\n")
        .file("src/e/build/component.dep", "a\n")
        .file("src/e/.dockerignore", "*.md\ndependency/a/notes.md\n")
        .file("src/a/text", "a")
        .file("src/b/text", "b")
        .file("src/c/text", "c")
        .file("src/d/text", "d")
}

fn built(workspace: &Workspace, arguments: &[&str]) -> Vec<String> {
    let output = workspace.xtask(&[&["build"], arguments].concat()).exits_with(0);
    output.built_by_name().into_iter().map(str::to_owned).collect()
}

const NOTHING: [&str; 0] = [];

#[test]
fn an_edit_rebuilds_what_it_reaches_and_nothing_else() {
    let workspace = chain();
    assert_eq!(built(&workspace, &[]), ["a", "b", "c", "d", "e"]);
    assert_eq!(built(&workspace, &[]), NOTHING);
    workspace.write("src/b/text", "B");
    assert_eq!(built(&workspace, &[]), ["b", "c"]);
    workspace.write("src/a/text", "A");
    assert_eq!(built(&workspace, &[]), ["a", "b", "c", "e"]);
    assert!(image_tree(&workspace.own("tt-c"))["text"].ends_with('A'));
    workspace.write("src/d/text", "D");
    assert_eq!(built(&workspace, &["-s", "c"]), NOTHING);
    assert_eq!(built(&workspace, &["-s", "d"]), ["d"]);
}

#[test]
fn contents_decide_and_not_times() {
    let workspace = chain();
    built(&workspace, &[]);
    let path = workspace.root().join("src/d/text");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    workspace.write("src/d/text", "d");
    assert_eq!(built(&workspace, &[]), NOTHING);
    workspace.write("src/d/text", "x");
    fs::File::open(&path).unwrap().set_modified(modified).unwrap();
    assert_eq!(built(&workspace, &[]), ["d"]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(built(&workspace, &[]), ["d"]);
}

#[test]
fn what_is_ignored_and_what_no_dockerfile_declares_changes_nothing() {
    let workspace = chain();
    built(&workspace, &[]);
    workspace.write("src/e/notes.md", "x");
    assert_eq!(built(&workspace, &[]), NOTHING);
    assert_eq!(built(&workspace, &["--build-arg", "OTHER=1"]), NOTHING);
    assert_eq!(built(&workspace, &["--build-arg", "WORD=1"]), ["b", "c"]);
    assert_eq!(built(&workspace, &["--build-arg", "WORD=1"]), NOTHING);
}

#[test]
fn what_happens_in_the_engine_behind_our_back_is_seen() {
    let workspace = chain().with_box();
    built(&workspace, &[]);
    let [a, b, d] = ["tt-a", "tt-b", "tt-d"].map(|name| workspace.own(name));
    remove_image(&d);
    assert_eq!(built(&workspace, &[]), ["d"]);
    docker(&["tag", &a, &d]);
    assert_eq!(built(&workspace, &[]), NOTHING, "the right one lost its name and gets it back");
    assert!(image_tree(&d)["text"].ends_with('d'));
    docker(&["tag", &workspace.own("tt-box"), &d]);
    assert!(!image_tree(&d).contains_key("text"));
    built(&workspace, &[]);
    assert!(image_tree(&d)["text"].ends_with('d'));
    docker(&["tag", &b, &workspace.own("tt-kept")]);
    docker(&["rmi", &b]);
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(output.built(), NOTHING, "it was there under another name");
    docker(&["image", "inspect", &b]);
}

#[test]
fn an_image_made_from_ours_does_not_pass_for_it() {
    let workspace = chain().file("derived/Dockerfile", "FROM tt-a\nCOPY Dockerfile /text\n");
    built(&workspace, &["-s", "a"]);
    let a = workspace.own("tt-a");
    cli_build(&workspace.root().join("derived"), "Dockerfile", &a, &[]);
    let output = workspace.xtask(&["build", "-s", "a"]).exits_with(0);
    assert!(image_tree(&a)["text"].ends_with('a'), "{}", output.stderr);
}

#[test]
fn without_the_state_folder_the_labels_decide() {
    let workspace = chain();
    built(&workspace, &[]);
    fs::remove_dir_all(workspace.root().join("target")).unwrap();
    assert_eq!(built(&workspace, &[]), NOTHING);
    workspace.write("target/xtask/records", "{\"format\":");
    assert_eq!(built(&workspace, &[]), NOTHING);
}

#[test]
fn a_base_that_moved_rebuilds_what_is_made_from_it() {
    let workspace = Workspace::new()
        .with_box()
        .image("a", "FROM tt-box\nLABEL a=1\n")
        .image("b", "FROM tt-a\nLABEL b=1\n")
        .image("c", "FROM scratch\nCOPY build /build\n");
    built(&workspace, &[]);
    // An image of another id that holds the same is no other base.
    let workspace = workspace.with_box();
    assert_eq!(built(&workspace, &[]), NOTHING);
    let changed = workspace.with_other_box();
    let output = changed.xtask(&["build"]).exits_with(0);
    assert_eq!(output.built(), ["a", "b"]);
    assert!(output.stderr.contains("image tt-a: base tt-box moved ("), "{}", output.stderr);
}

#[test]
fn a_failed_build_is_tried_again_and_what_succeeded_is_not() {
    let workspace = chain();
    workspace.write("src/c/build/tt-c.dockerfile", "FROM tt-b\nCOPY nothing /c\n");
    let _ = workspace.xtask(&["build", "--keep-going"]).exits_with(1);
    workspace.write("src/c/build/tt-c.dockerfile", "FROM tt-b\nCOPY text /c\n");
    assert_eq!(built(&workspace, &[]), ["c"]);
}

#[test]
fn a_hook_runs_and_what_it_made_decides() {
    let hook = "#!/bin/sh\nmkdir -p src/a/generated\ncp outside src/a/generated/text\necho ran\n";
    let workspace = Workspace::new()
        .file("outside", "1")
        .script("src/a/build/build-pre.sh", hook)
        .image("a", "FROM scratch\nCOPY generated/text /text\n");
    assert_eq!(built(&workspace, &[]), ["a"]);
    let again = workspace.xtask(&["build"]).exits_with(0);
    assert!(again.stderr.contains("| ran") && again.built().is_empty(), "{}", again.stderr);
    workspace.write("outside", "2");
    assert_eq!(built(&workspace, &[]), ["a"]);
    assert!(image_tree(&workspace.own("tt-a"))["text"].ends_with('2'));
}

#[test]
fn two_checkouts_agree_whatever_the_umask() {
    let one = Workspace::new().image("a", BASE).file("src/a/text", "a");
    let two = one.copy();
    let text = two.root().join("src/a/text");
    fs::set_permissions(text, fs::Permissions::from_mode(0o664)).unwrap();
    assert_eq!(built(&one, &[]), ["a"]);
    assert_eq!(built(&two, &[]), NOTHING);
}

/// The hook counts its runs, reads what it declares, and gives to `b`.
fn declared(inputs: &str) -> Workspace {
    let hook = "#!/bin/sh -e\necho ran\nmkdir -p src/a/generated\n\
                cat shared/*.txt > src/a/generated/text\necho \"$WORD\" >> src/a/generated/text\n";
    Workspace::new()
        .file("shared/one.txt", "1")
        .file("shared/notes.md", "n")
        .file("src/a/build/inputs", inputs)
        .script("src/a/build/build-pre.sh", hook)
        .image("a", "FROM scratch\nCOPY generated/text /text\n")
        .image("b", "FROM scratch\nCOPY dependency/a/generated/text /text\nCOPY own /own\n")
        .file("src/b/build/component.dep", "a")
        .file("src/b/own", "1")
}

fn hook_runs(workspace: &Workspace) -> bool {
    workspace.xtask(&["build"]).exits_with(0).stderr.contains("a | ran")
}

#[test]
fn a_hook_that_declares_its_inputs_runs_only_when_they_change() {
    let workspace = declared("# what it reads\nshared\n!shared/*.md\nenv:WORD\n");
    assert!(hook_runs(&workspace));
    assert!(!hook_runs(&workspace));
    workspace.write("shared/notes.md", "changed");
    assert!(!hook_runs(&workspace));
    workspace.write("shared/one.txt", "2");
    assert!(hook_runs(&workspace));
    assert!(!hook_runs(&workspace));
    workspace.write("shared/two.txt", "3");
    assert!(hook_runs(&workspace));
    assert!(image_tree(&workspace.own("tt-b"))["text"].contains("23"));
    let workspace = workspace.env("WORD", "other");
    assert!(hook_runs(&workspace));
    assert!(image_tree(&workspace.own("tt-b"))["text"].ends_with("other\n"));
    remove_image(&workspace.own("tt-a"));
    assert!(hook_runs(&workspace));
}

#[test]
fn what_a_skipped_hook_made_is_there_for_a_stale_dependent() {
    let workspace = declared("shared/**\nenv:WORD\n");
    let before = workspace.tree();
    assert!(hook_runs(&workspace));
    workspace.write("src/b/own", "2");
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert!(!output.stderr.contains("a | ran"));
    assert_eq!(output.built(), ["b"]);
    assert!(image_tree(&workspace.own("tt-b"))["text"].ends_with("1\n"));
    workspace.write("src/b/own", "1");
    assert_eq!(workspace.tree(), before);
}

#[test]
fn a_hook_that_writes_into_its_own_tree_settles() {
    let hook = "#!/bin/sh\necho ran\ncp shared/one.txt src/a/written\n";
    let workspace = Workspace::new()
        .file("shared/one.txt", "1")
        .file("src/a/build/inputs", "shared/one.txt\n")
        .script("src/a/build/build-pre.sh", hook)
        .image("a", "FROM scratch\nCOPY written /text\n");
    let runs = [hook_runs(&workspace), hook_runs(&workspace), hook_runs(&workspace)];
    assert_eq!(runs, [true, false, false]);
}

#[test]
fn a_hook_that_changes_its_source_at_every_run_is_named() {
    let hook = "#!/bin/sh\necho more >> src/a/log\n";
    let workspace = Workspace::new()
        .file("src/a/log", "first\n")
        .script("src/a/build/build-pre.sh", hook)
        .image("a", "FROM scratch\nCOPY log /text\n");
    let warning = "warning: src/a/build/build-pre.sh: changed src/a/log in this run";
    let warned = |workspace: &Workspace| {
        let output = workspace.xtask(&["build"]).exits_with(0);
        assert_eq!(output.built(), ["a"], "what is built is what the tree holds then");
        output.stderr.contains(warning)
    };
    assert_eq!([warned(&workspace), warned(&workspace), warned(&workspace)], [false, true, true]);
}

#[test]
fn edits_that_hooks_pass_on_are_not_warned_of() {
    let hook = "#!/bin/sh\ncat outside > src/a/text\n";
    let workspace = Workspace::new()
        .file("outside", "1")
        .file("src/a/text", "0")
        .script("src/a/build/build-pre.sh", hook)
        .image("a", "FROM scratch\nCOPY text /text\n");
    for text in ["2", "3", "4"] {
        workspace.write("outside", text);
        let output = workspace.xtask(&["build"]).exits_with(0);
        assert_eq!(output.built(), ["a"]);
        // Podman's builder is warned of.
        let mut warnings = output.stderr.lines().filter(|line| line.starts_with("warning: "));
        let is_hooks = |line: &str| !line.contains("images are built with the classic builder");
        assert!(!warnings.any(is_hooks), "{}", output.stderr);
    }
}

#[test]
fn a_hook_that_copies_into_itself_copies_the_same_each_time() {
    let hook = "#!/bin/sh\ncp -a version src/a/version\n";
    let workspace = Workspace::new()
        .file("version/number", "1")
        .script("src/a/build/build-pre.sh", hook)
        .image("a", "FROM scratch\nCOPY version /version\n");
    let counts = [(); 3].map(|()| built(&workspace, &[]).len());
    assert_eq!(counts, [1, 0, 0]);
    workspace.write("version/number", "2");
    assert_eq!(built(&workspace, &[]), ["a"]);
    let tree = image_tree(&workspace.own("tt-a"));
    assert!(tree["version/number"].ends_with('2'));
    assert!(!tree.contains_key("version/version"), "{:?}", tree.keys());
}

/// All of a component whose hook copies `version/` into it.
fn copying() -> Workspace {
    Workspace::new()
        .file("version/number", "1")
        .script("src/a/build/build-pre.sh", "#!/bin/sh\ncp -a version src/a/version\n")
        .image("a", "FROM scratch\nCOPY . /\n")
}

/// After `workspace` was built twice and the version changed, an image has the new one alone.
fn has_one_version(workspace: &Workspace, image: &str) {
    built(workspace, &[]);
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(output.built(), NOTHING);
    assert!(!output.stderr.contains("warning"), "{}", output.stderr);
    workspace.write("version/number", "2");
    built(workspace, &[]);
    let tree = image_tree(&workspace.own(image));
    assert!(tree["version/number"].ends_with('2'), "{tree:?}");
    assert!(!tree.contains_key("version/version"), "{:?}", tree.keys());
}

#[test]
fn what_is_left_out_of_images_in_part_is_no_cache() {
    has_one_version(
        &copying().file("version/notes.md", "").file("src/a/.dockerignore", "**/*.md\n"),
        "tt-a",
    );
}

#[test]
fn what_dependents_get_is_no_cache() {
    let workspace = copying()
        .file("src/a/.dockerignore", "version\n")
        .image("b", "FROM scratch\nCOPY dependency/a /\n")
        .file("src/b/build/component.dep", "a\n");
    has_one_version(&workspace, "tt-b");
}

#[test]
fn a_cache_stays_where_it_is() {
    let hook = "#!/bin/sh\nmkdir -p src/a/cache/d\n[ -e src/a/cache/d/f ] || echo ran\n\
                echo $$ > src/a/cache/d/f\n";
    let workspace = Workspace::new()
        .file("src/a/.dockerignore", "cache/**\n")
        .script("src/a/build/build-pre.sh", hook)
        .image("a", "FROM scratch\nCOPY . /\n");
    assert_eq!([(); 3].map(|()| hook_runs(&workspace)), [true, false, false]);
}

#[test]
fn what_hooks_left_is_put_aside_on_another_file_system_too() {
    let target = tempfile::tempdir_in("/dev/shm").unwrap();
    let workspace = copying();
    std::os::unix::fs::symlink("number", workspace.root().join("version/link")).unwrap();
    std::os::unix::fs::symlink(target.path(), workspace.root().join("target")).unwrap();
    has_one_version(&workspace, "tt-a");
}

#[test]
fn what_hooks_left_may_have_a_name_that_is_not_utf_8() {
    let hook = "#!/bin/sh\ncp -a version src/a/version\n\
                touch \"$(printf 'src/a/version/\\377')\"\n";
    has_one_version(&copying().script("src/a/build/build-pre.sh", hook), "tt-a");
}

#[test]
fn what_a_post_hook_makes_is_no_source() {
    for pre in ["", "#!/bin/sh\n"] {
        let hook = "#!/bin/sh\ncp -a version src/a/version\ndate +%N > src/a/when\n";
        let workspace = copying().script("src/a/build/build-post.sh", hook);
        match pre {
            "" => {
                fs::remove_file(workspace.root().join("src/a/build/build-pre.sh")).unwrap();
            }
            pre => drop(workspace.write("src/a/build/build-pre.sh", pre)),
        }
        built(&workspace, &[]);
        for _ in 0..2 {
            if pre.is_empty() {
                for question in [&["build", "-n"][..], &["graph", "--stale"]] {
                    let output = workspace.xtask(question).exits_with(0);
                    assert!(output.stdout.contains("up to date"), "{}", output.stdout);
                }
            }
            let output = workspace.xtask(&["build"]).exits_with(0);
            assert_eq!(output.built(), NOTHING, "{}", output.stderr);
            assert!(!output.stderr.contains("warning"), "{}", output.stderr);
        }
        assert!(workspace.root().join("src/a/when").exists());
        assert!(!image_tree(&workspace.own("tt-a")).contains_key("when"));
    }
}

#[test]
fn a_hook_that_moves_its_source_once_is_not_said_to_do_so_each_time() {
    let hook = "#!/bin/sh\n[ ! -e src/a/one ] || mv src/a/one src/a/two\n";
    let workspace = Workspace::new()
        .file("src/a/one", "1")
        .script("src/a/build/build-pre.sh", hook)
        .image("a", "FROM scratch\nCOPY . /\n");
    built(&workspace, &[]);
    for _ in 0..2 {
        let output = workspace.xtask(&["build"]).exits_with(0);
        assert_eq!(output.built(), NOTHING);
        assert!(!output.stderr.contains("rebuilt every time"), "{}", output.stderr);
    }
}

#[test]
fn an_input_marked_with_a_tilde_alone_is_no_reason() {
    let workspace = declared("shared/one.txt\n~shared/two.txt\n").file("shared/two.txt", "2");
    assert!(hook_runs(&workspace));
    workspace.write("shared/two.txt", "3");
    assert!(!hook_runs(&workspace));
    workspace.write("shared/one.txt", "4");
    assert!(hook_runs(&workspace));
    assert!(image_tree(&workspace.own("tt-b"))["text"].contains("43"));
}

#[test]
fn the_commit_can_be_an_input() {
    let workspace = declared("shared/**\ngit:HEAD\n").file(".gitignore", "/target\n").git();
    let commit = |workspace: &Workspace| {
        let who = ["-c", "user.name=t", "-c", "user.email=t@localhost"];
        let arguments = ["commit", "-q", "--allow-empty", "-m", "one"];
        let mut git = std::process::Command::new("git");
        assert!(
            git.current_dir(workspace.root()).args(who).args(arguments).status().unwrap().success()
        );
    };
    commit(&workspace);
    assert!(hook_runs(&workspace));
    assert!(!hook_runs(&workspace));
    commit(&workspace);
    assert!(hook_runs(&workspace));
}

#[test]
fn forced_builds_build_what_is_named_and_nothing_else() {
    let workspace = chain();
    built(&workspace, &[]);
    assert_eq!(built(&workspace, &["--force", "-s", "b"]), ["b"]);
    assert_eq!(built(&workspace, &["--force", "-s", "d"]), ["d"]);
}

#[test]
fn an_input_that_is_not_there_is_warned_of_and_a_wrong_one_refused() {
    let workspace = declared("shared\nnone/*.txt\n");
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert!(output.stderr.contains("warning: src/a/build/inputs:2: matches nothing"));
    workspace.write("src/a/build/inputs", "../x\n[a\ngit:tag\n");
    let output = workspace.xtask(&["build"]).exits_with(2);
    expect_test::expect![[r#"
        error: src/a/build/inputs:1: '../x' is not below the workspace root: use a relative path without '..'
        src/a/build/inputs:2: '[a' is not a glob: unclosed character class; missing ']'
        src/a/build/inputs:3: unknown git input: the only one is git:HEAD
    "#]]
    .assert_eq(output.error());
}

#[test]
fn an_arg_counts_by_what_others_before_the_first_from_are_made_of_it() {
    let workspace = Workspace::new().image(
        "a",
        "ARG VERSION=1\nARG PREFIX=v$VERSION\nARG FULL=${PREFIX}.0\nFROM scratch\nARG FULL\n\
         LABEL full=$FULL\nCOPY build /\n",
    );
    let _ = workspace.xtask(&["build"]).exits_with(0);
    for (argument, label) in [("VERSION=2", "v2.0"), ("PREFIX=w3", "w3.0")] {
        let output = workspace.xtask(&["build", "--build-arg", argument]).exits_with(0);
        assert_eq!(output.built(), ["a"], "{argument}: {}", output.stderr);
        assert_eq!(image_config(&workspace.own("tt-a"))["Labels"]["full"], label);
    }
}

/// Hooks may run images of what their component depends on.
#[test]
fn hooks_run_again_when_an_image_of_a_dependency_is_another() {
    let workspace = Workspace::new()
        .image("base", "FROM scratch\nCOPY f /\n")
        .file("src/base/f", "1")
        .image("tool", "FROM tt-base\nCOPY build /\n")
        .image("app", "FROM scratch\nCOPY generated /\n")
        .file("src/app/build/component.dep", "tool\n")
        .file("src/app/build/inputs", "# nothing else\n");
    let hook = "#!/bin/sh\nset -e\nmkdir -p src/app/generated\n\
                docker image inspect --format '{{.Id}}' tt-tool > src/app/generated/id\n";
    let hook = hook.replace("tt-tool", &workspace.own("tt-tool"));
    let workspace = workspace.script("src/app/build/build-pre.sh", &hook);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(workspace.xtask(&["build"]).exits_with(0).built(), [""; 0]);
    workspace.write("src/base/f", "2");
    assert_eq!(workspace.xtask(&["build"]).exits_with(0).built(), ["base", "tool", "app"]);
    assert_eq!(workspace.xtask(&["build"]).exits_with(0).built(), [""; 0]);
}

#[test]
fn an_image_that_the_flavor_does_not_have_is_no_external_base() {
    let workspace = Workspace::new()
        .file("src/b/build/tt-b.k8s.dockerfile", "FROM scratch\nCOPY build /\n")
        .image("d", "FROM tt-b\nCOPY build /\n")
        .image("e", "FROM scratch\nCOPY build /\n");
    let _ = workspace.xtask(&["build", "--flavor", "k8s"]).exits_with(0);
    let output = workspace.xtask(&["build", "--flavor", "yarn"]).exits_with(2);
    expect![[r#"
        error: src/d/build/tt-d.dockerfile:1: 'tt-b' has no Dockerfile for the flavor yarn, only for k8s
    "#]]
    .assert_eq(output.error());
    let _ = workspace.xtask(&["build", "--flavor", "yarn", "e"]).exits_with(0);
}
