//! `build --dry-run` says what would be done and why, and does nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use expect_test::expect;
use tests::engine::{docker, has_image, remove_image};
use tests::{Output, Workspace};

/// `app` is made from `base` and takes `tool`'s folder; `tool` has a hook.
fn tree() -> Workspace {
    Workspace::new()
        .image("base", "FROM scratch\nCOPY text /text\n")
        .image("app", "FROM tt-base\nARG VERSION=none\nLABEL v=$VERSION\nCOPY . /app/\n")
        .file("src/app/build/component.dep", "data\n")
        .image("tool", "FROM scratch\nCOPY generated/out /out\n")
        .script("src/tool/build/build-pre.sh", MAKE_OUT)
        .file("src/base/text", "1")
        .file("src/app/main.rs", "1")
        .file("src/app/lib.rs", "1")
        .file("src/data/one", "1")
        .file("shared/one", "1")
}

const MAKE_OUT: &str =
    "#!/bin/sh -e\nmkdir -p src/tool/generated\ncp shared/one src/tool/generated/out\n";

fn plan(workspace: &Workspace, arguments: &[&str]) -> Output {
    let before = workspace.tree();
    let output = workspace.xtask(&[&["build", "--dry-run"], arguments].concat()).exits_with(0);
    assert_eq!(workspace.tree(), before);
    output
}

