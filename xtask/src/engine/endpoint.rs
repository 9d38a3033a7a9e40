//! Finds the engine as the docker CLI does: `DOCKER_HOST`, else the current Docker context, else
//! the default socket.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use xtask_core::regular_file;

use crate::engine::builder::Builder;
use crate::engine::docker_config::DockerConfig;
use crate::engine::error::EngineError;
use crate::event::Event;
use crate::event_channel::Events;

const DEFAULT_CONTEXT: &str = "default";
const DEFAULT_SOCKET: &str = "unix:///var/run/docker.sock";

/// The environment variables and options that select the engine.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `DOCKER_HOST`.
    pub(crate) host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub(crate) context: Option<String>,
    /// `DOCKER_CONFIG`, else `~/.docker`.
    pub(crate) config_dir: Option<PathBuf>,
    /// Whether `DOCKER_TLS_VERIFY` is set and not empty.
    pub(crate) has_tls: bool,
    /// The builder to use; none to detect it.
    pub(crate) builder: Option<Builder>,
    /// Whether the warning about Docker's config was given. Clones share it.
    pub(crate) is_warned: Arc<AtomicBool>,
}

impl Environment {
    /// The proxies in Docker's config, as build arguments.
    pub(crate) fn proxies(&self, events: &Events) -> BTreeMap<String, String> {
        let endpoint = resolve(self).unwrap_or_default();
        self.docker_config(events).proxies(&endpoint)
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

    pub(crate) fn config_file(&self) -> Option<PathBuf> {
        Some(self.config_dir.as_ref()?.join("config.json"))
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
}

/// The engine's URL.
pub(crate) fn resolve(environment: &Environment) -> Result<String, EngineError> {
    if let Some(host) = environment.host.as_deref().filter(|host| !host.is_empty()) {
        return Ok(host.to_owned());
    }
    let Some(dir) = &environment.config_dir else {
        return Ok(DEFAULT_SOCKET.to_owned());
    };
    let named = environment.context.clone().filter(|name| !name.is_empty());
    match named.or_else(|| current_context(dir)) {
        Some(context) if context != DEFAULT_CONTEXT => host_of_context(dir, &context),
        _ => Ok(DEFAULT_SOCKET.to_owned()),
    }
}

fn current_context(dir: &Path) -> Option<String> {
    let config = DockerConfig::read(&dir.join("config.json")).ok()?;
    config.current_context.filter(|name| !name.is_empty())
}

fn host_of_context(dir: &Path, name: &str) -> Result<String, EngineError> {
    let folders = fs::read_dir(dir.join("contexts/meta"));
    let metas = folders.into_iter().flatten().flatten().filter_map(|folder| {
        let text = regular_file::read_to_string(&folder.path().join("meta.json")).ok()?;
        serde_json::from_str::<Meta>(&text).ok()
    });
    metas
        .into_iter()
        .find(|meta| meta.name == name)
        .map(|meta| meta.endpoints.docker.host)
        .ok_or_else(|| {
            EngineError::Endpoint(format!(
                "the Docker context '{name}' does not exist: see 'docker context ls', or set \
                 DOCKER_HOST"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(resolve(&environment).unwrap(), "tcp://far:1");
        environment.context = Some("default".to_owned());
        assert_eq!(resolve(&environment).unwrap(), DEFAULT_SOCKET);
        environment.context = Some("gone".to_owned());
        let error = resolve(&environment).unwrap_err().to_string();
        assert!(error.contains("'gone' does not exist"), "{error}");
        environment.host = Some("unix:///x".to_owned());
        assert_eq!(resolve(&environment).unwrap(), "unix:///x");
    }
}
