//! `--share`: pushes images under their fingerprints, where others find them before they build, and
//! what hooks came to.
//!
//! An engine pushes an image under a tag of its platform. The index that `fp-FINGERPRINT` leads to
//! is written by us: it has an image for each platform that was shared.
//!
//! What is there stays, and is not pushed again, unless it is not whole, or was made from other
//! bases than a build would take now: external ones are in the engine, those of the workspace are
//! in the registry. Then ours comes in its place, if that was made from these. So after an update
//! of an external base, what is shared follows; of machines with different ones, the last that
//! shares wins. Machines that made the same image twice do not replace each other's, nor what was
//! made from it.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tracing::debug;
use xtask_core::problem::Problem;
use xtask_core::staleness::engine_images::{Bases, TrackedImage};
use xtask_core::workspace::registry_config::RegistryConfig;

use crate::build::shared_hooks::{self, HookResult, SettledHooks};
use crate::build::shared_image::{self, BuiltImage, Obstacle, Rejection};
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::engine::{
    DockerEngine, Engine, EngineError, FoundImage, Logins, PushRequest, digest_of, domains_of,
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

/// An image to share.
struct Candidate<'i> {
    image: &'i BuiltImage,
    platform: Platform,
    /// The image as the engine has it.
    ours: Option<FoundImage>,
    /// What the registry has of it.
    shared: Option<FoundImage>,
    /// Those external bases that the engine has, by reference.
    external: BTreeMap<String, FoundImage>,
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

/// Shares images, which are in build order, and what hooks came to, below `prefix`.
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
    let (client, platform) = (Client::patient(prefix, &logins), engine.platform().await?);
    let target = Target { prefix, client, engine, logins, platform, retry_for, ctx };
    for message in obstacles(images) {
        ctx.events.send(Event::Warning(Problem::of_request(message)));
    }
    let shareable = images.iter().filter(|image| image.platform.is_ok());
    let looking = shareable.map(|image| target.look_at(image));
    let looked: Vec<Option<Candidate<'_>>> =
        stream::iter(looking).buffered(PARALLEL).collect().await;
    let unknown = looked.iter().filter(|it| it.is_none()).count();
    let candidates: Vec<Candidate<'_>> = looked.into_iter().flatten().collect();
    let sharing = wanted(&candidates).into_iter().map(|it| target.share(it));
    let mut shared: Vec<bool> = stream::iter(sharing).buffer_unordered(PARALLEL).collect().await;
    // The images come first: nobody can use what hooks came to without them.
    let sharing = settled.iter().map(|hooks| target.share_hooks(hooks));
    shared.extend(stream::iter(sharing).buffer_unordered(PARALLEL).collect::<Vec<bool>>().await);
    match unknown + shared.iter().filter(|is_shared| !**is_shared).count() {
        0 => Ok(()),
        failed => Err(CommandError::NotPushed { failed, total: images.len() + settled.len() }),
    }
}

/// Says which images cannot be shared.
fn obstacles(images: &[BuiltImage]) -> Vec<String> {
    let mut names: BTreeMap<Obstacle, Vec<&str>> = BTreeMap::new();
    for image in images {
        if let Err(obstacle) = image.platform {
            names.entry(obstacle).or_default().push(&image.name);
        }
    }
    let say = |(obstacle, names): (Obstacle, Vec<&str>)| {
        format!("images {obstacle} are not shared: {}", names.join(", "))
    };
    names.into_iter().map(say).collect()
}

/// The images to push, in build order: what others are made from is decided first.
fn wanted<'c, 'i>(candidates: &'c [Candidate<'i>]) -> Vec<&'c Candidate<'i>> {
    let (mut in_registry, mut wanted) = (BTreeMap::new(), Vec::new());
    for candidate in candidates {
        let is_wanted = candidate.is_wanted(&in_registry);
        let kept = if is_wanted { &candidate.ours } else { &candidate.shared };
        in_registry.extend(kept.iter().map(|kept| (candidate.image.name.as_str(), kept)));
        wanted.extend(is_wanted.then_some(candidate));
    }
    wanted
}

