//! What every part of `watch` works from.

use std::sync::Arc;

use xtask_core::context::tree_cache::TreeCache;
use xtask_core::workspace::registry_config::RegistryConfig;

use crate::command_context::CommandContext;
use crate::commands::watch::options::WatchOptions;

/// It does not change until `watch` ends.
pub(crate) struct Setup<'a, E> {
    pub(crate) engine: &'a E,
    pub(crate) ctx: &'a CommandContext,
    pub(crate) options: &'a WatchOptions,
    pub(crate) registry: Option<&'a RegistryConfig>,
    pub(crate) trees: Arc<TreeCache>,
}
