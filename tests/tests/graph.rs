//! What `graph` draws, and that others can read it.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use expect_test::{Expect, expect};
use fastrand::Rng;
use serde_json::Value;
use tests::{Workspace, repository};

/// Two bases, one of others; a copied image, a declared component, and a diamond.
fn shop() -> Workspace {
    Workspace::new()
        .image("base", "FROM scratch\nCOPY x /\n")
        .file("src/base/x", "1")
        .file("src/run.time-2/build/tt-run.time-2.common.dockerfile", "FROM tt-base\n")
        .file("src/assets/page.html", "page")
        .image(
            "tools",
            "FROM 127.0.0.1:1/outside:1 AS other\nFROM tt-base\nCOPY --from=other /x /\n",
        )
        .image("web", "FROM tt-run.time-2\nCOPY --from=tt-tools /x /y\n")
        .file("src/web/build/component.dep", "assets\nbase\n")
        .file("src/web/build/tt-web-debug.dockerfile", "FROM tt-web\n")
        .image("alone", "FROM scratch\nCOPY x /\n")
        .file("src/alone/x", "1")
}

fn prints(workspace: &Workspace, arguments: &[&str], expected: &Expect) {
    let output = workspace.xtask(&[&["graph"], arguments].concat()).exits_with(0);
    assert_eq!(output.stderr, "");
    expected.assert_eq(&output.stdout);
}

fn fails(arguments: &[&str], code: i32, expected: &Expect) {
    let output = shop().xtask(&[&["graph"], arguments].concat()).exits_with(code);
    assert_eq!(output.stdout, "");
    expected.assert_eq(&output.stderr);
}

