//! `--builder NAME` and `export bake`: a builder of `docker buildx` builds in the engine's place,
//! and afterwards all is as if the engine had built it. The builder has none of the engine's images.
//!
//!     bash tests/engines builders
//!
//! runs these, with a newer engine's BuildKit as the builder.

use std::fs::{self, Permissions};
use std::iter;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{self, Command};

use expect_test::expect;
use tests::engine::{docker, has_image, image_files};
use tests::registry::Registry;
use tests::remote_builder::{NAME, RemoteBuilder};
use tests::{Output, Workspace, wait_until};

/// A workspace whose images are built elsewhere.
struct Elsewhere {
    builder: RemoteBuilder,
    workspace: Workspace,
}

impl Elsewhere {
    fn new(fill: impl FnOnce(Workspace) -> Workspace) -> Self {
        let builder = RemoteBuilder::start();
        let workspace = fill(Workspace::new().with_box().env("DOCKER_CONFIG", &builder.config()));
        Self { builder, workspace }
    }

    fn xtask(&self, arguments: &[&str]) -> Output {
        self.workspace.xtask(&[&["--builder", NAME], arguments].concat())
    }

    /// Pushes the base image `tt-external:1`, and returns its reference.
    fn push_box(&self, registry: &Registry) -> String {
        let own = self.workspace.own("tt-box");
        let reference = self.workspace.own(&format!("{}/tt-external:1", registry.address()));
        docker(&["tag", &own, &reference]);
        docker(&["push", &reference]);
        reference
    }

    fn builds(&self, expected: &[&str]) {
        let output = self.xtask(&["build"]).exits_with(0);
        assert_eq!(output.built_by_name(), expected, "{}", output.stderr);
        // With the engine's own builder, there is nothing left to do.
        let again = self.workspace.xtask(&["build"]).exits_with(0);
        assert_eq!(again.built(), [] as [&str; 0], "{}", again.stderr);
    }

    /// Exports everything and has Bake build it, after which there is nothing left to do.
    fn bakes(&self) {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let export = ["export", "bake", out.to_str().unwrap()];
        let _ = self.workspace.xtask(&export).exits_with(0);
        let mut bake = Command::new("docker");
        bake.args(["buildx", "bake", "--builder", NAME]).current_dir(&out);
        bake.env("DOCKER_CONFIG", self.builder.config());
        // Buildx gives up if another test's build ends that a builder asked for a base.
        let mut tries = iter::repeat_with(|| bake.output().unwrap()).take(3);
        let is_cut_off = |output: &process::Output| {
            String::from_utf8_lossy(&output.stderr).contains("no active session for ")
        };
        let baked = tries.find(|it| !is_cut_off(it)).expect("a builder that answers");
        assert!(baked.status.success(), "{}", String::from_utf8_lossy(&baked.stderr));
        // At first nothing of it is on record, and then it is.
        for _ in 0..2 {
            let again = self.workspace.xtask(&["build"]).exits_with(0);
            assert_eq!(again.built(), [] as [&str; 0], "{}", again.stderr);
        }
    }

    /// Builds all images in the engine as well, and compares them. What follows is built upon
    /// those of the engine.
    fn is_as_built_by_the_engine(&self, images: &[&str]) {
        let names = images.iter().map(|image| self.workspace.own(&format!("tt-{image}")));
        let names: Vec<String> = names.collect();
        let made: Vec<_> = names.iter().map(|name| image_files(name)).collect();
        let _ = self.workspace.xtask(&["build", "--force"]).exits_with(0);
        for (name, made) in names.iter().zip(made) {
            assert_eq!(made, image_files(name), "{name}");
        }
    }
}

/// Adds an image with files of all kinds, and one that takes from it in every way; both need `base`.
fn with_lib_and_app(workspace: Workspace) -> Workspace {
    let workspace = workspace
        .image("lib", "FROM scratch\nCOPY files /lib/\nCOPY dependency/base/build /recipes/\n")
        .file("src/lib/build/component.dep", "base\n")
        .file("src/lib/files/big", &"x".repeat(300))
        .image(
            "app",
            "FROM tt-lib:latest AS lib\nFROM tt-base AS run\nENV A='${d} %{e}'\n\
             COPY --from=lib /lib/big /big\nCOPY --from=docker.io/library/tt-lib /recipes /r\n\
             RUN --mount=from=tt-lib,target=/m cp -P /m/lib/link /link && cat /d/f > /seen\n\
             FROM run\nCOPY f /\n",
        )
        .file("src/app/f", "1");
    symlink("elsewhere", workspace.root().join("src/lib/files/link")).unwrap();
    workspace
}

