//! Images that one machine built and another takes from the registry.

use std::fs;

use tests::engine::{cli_build, docker, has_image, image_files, remove_image};
use tests::registry::Registry;
use tests::{Output, Workspace};

/// Three images in a row, and one that is made from nobody else's.
fn tree(registry: &str) -> Workspace {
    Workspace::new()
        .replace(registry, "[REGISTRY]")
        .file("xtask.toml", &format!("registry = \"{registry}/team\"\n"))
        .with_box()
        .image("base", "FROM tt-box\nCOPY build/own /own\nRUN echo $(cat /proc/sys/kernel/random/uuid) > /random\n")
        .file("src/base/build/own", "base")
        .image("middle", "FROM tt-base\nCOPY build/own /middle\n")
        .file("src/middle/build/own", "middle")
        .image("web", "FROM tt-middle\nCOPY build/own /web\n")
        .file("src/web/build/own", "web")
        .image("alone", "FROM tt-box\nCOPY build/own /alone\n")
        .file("src/alone/build/own", "alone")
}

const IMAGES: [&str; 4] = ["web", "middle", "base", "alone"];

/// The same commit on a machine that has none of its images.
fn other_machine(workspace: &Workspace) -> Workspace {
    forget(workspace);
    checkout(workspace)
}

/// The same files, and nothing that is known of them.
fn checkout(workspace: &Workspace) -> Workspace {
    let config = fs::read_to_string(workspace.root().join("xtask.toml")).expect("a file");
    let copy = workspace.copy();
    copy.write("xtask.toml", &config);
    copy
}

/// Removes the images of a workspace from the engine.
fn forget(workspace: &Workspace) {
    for image in IMAGES {
        let name = workspace.own(&format!("tt-{image}"));
        if has_image(&name) {
            let id = docker(&["image", "inspect", "-f", "{{.Id}}", &name]);
            docker(&["rmi", "-f", String::from_utf8_lossy(&id).trim()]);
        }
    }
}

/// The last line of a build.
fn summary(output: &Output) -> &str {
    output.stderr.lines().rfind(|line| line.starts_with("finished: ")).unwrap_or_default()
}

/// Builds with images of the registry, and expects the summary to begin with `expected`.
#[track_caller]
fn takes(workspace: &Workspace, arguments: &[&str], expected: &str) -> Output {
    let mut all = vec!["build", "--from-registry"];
    all.extend(arguments);
    let output = workspace.xtask(&all).exits_with(0);
    let is_expected = summary(&output).starts_with(&format!("finished: {expected} in "));
    assert!(is_expected, "{}", output.stderr);
    output
}

/// How many images and results of hooks a command pushes.
fn pushed(workspace: &Workspace, arguments: &[&str]) -> usize {
    let output = workspace.xtask(arguments).exits_with(0);
    output.stderr.matches("pushing: ").count()
}

/// What is in the random file of `base`, as `image` has it.
fn random(workspace: &Workspace, image: &str) -> String {
    image_files(&workspace.own(image))["random"].clone()
}

#[test]
fn what_one_machine_shared_another_does_not_build() {
    let registry = Registry::start();
    let here = tree(registry.address());
    here.xtask(&["build", "--share"]).exits_with(0);
    let made = random(&here, "tt-web");
    let there = other_machine(&here);
    takes(&there, &[], "0 built, 0 up to date, 0 failed, 4 pulled");
    assert_eq!(random(&there, "tt-web"), made);
    let again = there.xtask(&["build"]).exits_with(0);
    assert!(summary(&again).starts_with("finished: 0 built, 4 up to date"), "{}", again.stderr);
    takes(&there, &[], "0 built, 4 up to date, 0 failed");
}

