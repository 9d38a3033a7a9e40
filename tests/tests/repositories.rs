//! Repositories of other shapes than `src/COMPONENT/build/`, each with a short `xtask.toml`:
//! what is built is what the docker CLI builds, and nothing is built twice.
//!
//! The shapes are those of public repositories: where their Dockerfiles lie, how their images
//! are named, and what the Dockerfiles use.

use tests::Workspace;
use tests::engine::{cli_build, docker, image_config, image_files};

/// An image, and how the docker CLI builds it: its context, Dockerfile and build args.
type Expected<'a> = (&'a str, &'a str, &'a str, &'a [&'a str]);

/// Builds everything from a fresh clone, by one command, and compares each image with that of
/// the docker CLI; then nothing is left to build.
fn is_built_as_by_the_cli(workspace: &Workspace, expected: &[Expected<'_>]) {
    let mut images: Vec<&str> = expected.iter().map(|(image, ..)| *image).collect();
    images.sort_unstable();
    assert_eq!(built(workspace), images);
    for (image, context, dockerfile, args) in expected {
        let (image, cli) = (workspace.own(image), workspace.own("tt-cli"));
        let in_root = |path: &str| workspace.root().join(workspace.own(path));
        let args = args.iter().map(|arg| format!("--build-arg={}", workspace.own(arg)));
        let args: Vec<String> = args.collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let dockerfile = in_root(dockerfile);
        cli_build(&in_root(context), dockerfile.to_str().expect("UTF-8"), &cli, &args);
        assert_eq!(image_files(&image), image_files(&cli), "{image}");
        assert_eq!(image_config(&image), image_config(&cli), "{image}");
    }
    assert_eq!(built(workspace), [""; 0]);
}

/// What `init` writes for the repository without its file makes as many images, or says what is
/// left to fill in.
fn init_finds(workspace: &Workspace, images: usize, to_fill_in: &[&str]) {
    let path = workspace.root().join("xtask.toml");
    std::fs::remove_file(&path).unwrap();
    let written = workspace.xtask(&["init"]).exits_with(0);
    let toml = std::fs::read_to_string(&path).unwrap();
    let shown = format!("{toml}\n{}{}", written.stdout, written.stderr);
    for text in to_fill_in {
        assert!(written.stderr.contains(text) && toml.contains("needs a value"), "{shown}");
    }
    if to_fill_in.is_empty() {
        assert_eq!(written.stderr, "", "{shown}");
        let config = workspace.xtask(&["config"]).exits_with(0).stdout;
        let found = config.lines().filter(|line| line.contains(" (component ")).count();
        assert_eq!(found, images, "{shown}");
        let _ = workspace.xtask(&["build", "-n"]).exits_with(0);
    }
}

/// The images that a build makes, sorted.
fn built(workspace: &Workspace) -> Vec<String> {
    let output = workspace.xtask(&["build"]).exits_with(0);
    let lines = output.stderr.lines().filter(|line| line.ends_with(" built"));
    let mut images: Vec<String> =
        lines.filter_map(|line| Some(line.split_whitespace().rev().nth(1)?.to_owned())).collect();
    images.sort();
    images
}

#[test]
fn a_folder_for_each_image_and_bases_by_args_of_args() {
    let dockerfile = |base: &str| {
        format!(
            "ARG REGISTRY=quay.example\nARG OWNER=jupyter\n\
             ARG BASE_IMAGE=$REGISTRY/$OWNER/{base}\nFROM $BASE_IMAGE\nCOPY f /{base}\n"
        )
    };
    let workspace = Workspace::new()
        .with_box()
        .file(
            "xtask.toml",
            r#"
            registry = "quay.example/jupyter"

            [image."{image}"]
            dockerfile = "images/{image}/Dockerfile"

            [image.tt-foundation]
            args.ROOT_IMAGE = "tt-box"
            "#,
        )
        .file(
            "images/tt-foundation/Dockerfile",
            "ARG ROOT_IMAGE=ubuntu:24.04\nFROM $ROOT_IMAGE\nCOPY f /\n",
        )
        .file("images/tt-foundation/f", "1")
        .file("images/tt-base/Dockerfile", &dockerfile("tt-foundation"))
        .file("images/tt-base/f", "2")
        .file("images/tt-minimal/Dockerfile", &dockerfile("tt-base"))
        .file("images/tt-minimal/f", "3");
    let root = ["ROOT_IMAGE=tt-box"];
    is_built_as_by_the_cli(
        &workspace,
        &[
            ("tt-foundation", "images/tt-foundation", "images/tt-foundation/Dockerfile", &root),
            ("tt-base", "images/tt-base", "images/tt-base/Dockerfile", &[]),
            ("tt-minimal", "images/tt-minimal", "images/tt-minimal/Dockerfile", &[]),
        ],
    );
    workspace.write("images/tt-base/f", "edited");
    assert_eq!(built(&workspace), ["tt-base", "tt-minimal"]);
    // An arg that only names one of our images does not count by its value.
    let output = workspace.xtask(&["build", "--build-arg", "OWNER=jupyter"]).exits_with(0);
    assert!(!output.stderr.contains(" built\n"), "{}", output.stderr);
    init_finds(&workspace, 3, &[]);
}

#[test]
fn names_with_a_namespace_that_no_folder_has() {
    let workspace = Workspace::new()
        .with_box()
        .file(
            "xtask.toml",
            r#"
            [image."tt-selenium/base"]
            dockerfile = "Base/Dockerfile"

            [image."tt-selenium/node-base"]
            dockerfile = "NodeBase/Dockerfile"

            [image."tt-selenium/node-chrome"]
            dockerfile = "NodeChrome/Dockerfile"
            "#,
        )
        .file("Base/Dockerfile", "FROM tt-box\nCOPY --chmod=755 f /opt/\n")
        .file("Base/f", "base")
        .file(
            "NodeBase/Dockerfile",
            "ARG NAMESPACE=tt-selenium\nARG VERSION=latest\n\
             FROM ${NAMESPACE}/base:${VERSION}\nLABEL authors=us\nCOPY f /opt/node/\n",
        )
        .file("NodeBase/f", "node")
        .file(
            "NodeChrome/Dockerfile",
            "ARG NAMESPACE=tt-selenium\nARG VERSION=latest\n\
             FROM ${NAMESPACE}/node-base:${VERSION}\nARG CHROME=stable\nENV CHROME=$CHROME\n",
        );
    workspace.write("Base/Dockerfile", "FROM tt-box\nCOPY f /opt/\n");
    is_built_as_by_the_cli(
        &workspace,
        &[
            ("tt-selenium/base", "Base", "Base/Dockerfile", &[]),
            ("tt-selenium/node-base", "NodeBase", "NodeBase/Dockerfile", &[]),
            ("tt-selenium/node-chrome", "NodeChrome", "NodeChrome/Dockerfile", &[]),
        ],
    );
    workspace.write("NodeBase/f", "edited");
    assert_eq!(built(&workspace), ["tt-selenium/node-base", "tt-selenium/node-chrome"]);
    init_finds(&workspace, 3, &[]);
}

#[test]
fn one_context_for_all_the_root() {
    let service = |name: &str| {
        format!("FROM scratch\nCOPY ./pb/demo.proto /pb/\nCOPY ./src/{name}/ ./src/{name}/\n")
    };
    let workspace = Workspace::new()
        .file(
            "xtask.toml",
            r#"
            context = "."

            [image."tt-demo-{service}"]
            dockerfile = "src/{service}/Dockerfile"

            [image.tt-demo-web]
            dockerfile = "src/web/deploy/Dockerfile"
            "#,
        )
        .file(".dockerignore", "**/*.md\n")
        .file("pb/demo.proto", "1")
        .file("src/ad/Dockerfile", &service("ad"))
        .file("src/ad/main", "ad")
        .file("src/ad/notes.md", "not sent")
        .file("src/cart/Dockerfile", &service("cart"))
        .file("src/cart/main", "cart")
        .file("src/web/deploy/Dockerfile", &service("web"))
        .file("src/web/main", "web");
    is_built_as_by_the_cli(
        &workspace,
        &[
            ("tt-demo-ad", ".", "src/ad/Dockerfile", &[]),
            ("tt-demo-cart", ".", "src/cart/Dockerfile", &[]),
            ("tt-demo-web", ".", "src/web/deploy/Dockerfile", &[]),
        ],
    );
    workspace.write("src/cart/main", "edited");
    assert_eq!(built(&workspace), ["tt-demo-cart"]);
    workspace.write("src/ad/notes.md", "edited");
    assert_eq!(built(&workspace), [""; 0]);
    workspace.write("pb/demo.proto", "2");
    assert_eq!(built(&workspace), ["tt-demo-ad", "tt-demo-cart", "tt-demo-web"]);
    init_finds(&workspace, 3, &[]);
}

#[test]
fn versions_and_variants_by_folders_and_by_suffixes() {
    let workspace = Workspace::new()
        .file(
            "xtask.toml",
            r#"
            [image."tt-php:{version}-{variant}-{suite}"]
            dockerfile = "{version}/{suite}/{variant}/Dockerfile"

            [image."tt-s2i:{version}-{system}"]
            dockerfile = "s2i/{version}/Dockerfile.{system}"
            "#,
        )
        .file("8.3/bookworm/cli/Dockerfile", "FROM scratch\nCOPY php /\n")
        .file("8.3/bookworm/cli/php", "8.3 bookworm")
        .file("8.3/alpine3.20/fpm/Dockerfile", "FROM scratch\nCOPY php /\n")
        .file("8.3/alpine3.20/fpm/php", "8.3 alpine")
        .file("s2i/3.12/Dockerfile.c9s", "FROM scratch\nCOPY root /\nLABEL os=c9s\n")
        .file("s2i/3.12/Dockerfile.rhel9", "FROM scratch\nCOPY root /\nLABEL os=rhel9\n")
        .file("s2i/3.12/root/etc/f", "python");
    let s2i = "s2i/3.12";
    is_built_as_by_the_cli(
        &workspace,
        &[
            ("tt-php:8.3-cli-bookworm", "8.3/bookworm/cli", "8.3/bookworm/cli/Dockerfile", &[]),
            (
                "tt-php:8.3-fpm-alpine3.20",
                "8.3/alpine3.20/fpm",
                "8.3/alpine3.20/fpm/Dockerfile",
                &[],
            ),
            ("tt-s2i:3.12-c9s", s2i, "s2i/3.12/Dockerfile.c9s", &[]),
            ("tt-s2i:3.12-rhel9", s2i, "s2i/3.12/Dockerfile.rhel9", &[]),
        ],
    );
    workspace.write("s2i/3.12/root/etc/f", "edited");
    assert_eq!(built(&workspace), ["tt-s2i:3.12-c9s", "tt-s2i:3.12-rhel9"]);
    init_finds(&workspace, 4, &[]);
}

#[test]
fn an_image_is_a_tag_and_bases_are_tags() {
    let workspace = Workspace::new()
        .file(
            "xtask.toml",
            r#"
            external = ["tt-ros:noetic-*"]

            [image."tt-ros:{distro}-{kind}-{suite}"]
            dockerfile = "ros/{distro}/*/{suite}/{kind}/Dockerfile"

            [image."tt-osrf/ros:{distro}-desktop-{suite}"]
            dockerfile = "ros/{distro}/*/{suite}/desktop/Dockerfile"
            "#,
        )
        .file("ros/jazzy/ubuntu/noble/ros-core/Dockerfile", "FROM scratch\nCOPY f /core\n")
        .file("ros/jazzy/ubuntu/noble/ros-core/f", "jazzy")
        .file(
            "ros/jazzy/ubuntu/noble/ros-base/Dockerfile",
            "FROM tt-ros:jazzy-ros-core-noble\nCOPY f /base\n",
        )
        .file("ros/jazzy/ubuntu/noble/ros-base/f", "base")
        .file(
            "ros/jazzy/ubuntu/noble/desktop/Dockerfile",
            "FROM tt-ros:jazzy-ros-base-noble\nCOPY f /desktop\n",
        )
        .file("ros/jazzy/ubuntu/noble/desktop/f", "desktop")
        .file("ros/rolling/ubuntu/noble/ros-core/Dockerfile", "FROM scratch\nCOPY f /core\n")
        .file("ros/rolling/ubuntu/noble/ros-core/f", "rolling");
    let folder = |kind: &str| format!("ros/jazzy/ubuntu/noble/{kind}");
    let (core, base, desktop) = (folder("ros-core"), folder("ros-base"), folder("desktop"));
    let dockerfile = |folder: &str| format!("{folder}/Dockerfile");
    let rolling = "ros/rolling/ubuntu/noble/ros-core";
    is_built_as_by_the_cli(
        &workspace,
        &[
            ("tt-ros:jazzy-ros-core-noble", &core, &dockerfile(&core), &[]),
            ("tt-ros:jazzy-ros-base-noble", &base, &dockerfile(&base), &[]),
            ("tt-osrf/ros:jazzy-desktop-noble", &desktop, &dockerfile(&desktop), &[]),
            ("tt-ros:rolling-ros-core-noble", rolling, &dockerfile(rolling), &[]),
        ],
    );
    workspace.write(&format!("{core}/f"), "edited");
    let all = [
        "tt-osrf/ros:jazzy-desktop-noble",
        "tt-ros:jazzy-ros-base-noble",
        "tt-ros:jazzy-ros-core-noble",
    ];
    assert_eq!(built(&workspace), all);
    init_finds(&workspace, 4, &[]);
}

#[test]
fn a_matrix_of_versions_and_a_base_by_an_arg_of_args() {
    let workspace = Workspace::new()
        .file(
            "xtask.toml",
            r#"
            registry = "ghcr.example/tt-home"

            [image."tt-base:{alpine}"]
            dockerfile = "alpine/Dockerfile"
            matrix.alpine = ["3.22", 3.23]
            args.ALPINE_VERSION = "{alpine}"
            labels."base.image" = "alpine:{alpine}"

            [image."tt-python:{python}-alpine{alpine}"]
            dockerfile = "python/{python}/Dockerfile"
            matrix.alpine = ["3.22", "3.23"]
            args = { BASE_IMAGE = "{registry}/tt-base", BASE_VERSION = "{alpine}" }
            "#,
        )
        .file(
            "alpine/Dockerfile",
            "FROM scratch\nARG ALPINE_VERSION\nENV ALPINE=$ALPINE_VERSION\nCOPY rootfs /\n",
        )
        .file("alpine/rootfs/f", "1")
        .file(
            "python/3.13/Dockerfile",
            "ARG BASE_IMAGE\nARG BASE_VERSION\nARG BUILD_FROM=${BASE_IMAGE}:${BASE_VERSION}\n\
             FROM ${BUILD_FROM}\nENV PYTHON=3.13\n",
        );
    let label = |version: &str| format!("--label=base.image=alpine:{version}");
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(output.stderr.lines().filter(|line| line.ends_with(" built")).count(), 4);
    for version in ["3.22", "3.23"] {
        let cli = workspace.own("tt-cli");
        let arg = format!("--build-arg=ALPINE_VERSION={version}");
        let context = workspace.root().join("alpine");
        cli_build(&context, "Dockerfile", &cli, &[&arg, &label(version)]);
        let own = workspace.own(&format!("tt-base:{version}"));
        assert_eq!(image_files(&own), image_files(&cli));
        assert_eq!(image_config(&own), image_config(&cli));
        let python = workspace.own(&format!("tt-python:3.13-alpine{version}"));
        let environment = image_config(&python)["Env"].to_string();
        assert!(environment.contains(&format!("ALPINE={version}")), "{environment}");
    }
    assert_eq!(built(&workspace), [""; 0]);
    let toml = std::fs::read_to_string(workspace.root().join("xtask.toml")).unwrap();
    workspace.write_bytes("xtask.toml", toml.replace("alpine:{alpine}", "os:{alpine}").as_bytes());
    assert_eq!(built(&workspace).len(), 4);
    workspace.write(
        "python/3.13/Dockerfile",
        "ARG BASE_IMAGE\nARG BASE_VERSION\nFROM ${BASE_IMAGE}:${BASE_VERSION}\n",
    );
    assert_eq!(built(&workspace), ["tt-python:3.13-alpine3.22", "tt-python:3.13-alpine3.23"]);
    init_finds(&workspace, 2, &["python/3.13/Dockerfile:3: ':' is not an image reference"]);
}

#[test]
fn two_contexts_and_a_default_that_is_no_reference() {
    let server = |base: &str| format!("ARG BASE_IMG=<{base}>\nFROM $BASE_IMG\nCOPY f /{base}\n");
    let app = |app: &str| format!("FROM tt-box\nCOPY ./common/s /s\nCOPY ./{app}/src /app\n");
    let workspace = Workspace::new()
        .with_box()
        .file(
            "xtask.toml",
            r#"
            registry = "ghcr.example/servers"
            tags = ["{registry}/{image}:{tag}", "{registry}/{image}:latest"]

            [image."tt-{server}"]
            dockerfile = "components/servers/{server}/Dockerfile"

            [image."tt-{app}-web-app"]
            dockerfile = "components/apps/{app}/Dockerfile"
            context = "components/apps"

            [image.tt-base]
            args.BASE_IMG = "tt-box"

            [image.tt-jupyter]
            args.BASE_IMG = "{registry}/tt-base:sha-0123-dirty"

            [image."tt-jupyter-*"]
            args.BASE_IMG = "tt-jupyter"
            "#,
        )
        .file("components/servers/base/Dockerfile", &server("base"))
        .file("components/servers/base/f", "1")
        .file("components/servers/jupyter/Dockerfile", &server("parent"))
        .file("components/servers/jupyter/f", "2")
        .file("components/servers/jupyter-full/Dockerfile", &server("jupyter"))
        .file("components/servers/jupyter-full/f", "3")
        .file("components/apps/common/s", "shared")
        .file("components/apps/jupyter/Dockerfile", &app("jupyter"))
        .file("components/apps/jupyter/src/f", "app")
        .file("components/apps/volumes/Dockerfile", &app("volumes"))
        .file("components/apps/volumes/src/f", "app");
    let (servers, apps) = ("components/servers", "components/apps");
    let folder = |folder: &str, name: &str| format!("{folder}/{name}");
    let dockerfile = |folder: &str, name: &str| format!("{folder}/{name}/Dockerfile");
    is_built_as_by_the_cli(
        &workspace,
        &[
            (
                "tt-base",
                &folder(servers, "base"),
                &dockerfile(servers, "base"),
                &["BASE_IMG=tt-box"],
            ),
            (
                "tt-jupyter",
                &folder(servers, "jupyter"),
                &dockerfile(servers, "jupyter"),
                &["BASE_IMG=tt-base"],
            ),
            (
                "tt-jupyter-full",
                &folder(servers, "jupyter-full"),
                &dockerfile(servers, "jupyter-full"),
                &["BASE_IMG=tt-jupyter"],
            ),
            ("tt-jupyter-web-app", apps, &dockerfile(apps, "jupyter"), &[]),
            ("tt-volumes-web-app", apps, &dockerfile(apps, "volumes"), &[]),
        ],
    );
    workspace.write("components/apps/common/s", "edited");
    assert_eq!(built(&workspace), ["tt-jupyter-web-app", "tt-volumes-web-app"]);
    init_finds(&workspace, 5, &["servers/jupyter/Dockerfile:2: '<parent>' is not an"]);
}

#[test]
fn a_context_that_a_hook_stages() {
    let stage = "#!/bin/sh\nset -e\nrm -rf out\nmkdir -p out/docker/tt-pilot out/docker/tt-proxy\n\
                 cp pilot/main out/docker/tt-pilot/pilot\ncp proxy/main out/docker/tt-proxy/proxy\n";
    let workspace = Workspace::new()
        .script("tools/stage.sh", stage)
        .file(
            "xtask.toml",
            r#"
            [image."{image}"]
            dockerfile = "*/docker/Dockerfile.{image}"
            context = "out/docker/{image}"
            pre-build = "tools/stage.sh"
            "#,
        )
        .file("pilot/main", "pilot")
        .file("pilot/docker/Dockerfile.tt-pilot", "FROM scratch\nCOPY pilot /usr/bin/\n")
        .file("proxy/main", "proxy")
        .file("proxy/docker/Dockerfile.tt-proxy", "FROM tt-pilot\nCOPY proxy /usr/bin/\n");
    is_built_as_by_the_cli(
        &workspace,
        &[
            ("tt-pilot", "out/docker/tt-pilot", "pilot/docker/Dockerfile.tt-pilot", &[]),
            ("tt-proxy", "out/docker/tt-proxy", "proxy/docker/Dockerfile.tt-proxy", &[]),
        ],
    );
    workspace.write("proxy/main", "edited");
    assert_eq!(built(&workspace), ["tt-proxy"]);
    init_finds(&workspace, 2, &[]);
}

#[test]
fn args_from_files_and_variants_beside_one_another() {
    let dockerfile = |accelerator: &str| {
        format!(
            "ARG BASE_IMAGE\nFROM $BASE_IMAGE\nARG FLAVOR\nENV FLAVOR=$FLAVOR\n\
             LABEL of={accelerator}\nCOPY jupyter/shared /\n"
        )
    };
    let at = "jupyter/pytorch+llm/ubi9";
    let workspace = Workspace::new()
        .with_box()
        .file(
            "xtask.toml",
            r#"
            context = "."

            [image."tt-wb:jupyter-{kind}-{accelerator}"]
            dockerfile = "jupyter/[rocm/]{kind}/ubi9/Dockerfile.{accelerator}"
            args-file = ["{dir}/args/{accelerator}.conf", "local.conf?"]
            "#,
        )
        .file("jupyter/shared", "shared")
        .file(&format!("{at}/Dockerfile.cpu"), &dockerfile("cpu"))
        .file(&format!("{at}/Dockerfile.cuda"), &dockerfile("cuda"))
        .file(&format!("{at}/args/cpu.conf"), "# args\nBASE_IMAGE=tt-box\nFLAVOR=cpu\n")
        .file(&format!("{at}/args/cuda.conf"), "BASE_IMAGE=tt-box\nFLAVOR=cuda\nOTHER=1\n");
    let (cpu, cuda) = (format!("{at}/Dockerfile.cpu"), format!("{at}/Dockerfile.cuda"));
    is_built_as_by_the_cli(
        &workspace,
        &[
            ("tt-wb:jupyter-pytorch-llm-cpu", ".", &cpu, &["BASE_IMAGE=tt-box", "FLAVOR=cpu"]),
            ("tt-wb:jupyter-pytorch-llm-cuda", ".", &cuda, &["BASE_IMAGE=tt-box", "FLAVOR=cuda"]),
        ],
    );
    workspace.write(&format!("{at}/args/cuda.conf"), "BASE_IMAGE=tt-box\nFLAVOR=12\n");
    assert_eq!(built(&workspace), ["tt-wb:jupyter-pytorch-llm-cuda"]);
    init_finds(&workspace, 2, &[]);
}

#[test]
fn a_table_adjusts_an_image_of_src() {
    let workspace = Workspace::new()
        .file("xtask.toml", "[image.tt-b]\ncontext = \".\"\n")
        .image("a", "FROM scratch\nCOPY f /\n")
        .file("src/a/f", "1")
        .image("b", "FROM tt-a\nCOPY shared/f /shared\n")
        .file("shared/f", "1");
    is_built_as_by_the_cli(
        &workspace,
        &[
            ("tt-a", "src/a", "src/a/build/tt-a.dockerfile", &[]),
            ("tt-b", ".", "src/b/build/tt-b.dockerfile", &[]),
        ],
    );
    workspace.write("shared/f", "2");
    assert_eq!(built(&workspace), ["tt-b"]);
}

#[test]
fn a_hook_that_need_not_run_hides_no_change_of_a_context_elsewhere() {
    let workspace = Workspace::new()
        .file("xtask.toml", "[image.tt-a]\ncontext = \"shared\"\n")
        .image("a", "FROM scratch\nCOPY f /\n")
        .script("src/a/build/build-pre.sh", "#!/bin/sh\ncat version > /dev/null\n")
        .file("src/a/build/inputs", "version\n")
        .file("version", "1")
        .file("shared/f", "1");
    assert_eq!(built(&workspace), ["tt-a"]);
    assert_eq!(built(&workspace), [""; 0]);
    workspace.write("shared/f", "2");
    assert_eq!(built(&workspace), ["tt-a"]);
    assert!(image_files(&workspace.own("tt-a"))["f"].ends_with('2'));
}

#[test]
fn images_are_defined_by_their_contexts_alone() {
    let workspace = Workspace::new()
        .file(
            "xtask.toml",
            "[image.tt-a]\ncontext = \"services/a\"\n[image.tt-b]\ncontext = \"services/b/\"\n",
        )
        .file("services/a/Dockerfile", "FROM scratch\nCOPY f /\n")
        .file("services/a/f", "1")
        .file("services/b/Dockerfile", "FROM tt-a\nCOPY f /b\n")
        .file("services/b/f", "1");
    is_built_as_by_the_cli(
        &workspace,
        &[
            ("tt-a", "services/a", "services/a/Dockerfile", &[]),
            ("tt-b", "services/b", "services/b/Dockerfile", &[]),
        ],
    );
}

#[test]
fn two_targets_of_one_dockerfile_are_two_images() {
    let workspace = Workspace::new()
        .file(
            "xtask.toml",
            "[image.tt-base]\ndockerfile = \"Dockerfile\"\ncontext = \"context\"\n\
             target = \"base\"\n[image.tt-notebooks]\ndockerfile = \"Dockerfile\"\n\
             context = \"context\"\ntarget = \"notebooks\"\n",
        )
        .file(
            "Dockerfile",
            "FROM scratch AS base\nCOPY one /\nFROM base AS notebooks\nCOPY two /\n",
        )
        .file("context/one", "1")
        .file("context/two", "2");
    assert_eq!(built(&workspace), ["tt-base", "tt-notebooks"]);
    assert_eq!(built(&workspace), [""; 0]);
    assert!(!image_files(&workspace.own("tt-base")).contains_key("two"));
    workspace.write("context/two", "edited");
    assert_eq!(built(&workspace), ["tt-notebooks"]);
    workspace.write("context/one", "edited");
    assert_eq!(built(&workspace), ["tt-base", "tt-notebooks"]);
    let _ = workspace.xtask(&["build", "tt-notebooks", "--force"]).exits_with(0);
    init_finds(&workspace, 1, &[]);
}

#[test]
fn components_are_named_by_paths_and_by_the_ends_of_paths() {
    let workspace = Workspace::new()
        .file(
            "xtask.toml",
            "[image.\"tt-{accelerator}/{kind}\"]\ndockerfile = \"{accelerator}/{kind}/Dockerfile\"\n\
             [image.tt-root]\ndockerfile = \"Dockerfile\"\n",
        )
        .file("cpu/minimal/Dockerfile", "FROM scratch\nLABEL of=cpu\n")
        .file("rocm/minimal/Dockerfile", "FROM scratch\nLABEL of=rocm\n")
        .file("rocm/full/Dockerfile", "FROM scratch\nLABEL of=full\n")
        .file("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let planned = |folder: &str, words: &[&str]| {
        let output = workspace.xtask_in(folder, &[&["build", "-n"], words].concat()).exits_with(0);
        let lines = output.stdout.lines().filter(|line| line.contains(" stale "));
        lines.filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect::<Vec<_>>()
    };
    for (folder, word, component) in [
        (".", "cpu/minimal", "cpu/minimal"),
        (".", "./rocm/full/", "full"),
        (".", "full", "full"),
        ("rocm", "full/Dockerfile", "full"),
        ("rocm/minimal", ".", "rocm/minimal"),
        (".", ".", "."),
        (".", "tt-root", "."),
    ] {
        assert_eq!(planned(folder, &[word]), [component], "{word} in {folder}");
    }
    assert_eq!(planned("rocm/minimal", &[".."]), ["full", "rocm/minimal"]);
    let image = workspace.own("tt-rocm/full");
    assert_eq!(planned(".", &[&image]), ["full"]);
    let wrong = workspace.xtask(&["build", "-n", "minimal"]).exits_with(2);
    assert!(wrong.error().contains("no component or image 'minimal'"), "{}", wrong.error());
}

/// Its name has as many folders in front as make it unique.
#[test]
fn a_dependency_that_gets_another_name_makes_its_dependents_stale() {
    let rest = "[image.tt-app]\ndockerfile = \"services/app/Dockerfile\"\n\
                depends-on = [\"services/web\"]\n\
                [image.tt-web]\ndockerfile = \"services/web/Dockerfile\"\n";
    let workspace = Workspace::new()
        .file("xtask.toml", rest)
        .file("services/web/w", "w")
        .file("services/web/Dockerfile", "FROM scratch\nCOPY w /\n")
        .file("services/app/Dockerfile", "FROM scratch\nCOPY . /\n")
        .file("admin/web/w", "w")
        .file("admin/web/Dockerfile", "FROM scratch\nCOPY w /\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let files = || image_files(&workspace.own("tt-app"));
    assert!(files().contains_key("dependency/web/w"));
    let more = "[image.tt-admin]\ndockerfile = \"admin/web/Dockerfile\"\n";
    workspace.write("xtask.toml", &format!("{rest}{more}"));
    let planned = workspace.xtask(&["build", "-n", "app"]).exits_with(0);
    assert!(planned.stdout.contains("dependency/services/web added"), "{}", planned.stdout);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    assert!(files().contains_key("dependency/services/web/w"), "{:?}", files());
    assert_eq!(workspace.xtask(&["build"]).exits_with(0).built(), [""; 0]);
}

/// It has them only for as long as a build takes, and only if it runs at that time.
#[test]
fn a_context_does_not_contain_what_other_hooks_fill_during_a_build() {
    let hook = "#!/bin/sh\nmkdir -p a/generated\necho g > a/generated/g\n";
    let toml = "[image.\"tt-{n}\"]\ndockerfile = \"{n}/Dockerfile\"\n\
                [image.tt-b]\ncontext = \".\"\n";
    let workspace = Workspace::new()
        .file("xtask.toml", toml)
        .file(".dockerignore", "target\n")
        .file("a/Dockerfile", "FROM scratch\nCOPY . /\n")
        .file("b/Dockerfile", "FROM tt-a\nCOPY . /srv/\n")
        .file("a/build/inputs", "env:NONE\n")
        .script("a/build/build-pre.sh", hook);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let files = image_files(&workspace.own("tt-b"));
    assert!(files.contains_key("generated/g") && files.contains_key("srv/a/Dockerfile"));
    assert!(!files.contains_key("srv/a/generated/g"), "{files:?}");
    for arguments in [&["build"][..], &["build", "-j1"], &["build", "b"]] {
        let output = workspace.xtask(arguments).exits_with(0);
        assert_eq!(output.built(), [""; 0], "{arguments:?}");
    }
}

/// Here a component can be a folder in another one, of which one name is the beginning.
#[test]
fn components_in_others_have_records_of_their_own() {
    let toml = "[image.tt-x]\ndockerfile = \"x/Dockerfile\"\n\
                [image.tt-xw]\ndockerfile = \"x/web/Dockerfile\"\n\
                [image.tt-yw]\ndockerfile = \"y/c#/Dockerfile\"\n";
    let mut workspace = Workspace::new().file("xtask.toml", toml).file("version/number", "1");
    for dir in ["x", "x/web", "y/c#"] {
        let hook = format!("#!/bin/sh\ncp -r version '{dir}/version'\n");
        workspace = workspace
            .file(&format!("{dir}/Dockerfile"), "FROM scratch\nCOPY version /version\n")
            .script(&format!("{dir}/build/build-pre.sh"), &hook);
    }
    let _ = workspace.xtask(&["build"]).exits_with(0);
    workspace.write("version/number", "2");
    for _ in 0..2 {
        let output = workspace.xtask(&["build"]).exits_with(0);
        assert!(!output.stderr.contains("warning"), "{}", output.stderr);
    }
    for image in ["tt-x", "tt-xw", "tt-yw"] {
        let files = image_files(&workspace.own(image));
        assert!(files["version/number"].ends_with(" 2"), "{image}: {files:?}");
        assert!(!files.contains_key("version/version/number"), "{image}");
    }
}

#[test]
fn a_name_of_docker_hub_written_out_is_the_short_one() {
    let toml = "[image.\"docker.io/library/tt-{n}\"]\ndockerfile = \"{n}/Dockerfile\"\n";
    let workspace = Workspace::new()
        .file("xtask.toml", toml)
        .file("a/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let output = workspace.xtask(&["build", "-n", "--exit-code"]).exits_with(0);
    assert!(output.stdout.contains("up to date"), "{}", output.stdout);
}

#[test]
fn another_reference_to_the_same_base_makes_nothing_stale() {
    let toml = "registry = \"registry.example/team\"\n\
                tags = [\"{registry}/{image}:sha-{commit}\"]\n\
                [image.\"tt-{n}\"]\ndockerfile = \"{n}/Dockerfile\"\n\
                [image.tt-a]\nargs.BASE = \"{registry}/tt-b:sha-${SHA}\"\n";
    let workspace = Workspace::new()
        .file("xtask.toml", toml)
        .file("b/f", "1")
        .file("b/Dockerfile", "FROM scratch\nCOPY f /\n")
        .file("a/f", "1")
        .file("a/Dockerfile", "ARG BASE\nFROM ${BASE}\nCOPY f /g\n")
        .git();
    let build = |sha: &str| {
        let variables = [("SHA".to_owned(), sha.to_owned())].into();
        workspace.xtask_with(&variables, &["build"]).exits_with(0)
    };
    assert_eq!(build("0123").built().len(), 2);
    assert_eq!(build("0124").built(), [""; 0]);
    workspace.write("b/f", "2");
    assert_eq!(build("0125").built().len(), 2);
    assert!(image_files(&workspace.own("tt-a"))["f"].ends_with(" 2"));
}

#[test]
fn watch_sees_what_an_arg_in_the_configuration_makes_readable() {
    let toml = |value: &str| format!("[image.\"tt-a\"]\nargs.D = \"{value}\"\n");
    let workspace = Workspace::new()
        .file("xtask.toml", &toml("a"))
        .file("src/a/a1", "")
        .file("src/a/b1", "")
        .file("src/a/b2", "")
        .image("a", "FROM scratch\nARG D=a\nCOPY build $D* /\n");
    let mut running = workspace.start(&["watch"]);
    running.wait_for("watching: ");
    workspace.save("xtask.toml", &toml("b"));
    running.wait_for("| built in ");
    running.wait_for("watching: ");
    let files = image_files(&workspace.own("tt-a"));
    assert!(files.contains_key("b1") && files.contains_key("b2"), "{files:?}");
    running.interrupt();
    let _ = running.finish().exits_with(0);
}

/// The ignore file of a Dockerfile that is elsewhere, and the Dockerfile itself.
#[test]
fn watch_sees_changes_of_a_dockerfile_outside_of_the_context() {
    let workspace = Workspace::new()
        .file(
            "xtask.toml",
            "[image.tt-a]\ndockerfile = \"files/a.Dockerfile\"\ncontext = \"context\"\n",
        )
        .file("files/a.Dockerfile", "FROM scratch\nCOPY a* /\n")
        .file("files/a.Dockerfile.dockerignore", "a2\n")
        .file("context/a1", "")
        .file("context/a2", "")
        .file("context/c1", "");
    let mut running = workspace.start(&["watch"]);
    running.wait_for("watching: ");
    let mut built = |path: &str, text: &str| {
        workspace.save(path, text);
        running.wait_for("| built in ");
        running.wait_for("watching: ");
        image_files(&workspace.own("tt-a"))
    };
    assert!(built("files/a.Dockerfile", "FROM scratch\nCOPY a* c* /\n").contains_key("c1"));
    assert!(built("files/a.Dockerfile.dockerignore", "nothing\n").contains_key("a2"));
    running.interrupt();
    let _ = running.finish().exits_with(0);
}

/// As others do by `sed`: the build is of the Dockerfile that the hook leaves.
#[test]
fn a_hook_can_write_its_components_dockerfile() {
    let hook = "#!/bin/sh\nread n < src/a/n\n\
                printf 'FROM tt-base%s\\nCOPY f%s /f\\n' $n $n > src/a/build/tt-a.dockerfile\n";
    let workspace = Workspace::new()
        .image("base1", "FROM scratch\nCOPY f /base\n")
        .file("src/base1/f", "one")
        .image("base2", "FROM scratch\nCOPY f /base\n")
        .file("src/base2/f", "two")
        .file("src/a/f1", "1")
        .file("src/a/f2", "2")
        .file("src/a/n", "1\n")
        .file("src/a/build/component.dep", "base1\nbase2\n")
        .image("a", "FROM tt-base1\nCOPY f1 /f\n");
    let hook = hook.replace("tt-", &workspace.own("tt-"));
    let workspace = workspace.script("src/a/build/build-pre.sh", &hook);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    workspace.write("src/a/n", "2\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let files = image_files(&workspace.own("tt-a"));
    assert!(files["f"].ends_with(" 2") && files["base"].ends_with(" two"), "{files:?}");
    assert_eq!(workspace.xtask(&["build"]).exits_with(0).built(), [""; 0]);
    let new = hook.replace("-a.dockerfile", "-b.dockerfile");
    workspace.write("src/a/build/build-pre.sh", &new);
    let output = workspace.xtask(&["build"]).exits_with(1);
    assert!(output.stderr.contains("was made by src/a/build/build-pre.sh during the build"));
}

/// An option for what is selected is not for a dependency, nor after its hook ran.
#[test]
fn image_options_leave_out_a_dependency_whose_dockerfile_is_written_by_a_hook() {
    let workspace = Workspace::new()
        .image("base", "FROM scratch\nCOPY 1 /f\n")
        .file("src/base/1", "one")
        .file("src/base/2", "two")
        .script(
            "src/base/build/build-pre.sh",
            "#!/bin/sh\nsed -i 's/COPY 1/COPY 2/' src/base/build/*.dockerfile\n",
        )
        .image("app", "FROM tt-base AS build\nFROM tt-base AS final\nCOPY f /g\n")
        .file("src/app/f", "app");
    let options = ["build", "-s", "app", "--target", "final", "--label", "of=app"];
    let _ = workspace.xtask(&options).exits_with(0);
    let files = image_files(&workspace.own("tt-base"));
    assert!(files["f"].ends_with(" two"), "{files:?}");
    let label = |image| {
        let format = "{{index .Config.Labels \"of\"}}";
        let out = docker(&["image", "inspect", "--format", format, &workspace.own(image)]);
        String::from_utf8(out).unwrap()
    };
    assert_eq!([label("tt-base"), label("tt-app")], ["\n", "app\n"]);
}
