//! What the options of `docker build` make on engines that can do more than the oldest: named
//! contexts, several platforms, attestations, and caches in a registry. And several engines that are
//! used in turn.
//!
//!     eval "$(bash tests/engine start 28.5 --store containerd | tail -1 | sed 's/^/export /')"
//!     PATH=$PWD/target/test-tools/engines/engine-28.5/usr/bin:$PATH \
//!         cargo test -p tests --test newer_engines -- --ignored --skip two_engines
//!     bash tests/engine stop 28.5 --store containerd
//!
//! `bash tests/engines pairs` runs those of two engines, with each two of all.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;
use tests::Workspace;
use tests::engine::{
    cli_build_with_buildkit, cli_with_buildkit, docker, image_tree, is_podman, remove_image,
};
use tests::other_engine::OtherEngine;
use tests::registry::Registry;
use tests::versioned::VersionedEngine;

/// Without provenance, so that what is made is all that is there.
const PLAIN: [&str; 2] = ["--provenance=false", "--load"];

#[test]
#[ignore = "needs an engine since 23, and a docker CLI with buildx"]
fn contexts_are_those_of_the_cli() {
    let cli = cli_with_buildkit().expect("a docker CLI with buildx");
    let workspace = Workspace::new()
        .with_box()
        .image("base", "FROM tt-box\nRUN echo ours > /ours\n")
        .image(
            "a",
            "FROM alpine AS one\nCOPY --from=lib / /lib/\nRUN --mount=from=lib,target=/m cp /m/f /r\n\
             FROM one\nCOPY --from=docker.io/library/other:latest /ours /other\n",
        )
        .file("lib/f", "1")
        .file("lib/sub/g", "2")
        .file("lib/left-out", "3")
        .file("lib/.dockerignore", "left-out\n")
        .file(
            "xtask.toml",
            "[image.tt-a.contexts]\nalpine = \"target:tt-base\"\nlib = \"lib\"\n\
             other = \"docker-image://tt-base\"\n",
        );
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let (own, cli_made) = (workspace.own("tt-a"), workspace.own("tt-cli"));
    let base = format!("docker-image://{}", workspace.own("tt-base"));
    let contexts = [format!("alpine={base}"), "lib=../../lib".to_owned(), format!("other={base}")];
    let contexts = contexts.iter().flat_map(|context| ["--build-context", context]);
    let options: Vec<&str> = PLAIN.into_iter().chain(contexts).collect();
    let (dir, dockerfile) =
        (workspace.root().join("src/a"), workspace.own("build/tt-a.dockerfile"));
    cli_build_with_buildkit(&cli, &dir, &dockerfile, &cli_made, &options);
    assert_eq!(image_tree(&own), image_tree(&cli_made));
    let builds = |expected: &[&str]| {
        let output = workspace.xtask(&["build"]).exits_with(0);
        assert_eq!(output.built(), expected, "{}", output.stderr);
    };
    builds(&[]);
    workspace.write("lib/left-out", "edited");
    builds(&[]);
    workspace.write("lib/sub/g", "edited");
    builds(&["a"]);
    cli_build_with_buildkit(&cli, &dir, &dockerfile, &cli_made, &options);
    assert_eq!(image_tree(&own), image_tree(&cli_made));
    workspace.write("src/base/build/tt-base.dockerfile", "FROM tt-box\nRUN echo new > /ours\n");
    builds(&["base", "a"]);
    builds(&[]);
    let context = workspace.xtask(&["context", "a"]).exits_with(0).stdout;
    assert!(context.contains("called 'lib'\n") && context.contains("  lib/sub/g\n"), "{context}");
    let mut running = workspace.start(&["watch"]);
    running.wait_for("watching: ");
    workspace.write("lib/f", "edited");
    running.wait_for("1 built");
    running.wait_for("watching: ");
    running.interrupt();
    let _ = running.finish().exits_with(0);
    cli_build_with_buildkit(&cli, &dir, &dockerfile, &cli_made, &options);
    assert_eq!(image_tree(&own), image_tree(&cli_made));
}