#[test]
#[ignore = "needs a second engine and docker buildx: bash tests/engines builders"]
fn what_a_builder_makes_is_what_the_engine_makes() {
    let it = Elsewhere::new(|workspace| {
        with_lib_and_app(workspace)
            .image("base", "FROM tt-box\nRUN mkdir /d /m && chmod 700 /d && echo 1 > /d/f\n")
            .script(
                "src/app/build/build-post.sh",
                "docker run --rm tt-app cat /seen > src/app/ran\n",
            )
    });
    it.builds(&["app", "base", "lib"]);
    assert_eq!(fs::read_to_string(it.workspace.root().join("src/app/ran")).unwrap(), "1\n");
    it.is_as_built_by_the_engine(&["base", "lib", "app"]);
    it.workspace.write("src/app/f", "2");
    it.builds(&["app"]);
    it.workspace.write("src/lib/files/big", "small");
    it.builds(&["app", "lib"]);
    it.is_as_built_by_the_engine(&["base", "lib", "app"]);
    // An image that only the engine has, and another one than the builder made of the same files.
    let _ = it.workspace.xtask(&["build", "base", "--no-cache"]).exits_with(0);
    it.builds(&["app"]);
}

#[test]
#[ignore = "needs a second engine and docker buildx: bash tests/engines builders"]
fn bases_of_the_engine_need_no_registry_and_those_of_a_registry_are_pulled_once() {
    let registry = Registry::start();
    let it = Elsewhere::new(|workspace| {
        let base =
            format!("FROM {}/tt-external:1\nRUN cat /bin/sh > /copied\n", registry.address());
        workspace.image("a", &base)
    });
    let reference = it.push_box(&registry);
    docker(&["rmi", &reference]);
    it.builds(&["a"]);
    assert!(has_image(&reference));
}

#[test]
#[ignore = "needs a second engine and docker buildx: bash tests/engines builders"]
fn what_bake_makes_of_an_exported_file_is_what_a_build_makes() {
    let registry = Registry::start();
    let it = Elsewhere::new(|workspace| {
        let external = format!("{}/tt-external:1", registry.address());
        with_lib_and_app(workspace)
            .image("base", &format!("FROM {external}\nRUN mkdir /d /m && echo 1 > /d/f\n"))
            .image(
                "hook",
                "FROM tt-base\nARG GREETING\nCOPY generated /g\nRUN echo $GREETING > /x\n",
            )
            .script(
                "src/hook/build/build-pre.sh",
                "mkdir -p src/hook/generated && cp src/hook/in src/hook/generated/out\n",
            )
            .file("src/hook/in", "1")
            .file("xtask.toml", "[image.tt-hook.args]\nGREETING = \"$${{hello}} %{{you}}\"\n")
    });
    let _ = it.push_box(&registry);
    let all = ["base", "lib", "app", "hook"];
    it.bakes();
    it.is_as_built_by_the_engine(&all);
    // Where the engine built before.
    it.workspace.write("src/lib/files/big", "small");
    it.workspace.write("src/hook/in", "2");
    it.bakes();
    // With fresh state, and another mode of a folder.
    it.workspace.write("src/lib/files/big", "large");
    fs::set_permissions(it.workspace.root().join("src/lib/files"), Permissions::from_mode(0o700))
        .unwrap();
    fs::remove_dir_all(it.workspace.root().join("target/xtask")).unwrap();
    it.bakes();
    it.is_as_built_by_the_engine(&all);
}

#[test]
#[ignore = "needs a second engine and docker buildx: bash tests/engines builders"]
fn images_of_bake_are_stale_once_their_base_is_another() {
    let registry = Registry::start();
    let it = Elsewhere::new(|workspace| {
        let differs =
            format!("FROM {}/tt-external:1\nRUN cat /proc/uptime > /f\n", registry.address());
        workspace
            .image("base", &differs)
            .image("lib", &differs)
            .file("src/app/f", "1")
            .image("app", "FROM tt-base\nCOPY --from=tt-lib /f /g\nCOPY f /\n")
    });
    let _ = it.push_box(&registry);
    for base in ["base", "lib"] {
        it.workspace.write("src/app/f", base);
        it.bakes();
        // Another image of the same recipe.
        let _ = it.workspace.xtask(&["build", base, "--no-cache"]).exits_with(0);
        let output = it.workspace.xtask(&["build"]).exits_with(0);
        assert_eq!(output.built(), ["app"], "{}", output.stderr);
    }
}

#[test]
#[ignore = "needs a second engine and docker buildx: bash tests/engines builders"]
fn a_failure_is_shown_as_one_of_the_engine() {
    let it = Elsewhere::new(|workspace| {
        workspace
            .image("a", "FROM tt-box\nRUN echo before; exit 3\n")
            .image("b", "FROM tt-box\nCOPY none /\n")
    });
    let output = it.xtask(&["build", "--keep-going"]).exits_with(1);
    assert!(output.stderr.contains("a | before\n"), "{}", output.stderr);
    for place in ["src/a/build/tt-a.dockerfile:2", "src/b/build/tt-b.dockerfile:2"] {
        assert!(output.stderr.contains(place), "{}", output.stderr);
    }
    let repeated = format!("--builder {NAME}");
    assert!(output.stderr.contains(&repeated), "{}", output.stderr);
    it.workspace.write("src/a/build/tt-a.dockerfile", "FROM tt-box\nRUN echo mended > /f\n");
    it.workspace.write("src/b/none", "here");
    it.builds(&["a", "b"]);
}

