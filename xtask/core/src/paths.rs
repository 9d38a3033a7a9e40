//! Where things are in a workspace, relative to its root.

/// The folder of the components.
pub const SRC: &str = "src";

/// A component's folder of Dockerfiles and hooks.
pub const BUILD: &str = "build";

/// The hook that runs before a component's images are built.
pub const PRE_HOOK: &str = "build-pre.sh";

/// The hook that runs after them.
pub const POST_HOOK: &str = "build-post.sh";

/// Where a component finds its dependencies, in its folder and in its context.
pub const DEPENDENCY: &str = "dependency";

/// Where a component's hooks put what they make.
pub const GENERATED: &str = "generated";

/// The folders of a component that exist during a round only.
pub const TEMPORARY: [&str; 2] = [DEPENDENCY, GENERATED];

/// Where the tool keeps its own state: nothing in it is needed for a correct build.
pub const STATE: &str = "target/xtask";

/// A component's folder.
pub fn component_dir(name: &str) -> String {
    format!("{SRC}/{name}")
}
