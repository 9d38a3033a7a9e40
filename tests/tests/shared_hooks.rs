//! What hooks came to on one machine, taken by another instead of running them.

use std::fs;

use serde_json::Value;
use tests::engine::{docker, has_image, image_files};
use tests::registry::Registry;
use tests::{Output, Workspace};

/// `gen`'s hook reads `version`, and `web` has what it makes. Both run `gen`'s image.
fn tree(registry: &Registry) -> Workspace {
    let hook = "#!/bin/sh -e\necho ran\nmkdir -p src/gen/generated/deep\n\
                cp version src/gen/generated/deep/\nln -s deep/version src/gen/generated/link\n\
                printf '#!/bin/sh\\n' > src/gen/generated/tool\nchmod 755 src/gen/generated/tool\n";
    Workspace::new()
        .replace(registry.address(), "[REGISTRY]")
        .file("xtask.toml", &format!("share = \"{}/team\"\n", registry.address()))
        .file("version", "1")
        .file("src/gen/build/inputs", "version\n")
        .script("src/gen/build/build-pre.sh", hook)
        .image("gen", "FROM scratch\nCOPY generated /made\n")
        .image("web", "FROM tt-gen\nCOPY dependency/gen/generated /web\n")
        .file("src/web/build/component.dep", "gen\n")
}

fn share(workspace: &Workspace) -> Output {
    workspace.xtask(&["build", "--share"]).exits_with(0)
}

/// The same files on a machine that has none of the images.
fn other_machine(workspace: &Workspace) -> Workspace {
    for image in ["tt-web", "tt-gen"].map(|image| workspace.own(image)) {
        if has_image(&image) {
            let id = docker(&["image", "inspect", "-f", "{{.Id}}", &image]);
            docker(&["rmi", "-f", String::from_utf8_lossy(&id).trim()]);
        }
    }
    let config = fs::read_to_string(workspace.root().join("xtask.toml")).expect("a file");
    let copy = workspace.copy();
    copy.write("xtask.toml", &config);
    copy.write("version", "1");
    copy
}

fn hook_ran(output: &Output) -> bool {
    output.stderr.contains("gen | ran")
}

/// The repository of `gen`, and the tag of what its hooks came to.
fn hooks_tag(workspace: &Workspace, registry: &Registry) -> (String, Option<String>) {
    let repository = workspace.own("team/tt-gen");
    let tag = registry.tags(&repository).into_iter().find(|tag| tag.starts_with("hooks-"));
    (repository, tag)
}

#[test]
fn another_machine_runs_no_hook_whose_results_were_shared() {
    let registry = Registry::start();
    let here = tree(&registry);
    assert!(hook_ran(&share(&here)));
    let made = image_files(&here.own("tt-web"));
    let there = other_machine(&here);
    let output = there.xtask(&["build"]).exits_with(0);
    assert!(!hook_ran(&output) && output.built().is_empty(), "{}", output.stderr);
    assert!(output.stderr.contains("2 pulled"), "{}", output.stderr);
    assert_eq!(image_files(&there.own("tt-web")), made);
    let again = there.xtask(&["build"]).exits_with(0);
    assert!(again.stderr.contains("2 up to date"), "{}", again.stderr);
    // What was damaged here is taken once more.
    let store = there.root().join("target/xtask/store");
    let entry = fs::read_dir(store).unwrap().next().unwrap().unwrap().path();
    fs::write(entry.join("generated/tool"), "damaged").unwrap();
    let mended = there.xtask(&["build"]).exits_with(0);
    assert!(!hook_ran(&mended) && mended.built().is_empty(), "{}", mended.stderr);
    assert!(!mended.stderr.contains("warning"), "{}", mended.stderr);
    // It is shared already.
    assert!(!share(&there).stderr.contains("pushing"));
}

#[test]
fn dependents_are_built_with_what_was_shared() {
    let registry = Registry::start();
    let here = tree(&registry);
    share(&here);
    let there = other_machine(&here);
    there.write(
        "src/web/build/tt-web.dockerfile",
        &there.own("FROM tt-gen\nCOPY dependency/gen/generated /other\n"),
    );
    let output = there.xtask(&["build"]).exits_with(0);
    assert!(!hook_ran(&output), "{}", output.stderr);
    assert_eq!(output.built(), ["web"], "{}", output.stderr);
    let files = image_files(&there.own("tt-web"));
    for (path, start) in [
        ("other/deep/version", "Regular 644 "),
        ("other/link", "Symlink 777 "),
        ("other/tool", "Regular 755 "),
    ] {
        assert!(files[path].starts_with(start), "{path}: {}", files[path]);
    }
}

#[test]
fn after_an_edit_of_an_input_the_hook_runs() {
    let registry = Registry::start();
    let here = tree(&registry);
    share(&here);
    let there = other_machine(&here);
    there.write("version", "2");
    let output = there.xtask(&["build"]).exits_with(0);
    assert!(hook_ran(&output), "{}", output.stderr);
    assert_eq!(output.built(), ["gen", "web"], "{}", output.stderr);
    let version = &image_files(&there.own("tt-web"))["web/deep/version"];
    assert!(version.ends_with(" 2"), "{version}");
}

