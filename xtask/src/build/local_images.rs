//! Which images of a Dockerfile the workspace makes.

use std::collections::HashSet;

use xtask_core::dockerfile::parser::ImageUse;
use xtask_core::image_reference::RegistryNames;
use xtask_core::workspace::components::Workspace;
use xtask_core::workspace::registry_config::RegistryConfig;

/// The names of a workspace's images, also those in the configured registry.
pub(crate) struct LocalImages<'a> {
    names: HashSet<&'a str>,
    registry: Option<RegistryNames>,
}

impl<'a> LocalImages<'a> {
    pub(crate) fn new(workspace: &'a Workspace, registry: Option<&RegistryConfig>) -> Self {
        let names = workspace.images().map(|(_, image)| image.name.as_str()).collect();
        Self { names, registry: registry.map(RegistryConfig::names) }
    }

    /// The workspace's image that a Dockerfile means, if it means one.
    pub(crate) fn name<'u>(&self, used: &'u ImageUse) -> Option<&'u str> {
        let name = used.local_name(self.registry.as_ref())?;
        self.names.contains(name).then_some(name)
    }
}