#[test]
#[ignore = "needs an engine with the containerd image store"]
fn several_platforms_are_pushed_as_an_index() {
    let registry = Registry::start();
    let toml = format!(
        "registry = \"{}/x\"\nplatforms = [\"linux/arm64\", \"linux/amd64\"]\n",
        registry.address()
    );
    let workspace = Workspace::new()
        .image("base", "FROM scratch\nARG TARGETARCH\nCOPY f-$TARGETARCH /f\n")
        .file("src/base/f-amd64", "amd64")
        .file("src/base/f-arm64", "arm64")
        .image("web", "FROM tt-base\nCOPY build /web\n")
        .file("xtask.toml", &toml)
        .env("XTASK_TAG", "1");
    let _ = workspace.xtask(&["build", "--push", "--attest=type=provenance"]).exits_with(0);
    let again = workspace.xtask(&["build", "--attest=type=provenance"]).exits_with(0);
    assert!(!again.stderr.contains(" built\n"), "{}", again.stderr);
    let index = registry.index(&workspace.own("x/tt-web"), "1");
    let manifests = index["manifests"].as_array().unwrap();
    let mut platforms: Vec<&Value> =
        manifests.iter().map(|it| &it["platform"]["architecture"]).collect();
    platforms.sort_by_key(ToString::to_string);
    // One provenance for each.
    assert_eq!(platforms, ["amd64", "arm64", "unknown", "unknown"], "{index}");
    workspace.write("src/base/f-arm64", "edited");
    let edited = workspace.xtask(&["build", "--attest=type=provenance"]).exits_with(0);
    assert_eq!(edited.built(), ["base", "web"], "{}", edited.stderr);
}

#[test]
#[ignore = "needs an engine with the containerd image store"]
fn what_is_more_than_one_image_is_not_shared_and_said_once() {
    let registry = Registry::start();
    let toml = format!(
        "share = \"{}/x\"\n[image.tt-several]\nplatforms = [\"linux/arm64\", \"linux/amd64\"]\n\
         [image.tt-stated]\nattest = [\"type=provenance,mode=max\"]\n\
         [image.tt-stated-too]\nattest = [\"type=provenance\"]\n",
        registry.address()
    );
    let mut workspace = Workspace::new().file("xtask.toml", &toml);
    let images = ["one", "several", "stated", "stated-too"];
    for image in images {
        workspace = workspace.image(image, "FROM scratch\nCOPY build /\n");
    }
    let output = workspace.xtask(&["build", "--share"]).exits_with(0);
    let warnings = output.stderr.lines().filter(|line| line.starts_with("warning: "));
    let expected = [
        "warning: images for several platforms are not shared: tt-several",
        "warning: images with attestations are not shared: tt-stated, tt-stated-too",
    ];
    assert_eq!(warnings.collect::<Vec<_>>(), expected);
    for image in images {
        let tags = registry.tags(&workspace.own(&format!("x/tt-{image}")));
        assert_eq!(tags.is_empty(), image != "one", "{image}: {tags:?}");
        remove_image(&workspace.own(&format!("tt-{image}")));
    }
    fs::remove_dir_all(workspace.root().join("target")).unwrap();
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(output.built_by_name(), &images[1..], "{}", output.stderr);
}

#[test]
#[ignore = "needs an engine with the containerd image store"]
fn a_cache_in_a_registry_has_every_layer() {
    let registry = Registry::start();
    let cache = format!("type=registry,ref={}/cache:a", registry.address());
    let workspace = Workspace::new().with_box().image(
        "a",
        "FROM tt-box AS one\nRUN cat /proc/sys/kernel/random/uuid > /one\nFROM scratch\n\
         COPY --from=one /one /\n",
    );
    let to = format!("{cache},mode=max");
    let _ = workspace.xtask(&["build", "--cache-to", &to]).exits_with(0);
    let one = image_tree(&workspace.own("tt-a"));
    remove_image(&workspace.own("tt-a"));
    let _ = docker(&["builder", "prune", "-af"]);
    let output = workspace.xtask(&["build", "--cache-from", &cache]).exits_with(0);
    assert!(output.stderr.contains("CACHED [one 2/2] RUN"), "{}", output.stderr);
    assert_eq!(image_tree(&workspace.own("tt-a")), one);
}

#[test]
#[ignore = "needs an engine with the containerd image store"]
fn a_cache_of_a_round_is_one_for_each_image() {
    let registry = Registry::start();
    let workspace = Workspace::new()
        .with_box()
        .image("base", "FROM tt-box\nRUN cat /proc/sys/kernel/random/uuid > /one\n")
        .image("a", "FROM tt-base\nRUN cat /proc/sys/kernel/random/uuid > /two\n");
    let cache = format!("type=registry,ref={}/cache:{{image}}", registry.address());
    let (from, to) = (format!("cache-from={cache}"), format!("cache-to={cache},mode=max"));
    let _ = workspace.xtask(&["build", "--set", &to]).exits_with(0);
    let made = image_tree(&workspace.own("tt-a"));
    for image in ["tt-a", "tt-base"] {
        remove_image(&workspace.own(image));
    }
    let _ = docker(&["builder", "prune", "-af"]);
    let _ = workspace.xtask(&["build", "--set", &from]).exits_with(0);
    assert_eq!(image_tree(&workspace.own("tt-a")), made);
}

