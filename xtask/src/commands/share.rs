//! `--share`: pushes images under their fingerprints, where others find them before they build.
//!
//! An engine pushes an image under a tag of its platform. The index that `fp-FINGERPRINT` leads to
//! is written by us: it has an image for each platform that was shared.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use xtask_core::workspace::registry_config::RegistryConfig;

use crate::build::shared_image::{self, BuiltImage};
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::engine::{
    DockerEngine, Engine, EngineError, Logins, PushRequest, digest_of, domains_of,
};
use crate::event::Event;
use crate::registry::{Client, Descriptor, ImageIndex, Manifest, Platform, RegistryError};

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

/// Shares images below `prefix`, except those that are there.
pub(crate) async fn share_all(
    images: &[BuiltImage],
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
    let shared: Vec<bool> = stream::iter(sharing).buffer_unordered(PARALLEL).collect().await;
    match shared.iter().filter(|is_shared| !**is_shared).count() {
        0 => Ok(()),
        failed => Err(CommandError::NotPushed { failed, total: images.len() }),
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
        match self.share_unless_there(image, &platform, &reference).await {
            Ok(()) => true,
            Err(ShareError::Engine(EngineError::Interrupted)) => false,
            Err(error) => {
                let reason = error.to_string();
                self.ctx.events.send(Event::PushFailed { reference, reason });
                false
            }
        }
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
