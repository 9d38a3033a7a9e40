//! `clean --shared`: old images that were shared, and that nobody needs, are deleted.

use std::fs;
use std::process::Command;

use tests::engine::docker;
use tests::registry::Registry;
use tests::{Output, Workspace};

/// Two images, one made from the other, in a repository.
fn tree(registry: &Registry) -> Workspace {
    Workspace::new()
        .replace(registry.address(), "[REGISTRY]")
        .file("xtask.toml", &format!("registry = \"{}/team\"\n", registry.address()))
        .file(".gitignore", "target\n")
        .image("base", "FROM scratch\nCOPY build/own /\n")
        .file("src/base/build/own", "1")
        .image("web", "FROM tt-base\nCOPY build/own /web\n")
        .file("src/web/build/own", "1")
        .git()
}

/// Commits and shares everything.
fn share(workspace: &Workspace) {
    git(workspace, &["add", "-A"]);
    git(workspace, &["commit", "-q", "--allow-empty", "-m", "edit"]);
    let _ = workspace.xtask(&["build", "--share"]).exits_with(0);
}

/// Removes an image, with all its names.
fn forget_web(workspace: &Workspace) {
    let id = docker(&["image", "inspect", "-f", "{{.Id}}", &workspace.own("tt-web")]);
    docker(&["rmi", "-f", String::from_utf8_lossy(&id).trim()]);
}

fn git(workspace: &Workspace, arguments: &[&str]) -> String {
    let mut git = Command::new("git");
    git.args(["-c", "user.name=t", "-c", "user.email=t@t"]).args(arguments);
    let output = git.current_dir(workspace.root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn clean(workspace: &Workspace, arguments: &[&str]) -> Output {
    let all = [&["clean", "--shared", "--older-than", "0h"], arguments].concat();
    workspace.xtask(&all)
}

/// The tags that lead to shared images.
fn shared(workspace: &Workspace, registry: &Registry, image: &str) -> Vec<String> {
    let name = workspace.own(&format!("team/tt-{image}"));
    let tags = registry.tags(&name).into_iter();
    tags.filter(|tag| registry.digest(&name, tag).is_some()).collect()
}

#[test]
fn what_neither_the_workspace_nor_a_branch_needs_is_deleted() {
    let registry = Registry::start_with_deletion();
    let workspace = tree(&registry);
    share(&workspace);
    git(&workspace, &["branch", "release"]);
    for edit in ["2", "3", "4"] {
        forget_web(&workspace);
        workspace.write("src/web/build/own", edit);
        share(&workspace);
    }
    let dry = clean(&workspace, &["--keep", "release", "-n"]).exits_with(0);
    let expected = "would delete 2 of 5 shared images in [REGISTRY]/team/; kept: 3 needed\n";
    assert_eq!(dry.stdout, expected);
    assert_eq!(shared(&workspace, &registry, "web").len(), 8);
    let young = workspace.xtask(&["clean", "--shared", "--older-than", "1d"]).exits_with(0);
    let expected = "deleted 0 of 5 shared images in [REGISTRY]/team/; kept: 2 needed, 3 young\n";
    assert_eq!(young.stdout, expected);
    let output = clean(&workspace, &["--keep", "release"]).exits_with(0);
    let expected = "deleted 2 of 5 shared images in [REGISTRY]/team/; kept: 3 needed\n";
    assert_eq!(output.stdout, expected);
    // The tag of all platforms and that of one, for each of the two that are left.
    assert_eq!(shared(&workspace, &registry, "web").len(), 4);
    assert_eq!(shared(&workspace, &registry, "base").len(), 2);
    let listed = git(&workspace, &["worktree", "list"]);
    assert_eq!(listed.lines().count(), 1, "{listed}");
    // Both branches are taken from the registry still.
    for (branch, there) in [("release", true), ("HEAD~1", false)] {
        git(&workspace, &["checkout", "-q", branch]);
        forget_web(&workspace);
        fs::remove_dir_all(workspace.root().join("target/xtask")).unwrap();
        let output = workspace.xtask(&["build", "--from-registry", "web"]).exits_with(0);
        assert_eq!(output.stderr.contains("tt-web pulled"), there, "{}", output.stderr);
        git(&workspace, &["checkout", "-q", "-"]);
    }
}

#[test]
fn what_other_tags_lead_to_stays() {
    let registry = Registry::start_with_deletion();
    let workspace = tree(&registry);
    share(&workspace);
    // The image is released, too, and there is an index of it that somebody made.
    let name = workspace.own("team/tt-web");
    let tags = shared(&workspace, &registry, "web");
    let index = tags.iter().find(|tag| !tag.ends_with("amd64") && !tag.ends_with("arm64"));
    let index = registry.index(&name, index.unwrap());
    let mut other = index.clone();
    other["annotations"] = serde_json::json!({});
    registry.put_manifest(&name, "v1", &other);
    let digest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    workspace.write("src/web/build/own", "2");
    share(&workspace);
    let output = clean(&workspace, &[]).exits_with(0);
    let expected = "deleted 1 of 3 shared images in [REGISTRY]/team/; kept: 2 needed\n";
    assert_eq!(output.stdout, expected);
    assert_eq!(registry.digest(&name, &digest), Some(digest.clone()));
    assert!(registry.tags(&name).contains(&"v1".to_owned()));
    // And so does what somebody wrote under a tag that looks like ours.
    registry.put_manifest(&name, &format!("fp-{}", "0".repeat(64)), &other);
    let output = clean(&workspace, &[]).exits_with(0);
    let expected = "deleted 0 of 3 shared images in [REGISTRY]/team/; kept: 2 needed, 1 of \
                    unknown age or used elsewhere\n";
    assert_eq!(output.stdout, expected);
}

#[test]
fn where_hooks_decide_nothing_is_deleted_and_errors_say_what_to_do() {
    let registry = Registry::start();
    let workspace = tree(&registry).script("src/base/build/build-pre.sh", "true\n");
    share(&workspace);
    workspace.write("src/base/build/own", "2");
    share(&workspace);
    let output = clean(&workspace, &[]).exits_with(0);
    let expected = "deleted 0 of 0 shared images in [REGISTRY]/team/\n\
                    kept all of tt-base, tt-web: hooks must run to know what is needed\n";
    assert_eq!(output.stdout, expected);
    fs::remove_file(workspace.root().join("src/base/build/build-pre.sh")).unwrap();
    let refused = clean(&workspace, &[]).exits_with(2);
    assert!(
        refused.error().contains("405 Method Not Allowed: it lets nobody delete"),
        "{refused:?}"
    );
    let unknown = clean(&workspace, &["--keep", "nowhere"]).exits_with(2);
    assert!(unknown.error().contains("--keep nowhere: git rev-parse: "), "{unknown:?}");
    let alone = workspace.xtask(&["clean", "--older-than", "1d"]).exits_with(2);
    assert!(alone.stderr.contains("--shared"), "{}", alone.stderr);
    let bad = workspace.xtask(&["clean", "--shared", "--older-than", "1y"]).exits_with(2);
    assert!(bad.stderr.contains("expected a number of hours, days or weeks"), "{}", bad.stderr);
}