#[test]
fn after_an_edit_exactly_what_it_affects_is_built() {
    let registry = Registry::start();
    let here = tree(registry.address());
    here.xtask(&["build", "--share"]).exits_with(0);
    let there = other_machine(&here);
    there.write("src/middle/build/own", "edited");
    let output = takes(&there, &[], "2 built, 0 up to date, 0 failed, 2 pulled");
    assert_eq!(output.built_by_name(), ["middle", "web"]);
    // And back: the first machine finds what the second made of the edit.
    there.xtask(&["build", "--share"]).exits_with(0);
    here.write("src/middle/build/own", "edited");
    forget(&here);
    takes(&here, &[], "0 built, 0 up to date, 0 failed, 4 pulled");
}

#[test]
fn only_what_is_asked_for_or_needed_is_pulled() {
    let registry = Registry::start();
    let here = tree(registry.address());
    here.xtask(&["build", "--share"]).exits_with(0);
    let there = other_machine(&here);
    takes(&there, &["web"], "0 built, 0 up to date, 0 failed, 1 pulled, 2 left in the registry");
    let has = |image: &str| has_image(&there.own(image));
    assert!(has("tt-web") && !has("tt-middle") && !has("tt-base") && !has("tt-alone"));
    there.write("src/web/build/own", "edited");
    let output = takes(&there, &["web"], "1 built, 0 up to date, 0 failed, 2 left in the registry");
    assert_eq!(output.built(), ["web"]);
    assert!(has("tt-middle") && !has("tt-base"), "what is built needs its base");
    takes(&there, &["web"], "0 built, 2 up to date, 0 failed, 1 left in the registry");
}

#[test]
fn an_older_image_of_the_same_name_is_not_taken_for_a_base_in_the_registry() {
    let registry = Registry::start();
    let here = tree(registry.address());
    here.xtask(&["build"]).exits_with(0);
    let there = checkout(&here);
    let older = random(&here, "tt-base");
    // The other machine has another base, from which it made what it shared.
    here.write("src/base/build/own", "edited");
    here.xtask(&["build", "--share"]).exits_with(0);
    let newer = random(&here, "tt-base");
    assert_ne!(older, newer);
    for image in ["web", "middle", "base"] {
        remove_image(&here.own(&format!("tt-{image}")));
    }
    there.xtask(&["build", "base"]).exits_with(0);
    there.write("src/base/build/own", "edited");
    there.write("src/middle/build/own", "edited");
    takes(&there, &["middle"], "1 built, 0 up to date, 0 failed, 1 left in the registry");
    assert_eq!(random(&there, "tt-middle"), newer);
    assert_eq!(random(&there, "tt-base"), newer);
}

#[test]
fn a_base_that_was_built_here_is_not_mixed_with_what_others_made_of_theirs() {
    let registry = Registry::start();
    let here = tree(registry.address());
    here.xtask(&["build", "--share"]).exits_with(0);
    let there = other_machine(&here);
    there.xtask(&["build", "base", "--no-cache"]).exits_with(0);
    let output = takes(&there, &["web"], "2 built, 1 up to date, 0 failed");
    assert_eq!(output.built_by_name(), ["middle", "web"]);
    assert_eq!(random(&there, "tt-web"), random(&there, "tt-base"));
}

#[test]
fn what_was_shared_is_not_pushed_again() {
    let registry = Registry::start();
    let here = tree(registry.address());
    assert_eq!(pushed(&here, &["build", "--share"]), 4);
    assert_eq!(pushed(&here, &["build", "--share"]), 0);
    let there = other_machine(&here);
    assert_eq!(pushed(&there, &["build", "--from-registry", "--share"]), 0);
    there.write("src/web/build/own", "edited");
    assert_eq!(pushed(&there, &["build", "--from-registry", "--share"]), 1);
}

