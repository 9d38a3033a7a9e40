//! What a person sees on a terminal, wide and narrow.

use std::fs;

use expect_test::{Expect, expect};
use tests::{Terminal, Workspace};

/// Each needs the one before, so that their order does not depend on how long they take.
/// `slow`'s hook waits until `target/go` is there.
fn tree() -> Workspace {
    let waits = "#!/bin/sh\necho the last line that it wrote, which is a long one\n\
                 while [ ! -e target/go ]; do sleep 0.1; done\n";
    let one = "FROM scratch\nCOPY build /build\n";
    Workspace::new()
        .image("base", one)
        .image("plain", "FROM tt-base\nCOPY build /plain\n")
        .image("slow", one)
        .script("src/slow/build/build-pre.sh", waits)
        .file("src/slow/build/component.dep", "plain\n")
        .image("web", "FROM tt-slow\nCOPY --from=tt-plain /plain /plain\n")
}

fn while_it_runs(columns: u16, running: &Expect, done: &Expect) {
    let workspace = tree();
    let terminal = workspace.start_on_terminal(columns, &["build", "-j", "2"]);
    terminal.wait_for("2 done, 1 running, 1 waiting");
    terminal.wait_for("build-pre.sh the last");
    running.assert_eq(&without_cut(&terminal.screen()));
    workspace.write("target/go", "");
    let (code, screen) = terminal.finish();
    assert_eq!(code, 0, "{screen}");
    done.assert_eq(&screen);
}

/// How much fits into a line depends on how long things took.
fn without_cut(screen: &str) -> String {
    let lines = screen.lines().map(|line| match line.split_once("the last l") {
        Some((before, cut)) if cut.ends_with('…') => format!("{before}the last l…\n"),
        _ => format!("{line}\n"),
    });
    lines.collect()
}

