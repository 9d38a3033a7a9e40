//! Git as the user runs it, without the settings of this machine.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

fn git(root: &Path, arguments: &[&str]) -> Command {
    let mut git = Command::new("git");
    git.current_dir(root)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args(["-c", "user.name=tester", "-c", "user.email=tester@localhost"])
        .args(arguments);
    git
}

/// Runs git to its end.
pub(super) fn run(root: &Path, arguments: &[&str]) {
    let status = git(root, arguments).status().expect("git runs");
    assert!(status.success(), "git {arguments:?}");
}

/// Commits these files and no others, under the tag `commit-NUMBER`.
pub(super) fn commit(root: &Path, files: impl Iterator<Item = String>, number: usize) {
    run(root, &["read-tree", "--empty"]);
    let add = ["add", "-f", "--pathspec-from-file=-", "--pathspec-file-nul"];
    let mut adding = git(root, &add).stdin(Stdio::piped()).spawn().expect("git runs");
    let list: String = files.filter(|path| !root.join(path).is_dir()).map(|it| it + "\0").collect();
    adding.stdin.take().expect("a pipe").write_all(list.as_bytes()).expect("git reads");
    assert!(adding.wait().expect("git ends").success());
    run(root, &["commit", "-q", "--allow-empty", "-m", &format!("commit {number}")]);
    run(root, &["tag", &format!("commit-{number}")]);
}
