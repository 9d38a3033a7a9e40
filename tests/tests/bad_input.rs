//! What is said when a request or a workspace is wrong: the whole message, the
//! exit code, and a tree as clean as before.

use expect_test::{Expect, expect};
use tests::Workspace;
use tests::engine::Proxy;

const BASE: &str = "FROM scratch\nCOPY build /build\n";

/// Runs it, and compares the error, the exit code and the tree.
fn fails(workspace: &Workspace, arguments: &[&str], code: i32, error: &Expect) {
    let before = workspace.tree();
    let output = workspace.xtask(arguments).exits_with(code);
    error.assert_eq(output.error());
    assert_eq!(workspace.tree(), before);
}

#[test]
fn no_src() {
    let error = expect![[r#"
        error: neither src/ nor xtask.toml in [ROOT] or any parent folder: run this inside a repository, or pass --root
    "#]];
    fails(&Workspace::new(), &["build"], 2, &error);
}

#[test]
fn an_empty_src() {
    let workspace = Workspace::new().file("src/file", "");
    fails(
        &workspace,
        &["build"],
        2,
        &expect![[r#"
            error: src: contains no components: create a folder src/NAME/build/ with a NAME.dockerfile in it, or use the command 'new'
        "#]],
    );
}

#[test]
fn an_unknown_component() {
    let workspace = Workspace::new().image("web", BASE);
    fails(
        &workspace,
        &["build", "-s", "wbe", "something-else"],
        2,
        &expect![[r#"
        error: no component 'something-else' under src/
        no component 'wbe' under src/ (did you mean 'web'?)
    "#]],
    );
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let workspace = Workspace::new()
        .file("src/a/build/component.dep", "# needs\nweb\nwbe\n")
        .file("src/a/build/tt-same.dockerfile", BASE)
        .file("src/b/build/tt-same.dockerfile", BASE)
        .file("src/b/build/Upper.dockerfile", BASE)
        .file("src/b/build/-.dockerfile", BASE)
        .file("src/b/build/tt-two.k8s.dockerfile", BASE)
        .file("src/b/build/tt-two.yarn.dockerfile", BASE)
        .file("src/web/build/tt-empty.dockerfile", "\n# nothing\n")
        .file("src/web/build/tt-wrong.dockerfile", "FROM scratch\n\nRUUN x\n");
    workspace.write_bytes("src/web/build/tt-binary.dockerfile", b"\x7fELF\0\0");
    workspace.write_bytes("src/web/build/tt-latin.dockerfile", b"FROM scratch\nLABEL a=\xe4\n");
    workspace.write_bytes("src/web/build/component.dep", b"\xff\n");
    fails(
        &workspace,
        &["build"],
        2,
        &expect![[r#"
            error: src/a/build/component.dep:3: no component 'wbe' under src/ (did you mean 'web'?)
            src/b/build/-.dockerfile: '-' is not a valid image name: an image name consists of a-z and 0-9, separated by '.', '_', '__' or '-'
            src/b/build/Upper.dockerfile: 'Upper' is not a valid image name: image names must be lowercase: rename it to 'upper'
            src/b/build/tt-same.dockerfile: image 'tt-same' is also built by src/a/build/tt-same.dockerfile: rename one of the two files
            src/b/build/tt-two.k8s.dockerfile: image 'tt-two' is also built by src/b/build/tt-two.yarn.dockerfile: choose one with --flavor, or rename one
            src/web/build/component.dep: is not UTF-8 text: save it as UTF-8
            src/web/build/tt-binary.dockerfile: is not a text file: a Dockerfile is UTF-8 text
            src/web/build/tt-empty.dockerfile: has no instruction: begin it with a FROM line, or remove the file
            src/web/build/tt-latin.dockerfile:2: is not UTF-8: save it as UTF-8
            src/web/build/tt-wrong.dockerfile:3: is not a Dockerfile: unknown instruction 'RUUN' (did you mean 'RUN'?)
        "#]],
    );
}

#[test]
fn a_cycle_through_component_dep_and_from() {
    let workspace = Workspace::new()
        .image("a", "FROM tt-b\n")
        .image("b", BASE)
        .file("src/b/build/component.dep", "c\n")
        .file("src/c/build/component.dep", "a\n")
        .file("src/alone/build/component.dep", "alone\n");
    fails(
        &workspace,
        &["build"],
        2,
        &expect![[r#"
        error: dependency cycle: a → b → c → a
          a depends on b: src/a/build/tt-a.dockerfile:1 (FROM)
          b depends on c: src/b/build/component.dep:1
          c depends on a: src/c/build/component.dep:1
        dependency cycle: alone → alone
          alone depends on alone: src/alone/build/component.dep:1
    "#]],
    );
}

#[test]
fn a_cycle_of_images_in_one_component() {
    let workspace = Workspace::new()
        .file("src/a/build/tt-one.dockerfile", "FROM tt-two\n")
        .file("src/a/build/tt-two.dockerfile", "FROM scratch\nCOPY --from=tt-one / /\n");
    fails(
        &workspace,
        &["build"],
        2,
        &expect![[r#"
        error: dependency cycle: tt-one → tt-two → tt-one
          tt-one uses tt-two: src/a/build/tt-one.dockerfile:1 (FROM)
          tt-two uses tt-one: src/a/build/tt-two.dockerfile:2 (COPY --from)
    "#]],
    );
}

#[test]
fn a_hook_that_fails() {
    let hook =
        "#!/bin/sh\nmkdir -p src/a/generated src/a/dependency/x\necho about to fail\nexit 7\n";
    let workspace = Workspace::new().image("a", BASE).script("src/a/build/build-pre.sh", hook);
    fails(
        &workspace,
        &["build"],
        1,
        &expect![[r#"
            error: src/a/build/build-pre.sh: failed with exit status: 7
            last log lines (target/xtask/logs/a.log):
                about to fail
            to reproduce: cargo xtask build -s a
        "#]],
    );
}

#[test]
fn a_hook_that_is_not_a_script() {
    let workspace = Workspace::new().image("a", BASE);
    workspace.write_bytes("src/a/build/build-pre.sh", b"\x7fELF\0\xff");
    fails(
        &workspace,
        &["build"],
        1,
        &expect![[r#"
            error: src/a/build/build-pre.sh: is not a script: begin it with a line such as '#!/bin/bash'
            to reproduce: cargo xtask build -s a
        "#]],
    );
}

#[test]
fn a_hook_whose_interpreter_is_missing() {
    let workspace =
        Workspace::new().image("a", BASE).file("src/a/build/build-post.sh", "#!/none/such -x\n");
    fails(
        &workspace,
        &["build"],
        1,
        &expect![[r#"
            error: src/a/build/build-post.sh:1: cannot start the interpreter '/none/such -x': No such file or directory (os error 2)
            to reproduce: cargo xtask build -s a
        "#]],
    );
}

#[test]
fn a_run_that_fails() {
    let workspace = Workspace::new()
        .with_box()
        .image("a", "FROM tt-box\nRUN echo hello; exit 3\n")
        .image("b", "FROM tt-a\n");
    fails(
        &workspace,
        &["build"],
        1,
        &expect![[r#"
            error: src/a/build/tt-a.dockerfile:2: image 'tt-a' failed to build: process "/bin/sh -c echo hello; exit 3" did not complete successfully: exit code: 3
              1 | FROM tt-box
            > 2 | RUN echo hello; exit 3
            last log lines (target/xtask/logs/a.log):
                hello
            to reproduce: cargo xtask build -s a
        "#]],
    );
    let output = workspace.xtask(&["build"]);
    assert!(output.stderr.contains("a | hello\n"), "{}", output.stderr);
    assert!(
        output.stderr.contains("0 built, 0 up to date, 1 failed, 1 not run"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_copy_of_nothing() {
    let workspace = Workspace::new().image("a", "FROM scratch\nCOPY nothing /\n");
    fails(
        &workspace,
        &["build"],
        1,
        &expect![[r#"
            error: src/a/build/tt-a.dockerfile:2: image 'tt-a' failed to build: failed to compute cache key: "/nothing": not found
            the context, src/a, has no 'nothing'
              1 | FROM scratch
            > 2 | COPY nothing /
            to reproduce: cargo xtask build -s a
        "#]],
    );
}

#[test]
fn a_base_that_does_not_exist() {
    let workspace = Workspace::new().image("a", "FROM scratch AS x\n\nFROM 127.0.0.1:1/none:1\n");
    let output = workspace.xtask(&["build"]).exits_with(1);
    // What is in parentheses are the engine's own words.
    let (before, rest) = output.error().split_once('(').unwrap();
    let (words, after) = rest.rsplit_once(')').unwrap();
    expect!["error: src/a/build/tt-a.dockerfile:3: base image '127.0.0.1:1/none:1' is not in the engine and cannot be pulled: check its name, or build it first "]
        .assert_eq(before);
    assert!(words.ends_with("dial tcp 127.0.0.1:1: connect: connection refused"), "{words}");
    expect![[r#"

          1 | FROM scratch AS x
          2 | 
        > 3 | FROM 127.0.0.1:1/none:1
        to reproduce: cargo xtask build -s a
    "#]]
    .assert_eq(after);
}

#[test]
fn a_bad_pattern_in_dockerignore() {
    let workspace = Workspace::new().image("a", BASE).file("src/a/.dockerignore", "x\n[y\n");
    fails(
        &workspace,
        &["build"],
        1,
        &expect![[r#"
            error: src/a/.dockerignore:2: invalid pattern '[y': '[' has no matching ']'
              1 | x
            > 2 | [y
            to reproduce: cargo xtask build -s a
        "#]],
    );
}

#[test]
fn no_engine() {
    let workspace = Workspace::new().image("a", BASE).env("DOCKER_HOST", "unix:///none.sock");
    fails(
        &workspace,
        &["build"],
        1,
        &expect![[r#"
            error: cannot connect to the engine at unix:///none.sock: No such file or directory (os error 2). Start Docker, or point DOCKER_HOST or the Docker context at a running engine
        "#]],
    );
}

#[test]
fn an_engine_that_is_gone_in_the_middle() {
    let proxy = Proxy::start();
    let workspace = Workspace::new()
        .with_box()
        .script("src/a/build/build-pre.sh", "#!/bin/sh\nmkdir -p src/a/generated\n")
        .image("a", "FROM tt-box\nRUN echo here; sleep 3\n")
        .env("DOCKER_HOST", &proxy.host());
    let before = workspace.tree();
    let mut running = workspace.start(&["build", "--no-cache"]);
    running.wait_for("| here");
    proxy.cut();
    let output = running.finish().exits_with(1);
    expect![[r#"
        error: src/a/build/tt-a.dockerfile: image 'tt-a' failed to build: the connection to the engine was lost: error reading a body from connection
        last log lines (target/xtask/logs/a.log):
            here
        to reproduce: cargo xtask build -s a
    "#]].assert_eq(output.error());
    assert_eq!(workspace.tree(), before);
}

#[test]
fn a_build_arg_without_a_name() {
    let workspace = Workspace::new().image("a", BASE);
    fails(
        &workspace,
        &["build", "--build-arg", "=X"],
        2,
        &expect![[r#"
        error: invalid value '=X' for '--build-arg <NAME[=VALUE]>': expected NAME=VALUE or NAME

        For more information, try '--help'.
    "#]],
    );
}

#[test]
fn no_configuration() {
    let workspace = Workspace::new().image("a", BASE);
    fails(
        &workspace,
        &["push", "-c", "none"],
        2,
        &expect![[r#"
        error: none/services-configuration.yaml: does not exist: -c takes the folder that contains it
    "#]],
    );
    fails(
        &workspace,
        &["push"],
        2,
        &expect![[r#"
            error: no registry to push to: set 'registry' in xtask.toml, or pass -c with the folder of services-configuration.yaml
        "#]],
    );
}

fn with_config(config: &str) -> Workspace {
    Workspace::new().image("web", BASE).file("c/services-configuration.yaml", config)
}

#[test]
fn malformed_yaml() {
    let workspace = with_config("cluster:\n  docker-registry:\n    domain: \"x\n    tag: y\n");
    fails(
        &workspace,
        &["push", "-c", "c"],
        2,
        &expect![[r#"
            error: c/services-configuration.yaml:5: column 1: found unexpected end of stream
        "#]],
    );
}

#[test]
fn missing_keys() {
    let workspace =
        with_config("cluster:\n  docker-registry:\n    password: geheim123\n").secret("geheim123");
    fails(
        &workspace,
        &["push", "-c", "c"],
        2,
        &expect![[r#"
        error: c/services-configuration.yaml: cluster.docker-registry.domain is missing: set it to the registry's host[:port]
        c/services-configuration.yaml: cluster.docker-registry.namespace is missing: set it to the path after the domain, or to ""
        c/services-configuration.yaml: cluster.docker-registry.username is missing, but a password is set: set both or neither
    "#]],
    );
    let workspace =
        with_config("cluster:\n  docker-registry-info:\n    docker-registry-domain: r.x\n");
    fails(
        &workspace,
        &["push", "-c", "c"],
        2,
        &expect![[r#"
        error: c/services-configuration.yaml: cluster.docker-registry-info.docker-namespace is missing: set it to the path after the domain, or to ""
    "#]],
    );
    let workspace = with_config("machine-list: []\n");
    fails(
        &workspace,
        &["push", "-c", "c"],
        2,
        &expect![[r#"
        error: c/services-configuration.yaml: cluster.docker-registry is missing: add the registry to push to (domain, namespace, tag)
    "#]],
    );
    let workspace = with_config("cluster: {docker-registry: {domain: r.x, namespace: n}}\n");
    fails(
        &workspace,
        &["push", "-c", "c"],
        2,
        &expect![[r#"
        error: c/services-configuration.yaml: cluster.docker-registry.tag is missing: set it, or pass --tag, or set XTASK_TAG
    "#]],
    );
}

#[test]
fn both_shapes_that_differ() {
    let workspace = with_config(
        "cluster:\n  docker-registry: {domain: r.x, namespace: n, tag: t}\n  \
         docker-registry-info: {docker-registry-domain: r.x, docker-namespace: n, docker-tag: u}\n",
    );
    fails(
        &workspace,
        &["push", "-c", "c"],
        2,
        &expect![[r#"
        error: c/services-configuration.yaml: cluster.docker-registry and cluster.docker-registry-info differ: keep one of the two
    "#]],
    );
}

#[test]
fn images_that_are_unknown_or_not_built() {
    let workspace =
        with_config("cluster: {docker-registry: {domain: r.x, namespace: n, tag: t}}\n");
    fails(
        &workspace,
        &["push", "-c", "c", "-i", "tt-wbe", "other"],
        2,
        &expect![[r#"
        error: no component builds an image 'other'
        no component builds an image 'tt-wbe' (did you mean 'tt-web'?)
    "#]],
    );
    fails(
        &workspace,
        &["push", "-c", "c"],
        2,
        &expect![[r#"
        error: image 'tt-web' is not in the engine: run 'cargo xtask build -s web' first
    "#]],
    );
    fails(
        &workspace,
        &["push", "-c", "c", "--tag", "a b"],
        2,
        &expect![[r#"
        error: 'a b' is not a valid tag: use at most 128 letters, digits, '_', '.' and '-'
    "#]],
    );
}
