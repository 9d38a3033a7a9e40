//! The version of the API: negotiated as the docker CLI does it, and said in every request.

use std::collections::BTreeSet;

use expect_test::{Expect, expect};
use tests::Workspace;
use tests::engine::docker;
use tests::registry::Registry;
use tests::versioned::VersionedEngine;

/// `a` is built from a box, `b` from `a`.
fn workspace(engine: &VersionedEngine) -> Workspace {
    Workspace::new()
        .with_box()
        .image("a", "FROM tt-box AS x\nCOPY f /\nRUN test -s /f\n")
        .file("src/a/f", "1")
        .image("b", "FROM tt-a\nLABEL x=1\n")
        .env("DOCKER_HOST", &engine.host())
}

/// All that the tool does to an engine, with each request of one version.
fn does_everything(engine: &VersionedEngine, version: &str) {
    let registry = Registry::start();
    let workspace = workspace(engine).pushing_to(registry.address());
    let build = |options: &[&str]| {
        let arguments = [&["build"], options].concat();
        let output = workspace.xtask(&arguments).exits_with(0);
        output.built_by_name().iter().map(|it| (*it).to_owned()).collect::<Vec<String>>()
    };
    assert_eq!(build(&["--builder", "classic"]), ["a", "b"]);
    assert!(build(&[]).is_empty());
    workspace.write("src/a/f", "2");
    assert_eq!(build(&[]), ["a", "b"]);
    // Over BuildKit's own API, with a session that serves a secret.
    assert_eq!(
        build(&["-f", "--no-cache-filter", "x", "--secret", "id=s,src=src/a/f"]),
        ["a", "b"]
    );
    // The images without the secret are those of before.
    assert!(build(&[]).is_empty());
    // An image that is there without its name is inspected, and gets it back.
    let (name, reference) = (workspace.own("tt-b"), format!("{}/ns/tt-b:v1", registry.address()));
    let pushed = workspace.own(&reference);
    docker(&["tag", &name, &pushed]);
    docker(&["rmi", &name]);
    assert!(build(&[]).is_empty());
    let _ = workspace.xtask(&["push", "-c", "."]).exits_with(0);
    docker(&["rmi", &pushed]);
    workspace.write("src/c/build/tt-c.dockerfile", &format!("FROM {reference}\nLABEL y=1\n"));
    assert_eq!(build(&[]), ["c"]);
    for command in ["list", "doctor", "clean"] {
        let _ = workspace.xtask(&[command]).exits_with(0);
    }
    let mut watch = workspace.start(&["watch"]);
    watch.wait_for("watching: ");
    workspace.save("src/a/f", "3");
    watch.wait_for("| built in ");
    watch.wait_for("watching: ");
    watch.interrupt();
    let _ = watch.finish().exits_with(0);

    assert!(engine.refused().is_empty(), "{:?}", engine.refused());
    let requests: BTreeSet<String> = engine.requests().into_iter().collect();
    for call in ["/build", "/session", "/grpc", "/events", "/images/create"] {
        let request = requests.iter().find(|request| request.contains(call));
        let request = request.unwrap_or_else(|| panic!("no {call} in {requests:?}"));
        assert!(request.contains(&format!(" /v{version}{call}")), "{request}");
    }
}

#[test]
fn an_engine_that_is_as_old_as_can_be_takes_every_request() {
    does_everything(&VersionedEngine::start("1.24", "1.41"), "1.41");
}

#[test]
fn an_engine_that_refuses_old_clients_takes_every_request() {
    does_everything(&VersionedEngine::start("1.44", "1.52"), "1.52");
}

#[test]
fn an_engine_that_is_newer_than_this_tool_takes_every_request() {
    let engine = VersionedEngine::start("1.44", "1.999");
    let _ = workspace(&engine).xtask(&["build"]).exits_with(0);
    assert!(engine.refused().is_empty(), "{:?}", engine.refused());
}

#[test]
fn a_version_costs_a_build_without_changes_no_request() {
    let engine = VersionedEngine::start("1.41", "1.41");
    let workspace = workspace(&engine);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let _ = engine.requests();
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let requests = engine.requests();
    assert_eq!(requests.iter().filter(|request| request.contains("/_ping")).count(), 1);
    assert!(!requests.iter().any(|request| request.contains("/version")), "{requests:?}");
}

#[test]
fn an_engine_that_does_not_tell_its_version_is_asked_by_the_oldest() {
    let engine = VersionedEngine::start_untold("1.24", "1.41");
    let _ = workspace(&engine).xtask(&["build"]).exits_with(0);
    assert!(engine.refused().is_empty(), "{:?}", engine.refused());
    let engine = VersionedEngine::start_untold("1.44", "1.52");
    fails(
        &workspace(&engine),
        &engine,
        &expect![[r#"
            error: client version 1.41 is too old. Minimum supported API version is 1.44, please upgrade your client to a newer version
        "#]],
    );
}

fn fails(workspace: &Workspace, engine: &VersionedEngine, error: &Expect) {
    let output = workspace.xtask(&["build"]).exits_with(1);
    error.assert_eq(&output.error().replace(&engine.host(), "[ENGINE]"));
}

#[test]
fn an_engine_that_is_too_old_is_said_to_be_so() {
    let engine = VersionedEngine::start("1.12", "1.40");
    fails(
        &workspace(&engine),
        &engine,
        &expect![[r#"
        error: the engine at [ENGINE] knows the Docker API up to version 1.40, and 1.41 is needed: that of Docker 20.10, or Podman 4
    "#]],
    );
}

#[test]
fn the_user_can_choose_the_version_as_for_the_docker_cli() {
    let engine = VersionedEngine::start("1.24", "1.52");
    let chosen = |version: &str| workspace(&engine).env("DOCKER_API_VERSION", version);
    let _ = chosen("1.43").xtask(&["build"]).exits_with(0);
    let requests = engine.requests();
    let is_chosen = |request: &String| request.contains(" /v1.43/") || request == "GET /_ping";
    assert!(requests.iter().all(is_chosen), "{requests:?}");
    fails(
        &chosen("1.60"),
        &engine,
        &expect![[r#"
        error: DOCKER_API_VERSION, which is '1.60', is too new: the engine at [ENGINE] knows the Docker API up to 1.52
    "#]],
    );
    fails(
        &chosen("1.40"),
        &engine,
        &expect![[r#"
        error: DOCKER_API_VERSION, which is '1.40', is too old: 1.41 or later is needed
    "#]],
    );
    fails(
        &chosen("newest"),
        &engine,
        &expect![[r#"
        error: DOCKER_API_VERSION, which is 'newest', is no version of the Docker API, such as 1.41
    "#]],
    );
}