#[test]
fn what_is_shared_follows_an_external_base_and_what_is_made_from_it() {
    let registry = Registry::start();
    let here = tree(registry.address());
    assert_eq!(pushed(&here, &["build", "--share"]), 4);
    let there = other_machine(&here).with_other_box();
    assert_eq!(pushed(&there, &["build", "--from-registry", "--share"]), 4);
    assert_eq!(pushed(&there, &["build", "--share"]), 0);
    let made = random(&there, "tt-web");
    let last = other_machine(&there);
    takes(&last, &[], "0 built, 0 up to date, 0 failed, 4 pulled");
    assert_eq!(random(&last, "tt-web"), made);
    assert_eq!(pushed(&last, &["build", "--share"]), 0);
}

#[test]
fn push_shares_what_was_made_from_a_newer_base() {
    let registry = Registry::start();
    let here = tree(registry.address());
    here.xtask(&["build", "--share"]).exits_with(0);
    let there = other_machine(&here).with_other_box();
    there.xtask(&["build"]).exits_with(0);
    there.xtask(&["push", "--tag", "v1", "--share"]).exits_with(0);
    takes(&other_machine(&there), &[], "0 built, 0 up to date, 0 failed, 4 pulled");
}

#[test]
fn an_image_whose_base_is_gone_does_not_replace_what_others_shared() {
    let registry = Registry::start();
    let here = tree(registry.address());
    here.xtask(&["build", "--share"]).exits_with(0);
    let older = docker(&["save", &here.own("tt-alone")]);
    let there = other_machine(&here).with_other_box();
    there.xtask(&["build", "--from-registry", "--share", "alone"]).exits_with(0);
    forget(&there);
    docker(&["rmi", &there.own("tt-box")]);
    let archive = there.root().join("older.tar");
    fs::write(&archive, older).expect("a file");
    docker(&["load", "-i", &archive.display().to_string()]);
    let output = here.xtask(&["build", "--share", "alone"]).exits_with(0);
    assert!(output.stderr.contains("1 up to date"), "{}", output.stderr);
    assert!(!output.stderr.contains("pushing: "), "{}", output.stderr);
}

#[test]
fn machines_that_made_the_same_do_not_replace_each_others() {
    let registry = Registry::start();
    let here = tree(registry.address());
    here.xtask(&["build", "--share"]).exits_with(0);
    let made = random(&here, "tt-web");
    let there = other_machine(&here);
    there.xtask(&["build", "--no-cache"]).exits_with(0);
    assert_ne!(random(&there, "tt-web"), made);
    assert_eq!(pushed(&there, &["build", "--share"]), 0);
    let last = other_machine(&there);
    takes(&last, &[], "0 built, 0 up to date, 0 failed, 4 pulled");
    assert_eq!(random(&last, "tt-web"), made);
}

#[test]
fn an_image_with_a_port_in_its_name_is_not_shared_and_said() {
    let registry = Registry::start();
    let here = tree(registry.address())
        .file("image/Dockerfile", "FROM scratch\nCOPY f /\n")
        .file("image/f", "");
    let config = format!(
        "share = \"{}/team\"\n[image.\"localhost:5000/tt-x\"]\ndockerfile = \"image/Dockerfile\"\n",
        registry.address()
    );
    here.write("xtask.toml", &config);
    let output = here.xtask(&["build", "--share"]).exits_with(0);
    let expected = "warning: images with the port of a registry in their names are not shared: \
                    localhost:5000/tt-x\n";
    assert!(output.stderr.contains(expected), "{}", output.stderr);
    let config = format!("share = \"{}/team:1\"\n", registry.address());
    here.write("xtask.toml", &config);
    let error = here.xtask(&["build", "--share"]).exits_with(2);
    assert!(error.error().contains("it has no tag: leave out ':1'"), "{}", error.stderr);
}

#[test]
fn what_is_gone_behind_its_tag_is_shared_again() {
    let registry = Registry::start_with_deletion();
    let here = tree(registry.address());
    here.xtask(&["build", "--share"]).exits_with(0);
    let repository = here.own("team/tt-middle");
    let of_platform = |tag: &&String| tag.matches('-').count() > 1;
    let tags = registry.tags(&repository);
    let tag = tags.iter().find(of_platform).expect("a tag of a platform");
    registry.delete(&repository, &registry.digest(&repository, tag).expect("a digest"));
    assert_eq!(pushed(&here, &["build", "--share"]), 1);
    takes(&other_machine(&here), &[], "0 built, 0 up to date, 0 failed, 4 pulled");
}

