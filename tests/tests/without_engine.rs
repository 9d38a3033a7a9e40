//! What can be said while the engine cannot be reached.

use expect_test::expect;
use tests::{Answer, Detour, Workspace};

/// A workspace whose engine is reached by a way that ends when it is dropped.
fn built() -> (Workspace, Detour) {
    let way = Detour::start("nothing asks this", Answer::Never);
    let workspace = Workspace::new()
        .replace(&way.host(), "[ENGINE]")
        .env("DOCKER_HOST", &way.host())
        .with_box()
        .image("base", "FROM tt-box\nARG VERSION=1\nCOPY file /file-$VERSION\nRUN true\n")
        .file("src/base/file", "1")
        .image("web", "FROM tt-base\nCOPY . /web\n")
        .image("alone", "FROM scratch\nCOPY build /\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    (workspace, way)
}

#[test]
fn a_dry_run_tells_what_the_last_builds_left() {
    let (workspace, way) = built();
    let workspace = workspace.image("new", "FROM scratch\nLABEL x=1\n");
    drop(way);
    let output = workspace.xtask(&["build", "-n"]).exits_with(0);
    expect![[r#"
        warning: cannot connect to the engine at [ENGINE]: No such file or directory (os error 2). Start Docker, or point DOCKER_HOST or the Docker context at a running engine. What the last builds left counts as there
        alone  tt-alone  up to date
        base   tt-base   up to date
        new    tt-new    stale       never built here
        web    tt-web    up to date
        1 of 4 images would be built
    "#]]
    .assert_eq(&(output.stderr + &output.stdout));
    workspace.write("src/base/file", "2");
    let output = workspace.xtask(&["build", "-n"]).exits_with(0);
    expect![[r#"
        alone  tt-alone  up to date
        base   tt-base   stale       src/base/file changed
        new    tt-new    stale       never built here
        web    tt-web    stale       src/base/file changed; tt-base will be rebuilt
        3 of 4 images would be built
    "#]]
    .assert_eq(&output.stdout);
    let json = workspace.xtask(&["build", "-n", "--json"]).exits_with(0);
    assert!(json.stdout.contains("\"not_on_record\""), "{}", json.stdout);
    let graph = workspace.xtask(&["graph", "--stale"]).exits_with(0);
    expect![[r#"
        alone [tt-alone]          up to date
        new [tt-new]              stale       never built here
        web [tt-web]              stale       src/base/file changed; tt-base will be rebuilt
        └── base [tt-base]  FROM  stale       src/base/file changed
        3 of 4 images would be built
    "#]]
    .assert_eq(&graph.stdout);
    // Undone, it would be restored.
    workspace.write("src/base/file", "1");
    let output = workspace.xtask(&["build", "-n", "base"]).exits_with(0);
    assert!(output.stdout.contains("up to date"), "{}", output.stdout);
}

#[test]
fn nothing_else_is_judged_by_what_is_on_record() {
    let (workspace, way) = built();
    drop(way);
    for arguments in [&["build"][..], &["build", "-n", "--exit-code"], &["list"], &["push"]] {
        let output = workspace.xtask(arguments);
        assert!(output.code == 1 || output.code == 2, "{arguments:?}: {output:?}");
        assert!(output.stderr.contains("error: "), "{arguments:?}: {output:?}");
    }
    // What is wrong with the address is no absence.
    let workspace = workspace.env("DOCKER_HOST", "nonsense");
    let output = workspace.xtask(&["build", "-n"]).exits_with(1);
    assert!(output.stderr.contains("error: "), "{output:?}");
}

#[test]
fn other_engines_have_records_of_their_own() {
    let (workspace, _way) = built();
    let workspace = workspace.env("DOCKER_HOST", "unix:///none.sock");
    let output = workspace.xtask(&["build", "-n"]).exits_with(0);
    assert_eq!(output.stdout.matches("never built here").count(), 3, "{}", output.stdout);
}
