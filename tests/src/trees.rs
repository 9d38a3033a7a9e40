//! Trees as those that `pai_build.py` builds: hooks that copy the version, an SDK and the
//! documentation from elsewhere in the repository into their own components, by commands
//! that come to something else the second time.

use std::fs;
use std::process::Command;

use crate::Workspace;

/// Six components: `base`; `server` and `portal`, made from it and from each other, whose
/// hooks declare what they read; `box` and `exporter`, whose hooks do not; and `plain`,
/// which takes another's folder and has no hook. The version is 1.
pub fn openpai_like() -> Workspace {
    let workspace = Workspace::new()
        .file(".gitignore", "/target/\n")
        .file("sdk/python/client.py", "print('client')\n")
        .file("sdk/README.md", "The SDK.\n")
        .file("docs/manual/start.md", "Start here.\n")
        .file("docs/images/logo.svg", "<svg/>\n")
        .file("src/base/etc/motd", "Welcome.\n")
        .image("base", "FROM scratch\nCOPY etc /etc/pai\n")
        .file("src/server/index.js", "serve()\n")
        .script(
            "src/server/build/build-pre.sh",
            "#!/bin/sh -e\nmkdir -p src/server/v\ncp version/* src/server/v/\n",
        )
        .file("src/server/build/inputs", "version/**\n")
        .image("server", "FROM tt-base\nCOPY . /server\n")
        .file("src/portal/index.html", "<html/>\n")
        .script(
            "src/portal/build/build-pre.sh",
            "#!/bin/sh -e\ncd \"$(dirname \"$0\")/../../..\"\ncp -r docs src/portal/docs_copy\n\
             cp -arf version src/portal/version\n",
        )
        .file("src/portal/build/inputs", "docs/**\nversion/**\n")
        .image("portal", "FROM tt-server\nCOPY . /portal\n")
        .file("src/box/tools.sh", "echo tools\n")
        .script("src/box/build/build-pre.sh", "#!/bin/sh -e\ncp -arf version src/box/version\n")
        .image("box", "FROM tt-base\nCOPY . /box\n")
        .file("src/exporter/exporter.py", "import client\n")
        .script(
            "src/exporter/build/build-pre.sh",
            "#!/bin/sh -e\nmkdir -p src/exporter/v\ncp version/* src/exporter/v/\n\
             cp -r sdk src/exporter/sdk\n",
        )
        .image("exporter", "FROM scratch\nCOPY . /exporter\n")
        .file("src/plain/build/component.dep", "box\n")
        .file("src/plain/run.sh", "echo run\n")
        .image("plain", "FROM tt-base\nCOPY . /plain\n");
    set_version(&workspace, 1);
    workspace
}

/// The components of [`openpai_like`].
pub const COMPONENTS: [&str; 6] = ["base", "box", "exporter", "plain", "portal", "server"];

/// Puts another version in the place of the one that is there; its file has another name.
pub fn set_version(workspace: &Workspace, version: u32) {
    drop(fs::remove_dir_all(workspace.root().join("version")));
    workspace.write(&format!("version/{version}.txt"), &format!("{version}\n"));
}

/// Another checkout, with a prefix of its own: what git tracks or would add, and nothing
/// that a hook left.
pub fn fresh_clone(version: u32) -> Workspace {
    let clone = openpai_like();
    set_version(&clone, version);
    clone
}

/// Tells git of the files that are there.
pub fn track(workspace: Workspace) -> Workspace {
    let workspace = workspace.git();
    let mut commit = Command::new("git");
    commit
        .current_dir(workspace.root())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args(["-c", "user.name=tester", "-c", "user.email=tester@localhost"])
        .args(["commit", "-q", "-m", "as it is"]);
    assert!(commit.status().expect("git runs").success());
    workspace
}
