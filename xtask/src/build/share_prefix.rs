//! Where images are shared: what the repositories begin with.

use xtask_core::paths::CONFIG_FILE;
use xtask_core::problem::Problem;
use xtask_core::workspace::config::Config;
use xtask_core::workspace::registry_config::RegistryConfig;

use crate::build::options::FromRegistry;

/// Where images are asked for, if they are.
///
/// # Errors
/// Nothing says where.
pub(crate) fn to_ask(
    options: &FromRegistry,
    config: &Config,
    registry: Option<&RegistryConfig>,
) -> Result<Option<String>, Problem> {
    match options {
        FromRegistry::Never => Ok(None),
        FromRegistry::IfConfigured => Ok(config.share.clone()),
        FromRegistry::Configured => to_share(config, registry).map(Some),
        FromRegistry::At(prefix) => Ok(Some(prefix.clone())),
    }
}

/// Where images are shared.
///
/// # Errors
/// Nothing says where.
pub(crate) fn to_share(
    config: &Config,
    registry: Option<&RegistryConfig>,
) -> Result<String, Problem> {
    let pushed_to = || config.registries.first().cloned();
    let configured = || registry.map(RegistryConfig::prefix);
    config.share.clone().or_else(pushed_to).or_else(configured).ok_or_else(|| {
        Problem::of_request(format!(
            "no registry to share images in: set 'share' or 'registry' in {CONFIG_FILE}, or pass \
             -c with the folder of services-configuration.yaml"
        ))
    })
}