impl Candidate<'_> {
    /// Whether it is to be pushed, where the registry has or will have these of the images that it
    /// is made from. A base that is in neither place counts as unchanged.
    fn is_wanted(&self, in_registry: &BTreeMap<&str, &FoundImage>) -> bool {
        let held = |found: &Option<FoundImage>| found.as_ref().and_then(|it| it.held.clone());
        let (Some(shared), Some(ours)) = (held(&self.shared), held(&self.ours)) else {
            return self.shared.is_none();
        };
        let (mut bases, mut contents) = (Bases::new(), BTreeMap::new());
        for (reference, _) in ours.bases() {
            let base = match self.image.uses.get(reference) {
                Some(name) => in_registry.get(name.as_str()).copied(),
                None => self.external.get(reference),
            };
            if let Some(base) = base {
                bases.insert(reference.clone(), base.id.clone());
                contents.insert(base.id.as_str(), base.contents.clone());
            }
        }
        let is_current = |image: &TrackedImage| {
            image.is_made_from(&bases, |id| contents.get(id).cloned()).unwrap_or(true)
        };
        !is_current(&shared) && is_current(&ours)
    }
}

impl Target<'_> {
    /// Looks at what there is of an image; none if that failed, which is said.
    async fn look_at<'i>(&self, image: &'i BuiltImage) -> Option<Candidate<'i>> {
        let looked = self.compare(image).await;
        looked.map_err(|error| self.say(&error, self.reference(image))).ok()
    }

    async fn compare<'i>(&self, image: &'i BuiltImage) -> Result<Candidate<'i>, ShareError> {
        let set = image.platform.as_ref().ok().and_then(Option::as_deref);
        let platform = Platform::parse(set.unwrap_or(&self.platform));
        let no_platform = || ShareError::NoPlatform(self.platform.clone());
        let platform = platform.ok_or_else(no_platform)?;
        let (client, name) = (&self.client, &image.name);
        let shared = match shared_image::look_up(client, name, &image.fingerprint, &platform).await
        {
            Ok(answer) => answer.map(|answer| answer.config.found),
            Err(Rejection::Registry(error)) => return Err(error.into()),
            // Nobody can use it.
            Err(Rejection::Wrong(_) | Rejection::Hooks(_)) => None,
        };
        let ours = self.engine.image(&image.id).await?;
        let mut external = BTreeMap::new();
        let held = ours.as_ref().and_then(|ours| ours.held.as_ref()).filter(|_| shared.is_some());
        for (reference, _) in held.iter().flat_map(|held| held.bases()) {
            if !image.uses.contains_key(reference)
                && let Some(base) = self.engine.image(reference).await?
            {
                external.insert(reference.clone(), base);
            }
        }
        Ok(Candidate { image, platform, ours, shared, external })
    }

    /// Shares an image, and says so; false if that failed.
    async fn share(&self, candidate: &Candidate<'_>) -> bool {
        let reference = self.reference(candidate.image);
        let shared = self.push_to_index(candidate.image, &candidate.platform, &reference).await;
        self.is_done(shared, reference)
    }

    /// Shares what a component's hooks came to, and says so; false if that failed.
    async fn share_hooks(&self, hooks: &SettledHooks) -> bool {
        let name = shared_image::repository(&hooks.image);
        let reference = format!("{}/{name}:{}", self.prefix, shared_hooks::tag(&hooks.key));
        self.is_done(self.share_hooks_unless_there(hooks, &reference).await, reference)
    }

    /// Where others find an image.
    fn reference(&self, image: &BuiltImage) -> String {
        let name = shared_image::repository(&image.name);
        format!("{}/{name}:{}", self.prefix, shared_image::tag(&image.fingerprint))
    }

    fn is_done(&self, shared: Result<(), ShareError>, reference: String) -> bool {
        shared.map_err(|error| self.say(&error, reference)).is_ok()
    }

    fn say(&self, error: &ShareError, reference: String) {
        if !matches!(error, ShareError::Engine(EngineError::Interrupted)) {
            let reason = error.to_string();
            self.ctx.events.send(Event::PushFailed { reference, reason });
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

    async fn push_to_index(
        &self,
        image: &BuiltImage,
        platform: &Platform,
        reference: &str,
    ) -> Result<(), ShareError> {
        self.ctx.events.send(Event::PushStarted { reference: reference.to_owned() });
        let pushed = self.push(image, platform).await?;
        // What other machines shared for their platforms stays.
        let mut index = self.index(image).await?;
        index.set(pushed, platform);
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
