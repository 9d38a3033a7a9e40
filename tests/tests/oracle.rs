//! The docker CLI as the oracle: from the same tree both make the same images.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use tests::Workspace;
use tests::engine::{cli_build, image_config, image_tree};

type Contents = BTreeMap<String, String>;

/// Builds `src/a` with the tool and with the CLI, and compares the images.
fn agrees(workspace: &Workspace, arguments: &[&str]) {
    let build = [&["build", "-s", "a"][..], arguments].concat();
    workspace.xtask(&build).exits_with(0);
    let (ours, theirs) = (workspace.own("tt-a"), workspace.own("tt-cli"));
    let dockerfile = workspace.own("build/tt-a.dockerfile");
    let own: Vec<String> = arguments.iter().map(|argument| workspace.own(argument)).collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    cli_build(&workspace.root().join("src/a"), &dockerfile, &theirs, &own);
    assert_eq!(differences(&image_tree(&ours), &image_tree(&theirs)), Vec::<String>::new());
    assert_eq!(image_config(&ours), image_config(&theirs));
}

/// The entries that are not in both, or not the same.
fn differences(ours: &Contents, theirs: &Contents) -> Vec<String> {
    let paths: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let differing = paths.into_iter().filter(|path| ours.get(*path) != theirs.get(*path));
    differing
        .map(|path| format!("{path}: {:?}, the CLI: {:?}", ours.get(path), theirs.get(path)))
        .collect()
}

/// Links, modes, empty folders, long and odd names.
fn odd_tree(workspace: Workspace) -> Workspace {
    let long = "d/".repeat(70) + &"long-name".repeat(20);
    let workspace = workspace
        .script("src/a/bin/run", "#!/bin/sh\n")
        .file("src/a/plain", "text\n")
        .file("src/a/ünï cödé/ſpace d", "x")
        .file("src/a/.hidden", "x")
        .file(&format!("src/a/{long}"), "x");
    let own = workspace.root().join("src/a");
    symlink("plain", own.join("link")).unwrap();
    symlink("/nowhere", own.join("dangling")).unwrap();
    symlink("..", own.join("up")).unwrap();
    fs::create_dir(own.join("empty")).unwrap();
    for (path, mode) in [("plain", 0o640), ("bin/run", 0o711), ("empty", 0o700)] {
        fs::set_permissions(own.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    workspace
}

#[test]
fn a_whole_tree() {
    let workspace = odd_tree(Workspace::new()).image("a", "FROM scratch\nCOPY . /\n");
    agrees(&workspace, &[]);
}

#[test]
fn a_tree_with_an_ignore_file() {
    let ignore = "# no\n*.md\n!README.md\n/bin\n**/x\nempty/\nd/*/d/d\n!d/d/d/d/d/d\n";
    let workspace = odd_tree(Workspace::new())
        .image("a", "FROM scratch\nCOPY . /\n")
        .file("src/a/README.md", "")
        .file("src/a/NOTES.md", "")
        .file("src/a/sub/x/y", "")
        .file("src/a/sub/NOTES.md", "")
        .file("src/a/.dockerignore", ignore);
    agrees(&workspace, &[]);
}

#[test]
fn configuration_and_several_stages() {
    let workspace = Workspace::new().with_box().file("src/a/app/x", "x").image(
        "a",
        "ARG BASE=scratch\nFROM tt-box AS made\nARG WORD=none\nRUN mkdir /out && echo $WORD > /out/word\n\
         FROM $BASE\nLABEL a=b c=\"d e\"\nENV X=1 Y=\"2 3\"\nWORKDIR /srv\nUSER 7:8\nEXPOSE 80/tcp\n\
         VOLUME /data\nSTOPSIGNAL SIGINT\nCOPY --from=made /out /out\nCOPY --chown=3:4 app .\n\
         HEALTHCHECK CMD [\"/x\"]\nENTRYPOINT [\"/x\"]\nCMD [\"y\"]\n",
    );
    agrees(&workspace, &[]);
    agrees(&workspace, &["--build-arg", "WORD=some word", "--build-arg", "BASE=tt-box"]);
}

#[test]
fn what_hooks_and_dependencies_add() {
    let hook = "#!/bin/sh\nmkdir -p src/a/generated src/a/dependency/extra\n\
                echo made > src/a/generated/text\necho extra > src/a/dependency/extra/text\n";
    let workspace = Workspace::new()
        .file("src/given/deep/text", "given")
        .file("src/a/build/component.dep", "given\n")
        .script("src/a/build/build-pre.sh", hook)
        .image("a", "FROM scratch\nCOPY dependency /dependency\nCOPY generated /generated\n");
    workspace.xtask(&["build"]).exits_with(0);
    let ours = image_tree(&workspace.own("tt-a"));
    workspace.write("src/a/generated/text", "made\n");
    workspace.write("src/a/dependency/extra/text", "extra\n");
    workspace.write("src/a/dependency/given/deep/text", "given");
    let theirs = workspace.own("tt-cli");
    let dockerfile = workspace.own("build/tt-a.dockerfile");
    cli_build(&workspace.root().join("src/a"), &dockerfile, &theirs, &[]);
    assert_eq!(ours, image_tree(&theirs));
}
