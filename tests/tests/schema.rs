//! What programs read is what `docs/schema/` says: real output of every command is checked
//! against it.

use std::fs;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;
use tests::engine::remove_image;
use tests::registry::Registry;
use tests::{Output, Workspace, repository};

/// The schemas of the repository.
struct Checker {
    schemas: Schemas,
    compiler: Compiler,
}

impl Checker {
    fn new() -> Self {
        Self { schemas: Schemas::new(), compiler: Compiler::new() }
    }

    fn schema(&mut self, name: &str) -> SchemaIndex {
        let path = repository().join(format!("docs/schema/{name}.schema.json"));
        let text = fs::read_to_string(&path).expect("a schema");
        let schema: Value = serde_json::from_str(&text).expect("a JSON document");
        let location = format!("file:///{name}.schema.json");
        // It is there already the second time.
        drop(self.compiler.add_resource(&location, schema));
        self.compiler.compile(&location, &mut self.schemas).expect("a schema")
    }

    fn check(&mut self, name: &str, value: &Value) {
        let schema = self.schema(name);
        if let Err(error) = self.schemas.validate(value, schema) {
            panic!("{name}: {error:#}\nin {value:#}");
        }
    }

    /// The events on standard output, on which nothing else may be.
    fn events(&mut self, output: &Output) -> Vec<Value> {
        let event = |line: &str| -> Value {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        };
        let events: Vec<Value> = output.stdout.lines().map(event).collect();
        for event in &events {
            self.check("event", event);
        }
        events
    }

    /// The only event of a name.
    fn only(&mut self, output: &Output, name: &str) -> Value {
        let mut found = self.events(output);
        found.retain(|event| event["event"] == name);
        assert_eq!(found.len(), 1, "{}", output.stdout);
        found.remove(0)
    }
}

fn tree() -> Workspace {
    Workspace::new()
        .with_box()
        .image("a", "FROM tt-box\nRUN echo tt-\nCOPY f /\n")
        .file("src/a/f", "1")
        .file("src/a/.dockerignore", "none\n")
        .image("b", "FROM tt-a\n")
        .image("c", "FROM tt-box\nRUN false\n")
        .script("src/d/build/build-pre.sh", "#!/bin/sh\ncat version\n")
        .file("version", "1")
        .file("src/d/build/tt-d.dockerfile", "FROM tt-c\n")
}

const JSON: [&str; 2] = ["--progress", "json"];

#[test]
fn every_event_is_as_its_schema_says() {
    let (workspace, mut checker) = (tree(), Checker::new());
    let failed = workspace.xtask(&[&["build", "-k"][..], &JSON].concat()).exits_with(1);
    let events = checker.events(&failed);
    for name in ["round_started", "log", "image_stale", "step_failed", "round_finished"] {
        assert!(events.iter().any(|event| event["event"] == name), "{name}: {}", failed.stdout);
    }
    let states: Vec<&Value> = events.iter().filter_map(|event| event.get("state")).collect();
    assert!(states.contains(&&"built".into()) && states.contains(&&"not_run".into()));
    workspace.write("src/a/f", "2");
    let name = workspace.own("tt-a:other");
    let build = ["build", "-s", "a", "--tag", &name];
    let changed = workspace.xtask(&[&build[..], &JSON].concat()).exits_with(0);
    assert_eq!(checker.only(&changed, "tagged")["reference"], "tt-a:other");
    let stale = checker.only(&changed, "image_stale");
    assert_eq!(stale["reasons"][0]["kind"], "changed", "{stale}");
    assert_eq!(stale["reasons"][0]["changes"][0]["name"], "src/a/f", "{stale}");
}

#[test]
fn what_is_wrong_with_the_workspace_is_an_event_and_an_annotation() {
    let mut checker = Checker::new();
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nFRM x\n")
        .file("src/a/build/component.dep", "gone\n");
    let json = workspace.xtask(&[&["build"][..], &JSON].concat()).exits_with(2);
    let events = checker.events(&json);
    let errors: Vec<_> = events.iter().filter(|event| event["event"] == "error").collect();
    let place = |event: &Value| (event["file"].clone(), event["line"].clone());
    assert_eq!(errors.len(), 2, "{}", json.stdout);
    assert_eq!(place(errors[0]), ("src/a/build/component.dep".into(), 1.into()));
    assert_eq!(place(errors[1]), ("src/a/build/tt-a.dockerfile".into(), 2.into()));
    let actions = [("GITHUB_ACTIONS".to_owned(), "true".to_owned())].into();
    let github = workspace.xtask_with(&actions, &["build"]).exits_with(2);
    for mark in [
        "::error file=src/a/build/component.dep,line=1::",
        "::error file=src/a/build/tt-a.dockerfile,line=2::",
    ] {
        assert_eq!(github.stderr.matches(mark).count(), 1, "{}", github.stderr);
    }
}

