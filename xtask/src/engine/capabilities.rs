//! What is set for an image, held to what the engine can do. What it cannot do is an error that
//! names the engine's version, before anything is sent.

use xtask_core::workspace::config::settings::ImageSettings;

use crate::engine::build_caches::{GithubJob, caches};
use crate::engine::builder::{Builder, uses_containerd_store};
use crate::engine::docker::DockerEngine;
use crate::engine::error::EngineError;
use crate::engine::solve::is_needed;

/// The first version whose Dockerfiles know named contexts: that of BuildKit 0.10.
const NAMED_CONTEXTS: u32 = 23;

/// What an image needs of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// `RUN --mount`, secrets and stages are BuildKit's.
    BuildKit,
    NamedContexts,
    /// The engine's own store keeps one platform, no attestations, and no cache but in an image.
    ContainerdStore,
}

/// The keys that need something, with what they need.
fn needs(settings: &ImageSettings, job: &GithubJob) -> Vec<(&'static str, Need)> {
    let ImageSettings { secrets, ssh, contexts, no_cache_filter, .. } = settings;
    let ImageSettings { attest, platforms, cache_from, cache_to, .. } = settings;
    let is_import = caches(cache_from, "", job).any(|cache| cache.kind != "registry");
    let is_export = caches(cache_to, "", job).any(|cache| cache.kind != "inline");
    let all = [
        (!secrets.is_empty(), "secrets", Need::BuildKit),
        (!ssh.is_empty(), "ssh", Need::BuildKit),
        (!contexts.is_empty(), "contexts", Need::NamedContexts),
        (!no_cache_filter.is_empty(), "no-cache-filter", Need::BuildKit),
        (caches(cache_to, "", job).next().is_some(), "cache-to", Need::BuildKit),
        (is_export, "cache-to", Need::ContainerdStore),
        (is_import, "cache-from", Need::ContainerdStore),
        (!attest.is_empty(), "attest", Need::ContainerdStore),
        (platforms.len() > 1, "platforms", Need::ContainerdStore),
    ];
    all.into_iter().filter(|(is_set, ..)| *is_set).map(|(_, key, need)| (key, need)).collect()
}

/// What a builder makes is loaded to the engine, and an archive for that has one platform and no
/// attestations.
fn refuse_for_builder(name: &str, needs: &[(&str, Need)]) -> Result<(), EngineError> {
    let why = needs.iter().find_map(|(key, _)| match *key {
        "platforms" => Some("'platforms' has several, and one is built at a time with --platform"),
        "attest" => Some("'attest' is kept by no image that is loaded"),
        _ => None,
    });
    match why {
        Some(why) => Err(EngineError::Endpoint(format!("with builder '{name}': {why}"))),
        None => Ok(()),
    }
}

impl DockerEngine {
    /// Refuses what cannot be done here.
    pub(crate) async fn refuse_impossible(
        &self,
        settings: &ImageSettings,
    ) -> Result<(), EngineError> {
        let job = &self.environment.github_job;
        let needs = needs(settings, job);
        if needs.is_empty() && !is_needed(settings, job) {
            return Ok(());
        }
        if let Some(buildx) = &self.buildx {
            return refuse_for_builder(buildx.name(), &needs);
        }
        let builder = self.builder().await?;
        let has_store = || async {
            let info = self.client.info().await;
            info.is_ok_and(|info| uses_containerd_store(&info))
        };
        for (key, need) in needs {
            let (what, why) = match need {
                _ if builder == Builder::Classic => {
                    ("needs BuildKit", "builds with the classic builder")
                }
                Need::NamedContexts if !self.has_named_contexts().await => {
                    ("needs BuildKit 0.10", "has an older one: it came with version 23")
                }
                Need::ContainerdStore if !has_store().await => match key {
                    "platforms" => (
                        "has several",
                        "keeps one in an image: build one at a time with --platform, or turn on \
                         its containerd image store",
                    ),
                    "cache-to" => (
                        "needs the containerd image store",
                        "does not use it: it can only write type=inline",
                    ),
                    _ => ("needs the containerd image store", "does not use it"),
                },
                _ => continue,
            };
            return Err(self.cannot(&format!("'{key}' {what}"), why).await);
        }
        Ok(())
    }

    /// Why an image cannot be built although all that is set for it can be done: a name is not
    /// UTF-8, or something between here and the engine does not let a session through.
    pub(crate) async fn without_session(&self) -> EngineError {
        let what = "what is set for it needs a session";
        let why = "accepts none, or a file's name is not UTF-8";
        self.cannot(what, why).await
    }

    async fn has_named_contexts(&self) -> bool {
        let version = self.version().await.unwrap_or_default();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        major.is_some_and(|major| major >= NAMED_CONTEXTS)
    }

    async fn version(&self) -> Option<String> {
        self.client.version().await.ok()?.version
    }

    async fn cannot(&self, what: &str, why: &str) -> EngineError {
        let version = self.version().await;
        let version = version.as_deref().unwrap_or("of unknown version");
        let endpoint = &self.endpoint;
        EngineError::Endpoint(format!("{what}, and the engine at {endpoint} ({version}) {why}"))
    }
}