/// `web` is made from an image of the registry, which the engine does not have.
fn made_from_what_must_be_pulled(registry: &Registry, base: &str, dockerfile: &str) -> Workspace {
    let outer = format!("{}/tt-outer", registry.address());
    let workspace = tree(registry.address()).file("outer/Dockerfile", base).file("outer/f", "");
    let outer = workspace.own(&outer);
    cli_build(&workspace.root().join("outer"), "Dockerfile", &outer, &[]);
    docker(&["push", &outer]);
    docker(&["rmi", "-f", &outer]);
    workspace
        .image("web", &format!("FROM {outer}\n{dockerfile}"))
        .file("src/web/app/file", "1")
        .file("src/web/other", "1")
}

#[test]
fn an_image_is_found_even_if_only_its_base_tells_what_it_reads() {
    for (base, dockerfile) in [
        ("FROM scratch\nCOPY f /\nONBUILD COPY app /app\n", "COPY build/own /own\n"),
        ("FROM scratch\nCOPY f /\nENV FROM_HERE=app\n", "COPY $FROM_HERE /app\n"),
    ] {
        let registry = Registry::start();
        let here = made_from_what_must_be_pulled(&registry, base, dockerfile);
        here.xtask(&["build", "--share", "web"]).exits_with(0);
        let outer = here.own(&format!("{}/tt-outer", registry.address()));
        docker(&["rmi", "-f", &outer]);
        let there = other_machine(&here);
        takes(&there, &["web"], "0 built, 0 up to date, 0 failed, 1 pulled");
        docker(&["rmi", "-f", &outer]);
    }
}

#[test]
fn the_engine_keeps_no_names_that_nobody_looks_for() {
    let registry = Registry::start();
    let here = tree(registry.address());
    here.xtask(&["build", "--share"]).exits_with(0);
    let there = other_machine(&here);
    takes(&there, &[], "0 built, 0 up to date, 0 failed, 4 pulled");
    for image in IMAGES {
        let name = there.own(&format!("tt-{image}"));
        let names = docker(&["image", "inspect", "-f", "{{.RepoTags}} {{.RepoDigests}}", &name]);
        let names = String::from_utf8_lossy(&names);
        assert!(!names.contains(registry.address()), "{names}");
        let tags = docker(&["image", "inspect", "-f", "{{join .RepoTags \" \"}}", &name]);
        let tags = String::from_utf8_lossy(&tags);
        // Those by which the tool keeps images are looked for.
        let tags = tags.split_whitespace().filter(|tag| !tag.starts_with("xtask-kept:"));
        assert_eq!(tags.collect::<Vec<_>>(), [format!("{name}:latest")]);
    }
}

#[test]
fn an_external_base_that_is_not_there_is_not_needed() {
    let registry = Registry::start();
    let here = tree(registry.address());
    here.xtask(&["build", "--share"]).exits_with(0);
    let there = other_machine(&here);
    docker(&["rmi", &there.own("tt-box")]);
    takes(&there, &[], "0 built, 0 up to date, 0 failed, 4 pulled");
}

#[test]
fn an_image_that_was_made_from_another_external_base_is_not_taken() {
    let registry = Registry::start();
    let here = tree(registry.address());
    here.xtask(&["build", "--share"]).exits_with(0);
    let there = other_machine(&here).with_other_box();
    let output = takes(&there, &["alone"], "1 built, 0 up to date, 0 failed");
    assert!(!output.stderr.contains("warning: "), "{}", output.stderr);
}