#[test]
fn plans_graphs_and_contexts_are_as_their_schemas_say() {
    let (workspace, mut checker) = (tree(), Checker::new());
    let _ = workspace.xtask(&["build", "-s", "a"]).exits_with(0);
    let document = |arguments: &[&str]| -> Value {
        let output = workspace.xtask(arguments).exits_with(0);
        serde_json::from_str(&output.stdout).expect("one document")
    };
    let plan = document(&["build", "-n", "--json"]);
    checker.check("plan", &plan);
    let graph = document(&["graph", "--json", "--stale", "--durations", "--external"]);
    checker.check("graph", &graph);
    let state = |document: &Value, name: &str| {
        let components = document["components"].as_array().unwrap().clone();
        let found = components.into_iter().find(|it| it["component"] == name).unwrap();
        found["images"][0]["state"].clone()
    };
    for (name, expected) in [("a", "up_to_date"), ("b", "stale"), ("d", "stale")] {
        assert_eq!(state(&plan, name), expected, "{plan:#}");
        assert_eq!(state(&graph, name), expected, "{graph:#}");
    }
    let list = document(&["list", "--json"]);
    checker.check("list", &list);
    checker.check("config", &document(&["config", "--json"]));
    checker.check("doctor", &document(&["doctor", "--json"]));
    for (name, expected) in [("a", "up_to_date"), ("b", "stale"), ("d", "stale")] {
        assert_eq!(state(&list, name), expected, "{list:#}");
    }
    let context = document(&["context", "a", "--json"]);
    checker.check("context", &context);
}

#[test]
fn with_json_progress_nothing_but_events_is_on_standard_output() {
    let (workspace, mut checker) = (tree(), Checker::new());
    let run = |arguments: &[&str]| workspace.xtask(&[arguments, &JSON].concat());
    let plan = checker.only(&run(&["build", "-n"]).exits_with(0), "planned");
    assert_eq!(plan["components"][0]["component"], "a", "{plan:#}");
    let _ = checker.only(&run(&["build", "-n", "--json"]).exits_with(0), "planned");
    let graph = checker.only(&run(&["graph", "--stale", "--json"]).exits_with(0), "output");
    checker.check("graph", &graph["document"]);
    let drawn = checker.only(&run(&["graph", "--dot"]).exits_with(0), "output");
    assert!(drawn["text"].as_str().unwrap().starts_with("digraph"), "{drawn:#}");
    let list = checker.only(&run(&["list", "--json"]).exits_with(0), "output");
    checker.check("list", &list["document"]);
    let why = checker.only(&run(&["why", "b"]).exits_with(0), "output");
    assert!(why["text"].as_str().unwrap().contains("tt-b"), "{why:#}");
    let context = checker.only(&run(&["context", "a", "--json"]).exits_with(0), "output");
    checker.check("context", &context["document"]);
    let listed = checker.only(&run(&["context", "a"]).exits_with(0), "output");
    assert!(listed["text"].as_str().unwrap().contains("tt-a"), "{listed:#}");
}

#[test]
fn events_of_shared_images_are_as_their_schema_says() {
    let registry = Registry::start();
    let workspace = Workspace::new()
        .file("xtask.toml", &format!("share = \"{}/team\"\n", registry.address()))
        .image("base", "FROM scratch\nCOPY build /build\n")
        .image("web", "FROM tt-base\nCOPY build /web\n");
    workspace.xtask(&["build", "--share"]).exits_with(0);
    remove_image(&workspace.own("tt-web"));
    remove_image(&workspace.own("tt-base"));
    let output = workspace.xtask(&["--progress", "json", "build", "web"]).exits_with(0);
    let mut checker = Checker::new();
    assert_eq!(checker.only(&output, "image_in_registry")["image"], "tt-base");
    assert_eq!(checker.only(&output, "image_pulled")["image"], "tt-web");
    let summary = checker.only(&output, "round_finished");
    assert_eq!((&summary["pulled"], &summary["in_registry"]), (&1.into(), &1.into()));
}
