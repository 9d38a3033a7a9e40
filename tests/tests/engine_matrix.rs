//! What each action comes to on an engine: one column of the table in `docs/engines.md`. Whatever
//! an engine can do, no image is stale, and what it cannot do is refused in words.
//!
//!     bash tests/engines                    # all columns, from the engines of tests/engine
//!
//! Without `UPDATE_EXPECT=1`, a column that is in the table is compared with what happens.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::engine::{docker, has_containerd_store, has_image, image_files, is_podman};
use tests::registry::Registry;
use tests::{Output, Workspace, repository};

/// What was done, and what happened.
type Cell = (&'static str, String);

const BEGIN: &str = "<!-- begin of the matrix -->\n";
const END: &str = "<!-- end of the matrix -->\n";

#[test]
#[ignore = "one engine's column of docs/engines.md: bash tests/engines"]
fn every_action_comes_to_the_right_image_or_is_refused() {
    let stories: [fn() -> Vec<Cell>; 6] =
        [edits, pushes, watches, cancels, builders_and_secrets, platforms];
    let cells: Vec<Cell> = thread::scope(|scope| {
        let running: Vec<_> = stories.map(|story| scope.spawn(story)).into_iter().collect();
        running.into_iter().flat_map(|story| story.join().expect("the story is true")).collect()
    });
    Table::read().hold(&column_name(), &cells);
}

/// A chain of two images, and one beside it. No other test's build cache has them.
fn three_images() -> Workspace {
    Workspace::new()
        .with_box()
        .image("base", "FROM tt-box\nRUN : tt-base\nCOPY text /text\nRUN cp /text /copy\n")
        .file("src/base/text", "first")
        .image("web", "FROM tt-base\nCOPY own /own\n")
        .file("src/web/own", "web")
        .image("tool", "FROM scratch\nCOPY own /own\n")
        .file("src/tool/own", "tt-tool")
}

/// The last image of the chain was made from the newest files of all.
fn is_right(workspace: &Workspace, text: &str) {
    let files = image_files(&workspace.own("tt-web"));
    for (path, text) in [("text", text), ("copy", text), ("own", "web")] {
        assert!(files[path].ends_with(&format!(" {text}")), "{path}: {files:?}");
    }
}

fn edits() -> Vec<Cell> {
    let workspace = three_images();
    let mut cells = Vec::new();
    let mut build = |action, text| {
        let output = workspace.xtask(&["build"]).exits_with(0);
        is_right(&workspace, text);
        cells.push((action, result(&output)));
    };
    build("build", "first");
    build("no-op", "first");
    workspace.write("src/base/text", "second");
    build("edit", "second");
    workspace.write("src/base/text", "first");
    build("revert", "first");
    docker(&["tag", &workspace.own("tt-tool"), &workspace.own("tt-web")]);
    build("retag", "first");
    docker(&["rmi", "-f", &workspace.own("tt-web")]);
    build("remove", "first");
    assert!(cells[0].1 == "3 built" && cells[1].1 == "3 up to date", "{cells:?}");
    cells
}

fn pushes() -> Vec<Cell> {
    let registry = Registry::start();
    let toml = format!("registry = \"{}/x\"\n", registry.address());
    let workspace = three_images().file("xtask.toml", &toml).env("XTASK_TAG", "1");
    let push = || {
        let _ = workspace.xtask(&["build"]).exits_with(0);
        let output = workspace.xtask(&["push"]).exits_with(0);
        assert_eq!(output.stdout.lines().count(), 3, "{output:?}");
        registry.digest(&workspace.own("x/tt-web"), "1").expect("it is there")
    };
    let first = push();
    assert_eq!(push(), first, "nothing changed");
    workspace.write("src/base/text", "second");
    assert_ne!(push(), first);
    // What everybody gets is what was built last.
    docker(&["rmi", "-f", &workspace.own("tt-web")]);
    let reference = workspace.own(&format!("{}/x/tt-web:1", registry.address()));
    docker(&["rmi", "-f", &reference]);
    docker(&["pull", "-q", &reference]);
    docker(&["tag", &reference, &workspace.own("tt-web")]);
    is_right(&workspace, "second");
    vec![("push", "3 pushed".to_owned())]
}

fn watches() -> Vec<Cell> {
    let workspace = three_images();
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let mut running = workspace.start(&["watch"]);
    running.wait_for("watching: ");
    workspace.save("src/base/text", "second");
    running.wait_for("watching: ");
    is_right(&workspace, "second");
    docker(&["rmi", "-f", &workspace.own("tt-web")]);
    running.wait_for("watching: ");
    is_right(&workspace, "second");
    running.interrupt();
    let output = running.finish().exits_with(0);
    let results: Vec<String> = results(&output).collect();
    let [initial, edited, removed] = &results[..] else { panic!("{}", output.stderr) };
    assert_eq!([initial.as_str(), edited], ["3 up to date", "2 built"], "{}", output.stderr);
    vec![("watch", format!("edit: {edited}; remove: {removed}"))]
}

fn cancels() -> Vec<Cell> {
    let workspace = Workspace::new().with_box();
    workspace.write("src/a/build/tt-a.dockerfile", "FROM tt-box\nRUN sleep 600; echo tt-end\n");
    let marker = workspace.own("echo tt-end");
    let running = workspace.start(&["build"]);
    let is_running = || !processes_with(&marker).is_empty();
    assert!(soon(is_running), "the instruction does not run");
    running.interrupt();
    let output = running.finish().exits_with(130);
    assert!(!has_image(&workspace.own("tt-a")), "{}", output.stderr);
    let run = if soon(|| !is_running()) { "`RUN` ends" } else { "`RUN` goes on" };
    for process in processes_with(&marker) {
        let _ = kill_process(process, Signal::KILL);
    }
    workspace.write("src/a/build/tt-a.dockerfile", "FROM tt-box\nRUN echo done > /done\n");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    assert!(image_files(&workspace.own("tt-a"))["done"].ends_with(" done\n"));
    vec![("cancel", format!("exit {}, {run}", output.code))]
}

fn builders_and_secrets() -> Vec<Cell> {
    let workspace = three_images().file("token", "bright-and-shiny").secret("bright-and-shiny");
    let mut cells = Vec::new();
    for (action, builder, text) in
        [("classic", "classic", "first"), ("BuildKit", "buildkit", "second")]
    {
        workspace.write("src/base/text", text);
        let output = workspace.xtask(&["build", "-f", "--builder", builder]);
        let cell = result(&output);
        if output.code == 0 {
            is_right(&workspace, text);
            assert_eq!(cell, "3 built", "{}", output.stderr);
        }
        cells.push((action, cell));
    }
    workspace.write(
        "src/tool/build/tt-tool.dockerfile",
        "FROM tt-box\nRUN --mount=type=secret,id=token wc -c < /run/secrets/token > /seen # tt-\n",
    );
    let output = workspace.xtask(&["build", "tool", "--secret", "id=token,src=token"]);
    if output.code == 0 {
        let files = image_files(&workspace.own("tt-tool"));
        assert!(files["seen"].ends_with(" 16\n"), "{files:?}");
        assert!(!format!("{files:?}").contains("bright-and-shiny"));
    }
    cells.push(("secrets", result(&output)));
    cells
}

fn platforms() -> Vec<Cell> {
    let registry = Registry::start();
    let toml = format!("registry = \"{}/x\"\n", registry.address());
    let workspace = Workspace::new()
        .image("a", "FROM scratch\nARG TARGETARCH\nCOPY f-$TARGETARCH /f\nLABEL for=$TARGETARCH\n")
        .file("src/a/f-amd64", "tt-amd64")
        .file("src/a/f-arm64", "tt-arm64")
        .file("xtask.toml", &toml)
        .env("XTASK_TAG", "1");
    let one = workspace.xtask(&["build", "--platform", "linux/arm64"]).exits_with(0);
    let format = "{{.Architecture}} {{index .Config.Labels \"for\"}}";
    let inspected = docker(&["image", "inspect", "--format", format, &workspace.own("tt-a")]);
    assert_eq!(String::from_utf8_lossy(&inspected).trim(), "arm64 arm64");
    let both = workspace.xtask(&["build", "--push", "--platform", "linux/amd64,linux/arm64"]);
    if both.code == 0 {
        let index = registry.index(&workspace.own("x/tt-a"), "1");
        let manifests = index["manifests"].as_array().expect("an index");
        let mut found: Vec<&Value> =
            manifests.iter().map(|it| &it["platform"]["architecture"]).collect();
        found.retain(|architecture| *architecture != "unknown");
        found.sort_by_key(ToString::to_string);
        assert_eq!(found, ["amd64", "arm64"], "{index}");
    }
    vec![("platforms", format!("one: {}; two: {}", result(&one), result(&both)))]
}

/// The result of a command that makes one round, or what was refused.
fn result(output: &Output) -> String {
    if output.code == 0 {
        return results(output).next().expect("a round");
    }
    let message = output.error().lines().next().unwrap_or_default();
    let after_image = || message.split_once(": image 'tt-")?.1.split_once(": ");
    let message = after_image().map_or(message, |(_, message)| message);
    // What follows says of which engine, and why.
    let what = message.trim_start_matches("error: ").split(", and the engine at ").next();
    assert!([1, 2].contains(&output.code) && what != Some(""), "{output:?}");
    format!("refused: {}", what.unwrap_or_default())
}

/// The results of rounds, as the tool tells them, without what is zero.
fn results(output: &Output) -> impl Iterator<Item = String> + '_ {
    let ends = |line: &&str| line.starts_with("finished: ");
    output.stderr.split_inclusive("\nfinished: ").zip(output.stderr.lines().filter(ends)).map(
        |(round, end)| {
            let summary = end.trim_start_matches("finished: ").split(" in [TIME]").next();
            let parts = summary.unwrap_or_default().split(", ").filter(|it| !it.starts_with("0 "));
            let text = parts.collect::<Vec<_>>().join(", ");
            let is_run = |line: &str| {
                ["] RUN ", "] COPY ", ": RUN ", ": COPY "].iter().any(|it| line.contains(it))
                    && !line.contains("CACHED ")
            };
            if round.lines().any(is_run) {
                text
            } else {
                text.replace(" built", " from the build cache")
            }
        },
    )
}

