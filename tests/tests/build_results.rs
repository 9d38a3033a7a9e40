//! What `build` does with what it built: `--tag`, `--push` and `--metadata-file`.

use std::fs;

use expect_test::expect;
use serde_json::Value;
use tests::engine::{docker, has_image};
use tests::registry::Registry;
use tests::{Output, Workspace};

fn workspace() -> Workspace {
    Workspace::new()
        .image("base", "FROM scratch\nCOPY build /build\n")
        .image("web", "FROM tt-base\nCOPY build /web\n")
}

fn id(reference: &str) -> String {
    let id = docker(&["image", "inspect", "--format", "{{.Id}}", reference]);
    String::from_utf8(id).unwrap().trim().to_owned()
}

fn tagged(output: &Output) -> Vec<&str> {
    output.stderr.lines().filter_map(|line| line.strip_prefix("tagged: ")).collect()
}

#[test]
fn what_is_selected_gets_other_names_and_what_it_needs_gets_none() {
    let workspace = workspace().env("XTASK_TAG", "7");
    let own = |name: &str| workspace.own(name);
    let (one, two) = (own("tt-x/one:1"), own("tt-{image}:{tag}"));
    let output = workspace.xtask(&["build", "web", "-t", &one, "--tag", &two]).exits_with(0);
    assert_eq!(tagged(&output), ["tt-web as tt-x/one:1", "tt-web as tt-tt-web:7"]);
    let web = id(&own("tt-web"));
    assert_eq!([id(&one), id(&own("tt-tt-web:7"))], [web.clone(), web]);
    assert!(!has_image(&own("tt-tt-base:7")));
    // It is done again for an image that is up to date.
    let _ = docker(&["image", "rm", &one]);
    let output = workspace.xtask(&["build", "web", "-t", &one]).exits_with(0);
    assert_eq!(output.built(), [""; 0]);
    assert!(has_image(&one));
}