#[test]
#[ignore = "needs a second engine and docker buildx: bash tests/engines builders"]
fn secrets_reach_a_builder_and_stay_in_no_image() {
    let it = Elsewhere::new(|workspace| {
        workspace
            .image("a", "FROM tt-box\nRUN --mount=type=secret,id=key cat /run/secrets/key | cat > /dev/null && test -s /run/secrets/key\n")
            .file("key", "hunter2")
            .file("xtask.toml", "[image.tt-a]\nsecrets = [\"id=key,src=key\"]\n")
            .secret("hunter2")
    });
    it.builds(&["a"]);
}

#[test]
#[ignore = "needs a second engine and docker buildx: bash tests/engines builders"]
fn ctrl_c_ends_what_a_builder_runs() {
    let it =
        Elsewhere::new(|workspace| workspace.image("a", "FROM tt-box\nRUN echo on; sleep 98765\n"));
    let mut running = it.workspace.start(&["--builder", NAME, "build"]);
    running.wait_for("| on");
    wait_until("the instruction", || is_running("98765"));
    running.interrupt();
    let _ = running.finish().exits_with(130);
    wait_until("the end of the instruction", || !is_running("98765"));
    it.workspace.write("src/a/build/tt-a.dockerfile", "FROM tt-box\nRUN echo > /f\n");
    it.builds(&["a"]);
}

#[test]
#[ignore = "needs a second engine and docker buildx: bash tests/engines builders"]
fn a_builder_writes_and_reads_a_cache_in_a_folder() {
    let it = Elsewhere::new(|workspace| {
        workspace.image("a", "FROM tt-box\nRUN echo 1 > /f\nCOPY f /\n")
    });
    it.workspace.write("src/a/f", "1");
    let _ = it.xtask(&["build", "--cache-to", "type=local,dest=cache,mode=max"]).exits_with(0);
    let layout = fs::read_to_string(it.workspace.root().join("cache/oci-layout")).unwrap();
    assert_eq!(layout, "{\"imageLayoutVersion\":\"1.0.0\"}");
    it.workspace.write("src/a/f", "2");
    let output = it.xtask(&["build", "--cache-from", "type=local,src=cache"]).exits_with(0);
    assert!(!output.stderr.contains("warning"), "{}", output.stderr);
    assert_eq!(output.built(), ["a"], "{}", output.stderr);
}

/// Whether a process `sleep` has this argument.
fn is_running(argument: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut lines = processes.map(|it| fs::read(it.path().join("cmdline")).unwrap_or_default());
    let wanted = format!("sleep\0{argument}\0");
    lines.any(|line| line == wanted.as_bytes())
}

#[test]
#[ignore = "needs a second engine and docker buildx: bash tests/engines builders"]
fn watch_builds_at_a_builder() {
    let it = Elsewhere::new(|workspace| {
        workspace
            .image("base", "FROM tt-box\nCOPY f /\n")
            .file("src/base/f", "1")
            .image("a", "FROM tt-base\nRUN cat /f\n")
    });
    let mut running = it.workspace.start(&["--builder", NAME, "watch"]);
    running.wait_for("watching: ");
    for text in ["2", "3"] {
        it.workspace.save("src/base/f", text);
        running.wait_for("2 built");
        running.wait_for("watching: ");
    }
    running.interrupt();
    let _ = running.finish().exits_with(0);
    it.is_as_built_by_the_engine(&["base", "a"]);
}

#[test]
#[ignore = "needs a second engine and docker buildx: bash tests/engines builders"]
fn a_builder_that_cannot_be_used_is_an_error_that_says_why() {
    let it = Elsewhere::new(|workspace| workspace.image("a", "FROM tt-box\nRUN echo > /f\n"));
    let fails = |builder: &str| {
        let output = it.workspace.xtask(&["--builder", builder, "build"]).exits_with(1);
        output.error().to_owned()
    };
    expect![[r#"
        error: src/a/build/tt-a.dockerfile: image 'tt-a' failed to build: cannot use builder 'nobody': no builder "nobody" found. Try: docker buildx inspect --bootstrap nobody
        to reproduce: cargo xtask build -s a --builder nobody
    "#]]
    .assert_eq(&fails("nobody"));
    let without = [("DOCKER_CONFIG".to_owned(), "/nowhere".to_owned())].into();
    let output = it.workspace.xtask_with(&without, &["--builder", NAME, "build"]).exits_with(1);
    // An installed plugin is found without a configuration.
    let has_buildx = output.stderr.contains(&format!("no builder \"{NAME}\" found"));
    assert!(
        has_buildx || output.error().contains("has no buildx: install it"),
        "{}",
        output.stderr
    );
    let own = fails("default");
    assert!(own.contains("it is the engine's own: leave --builder out"), "{own}");
    let bad = it.workspace.xtask(&["--builder", "x y", "build"]).exits_with(2);
    assert!(bad.stderr.contains("a builder of docker buildx"), "{}", bad.stderr);
    it.workspace
        .write("xtask.toml", "[image.tt-a]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n");
    let several = it.xtask(&["build"]).exits_with(2);
    assert!(
        several.error().contains("one is built at a time with --platform"),
        "{}",
        several.error()
    );
}
