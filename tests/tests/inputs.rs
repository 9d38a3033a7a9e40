//! `inputs` tells what a component's hooks read, and whether it is declared.

use expect_test::expect;
use tests::{Output, Workspace};

/// The hook reads one file by name, a whole folder, a program, a variable, the commit
/// and the clock.
fn tree() -> Workspace {
    let hook = "#!/bin/sh -e\nmkdir -p src/a/generated\n\
                { cat version/number; cat shared/*.txt; sh tools/say.sh; echo \"$WORD\"; \
                git rev-parse --is-inside-work-tree; date; } > src/a/generated/out\n\
                cat src/a/own dependency 2>/dev/null || cat src/a/dependency/d/text\n";
    Workspace::new()
        .file("version/number", "1")
        .file("version/other", "1")
        .file("shared/one.txt", "1")
        .file("shared/two.txt", "1")
        .file("tools/say.sh", "echo said\n")
        .file("src/a/own", "1")
        .file("src/d/text", "1")
        .file("src/a/build/component.dep", "d\n")
        .script("src/a/build/build-pre.sh", hook)
        .image("a", "FROM scratch\nCOPY generated/out /out\n")
        .env("WORD", "word")
        .git()
}

fn inputs(workspace: &Workspace, arguments: &[&str]) -> Output {
    workspace.xtask(&[&["inputs", "a"], arguments].concat())
}

