//! The engine calls of a build, and what they take and return.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use xtask_core::context::build_context::Context;
use xtask_core::staleness::engine_images::{Bases, EngineImages, TrackedImage};
use xtask_core::workspace::config::settings::ImageSettings;
use xtask_core::workspace::registry_config::RegistryConfig;

use crate::engine::credentials::Logins;
use crate::engine::error::EngineError;
use crate::event_channel::Events;

/// An image in the engine.
#[derive(Clone, Debug)]
pub struct FoundImage {
    /// The image ID.
    pub id: String,
    /// Whether it has `ONBUILD` instructions.
    pub has_onbuild: bool,
    /// These instructions, where the engine tells them.
    pub triggers: Vec<String>,
    /// The names of the environment variables that it sets.
    pub variables: Vec<String>,
    /// What our labels record, if it has them.
    pub held: Option<TrackedImage>,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// The digests of the layers, lowest first.
    pub layers: Vec<String>,
    /// What it runs on, as `OS/ARCH`; empty if the engine does not tell.
    pub platform: String,
    /// A digest of what it holds, the same on every engine.
    pub contents: String,
    /// When its last layer was made.
    pub created: Option<SystemTime>,
    /// The names that it has in registries: `REPOSITORY@DIGEST`.
    pub digests: Vec<String>,
}

/// How earlier images are found.
#[derive(Clone, Debug)]
pub enum Kept {
    /// They stay in the engine without a name: all images have to be listed.
    Unnamed,
    /// By names of ours, as they would be gone without one. Such engines take long to list images.
    Named(Option<TrackedImage>),
}

/// What `docker image inspect` says of an image.
#[derive(Clone, Debug)]
pub(crate) struct ImageDetails {
    pub(crate) id: String,
    pub(crate) bytes: u64,
    pub(crate) created: Option<SystemTime>,
    /// What our labels record, if it has them.
    pub(crate) tracked: Option<TrackedImage>,
}

impl ImageDetails {
    pub(crate) fn age(&self, now: SystemTime) -> Option<Duration> {
        Some(now.duration_since(self.created?).unwrap_or_default())
    }
}

/// The engine calls of a build. `DockerEngine` implements it for real engines; tests have an
/// engine in memory.
pub trait Engine {
    /// What tells it from other engines.
    fn identity(&self) -> String {
        String::new()
    }

    /// Lists all images with our labels, in one call.
    fn engine_images(&self) -> impl Future<Output = Result<EngineImages, EngineError>>;

    /// Inspects the image of a reference, if the engine has it.
    fn image(
        &self,
        reference: &str,
    ) -> impl Future<Output = Result<Option<FoundImage>, EngineError>>;

    /// The instructions in an image's history, oldest first; those of its base come before its
    /// own.
    fn history(&self, id: &str) -> impl Future<Output = Result<Vec<String>, EngineError>>;

    /// Calls `on_report` whenever images may have been removed or tagged, as long as the
    /// returned task runs. An engine in memory has nobody else who does that.
    fn listen_for_images(&self, on_report: impl Fn() + Send + 'static) -> JoinSet<()> {
        drop(on_report);
        JoinSet::new()
    }

    /// Sees to it that an image with this fingerprint stays in the engine when it loses its name,
    /// until it is released. Returns whether that takes a name, as in [`Kept::Named`].
    fn keep(&self, id: &str, fingerprint: &str) -> impl Future<Output = Result<bool, EngineError>> {
        let _ = (id, fingerprint);
        async { Ok(false) }
    }

    /// Lets the image with this fingerprint go that was kept.
    fn release(&self, fingerprint: &str) -> impl Future<Output = Result<(), EngineError>> {
        let _ = fingerprint;
        async { Ok(()) }
    }

    /// Looks for the image with this fingerprint that was kept.
    fn kept(&self, fingerprint: &str) -> impl Future<Output = Result<Kept, EngineError>> {
        let _ = fingerprint;
        async { Ok(Kept::Unnamed) }
    }

    /// Adds a tag to an image.
    fn tag(
        &self,
        image: &str,
        repository: &str,
        tag: &str,
    ) -> impl Future<Output = Result<(), EngineError>>;

    /// Pulls an image from its registry, for a component.
    fn pull(
        &self,
        component: &str,
        reference: &str,
        platform: Option<&str>,
        credentials: &Logins,
    ) -> impl Future<Output = Result<(), EngineError>>;

    /// The credentials for those of the `domains` that have any.
    fn credentials(
        &self,
        domains: Vec<String>,
        configured: Option<&RegistryConfig>,
    ) -> impl Future<Output = Logins>;

    /// The platform that it builds for unless told otherwise, as `OS/ARCH`. An engine in memory
    /// has one.
    fn platform(&self) -> impl Future<Output = Result<String, EngineError>> {
        async { Ok("linux/amd64".to_owned()) }
    }

    /// Removes one of several references of an image. An engine in memory keeps them.
    fn untag(&self, reference: &str) -> impl Future<Output = Result<(), EngineError>> {
        let _ = reference;
        async { Ok(()) }
    }

    /// The number of CPUs of the engine's host.
    fn cpus(&self) -> impl Future<Output = Result<usize, EngineError>>;

    /// Refuses what is set for an image and cannot be done here. An engine in memory can do all.
    fn check_settings(
        &self,
        settings: &ImageSettings,
    ) -> impl Future<Output = Result<(), EngineError>> {
        let _ = settings;
        async { Ok(()) }
    }

    /// Builds and tags an image.
    fn build(
        &self,
        request: BuildRequest<'_>,
        events: &Events,
    ) -> impl Future<Output = Result<Built, EngineError>>;
}

/// What a build made.
#[derive(Clone, Debug, Default)]
pub struct Built {
    /// The image's ID.
    pub id: String,
    /// The bases that it was made from, by their shortest names, each with the digest that
    /// BuildKit took it by. Not all engines tell them.
    pub bases: BTreeSet<(String, String)>,
}

/// A request to build one image.
#[derive(Debug)]
pub struct BuildRequest<'a> {
    pub(crate) root: &'a Path,
    pub(crate) component: &'a str,
    /// The image's name, which gets the tag `latest`.
    pub image: &'a str,
    /// The Dockerfile's path in the context.
    pub dockerfile: &'a str,
    /// The files that the engine receives.
    pub context: Context,
    /// Values for the Dockerfile's `ARG`s.
    pub build_args: &'a BTreeMap<String, String>,
    /// The ids of the images that it is made from, by their references.
    pub(crate) bases: &'a Bases,
    /// The labels of the image.
    pub labels: &'a BTreeMap<String, String>,
    /// What `xtask.toml` says about the image.
    pub(crate) settings: &'a ImageSettings,
    /// The environment, for secrets.
    pub(crate) environment: &'a BTreeMap<OsString, OsString>,
    pub(crate) no_cache: bool,
    pub(crate) credentials: &'a Logins,
}
