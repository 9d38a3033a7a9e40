//! `list` shows components, images and what the engine has of them.

use std::collections::BTreeMap;

use serde_json::Value;
use tests::engine::remove_image;
use tests::{Output, Workspace};

fn tree() -> Workspace {
    Workspace::new()
        .image("base", "FROM scratch\nCOPY text /text\n")
        .file("src/base/text", &"x".repeat(2048))
        .image("web", "FROM tt-base\nLABEL a=b\n")
        .file("src/web/build/tt-web-debug.dockerfile", "FROM tt-web\nLABEL c=d\n")
        .file("src/組件/build/tt-cjk.dockerfile", "FROM scratch\nLABEL a=b\n")
        .file("src/data/one", "1")
}

/// The cells of each row, joined by bars.
fn rows(output: &Output) -> Vec<String> {
    output.stdout.lines().map(cells).collect()
}

fn cells(line: &str) -> String {
    let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
    let cells = cells.map(|cell| match cell {
        age if age.ends_with(" ago") || age == "[TIME]" => "[AGE]",
        cell => cell,
    });
    cells.collect::<Vec<_>>().join("|")
}

#[test]
fn an_engine_that_has_nothing_lacks_every_image() {
    let workspace = tree();
    assert_eq!(
        rows(&workspace.xtask(&["list"]).exits_with(0)),
        [
            "COMPONENT|IMAGE|STATE|SIZE|CREATED",
            "base|tt-base|missing",
            "data|-",
            "web|tt-web|missing",
            "web|tt-web-debug|missing",
            "組件|tt-cjk|missing",
        ]
    );
    let list = workspace.xtask(&["list", "web", "--json"]).exits_with(0);
    let list: Value = serde_json::from_str(&list.stdout).unwrap();
    assert_eq!(list["components"].as_array().unwrap().len(), 1, "{list:#}");
    let image = &list["components"][0]["images"][1];
    assert_eq!(image["image"], workspace.own("tt-web-debug").replace(&workspace.own("tt-"), "tt-"));
    for name in ["id", "bytes", "created"] {
        assert!(image[name].is_null(), "{list:#}");
    }
}

#[test]
fn each_image_has_its_state_size_and_age() {
    let workspace = tree();
    let _ = workspace.xtask(&["build"]).exits_with(0);
    remove_image(&workspace.own("tt-cjk"));
    workspace.write("src/web/build/tt-web-debug.dockerfile", "FROM tt-web\nLABEL c=e\n");
    let found = rows(&workspace.xtask(&["list"]).exits_with(0));
    // Stores count bytes in their own ways.
    let size = |row: &str| row.rsplit('|').nth(1).is_some_and(|size| size.ends_with(" KiB"));
    let sized = found.iter().filter(|row| size(row)).count();
    let without_sizes: Vec<String> = found
        .iter()
        .map(|row| {
            let fields = row.split('|').filter(|field| !field.ends_with(" KiB"));
            fields.collect::<Vec<_>>().join("|")
        })
        .collect();
    assert_eq!(sized, 3, "{found:?}");
    assert_eq!(
        without_sizes,
        [
            "COMPONENT|IMAGE|STATE|SIZE|CREATED",
            "base|tt-base|up to date|[AGE]",
            "data|-",
            "web|tt-web|up to date|[AGE]",
            "web|tt-web-debug|stale|[AGE]",
            "組件|tt-cjk|missing",
        ]
    );
    let list = workspace.xtask(&["list", "src/base/", "--json"]).exits_with(0);
    let list: Value = serde_json::from_str(&list.stdout).unwrap();
    let image = &list["components"][0]["images"][0];
    assert!(image["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{list:#}");
    assert!(image["created"].as_f64().unwrap() > 1e9, "{list:#}");
    assert_eq!(rows(&workspace.xtask(&["list", "w*"]).exits_with(0)).len(), 3);
}

#[test]
fn the_columns_are_aligned_also_where_a_name_is_wide() {
    let workspace = tree();
    let output = workspace.xtask(&["list"]).exits_with(0);
    let printed = workspace.own(&output.stdout);
    let width = |text: &str| -> usize {
        text.chars().map(|letter| if letter.is_ascii() { 1 } else { 2 }).sum()
    };
    let rows = printed.lines().filter(|line| line.contains("missing"));
    let places: Vec<usize> = rows.map(|row| width(&row[..row.find("missing").unwrap()])).collect();
    assert_eq!(places, [places[0]; 4], "{printed}");
}

#[test]
fn what_cannot_be_listed_is_said() {
    let workspace = tree().image("bad", "FROM scratch\nCOYP a /\n");
    let output = workspace.xtask(&["list"]).exits_with(0);
    assert!(output.stderr.starts_with("warning: src/bad/build/"), "{}", output.stderr);
    assert!(output.stdout.contains("web"), "{}", output.stdout);
    let output = workspace.xtask(&["list", "wbe"]).exits_with(2);
    let said = "error: no component 'wbe' under src/ (did you mean 'web'?)\n";
    assert_eq!(output.error(), said);
    let nowhere = BTreeMap::from([("DOCKER_HOST".to_owned(), "unix:///none".to_owned())]);
    let output = workspace.xtask_with(&nowhere, &["list"]).exits_with(1);
    assert!(output.error().contains("/none"), "{}", output.stderr);
}