#[test]
#[ignore = "needs an engine with the containerd image store"]
fn a_cache_in_a_folder_has_every_layer() {
    let workspace = Workspace::new().with_box().image(
        "a",
        "FROM tt-box AS one\nRUN cat /proc/sys/kernel/random/uuid > /one\nFROM scratch\n\
         COPY --from=one /one /\n",
    );
    let to = workspace.xtask(&["build", "--cache-to", "type=local,dest=cache,mode=max"]);
    let _ = to.exits_with(0);
    let one = image_tree(&workspace.own("tt-a"));
    for _ in 0..2 {
        remove_image(&workspace.own("tt-a"));
        let _ = docker(&["builder", "prune", "-af"]);
        let output = workspace.xtask(&["build", "--cache-from", "type=local,src=cache"]);
        let output = output.exits_with(0);
        assert!(output.stderr.contains("CACHED [one 2/2] RUN"), "{}", output.stderr);
        assert_eq!(image_tree(&workspace.own("tt-a")), one);
        // The same as that of Docker's own tools.
        fs::remove_dir_all(workspace.root().join("cache")).unwrap();
        let to = workspace.own("build -o type=cacheonly -f src/a/build/tt-a.dockerfile src/a");
        let mut buildx = Command::new("docker");
        buildx.arg("buildx").args(to.split(' ')).arg("--cache-to=type=local,dest=cache,mode=max");
        assert!(buildx.current_dir(workspace.root()).status().unwrap().success());
    }
    fs::remove_dir_all(workspace.root().join("cache")).unwrap();
    remove_image(&workspace.own("tt-a"));
    let output = workspace.xtask(&["build", "--cache-from", "type=local,src=cache"]);
    assert!(output.exits_with(0).stderr.contains("cache has no build cache"));
}

#[test]
#[ignore = "needs an engine with the containerd image store"]
fn githubs_cache_has_a_scope_for_each_image_and_the_token_of_the_job() {
    let github = Requests::record();
    let workspace = Workspace::new()
        .with_box()
        .image("a", "FROM tt-box\nRUN echo tt-1 > /f\n")
        .image("b", "FROM tt-box\nRUN echo tt-2 > /f\n")
        .secret(TOKEN);
    let job = [("ACTIONS_RUNTIME_TOKEN", TOKEN.to_owned()), ("ACTIONS_CACHE_URL", github.url())];
    let job = job.map(|(name, value)| (name.to_owned(), value)).into();
    let options = ["build", "-vv", "--cache-from", "type=gha"];
    let output = workspace.xtask_with(&job, &options).exits_with(0);
    assert!(!output.stderr.contains(TOKEN), "{}", output.stderr);
    let requests = github.all();
    for image in ["tt-a", "tt-b"] {
        let scope = format!("index-{}", workspace.own(image));
        let mut about = requests.iter().filter(|request| request.contains(&scope));
        assert!(about.any(|it| it.contains(TOKEN)), "{image}: {requests:#?}");
    }
}

/// A JSON web token for the cache of the branch `main`, until 2096, that nobody signed.
const TOKEN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJhYyI6Ilt7XCJTY29wZVwiOlwicmVmcy9oZWFk\
    cy9tYWluXCIsXCJQZXJtaXNzaW9uXCI6M31dIiwibmJmIjoxNjAwMDAwMDAwLCJleHAiOjQwMDAwMDAwMDB9.c2ln";

/// A server that has nothing, and remembers what it was asked.
struct Requests {
    address: SocketAddr,
    all: Arc<Mutex<Vec<String>>>,
}

impl Requests {
    fn record() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, all) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<_>>>::default());
        let seen = Arc::clone(&all);
        thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|it| it > 0)
                {
                    head.push(byte[0]);
                }
                seen.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
                let nothing = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
                drop(client.write_all(nothing));
            }
        });
        Self { address, all }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    fn all(&self) -> Vec<String> {
        self.all.lock().unwrap().clone()
    }
}

#[test]
#[ignore = "needs an engine since 23"]
fn a_date_makes_images_identical() {
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nCOPY f /\n")
        .file("src/a/f", "1")
        .file("xtask.toml", "args.SOURCE_DATE_EPOCH = 1700000000\n");
    let build = || {
        let _ = workspace.xtask(&["build", "--no-cache", "-f"]).exits_with(0);
        let format = "{{.Id}} {{.Created}}";
        let inspected = docker(&["image", "inspect", "--format", format, &workspace.own("tt-a")]);
        String::from_utf8(inspected).unwrap()
    };
    let first = build();
    assert!(first.contains(" 2023-11-14T22:13:20Z"), "{first}");
    assert_eq!(build(), first);
    workspace.write("xtask.toml", "args.SOURCE_DATE_EPOCH = 1700000001\n");
    let edited = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(edited.built(), ["a"], "{}", edited.stderr);
}

fn other_builds(other: &OtherEngine, workspace: &Workspace, expected: &[&str]) {
    let output = other.xtask(workspace, &["build"]).exits_with(0);
    assert_eq!(output.built(), expected, "{}", output.stderr);
}

