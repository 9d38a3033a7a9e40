//! `clean --shared`: old images that were shared, and that nobody needs, are deleted.

use std::fs;
use std::process::Command;

use serde_json::Value;
use tests::engine::docker;
use tests::proxy::{Proxy, Rule};
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

/// The index by which the image of `web` is shared, and the repository that it is in.
fn index_of_web(workspace: &Workspace, registry: &Registry) -> (String, Value) {
    let name = workspace.own("team/tt-web");
    let tags = shared(workspace, registry, "web");
    let index = tags.iter().find(|tag| !tag.ends_with("amd64") && !tag.ends_with("arm64"));
    let index = registry.index(&name, index.unwrap());
    (name, index)
}

#[test]
fn what_other_tags_lead_to_stays() {
    let registry = Registry::start_with_deletion();
    let workspace = tree(&registry);
    share(&workspace);
    // The image is released, too, and there is an index of it that somebody made.
    let (name, index) = index_of_web(&workspace, &registry);
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
fn an_index_counts_even_if_it_says_no_more_than_it_must() {
    let registry = Registry::start_with_deletion();
    let workspace = tree(&registry);
    share(&workspace);
    let (name, mut index) = index_of_web(&workspace, &registry);
    let digest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let kind = index["mediaType"].as_str().unwrap().to_owned();
    let members = index.as_object_mut().unwrap();
    members.remove("mediaType");
    members.remove("annotations");
    registry.put_manifest_as(&name, "v1", &kind, &index);
    index["manifests"][0].as_object_mut().unwrap().remove("platform");
    registry.put_manifest_as(&name, "v2", &kind, &index);
    workspace.write("src/web/build/own", "2");
    share(&workspace);
    clean(&workspace, &[]).exits_with(0);
    assert_eq!(registry.digest(&name, &digest), Some(digest.clone()));
}

#[test]
fn where_a_tag_leads_to_something_unknown_nothing_is_deleted() {
    let registry = Registry::start_with_deletion();
    let workspace = tree(&registry);
    share(&workspace);
    let name = workspace.own("team/tt-web");
    let tags = shared(&workspace, &registry, "web");
    let manifest = registry.manifest(&name, tags.iter().find(|it| it.ends_with("64")).unwrap());
    registry.put_manifest(&name, "odd", &serde_json::from_str(&manifest).unwrap());
    workspace.write("src/web/build/own", "2");
    share(&workspace);
    let proxy = Proxy::start(registry.address());
    let odd = "200 OK\r\nContent-Type: application/vnd.oci.image.index.v1+json";
    let entry = br#"{"schemaVersion": 2, "manifests": [{"urls": []}]}"#;
    proxy.set([Rule::new("/manifests/odd", odd, entry)]);
    let through = format!("--shared={}/team", proxy.address());
    let output = workspace.xtask(&["clean", &through, "--older-than", "0h"]).exits_with(0);
    let expected = "kept all of tt-web: it is not understood what the tag 'odd' leads to\n";
    assert!(output.stdout.ends_with(expected), "{}", output.stdout);
    assert_eq!(shared(&workspace, &registry, "web").len(), 5);
}

#[test]
fn what_is_made_from_a_base_that_is_not_there_stays() {
    let registry = Registry::start_with_deletion();
    let workspace = tree(&registry)
        .with_box()
        .image("on-box", "FROM tt-box\nCOPY build/own /\n")
        .file("src/on-box/build/own", "1")
        .image("above", "FROM tt-on-box\nCOPY build/own /above\n")
        .file("src/above/build/own", "1");
    share(&workspace);
    for component in ["on-box", "above", "web"] {
        workspace.write(&format!("src/{component}/build/own"), "2");
    }
    share(&workspace);
    docker(&["rmi", "-f", &workspace.own("tt-box")]);
    let output = clean(&workspace, &["-n"]).exits_with(0);
    let expected = "would delete 1 of 3 shared images in [REGISTRY]/team/; kept: 2 needed\n\
                    kept all of tt-above, tt-on-box: a base must be pulled to know what is needed, \
                    as it may have ONBUILD instructions\n";
    assert_eq!(output.stdout, expected);
}

#[test]
fn a_revision_has_the_words_of_the_workspace() {
    let registry = Registry::start_with_deletion();
    let workspace = tree(&registry);
    let config = "args.WORKTREE = \"{worktree}\"\nargs.BRANCH = \"{branch}\"\n";
    let config = format!("registry = \"{}/team\"\n{config}", registry.address());
    workspace.write("xtask.toml", &config);
    workspace.write(
        "src/web/build/tt-web.dockerfile",
        "FROM tt-base\nARG WORKTREE\nARG BRANCH\nCOPY build/own /web\n",
    );
    git(&workspace, &["checkout", "-q", "-b", "release/1"]);
    share(&workspace);
    git(&workspace, &["checkout", "-q", "-b", "edit"]);
    workspace.write("src/web/build/own", "2");
    share(&workspace);
    let output = clean(&workspace, &["--keep", "release/1", "--keep", "HEAD"]).exits_with(0);
    let expected = "deleted 0 of 3 shared images in [REGISTRY]/team/; kept: 3 needed\n";
    assert_eq!(output.stdout, expected);
    // A commit is no branch.
    workspace.write("src/web/build/own", "3");
    let commit = git(&workspace, &["rev-parse", "HEAD"]);
    let output = clean(&workspace, &["--keep", commit.trim()]).exits_with(0);
    let expected = "deleted 1 of 3 shared images in [REGISTRY]/team/; kept: 2 needed\n";
    assert_eq!(output.stdout, expected);
}

#[test]
fn a_revision_that_cannot_be_read_is_named() {
    let registry = Registry::start_with_deletion();
    let workspace = tree(&registry);
    share(&workspace);
    let config = fs::read_to_string(workspace.root().join("xtask.toml")).unwrap();
    workspace.write("xtask.toml", "unknown = 1\n");
    git(&workspace, &["commit", "-q", "-a", "-m", "broken"]);
    workspace.write("xtask.toml", &config);
    let error = clean(&workspace, &["--keep", "HEAD"]).exits_with(2);
    assert!(error.error().starts_with("error: --keep HEAD: xtask.toml:1: "), "{error:?}");
    // A checkout has no files of submodules.
    for (folder, is_read) in [("src/web/lib", true), ("src/more", false)] {
        git(&workspace, &["reset", "-q", "--hard", "HEAD~1"]);
        let commit = git(&workspace, &["rev-parse", "HEAD"]);
        let entry = format!("160000,{},{folder}", commit.trim());
        git(&workspace, &["update-index", "--add", "--cacheinfo", &entry]);
        git(&workspace, &["commit", "-q", "-m", "submodule"]);
        let output = clean(&workspace, &["--keep", "HEAD", "-n"]);
        let expected = format!("error: --keep HEAD: {folder} is a submodule");
        assert_eq!(output.stderr.contains(&expected), is_read, "{output:?}");
        git(&workspace, &["commit", "-q", "--allow-empty", "-m", "next"]);
    }
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
