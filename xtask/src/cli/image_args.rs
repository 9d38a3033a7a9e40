//! What `docker build` takes for an image, for the components and images that are named.

use std::env;
use std::path::Path;

use clap::Args;
use xtask_core::secret::hide;
use xtask_core::workspace::config::exports::{Attestation, CacheEntry};
use xtask_core::workspace::config::mounts::{Agent, Secret, SecretSource};
use xtask_core::workspace::config::overrides::Overrides;
use xtask_core::workspace::config::settings::check_platform;

use crate::ui::reproduce;

#[derive(Args, Debug)]
#[command(next_help_heading = "Image options, for all images of COMPONENT")]
pub(crate) struct ImageArgs {
    /// Stage to build [default: the last]
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,

    /// Platform to build for, as OS/ARCH[/VARIANT] [default: the engine's own]
    #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',', value_parser = platform)]
    platforms: Vec<String>,

    /// Network of RUN instructions
    #[arg(long, value_name = "NAME")]
    network: Option<String>,

    /// Label of the images
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,

    /// Host name for RUN instructions
    #[arg(long = "add-host", value_name = "HOST:IP", value_parser = host)]
    hosts: Vec<(String, String)>,

    /// Secret for RUN --mount=type=secret: id=NAME, and src=FILE or env=VARIABLE
    #[arg(long = "secret", value_name = "SECRET", value_parser = secret)]
    secrets: Vec<String>,

    /// SSH agent for RUN --mount=type=ssh: 'default', or ID=SOCKET
    #[arg(long, value_name = "AGENT", value_parser = agent)]
    ssh: Vec<String>,

    /// Image whose layers can be used as cache, or type=TYPE with its attributes
    #[arg(long = "cache-from", value_name = "CACHE", value_parser = cache_to_read)]
    cache_from: Vec<String>,

    /// Where to write the build cache to: type=inline, or type=TYPE with its attributes
    #[arg(long = "cache-to", value_name = "CACHE", value_parser = cache_to_write)]
    cache_to: Vec<String>,

    /// What stands in the place of an image that the Dockerfiles name: a folder, target:IMAGE, a
    /// URL, or `docker-image://REFERENCE`
    #[arg(long = "build-context", value_name = "NAME=CONTEXT", value_parser = build_context)]
    contexts: Vec<(String, String)>,

    /// Stage to build without the build cache
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,

    /// Attestation: type=provenance[,mode=MODE] or type=sbom
    #[arg(long = "attest", value_name = "ATTESTATION", value_parser = attestation)]
    attestations: Vec<String>,

    /// Provenance attestation, the same as --attest type=provenance,mode=MODE
    #[arg(long, value_name = "MODE", num_args = 0..=1, require_equals = true, default_missing_value = "min", value_parser = ["min", "max"])]
    provenance: Option<String>,

    /// SBOM attestation, the same as --attest type=sbom
    #[arg(long)]
    sbom: bool,
}

fn cache_to_read(text: &str) -> Result<String, String> {
    cache(CacheEntry::parse_import(text)?, text)
}

fn cache_to_write(text: &str) -> Result<String, String> {
    cache(CacheEntry::parse_export(text)?, text)
}

/// A folder is relative to the current folder, and not to the root.
fn cache(mut cache: CacheEntry, text: &str) -> Result<String, String> {
    let Some(folder) = cache.folder() else { return Ok(text.to_owned()) };
    *folder = absolute(Path::new(folder))?;
    Ok(cache.to_string())
}

fn attestation(text: &str) -> Result<String, String> {
    Attestation::parse(text).map(|_| text.to_owned())
}

/// A folder is relative to the current folder; its path from the root is found later.
fn build_context(text: &str) -> Result<(String, String), String> {
    let (name, context) = text.split_once('=').unwrap_or_default();
    if name.is_empty() || context.is_empty() {
        return Err("expected NAME=CONTEXT".to_owned());
    }
    let is_folder = !context.contains(':');
    let context = if is_folder { absolute(Path::new(context))? } else { context.to_owned() };
    Ok((name.to_owned(), context))
}

fn host(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').or_else(|| text.split_once(':'));
    match parts {
        Some((host, address)) if !host.is_empty() && !address.is_empty() => {
            Ok((host.to_owned(), address.to_owned()))
        }
        _ => Err("expected HOST:IP".to_owned()),
    }
}

/// Files are relative to the current folder, and not to the root.
fn secret(text: &str) -> Result<String, String> {
    let secret = Secret::parse(text)?;
    match secret.source {
        SecretSource::File(path) => Ok(format!("id={},src={}", secret.id, absolute(&path)?)),
        SecretSource::Variable(_) | SecretSource::Either(_) => Ok(text.to_owned()),
    }
}

fn absolute(path: &Path) -> Result<String, String> {
    let here = env::current_dir().map_err(|error| error.to_string())?;
    Ok(here.join(path).display().to_string())
}

fn platform(text: &str) -> Result<String, String> {
    check_platform(text).map(|()| text.to_owned())
}

fn agent(text: &str) -> Result<String, String> {
    Agent::parse(text).map(|_| text.to_owned())
}

impl ImageArgs {
    /// The same for all images; which ones are meant is known once the workspace is read.
    pub(crate) fn overrides(&self) -> Overrides {
        let labels = self.labels.iter().map(|it| it.split_once('=').unwrap_or((it, "")));
        let hosts = self.hosts.iter().map(|(host, address)| (host.as_str(), address.as_str()));
        let mut overrides = Overrides::default();
        overrides.text("target", "--target", self.target.as_deref());
        overrides.text("network", "--network", self.network.as_deref());
        overrides.table("labels", "--label", labels);
        overrides.table("extra-hosts", "--add-host", hosts);
        overrides.list("platforms", "--platform", &self.platforms);
        overrides.list("secrets", "--secret", &self.secrets);
        overrides.list("ssh", "--ssh", &self.ssh);
        overrides.list("cache-from", "--cache-from", &self.cache_from);
        overrides.list("cache-to", "--cache-to", &self.cache_to);
        overrides.list("no-cache-filter", "--no-cache-filter", &self.no_cache_filter);
        overrides.list("attest", "--attest", &self.attestations());
        let contexts = self.contexts.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        overrides.table("contexts", "--build-context", contexts);
        overrides
    }

    fn attestations(&self) -> Vec<String> {
        let provenance = self.provenance.iter().map(|mode| format!("type=provenance,mode={mode}"));
        let sbom = self.sbom.then(|| "type=sbom".to_owned());
        self.attestations.iter().cloned().chain(provenance).chain(sbom).collect()
    }

    pub(crate) fn reproduce(&self, options: &mut reproduce::Options) {
        options.value("--target", self.target.as_ref());
        options.value("--network", self.network.as_ref());
        for (host, address) in &self.hosts {
            options.value("--add-host", Some(format!("{host}:{address}")));
        }
        for (name, context) in &self.contexts {
            options.value("--build-context", Some(format!("{name}={}", hide(context))));
        }
        for (option, values) in [
            ("--platform", &self.platforms),
            ("--label", &self.labels),
            ("--secret", &self.secrets),
            ("--ssh", &self.ssh),
            ("--cache-from", &self.cache_from),
            ("--cache-to", &self.cache_to),
            ("--no-cache-filter", &self.no_cache_filter),
            ("--attest", &self.attestations()),
        ] {
            for value in values {
                let is_shown = matches!(option, "--label" | "--secret");
                options.value(option, Some(if is_shown { value.clone() } else { hide(value) }));
            }
        }
    }
}
