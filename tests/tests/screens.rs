//! What a person sees on a terminal while much goes on: logs of all kinds, resized windows,
//! and the status of `watch`.

use std::fs;

use tests::engine::{docker, remove_image};
use tests::{Terminal, Workspace};

/// What terminals, fonts and libraries disagree about.
const NASTY: &str = "tab\\there 構築中です 한국어 👨‍👩‍👧‍👦 👍🏽 🇩🇪 ❤️ e\\u0301\\u0301 \
                     שלום ﷺ नमस्ते \\a\\b\\033[5A\\033[31mred\\033[0m";

/// A component whose hook writes `NASTY` again and again until `target/go` is there, and one
/// with an instruction of the same kind.
fn nasty() -> Workspace {
    let hook = format!(
        "#!/bin/bash\nfor n in $(seq 40); do printf '{NASTY} %s {NASTY}\\n' $n; done\n\
         while [ ! -e target/go ]; do printf '{NASTY}\\n'; sleep 0.05; done\n"
    );
    let run = "RUN printf '\ttab\t構築中です 👨‍👩‍👧‍👦 and much more that does not fit into a line of \
               eighty columns'; echo tt-; sleep 2\n";
    Workspace::new()
        .with_box()
        .file("src/構築-web/build/tt-web.dockerfile", "FROM scratch\nCOPY build /\n")
        .script("src/構築-web/build/build-pre.sh", &hook)
        .image("other", &format!("FROM tt-box\n{run}"))
        .image("failing", "FROM scratch\nCOPY none /\n")
}

/// How many lines of the screen have a text.
fn count(terminal: &Terminal, text: &str) -> usize {
    terminal.screen().lines().filter(|line| line.contains(text)).count()
}

fn nothing_strays_at(columns: u16) {
    let workspace = nasty();
    let mut terminal =
        workspace.start_on_terminal(columns, &["build", "--keep-going", "--color", "always"]);
    terminal.wait_for("1 failed");
    terminal.wait_for("構築-web");
    terminal.wait_for_redraws(" done, ", 10);
    assert_eq!(count(&terminal, " done, "), 1, "{}", terminal.screen());
    assert_eq!(count(&terminal, "  構築-web "), 1, "{}", terminal.screen());
    assert!(terminal.is_red("1 failed"), "{}", terminal.screen());
    if columns >= 80 {
        // The line that the hook wrote last, however long the rest is.
        assert_eq!(count(&terminal, "build-pre.sh tab     here 構築"), 1, "{}", terminal.screen());
    }
    terminal.resize(columns / 2);
    terminal.wait_for_redraws(" done, ", 10);
    assert_eq!(count(&terminal, " done, "), 1, "{}", terminal.screen());
    terminal.resize(columns);
    terminal.wait_for_redraws(" done, ", 10);
    assert_eq!(count(&terminal, " done, "), 1, "{}", terminal.screen());
    workspace.write("target/go", "");
    let (code, screen) = terminal.finish();
    assert_eq!(code, 1, "{screen}");
    assert!(!screen.contains(" done, "), "{screen}");
    assert_eq!(screen.matches("2 built, 0 up to date, 1 failed").count(), 1, "{screen}");
}

#[test]
fn no_log_and_no_dockerfile_leaves_stray_lines_at_40_columns() {
    nothing_strays_at(40);
}

#[test]
fn no_log_and_no_dockerfile_leaves_stray_lines_at_80_columns() {
    nothing_strays_at(80);
}

#[test]
fn no_log_and_no_dockerfile_leaves_stray_lines_at_200_columns() {
    nothing_strays_at(200);
}

#[test]
fn the_last_line_is_seen_beside_a_long_instruction() {
    let long = "x".repeat(200);
    let run = format!("RUN : {long}; echo this is the log; sleep 3; echo tt-\n");
    let workspace = Workspace::new().with_box().image("a", &format!("FROM tt-box\n{run}"));
    let terminal = workspace.start_on_terminal(80, &["build"]);
    terminal.wait_for("… this is the log");
    let (code, screen) = terminal.finish();
    assert_eq!(code, 0, "{screen}");
}

#[test]
fn no_failure_is_repeated_unless_a_screen_lies_between() {
    let mut workspace = Workspace::new().image("bad", "FROM scratch\nCOPY none /\n");
    let output = workspace.start_on_terminal(80, &["build", "--keep-going"]).finish().1;
    assert_eq!(output.matches("to reproduce").count(), 1, "{output}");
    assert!(output.contains("\n0 built, 0 up to date, 1 failed in"), "{output}");
    for number in 0..30 {
        workspace = workspace.image(&format!("good{number}"), "FROM scratch\nCOPY build /\n");
    }
    // It fails first, and is out of sight when all others are built.
    let output = workspace.xtask(&["build", "--keep-going", "-j", "1"]).exits_with(1);
    assert_eq!(output.stderr.matches("to reproduce").count(), 2, "{}", output.stderr);
    assert!(output.stderr.trim_end().lines().last().unwrap().starts_with("finished: 30 built"));
}

#[test]
fn a_dumb_terminal_gets_plain_lines() {
    let workspace = Workspace::new().image("a", "FROM scratch\nCOPY build /\n").env("TERM", "dumb");
    let (code, screen) = workspace.start_on_terminal(80, &["build"]).finish();
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains("a | built in"), "{screen}");
}

fn watched() -> Workspace {
    Workspace::new()
        .image("a", "FROM scratch\nCOPY app /\n")
        .image("b", "FROM scratch\nCOPY app /\n")
        .file("src/a/app/x", "1")
        .file("src/b/app/x", "1")
}