#[test]
fn a_tree_shows_everything_once() {
    prints(
        &shop(),
        &[],
        &expect![[r#"
            alone [tt-alone]
            web [tt-web, tt-web-debug]
            ├── assets  component.dep
            ├── base [tt-base]  component.dep
            ├── run.time-2 [tt-run.time-2]  FROM
            │   └── base [tt-base]  FROM
            └── tools [tt-tools]  COPY --from
                └── base [tt-base]  FROM
        "#]],
    );
}

#[test]
fn a_tree_begins_with_what_was_named() {
    prints(
        &shop(),
        &["-s", "tools", "run.time-2"],
        &expect![[r#"
            run.time-2 [tt-run.time-2]
            └── base [tt-base]  FROM
            tools [tt-tools]
            └── base [tt-base]  FROM
        "#]],
    );
}

#[test]
fn a_tree_of_dependents_goes_the_other_way() {
    prints(
        &shop(),
        &["-s", "base", "--dependents"],
        &expect![[r#"
            base [tt-base]
            ├── run.time-2 [tt-run.time-2]  FROM
            │   └── web [tt-web, tt-web-debug]  FROM
            ├── tools [tt-tools]  FROM
            │   └── web [tt-web, tt-web-debug]  COPY --from
            └── web [tt-web, tt-web-debug]  component.dep
        "#]],
    );
}

#[test]
fn a_tree_can_be_cut_off() {
    prints(
        &shop(),
        &["--depth", "1"],
        &expect![[r#"
            alone [tt-alone]
            web [tt-web, tt-web-debug]
            ├── assets  component.dep
            ├── base [tt-base]  component.dep
            ├── run.time-2 [tt-run.time-2]  FROM
            │   └── base [tt-base]  FROM
            └── tools [tt-tools]  COPY --from
                └── base [tt-base]  FROM
        "#]],
    );
}

#[test]
fn what_lies_between_two_is_shown_whoever_needs_whom() {
    let workspace = shop();
    prints(
        &workspace,
        &["--between", "web", "base"],
        &expect![[r#"
        web [tt-web, tt-web-debug]
        ├── base [tt-base]  component.dep
        ├── run.time-2 [tt-run.time-2]  FROM
        │   └── base [tt-base]  FROM
        └── tools [tt-tools]  COPY --from
            └── base [tt-base]  FROM
    "#]],
    );
    let one = workspace.xtask(&["graph", "--between", "web", "base"]).stdout;
    assert_eq!(workspace.xtask(&["graph", "--between", "base", "web"]).stdout, one);
}

#[test]
fn images_of_others_can_be_shown() {
    prints(
        &shop(),
        &["-s", "tools", "--external"],
        &expect![[r#"
        tools [tt-tools]
        ├── base [tt-base]  FROM
        └── 127.0.0.1:1/outside:1  FROM
    "#]],
    );
}

#[test]
fn dependents_of_images_of_others_are_shown() {
    prints(
        &shop(),
        &["--dependents", "--external", "--depth", "1"],
        &expect![[r#"
        alone [tt-alone]
        assets
        └── web [tt-web, tt-web-debug]  component.dep
        base [tt-base]
        ├── run.time-2 [tt-run.time-2]  FROM
        │   └── web [tt-web, tt-web-debug]  FROM
        ├── tools [tt-tools]  FROM
        │   └── web [tt-web, tt-web-debug]  COPY --from
        └── web [tt-web, tt-web-debug]  component.dep
        127.0.0.1:1/outside:1
        └── tools [tt-tools]  FROM (*)
    "#]],
    );
}

#[test]
fn graphviz_gets_components_with_their_images() {
    prints(
        &shop(),
        &["--dot", "--external"],
        &expect![[r##"
            digraph components {
              rankdir=LR
              node [shape=box style="rounded,filled" fillcolor=white fontname="Helvetica,Arial,sans-serif"]
              edge [color="#555555"]
              "alone" [label="alone\ntt-alone"]
              "assets" [label="assets" shape="folder" style="filled"]
              "base" [label="base\ntt-base"]
              "run.time-2" [label="run.time-2\ntt-run.time-2"]
              "tools" [label="tools\ntt-tools"]
              "web" [label="web\ntt-web\ntt-web-debug"]
              "127.0.0.1:1/outside:1" [fontcolor="#555555" label="127.0.0.1:1/outside:1" style="dashed"]
              "run.time-2" -> "base"
              "tools" -> "base"
              "tools" -> "127.0.0.1:1/outside:1"
              "web" -> "assets" [style="dotted"]
              "web" -> "base" [style="dotted"]
              "web" -> "run.time-2"
              "web" -> "tools" [style="dashed"]
            }
        "##]],
    );
}

#[test]
fn graphviz_gets_images_in_clusters() {
    prints(
        &shop(),
        &["--dot", "--images", "-s", "web"],
        &expect![[r##"
            digraph components {
              rankdir=LR
              compound=true
              node [shape=box style="rounded,filled" fillcolor=white fontname="Helvetica,Arial,sans-serif"]
              edge [color="#555555"]
              "assets" [shape="folder" style="filled"]
              subgraph "cluster base" {
                label="base"
                style=rounded
                color="#999999"
                "base/tt-base" [label="tt-base"]
              }
              subgraph "cluster run.time-2" {
                label="run.time-2"
                style=rounded
                color="#999999"
                "run.time-2/tt-run.time-2" [label="tt-run.time-2"]
              }
              subgraph "cluster tools" {
                label="tools"
                style=rounded
                color="#999999"
                "tools/tt-tools" [label="tt-tools"]
              }
              subgraph "cluster web" {
                label="web"
                style=rounded
                color="#999999"
                "web/tt-web" [label="tt-web"]
                "web/tt-web-debug" [label="tt-web-debug"]
              }
              "web/tt-web-debug" -> "web/tt-web"
              "run.time-2/tt-run.time-2" -> "base/tt-base"
              "tools/tt-tools" -> "base/tt-base"
              "web/tt-web" -> "assets" [ltail="cluster web" style="dotted"]
              "web/tt-web" -> "base/tt-base" [lhead="cluster base" ltail="cluster web" style="dotted"]
              "web/tt-web" -> "run.time-2/tt-run.time-2"
              "web/tt-web" -> "tools/tt-tools" [style="dashed"]
            }
        "##]],
    );
}

#[test]
fn mermaid_gets_names_that_it_takes() {
    prints(
        &shop(),
        &["--mermaid", "--external"],
        &expect![[r#"
            flowchart LR
              c_alone["alone<br/>tt-alone"]
              c_assets[/"assets"/]
              c_base["base<br/>tt-base"]
              c_run_time_2["run.time-2<br/>tt-run.time-2"]
              c_tools["tools<br/>tt-tools"]
              c_web["web<br/>tt-web<br/>tt-web-debug"]
              external_127_0_0_1_1_outside_1(["127.0.0.1:1/outside:1"])
              c_run_time_2 --> c_base
              c_tools --> c_base
              c_tools --> external_127_0_0_1_1_outside_1
              c_web -.-> c_assets
              c_web -.-> c_base
              c_web --> c_run_time_2
              c_web -->|"COPY --from"| c_tools
        "#]],
    );
}

#[test]
fn programs_get_every_line_that_says_so() {
    prints(
        &shop(),
        &["--json", "-s", "tools", "--external"],
        &expect![[r#"
            {
              "components": [
                {
                  "component": "base",
                  "images": [
                    {
                      "dependencies": [],
                      "dockerfile": "src/base/build/tt-base.dockerfile",
                      "image": "tt-base"
                    }
                  ]
                },
                {
                  "component": "tools",
                  "images": [
                    {
                      "dependencies": [],
                      "dockerfile": "src/tools/build/tt-tools.dockerfile",
                      "image": "tt-tools"
                    }
                  ]
                }
              ],
              "edges": [
                {
                  "from": "tools",
                  "images": [
                    [
                      "tt-tools",
                      "tt-base"
                    ]
                  ],
                  "kind": "FROM",
                  "lines": [
                    {
                      "file": "src/tools/build/tt-tools.dockerfile",
                      "line": 2
                    }
                  ],
                  "to": "base"
                },
                {
                  "from": "tools",
                  "images": [
                    [
                      "tt-tools",
                      "127.0.0.1:1/outside:1"
                    ]
                  ],
                  "kind": "FROM",
                  "lines": [
                    {
                      "file": "src/tools/build/tt-tools.dockerfile",
                      "line": 1
                    }
                  ],
                  "to": "127.0.0.1:1/outside:1"
                }
              ],
              "external": [
                "127.0.0.1:1/outside:1"
              ],
              "version": 2
            }
        "#]],
    );
}

#[test]
fn states_durations_and_changes_are_shown() {
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nCOPY x /\n")
        .file("src/a/x", "1")
        .image("b", "FROM tt-a\n")
        .image("c", "FROM scratch\nCOPY x /\n")
        .file("src/c/x", "1")
        .file(".gitignore", "/target/\n")
        .git();
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let identity = ["-c", "user.name=n", "-c", "user.email=e"];
    let mut git = Command::new("git");
    git.current_dir(workspace.root()).args(identity).args(["commit", "-qm", "All"]);
    assert!(git.status().unwrap().success());
    prints(&workspace, &["--since=HEAD", "--matrix"], &expect!["[]\n"]);
    workspace.write("src/a/x", "2");
    prints(
        &workspace,
        &["--stale"],
        &expect![[r#"
            b [tt-b]            stale       tt-a will be rebuilt
            └── a [tt-a]  FROM  stale       src/a/x changed
            c [tt-c]            up to date
            2 of 3 images would be built
        "#]],
    );
    prints(
        &workspace,
        &["--since", "HEAD"],
        &expect![[r#"
        b [tt-b]  affected
        └── a [tt-a]  changed  FROM
        c [tt-c]
    "#]],
    );
    let json = [["--stale", "--matrix"], ["--since=HEAD", "--matrix"]];
    for arguments in json {
        prints(
            &workspace,
            &arguments,
            &expect![[r#"
            [["a"],["b"]]
        "#]],
        );
    }
    let output = workspace.xtask(&["graph", "--durations"]).exits_with(0);
    assert_eq!(output.stdout.matches(" critical").count(), 2, "{}", output.stdout);
    for option in ["--stale", "--durations"] {
        let output = workspace.xtask(&["graph", "--json", option]).exits_with(0);
        let json: Value = serde_json::from_str(&output.stdout).unwrap();
        let key = if option == "--stale" { "state" } else { "seconds" };
        assert!(json["components"].as_array().unwrap().iter().all(|it| it.get(key).is_some()));
    }
}

#[test]
fn levels_for_a_matrix_are_a_line_of_json() {
    prints(
        &shop(),
        &["--matrix"],
        &expect![[r#"
            [["alone","base"],["run.time-2","tools"],["web"]]
        "#]],
    );
    // Nothing is left to build.
    let workspace = Workspace::new().image("a", "FROM scratch\nLABEL x=1\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    prints(
        &workspace,
        &["--matrix", "--stale"],
        &expect![[r#"
        []
    "#]],
    );
}

#[test]
fn what_does_not_hang_together_is_said() {
    fails(
        &["--between", "alone", "base"],
        2,
        &expect![[r#"
        error: --between: 'alone' and 'base' do not depend on each other: run 'cargo xtask graph -s alone' to see the dependencies of 'alone'
    "#]],
    );
    fails(
        &["-s", "wob"],
        2,
        &expect![[r#"
        error: no component 'wob' under src/ (did you mean 'web'?)
    "#]],
    );
}

#[test]
fn a_picture_of_yesterday_is_out_of_date() {
    let workspace = shop();
    for file in ["graph.svg", "graph.html"] {
        let option = if file.ends_with("svg") { "--svg" } else { "--html" };
        let _ = workspace.xtask(&["graph", option, file]).exits_with(0);
        let _ = workspace.xtask(&["graph", "--check", file]).exits_with(0);
    }
    workspace.write("src/alone/build/component.dep", "tools\n");
    let output = workspace.xtask(&["graph", "--check", "graph.svg"]).exits_with(1);
    assert!(output.stderr.contains("graph.svg:"), "{}", output.stderr);
    assert!(output.stderr.contains("is out of date: regenerate it"), "{}", output.stderr);
    let output = workspace.xtask(&["graph", "--check", "graph.png"]).exits_with(2);
    assert!(output.stderr.contains("cannot tell its format"), "{}", output.stderr);
    let _ = workspace.xtask(&["graph", "--check", "none.svg"]).exits_with(2);
}

#[test]
fn the_pictures_of_this_repository_are_up_to_date() {
    let root = repository();
    let workspace = Workspace::new();
    for file in ["docs/graph.dot", "docs/graph.svg"] {
        let path = root.join(file);
        let arguments = ["graph", "--external", "--root", root.to_str().unwrap(), "--check"];
        let _ =
            workspace.xtask(&[&arguments[..], &[path.to_str().unwrap()]].concat()).exits_with(0);
    }
}

/// Names with all that the names of components and images may have in them.
fn random(rng: &mut Rng) -> Workspace {
    let count = rng.usize(1..25);
    let mut name = |number: usize| {
        let count = rng.usize(1..4);
        let parts: Vec<String> =
            (0..count).map(|_| rng.choice(["a", "z9", "0"]).unwrap().repeat(2)).collect();
        let mark = rng.choice([".", "-", "_", "__"]).unwrap();
        format!("{}{mark}{number}", parts.join(mark))
    };
    let names: Vec<String> = (0..count).map(&mut name).collect();
    let mut workspace = Workspace::new();
    for (number, name) in names.iter().enumerate() {
        let mut dockerfile = match rng.usize(0..4) {
            0 => "FROM 127.0.0.1:1/out-side/b.c:1.2\n".to_owned(),
            1 if number > 0 => format!("FROM tt-{}\n", names[rng.usize(..number)]),
            _ => "FROM scratch\n".to_owned(),
        };
        dockerfile.push_str("COPY . /\n");
        for _ in 0..rng.usize(0..3).min(number) {
            dockerfile.push_str(&format!("COPY --from=tt-{} /x /\n", names[rng.usize(..number)]));
        }
        // The last part of a Dockerfile's name could be its flavor.
        let path = format!("src/{name}/build/tt-{name}.common.dockerfile");
        workspace = workspace.file(&path, &dockerfile);
        let needed: String = (0..rng.usize(0..3).min(number))
            .map(|_| names[rng.usize(..number)].clone() + "\n")
            .collect();
        if !needed.is_empty() {
            workspace = workspace.file(&format!("src/{name}/build/component.dep"), &needed);
        }
    }
    workspace
}

/// The names of the nodes and the ends of the lines, as the real Graphviz understood them.
fn understood(dot: &str) -> (BTreeSet<String>, Vec<(String, String)>) {
    let mut graphviz = Command::new("dot");
    graphviz.arg("-Tjson").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut graphviz = graphviz.spawn().expect("dot is missing: run tests/run");
    graphviz.stdin.take().unwrap().write_all(dot.as_bytes()).unwrap();
    let output = graphviz.wait_with_output().unwrap();
    assert!(output.status.success(), "{dot}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let objects = json["objects"].as_array().cloned().unwrap_or_default();
    let is_node = |object: &&Value| object.get("nodes").is_none() && object.get("edges").is_none();
    let nodes = objects.iter().filter(is_node).map(|object| text(&object["name"])).collect();
    let name =
        |place: &Value| text(&objects[usize::try_from(place.as_u64().unwrap()).unwrap()]["name"]);
    let edges = json["edges"].as_array().cloned().unwrap_or_default();
    let mut edges: Vec<_> =
        edges.iter().map(|edge| (name(&edge["tail"]), name(&edge["head"]))).collect();
    edges.sort();
    (nodes, edges)
}

#[test]
fn graphviz_understands_what_random_graphs_mean() {
    let seed =
        std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
    println!("SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    for _ in 0..15 {
        let workspace = random(&mut rng);
        let json = workspace.xtask(&["graph", "--external", "--json"]).exits_with(0).stdout;
        let json: Value = serde_json::from_str(&json).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let list = |key: &str| json[key].as_array().unwrap().clone();
        let mut nodes: BTreeSet<String> = list("external").iter().map(text).collect();
        nodes.extend(list("components").iter().map(|it| text(&it["component"])));
        let mut edges: Vec<_> =
            list("edges").iter().map(|it| (text(&it["from"]), text(&it["to"]))).collect();
        edges.sort();
        let dot = workspace.xtask(&["graph", "--external", "--dot"]).exits_with(0).stdout;
        assert_eq!(understood(&dot), (nodes, edges), "{dot}");
        let dot =
            workspace.xtask(&["graph", "--external", "--dot", "--images"]).exits_with(0).stdout;
        let images: usize =
            list("components").iter().map(|it| it["images"].as_array().unwrap().len()).sum();
        assert_eq!(understood(&dot).0.len(), images + list("external").len(), "{dot}");
    }
}

#[test]
fn builds_with_other_workers_are_simulated() {
    let workspace = Workspace::new().image("base", "FROM scratch\nCOPY x /\n");
    // Some engines tell how large the compressed layers are.
    let bytes: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(1 << 20).collect();
    workspace.write_bytes("src/base/x", &bytes);
    let workspace = ["a", "b", "c"].into_iter().fold(workspace, |workspace, name| {
        workspace.image(name, &format!("FROM tt-base\nLABEL name={name}\n"))
    });
    let simulate = |arguments: &[&str]| {
        let all = [&["graph", "--json", "--simulate"], arguments].concat();
        let output = workspace.xtask(&all).exits_with(0);
        serde_json::from_str::<Value>(&output.stdout).expect("JSON")
    };
    let nothing = workspace.xtask(&["graph", "--simulate", "1"]).exits_with(2);
    assert!(nothing.stderr.contains("no build is on record"), "{}", nothing.stderr);
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let found = simulate(&["1,2,64", "--bandwidth", "1M"]);
    let row = |index: usize, of: &str| found["rows"][index][of].as_f64().expect("a number");
    let is_close = |one: f64, other: &Value| (one - other.as_f64().unwrap()).abs() < 1e-6;
    assert_eq!((&found["components"], &found["never_built"]), (&4.into(), &0.into()));
    assert!(is_close(row(0, "jobs_seconds"), &found["work_seconds"]), "{found:#}");
    assert!(is_close(row(2, "jobs_seconds"), &found["critical_path_seconds"]), "{found:#}");
    assert_eq!(found["critical_path"][0], "base");
    // The base is pushed first, which takes a second, and pulled by each machine but one.
    assert_eq!(found["rows"][0]["transferred_bytes"], 0);
    let transferred = row(2, "transferred_bytes") / f64::from(3 << 20);
    assert!((1.0..1.02).contains(&transferred), "{found:#}");
    assert!(row(2, "machines_seconds") > row(2, "jobs_seconds") + 0.999, "{found:#}");
    // What was never built counts as the median.
    let workspace = workspace.image("d", "FROM tt-base\n");
    let text = workspace.xtask(&["graph", "--simulate", "1,64"]).exits_with(0).stdout;
    assert!(text.starts_with("5 components, [TIME] of work, 1.0 MiB of images at"), "{text}");
    assert!(text.contains("1 component never built here: counted as the median\n"), "{text}");
    assert!(text.contains("\ncritical path, [TIME]: base -> "), "{text}");
    let without = workspace.env("DOCKER_HOST", "unix:///none.sock");
    let output = without.xtask(&["graph", "--simulate", "1,2"]).exits_with(0);
    assert!(output.stderr.contains("warning: the sizes of the images are unknown"), "{output:?}");
}

/// Nothing outside of a cycle need depend on what is on it.
#[test]
fn a_cycle_is_an_error_whatever_is_shown() {
    let workspace = Workspace::new()
        .image("a", "FROM tt-b\n")
        .image("b", "FROM tt-a\n")
        .image("z", "FROM scratch\n");
    for arguments in [&["graph"][..], &["graph", "--matrix"], &["graph", "--json"], &["graph", "a"]]
    {
        let output = workspace.xtask(arguments).exits_with(2);
        assert!(output.error().contains("a → b → a"), "{arguments:?}: {}", output.error());
    }
    let _ = workspace.xtask(&["graph", "z"]).exits_with(0);
}
