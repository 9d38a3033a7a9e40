//! A Dockerfile that is a link, or lies in a folder that is one, is the file that it leads to:
//! as with the docker CLI.

use std::fs;
use std::os::unix::fs::symlink;

use tests::Workspace;
use tests::engine::{cli_build, image_tree};

const ALL: &str = "FROM scratch\nCOPY . /\n";

/// Each component has its Dockerfile in another place: `near` in its own folder, `far` in
/// another one of the workspace, and `whole` in a folder that all of its `build/` leads to.
fn tree() -> Workspace {
    let workspace = Workspace::new()
        .file("src/near/f", "tt-near")
        .file("src/near/real", ALL)
        .file("src/far/f", "tt-far")
        .file("src/far/.dockerignore", "build/*.dockerfile\n")
        .file("shared/all.txt", ALL)
        .file("src/whole/f", "tt-whole")
        .file("elsewhere/tt-whole.dockerfile", ALL);
    link(&workspace, "src/near/build/tt-near.dockerfile", "../real");
    link(&workspace, "src/far/build/tt-far.dockerfile", "../../../shared/all.txt");
    link(&workspace, "src/whole/build", "../../elsewhere");
    workspace
}

fn link(workspace: &Workspace, path: &str, target: &str) {
    let path = workspace.root().join(workspace.own(path));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(workspace.own(target), path).unwrap();
}

#[test]
fn both_builders_make_what_the_docker_cli_makes() {
    let workspace = tree();
    for component in ["near", "far", "whole"] {
        let image = workspace.own(&format!("tt-{component}"));
        let context = workspace.root().join("src").join(component);
        cli_build(&context, &format!("build/{image}.dockerfile"), &image, &[]);
        let mut expected = image_tree(&image);
        // The docker CLI appends a random name to the rules.
        expected.remove(".dockerignore");
        for builder in ["buildkit", "classic"] {
            let arguments = ["build", "--force", "--builder", builder, "-s", component];
            let _ = workspace.xtask(&arguments).exits_with(0);
            let mut found = image_tree(&image);
            found.remove(".dockerignore");
            assert_eq!(found, expected, "{component} with {builder}");
            assert!(found.contains_key("f"));
        }
    }
}

#[test]
fn what_it_leads_to_is_what_counts() {
    let workspace = tree();
    let built = || {
        let output = workspace.xtask(&["build"]).exits_with(0);
        output.built_by_name().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(built(), ["far", "near", "whole"]);
    assert_eq!(built(), [""; 0]);
    workspace.write("shared/all.txt", "FROM scratch\nCOPY . /x/\n");
    assert_eq!(built(), ["far"]);
    assert!(image_tree(&workspace.own("tt-far")).contains_key("x/f"));
    let dockerfile = workspace.own("elsewhere/tt-whole.dockerfile");
    workspace.write(&dockerfile, "FROM scratch\nCOPY f /\n");
    assert_eq!(built(), ["whole"]);
    // It is lean: what no instruction reads is not a part of it.
    workspace.write("src/whole/unread", "1");
    assert_eq!(built(), [""; 0]);
    let path = workspace.root().join(workspace.own("src/far/build/tt-far.dockerfile"));
    fs::remove_file(path).unwrap();
    link(&workspace, "src/far/build/tt-far.dockerfile", "../../../elsewhere/tt-whole.dockerfile");
    assert_eq!(built(), ["far"]);
    assert!(image_tree(&workspace.own("tt-far")).contains_key("f"));
}

#[test]
fn watch_sees_what_it_leads_to() {
    let workspace = tree();
    let mut running = workspace.start(&["watch"]);
    running.wait_for("watching: ");
    workspace.save("shared/all.txt", "FROM scratch\nCOPY f /x/\n");
    running.wait_for("far ");
    running.wait_for("watching: ");
    workspace.save("elsewhere/tt-whole.dockerfile", "FROM scratch\nCOPY f /x/\n");
    running.wait_for("whole ");
    running.wait_for("watching: ");
    running.interrupt();
    let output = running.finish().exits_with(0);
    assert_eq!(output.built()[3..], ["far", "whole"], "{}", output.stderr);
    assert!(image_tree(&workspace.own("tt-whole")).contains_key("x/f"));
}

#[test]
fn one_that_a_hook_changes_is_read_again() {
    let workspace = Workspace::new().file("src/a/f", "1").file("shared/all.txt", ALL).script(
        "src/a/build/build-pre.sh",
        "#!/bin/sh\nprintf 'FROM scratch\\nCOPY f /new\\n' > shared/all.txt\n",
    );
    link(&workspace, "src/a/build/tt-a.dockerfile", "../../../shared/all.txt");
    let _ = workspace.xtask(&["build"]).exits_with(0);
    assert!(image_tree(&workspace.own("tt-a")).contains_key("new"));
    assert_eq!(workspace.xtask(&["build"]).exits_with(0).built(), [""; 0]);
}

#[test]
fn one_that_leaves_the_workspace_is_warned_of() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), ALL).unwrap();
    let workspace = Workspace::new().file("src/a/f", "1");
    let target = outside.path().join("file");
    link(&workspace, "src/a/build/tt-a.dockerfile", target.to_str().unwrap());
    let output = workspace.xtask(&["build"]).exits_with(0);
    let warning = format!(
        "warning: src/a/build/tt-a.dockerfile: is a link to {}, outside of the workspace: what is \
         there is neither watched nor the same in other checkouts\n",
        target.display()
    );
    assert!(output.stderr.starts_with(&warning), "{}", output.stderr);
    assert!(image_tree(&workspace.own("tt-a")).contains_key("f"));
}
