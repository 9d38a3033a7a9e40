//! `xtask.toml`: what is wrong with it is said at once, with the line and the column, and what
//! holds after all can be looked at.

use std::fs;

use expect_test::{Expect, expect};
use tests::{Workspace, repository};

/// A workspace with one image in `web/`, and this configuration.
fn configured(text: &str) -> Workspace {
    Workspace::new()
        .file("web/Dockerfile", "FROM scratch AS base\nARG VERSION\nCOPY f /\nFROM base\n")
        .file("web/f", "1")
        .file("xtask.toml", text)
}

fn is_wrong(text: &str, error: &Expect) {
    let output = configured(text).xtask(&["build", "-n"]).exits_with(2);
    error.assert_eq(output.error());
}

#[test]
fn args_that_no_dockerfile_declares_are_shown_if_they_count() {
    let toml = "args = { SOURCE_DATE_EPOCH = \"0\", HTTP_PROXY = \"http://p:1\", OTHER = \"x\" }\n\
                [image.tt-web]\ndockerfile = \"web/Dockerfile\"\nargs.BUILDKIT_INLINE_CACHE = \"1\"\n";
    let config = configured(toml).xtask(&["config"]).exits_with(0).stdout;
    for (arg, line) in [("SOURCE_DATE_EPOCH", 1), ("HTTP_PROXY", 1), ("BUILDKIT_INLINE_CACHE", 4)] {
        let shown = config.lines().find(|it| it.contains(&format!("args.{arg} ")));
        let place = format!("xtask.toml:{line}");
        assert!(shown.is_some_and(|it| it.ends_with(&place)), "{arg}: {config}");
    }
    assert!(!config.contains("OTHER"), "{config}");
}

