//! Finds the engine as the docker CLI does: `DOCKER_HOST`, else the current Docker context, else
//! the default socket.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use tokio::sync::OnceCell;
use xtask_core::regular_file;
use xtask_core::secret::hide;

use crate::engine::address::DEFAULT_SOCKET;
use crate::engine::build_caches::GithubJob;
use crate::engine::builder::ChosenBuilder;
use crate::engine::docker_config::DockerConfig;
use crate::engine::error::EngineError;
use crate::engine::podman::PodmanService;
use crate::engine::ssh::Ssh;
use crate::engine::tls::TlsFiles;
use crate::event::Event;
use crate::event_channel::Events;

const DEFAULT_CONTEXT: &str = "default";

/// The environment variables and options that select the engine.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `DOCKER_HOST`.
    pub(crate) host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub(crate) context: Option<String>,
    /// `DOCKER_CONFIG`, else `~/.docker`.
    pub(crate) config_dir: Option<PathBuf>,
    /// Whether `DOCKER_TLS_VERIFY` or `DOCKER_TLS` is set and not empty.
    pub(crate) has_tls: bool,
    /// Whether only `DOCKER_TLS` is.
    pub(crate) skips_verification: bool,
    /// `DOCKER_CERT_PATH`.
    pub(crate) cert_path: Option<PathBuf>,
    /// `DOCKER_API_VERSION`.
    pub(crate) api_version: Option<String>,
    /// The builder to use; none to detect it.
    pub(crate) builder: Option<ChosenBuilder>,
    /// The job of GitHub Actions that runs this, for its cache.
    pub(crate) github_job: GithubJob,
    /// Whether the warning about Docker's config was given. Clones share it.
    pub(crate) is_warned: Arc<AtomicBool>,
    /// Podman's service, once it was started because no Docker engine answers. Clones share it.
    pub(crate) podman: Arc<OnceCell<Option<PodmanService>>>,
}

impl Environment {
    /// The proxies in Docker's config, as build arguments.
    pub(crate) fn proxies(&self, events: &Events) -> BTreeMap<String, String> {
        let endpoint = resolve(self).unwrap_or_default();
        self.docker_config(events).proxies(&endpoint.url)
    }

    /// Docker's config. An unreadable one is empty, with a single warning.
    pub(crate) fn docker_config(&self, events: &Events) -> DockerConfig {
        let read = self.config_file().map(|file| DockerConfig::read(&file));
        match read.transpose() {
            Ok(config) => config.unwrap_or_default(),
            Err(problem) => {
                if !self.is_warned.swap(true, Ordering::Relaxed) {
                    events.send(Event::Warning(problem));
                }
                DockerConfig::default()
            }
        }
    }

    /// Ends Podman's service, if it was started. Nothing may call the engine any more.
    pub(crate) fn end_podman(&self) {
        if let Some(Some(service)) = self.podman.get() {
            service.end();
        }
    }

    pub(crate) fn config_file(&self) -> Option<PathBuf> {
        Some(self.config_dir.as_ref()?.join("config.json"))
    }
}

/// Where the engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) url: String,
    /// The certificates, if it is behind TLS.
    pub(crate) tls: Option<TlsFiles>,
    /// Whether the user named it, by a variable or a Docker context.
    pub(crate) is_chosen: bool,
}

