//! The components that changed since a git revision.
//!
//! The working tree is compared with the merge base of the revision and `HEAD`, so later commits
//! on the other branch do not count. Uncommitted and untracked files do. A component is changed
//! by a file in its folder, a file that its `build/inputs` declares, the target of a link that
//! leads out of its folder, or what is behind links on the way to what its builds read. If a
//! Dockerfile is gone, components with external bases are changed, too: one may have been its
//! image. This only selects components: whether their images are stale is decided as in every
//! build.
//!
//! The workspace's repository tracks a submodule as a whole: if it changed, all components in it
//! count as changed. A component in any other repository always counts as changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use xtask_core::context::tree_cache::{Memory, TreeCache};
use xtask_core::ids::ComponentId;
use xtask_core::problem::{Problem, Problems};
use xtask_core::workspace::components::Workspace;
use xtask_core::workspace::links::Links;

use crate::system::git::{self, GitError, Repository};

pub(crate) fn changed(
    workspace: &Workspace,
    revision: &str,
) -> Result<BTreeSet<ComponentId>, Problems> {
    let failed = |message: String| Problem::of_request(format!("--since {revision}: {message}"));
    let root = &workspace.root;
    let repository = Repository::of(root).ok_or_else(|| {
        failed(format!(
            "no .git in {} or any parent folder: this is not a git repository",
            root.display()
        ))
    })?;
    let mut paths = changed_paths(&repository, root, revision).map_err(failed)?;
    paths.extend(
        foreign_components(&repository, workspace).map_err(|error| failed(error.to_string()))?,
    );
    let links = Links::find(workspace);
    let paths: BTreeSet<PathBuf> = paths.iter().flat_map(|path| links.paths(path)).collect();
    // What was built from an image that is gone takes it for one of a registry.
    let is_gone = |path: &PathBuf| {
        let is_dockerfile = path.extension().is_some_and(|it| it == "dockerfile");
        (is_dockerfile || workspace.config.may_define(path, false)) && !root.join(path).exists()
    };
    let has_lost_image = paths.iter().any(is_gone);
    let trees = TreeCache::new(root, Memory::new());
    let is_changed = |id: &ComponentId| {
        let component = &workspace.components[*id];
        let dir = Path::new(&component.dir);
        let inputs = component.inputs.as_ref().map(|(_, inputs)| inputs);
        let is_input = |path: &PathBuf| {
            let Some(inputs) = inputs else { return false };
            let overlaps = |start: &Path| start.starts_with(path) || path.starts_with(start);
            inputs.declares(path) || (root.join(path).is_dir() && inputs.base_paths().any(overlaps))
        };
        let is_own =
            |path: &PathBuf| dir.starts_with(path) || workspace.touched_by(path).contains(id);
        let leads_to = |target: PathBuf| paths.iter().any(|path| path.starts_with(&target));
        // What else a broken component depends on is unknown.
        !component.problems.is_empty()
            || has_lost_image && component.images.iter().any(|it| !it.external_bases().is_empty())
            || paths.iter().any(|path| is_own(path) || is_input(path))
            || !paths.is_empty()
                && trees
                    .link_targets(&component.dir)
                    .into_iter()
                    .chain(inputs.iter().flat_map(|inputs| inputs.link_targets(root)))
                    .chain(component.build_links.iter().cloned())
                    .any(leads_to)
    };
    Ok(workspace.components.ids().filter(is_changed).collect())
}

/// The changed paths, relative to the root. A changed submodule is the path of its folder.
fn changed_paths(
    repository: &Repository,
    root: &Path,
    revision: &str,
) -> Result<Vec<PathBuf>, String> {
    let run_git = |arguments: &[&str]| repository.run(root, arguments);
    let message = |error: GitError| error.to_string();
    let is_shallow =
        run_git(&["rev-parse", "--is-shallow-repository"]).map_err(message)? == b"true\n";
    let commit = format!("{revision}^{{commit}}");
    let hint = if is_shallow {
        let (remote, branch) = revision.split_once('/').unwrap_or(("origin", revision));
        format!(
            ": this clone is shallow. Run 'git fetch --unshallow {remote} {branch}' first (with \
             GitHub's actions/checkout, set 'fetch-depth: 0')"
        )
    } else {
        ": use a branch, a tag or a commit of this repository, or run 'git fetch' first".to_owned()
    };
    let explain = |error: GitError, cause: &str| match error {
        GitError::Negative { .. } => format!("{cause}{hint}"),
        error => error.to_string(),
    };
    run_git(&["rev-parse", "--verify", "--quiet", "--end-of-options", &commit])
        .map_err(|error| explain(error, "no such revision"))?;
    let base = run_git(&["merge-base", &commit, "HEAD"])
        .map_err(|error| explain(error, "it has no common ancestor with HEAD"))?;
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
        paths.extend(git::paths(&run_git(arguments).map_err(message)?));
    }
    Ok(paths)
}

/// The folders of components in other repositories, except for submodules of this one.
fn foreign_components(
    repository: &Repository,
    workspace: &Workspace,
) -> Result<Vec<PathBuf>, GitError> {
    let mut foreign = Vec::new();
    for component in &workspace.components {
        let dir = component.dir.clone();
        let own = Repository::of(&workspace.root.join(&dir)).filter(|own| own != repository);
        if let Some(own) = own
            && !is_submodule(repository, &own)?
        {
            foreign.push(PathBuf::from(dir));
        }
    }
    Ok(foreign)
}

/// A submodule is tracked as a single path.
fn is_submodule(repository: &Repository, own: &Repository) -> Result<bool, GitError> {
    let Ok(path) = own.top.strip_prefix(&repository.top) else { return Ok(false) };
    let tracked = repository.tracked(&[path.to_owned()])?;
    Ok(tracked == [path])
}