#[test]
fn it_gives_a_reason_for_every_component() {
    let workspace = tree();
    expect![[r#"
        base  tt-base  stale  image missing in the engine
        app   tt-app   stale  image missing in the engine; tt-base will be rebuilt
        tool  tt-tool  stale  image missing in the engine; hook inputs undeclared: decided after build-pre.sh
        3 of 3 images would be built
    "#]]
    .assert_eq(&plan(&workspace, &[]).stdout);
    assert!(!has_image(&workspace.own("tt-base")));
    let _ = workspace.xtask(&["build"]).exits_with(0);
    expect![[r#"
        base  tt-base  up to date
        app   tt-app   up to date
        tool  tt-tool  undecided   hook inputs undeclared: decided after build-pre.sh
        0 of 3 images would be built, 1 decided during the build
    "#]]
    .assert_eq(&plan(&workspace, &[]).stdout);
    workspace.write("src/app/main.rs", "2");
    workspace.write("src/data/one", "2");
    workspace.write("src/data/two", "2");
    workspace.write("src/base/text", "2");
    expect![[r#"
        base  tt-base  stale      src/base/text changed
            src/base/text changed
        app   tt-app   stale      src/app/main.rs changed (+3 more); tt-base will be rebuilt
            src/app/main.rs changed
            src/base/text changed
            src/data/one changed
            src/data/two added
        tool  tt-tool  undecided  hook inputs undeclared: decided after build-pre.sh
        2 of 3 images would be built, 1 decided during the build
    "#]]
    .assert_eq(&plan(&workspace, &["-v"]).stdout);
}

#[test]
fn it_knows_what_happened_in_the_engine_and_on_the_command_line() {
    let workspace = tree().with_box().image("boxed", "FROM tt-box\nLABEL a=b\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    remove_image(&workspace.own("tt-app"));
    remove_image(&workspace.own("tt-boxed"));
    docker(&["tag", &workspace.own("tt-tool"), &workspace.own("tt-boxed")]);
    expect![[r#"
        base   tt-base   up to date
        boxed  tt-boxed  stale       image has another fingerprint
        app    tt-app    stale       image missing in the engine
        tool   tt-tool   undecided   hook inputs undeclared: decided after build-pre.sh
        2 of 4 images would be built, 1 decided during the build
    "#]]
    .assert_eq(&plan(&workspace, &[]).stdout);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let workspace = workspace.with_other_box();
    let output = plan(&workspace, &["--build-arg", "VERSION=2"]).stdout;
    assert!(
        output.contains("app    tt-app    stale       --build-arg VERSION added\n"),
        "{output}"
    );
    assert!(output.contains("boxed  tt-boxed  stale       base tt-box moved ("), "{output}");
    let output = plan(&workspace, &["--force", "-s", "app"]).stdout;
    expect![[r#"
        base  tt-base  up to date
        app   tt-app   stale       --force was given
        1 of 2 images would be built
    "#]]
    .assert_eq(&output);
}

#[test]
fn a_hook_with_declared_inputs_is_decided_before_it_runs() {
    let workspace = tree().file("src/tool/build/inputs", "shared/**\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let of_tool = |workspace: &Workspace| plan(workspace, &["-s", "tool"]).stdout;
    assert_eq!(of_tool(&workspace), "tool  tt-tool  up to date\n1 image is up to date\n");
    workspace.write("shared/one", "2");
    expect![[r#"
        tool  tt-tool  undecided  shared/one changed: decided after build-pre.sh
        0 of 1 image would be built, 1 decided during the build
    "#]]
    .assert_eq(&of_tool(&workspace));
}

#[test]
fn a_component_from_the_hook_cache_waits_for_a_base_that_is_made_again() {
    let workspace = Workspace::new()
        .with_box()
        .image("below", "FROM tt-box\nLABEL a=b\n")
        .image("tool", "FROM tt-below\nLABEL c=d\n")
        .script("src/tool/build/build-pre.sh", "#!/bin/sh\necho hook\n")
        .file("src/tool/build/inputs", "env:NOTHING\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let output = plan(&workspace, &[]).stdout;
    assert!(output.contains("tool   tt-tool   up to date\n"), "{output}");
    let workspace = workspace.with_other_box();
    let output = plan(&workspace, &[]).stdout;
    assert!(output.contains("below  tt-below  stale      base tt-box moved ("), "{output}");
    assert!(output.contains("tool   tt-tool   undecided  decided after tt-below\n"), "{output}");
}

#[test]
fn programs_get_the_same_as_json() {
    let workspace = tree();
    let _ = workspace.xtask(&["build", "-s", "app"]).exits_with(0);
    workspace.write("src/app/lib.rs", "2");
    let output = plan(&workspace, &["-s", "app", "--json"]);
    let mut plan: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    for step in plan["components"].as_array_mut().unwrap() {
        let fingerprint = step["images"][0]["fingerprint"].take();
        assert_eq!(fingerprint.as_str().unwrap().len(), 64);
    }
    expect![[r#"
        {
          "components": [
            {
              "component": "base",
              "hooks": null,
              "images": [
                {
                  "fingerprint": null,
                  "image": "tt-base",
                  "state": "up_to_date"
                }
              ]
            },
            {
              "component": "app",
              "hooks": null,
              "images": [
                {
                  "fingerprint": null,
                  "image": "tt-app",
                  "reasons": [
                    {
                      "changes": [
                        {
                          "change": "changed",
                          "ingredient": "path",
                          "name": "src/app/lib.rs"
                        }
                      ],
                      "kind": "changed",
                      "text": "src/app/lib.rs changed"
                    }
                  ],
                  "state": "stale"
                }
              ]
            }
          ],
          "version": 2
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&plan).unwrap());
}

fn git(workspace: &Workspace, arguments: &[&str]) {
    let who = ["-c", "user.name=t", "-c", "user.email=t@localhost"];
    let git = Command::new("git").current_dir(workspace.root()).args(who).args(arguments).output();
    let git = git.expect("git runs");
    assert!(git.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&git.stderr));
}

#[test]
fn since_a_revision_only_what_it_touched_is_looked_at() {
    let workspace =
        tree().file("src/tool/build/inputs", "shared/**\n").file(".gitignore", "/target/\n").git();
    git(&workspace, &["commit", "-qm", "one"]);
    git(&workspace, &["tag", "start"]);
    let steps = |workspace: &Workspace| {
        let output = plan(workspace, &["--since", "start"]);
        let mut lines: Vec<&str> = output.stdout.lines().collect();
        assert!(lines.pop().unwrap().contains("image"), "{}", output.stdout);
        let names = lines.into_iter().filter_map(|line| line.split_whitespace().next());
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(steps(&workspace).is_empty());
    workspace.write("src/data/one", "2");
    assert_eq!(steps(&workspace), ["base", "app"], "app takes data, and needs base");
    git(&workspace, &["checkout", "-q", "."]);
    workspace.write("shared/new", "2");
    assert_eq!(steps(&workspace), ["tool"], "it is an input, and git does not know it yet");
    git(&workspace, &["add", "."]);
    git(&workspace, &["commit", "-qm", "two"]);
    assert_eq!(steps(&workspace), ["tool"]);
    git(&workspace, &["checkout", "-q", "-b", "other", "start"]);
    workspace.write("src/base/text", "2");
    git(&workspace, &["commit", "-qam", "three"]);
    git(&workspace, &["tag", "-f", "start", "master"]);
    assert_eq!(steps(&workspace), ["base", "app"], "what the others did does not count");
}

#[test]
fn a_revision_that_is_not_there_is_an_error_that_says_what_to_fetch() {
    let workspace = tree().git();
    git(&workspace, &["commit", "-qm", "one"]);
    workspace.write("src/base/text", "2");
    git(&workspace, &["commit", "-qam", "two"]);
    let output = workspace.xtask(&["build", "--since", "v1"]).exits_with(2);
    expect![[r#"
        error: --since v1: no such revision: use a branch, a tag or a commit of this repository, or run 'git fetch' first
    "#]]
    .assert_eq(output.error());
    let shallow = Workspace::new().replace(&workspace.root().display().to_string(), "[ORIGIN]");
    let origin = format!("file://{}", workspace.root().display());
    let into = shallow.root().join("clone").display().to_string();
    git(&shallow, &["clone", "-q", "--depth", "1", &origin, &into]);
    let output = shallow.xtask_in("clone", &["build", "--since", "origin/v1"]).exits_with(2);
    expect![[r#"
        error: --since origin/v1: no such revision: this clone is shallow. Run 'git fetch --unshallow origin v1' first (with GitHub's actions/checkout, set 'fetch-depth: 0')
    "#]]
    .assert_eq(output.error());
    let output = Workspace::new().image("a", "FROM scratch\n").xtask(&["build", "--since", "x"]);
    expect![[r#"
        error: --since x: no .git in [ROOT] or any parent folder: this is not a git repository
    "#]]
    .assert_eq(output.exits_with(2).error());
}

#[test]
fn the_table_is_aligned_by_columns_of_a_terminal_and_names_an_image_where_it_differs() {
    let workspace = Workspace::new()
        .file("src/組件/build/tt-cjk.dockerfile", "FROM scratch\nLABEL a=b\n")
        .file("src/tt-web/build/tt-web.dockerfile", "FROM scratch\nLABEL a=b\n")
        .file("src/tt-web/build/tt-web-debug.dockerfile", "FROM tt-web\nLABEL a=b\n");
    let _ = workspace.xtask(&["build", "-s", "tt-web"]).exits_with(0);
    remove_image(&workspace.own("tt-web-debug"));
    let output = plan(&workspace, &[]);
    let state = |row: &str| {
        let place = row.find("up to date").or(row.find("stale")).unwrap();
        row[..place].chars().map(|letter| if letter.is_ascii() { 1 } else { 2 }).sum::<usize>()
    };
    let printed = workspace.own(&output.stdout);
    let places: Vec<usize> = printed.lines().take(3).map(state).collect();
    assert!(places.iter().all(|place| *place == places[0]), "{}", output.stdout);
    let cells = |line: &str| {
        let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        cells.collect::<Vec<_>>().join("|")
    };
    let rows: Vec<String> = output.stdout.lines().map(cells).collect();
    assert_eq!(
        rows,
        [
            "tt-web|up to date",
            "tt-web|tt-web-debug|stale|image missing in the engine",
            "組件|tt-cjk|stale|image missing in the engine",
            "2 of 3 images would be built",
        ]
    );
}

#[test]
fn the_exit_code_says_whether_an_image_is_stale() {
    let workspace = tree();
    let check = |arguments: &[&str]| {
        workspace.xtask(&[&["build", "-n", "--exit-code"], arguments].concat())
    };
    let output = check(&["-s", "app"]).exits_with(1);
    assert!(output.stdout.ends_with("2 of 2 images would be built\n"), "{}", output.stdout);
    assert_eq!(output.stderr, "");
    assert!(!has_image(&workspace.own("tt-base")));
    let _ = workspace.xtask(&["build"]).exits_with(0);
    // Only the hook can say what `tool` is made from.
    let output = check(&[]).exits_with(0);
    let counts = "0 of 3 images would be built, 1 decided during the build\n";
    assert!(output.stdout.ends_with(counts), "{}", output.stdout);
    let output = check(&["-s", "app"]).exits_with(0);
    assert!(output.stdout.ends_with("all 2 images are up to date\n"), "{}", output.stdout);
    docker(&["tag", &workspace.own("tt-app"), &workspace.own("tt-kept")]);
    docker(&["rmi", &workspace.own("tt-app")]);
    let output = check(&["-s", "app"]).exits_with(1);
    let counts = "0 of 2 images would be built, 1 retagged\n";
    assert!(output.stdout.ends_with(counts), "{}", output.stdout);
    for more in [&["--json"][..], &["--progress", "json"], &["--quiet"]] {
        assert_eq!(check(&[&["-s", "app"], more].concat()).exits_with(1).stderr, "");
    }
    let _ = check(&["-s", "nobody"]).exits_with(2);
    let _ = check(&["--keep-going"]).exits_with(2);
    let _ = workspace.xtask(&["build", "--exit-code"]).exits_with(2);
    let engine = BTreeMap::from([("DOCKER_HOST".to_owned(), "unix:///none".to_owned())]);
    let output = workspace.xtask_with(&engine, &["build", "-n", "--exit-code"]).exits_with(1);
    assert!(output.error().starts_with("error: "), "{}", output.stderr);
}

/// How many components changed since the last commit.
fn changed(workspace: &Workspace) -> usize {
    let graph = workspace.xtask(&["graph", "--since", "HEAD"]).exits_with(0);
    graph.stdout.matches("  changed").count()
}

/// Commits everything, and edits a file.
fn edited(workspace: Workspace, path: &str, text: &str) -> Workspace {
    let workspace = workspace.file(".gitignore", "/target/\n").git();
    git(&workspace, &["commit", "-qm", "1"]);
    assert_eq!(changed(&workspace), 0, "{path}");
    workspace.write(path, text);
    workspace
}

/// Those in the way to a component, a context, an args-file and an ignore file.
#[test]
fn since_sees_what_is_behind_links() {
    const WEB: &str = "[image.tt-web]\ndockerfile = \"web/Dockerfile\"\n";
    let linked = |link: &str, target: &str, config: &str| {
        let workspace = Workspace::new().file("away/f", "1").file("xtask.toml", config);
        let link = workspace.root().join(link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(target, link).unwrap();
        workspace
    };
    let component = || {
        linked("src/w", "../away", "")
            .file("away/build/tt-w.dockerfile", "FROM scratch\nCOPY build /build\n")
    };
    assert_eq!(changed(&edited(component(), "away/build/f", "1")), 1);
    let all = linked("src", "away", "")
        .file("away/w/build/tt-w.dockerfile", "FROM scratch\nCOPY build /build\n");
    assert_eq!(changed(&edited(all, "away/w/build/f", "1")), 1);
    let web = linked("web", "away", WEB).file("away/Dockerfile", "FROM scratch\nCOPY f /\n");
    assert_eq!(changed(&edited(web, "away/f", "2")), 1);
    let with = |link: &str, target: &str, key: &str| {
        linked(link, target, &format!("{WEB}{key}\n"))
            .file("web/Dockerfile", "FROM scratch\nARG f\nCOPY . /\n")
            .file("web/f", "1")
    };
    let context = with("ctx", "away", "context = \"ctx\"");
    assert_eq!(changed(&edited(context, "away/f", "2")), 1);
    let args = with("env", "away/f", "args-file = \"env\"").file("away/f", "f=1\n");
    assert_eq!(changed(&edited(args, "away/f", "f=2\n")), 1);
    let ignore = with("ctx/.dockerignore", "../away/f", "context = \"ctx\"");
    assert_eq!(changed(&edited(ignore, "away/f", "2")), 1);
}

#[test]
fn since_sees_what_was_built_from_an_image_that_is_gone() {
    let workspace = Workspace::new()
        .image("base", "FROM scratch\nCOPY build /\n")
        .image("web", "FROM tt-base\nCOPY build /web\n")
        .image("other", "FROM scratch\nCOPY build /\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let dockerfile = workspace.own("src/base/build/tt-base.dockerfile");
    let workspace = edited(workspace, &dockerfile, "FROM scratch\nCOPY build /b\n");
    assert_eq!(changed(&workspace), 1);
    fs::remove_file(workspace.root().join(dockerfile)).unwrap();
    let plan = workspace.xtask(&["build", "-n", "--since", "HEAD"]).exits_with(0);
    assert!(plan.stdout.contains("web  ") && !plan.stdout.contains("other"), "{}", plan.stdout);
}

/// As Compose files write them.
#[test]
fn paths_can_begin_with_a_dot() {
    let workspace = Workspace::new()
        .file("apps/web/Dockerfile", "FROM scratch\nARG V\nCOPY f /\n")
        .file("apps/web/f", "1")
        .file("v.env", "V=1\n")
        .file(
            "xtask.toml",
            "[image.tt-web]\ncontext = \"./apps/./{image}/\"\nargs-file = \"./v.env\"\n",
        );
    let at = workspace.root().join("apps");
    fs::rename(at.join("web"), at.join(workspace.own("tt-web"))).unwrap();
    let workspace = edited(workspace, "v.env", "V=2\n");
    assert_eq!(changed(&workspace), 1);
    git(&workspace, &["checkout", "-q", "."]);
    workspace.write(&workspace.own("apps/tt-web/Dockerfile"), "FROM scratch\nCOPY f /f\n");
    assert_eq!(changed(&workspace), 1);
    let path = workspace.own("apps/tt-web/");
    let _ = workspace.xtask(&["build", "-n", &path]).exits_with(0);
}

/// Other tools have folders `build`, too.
#[test]
fn a_component_with_sources_of_its_own_is_no_workspace() {
    let workspace = Workspace::new()
        .image("web", "FROM scratch\nCOPY src /\n")
        .file("src/web/src/gen/build/out.o", "1");
    let output = workspace.xtask_in("src/web", &["build", "-n"]).exits_with(0);
    assert!(output.stdout.starts_with("web "), "{}", output.stdout);
    assert!(!workspace.root().join("src/web/target").exists());
}