#[test]
fn a_good_build_at_80_columns() {
    while_it_runs(
        80,
        &expect![[r#"
          base: tt-base: image missing in the engine
        ✓ base [TIME]
          plain: tt-plain: image missing in the engine
        ✓ plain [TIME]
        2 done, 1 running, 1 waiting · [TIME]
          slow [TIME] build-pre.sh the last line that it wrote, which is a long one
    "#]],
        &expect![[r#"
              base: tt-base: image missing in the engine
            ✓ base [TIME]
              plain: tt-plain: image missing in the engine
            ✓ plain [TIME]
              slow: tt-slow: image missing in the engine
            ✓ slow [TIME]
              web: tt-web: image missing in the engine
            ✓ web [TIME]
            4 built, 0 up to date, 0 failed in [TIME] (critical path base → plain → slow → web [TIME], [N] jobs on average)
        "#]],
    );
}

#[test]
fn a_good_build_at_40_columns() {
    while_it_runs(
        40,
        &expect![[r#"
              base: tt-base: image missing in the engine
            ✓ base [TIME]
              plain: tt-plain: image missing in the engine
            ✓ plain [TIME]
            2 done, 1 running, 1 waiting · [TIME]
              slow [TIME] build-pre.sh the last l…
        "#]],
        &expect![[r#"
              base: tt-base: image missing in the engine
            ✓ base [TIME]
              plain: tt-plain: image missing in the engine
            ✓ plain [TIME]
              slow: tt-slow: image missing in the engine
            ✓ slow [TIME]
              web: tt-web: image missing in the engine
            ✓ web [TIME]
            4 built, 0 up to date, 0 failed in [TIME] (critical path base → plain → slow → web [TIME], [N] jobs on average)
        "#]],
    );
}

fn failing(columns: u16) -> String {
    let workspace = Workspace::new()
        .with_box()
        // Another environment: engines run the same command of two builds only once.
        .image("base", "FROM tt-box\nENV TEST=tt-\n")
        .image("web", "FROM tt-base\nRUN echo first; echo second; exit 3\n")
        .image("after", "FROM tt-web\n");
    let (code, screen) = workspace.start_on_terminal(columns, &["build", "-j", "2"]).finish();
    assert_eq!(code, 1, "{screen}");
    screen
}

#[test]
fn a_failing_build_at_80_columns() {
    expect![[r#"
          base: tt-base: image missing in the engine
        ✓ base [TIME]
          web: tt-web: image missing in the engine
        error: src/web/build/tt-web.dockerfile:2: image 'tt-web' failed to build: process "/bin/sh -c echo first; echo second; exit 3" did not complete successfully: exit code: 3
          1 | FROM tt-base
        > 2 | RUN echo first; echo second; exit 3
        last log lines (target/xtask/logs/web.log):
            first
            second
        to reproduce: cargo xtask build -s web
        ✗ web failed after [TIME]
        - 1 not run because web failed: after
        1 built, 0 up to date, 1 failed, 1 not run in [TIME]
    "#]]
    .assert_eq(&failing(80));
}

#[test]
fn a_failing_build_at_40_columns() {
    expect![[r#"
          web: tt-web: image missing in the engine
        error: src/web/build/tt-web.dockerfile:2: image 'tt-web' failed to build: process "/bin/sh -c echo first; echo second; exit 3" did not complete successfully: exit code: 3
          1 | FROM tt-base
        > 2 | RUN echo first; echo second; exit 3
        last log lines (target/xtask/logs/web.log):
            first
            second
        to reproduce: cargo xtask build -s web
        ✗ web failed after [TIME]
        - 1 not run because web failed: after
        1 built, 0 up to date, 1 failed, 1 not run in [TIME]
    "#]]
    .assert_eq(&failing(40));
}

fn interrupted(columns: u16) -> String {
    let workspace = tree();
    let mut terminal: Terminal = workspace.start_on_terminal(columns, &["build", "-j", "2"]);
    terminal.wait_for("2 done, 1 running, 1 waiting");
    terminal.interrupt();
    let (code, screen) = terminal.finish();
    assert_eq!(code, 130, "{screen}");
    assert!(fs::metadata(workspace.root().join("src/slow/generated")).is_err());
    screen
}

#[test]
fn an_interrupted_build_at_80_columns() {
    expect![[r#"
          base: tt-base: image missing in the engine
        ✓ base [TIME]
          plain: tt-plain: image missing in the engine
        ✓ plain [TIME]
        - slow cancelled
        - 1 not run: web
        2 built, 0 up to date, 0 failed, 1 cancelled, 1 not run in [TIME] (critical path base → plain [TIME], [N] jobs on average)
        error: interrupted
    "#]]
    .assert_eq(&interrupted(80));
}

#[test]
fn an_interrupted_build_at_40_columns() {
    expect![[r#"
          base: tt-base: image missing in the engine
        ✓ base [TIME]
          plain: tt-plain: image missing in the engine
        ✓ plain [TIME]
        - slow cancelled
        - 1 not run: web
        2 built, 0 up to date, 0 failed, 1 cancelled, 1 not run in [TIME] (critical path base → plain [TIME], [N] jobs on average)
        error: interrupted
    "#]]
    .assert_eq(&interrupted(40));
}

#[test]
fn five_hundred_components_scroll_by() {
    let workspace = (0..500).fold(Workspace::new(), |workspace, number| {
        let hook = format!("src/c{number:03}/build/build-pre.sh");
        workspace.script(&hook, "#!/bin/sh\n")
    });
    let terminal = workspace.start_on_terminal(80, &["build"]);
    let (code, screen) = terminal.finish();
    assert_eq!(code, 0, "{screen}");
    let last = screen.lines().last().unwrap();
    assert!(last.starts_with("0 built, 500 up to date, 0 failed in "), "{screen}");
    assert!(screen.contains("= c499 up to date"), "{screen}");
}

fn while_it_is_watched(columns: u16, looked: &Expect, failed: &Expect) {
    let workspace = tree();
    workspace.write("target/go", "");
    let mut terminal = workspace.start_on_terminal(columns, &["watch", "-j", "1", "--clear"]);
    terminal.wait_for("watching 4");
    terminal.press("?g");
    terminal.wait_for("← plain, slow");
    looked.assert_eq(&terminal.screen());
    terminal.press("p");
    terminal.wait_for("paused (4");
    workspace.write("src/plain/build/tt-plain.dockerfile", "FROM tt-base\nCOPY none /\n");
    terminal.press("p");
    terminal.wait_for("1 failed");
    terminal.wait_for("watching 4");
    workspace.write("src/plain/build/tt-plain.dockerfile", "FROM tt-base\nCOPY build /plain\n");
    terminal.wait_for("0 failed");
    terminal.wait_for("watching 4");
    // That which failed is mended.
    terminal.press("l");
    terminal.wait_for("no failures");
    failed.assert_eq(&terminal.screen());
    terminal.press("\n");
    terminal.wait_for("0 built");
    terminal.press("f");
    terminal.wait_for("4 built");
    terminal.press("q");
    assert_eq!(terminal.finish().0, 0);
}

#[test]
fn a_watch_at_80_columns() {
    while_it_is_watched(
        80,
        &expect![[r#"
            ✓ base [TIME]
              plain: tt-plain: image missing in the engine
            ✓ plain [TIME]
              slow: tt-slow: image missing in the engine
            ✓ slow [TIME]
              web: tt-web: image missing in the engine
            ✓ web [TIME]
            4 built, 0 up to date, 0 failed in [TIME] (critical path base → plain → slow → web [TIME], [N] jobs on average)
            Enter  build what is stale
            f      rebuild everything
            p      pause or resume
            l      show the last failures
            g      show all components
            q      quit
            ✓ base  built
            ✓ plain built ← base
            ✓ slow  built ← plain
            ✓ web   built ← plain, slow
            4 built [TIME] ago · watching 4 components · ? for keys
        "#]],
        &expect![[r#"
            = base up to date
            = plain up to date
            = slow up to date
            = web up to date
            0 built, 4 up to date, 0 failed in [TIME]
            no failures
            all up to date [TIME] ago · watching 4 components · ? for keys
        "#]],
    );
}

#[test]
fn a_watch_at_40_columns() {
    while_it_is_watched(
        40,
        &expect![[r#"
              slow: tt-slow: image missing in the engine
            ✓ slow [TIME]
              web: tt-web: image missing in the engine
            ✓ web [TIME]
            4 built, 0 up to date, 0 failed in [TIME] (critical path base → plain → slow → web [TIME], [N] jobs on average)
            Enter  build what is stale
            f      rebuild everything
            p      pause or resume
            l      show the last failures
            g      show all components
            q      quit
            ✓ base  built
            ✓ plain built ← base
            ✓ slow  built ← plain
            ✓ web   built ← plain, slow
            4 built [TIME] ago · watching 4 componen…
        "#]],
        &expect![[r#"
            = base up to date
            = plain up to date
            = slow up to date
            = web up to date
            0 built, 4 up to date, 0 failed in [TIME]
            no failures
            all up to date [TIME] ago · watching 4 c…
        "#]],
    );
}
