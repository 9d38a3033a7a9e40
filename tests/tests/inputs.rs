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