#[test]
fn push_shares_what_is_up_to_date() {
    let registry = Registry::start();
    let here = tree(registry.address());
    here.xtask(&["build"]).exits_with(0);
    here.xtask(&["push", "--tag", "v1", "--share"]).exits_with(0);
    let mut tags = registry.tags(&here.own("team/tt-web"));
    tags.sort_by_key(String::len);
    assert_eq!(tags[0], "v1");
    assert!(matches!(&tags[1..], [fp, own] if own.starts_with(fp.as_str())), "{tags:?}");
    let there = other_machine(&here);
    takes(&there, &[], "0 built, 0 up to date, 0 failed, 4 pulled");
}

#[test]
fn the_configuration_says_where_images_are_shared() {
    let registry = Registry::start();
    let here = tree(registry.address());
    let share = format!("share = \"{}/cache\"\n", registry.address());
    here.write("xtask.toml", &share);
    here.xtask(&["build", "--share"]).exits_with(0);
    let there = other_machine(&here);
    let output = there.xtask(&["build", "web"]).exits_with(0);
    let expected = "finished: 0 built, 0 up to date, 0 failed, 1 pulled, 2 left in the registry";
    assert!(summary(&output).starts_with(expected), "{}", output.stderr);
    let output = there.xtask(&["build", "--from-registry=off"]).exits_with(0);
    assert_eq!(output.built_by_name(), ["alone", "base", "middle"], "{}", output.stderr);
    there.write("xtask.toml", "");
    let error = there.xtask(&["build", "--from-registry"]).exits_with(2);
    assert!(
        error.stderr.contains("no registry to share images in: set 'share'"),
        "{}",
        error.stderr
    );
}

#[test]
fn a_forced_build_asks_for_nothing() {
    let registry = Registry::start();
    let here = tree(registry.address());
    here.xtask(&["build", "--share"]).exits_with(0);
    let there = other_machine(&here);
    let output = takes(&there, &["alone", "--force"], "1 built, 0 up to date, 0 failed");
    assert_eq!(output.built(), ["alone"]);
}

#[test]
fn hooks_run_and_have_the_images_that_they_need() {
    let registry = Registry::start();
    let here = tree(registry.address())
        .image("app", "FROM tt-box\nCOPY generated/made /made\n")
        .script("src/app/build/component.dep", "middle\n")
        .script("src/app/build/build-pre.sh", "mkdir -p src/app/generated\ndocker run --rm tt-middle cat /own > src/app/generated/made\n")
        .script("src/app/build/build-post.sh", "docker run --rm tt-app cat /made\n");
    here.xtask(&["build", "--share"]).exits_with(0);
    remove_image(&here.own("tt-app"));
    let there = other_machine(&here);
    let output = takes(
        &there,
        &["app"],
        "0 built, 0 up to date, 0 failed, 1 pulled, 2 left in the registry",
    );
    assert!(output.stderr.contains("app    | base"), "{}", output.stderr);
    assert!(has_image(&there.own("tt-middle")) && !has_image(&there.own("tt-base")));
}

#[test]
fn each_runner_builds_its_own_component_and_takes_the_levels_before_it() {
    let registry = Registry::start();
    let workspace = tree(registry.address());
    let levels = workspace.xtask(&["graph", "--matrix"]).exits_with(0).stdout;
    assert_eq!(levels, "[[\"alone\",\"base\"],[\"middle\"],[\"web\"]]\n");
    let components = ["alone", "base", "middle", "web"];
    let runners = components.map(|_| checkout(&workspace));
    for (component, runner) in components.into_iter().zip(&runners) {
        forget(&workspace);
        let arguments = ["build", "--from-registry", "--share", component];
        let output = runner.xtask(&arguments).exits_with(0);
        assert_eq!(output.built(), [component], "{}", output.stderr);
    }
    let last = other_machine(&workspace);
    takes(&last, &[], "0 built, 0 up to date, 0 failed, 4 pulled");
}