#[test]
fn names_that_cannot_be_are_refused_before_anything_is_built() {
    let workspace = workspace();
    let both = workspace.xtask(&["build", "-t", "tt-x:1"]).exits_with(2);
    expect![[r#"
        error: images 'tt-base' and 'tt-web' cannot both be tt-x:1: write {image} where they differ, or select one
    "#]]
    .assert_eq(both.error());
    let no_tag = workspace.xtask(&["build", "web", "-t", "x:{tag}"]).exits_with(2);
    expect![[r#"
        error: no tag to push with: set XTASK_TAG, or write the tag into --tag REFERENCE
    "#]]
    .assert_eq(no_tag.error());
    let wrong = workspace.xtask(&["build", "-t", "A:{tga}"]).exits_with(2);
    assert!(wrong.stderr.contains("invalid value 'A:{tga}'"), "{}", wrong.stderr);
    let hex = "0".repeat(64);
    let digest = workspace.xtask(&["build", "-t", &format!("tt-x@sha256:{hex}")]).exits_with(2);
    assert!(digest.stderr.contains("a name has no digest"), "{}", digest.stderr);
    let id = workspace.xtask(&["build", "-t", &hex]).exits_with(2);
    assert!(id.stderr.contains("are an image's ID, and no name"), "{}", id.stderr);
    let nowhere = workspace.xtask(&["build", "--push"]).exits_with(2);
    expect![[r#"
        error: no registry to push to: set 'registry' in xtask.toml, or pass -c with the folder of services-configuration.yaml
    "#]]
    .assert_eq(nowhere.error());
    let taken = workspace.xtask(&["build", "web", "-t", "tt-base"]).exits_with(2);
    expect![[r#"
        error: --tag: tt-base:latest is image 'tt-base' of the workspace, and 'tt-web' cannot be it: choose another name
    "#]]
    .assert_eq(taken.error());
    assert!(!has_image(&workspace.own("tt-base")));
}

#[test]
fn what_is_pushed_is_written_down() {
    let registry = Registry::start();
    let address = registry.address();
    let toml = format!("registry = \"{address}/x\"\n");
    let workspace = workspace().file("xtask.toml", &toml).env("XTASK_TAG", "1");
    let pushed = workspace
        .xtask(&["build", "web", "--push", "--metadata-file", "out/metadata.json"])
        .exits_with(0);
    let (web, base) = (workspace.own("x/tt-web"), workspace.own("x/tt-base"));
    let digest = registry.digest(&web, "1").expect("it is pushed");
    assert_eq!(registry.digest(&base, "1"), None);
    assert!(pushed.stdout.contains("/x/tt-web:1@"), "{}", pushed.stdout);
    let read = |path: &str| -> Value {
        serde_json::from_slice(&fs::read(workspace.root().join(path)).unwrap()).unwrap()
    };
    let name = workspace.own("tt-web");
    let expected = serde_json::json!({
        &name: {
            "containerimage.config.digest": id(&name),
            "containerimage.digest": digest,
            "image.name": format!("{name},{address}/{web}:1"),
        }
    });
    assert_eq!(read("out/metadata.json"), expected);
    // With names of its own, it goes there and nowhere else.
    let other = format!("{address}/y/{{image}}:2");
    let _ = workspace.xtask(&["build", "base", "--push", "-t", &other]).exits_with(0);
    assert!(registry.digest(&workspace.own("y/tt-base"), "2").is_some());
    assert_eq!(registry.digest(&base, "1"), None);
    for name in [format!("{address}/{web}:1"), workspace.own(&other.replace("{image}", "tt-base"))]
    {
        let _ = docker(&["image", "rm", &name]);
    }
}

#[test]
fn an_image_that_is_named_alone_is_named_and_pushed_alone() {
    let registry = Registry::start();
    let address = registry.address();
    let toml = format!(
        "registry = \"{address}/x\"\n[image.\"tt-{{app}}\"]\n\
         dockerfile = \"docker/{{app}}.Dockerfile\"\n[group]\nonly = [\"tt-p\"]\n"
    );
    let workspace = Workspace::new()
        .file("xtask.toml", &toml)
        .file("docker/p.Dockerfile", "FROM scratch\nCOPY p.Dockerfile /\n")
        .file("docker/q.Dockerfile", "FROM scratch\nCOPY q.Dockerfile /\n");
    let (p, q) = (workspace.own("x/tt-p"), workspace.own("x/tt-q"));
    let named = workspace.xtask(&["build", "tt-p", "--tag", &workspace.own("tt-foo:1")]);
    assert_eq!(tagged(&named.exits_with(0)), ["tt-p as tt-foo:1"]);
    let pushes = [
        (&["build", "tt-p", "--push", "--metadata-file", "m.json"][..], "1"),
        (&["push", "tt-p"], "2"),
        (&["push", "only"], "3"),
        (&["push", "tt-[p]"], "4"),
    ];
    let workspace = workspace.env("XTASK_TAG", "1");
    for (command, tag) in pushes {
        let variables = [("XTASK_TAG".to_owned(), tag.to_owned())].into();
        let _ = workspace.xtask_with(&variables, command).exits_with(0);
        assert!(registry.digest(&p, tag).is_some(), "{command:?}");
        assert_eq!(registry.digest(&q, tag), None, "{command:?}");
    }
    let metadata = fs::read_to_string(workspace.root().join("m.json")).unwrap();
    assert!(!metadata.contains(&workspace.own("tt-q")), "{metadata}");
    // All of a component, if it is the component that is named.
    let _ = workspace.xtask(&["push", "docker", "--tag", "5"]).exits_with(0);
    assert!(registry.digest(&p, "5").is_some() && registry.digest(&q, "5").is_some());
}

#[test]
fn metadata_that_cannot_be_written_is_an_error() {
    let workspace = workspace();
    let wrong = workspace.xtask(&["build", "base", "--metadata-file", "src"]).exits_with(1);
    assert!(wrong.error().contains("src: cannot be written: "), "{}", wrong.error());
}
