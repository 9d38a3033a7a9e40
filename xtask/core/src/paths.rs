//! Names of files and folders in a workspace.

/// The file that says which images there are, relative to the workspace root.
pub const CONFIG_FILE: &str = "xtask.toml";

/// The file with what a context leaves out, in the context's folder.
pub const IGNORE_FILE: &str = ".dockerignore";

/// The folder that holds the components, relative to the workspace root.
pub const SRC: &str = "src";

/// The folder of Dockerfiles and hooks, in a component's folder.
pub const BUILD: &str = "build";

/// The hook that runs before a component's images are built.
pub const PRE_HOOK: &str = "build-pre.sh";

/// The hook that runs after a component's images are built.
pub const POST_HOOK: &str = "build-post.sh";

/// The folder for a component's dependencies, in its folder and in its build context.
pub const DEPENDENCY: &str = "dependency";

/// The folder that hooks write their output to, in a component's folder.
pub const GENERATED: &str = "generated";

/// The folders in a component that exist only during a round.
pub const TEMPORARY: [&str; 2] = [DEPENDENCY, GENERATED];

/// The folder of git, relative to the top of a repository.
pub const GIT: &str = ".git";

/// The folder that Cargo and this tool fill, relative to the workspace root.
pub const TARGET: &str = "target";

/// The folder for the tool's own state, relative to the workspace root. It can be deleted
/// at any time: builds stay correct without it.
pub const STATE: &str = "target/xtask";

/// A component's folder, relative to the workspace root.
pub fn component_dir(name: &str) -> String {
    format!("{SRC}/{name}")
}

/// A path relative to the root as it is compared: without `.`, and without a slash at its end.
pub(crate) fn plain(path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    parts.collect::<Vec<_>>().join("/")
}

/// A path below a folder, both relative to the workspace root, which is the folder "".
pub fn join(folder: &str, path: &str) -> String {
    match (folder, path) {
        ("", path) => path.to_owned(),
        (folder, "") => folder.to_owned(),
        (folder, path) => format!("{folder}/{path}"),
    }
}