/// The processes whose command line has this text in it.
fn processes_with(text: &str) -> Vec<Pid> {
    let all = fs::read_dir("/proc").expect("processes").flatten();
    all.filter(|process| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(text)
    })
    .filter_map(|process| Pid::from_raw(process.file_name().to_str()?.parse().ok()?))
    .collect()
}

/// Whether that becomes true within the time that an engine takes to end a container.
fn soon(is_true: impl Fn() -> bool) -> bool {
    (0..200).any(|_| {
        is_true() || {
            thread::sleep(Duration::from_millis(100));
            false
        }
    })
}

/// What the engine is called in the table.
fn column_name() -> String {
    let server = docker(&["version", "--format", "{{json .Server}}"]);
    let server: Value = serde_json::from_slice(&server).expect("JSON");
    let version = server["Version"].as_str().expect("a version");
    let version: Vec<&str> = version.split('.').take(2).collect();
    let name = if is_podman() { "Podman" } else { "Docker" };
    let store = if has_containerd_store() { ", containerd store" } else { "" };
    format!("{name} {}{store}", version.join("."))
}

/// The table of the page.
struct Table {
    page: PathBuf,
    before: String,
    after: String,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn read() -> Self {
        let page = repository().join("docs/engines.md");
        let text = fs::read_to_string(&page).expect("the page");
        let (before, rest) = text.split_once(BEGIN).expect("the begin of the table");
        let (table, after) = rest.split_once(END).expect("the end of the table");
        let cells =
            |line: &str| line.trim_matches('|').split('|').map(|it| it.trim().to_owned()).collect();
        let rows = table.lines().filter(|line| !line.starts_with("| -")).map(cells).collect();
        Self { before: before.to_owned(), after: after.to_owned(), rows, page }
    }