fn two_images() -> Workspace {
    Workspace::new()
        .image("base", "FROM scratch\nCOPY build /build\n")
        .image("web", "FROM tt-base\nCOPY build /web\n")
}

#[test]
#[ignore = "needs two engines: DOCKER_HOST and OTHER_DOCKER_HOST"]
fn two_engines_that_are_used_in_turn_build_once_each() {
    let workspace = two_images();
    let other = OtherEngine::of(&workspace);
    let builds = |expected: &[&str]| {
        let output = workspace.xtask(&["build"]).exits_with(0);
        assert_eq!(output.built(), expected, "{}", output.stderr);
    };
    builds(&["base", "web"]);
    other_builds(&other, &workspace, &["base", "web"]);
    for _ in 0..2 {
        builds(&[]);
        other_builds(&other, &workspace, &[]);
    }
    workspace.write("src/web/build/new", "1");
    builds(&["web"]);
    other_builds(&other, &workspace, &["web"]);
    builds(&[]);
}

#[test]
#[ignore = "needs two engines: DOCKER_HOST and OTHER_DOCKER_HOST"]
fn of_two_engines_one_has_up_to_date_what_the_other_pushed() {
    let registry = Registry::start();
    let toml = format!("registry = \"{}/x\"\n", registry.address());
    let workspace = two_images().file("xtask.toml", &toml).env("XTASK_TAG", "1");
    let other = OtherEngine::of(&workspace);
    let _ = workspace.xtask(&["build", "--push"]).exits_with(0);
    other.remove_all();
    for image in ["tt-base", "tt-web"] {
        let reference = workspace.own(&format!("{}/x/{image}:1", registry.address()));
        other.pull(&reference);
    }
    std::fs::remove_dir_all(workspace.root().join("target")).unwrap();
    // Podman does not tell whether an image of BuildKit has ONBUILD instructions, so it could be one
    // that was derived from ours.
    let is_unknown = other.is_podman() && !is_podman();
    other_builds(&other, &workspace, if is_unknown { &["base", "web"] } else { &[] });
    other_builds(&other, &workspace, &[]);
    workspace.write("src/web/build/new", "1");
    other_builds(&other, &workspace, &["web"]);
}

#[test]
#[ignore = "needs an engine with the containerd image store"]
fn what_takes_such_an_engine_long_is_not_asked_of_it() {
    let engine = VersionedEngine::start("1.24", "1.99");
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nCOPY f /\n")
        .file("src/a/f", "1")
        .image("b", "FROM tt-a\nLABEL x=1\n")
        .env("DOCKER_HOST", &engine.host());
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let _ = engine.requests();
    let builds = |expected: usize| {
        let output = workspace.xtask(&["build"]).exits_with(0);
        assert_eq!(output.built().len(), expected, "{}", output.stderr);
    };
    builds(0);
    workspace.write("src/a/f", "edited");
    builds(2);
    workspace.write("src/a/f", "edited again");
    builds(2);
    workspace.write("src/a/f", "edited");
    builds(0);
    // Another checkout finds what this one made.
    std::fs::remove_dir_all(workspace.root().join("target/xtask/manifests")).unwrap();
    std::fs::remove_file(workspace.root().join("target/xtask/records")).unwrap();
    workspace.write("src/a/f", "edited again");
    builds(0);
    let requests = engine.requests();
    assert!(!requests.iter().any(|it| it.contains("/images/json")), "{requests:#?}");
}

#[test]
#[ignore = "needs an engine with the containerd image store"]
fn the_last_images_of_a_name_are_kept_until_they_are_cleaned_up() {
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nCOPY f /\n")
        .file("src/a/f", "0")
        .image("b", "FROM tt-a\nLABEL x=1\n");
    let builds = |text: &str| {
        workspace.write("src/a/f", text);
        let output = workspace.xtask(&["build"]).exits_with(0);
        output.built_by_name().len()
    };
    for edit in 0..10 {
        assert_eq!(builds(&edit.to_string()), 2);
    }
    // The last eight are there.
    assert_eq!(builds("2"), 0);
    assert_eq!(builds("9"), 0);
    assert_eq!(builds("1"), 2);
    let would = workspace.xtask(&["clean", "--images", "--dry-run"]).exits_with(0).stdout;
    assert!(would.starts_with("would remove 14 images without a name"), "{would}");
    let cleaned = workspace.xtask(&["clean", "--images"]).exits_with(0).stdout;
    assert!(cleaned.starts_with("removed 14 images without a name"), "{cleaned}");
    assert_eq!(builds("1"), 0);
    assert_eq!(builds("9"), 2);
    let _ = workspace.xtask(&["clean", "--images"]).exits_with(0);
}
