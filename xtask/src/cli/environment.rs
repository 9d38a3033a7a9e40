//! What the environment says about how a workspace is read, for commands with options for it and
//! without.

use std::env;
use std::ffi::OsString;

use xtask_core::workspace::components::WorkspaceOptions;
use xtask_core::workspace::config::Facts;

/// The environment variable for `--config`.
pub(crate) const CONFIG_DIR: &str = "PAI_CONFIG_DIR";

/// The environment variable for the tag that images are pushed with.
pub(crate) const TAG: &str = "XTASK_TAG";

/// The environment variable for `--flavor`.
pub(crate) const FLAVOR: &str = "XTASK_FLAVOR";

/// The tag to push with, unless an option says it.
pub(crate) fn tag_of_environment() -> Option<String> {
    env::var(TAG).ok().filter(|tag| !tag.is_empty())
}

/// How the workspace is read by commands that have no options for it: the environment counts for
/// them, too.
pub(crate) fn options_of_environment() -> WorkspaceOptions {
    let flavor = env::var(FLAVOR).ok().filter(|flavor| !flavor.is_empty());
    WorkspaceOptions { flavor, facts: facts_of_environment(), ..WorkspaceOptions::default() }
}

pub(crate) fn facts_of_environment() -> Facts {
    Facts { environment: env::vars_os().filter_map(utf8).collect(), ..Facts::default() }
}

/// A variable of the environment; none if it is not UTF-8.
fn utf8((name, value): (OsString, OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}