impl Default for Endpoint {
    fn default() -> Self {
        Self { url: DEFAULT_SOCKET.to_owned(), tls: None, is_chosen: false }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    name: String,
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: DockerEndpoint,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEndpoint {
    host: String,
    #[serde(default, rename = "SkipTLSVerify")]
    skip_tls_verify: bool,
}

/// Where the engine is that is to be used.
pub(crate) fn resolve(environment: &Environment) -> Result<Endpoint, EngineError> {
    let endpoint = find(environment)?;
    check(&endpoint.url).map_err(|error| {
        let shown = shown(&endpoint.url);
        EngineError::Endpoint(format!("the engine's address '{shown}' {error}"))
    })?;
    Ok(endpoint)
}

fn find(environment: &Environment) -> Result<Endpoint, EngineError> {
    if let Some(host) = environment.host.as_deref().filter(|host| !host.is_empty()) {
        let has_tls = is_behind_tls(host, environment.has_tls);
        let folder = environment.cert_path.clone().or_else(|| environment.config_dir.clone());
        let is_verified = !environment.skips_verification;
        let files = || TlsFiles { folder: folder.unwrap_or_default(), is_verified };
        let tls = has_tls.then(files);
        return Ok(Endpoint { url: host.to_owned(), tls, is_chosen: true });
    }
    let Some(dir) = &environment.config_dir else {
        return Ok(Endpoint::default());
    };
    let named = environment.context.clone().filter(|name| !name.is_empty());
    match named.or_else(|| current_context(dir)) {
        Some(context) if context != DEFAULT_CONTEXT => of_context(dir, &context),
        context => Ok(Endpoint { is_chosen: context.is_some(), ..Endpoint::default() }),
    }
}

/// Whether an address leads to an engine behind TLS, if TLS is turned on or not.
fn is_behind_tls(url: &str, is_on: bool) -> bool {
    url.starts_with("https://") || url.starts_with("tcp://") && is_on
}

/// An address as it can be shown, also if it lacks its scheme.
fn shown(url: &str) -> String {
    if url.contains("://") { hide(url) } else { hide(&format!("tcp://{url}")).split_off(6) }
}

/// Checks the scheme of an address.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
fn check(url: &str) -> Result<(), String> {
    match url.split_once("://") {
        None if url.starts_with('/') => Err(format!("has no scheme: write unix://{url}")),
        None => Err(format!("has no scheme: write tcp://{}", shown(url))),
        Some(("unix" | "tcp" | "http" | "https", _)) => Ok(()),
        Some(("ssh", rest)) => Ssh::parse(rest).map(drop),
        Some(("fd", _)) => {
            Err(format!("is for the engine itself: write the one of its socket, {DEFAULT_SOCKET}"))
        }
        Some(("npipe", _)) => {
            Err("is a named pipe, which is not supported: use the engine inside WSL".to_owned())
        }
        Some((other, _)) => Err(format!(
            "has the unknown scheme '{other}': there are unix, tcp, http, https and ssh"
        )),
    }
}

fn current_context(dir: &Path) -> Option<String> {
    let config = DockerConfig::read(&dir.join("config.json")).ok()?;
    config.current_context.filter(|name| !name.is_empty())
}

fn of_context(dir: &Path, name: &str) -> Result<Endpoint, EngineError> {
    let folders = fs::read_dir(dir.join("contexts/meta"));
    let metas = folders.into_iter().flatten().flatten().filter_map(|folder| {
        let text = regular_file::read_to_string(&folder.path().join("meta.json")).ok()?;
        Some((folder.file_name(), serde_json::from_str::<Meta>(&text).ok()?))
    });
    let Some((folder, meta)) = metas.into_iter().find(|(_, meta)| meta.name == name) else {
        return Err(EngineError::Endpoint(format!(
            "the Docker context '{name}' does not exist: see 'docker context ls', or set \
             DOCKER_HOST"
        )));
    };
    let DockerEndpoint { host, skip_tls_verify } = meta.endpoints.docker;
    // It has the same name as that of the meta data.
    let folder = dir.join("contexts/tls").join(folder).join("docker");
    let has_tls = is_behind_tls(&host, folder.exists() || skip_tls_verify);
    let tls = has_tls.then_some(TlsFiles { folder, is_verified: !skip_tls_verify });
    Ok(Endpoint { url: host, tls, is_chosen: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        for (url, said) in [
            ("ssh://admin:admin@h", "the engine's address 'ssh://admin:…@h' has a password"),
            ("u:hunter2@h:1", "the engine's address 'u:…@h:1' has no scheme: write tcp://u:…@h:1"),
            ("ftp://u:hunter2@h", "the engine's address 'ftp://u:…@h' has the unknown scheme"),
        ] {
            let environment = Environment { host: Some(url.to_owned()), ..Environment::default() };
            let error = resolve(&environment).unwrap_err().to_string();
            assert!(error.starts_with(said) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn docker_host_overrides_the_context_which_overrides_the_default_socket() {
        let dir = tempfile::tempdir().unwrap();
        let meta = dir.path().join("contexts/meta/abc");
        fs::create_dir_all(&meta).unwrap();
        fs::write(
            meta.join("meta.json"),
            r#"{"Name":"far","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://far:1","SkipTLSVerify":false}}}"#,
        )
        .unwrap();
        fs::write(dir.path().join("config.json"), r#"{"currentContext":"far"}"#).unwrap();
        let mut environment =
            Environment { config_dir: Some(dir.path().to_owned()), ..Environment::default() };
        assert_eq!(resolve(&environment).unwrap().url, "tcp://far:1");
        environment.context = Some("default".to_owned());
        assert_eq!(resolve(&environment).unwrap().url, DEFAULT_SOCKET);
        environment.context = Some("gone".to_owned());
        let error = resolve(&environment).unwrap_err().to_string();
        assert!(error.contains("'gone' does not exist"), "{error}");
        environment.host = Some("unix:///x".to_owned());
        assert_eq!(resolve(&environment).unwrap().url, "unix:///x");
    }
}