#[test]
fn what_hooks_came_to_is_shared_after_an_edit_was_undone() {
    for is_restored_before in [false, true] {
        let registry = Registry::start();
        let here = tree(&registry);
        for version in ["1", "2"] {
            here.write("version", version);
            here.xtask(&["build", "--from-registry=off"]).exits_with(0);
        }
        here.write("version", "1");
        if is_restored_before {
            here.xtask(&["build", "--from-registry=off"]).exits_with(0);
        }
        assert!(!hook_ran(&share(&here)));
        let output = other_machine(&here).xtask(&["build"]).exits_with(0);
        assert!(!hook_ran(&output) && output.built().is_empty(), "{}", output.stderr);
    }
}

#[test]
fn a_hook_runs_if_an_image_of_its_component_is_not_in_the_registry() {
    let registry = Registry::start_with_deletion();
    let here = tree(&registry);
    share(&here);
    let repository = here.own("team/tt-gen");
    for tag in registry.tags(&repository).iter().filter(|tag| tag.starts_with("fp-")) {
        registry.delete(&repository, &registry.digest(&repository, tag).expect("a digest"));
    }
    let there = other_machine(&here);
    let output = there.xtask(&["build"]).exits_with(0);
    assert!(hook_ran(&output), "{}", output.stderr);
    assert_eq!(output.built(), ["gen"], "{}", output.stderr);
}

#[test]
fn hooks_that_leave_more_than_generated_are_not_shared() {
    let registry = Registry::start();
    let here =
        tree(&registry).script("src/gen/build/build-post.sh", "#!/bin/sh\ndate > src/gen/left\n");
    share(&here);
    assert_eq!(hooks_tag(&here, &registry).1, None);
    let there = other_machine(&here);
    assert!(hook_ran(&there.xtask(&["build"]).exits_with(0)));
}

#[test]
fn what_others_put_under_the_tag_is_not_used() {
    let registry = Registry::start();
    let here = tree(&registry);
    share(&here);
    let (repository, tag) = hooks_tag(&here, &registry);
    let tag = tag.expect("a tag");
    let manifest = registry.manifest(&repository, &tag);
    let mut artifact: Value = serde_json::from_str(&manifest).expect("JSON");
    // The layer of another entry: its configuration, which is no archive.
    artifact["layers"][0]["digest"] = artifact["config"]["digest"].clone();
    artifact["layers"][0]["size"] = artifact["config"]["size"].clone();
    // And that of another version.
    here.write("version", "2");
    share(&here);
    let other = registry.tags(&repository).into_iter();
    let other = other.filter(|other| other.starts_with("hooks-")).find(|other| *other != tag);
    let other = registry.manifest(&repository, &other.expect("another tag"));
    let other: Value = serde_json::from_str(&other).expect("JSON");
    let mut mixed = artifact.clone();
    mixed["layers"] = other["layers"].clone();
    let image = registry.tags(&repository).into_iter().find(|tag| tag.ends_with("amd64"));
    let image = image.expect("a tag of a platform");
    let image: Value = serde_json::from_str(&registry.manifest(&repository, &image)).expect("JSON");
    let poisons = [
        (artifact, "cannot be used"),
        (mixed, "it has other files than it says"),
        (image, "was not written by --share"),
    ];
    for (poison, warning) in poisons {
        registry.put_manifest(&repository, &tag, &poison);
        let there = other_machine(&here);
        let output = there.xtask(&["build"]).exits_with(0);
        assert!(hook_ran(&output), "{}", output.stderr);
        assert!(output.stderr.contains(warning), "{}", output.stderr);
        assert!(output.built().is_empty(), "{}", output.stderr);
        let again = there.xtask(&["build"]).exits_with(0);
        assert!(!hook_ran(&again), "{}", again.stderr);
    }
}

#[test]
fn hooks_results_are_cleaned_with_their_image() {
    let registry = Registry::start_with_deletion();
    let here = tree(&registry).file(".gitignore", "target\n").git();
    share(&here);
    let old = hooks_tag(&here, &registry).1.expect("a tag");
    here.write("version", "2");
    share(&here);
    let clean = ["clean", "--shared", "--older-than", "0h"];
    let output = here.xtask(&clean).exits_with(0);
    assert!(output.stdout.starts_with("deleted 2 of 4 shared images"), "{}", output.stdout);
    let repository = here.own("team/tt-gen");
    assert_eq!(registry.digest(&repository, &old), None);
    let left = registry.tags(&repository);
    let left = left.iter().filter(|tag| registry.digest(&repository, tag).is_some());
    assert_eq!(left.filter(|tag| tag.starts_with("hooks-")).count(), 1);
}
