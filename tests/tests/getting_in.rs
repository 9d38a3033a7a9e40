//! The way in: `init`, `new`, and what is said where there is nothing to build.

use std::fs;
use std::process::Command;

use expect_test::expect;
use tests::registry::Registry;
use tests::{Workspace, target};

#[test]
fn an_empty_folder_becomes_two_images() {
    let workspace = Workspace::new();
    expect![[r#"
        wrote xtask.toml
        no Dockerfiles yet; next: cargo xtask new NAME
    "#]]
    .assert_eq(&workspace.xtask(&["init"]).exits_with(0).stdout);
    expect![[r#"
        error: src: contains no components: create a folder src/NAME/build/ with a NAME.dockerfile in it, or use the command 'new'
    "#]]
    .assert_eq(workspace.xtask(&["build"]).exits_with(2).error());
    let first = workspace.own("tt-one");
    let second = workspace.own("tt-two");
    expect![[r#"
        wrote src/tt-one/build/tt-one.dockerfile
        wrote src/tt-one/app/tt-one.txt
        next: cargo xtask build tt-one
    "#]]
    .assert_eq(&workspace.xtask(&["new", &first]).exits_with(0).stdout);
    let new = ["new", &second, "--from", &first, "--needs", &first];
    let _ = workspace.xtask(&new).exits_with(0);
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(output.built(), ["tt-one", "tt-two"], "{}", output.stderr);
    workspace.write("src/tt-one/app/tt-one.txt", "edited");
    let output = workspace.xtask(&["build", "-n"]).exits_with(0);
    assert!(output.stdout.ends_with("2 of 2 images would be built\n"), "{}", output.stdout);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let again = workspace.xtask(&["new", &second]).exits_with(2);
    expect![[r#"
        error: src/tt-two/build/tt-two.dockerfile: makes image 'tt-two': choose another name
    "#]]
    .assert_eq(again.error());
    let wrong = workspace.xtask(&["new", "Web"]).exits_with(2);
    expect![[r#"
        error: 'Web' is not a valid image name: image names must be lowercase: rename it to 'web'
    "#]]
    .assert_eq(wrong.error());
    let wrong = workspace.xtask(&["new", "web", "--needs", "tt-onn"]).exits_with(2);
    assert!(wrong.error().contains("no component 'tt-onn'"), "{}", wrong.error());
    let wrong = workspace.xtask(&["init"]).exits_with(2);
    expect![[r#"
        error: xtask.toml: exists: 'cargo xtask init --dry-run' prints what would be written
    "#]]
    .assert_eq(wrong.error());
}

#[test]
fn git_does_not_see_what_is_kept_between_runs() {
    let workspace = Workspace::new().image("a", "FROM scratch\nCOPY build /\n").git();
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let mut git = Command::new("git");
    git.args(["status", "--porcelain", "--untracked-files=all"]).current_dir(workspace.root());
    let status = String::from_utf8(git.output().unwrap().stdout).unwrap();
    assert!(!status.contains("target"), "{status}");
}

#[test]
fn a_repository_with_compose_is_found_as_it_is_built_there() {
    let workspace = Workspace::new()
        .file(
            "compose.yaml",
            "services:\n  tt-cart:\n    build:\n      context: .\n      dockerfile: src/cart/Dockerfile\n  \
             tt-ad:\n    build:\n      context: .\n      dockerfile: ./src/ad/Dockerfile\n      args:\n        \
             - VERSION=2\n  db:\n    image: postgres:17\n  web:\n    image: \
             example/tt-shop-web:${TAG:-latest}\n    build: ./web\n",
        )
        .file("src/cart/Dockerfile", "FROM scratch\nCOPY pb/a ./src/cart/main /\n")
        .file("src/ad/Dockerfile", "FROM scratch\nARG VERSION\nCOPY pb/a /\n")
        .file("web/Dockerfile", "FROM scratch\nCOPY index.html /\n")
        .file("web/index.html", "")
        .file("pb/a", "")
        .file("src/cart/main", "")
        .file("tests/Dockerfile", "FROM scratch\nCOPY . /\n");
    let shown = workspace.xtask(&["init", "--dry-run"]).exits_with(0);
    expect![[r##"
        # Which images this repository has. docs/configuration.md of the tool has all keys;
        # 'config' prints what holds for each image.

        [image."tt-{app}"]
        dockerfile = "src/{app}/Dockerfile"
        context = "."

        # as in compose.yaml
        [image.tt-shop-web]
        dockerfile = "web/Dockerfile"

        [image.tt-ad]
        args.VERSION = "2"
    "##]]
    .assert_eq(&shown.stdout);
    let written = workspace.xtask(&["init"]).exits_with(0);
    expect![[r#"
        wrote xtask.toml, which finds 3 images: tt-ad, tt-cart, tt-shop-web
        next: cargo xtask build -n
    "#]]
    .assert_eq(&written.stdout);
    let planned = workspace.xtask(&["build", "-n"]).exits_with(0);
    assert!(planned.stdout.ends_with("3 of 3 images would be built\n"), "{}", planned.stdout);
    let built = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(built.built().len(), 3, "{}", built.stderr);
}

#[test]
fn folders_of_one_shape_become_one_table() {
    let mut workspace = Workspace::new();
    for app in ["base", "api", "web"] {
        let dockerfile = format!("FROM scratch\nCOPY main /{app}\n");
        workspace = workspace
            .file(&format!("images/tt-{app}/Dockerfile"), &dockerfile)
            .file(&format!("images/tt-{app}/main"), app);
    }
    let workspace = workspace
        .file("tools/lint/Dockerfile.debug", "FROM scratch\nCOPY tools /\n")
        .file("tools/x", "")
        .file("images/tt-api/Dockerfile.dev", "FROM scratch\n")
        .file("notebooks/min/Dockerfile", "ARG BASE=<tt-web>\nFROM $BASE\n")
        .file("notebooks/max/Dockerfile", "ARG BASE\nFROM ${BASE}\n");
    let shown = workspace.xtask(&["init", "-n"]).exits_with(0);
    expect![[r##"
        # Which images this repository has. docs/configuration.md of the tool has all keys;
        # 'config' prints what holds for each image.

        [image."{image}"]
        dockerfile = "images/{image}/Dockerfile"

        [image."{app}"]
        dockerfile = "notebooks/{app}/Dockerfile"

        [image.max]
        # args.BASE = ""  # notebooks/max/Dockerfile:2 needs a value: FROM ${BASE}

        [image.min]
        args.BASE = "tt-web"

        [image.debug]
        dockerfile = "tools/lint/Dockerfile.debug"
        context = "."

        # if images/tt-api/Dockerfile.dev makes an image of its own:
        # [image.tt-api-dev]
        # dockerfile = "images/tt-api/Dockerfile.dev"
    "##]]
    .assert_eq(&shown.stdout);
}

#[test]
fn a_folder_s_name_is_found_at_the_end_of_its_image_s() {
    let workspace = Workspace::new()
        .file(
            "compose.yaml",
            "services:\n  tt-ad-ad:\n    build: apps/ad\n  tt-ad-b:\n    build: apps/b\n",
        )
        .file("apps/ad/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
        .file("apps/b/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let shown = workspace.xtask(&["init", "-n"]).exits_with(0).stdout;
    let table = "[image.\"tt-ad-{app}\"]\ndockerfile = \"apps/{app}/Dockerfile\"\n";
    assert!(shown.ends_with(table), "{shown}");
}

#[test]
fn the_layout_of_src_needs_no_tables() {
    let workspace = Workspace::new().image("a", "FROM scratch\nCOPY build /\n");
    let before = workspace.xtask(&["graph"]).exits_with(0).stdout;
    let written = workspace.xtask(&["init"]).exits_with(0);
    expect![[r#"
        wrote xtask.toml, which finds 1 image: tt-a
        next: cargo xtask build -n
    "#]]
    .assert_eq(&written.stdout);
    assert_eq!(workspace.xtask(&["graph"]).exits_with(0).stdout, before);
}

#[test]
fn every_tool_s_file_says_how_its_images_are_built() {
    let dockerfile = "FROM scratch AS one\nARG A\nCOPY f /\nFROM one AS two\nARG B\n";
    let mut workspace = Workspace::new();
    for app in ["a", "b", "c", "d", "e"] {
        workspace = workspace
            .file(&format!("apps/{app}/Dockerfile"), dockerfile)
            .file(&format!("apps/{app}/f"), app);
    }
    let workspace = workspace
        .file(
            "docker-bake.hcl",
            "variable \"TAG\" { default = \"1\" }\ntarget \"_all\" {\n  args = { A = \"x\", B = \"unused\" }\n}\n\
             target \"a\" {\n  inherits = [\"_all\"]\n  context = \"apps/a\"\n  target = \"one\"\n  \
             tags = [\"r.example/tt-bake:${TAG}\"]\n  labels = { x = timestamp() }\n}\n",
        )
        .file(
            "skaffold.yaml",
            "apiVersion: skaffold/v4beta6\nbuild:\n  artifacts:\n  - image: r.example/tt-skaffold\n    \
             context: apps/b\n    docker:\n      target: one\n      buildArgs: {A: y}\n",
        )
        .file(
            "Makefile",
            "c:\n\t@docker build -t r.example/tt-make:$(TAG) \\\n\t\t--build-arg A=z apps/c\n",
        )
        .file(
            ".github/workflows/release.yml",
            "jobs:\n  d:\n    steps:\n    - uses: docker/build-push-action@v6\n      with:\n        \
             context: apps/d\n        tags: |\n          ghcr.io/x/tt-action:latest\n        \
             build-args: |\n          A=w\n    - run: docker build --target one -t tt-run apps/e\n",
        );
    let _ = workspace.xtask(&["init"]).exits_with(0);
    let toml = fs::read_to_string(workspace.root().join("xtask.toml")).unwrap();
    let toml = toml.replace(&workspace.own("tt-"), "tt-");
    expect![[r##"
        # as in docker-bake.hcl
        [image.tt-bake]
        dockerfile = "apps/a/Dockerfile"
        target = "one"
        args.A = "x"

        # as in skaffold.yaml
        [image.tt-skaffold]
        dockerfile = "apps/b/Dockerfile"
        target = "one"
        args.A = "y"

        # as in Makefile
        [image.tt-make]
        dockerfile = "apps/c/Dockerfile"
        args.A = "z"

        # as in .github/workflows/release.yml
        [image.tt-action]
        dockerfile = "apps/d/Dockerfile"
        args.A = "w"

        # as in .github/workflows/release.yml
        [image.tt-run]
        dockerfile = "apps/e/Dockerfile"
        target = "one"
    "##]]
    .assert_eq(toml.split_once("\n\n").unwrap().1);
    let planned = workspace.xtask(&["build", "-n"]).exits_with(0);
    assert!(planned.stdout.ends_with("5 of 5 images would be built\n"), "{}", planned.stdout);
}

#[test]
fn a_bake_file_says_what_its_images_are() {
    let workspace = Workspace::new()
        .file(
            "docker-bake.json",
            r#"{"target": {
                "one": {"context": "app", "target": "one", "tags": ["r.example/x/tt-one:1"]},
                "two": {"context": "app", "target": "two", "args": {"A": "b"}, "tags": ["tt-two"]}
            }}"#,
        )
        .file("app/Dockerfile", "FROM scratch AS one\nCOPY f /\nFROM one AS two\nARG A\n")
        .file("app/f", "");
    let _ = workspace.xtask(&["init"]).exits_with(0);
    let config = workspace.xtask(&["config"]).exits_with(0);
    expect![[r#"
        tt-one (component app)
          dockerfile  app/Dockerfile
          context     app
          target      one                                xtask.toml:7
          tags        {registry}/tt-one:{tag}

        tt-two (component app)
          dockerfile  app/Dockerfile
          context     app
          target      two                                xtask.toml:12
          tags        {registry}/tt-two:{tag}
          args.A      b                                  xtask.toml:13
    "#]]
    .assert_eq(&config.stdout);
    let built = workspace.xtask(&["build"]).exits_with(0);
    assert!(built.stderr.contains("image tt-two built"), "{}", built.stderr);
}

/// A workspace with a Dockerfile in each of these folders.
fn dockerfiles(folders: &[&str]) -> Workspace {
    folders.iter().fold(Workspace::new(), |workspace, folder| {
        workspace
            .file(&format!("{folder}/app/f"), "")
            .file(&format!("{folder}/Dockerfile"), "FROM scratch AS debug\nARG V\nCOPY app /\n")
    })
}

/// What `init` writes can be read, and finds exactly these images; returns it.
fn init_finds(workspace: &Workspace, images: &[&str]) -> String {
    let init = workspace.xtask(&["init"]).exits_with(0);
    let toml = fs::read_to_string(workspace.root().join("xtask.toml")).unwrap();
    assert_eq!(init.stderr, "", "{toml}");
    let list = workspace.xtask(&["list"]);
    assert_eq!(list.code, 0, "{toml}\n{}", list.stderr);
    let config = workspace.xtask(&["config"]).exits_with(0).stdout;
    let lines = config.lines().filter_map(|line| line.split_once(" (component "));
    let mut found: Vec<&str> = lines.map(|(name, _)| name).collect();
    found.sort_unstable();
    assert_eq!(found, images, "{toml}");
    toml
}

#[test]
fn a_pattern_takes_no_image_from_another() {
    let compose = "services:\n  web:\n    build: web\n  web-debug:\n    build: {context: web, \
                   target: debug}\n  api:\n    build: api\n";
    let workspace = dockerfiles(&["web", "api"]).file("compose.yaml", compose);
    let _ = init_finds(&workspace, &["api", "web", "web-debug"]);
    let more = format!("{compose}  api-debug:\n    build: {{context: api, target: debug}}\n");
    let workspace = dockerfiles(&["web", "api"]).file("compose.yaml", &more);
    let _ = init_finds(&workspace, &["api", "api-debug", "web", "web-debug"]);
    // Others of the same shape have another context.
    let compose = "services:\n  c:\n    build: {context: ., dockerfile: x/c/Dockerfile}\n  d:\n    \
                   build: {context: ., dockerfile: x/d/Dockerfile}\n";
    let workspace = dockerfiles(&["x/a", "x/b", "x/c", "x/d"]).file("compose.yaml", compose);
    let toml = init_finds(&workspace, &["a", "b", "c", "d"]);
    assert_eq!(toml.matches("[image.").count(), 3, "{toml}");
}

#[test]
fn a_pattern_is_written_if_it_finds_what_can_be_named() {
    let workspace = dockerfiles(&["web", "api", ".devcontainer"]);
    let toml = init_finds(&workspace, &["api", "web"]);
    assert!(!toml.contains("{image}"), "{toml}");
    let workspace = dockerfiles(&["images/web", "images/api", "images/_base"]);
    let toml = init_finds(&workspace, &["api", "base", "web"]);
    assert!(toml.contains("\"images/{image}/Dockerfile\"\n\n[image.base]\n"), "{toml}");
    // Its Dockerfile is no image's, but a test's.
    let _ = init_finds(&dockerfiles(&["x/a", "x/b", "x/tests"]), &["a", "b"]);
}

#[test]
fn a_path_that_no_pattern_can_have_is_a_comment() {
    let workspace = dockerfiles(&["{{cookiecutter.slug}}", "app[1]", "web", "a*", "_"])
        .file("src/x/build/a.Dockerfile", "FROM scratch\n")
        .file("y/Dockerfile.swp", "FROM scratch\n");
    let toml = init_finds(&workspace, &["a", "image", "web"]);
    for path in ["{{cookiecutter.slug}}/Dockerfile", "app[1]/Dockerfile", "a*/Dockerfile"] {
        assert!(toml.contains(&format!("\n# no table can find {path} of image ")), "{toml}");
    }
}

#[test]
fn values_of_other_tools_stand_for_themselves() {
    let workspace = dockerfiles(&["a", "b", "c"])
        .file(
            "compose.yaml",
            "services:\n  a:\n    build:\n      context: a\n      args: {V: '{\"level\": \
             \"debug\"}'}\n  b:\n    build:\n      context: b\n      args: [V]\n",
        )
        .file(
            "skaffold.yaml",
            "build:\n  artifacts:\n  - image: c\n    context: c\n    docker:\n      buildArgs: {V: \
             '{{.VERSION}}', W: '{{.UNDECLARED}}'}\n",
        );
    let toml = init_finds(&workspace, &["a", "b", "c"]);
    for line in [
        "args.V = \"{{\\\"level\\\": \\\"debug\\\"}}\"",
        "# args.V = \"\"  # compose.yaml has: $V",
        "# args.V = \"\"  # skaffold.yaml has: {{.VERSION}}",
    ] {
        assert!(toml.lines().any(|it| it == line), "{line}\n{toml}");
    }
    assert!(!toml.contains("UNDECLARED"), "{toml}");
    let config = workspace.xtask(&["config", "a"]).exits_with(0).stdout;
    assert!(config.contains("{\"level\": \"debug\"}"), "{config}");
}

#[test]
fn images_of_one_name_are_told_apart_by_their_tags() {
    let workspace = dockerfiles(&["php"]).file(
        "docker-bake.hcl",
        "target \"a\" {\n  context = \"php\"\n  args = { V = \"8.1\" }\n  tags = [\"o/php:8.1\"]\n}\n\
         target \"b\" {\n  context = \"php\"\n  args = { V = \"8.2\" }\n  tags = [\"o/php:8.2-RC\"]\n}\n",
    );
    let toml = init_finds(&workspace, &["php:8.1", "php:8.2-RC"]);
    assert!(toml.contains("args.V = \"8.1\"") && toml.contains("args.V = \"8.2\""), "{toml}");
    // What a file says goes before the names of folders.
    let bake = r#"{"target": {"x": {"context": "a/x"}}}"#;
    let workspace = dockerfiles(&["a/x", "b/x"]).file("docker-bake.json", bake);
    let _ = init_finds(&workspace, &["b-x", "x"]);
    // Without tags, by what the file calls them; a command that is repeated makes one image.
    let workspace = dockerfiles(&["php", "x"])
        .file(
            "compose.yaml",
            "services:\n  old:\n    image: o/php\n    build: {context: php, args: {V: '1'}}\n  \
             new:\n    image: o/php:latest\n    build: {context: php, args: {V: '2'}}\n",
        )
        .file("Makefile", "a:\n\tdocker build -t x x\n\tdocker build -t x --build-arg V=1 x\n");
    let toml = init_finds(&workspace, &["new", "old", "x"]);
    assert!(toml.contains("# Makefile also builds it in x with args {\"V\": \"1\"}\n"), "{toml}");
}

#[test]
fn what_a_file_merges_or_puts_in_the_place_of_images_is_taken() {
    let workspace = dockerfiles(&["web"]).file(
        "compose.yaml",
        "x-build: &build\n  context: web\n  args: {V: '1'}\nservices:\n  prod:\n    build: {<<: \
             *build, target: debug}\n",
    );
    let toml = init_finds(&workspace, &["prod"]);
    assert!(toml.contains("target = \"debug\"\nargs.V = \"1\"\n"), "{toml}");
    let from = "FROM baseapp\nCOPY --from=assets f /\nCOPY --from=gone f /\n";
    let workspace = dockerfiles(&["base", "web/assets"]).file("web/Dockerfile", from).file(
        "docker-bake.json",
        r#"{"target": {
            "base": {"context": "base", "tags": ["o/runtime"]},
            "web": {"context": "web", "platforms": ["linux/arm64"], "contexts": {
                "baseapp": "target:base", "assets": "./web/assets", "gone": "target:none",
                "unused": "target:base"
            }}
        }}"#,
    );
    let toml = init_finds(&workspace, &["assets", "runtime", "web"]);
    expect![[r##"
        # as in docker-bake.json
        [image.web]
        dockerfile = "web/Dockerfile"
        contexts.assets = "web/assets"
        contexts.baseapp = "target:runtime"
        # docker-bake.json also has platforms: ["linux/arm64"]
        # contexts.gone = ""  # docker-bake.json has: target:none
    "##]]
    .assert_eq(
        &toml[toml.find("# as in docker-bake.json\n[image.web]").unwrap()..]
            .split_inclusive('\n')
            .take(7)
            .collect::<String>(),
    );
    let compose = "services:\n  one:\n    build: base\n  two:\n    build: {context: web, \
                   additional_contexts: [baseapp=service:one]}\n";
    let workspace = dockerfiles(&["base", "web"])
        .file("web/Dockerfile", "FROM baseapp\n")
        .file("compose.yaml", compose);
    let toml = init_finds(&workspace, &["one", "two"]);
    assert!(toml.contains("contexts.baseapp = \"target:one\"\n"), "{toml}");
}

#[test]
fn commands_build_where_they_run_or_are_comments() {
    let workspace = dockerfiles(&["worker", "jobs", "step"])
        .file("Dockerfile", "FROM scratch\nCOPY worker /\n")
        .file(
            "Makefile",
            "a:\n\tcd worker && docker build -t o/tt-worker .\nb:\n\tcd $(X) && docker build -t y .\n",
        )
        .file("scripts/jobs.sh", "cd jobs\ndocker build -t tt-jobs .\n")
        .file(
            ".github/workflows/w.yml",
            "jobs:\n  a:\n    steps:\n    - run: docker build -t tt-step .\n      \
             working-directory: step\n",
        );
    let root = workspace.root().canonicalize().unwrap();
    let of_root = root.file_name().unwrap().to_str().unwrap().trim_start_matches('.');
    let mut images = ["tt-jobs", "tt-step", "tt-worker", &of_root.to_lowercase()];
    images.sort_unstable();
    let toml = init_finds(&workspace, &images);
    let unknown = "# Makefile: it is not known what this is built from: docker build -t y .\n";
    assert!(toml.contains(unknown), "{toml}");
}

#[test]
fn components_of_src_stay_components_beside_others() {
    let workspace = dockerfiles(&["src/x"])
        .image("api", "FROM scratch\nCOPY dependency/web/f /\n")
        .file("src/api/build/component.dep", "web\n")
        .image("web", "FROM scratch\nCOPY f /\n")
        .file("src/web/build/tt-web.k8s.dockerfile", "FROM scratch\nCOPY f /k8s\n")
        .file("src/web/f", "1")
        .file("src/ui/build/TT-ui.dockerfile", "FROM scratch\nCOPY f /\n")
        .file("src/ui/f", "1")
        .image("tests", "FROM scratch AS a\nARG V\nCOPY shared /\n")
        .file("shared", "1")
        .file(
            "compose.yaml",
            "services:\n  tt-tests:\n    build: {context: ., dockerfile: \
             src/tests/build/tt-tests.dockerfile, target: a}\n  x:\n    build: src/x\n  \
             tt-x-debug:\n    build: {context: src/x, target: debug}\n",
        );
    let _ = workspace.xtask(&["init"]).exits_with(0);
    let toml = fs::read_to_string(workspace.root().join("xtask.toml")).unwrap();
    expect![[r##"
        [image."{image}"]
        dockerfile = "src/{component}/build/{image}[.{flavor}].dockerfile"

        # as in compose.yaml
        [image.tt-x-debug]
        dockerfile = "src/x/Dockerfile"
        target = "debug"

        # as in compose.yaml
        [image.x]
        dockerfile = "src/x/Dockerfile"

        [image.tt-tests]
        context = "."
        target = "a"
    "##]]
    .assert_eq(toml.split_once("\n\n").unwrap().1.replace(&workspace.own("tt-"), "tt-").as_str());
    let config = workspace.xtask(&["config", "--flavor", "k8s"]).exits_with(0).stdout;
    for line in ["tt-api (component api)", "tt-web (component web)", "tt-tests (component tests)"] {
        assert!(config.contains(line), "{config}");
    }
    assert!(config.contains("context     src/api\n"), "{config}");
    let context = workspace.xtask(&["context", "api", "--flavor", "k8s"]).exits_with(0).stdout;
    assert!(context.contains("dependency/web/f"), "{context}");
    let new = workspace.xtask(&["new", &workspace.own("tt-new")]).exits_with(0).stdout;
    assert!(new.starts_with("wrote src/tt-new/build/tt-new.dockerfile\n"), "{new}");
}

#[test]
fn new_builds_at_once_wherever_its_context_is() {
    let toml = |more: &str| {
        format!("{more}\n[image.\"{{image}}\"]\ndockerfile = \"images/{{image}}/Dockerfile\"\n")
    };
    for (more, context) in [
        ("context = \".\"", "images/tt-new/app"),
        ("context = \"images\"\ntarget = \"prod\"", "tt-new/app"),
        ("[image.\"tt-*\"]\ncontext = \".\"", "images/tt-new/app"),
    ] {
        let workspace = Workspace::new()
            .file("xtask.toml", &toml(more))
            .file("images/tt-lib/Dockerfile", "FROM scratch AS prod\nCOPY Dockerfile* /\n")
            .file("images/tt-old/Dockerfile", "FROM scratch AS prod\nCOPY Dockerfile* /\n");
        let new = ["new", &workspace.own("tt-new"), "--needs", &workspace.own("tt-lib")];
        let _ = workspace.xtask(&new).exits_with(0);
        let path = workspace.root().join(workspace.own("images/tt-new/Dockerfile"));
        let dockerfile = fs::read_to_string(path).unwrap();
        let copy = workspace.own(&format!("COPY {context} /app\n"));
        assert!(dockerfile.contains(&copy), "{dockerfile}");
        let built = workspace.xtask(&["build", &workspace.own("tt-new")]).exits_with(0);
        assert_eq!(built.built(), ["tt-lib", "tt-new"], "{}", built.stderr);
    }
    let elsewhere = Workspace::new()
        .file("xtask.toml", &toml("context = \"files\""))
        .file("files/f", "")
        .file("images/old/Dockerfile", "FROM scratch\nCOPY f /\n");
    expect![[r#"
        error: xtask.toml: the context of 'x' would be files, without the files in images/x: set 'context' for it, such as in a table [image."x"]
    "#]]
    .assert_eq(elsewhere.xtask(&["new", "x"]).exits_with(2).error());
}

#[test]
fn new_copies_the_folder_of_the_component_that_has_the_image() {
    let workspace = Workspace::new()
        .file("xtask.toml", "[image.\"{image}\"]\ndockerfile = \"{image}/Dockerfile\"\n[image.tt-web]\ndockerfile = \"Front End/Dockerfile\"\n")
        .file("Front End/Dockerfile", "FROM scratch\nCOPY f /\n")
        .file("Front End/f", "")
        .file("old/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let (new, web) = (workspace.own("tt-new"), workspace.own("tt-web"));
    let command = ["new", &new, "--needs", &web, "--needs", "Front End"];
    let _ = workspace.xtask(&command).exits_with(0);
    let built = workspace.xtask(&["build", &new]).exits_with(0);
    assert!(built.stderr.contains("image tt-new built"), "{}", built.stderr);
    let dockerfile = fs::read_to_string(workspace.root().join(&new).join("Dockerfile")).unwrap();
    let copy = "COPY [\"dependency/Front End/\", \"/Front End/\"]\n";
    assert!(dockerfile.ends_with(copy) && dockerfile.matches(copy).count() == 1, "{dockerfile}");
}

#[test]
fn new_changes_nothing_where_it_cannot_make_all() {
    let workspace = Workspace::new()
        .file("src/front/build/web.dockerfile", "FROM scratch\nCOPY build /\n")
        .file("src/half/app/half.txt", "")
        .file("src/block/app", "");
    let before = workspace.tree();
    let error = |arguments: &[&str]| {
        let output = workspace.xtask(&[&["new"], arguments].concat()).exits_with(2);
        output.error().to_owned()
    };
    expect![[r#"
        error: src/front/build/web.dockerfile: makes image 'web': choose another name
    "#]]
    .assert_eq(&error(&["web"]));
    expect![[r#"
        error: 'web.k8s' would be the flavor 'k8s' of an image 'web': choose another name
    "#]]
    .assert_eq(&error(&["web.k8s"]));
    expect![[r#"
        error: src/half/app/half.txt: exists: choose another name
    "#]]
    .assert_eq(&error(&["half"]));
    expect![[r#"
        error: src/block/app: is no folder: choose another name
    "#]]
    .assert_eq(&error(&["block"]));
    expect![[r#"
        error: --from: 'docker.io/nginx:latest' would be the new image itself: choose another name for it
    "#]]
    .assert_eq(&error(&["nginx", "--from", "docker.io/nginx:latest"]));
    assert_eq!(workspace.tree(), before);
}

#[test]
fn new_makes_what_is_found_or_says_that_it_cannot() {
    let old = |path: &str, toml: &str| {
        Workspace::new().file("xtask.toml", toml).file(path, "FROM scratch\nCOPY Dockerfile /\n")
    };
    let toml = "[image.\"{image}\"]\ndockerfile = \"{image}/Dockerfile\"\n";
    let at_root = old("tt-old/Dockerfile", toml);
    let made = at_root.xtask(&["new", &at_root.own("tt-foo")]).exits_with(0);
    assert!(made.stdout.starts_with("wrote tt-foo/Dockerfile\n"), "{}", made.stdout);
    let planned = at_root.xtask(&["build", "-n", &at_root.own("tt-foo")]).exits_with(0);
    assert!(planned.stdout.contains("tt-foo"), "{}", planned.stdout);
    let toml = "[image.\"tt-{app}\"]\ndockerfile = \"images/{app}/Dockerfile\"\n";
    let elsewhere = old("images/old/Dockerfile", toml);
    let before = elsewhere.tree();
    let command = ["new", "tt-x", "--from", "Foo Bar", "--needs", "a", "--needs", "b"];
    let wrong = elsewhere.xtask(&command).exits_with(2);
    expect![[r#"
        error: --from: 'Foo Bar' is no image: 'Foo Bar' must consist of a-z and 0-9, separated by '.', '_', '__' or '-'
        --needs: no component 'a'
        --needs: no component 'b'
        xtask.toml: finds no image 'tt-x' in a folder of its own: its patterns are images/{app}/Dockerfile. Make a folder that one of them finds, or add a table [image."{image}"] with dockerfile = "{image}/Dockerfile"
    "#]]
    .assert_eq(wrong.error());
    elsewhere.write("xtask.toml", "x = [");
    let broken = elsewhere.xtask(&["new", "tt-x"]).exits_with(2);
    assert!(broken.error().starts_with("error: xtask.toml:1"), "{broken:?}");
    elsewhere.write("xtask.toml", toml);
    assert_eq!(elsewhere.tree(), before);
}

#[test]
fn what_lies_around_is_named_where_nothing_is_built() {
    let empty =
        Workspace::new().file("web/Dockerfile", "FROM scratch\n").file("api/Dockerfile", "");
    expect![[r#"
        error: no xtask.toml in [ROOT], which has api/Dockerfile, web/Dockerfile: run 'cargo xtask init' to write one
    "#]].assert_eq(empty.xtask(&["build"]).exits_with(2).error());
    let in_src = Workspace::new()
        .file("src/web/Dockerfile", "FROM scratch\nCOPY . /\n")
        .file("src/api/build/Dockerfile", "FROM scratch\n")
        .file("src/db/component.dep", "web\n");
    for command in [&["build", "-n"][..], &["list"], &["graph"], &["context", "web"]] {
        let output = in_src.xtask(command);
        for file in ["src/web/Dockerfile", "src/api/build/Dockerfile", "src/db/component.dep"] {
            let warning = format!("warning: {file}: is ignored: ");
            assert!(output.stderr.contains(&warning), "{command:?}: {}", output.stderr);
        }
    }
    let output = in_src.xtask(&["build", "-n"]);
    expect![[r#"
        warning: src/api/build/Dockerfile: is ignored: rename it to api.dockerfile
        warning: src/db/component.dep: is ignored: move it to src/db/build/
        warning: src/web/Dockerfile: is ignored: move it to src/web/build/web.dockerfile, or let the command 'init' write an xtask.toml that finds it
    "#]].assert_eq(&output.stderr);
}

#[test]
fn images_go_to_every_registry_and_tag_that_the_file_says() {
    let registry = Registry::start();
    let address = registry.address();
    let toml = format!(
        "registry = [\"{address}/one\", \"{address}/two\"]\n\
         tags = [\"{{registry}}/{{image}}:{{tag}}\", \"{address}/two/{{image}}:{{branch}}\"]\n\
         [image.\"tt-{{app}}\"]\ndockerfile = \"{{app}}/Dockerfile\"\n\
         [image.tt-b]\ntags = []\n[image.\"tt-c:1\"]\ndockerfile = \"c/Dockerfile\"\n\
         tags = [\"{{registry}}/{{image}}\"]\n"
    );
    let workspace = Workspace::new()
        .file("xtask.toml", &toml)
        .file("a/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
        .file("b/Dockerfile", &format!("FROM {address}/two/tt-a:any\nCOPY Dockerfile /b\n"))
        .file("c/Dockerfile", "FROM tt-b\nCOPY Dockerfile /c\n")
        .git();
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@t"]).args(arguments);
        assert!(git.current_dir(workspace.root()).output().unwrap().status.success());
    };
    git(&["commit", "-qm", "all"]);
    git(&["checkout", "-qb", "feature/topic"]);
    let own = target().join("debug/examples/own_commands");
    assert!(own.exists(), "run 'cargo build --examples'");
    let release = workspace.bash(&format!("{} release v1", own.display())).output().unwrap();
    let errors = String::from_utf8_lossy(&release.stderr);
    assert!(release.status.success(), "{errors}");
    let digest = |image: &str, tag: &str| registry.digest(&workspace.own(image), tag);
    assert!(digest("one/tt-a", "v1").is_some(), "{errors}");
    assert_eq!(digest("one/tt-a", "v1"), digest("two/tt-a", "feature-topic"));
    assert!(digest("one/tt-c", "1").is_some());
    assert!(digest("one/tt-b", "v1").is_none());
    let without = workspace.xtask(&["push"]).exits_with(2);
    expect![[r#"
        error: no tag to push with: pass --tag, or set XTASK_TAG
    "#]]
    .assert_eq(without.error());
    let never = workspace.xtask(&["push", "--tag", "x", "-i", &workspace.own("tt-b")]);
    assert!(never.exits_with(2).error().contains("is never pushed: its 'tags' are empty"));
    let _ = fs::read(workspace.root().join("xtask.toml"));
}
