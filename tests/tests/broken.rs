//! One bad file is the problem of one component, and of those that need it.

use expect_test::expect;
use tests::Workspace;

const GOOD: &str = "FROM scratch\nCOPY text /\n";

/// `bad` to be broken, `user` that is made from it, `taker` that takes its folder, and `good`,
/// which needs none of them.
fn tree() -> Workspace {
    Workspace::new()
        .image("bad", GOOD)
        .image("user", "FROM tt-bad\nCOPY text /\n")
        .image("taker", GOOD)
        .file("src/taker/build/component.dep", "bad\n")
        .image("good", GOOD)
        .file("src/bad/text", "")
        .file("src/user/text", "")
        .file("src/taker/text", "")
        .file("src/good/text", "")
}

/// Every way to break `bad`: a file of it, its contents, and what is said.
const WAYS: [(&str, &str, &str); 8] = [
    ("tt-bad.dockerfile", "FROM scratch\nRUUN x\n", "tt-bad.dockerfile:2: is not a Dockerfile"),
    ("tt-bad.dockerfile", "ARG B\nFROM $B\n", "tt-bad.dockerfile:2: FROM $B expands to nothing"),
    ("tt-bad.dockerfile", "FROM a//b\n", "tt-bad.dockerfile:1: 'a//b' is not an image reference"),
    ("tt-bad.dockerfile", "", "tt-bad.dockerfile: has no instruction"),
    ("component.dep", "good\nnobody\n", "component.dep:2: no component 'nobody' under src/"),
    ("build-pre.sh", "#!/bin/sh\r\ntrue\r\n", "build-pre.sh:1: "),
    ("inputs", "[\n", "inputs:1: "),
    ("Upper.dockerfile", GOOD, "Upper.dockerfile: 'Upper' is not a valid image name"),
];

#[test]
fn whatever_is_wrong_with_it_what_does_not_need_it_builds() {
    for (file, text, said) in WAYS {
        let workspace = tree().file(&format!("src/bad/build/{file}"), text);
        for command in [
            &["build", "-s", "good"][..],
            &["build", "-n", "-s", "good"],
            &["context", "good"],
            &["graph", "-s", "good"],
            &["graph", "--stale", "-s", "good"],
        ] {
            let output = workspace.xtask(command).exits_with(0);
            assert!(!output.stderr.contains("src/bad"), "{command:?}: {}", output.stderr);
        }
        for command in [
            &["build"][..],
            &["build", "-n"],
            &["build", "-s", "bad"],
            &["build", "-s", "good,user"],
            &["build", "-s", "taker"],
            &["context", "user"],
        ] {
            let output = workspace.xtask(command).exits_with(2);
            assert!(output.error().contains(said), "{command:?}: {}", output.stderr);
            assert!(output.built().is_empty());
        }
        let output = workspace.xtask(&["build", "--keep-going", "--force"]).exits_with(1);
        assert_eq!(output.built(), ["good"], "{}", output.stderr);
        assert!(output.error().contains(said), "{}", output.stderr);
        let graph = workspace.xtask(&["graph"]).exits_with(0);
        assert!(graph.stderr.starts_with("warning: src/bad/build/"), "{}", graph.stderr);
        assert!(graph.stdout.contains("good [tt-good]"), "{}", graph.stdout);
    }
}

#[test]
fn what_becomes_of_each_is_said() {
    let workspace = tree().image("bad", "FROM scratch\nRUN a\nCOYP a /\n");
    expect![[r#"
        bad    tt-bad    undecided  cannot be built: src/bad/build/tt-bad.dockerfile:3: is not a Dockerfile: unknown instruction 'COYP' (did you mean 'COPY'?)
        good   tt-good   stale      image missing in the engine
        taker  tt-taker  stale      image missing in the engine; bad cannot be built
        user   tt-user   stale      image missing in the engine; bad cannot be built
        3 of 4 images would be built, 1 decided during the build
    "#]]
    .assert_eq(&workspace.xtask(&["build", "-n", "-k"]).exits_with(0).stdout);
    let output = workspace.xtask(&["build", "-k"]).exits_with(1);
    let not_run = "\nnote: 2 not run because bad failed: taker, user\n";
    assert!(output.stderr.contains(not_run), "{}", output.stderr);
    expect![[r#"
        error: src/bad/build/tt-bad.dockerfile:3: is not a Dockerfile: unknown instruction 'COYP' (did you mean 'COPY'?)
          1 | FROM scratch
          2 | RUN a
        > 3 | COYP a /
        to reproduce: cargo xtask build -s bad
    "#]]
    .assert_eq(output.error());
}

#[test]
fn all_that_is_wrong_with_a_component_is_said_at_once() {
    let workspace = tree()
        .image("bad", "FROM a:1:2\n")
        .file("src/bad/build/other.dockerfile", "FROM scratch AS\n")
        .file("src/bad/build/component.dep", "nobody\n");
    expect![[r#"
        error: src/bad/build/component.dep:1: no component 'nobody' under src/
        src/bad/build/other.dockerfile:1: is not a Dockerfile: FROM takes an image, and 'AS' with the name of the stage
        src/bad/build/tt-bad.dockerfile:1: 'a:1:2' is not an image reference: '1:2' is not a tag: use at most 128 letters, digits, '_', '.' and '-'
        > 1 | nobody
        to reproduce: cargo xtask build -s bad
    "#]]
    .assert_eq(workspace.xtask(&["build", "-k"]).exits_with(1).error());
}

#[test]
fn a_cycle_concerns_only_those_that_need_it() {
    let workspace = tree().file("src/bad/build/component.dep", "user\n");
    let _ = workspace.xtask(&["build", "-s", "good"]).exits_with(0);
    let _ = workspace.xtask(&["graph", "-s", "good"]).exits_with(0);
    for command in [&["build", "-k"][..], &["build", "-s", "taker"], &["graph"]] {
        let output = workspace.xtask(command).exits_with(2);
        assert!(output.error().starts_with("error: dependency cycle: bad → user → bad"));
    }
}

#[test]
fn build_args_come_from_the_environment_and_unknown_ones_are_warned_of() {
    let dockerfile = "FROM scratch\nARG VERSION=none\nLABEL v=$VERSION\nCOPY text /\n";
    let workspace =
        tree().image("good", dockerfile).env("VERSION", "secret-value").env("LOST", "x");
    let plan = |arguments: &[&str]| {
        let _ = workspace.xtask(&["build", "-s", "good"]).exits_with(0);
        workspace.xtask(&[&["build", "-n", "-s", "good"], arguments].concat()).exits_with(0)
    };
    assert_eq!(
        plan(&["--build-arg", "UNSET_HERE=1"]).stdout,
        "good  tt-good  up to date\n1 image is up to date\n"
    );
    let taken = plan(&["--build-arg", "VERSION"]);
    let row = "good  tt-good  stale  --build-arg VERSION added\n";
    assert_eq!(taken.stdout, format!("{row}1 of 1 image would be built\n"));
    assert_eq!(taken.stderr, "");
    let unknown = plan(&["--build-arg", "VRESION=1", "--build-arg", "http_proxy=x"]);
    assert_eq!(
        unknown.stderr,
        "warning: --build-arg VRESION: no Dockerfile has 'ARG VRESION' (did you mean 'VERSION'?)\n"
    );
    let failing = workspace.xtask(&["build", "-k", "--build-arg", "VERSION"]);
    assert!(!failing.stderr.contains("secret-value"), "{}", failing.stderr);
}