    /// Writes a column, or compares it with what the page says.
    fn hold(mut self, name: &str, cells: &[Cell]) {
        println!("{name}: {cells:#?}");
        let is_update = std::env::var_os("UPDATE_EXPECT").is_some();
        let place = self.rows.first().and_then(|row| row.iter().position(|it| it == name));
        if !is_update && place.is_none() {
            println!("docs/engines.md has no column for it");
            return;
        }
        let names = std::iter::once(("", name.to_owned())).chain(cells.iter().cloned());
        for (at, (action, cell)) in names.enumerate() {
            if at == self.rows.len() {
                self.rows.push(vec![action.to_owned()]);
            }
            let row = &mut self.rows[at];
            let place = place.unwrap_or(row.len());
            if !is_update {
                assert_eq!(
                    (row[0].as_str(), &row[place]),
                    (action, &cell),
                    "UPDATE_EXPECT=1 writes it"
                );
            }
            row.resize(row.len().max(place + 1), String::new());
            row[place] = cell;
        }
        if is_update {
            self.write();
        }
    }

    fn write(&self) {
        let mut lines: Vec<String> =
            self.rows.iter().map(|row| format!("| {} |\n", row.join(" | "))).collect();
        let columns = self.rows.first().map_or(0, Vec::len);
        lines.insert(1, format!("| {} |\n", vec!["---"; columns].join(" | ")));
        let text = format!("{}{BEGIN}{}{END}{}", self.before, lines.concat(), self.after);
        fs::write(&self.page, text).expect("the page");
    }
}