#[test]
fn a_workspace_that_is_broken_is_a_red_status_until_it_is_mended() {
    let workspace = watched();
    let mut terminal = workspace.start_on_terminal(80, &["watch", "--color", "always"]);
    terminal.wait_for("watching 2 components");
    workspace.save("src/a/build/component.dep", "b\n");
    workspace.save("src/b/build/component.dep", "a\n");
    terminal.wait_for("the workspace has errors");
    assert!(terminal.is_red("the workspace has errors"));
    assert!(!terminal.screen().contains("ago"), "{}", terminal.screen());
    workspace.save("src/b/build/component.dep", "");
    terminal.wait_for("the workspace has no errors any more");
    terminal.wait_for("watching 2 components");
    assert!(!terminal.screen().contains("the workspace has errors"), "{}", terminal.screen());
    terminal.press("q");
    assert_eq!(terminal.finish().0, 0);
}

#[test]
fn a_component_that_failed_stays_in_the_status_until_it_is_good() {
    let workspace = watched();
    let mut terminal = workspace.start_on_terminal(80, &["watch", "--color", "always"]);
    terminal.wait_for("watching 2 components");
    workspace.save("src/a/build/tt-a.dockerfile", "FROM scratch\nCOPY none /\n");
    terminal.wait_for("failed: a · watching 2 components");
    assert!(terminal.is_red("failed: a ·"));
    workspace.save("src/b/app/x", "2");
    terminal.wait_for("1 built, 0 up to date, 0 failed");
    terminal.wait_for("failed: a · watching 2 components");
    workspace.save("src/a/build/tt-a.dockerfile", "FROM scratch\nCOPY app /\n");
    terminal.wait_for("ago · watching 2 components");
    assert!(!terminal.screen().contains("failed: a ·"), "{}", terminal.screen());
    terminal.press("q");
    assert_eq!(terminal.finish().0, 0);
}

#[test]
fn what_the_command_after_a_round_writes_stands_above_the_status_and_is_whole() {
    let workspace = watched();
    let command =
        "for n in 1 2 3; do echo out $n; echo err $n >&2; sleep 1.2; done; printf finished";
    let mut terminal = workspace.start_on_terminal(80, &["watch", "--on-success", command]);
    terminal.wait_for("finished");
    terminal.wait_for_redraws("watching 2", 2);
    let screen = terminal.screen();
    for line in ["out 1", "err 1", "out 2", "err 2", "out 3", "err 3", "finished"] {
        assert!(screen.lines().any(|shown| shown == line), "{line}: {screen}");
    }
    assert!(screen.trim_end().ends_with("? for keys"), "{screen}");
    assert_eq!(count(&terminal, "watching 2"), 1, "{screen}");
    terminal.press("q");
    assert_eq!(terminal.finish().0, 0);
}

#[test]
fn an_image_that_somebody_takes_away_is_noticed() {
    let workspace = watched();
    let terminal = workspace.start_on_terminal(80, &["watch"]);
    terminal.wait_for("watching 2 components");
    let name = workspace.own("tt-a");
    remove_image(&name);
    terminal.wait_for("1 built, 0 up to date");
    terminal.wait_for("watching 2 components");
    // Another image under the name, which has to give way, and is kept.
    let other = workspace.own("tt-b");
    docker(&["tag", &other, &name]);
    terminal.wait_for("= a restored");
    terminal.wait_for("watching 2 components");
    let now = docker(&["image", "inspect", "--format", "{{.Id}}", &name]);
    let other = docker(&["image", "inspect", "--format", "{{.Id}}", &other]);
    assert_ne!(now, other);
    drop(terminal);
}

#[test]
fn editors_scratch_files_start_no_round_unless_a_dockerfile_names_one() {
    let workspace = watched().image("c", "FROM scratch\nCOPY x~ /\n").file("src/c/x~", "1");
    let mut running = workspace.start(&["watch"]);
    running.wait_for("watching: ");
    for name in [".x.swp", "4913", "#x#", ".#x", "x~", "x___jb_tmp___"] {
        workspace.write(&format!("src/a/app/{name}"), "scratch");
    }
    fs::remove_file(workspace.root().join("src/a/app/4913")).unwrap();
    workspace.save("src/c/x~", "2");
    running.wait_for("changed: src/c/x~ → c");
    running.wait_for("watching: ");
    // What was there only for a moment is in no context that is sent afterwards.
    fs::remove_file(workspace.root().join("src/a/app/.x.swp")).unwrap();
    workspace.save("src/b/app/x", "2");
    running.wait_for("changed: src/b/app/x → b");
    running.wait_for("watching: ");
    running.interrupt();
    let output = running.finish().exits_with(0);
    let mut built = output.built();
    built[..3].sort_unstable();
    assert_eq!(built, ["a", "b", "c", "c", "b"], "{}", output.stderr);
    assert_eq!(output.stderr.matches("changed: ").count(), 2, "{}", output.stderr);
}

#[test]
fn keys_work_again_after_the_process_was_stopped() {
    let workspace = watched();
    let mut terminal = workspace.start_on_terminal(80, &["watch"]);
    terminal.wait_for("watching 2 components");
    terminal.suspend();
    // A shell turns line buffering on meanwhile.
    terminal.cook();
    terminal.resume();
    terminal.wait_for_redraws("watching 2", 1);
    terminal.press("g");
    terminal.wait_for("built");
    terminal.press("q");
    assert_eq!(terminal.finish().0, 0);
}
