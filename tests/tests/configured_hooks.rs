//! Hooks that `xtask.toml` names: scripts anywhere, programs with arguments, and what they read.

use expect_test::expect;
use tests::engine::image_files;
use tests::{Output, Workspace};

/// `a` gets `generated/list` from a hook that is in no component, and that reads a folder.
fn workspace(toml: &str) -> Workspace {
    Workspace::new()
        .file("images/a/Dockerfile", "FROM scratch\nCOPY generated/list /\n")
        .file("images/b/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
        .file("data/1", "one\n")
        .script(
            "tools/list.sh",
            "#!/bin/sh\nset -e\nmkdir -p images/a/generated\ncat data/* > images/a/generated/list\n\
             echo ran: $0 $1\n",
        )
        .file(
            "xtask.toml",
            &format!("[image.\"tt-{{app}}\"]\ndockerfile = \"images/{{app}}/Dockerfile\"\n{toml}"),
        )
}

fn builds(workspace: &Workspace, expected: &[&str]) -> Output {
    let output = workspace.xtask(&["build"]).exits_with(0);
    let mut built = output.built();
    built.sort_unstable();
    assert_eq!(built, expected, "{}", output.stderr);
    output
}

fn list(workspace: &Workspace) -> String {
    image_files(&workspace.own("tt-a"))["list"].clone()
}

#[test]
fn what_templates_need_of_the_environment_is_there_for_all_commands() {
    let toml = "registry = \"${RVD_REG}/x\"\nargs.V = \"${RVD_REG}\"\n\
                [image.\"tt-{app}\"]\ndockerfile = \"images/{app}/Dockerfile\"\n\
                [image.\"{image}\"]\ndockerfile = \"new/{image}/Dockerfile\"\n";
    let workspace = Workspace::new()
        .env("RVD_REG", "localhost:5999")
        .file("xtask.toml", toml)
        .file("images/web/Dockerfile", "FROM scratch\nCOPY f /\n")
        .file("images/web/f", "")
        .file("new/tt-old/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    for path in ["images/web/", "images/web", "./images/web/Dockerfile"] {
        let plan = workspace.xtask(&["build", "-n", path]).exits_with(0);
        assert!(plan.stdout.contains("tt-web"), "{path}: {plan:?}");
    }
    let logs = workspace.xtask(&["logs", "web"]).exits_with(1);
    assert!(logs.error().contains("'web' has no log"), "{logs:?}");
    let inputs = workspace.xtask(&["inputs", "web"]).exits_with(2);
    assert!(!inputs.error().contains("RVD_REG"), "{inputs:?}");
    let new = workspace.xtask(&["new", "tt-foo"]).exits_with(0);
    assert!(new.stdout.contains("new/tt-foo/Dockerfile"), "{new:?}");
    // A file that cannot be read does not make a path one below src/.
    workspace.write("xtask.toml", "x = [");
    let broken = workspace.xtask(&["build", "-n", "images/web/"]).exits_with(2);
    assert!(broken.error().starts_with("error: xtask.toml:1"), "{broken:?}");
}

#[test]
fn a_script_elsewhere_runs_again_when_it_or_what_it_reads_changes() {
    let workspace =
        workspace("[image.tt-a]\npre-build = \"./tools/list.sh\"\ninputs = [\"data/**\"]\n");
    let first = builds(&workspace, &["a", "b"]);
    assert!(first.stderr.contains("ran: tools/list.sh"), "{}", first.stderr);
    let second = builds(&workspace, &[]);
    assert!(!second.stderr.contains("ran: "), "{}", second.stderr);
    workspace.write("data/2", "two\n");
    builds(&workspace, &["a"]);
    assert!(list(&workspace).ends_with("one\ntwo\n"));
    let script = "#!/bin/sh\nmkdir -p images/a/generated\necho new > images/a/generated/list\n";
    workspace.write("tools/list.sh", script);
    builds(&workspace, &["a"]);
    assert!(list(&workspace).ends_with("new\n"));
    builds(&workspace, &[]);
}

#[test]
fn a_program_runs_with_its_arguments_and_counts_by_them() {
    let command = |last: &str| {
        format!(
            "[image.tt-a]\npre-build = [\"sh\", \"tools/list.sh\", \"{{image}} {last}\"]\n\
             inputs = [\"data/**\", \"tools/*\"]\n"
        )
    };
    let workspace = workspace(&command("x"));
    let first = builds(&workspace, &["a", "b"]);
    assert!(first.stderr.contains("ran: tools/list.sh tt-a x"), "{}", first.stderr);
    builds(&workspace, &[]);
    let toml = std::fs::read_to_string(workspace.root().join("xtask.toml")).unwrap();
    workspace.write("xtask.toml", &toml.replace(" x\"", " y\""));
    let third = builds(&workspace, &["a"]);
    assert!(third.stderr.contains("ran: tools/list.sh tt-a y"), "{}", third.stderr);
    let config = workspace.xtask(&["config", "tt-a"]).exits_with(0);
    expect![[r#"
        tt-a (component a)
          dockerfile  images/a/Dockerfile
          context     images/a
          inputs      data/**                            xtask.toml:5
          inputs      tools/*                            xtask.toml:5
          tags        {registry}/tt-a:{tag}
          pre-build   sh tools/list.sh tt-a y  xtask.toml:4
    "#]]
    .assert_eq(&config.stdout);
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    let workspace = workspace("[image.tt-a]\npost-build = [\"no-such-program\", \"x\"]\n");
    workspace.write("images/a/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let output = workspace.xtask(&["build", "a"]).exits_with(1);
    let error = output.error();
    assert!(error.contains("no-such-program x: cannot be started: No such file"), "{error}");
}

#[test]
fn what_hooks_are_given_wrong_is_said() {
    let workspace = workspace(
        "[image.tt-a]\npre-build = []\npost-build = 3\ninputs = [\"data/**\", \"../x\", \"[\"]\n",
    );
    let wrong = workspace.xtask(&["build", "-n"]).exits_with(2);
    expect![[r#"
        error: xtask.toml:4: column 13: expected a program, and its arguments
        xtask.toml:5: column 14: expected a list of texts, found an integer
    "#]]
    .assert_eq(wrong.error());
    let toml = "[image.\"tt-{app}\"]\ndockerfile = \"images/{app}/Dockerfile\"\n\
                [image.tt-a]\ninputs = [\"data/**\", \"../x\", \"[\"]\npre-build = \"nowhere.sh\"\n";
    workspace.write("xtask.toml", toml);
    let wrong = workspace.xtask(&["build", "-n"]).exits_with(2);
    expect![[r#"
        error: nowhere.sh: cannot be read: No such file or directory (os error 2)
        xtask.toml:4: column 22: 'inputs': '../x' is not below the workspace root: use a relative path without '..'
        xtask.toml:4: column 30: 'inputs': '[' is not a glob: unclosed character class; missing ']'
    "#]].assert_eq(wrong.error());
}

#[test]
fn watch_runs_a_hook_when_its_script_or_its_inputs_change() {
    let workspace =
        workspace("[image.tt-a]\npre-build = \"tools/list.sh\"\ninputs = [\"data/**\"]\n");
    let mut running = workspace.start(&["watch"]);
    running.wait_for("2 built");
    running.wait_for("watching: ");
    workspace.write("data/2", "two\n");
    running.wait_for("1 built");
    running.wait_for("watching: ");
    let script = "#!/bin/sh\nmkdir -p images/a/generated\necho new > images/a/generated/list\n";
    workspace.save("tools/list.sh", script);
    running.wait_for("1 built");
    running.wait_for("watching: ");
    running.interrupt();
    let _ = running.finish().exits_with(0);
    assert!(list(&workspace).ends_with("new\n"));
}