#[test]
fn the_name_of_a_file_marks_no_component() {
    is_wrong(
        "[image.\"{component}\"]\ndockerfile = \"docker/{component}.Dockerfile\"\n",
        &expect![[r#"
            error: xtask.toml:2: column 14: 'docker/{component}.Dockerfile' has {component} in the name of the file alone, and it marks the folder of a component: write {image}, or another word
        "#]],
    );
    let both = "[image.\"tt-{component}\"]\ndockerfile = \"{component}/{component}.Dockerfile\"\n";
    let workspace = configured(both).file("web/web.Dockerfile", "FROM scratch\nCOPY f /\n");
    let config = workspace.xtask(&["config"]).exits_with(0).stdout;
    assert!(config.contains("tt-web (component web)"), "{config}");
    assert!(config.lines().any(|line| line.trim_end() == "  context     web"), "{config}");
}

#[test]
fn what_counts_for_nothing_is_warned_of() {
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nARG VERSION\nCOPY build /\n")
        .image(
            "b",
            "FROM scratch\nRUN --mount=type=secret,target=/run/secrets/token \\\n  \
             --mount=type=ssh true\n",
        )
        .file("xtask.toml", "args.VERSOIN = \"1\"\nargs.HTTP_PROXY = \"\"\n");
    let warnings = |arguments: &[&str]| {
        let output = workspace.xtask(&[&["build", "-n"], arguments].concat()).exits_with(0);
        let lines = output.stderr.lines().filter(|line| line.starts_with("warning: "));
        lines.map(|line| line.to_owned() + "\n").collect::<String>()
    };
    expect![[r#"
        warning: xtask.toml:1: column 6: 'args.VERSOIN': no Dockerfile has 'ARG VERSOIN' (did you mean 'VERSION'?)
    "#]]
    .assert_eq(&warnings(&[]));
    workspace.write("xtask.toml", "");
    expect![[r#"
        warning: --build-arg VERSOIN: no Dockerfile has 'ARG VERSOIN' (did you mean 'VERSION'?)
        warning: --set: 'args.VERSIN': no Dockerfile has 'ARG VERSIN' (did you mean 'VERSION'?)
        warning: --set: 'args.VRSION': no Dockerfile has 'ARG VRSION' (did you mean 'VERSION'?)
    "#]]
    .assert_eq(&warnings(&[
        "--build-arg=VERSOIN",
        "--set=image.tt-*.args.VERSIN=1",
        "--set=args.VRSION=1",
    ]));
    expect![[r#"
        warning: --secret: no RUN of these images mounts the secret 'tokn' (did you mean 'token'?)
        warning: --ssh: no RUN of these images mounts the SSH agent 'defualt' (did you mean 'default'?)
    "#]]
    .assert_eq(&warnings(&[
        "--secret=id=tokn,src=xtask.toml",
        "--secret=id=token,src=xtask.toml",
        "--ssh=defualt=/x",
        "--ssh=default=/x",
    ]));
    let of_a = warnings(&["a", "--secret=id=token,src=xtask.toml"]);
    assert!(of_a.contains("mounts the secret 'token'"), "{of_a}");
    workspace.write("xtask.toml", "exclude = [\"src/a/**\", \"**/tt-c.dockerfile\"]\n");
    workspace.write("src/b/build/tt-c.dockerfile", "FROM scratch\n");
    let listed = workspace.xtask(&["list"]).exits_with(0).stdout;
    assert!(listed.contains("tt-b") && !listed.contains("tt-a") && !listed.contains("tt-c"));
}

#[test]
fn variables_that_are_set_to_nothing_are_not_set() {
    let workspace = Workspace::new().image("a", "FROM scratch\nCOPY build /\n");
    let empty = [
        "XTASK_FLAVOR",
        "XTASK_TAG",
        "XTASK_STORE_LIMIT",
        "XTASK_REGISTRY",
        "XTASK_PLATFORMS",
        "PAI_CONFIG_DIR",
        "DOCKER_BUILDKIT",
    ];
    let empty = empty.map(|name| (name.to_owned(), String::new())).into();
    for command in [&["build", "-n"][..], &["export", "bake", "out"], &["list"], &["doctor"]] {
        let output = workspace.xtask_with(&empty, command);
        assert_ne!(output.code, 2, "{command:?}: {}", output.stderr);
    }
    let push = workspace.xtask_with(&empty, &["push"]).exits_with(2);
    assert!(push.error().contains("no tag to push with") || push.error().contains("no registry"));
    for (value, builder) in [("false", "classic"), ("0", "classic"), ("true", "BuildKit")] {
        let variables = [("DOCKER_BUILDKIT".to_owned(), value.to_owned())].into();
        let doctor = workspace.xtask_with(&variables, &["doctor"]).stdout;
        let line = doctor.lines().find(|line| line.contains("builder")).expect("a line");
        assert!(line.contains(builder), "{value}: {line}");
    }
    let other = [("DOCKER_BUILDKIT".to_owned(), "off".to_owned())].into();
    let wrong = workspace.xtask_with(&other, &["list"]).exits_with(2);
    assert!(wrong.error().contains("DOCKER_BUILDKIT is 'off': set it to 0 or 1"), "{wrong:?}");
}

#[test]
fn every_wrong_key_and_value_is_named_at_once() {
    is_wrong(
        r#"registry = 1
regsitry = "a"
[image.tt-web]
dockerfile = "web/Dockerfile"
build_args = { A = "1" }
args = { A = ["1"], B = { file = "x" } }
secret = ["id=a"]
context = 3
flavors = ["a"]
contxt = "web"
"#,
        &expect![[r#"
            error: xtask.toml:1: column 12: expected a list of texts, found an integer
            xtask.toml:2: column 1: unknown key 'regsitry' (did you mean 'registry'?)
            xtask.toml:5: column 1: unknown key 'build_args': here it is called 'args'
            xtask.toml:6: column 14: expected a text, found an array
            xtask.toml:6: column 25: expected a text, or { env = "NAME" }
            xtask.toml:7: column 1: unknown key 'secret': here it is called 'secrets'
            xtask.toml:8: column 11: expected a text, found an integer
            xtask.toml:9: column 1: 'flavors' stands at the top of the file, before the first table
            xtask.toml:10: column 1: unknown key 'contxt' (did you mean 'context'?)
        "#]],
    );
}

#[test]
fn a_file_that_is_no_toml_is_said_to_be_none() {
    is_wrong(
        "[image.tt-web\ndockerfile = \"web/Dockerfile\"\n",
        &expect![[r#"
        error: xtask.toml:1: column 24: unclosed table, expected `]`
    "#]],
    );
    is_wrong(
        "[image.tt-web]\ntarget = \"a\"\ntarget = \"b\"\n",
        &expect![[r#"
        error: xtask.toml:3: column 1: duplicate key
    "#]],
    );
}

#[test]
fn patterns_that_find_nothing_and_names_that_are_none_are_errors() {
    is_wrong(
        r#"[image.a]
dockerfile = "wbe/Dockerfile"
[image.b]
dockerfile = "web/Dockerfile["
[image."tt-*"]
dockerfile = "web/Dockerfile"
[image."{image}-x"]
dockerfile = "{image}/Dockerfile"
"#,
        &expect![[r#"
            error: xtask.toml:2: column 14: 'dockerfile' matches no file (did you mean 'web/Dockerfile'?)
            xtask.toml:4: column 14: 'web/Dockerfile[' has a '[' without a ']'
            xtask.toml:5: column 8: 'tt-*' has a '*', so it only adjusts images: name what it defines
            xtask.toml:7: column 8: {image} is the name of the image: as the name is not exactly '{image}', call the capture otherwise
        "#]],
    );
    is_wrong(
        "[image.\"Web:\"]\ndockerfile = \"web/Dockerfile\"\n[image.nothing]\nargs.A = \"1\"\n",
        &expect![[r#"
            error: xtask.toml:1: column 8: 'Web:' is no image name: '' is not a tag: use at most 128 letters, digits, '_', '.' and '-'
            xtask.toml:3: column 8: no image 'nothing': a table defines one if it has a 'dockerfile' or 'context'
        "#]],
    );
}

#[test]
fn what_tells_two_images_apart_must_be_in_their_names() {
    is_wrong(
        "[image.tt-web]\ndockerfile = \"web/Dockerfile\"\nmatrix.version = [1, 2]\n",
        &expect![[r#"
            error: xtask.toml:1: column 8: image 'tt-web' is defined twice by the matrix, of web/Dockerfile: 'name' must tell them apart
        "#]],
    );
    is_wrong(
        "[image.\"tt-{a}\"]\ndockerfile = \"web/Dockerfile\"\nmatrix.a = []\n",
        &expect![[r#"
            error: xtask.toml:3: column 8: 'a' has no values: list at least one
        "#]],
    );
    is_wrong(
        "[image.tt-web]\ndockerfile = \"*/Dockerfile\"\n[image.tt-other]\ndockerfile = \"*/Dockerfile\"\n",
        &expect![[r#"
            error: xtask.toml:4: column 14: web/Dockerfile is found by this pattern and by the one in xtask.toml:2: make one more literal
        "#]],
    );
}

#[test]
fn settings_that_cannot_hold_are_errors() {
    is_wrong(
        r#"[image.tt-web]
dockerfile = "web/Dockerfile"
context = "../web"
target = "bulder"
args = { VERSOIN = "1", OTHER = "{tag}" }
labels.a = "{unknown}"
tags = ["{registry}/x:{tag}", "{none}"]
args-file = "none.conf"
depends-on = ["nothing"]
"#,
        &expect![[r#"
            error: web/Dockerfile: has no stage 'bulder'
            xtask.toml:3: column 1: 'context' is a folder of the workspace: write its path from the root, which is '.'
            xtask.toml:5: column 25: 'args.OTHER' has {tag}, which only 'tags' can have: it would make all stale
            xtask.toml:6: column 8: 'labels.a' has the unknown word {unknown}: the words here are {branch}, {commit}, {component}, {created}, {dir}, {image}, {worktree}
            xtask.toml:7: column 31: 'tags' has the unknown word {none}: the words here are {branch}, {commit}, {component}, {dir}, {image}, {registry}, {tag}, {worktree}
            xtask.toml:8: column 13: none.conf: cannot be read: No such file or directory (os error 2)
            xtask.toml:9: no component or image 'nothing'
        "#]],
    );
    is_wrong(
        "[image.tt-web]\ndockerfile = \"web/Dockerfile\"\ncontext = \"none\"\n",
        &expect![[r#"
            error: xtask.toml:3: column 1: 'context' is none/, which does not exist
        "#]],
    );
}

#[test]
fn an_axis_that_only_names_have_is_warned_of() {
    let workspace = configured(
        "[image.\"tt-web:{version}-{other}\"]\ndockerfile = \"web/Dockerfile\"\n\
         matrix = { version = [\"1\", \"2\"], other = [\"x\"] }\nargs.VERSION = \"{version}\"\n",
    );
    let output = workspace.xtask(&["build", "-n"]).exits_with(0);
    expect![[r#"
        warning: xtask.toml:3: column 1: 'matrix.other' changes nothing but names: write {other} where the images differ, such as in 'args'
    "#]]
    .assert_eq(&output.stderr);
}

#[test]
fn groups_must_lead_to_images() {
    is_wrong(
        r#"[image.tt-web]
dockerfile = "web/Dockerfile"
[group]
default = ["tt-wbe"]
a = ["b"]
b = ["a"]
web = ["tt-web"]
"#,
        &expect![[r#"
            error: xtask.toml:4: column 12: in group 'default': no component or image 'tt-wbe' (did you mean 'tt-web'?)
            xtask.toml:5: column 6: in group 'a': the groups are a circle: a → b → a
            xtask.toml:6: column 6: in group 'b': the groups are a circle: b → a → b
            xtask.toml:7: column 8: group 'web' has the name of a component: give it another
        "#]],
    );
}

#[test]
fn what_holds_is_shown_with_the_line_that_says_so() {
    let workspace = configured(
        r#"registry = "r.example/x"
labels.team = "web"

[image."tt-{app}"]
dockerfile = "{app}/Dockerfile"

[image.tt-web]
args.VERSION = "2"
target = "base"
secrets = [{ id = "token", env = "TOKEN" }]
"#,
    );
    let output = workspace.xtask(&["config", "--build-arg", "OTHER=1"]).exits_with(0);
    expect![[r#"
        tt-web (component web)
          dockerfile    web/Dockerfile
          context       web
          target        base                                xtask.toml:9
          labels.team   web                                 xtask.toml:2
          secrets       id=token,env=TOKEN                  xtask.toml:10
          tags          r.example/x/tt-web:{tag}
          args.VERSION  2                                   xtask.toml:8
    "#]]
    .assert_eq(&output.stdout);
    let json = workspace.xtask(&["config", "tt-web", "--json"]).exits_with(0);
    expect![[r#"
        {
          "images": [
            {
              "component": "web",
              "image": "tt-web",
              "settings": [
                {
                  "key": "dockerfile",
                  "line": null,
                  "source": "default",
                  "value": "web/Dockerfile"
                },
                {
                  "key": "context",
                  "line": null,
                  "source": "default",
                  "value": "web"
                },
                {
                  "key": "target",
                  "line": 9,
                  "source": "file",
                  "value": "base"
                },
                {
                  "key": "labels.team",
                  "line": 2,
                  "source": "file",
                  "value": "web"
                },
                {
                  "key": "secrets",
                  "line": 10,
                  "source": "file",
                  "value": "id=token,env=TOKEN"
                },
                {
                  "key": "tags",
                  "line": null,
                  "source": "default",
                  "value": "r.example/x/tt-web:{tag}"
                },
                {
                  "key": "args.VERSION",
                  "line": 8,
                  "source": "file",
                  "value": "2"
                }
              ]
            }
          ],
          "version": 2
        }
    "#]]
    .assert_eq(&json.stdout);
    let wrong = workspace.xtask(&["config", "tt-wbe"]).exits_with(2);
    expect![[r#"
        error: no image 'tt-wbe' (did you mean 'tt-web'?)
    "#]]
    .assert_eq(wrong.error());
}

#[test]
fn the_schema_is_the_one_in_the_documentation() {
    let printed = Workspace::new().xtask(&["config", "--schema"]).exits_with(0).stdout;
    let path = repository().join("docs/schema/xtask.toml.schema.json");
    expect_test::expect_file![path].assert_eq(&printed);
}

#[test]
fn groups_and_images_select() {
    let workspace = Workspace::new()
        .file(
            "xtask.toml",
            r#"
            [image."tt-{app}"]
            dockerfile = "apps/{app}/Dockerfile"
            [group]
            default = ["front"]
            front = ["tt-a", "b"]
            "#,
        )
        .file("apps/a/Dockerfile", "FROM scratch\nLABEL of=a\n")
        .file("apps/b/Dockerfile", "FROM scratch\nLABEL of=b\n")
        .file("apps/c/Dockerfile", "FROM scratch\nLABEL of=c\n");
    let planned = |arguments: &[&str]| {
        let output = workspace.xtask(&[&["build", "-n"], arguments].concat()).exits_with(0);
        let lines = output.stdout.lines().filter(|line| line.contains(" stale "));
        lines.filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(planned(&[]), ["a", "b"]);
    assert_eq!(planned(&["c"]), ["c"]);
    assert_eq!(planned(&["tt-c", "front"]), ["a", "b", "c"]);
    assert_eq!(planned(&["tt-[ab]"]), ["a", "b"]);
    let wrong = workspace.xtask(&["build", "-n", "tt-d"]).exits_with(2);
    expect![[r#"
        error: no component or image 'tt-d' (did you mean 'tt-a'?)
    "#]]
    .assert_eq(wrong.error());
}

#[test]
fn a_folder_means_its_component_or_those_below_it() {
    let workspace = Workspace::new()
        .file(
            "xtask.toml",
            "[image.tt-root]\ndockerfile = \"Dockerfile\"\n\
             [image.\"tt-{app}\"]\ndockerfile = \"apps/{app}/Dockerfile\"\n",
        )
        .file("Dockerfile", "FROM scratch\n")
        .file("doc/f", "1")
        .file("apps/a/Dockerfile", "FROM scratch\n")
        .file("apps/a/f", "1")
        .file("apps/b/Dockerfile", "FROM scratch\n");
    let shown = |folder: &str, path: &str| {
        let output = workspace.xtask_in(folder, &["graph", path]).exits_with(0);
        let names = output.stdout.lines().filter_map(|line| line.split(' ').next());
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(shown(".", "apps/"), ["a", "b"]);
    assert_eq!(shown("apps", "."), ["a", "b"]);
    assert_eq!(shown("apps", "a/f"), ["a"]);
    assert_eq!(shown(".", "."), ["."]);
    assert_eq!(shown("doc", "."), ["."]);
}

#[test]
fn a_table_with_a_dockerfile_adjusts_no_image_of_its_key() {
    let workspace = Workspace::new()
        .file("a/Dockerfile", "FROM scratch\nARG V\n")
        .file("b/f/x/Dockerfile", "FROM scratch\nARG V\n")
        .file(
            "xtask.toml",
            "[image.tt-x]\ndockerfile = \"a/Dockerfile\"\nname = \"tt-y\"\nargs.V = \"1\"\n\
             [image.\"tt-{app}\"]\ndockerfile = \"b/*/{app}/Dockerfile\"\n",
        );
    let config = workspace.xtask(&["config", "tt-x", "tt-y"]).exits_with(0);
    assert_eq!(config.stdout.matches("args.V").count(), 1, "{}", config.stdout);
}

#[test]
fn dependencies_are_folders_and_images_by_any_spelling() {
    let workspace = Workspace::new()
        .file("apps/a/Dockerfile", "FROM scratch\nCOPY dependency/a/f dependency/common/f /\n")
        .file("libs/a/f", "1")
        .file("libs/common/f", "1")
        .file("Dockerfile", "FROM scratch\n")
        .file(
            "xtask.toml",
            "[image.\"tt-{app}\"]\ndockerfile = \"apps/{app}/Dockerfile\"\n\
             depends-on = [\"libs/{app}\", \"./libs/common/\"]\n\
             [image.tt-root]\ndockerfile = \"Dockerfile\"\n",
        );
    let graph = workspace.xtask(&["graph", "tt-a"]).exits_with(0);
    expect![[r#"
        apps/a [tt-a]
        ├── common  component.dep
        └── libs/a  component.dep
    "#]]
    .assert_eq(&graph.stdout);
    let set = |value: &str| {
        let set = format!("image.tt-a.depends-on={value}");
        workspace.xtask(&["build", "-n", "tt-a", "--set", &workspace.own(&set)])
    };
    expect![[r#"
        error: --set: no component or image 'nothing'
    "#]]
    .assert_eq(set("nothing").exits_with(2).error());
    expect![[r#"
        error: --set: 'tt-root' is the component in the root, whose folder cannot be a part of another: use its image in FROM or COPY --from
    "#]]
    .assert_eq(set("tt-root").exits_with(2).error());
}

#[test]
fn groups_and_dependencies_name_images_in_the_layout_of_src_too() {
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nARG B\n")
        .image("b", "FROM scratch\n")
        .file("xtask.toml", "[image.tt-a]\ndepends-on = [\"tt-b\"]\n[group]\nx = [\"tt-a\"]\n");
    let graph = workspace.xtask(&["graph", "x"]).exits_with(0);
    expect![[r#"
        a [tt-a]
        └── b [tt-b]  component.dep
    "#]]
    .assert_eq(&graph.stdout);
    let workspace = workspace.git();
    let config = workspace.xtask(&["config", "tt-a", "--set", "args.B={branch}"]).exits_with(0);
    assert!(config.stdout.contains("args.B"), "{}", config.stdout);
}

#[test]
fn the_layout_of_src_is_one_table() {
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nCOPY . /\n")
        .file("src/a/f", "1")
        .file("src/b/build/tt-b.k8s.dockerfile", "FROM tt-a\nCOPY dependency/c/g /\n")
        .file("src/b/build/tt-b.yarn.dockerfile", "FROM tt-a\n")
        .file("src/b/build/component.dep", "c\n")
        .file("src/c/g", "1")
        .script(
            "src/d/build/build-pre.sh",
            "#!/bin/sh\nmkdir -p src/d/generated\ntouch src/d/generated/x\n",
        )
        .file("src/d/build/tt-d.dockerfile", "FROM scratch\nCOPY generated /\n");
    let build = |arguments: &[&str]| {
        let flavored = [&["build", "--flavor", "k8s"], arguments].concat();
        workspace.xtask(&flavored).exits_with(0)
    };
    assert_eq!(build(&[]).built_by_name(), ["a", "b", "d"]);
    let without = workspace.xtask(&["graph", "--json"]).exits_with(0).stdout;
    workspace.write(
        "xtask.toml",
        "[image.\"{image}\"]\ndockerfile = \"src/{component}/build/{image}[.{flavor}].dockerfile\"\n",
    );
    // The fingerprints are the same: nothing but the hook runs again.
    let again = build(&[]);
    assert!(!again.stderr.contains("image tt-a built"), "{}", again.stderr);
    assert!(!again.stderr.contains(" built\n"), "{}", again.stderr);
    let with = workspace.xtask(&["graph", "--json"]).exits_with(0).stdout;
    assert_eq!(with, without);
    let _ = fs::remove_file(workspace.root().join("xtask.toml"));
    assert!(!build(&[]).stderr.contains(" built\n"));
}

const OPTIONS: &str = r#"registry = "r.example/x"
network = "none"

[image."tt-{app}"]
dockerfile = "{app}/Dockerfile"

[image.tt-web]
target = "base"
args.VERSION = "2"
"#;

#[test]
fn options_go_before_set_before_the_environment_before_the_file() {
    let workspace = configured(OPTIONS)
        .env("XTASK_REGISTRY", "env.example/x")
        .env("XTASK_PLATFORMS", "linux/amd64");
    let of_file = workspace.xtask(&["config", "--set", "image.tt-web.args.VERSION=a=b c"]);
    expect![[r#"
        tt-web (component web)
          dockerfile    web/Dockerfile
          context       web
          target        base                                  xtask.toml:8
          network       none                                  xtask.toml:2
          platforms     linux/amd64                           XTASK_PLATFORMS
          tags          env.example/x/tt-web:{tag}
          args.VERSION  a=b c                                 --set
    "#]]
    .assert_eq(&of_file.exits_with(0).stdout);
    let set = [
        "config",
        "--set=registry=set.example",
        "--set=image.tt-*.platforms=linux/arm64",
        "--set=image.tt-web.labels.com.example.target={app}-{commit}",
        "--set=image.\"tt-web\".secrets=id=token,env=TOKEN",
        "--set=network=host",
        "--build-arg=VERSION=3",
    ];
    expect![[r#"
        tt-web (component web)
          dockerfile                 web/Dockerfile
          context                    web
          target                     base                                xtask.toml:8
          network                    host                                --set
          labels.com.example.target  web-{commit}                        --set
          platforms                  linux/arm64                         --set
          secrets                    id=token,env=TOKEN                  --set
          tags                       set.example/tt-web:{tag}
          args.VERSION               3                                   --build-arg
    "#]]
    .assert_eq(&workspace.xtask(&set).exits_with(0).stdout);
}

#[test]
fn what_set_gets_wrong_is_said_and_nothing_is_built() {
    let workspace = configured(OPTIONS);
    let wrong = workspace.xtask(&[
        "build",
        "-n",
        "--set=image.tt-web.tagret=base",
        "--set=web",
        "--set=image.tt-wbe.target=base",
        "--set=image.tt-web.dockerfile=a",
        "--set=image.tt-web.platforms=[1",
        "--set=flavor=k8s",
    ]);
    expect![[r#"
        error: --set: 'dockerfile' cannot be set by an option: write it in xtask.toml
        --set: 'web': expected KEY=VALUE or image.NAME.KEY=VALUE, with a key of xtask.toml
        --set: unclosed array, expected `]`
        --set: unknown key 'flavor' (did you mean 'flavors'?)
        --set: unknown key 'tagret' (did you mean 'target'?)
    "#]]
    .assert_eq(wrong.exits_with(2).error());
    let unknown = workspace.xtask(&["build", "-n", "--set=image.tt-wbe.target=base"]);
    expect![[r#"
        error: --set: no image 'tt-wbe' (did you mean 'tt-web'?)
    "#]]
    .assert_eq(unknown.exits_with(2).error());
}

#[test]
fn the_flavor_and_options_without_a_file_come_from_the_environment_as_well() {
    let workspace = Workspace::new()
        .file("src/web/build/tt-web.k8s.dockerfile", "FROM scratch\nCOPY f /\n")
        .file("src/web/build/tt-web.yarn.dockerfile", "FROM scratch AS a\nCOPY f /\nFROM a\n")
        .file("src/web/f", "1")
        .env("XTASK_FLAVOR", "yarn");
    let output = workspace.xtask(&["config", "--set", "image.tt-web.target=a"]).exits_with(0);
    expect![[r#"
        tt-web (component web)
          dockerfile  src/web/build/tt-web.yarn.dockerfile
          context     src/web
          target      a                                               --set
          tags        {registry}/tt-web:{tag}
    "#]]
    .assert_eq(&output.stdout);
}