#[test]
fn it_prints_the_file_that_declares_what_hooks_read() {
    let workspace = tree();
    let before = workspace.tree();
    let output = inputs(&workspace, &[]).exits_with(0);
    expect![[r#"
        shared/**
        tools/say.sh
        version/number
        env:WORD
        git:HEAD
        # cannot be declared: the clock (it runs date)
    "#]]
    .assert_eq(&output.stdout);
    assert_eq!(workspace.tree(), before);
    workspace.write("src/a/build/inputs", &output.stdout);
    let _ = inputs(&workspace, &["--check"]).exits_with(0);
    assert!(workspace.xtask(&["build"]).exits_with(0).stderr.contains("a | up to date"));
}

#[test]
fn a_check_names_what_is_not_declared() {
    let workspace = tree();
    let output = inputs(&workspace, &["--check"]).exits_with(1);
    expect![[r#"
        error: src/a/build/inputs: does not exist: create it from the output of 'cargo xtask inputs a'
    "#]]
    .assert_eq(output.error());
    workspace.write("src/a/build/inputs", "shared/one.txt\n~git:HEAD\nversion/**\n");
    let output = inputs(&workspace, &["--check"]).exits_with(1);
    expect![[r#"
        error: src/a/build/inputs: hooks read an undeclared input: add 'shared/two.txt'
        src/a/build/inputs: hooks read an undeclared input: add 'tools/say.sh'
    "#]]
    .assert_eq(output.error());
}

#[test]
fn without_hooks_or_a_tracer_it_says_so() {
    let workspace = tree();
    let output = workspace.xtask(&["inputs", "d"]).exits_with(2);
    expect![[r#"
        error: 'd' has no hooks: there is nothing to declare
    "#]]
    .assert_eq(output.error());
    let output = inputs(&workspace.env("PATH", "/nowhere"), &[]).exits_with(2);
    expect![[r#"
        error: 'cargo xtask inputs' traces hooks with strace, which is not installed: install it (on Debian: 'apt-get install strace')
    "#]]
    .assert_eq(output.error());
}

/// What an image holds at `text`.
fn text(workspace: &Workspace) -> String {
    let files = tests::engine::image_files(&workspace.own("tt-a"));
    files["text"].rsplit(' ').next().unwrap_or_default().trim().to_owned()
}

/// A hook that reads through links: of a file, of a folder, of one in a folder, and out of the
/// workspace.
#[test]
fn what_a_declared_link_leads_to_is_an_input() {
    for (read, declared) in [
        ("link", "link"),
        ("config/version", "config/version"),
        ("config/dir/x", "config/dir/**"),
        ("config/dir/x", "config"),
        ("real-dir/inner/x", "real-dir/**"),
        ("outside", "*"),
    ] {
        let hook =
            format!("#!/bin/sh\nmkdir -p src/a/generated\ncat {read} > src/a/generated/text\n");
        let workspace = Workspace::new()
            .file("VERSION", "1")
            .file("real/x", "1")
            .file("real-dir/own", "")
            .file("config/own", "")
            .file("src/a/build/inputs", &format!("{declared}\n"))
            .script("src/a/build/build-pre.sh", &hook)
            .image("a", "FROM scratch\nCOPY generated/text /\n");
        let beside = tempfile::tempdir().unwrap();
        std::fs::write(beside.path().join("file"), "1").unwrap();
        for (target, link) in [
            ("VERSION", "link"),
            ("../VERSION", "config/version"),
            ("../real", "config/dir"),
            // Links can lead in circles.
            ("..", "config/up"),
            ("../config", "real/back"),
            ("../real", "real-dir/inner"),
            (beside.path().join("file").to_str().unwrap(), "outside"),
        ] {
            std::os::unix::fs::symlink(target, workspace.root().join(link)).unwrap();
        }
        let build = || workspace.xtask(&["build"]).exits_with(0);
        let _ = build();
        assert_eq!(build().built(), [""; 0], "{declared}");
        for path in ["VERSION", "real/x"] {
            workspace.write(path, "2");
        }
        std::fs::write(beside.path().join("file"), "2").unwrap();
        let _ = build();
        assert_eq!(text(&workspace), "2", "{declared}");
    }
}

#[test]
fn a_link_that_leads_elsewhere_now_is_another_input() {
    let hook = "#!/bin/sh\nmkdir -p src/a/generated\ncat current/n > src/a/generated/text\n";
    let workspace = Workspace::new()
        .file("v1/n", "1")
        .file("v2/n", "2")
        .script("src/a/build/build-pre.sh", hook)
        .image("a", "FROM scratch\nCOPY generated/text /\n");
    let link = workspace.root().join("current");
    std::os::unix::fs::symlink("v1", &link).unwrap();
    let proposal = inputs(&workspace, &[]).exits_with(0).stdout;
    assert_eq!(proposal, "current/n\n");
    workspace.write("src/a/build/inputs", &proposal);
    let _ = inputs(&workspace, &["--check"]).exits_with(0);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("v2", &link).unwrap();
    let _ = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(text(&workspace), "2");
}

#[test]
fn a_hook_that_is_a_link_counts_by_the_script() {
    let write = |text: &str| {
        format!("#!/bin/sh\nmkdir -p src/a/generated\necho {text} > src/a/generated/text\n")
    };
    let workspace = Workspace::new()
        .script("scripts/common.sh", &write("1"))
        .file("src/a/build/inputs", "# none\n")
        .image("a", "FROM scratch\nCOPY generated/text /\n");
    let link = workspace.root().join("src/a/build/build-pre.sh");
    std::os::unix::fs::symlink("../../../scripts/common.sh", link).unwrap();
    let _ = workspace.xtask(&["build"]).exits_with(0);
    workspace.write("scripts/common.sh", &write("2"));
    let _ = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(text(&workspace), "2");
}

#[test]
fn what_is_no_name_of_a_variable_is_an_error() {
    let workspace = tree();
    for line in ["env:", "env:A=B", "env: A B", "ENV:WORD", "Git:HEAD"] {
        workspace.write("src/a/build/inputs", &format!("version/**\n{line}\n"));
        let output = workspace.xtask(&["build", "-n"]).exits_with(2);
        assert!(output.error().contains("src/a/build/inputs:2: "), "{line}: {}", output.error());
    }
    workspace.write("src/a/build/inputs", "env: WORD\n~env: OTHER\n");
    let _ = workspace.xtask(&["build", "-n"]).exits_with(0);
}

#[test]
fn inputs_without_hooks_are_named() {
    let workspace = Workspace::new()
        .file("src/a/text", "")
        .file("src/a/build/inputs", "src/a/text\n")
        .image("a", "FROM scratch\nCOPY text /\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let output = workspace.xtask(&["build", "-n", "--exit-code"]).exits_with(0);
    let warning = "src/a/build/inputs: 'a' has no hooks, which these would be the inputs of";
    assert!(output.stderr.contains(warning), "{}", output.stderr);
}

#[test]
fn what_other_hooks_fill_during_a_round_is_no_input() {
    let hook = |name: &str| {
        format!(
            "#!/bin/sh\necho {name} runs\nmkdir -p images/{name}/generated\n\
             date +%N > images/{name}/generated/text\n"
        )
    };
    let toml = "[image.\"tt-{n}\"]\ndockerfile = \"images/{n}/Dockerfile\"\n";
    let workspace = Workspace::new()
        .file("xtask.toml", toml)
        .file("images/b/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
        .file("images/a/Dockerfile", "FROM tt-b\nCOPY Dockerfile /\n")
        .file("images/a/build/inputs", "images/**/*\n")
        .script("images/a/build/build-pre.sh", &hook("a"))
        .script("images/b/build/build-pre.sh", &hook("b"));
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert!(!output.stderr.contains("a runs"), "{}", output.stderr);
}

/// A program that Cargo built, also through a link.
#[test]
fn what_hooks_read_in_target_can_be_declared() {
    let hook =
        "#!/bin/sh\nmkdir -p src/a/generated\ncat target/out/v bin/v > src/a/generated/text\n";
    let workspace = Workspace::new()
        .file("target/out/v", "1")
        .file("target/bin/v", "1")
        .script("src/a/build/build-pre.sh", hook)
        .image("a", "FROM scratch\nCOPY generated/text /\n");
    std::os::unix::fs::symlink("target/bin", workspace.root().join("bin")).unwrap();
    let proposal = inputs(&workspace, &[]).exits_with(0).stdout;
    assert_eq!(proposal, "bin/v\ntarget/out/v\n");
    for declared in [&proposal, "target/out\nbin\n"] {
        workspace.write("src/a/build/inputs", declared);
        let _ = inputs(&workspace, &["--check"]).exits_with(0);
        let _ = workspace.xtask(&["build"]).exits_with(0);
        for path in ["target/out/v", "target/bin/v"] {
            let was = std::fs::read_to_string(workspace.root().join(path)).unwrap();
            workspace.write(path, &format!("{was}+"));
            let output = workspace.xtask(&["build"]).exits_with(0);
            assert_eq!(output.built(), ["a"], "{declared}: {path}");
            assert!(!output.stderr.contains("matches nothing"), "{}", output.stderr);
        }
    }
}

/// A build fills `target/`, so a glob for other files does not mean those in it.
#[test]
fn only_what_begins_with_target_leads_there() {
    let hook = "#!/bin/sh\necho it runs; mkdir -p src/a/generated; : > src/a/generated/text\n";
    let workspace = Workspace::new()
        .file("version.txt", "1")
        .file("src/a/build/inputs", "**/*.txt\n*\n")
        .script("src/a/build/build-pre.sh", hook)
        .image("a", "FROM scratch\nCOPY generated/text /\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    workspace.write("target/debug/version.txt", "2");
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert!(!output.stderr.contains("it runs"), "{}", output.stderr);
}

/// A hook that builds in `target/` reads there what it made, or would make again.
#[test]
fn what_a_hook_builds_in_target_is_no_input() {
    let hook = "#!/bin/sh\nmkdir -p target/out src/a/generated; : > target/out/lock\n\
                [ -e target/out/v ] || cat VERSION > target/out/v\n\
                cat VERSION target/out/v > src/a/generated/text\n";
    let workspace = Workspace::new()
        .file("VERSION", "1")
        .script("src/a/build/build-pre.sh", hook)
        .image("a", "FROM scratch\nCOPY generated/text /\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(inputs(&workspace, &[]).exits_with(0).stdout, "VERSION\n");
}

#[test]
fn what_can_never_be_an_input_is_an_error() {
    let workspace = tree();
    for (line, error) in [
        (".git/HEAD", "'.git/HEAD' can never be an input: use git:HEAD"),
        ("~.git/**", "'.git/**' can never be an input: use git:HEAD"),
        ("target/xtask/images", "'target/xtask/images' can never be an input: it is state"),
    ] {
        workspace.write("src/a/build/inputs", &format!("version/**\n{line}\n"));
        let output = workspace.xtask(&["build", "-n"]).exits_with(2);
        let error = format!("src/a/build/inputs:2: {error}");
        assert!(output.error().contains(&error), "{line}: {}", output.error());
    }
}
