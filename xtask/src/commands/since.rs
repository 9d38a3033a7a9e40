//! Which components a git revision's successors touched.
//!
//! The revision is compared where the two histories parted, so that what others
//! did on it since does not count; what is not committed yet, or not even added,
//! does. A component is touched by a file in its folder, by one that its
//! `build/inputs` names, or by one that a link leads to out of its folder. That is a selection only: whether anything of it is stale
//! is decided as always.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::core::problem::{Problem, Problems};
use crate::core::trees::{Memory, Trees};
use crate::core::workspace::Workspace;
use crate::effects::git;

/// The places of the components that changed since `revision`.
pub(super) fn changed(workspace: &Workspace, revision: &str) -> Result<BTreeSet<usize>, Problems> {
    let paths = changed_paths(&workspace.root, revision)?;
    let trees = Trees::new(&workspace.root, Memory::new());
    let is_touched = |place: &usize| {
        let component = &workspace.components[*place];
        let dir = PathBuf::from(component.dir());
        let inputs = component.inputs.as_ref().map(|(_, inputs)| inputs);
        let is_own = |path: &PathBuf| path.starts_with(&dir);
        let is_input = |path: &PathBuf| inputs.is_some_and(|inputs| inputs.covers(path));
        let leads_to = |target: PathBuf| paths.iter().any(|path| path.starts_with(&target));
        paths.iter().any(|path| is_own(path) || is_input(path))
            || !paths.is_empty() && trees.targets(&component.dir()).into_iter().any(leads_to)
    };
    Ok((0..workspace.components.len()).filter(is_touched).collect())
}

fn changed_paths(root: &Path, revision: &str) -> Result<Vec<PathBuf>, Problem> {
    let failed = |message: String| Problem::of_request(format!("--since {revision}: {message}"));
    let ask = |arguments: &[&str]| git::run(root, arguments);
    if ask(&["rev-parse", "--git-dir"]).is_err() {
        return Err(failed("this is not a git repository, or git is not installed".to_owned()));
    }
    let is_shallow =
        ask(&["rev-parse", "--is-shallow-repository"]).is_ok_and(|text| text == b"true\n");
    let commit = format!("{revision}^{{commit}}");
    let hint = if is_shallow {
        let (remote, branch) = revision.split_once('/').unwrap_or(("origin", revision));
        format!(
            ": this clone is shallow. Run 'git fetch --unshallow {remote} {branch}' first (in \
             GitHub's actions/checkout: 'fetch-depth: 0')"
        )
    } else {
        ": name a branch, a tag or a commit of this repository, or 'git fetch' it first".to_owned()
    };
    if ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", &commit]).is_err() {
        return Err(failed(format!("there is no such revision{hint}")));
    }
    let base = ask(&["merge-base", &commit, "HEAD"])
        .map_err(|_| failed(format!("it and HEAD have no commit in common{hint}")))?;
    let base = String::from_utf8_lossy(&base).trim().to_owned();
    let tracked = ["diff", "--name-only", "--no-renames", "--relative", "-z", &base, "--"];
    let untracked = ["ls-files", "--others", "--exclude-standard", "-z"];
    let mut paths = Vec::new();
    for arguments in [&tracked[..], &untracked] {
        let listed = ask(arguments).map_err(|error| failed(error.to_string()))?;
        paths.extend(git::paths(&listed));
    }
    Ok(paths)
}
