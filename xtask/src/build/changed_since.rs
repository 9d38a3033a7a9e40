//! Which components a git revision's successors touched.
//!
//! The revision is compared where the two histories parted, so that what others
//! did on it since does not count; what is not committed yet, or not even added,
//! does. A component is touched by a file in its folder, by one that its
//! `build/inputs` names, or by one that a link leads to out of its folder. That is a selection only: whether anything of it is stale
//! is decided as always.
//!
//! The workspace's own repository answers. It knows of a submodule whether it changed, which
//! then holds for all that lies in it. Of a component in a repository that is none of its
//! submodules it knows nothing, so such a component counts as changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use xtask_core::context::tree_cache::{Memory, TreeCache};
use xtask_core::problem::{Problem, Problems};
use xtask_core::workspace::components::Workspace;

use crate::system::git::{self, GitError, Repository};

/// The places of the components that changed since `revision`.
pub(crate) fn changed(workspace: &Workspace, revision: &str) -> Result<BTreeSet<usize>, Problems> {
    let failed = |message: String| Problem::of_request(format!("--since {revision}: {message}"));
    let root = &workspace.root;
    let repository = Repository::of(root).ok_or_else(|| {
        failed(format!(
            "there is no .git in {} or above it: this is no git repository",
            root.display()
        ))
    })?;
    let mut paths = changed_paths(&repository, root, revision).map_err(failed)?;
    paths.extend(unknown(&repository, workspace).map_err(|error| failed(error.to_string()))?);
    let trees = TreeCache::new(root, Memory::new());
    let is_touched = |place: &usize| {
        let component = &workspace.components[*place];
        let dir = PathBuf::from(component.dir());
        let inputs = component.inputs.as_ref().map(|(_, inputs)| inputs);
        let is_input = |path: &PathBuf| {
            let Some(inputs) = inputs else { return false };
            let may_hold = |start: &Path| start.starts_with(path) || path.starts_with(start);
            inputs.declares(path) || (root.join(path).is_dir() && inputs.base_paths().any(may_hold))
        };
        let is_own = |path: &PathBuf| path.starts_with(&dir) || dir.starts_with(path);
        let leads_to = |target: PathBuf| paths.iter().any(|path| path.starts_with(&target));
        paths.iter().any(|path| is_own(path) || is_input(path))
            || !paths.is_empty() && trees.link_targets(&component.dir()).into_iter().any(leads_to)
    };
    Ok((0..workspace.components.len()).filter(is_touched).collect())
}

/// The paths that changed, relative to the root; a submodule's is that of its folder.
fn changed_paths(
    repository: &Repository,
    root: &Path,
    revision: &str,
) -> Result<Vec<PathBuf>, String> {
    let ask = |arguments: &[&str]| repository.run(root, arguments);
    let words = |error: GitError| error.to_string();
    let is_shallow = ask(&["rev-parse", "--is-shallow-repository"]).map_err(words)? == b"true\n";
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
    let explain = |error: GitError, no: &str| match error {
        GitError::Negative { .. } => format!("{no}{hint}"),
        error => error.to_string(),
    };
    ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", &commit])
        .map_err(|error| explain(error, "there is no such revision"))?;
    let base = ask(&["merge-base", &commit, "HEAD"])
        .map_err(|error| explain(error, "it and HEAD have no commit in common"))?;
    let base = String::from_utf8_lossy(&base).trim().to_owned();
    let tracked = [
        "diff",
        "--name-only",
        "--no-renames",
        "--relative",
        "--ignore-submodules=none",
        "-z",
        &base,
        "--",
    ];
    let untracked = ["ls-files", "--others", "--exclude-standard", "-z"];
    let mut paths = Vec::new();
    for arguments in [&tracked[..], &untracked] {
        paths.extend(git::paths(&ask(arguments).map_err(words)?));
    }
    Ok(paths)
}

/// The folders of components in repositories that are no submodules of this one.
fn unknown(repository: &Repository, workspace: &Workspace) -> Result<Vec<PathBuf>, GitError> {
    let mut unknown = Vec::new();
    for component in &workspace.components {
        let dir = component.dir();
        let own = Repository::of(&workspace.root.join(&dir)).filter(|own| own != repository);
        if let Some(own) = own
            && !is_submodule(repository, &own)?
        {
            unknown.push(PathBuf::from(dir));
        }
    }
    Ok(unknown)
}

/// A submodule is tracked as one thing.
fn is_submodule(repository: &Repository, own: &Repository) -> Result<bool, GitError> {
    let Ok(path) = own.top.strip_prefix(&repository.top) else { return Ok(false) };
    let tracked = repository.tracked(&[path.to_owned()])?;
    Ok(tracked == [path])
}
