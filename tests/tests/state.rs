//! What is kept in `target/xtask/` may be lost, broken or impossible to write: the
//! next build takes longer, and is as right as ever.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tests::Workspace;
use tests::engine::image_tree;

const BASE: &str = "FROM scratch\nCOPY text /text\n";
const NOTHING: [&str; 0] = [];

/// `a` has a hook with declared inputs, `b` takes what it makes.
fn tree() -> Workspace {
    let hook = "#!/bin/sh -e\necho ran\nmkdir -p src/a/generated\n\
                cat shared/* > src/a/generated/out\n";
    Workspace::new()
        .file("shared/one", "1")
        .script("src/a/build/build-pre.sh", hook)
        .file("src/a/build/inputs", "shared/*\n")
        .image("a", "FROM scratch\nCOPY generated/out /text\n")
        .image("b", "FROM scratch\nCOPY dependency/a/generated/out /text\nCOPY text /own\n")
        .file("src/b/build/component.dep", "a\n")
        .file("src/b/text", "1")
}

fn state_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(state_files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn broken_files_are_as_good_as_none() {
    let workspace = tree();
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let state = workspace.root().join("target/xtask");
    for path in state_files(&state).iter().filter(|path| !path.ends_with("lock")) {
        let whole = fs::read(path).unwrap();
        for broken in [&whole[..whole.len() / 2], b"", b"\xff nonsense"] {
            fs::write(path, broken).unwrap();
            let output = workspace.xtask(&["build"]).exits_with(0);
            assert_eq!(output.built(), NOTHING, "{}", path.display());
        }
    }
}

#[test]
fn what_a_hook_made_is_used_only_if_it_is_still_that() {
    let workspace = tree();
    let _ = workspace.xtask(&["build"]).exits_with(0);
    let files = state_files(&workspace.root().join("target/xtask/store"));
    let kept = files.iter().find(|path| path.ends_with("generated/out")).unwrap();
    fs::write(kept, "2").unwrap();
    workspace.write("src/b/text", "2");
    let output = workspace.xtask(&["build"]).exits_with(0);
    assert!(output.stderr.contains("a | ran"), "{}", output.stderr);
    assert!(image_tree(&workspace.own("tt-b"))["text"].ends_with('1'));
}

#[test]
fn what_cannot_be_written_is_a_warning() {
    let workspace = tree();
    for path in ["images/x", "digests/x"] {
        workspace.write(&format!("target/xtask/{path}"), "");
    }
    workspace.write("target/xtask/manifests", "");
    workspace.write("target/xtask/store", "");
    let output = workspace.xtask(&["build"]).exits_with(0);
    let warning = "warning: target/xtask: cannot be written, so the next build takes longer: ";
    assert!(output.stderr.contains(warning), "{}", output.stderr);
    assert_eq!(workspace.xtask(&["build"]).exits_with(0).built(), NOTHING);
}

#[test]
fn the_store_keeps_what_was_used_last() {
    let workspace = tree();
    let kept = |workspace: &Workspace| {
        let store = workspace.root().join("target/xtask/store");
        state_files(&store).iter().filter(|path| path.ends_with("generated/out")).count()
    };
    let build = |content: &str, limit: &str| {
        workspace.write("shared/one", content);
        let output = workspace.xtask(&["build", "--store-limit", limit]).exits_with(0);
        output.stderr.contains("a | ran")
    };
    let [one, two, three] = ["1", "2", "3"].map(|digit| digit.repeat(1000));
    assert!(build(&one, "2K"));
    assert!(build(&two, "2K"));
    assert!(!build(&one, "2K"), "its image is still there, without a name");
    assert_eq!(kept(&workspace), 2);
    assert!(build(&three, "2K"));
    assert_eq!(kept(&workspace), 2);
    assert!(!build(&one, "2K"));
    assert!(build(&two, "1K"), "it was used longest ago");
    assert_eq!(kept(&workspace), 1);
}

#[test]
fn links_to_themselves_and_sockets_are_no_trouble() {
    let workspace = tree().file("src/b/deep/text", "1");
    symlink("loop", workspace.root().join("src/b/loop")).unwrap();
    symlink("..", workspace.root().join("src/b/deep/up")).unwrap();
    let _socket = UnixListener::bind(workspace.root().join("src/b/socket")).unwrap();
    assert_eq!(workspace.xtask(&["build"]).exits_with(0).built(), ["a", "b"]);
    assert_eq!(workspace.xtask(&["build"]).exits_with(0).built(), NOTHING);
}

#[test]
fn a_file_of_five_gigabytes_is_read_and_not_held() {
    let workspace = Workspace::new().image("a", BASE).file("src/a/text", "1");
    let big = File::create(workspace.root().join("src/a/big")).unwrap();
    big.set_len(5 << 30).unwrap();
    let output = workspace.xtask(&["build", "-n"]).exits_with(0);
    let row = "a  tt-a  stale  image missing in the engine\n";
    assert_eq!(output.stdout, format!("{row}1 of 1 image would be built\n"));
    workspace.write("src/a/.dockerignore", "big\n");
    assert_eq!(workspace.xtask(&["build"]).exits_with(0).built(), ["a"]);
}

#[test]
fn only_its_owner_reads_the_state_and_the_logs() {
    let workspace = Workspace::new().image("a", "FROM scratch\nLABEL x=1\n");
    // As an older version left it.
    let folder = workspace.root().join("target/xtask");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let _ = workspace.xtask(&["build"]).exits_with(0);
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
}
