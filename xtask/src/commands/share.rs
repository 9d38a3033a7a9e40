//! `--share`: pushes images under their fingerprints, where others find them before they build, and
//! what hooks came to.
//!
//! An engine pushes an image under a tag of its platform. The index that `fp-FINGERPRINT` leads to
//! is written by us: it has an image for each platform that was shared.

use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tracing::debug;
use xtask_core::problem::Problem;
use xtask_core::workspace::registry_config::RegistryConfig;

use crate::build::shared_hooks::{self, HookResult, SettledHooks};
use crate::build::shared_image::{self, BuiltImage};
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::engine::{
    DockerEngine, Engine, EngineError, Logins, PushRequest, digest_of, domains_of,
};
use crate::event::Event;
use crate::registry::{
    Artifact, Client, Descriptor, ImageIndex, MAX_BODY, Manifest, Platform, RegistryError,
};
use crate::system::store::Store;

/// The maximum number of images that are asked for or pushed in parallel.
const PARALLEL: usize = 8;

/// Why an image was not shared.
#[derive(Debug, thiserror::Error)]
enum ShareError {
    #[error("{0}")]
    Engine(#[from] EngineError),
    #[error("{0}")]
    Registry(#[from] RegistryError),
    #[error("the registry does not have what was pushed")]
    Gone,
    #[error("the registry has no image for {0} in what was pushed")]
    NoPlatform(String),
    #[error("the registry has an invalid manifest: {0}")]
    Manifest(#[from] serde_json::Error),
    #[error("{0}")]
    File(#[from] io::Error),
}

/// Where images are shared.
struct Target<'a> {
    prefix: &'a str,
    client: Client,
    engine: &'a DockerEngine,
    logins: Logins,
    /// The engine's own platform.
    platform: String,
    retry_for: Duration,
    ctx: &'a CommandContext,
}

/// Shares images, and what hooks came to, below `prefix`, except what is there.
pub(crate) async fn share_all(
    images: &[BuiltImage],
    settled: &[SettledHooks],
    prefix: &str,
    registry: Option<&RegistryConfig>,
    engine: &DockerEngine,
    retry_for: Duration,
    ctx: &CommandContext,
) -> Result<(), CommandError> {
    let logins = engine.credentials(domains_of([format!("{prefix}/").as_str()]), registry).await;
    let (client, platform) = (Client::new(prefix, &logins), engine.platform().await?);
    let target = Target { prefix, client, engine, logins, platform, retry_for, ctx };
    let sharing = images.iter().map(|image| target.share(image));
    let mut shared: Vec<bool> = stream::iter(sharing).buffer_unordered(PARALLEL).collect().await;
    // The images come first: nobody can use what hooks came to without them.
    let sharing = settled.iter().map(|hooks| target.share_hooks(hooks));
    shared.extend(stream::iter(sharing).buffer_unordered(PARALLEL).collect::<Vec<bool>>().await);
    match shared.iter().filter(|is_shared| !**is_shared).count() {
        0 => Ok(()),
        failed => Err(CommandError::NotPushed { failed, total: shared.len() }),
    }
}

impl Target<'_> {
    /// Shares an image, and says so; false if that failed.
    async fn share(&self, image: &BuiltImage) -> bool {
        let Some(platform) = shared_image::platform(&image.platforms, &self.platform) else {
            return true;
        };
        let name = shared_image::repository(&image.name);
        let tag = shared_image::tag(&image.fingerprint);
        let reference = format!("{}/{name}:{tag}", self.prefix);
        self.is_done(self.share_unless_there(image, &platform, &reference).await, reference)
    }

    /// Shares what a component's hooks came to, and says so; false if that failed.
    async fn share_hooks(&self, hooks: &SettledHooks) -> bool {
        let name = shared_image::repository(&hooks.image);
        let reference = format!("{}/{name}:{}", self.prefix, shared_hooks::tag(&hooks.key));
        self.is_done(self.share_hooks_unless_there(hooks, &reference).await, reference)
    }

    fn is_done(&self, shared: Result<(), ShareError>, reference: String) -> bool {
        match shared {
            Ok(()) => true,
            Err(ShareError::Engine(EngineError::Interrupted)) => false,
            Err(error) => {
                let reason = error.to_string();
                self.ctx.events.send(Event::PushFailed { reference, reason });
                false
            }
        }
    }

    async fn share_hooks_unless_there(
        &self,
        hooks: &SettledHooks,
        reference: &str,
    ) -> Result<(), ShareError> {
        let name = shared_image::repository(&hooks.image);
        let tag = shared_hooks::tag(&hooks.key);
        let store = Store::new(&self.ctx.root, self.ctx.store_limit);
        let Some(entry) = store.entry(&hooks.key) else { return Ok(()) };
        let Some(result) = HookResult::new(entry, store.manifests(&hooks.key)) else {
            debug!(image = hooks.image, "what its hooks left is not all in generated/");
            return Ok(());
        };
        let Some(fingerprint) = result.entry.fingerprints.get(&hooks.image) else { return Ok(()) };
        if self.client.manifest(name, &tag).await?.is_some() {
            return Ok(());
        }
        let (config, layer) = (result.encode()?, store.pack(&hooks.key)?);
        if config.len().max(layer.len()) > MAX_BODY {
            let message = format!(
                "what the hooks of {} came to is not shared: it is larger than {} MiB",
                hooks.image,
                MAX_BODY >> 20
            );
            self.ctx.events.send(Event::Warning(Problem::of_request(message)));
            return Ok(());
        }
        self.ctx.events.send(Event::PushStarted { reference: reference.to_owned() });
        let manifest = serde_json::to_vec(&shared_hooks::artifact(&config, &layer, fingerprint))?;
        self.client.put_blob(name, config.into()).await?;
        self.client.put_blob(name, layer.into()).await?;
        let digest = digest_of(&manifest);
        self.client.put_manifest(name, &tag, Artifact::MEDIA_TYPE, manifest).await?;
        self.ctx.events.send(Event::Pushed { reference: reference.to_owned(), digest });
        Ok(())
    }

    async fn share_unless_there(
        &self,
        image: &BuiltImage,
        platform: &Platform,
        reference: &str,
    ) -> Result<(), ShareError> {
        if self.index(image).await?.find(platform).is_some() {
            return Ok(());
        }
        self.ctx.events.send(Event::PushStarted { reference: reference.to_owned() });
        let pushed = self.push(image, platform).await?;
        // Another machine may have shared its own platform meanwhile.
        let mut index = self.index(image).await?;
        index.set(pushed);
        let bytes = serde_json::to_vec(&index)?;
        let digest = digest_of(&bytes);
        let name = shared_image::repository(&image.name);
        let tag = shared_image::tag(&image.fingerprint);
        self.client.put_manifest(name, &tag, &index.media_type, bytes).await?;
        self.ctx.events.send(Event::Pushed { reference: reference.to_owned(), digest });
        Ok(())
    }

    /// What was shared of an image so far.
    async fn index(&self, image: &BuiltImage) -> Result<ImageIndex, RegistryError> {
        let name = shared_image::repository(&image.name);
        let stored = self.client.manifest(name, &shared_image::tag(&image.fingerprint)).await?;
        let fingerprint = image.fingerprint.to_string();
        let index = stored.and_then(|it| shared_image::read_index(&it.bytes, &fingerprint));
        Ok(index.unwrap_or_else(|| shared_image::new_index(&image.fingerprint)))
    }

    /// Pushes an image under the tag of its platform.
    async fn push(
        &self,
        image: &BuiltImage,
        platform: &Platform,
    ) -> Result<Descriptor, ShareError> {
        let name = shared_image::repository(&image.name);
        let request = PushRequest {
            image: image.id.clone(),
            repository: format!("{}/{name}", self.prefix),
            tag: shared_image::platform_tag(&image.fingerprint, platform),
        };
        let (logins, events) = (&self.logins, &self.ctx.events);
        let pushed = self.engine.push(&request, logins, self.retry_for, events).await;
        // Only a name is left otherwise that nobody looks for.
        drop(self.engine.untag(&request.reference()).await);
        let mut digest = pushed?;
        let mut stored = self.client.manifest(name, &digest).await?.ok_or(ShareError::Gone)?;
        // Some engines push an index of their own.
        if serde_json::from_slice::<Manifest>(&stored.bytes).is_err() {
            let index: ImageIndex = serde_json::from_slice(&stored.bytes)?;
            let other =
                || ShareError::NoPlatform(platform.os.clone() + "/" + &platform.architecture);
            digest = index.find(platform).ok_or_else(other)?.digest.clone();
            stored = self.client.manifest(name, &digest).await?.ok_or(ShareError::Gone)?;
        }
        let (media_type, size) = (stored.media_type, stored.bytes.len());
        Ok(Descriptor { media_type, digest, size, platform: Some(platform.clone()) })
    }
}
