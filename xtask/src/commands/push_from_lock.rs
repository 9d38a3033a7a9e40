//! `push --from-lock`: puts tags back onto the images that a lock file says, in their registries.
//!
//! Nothing is built, and no image is moved: the registry has what was pushed, as long as it is not
//! deleted there. So no engine is needed.

use std::path::PathBuf;

use futures_util::stream::{self, StreamExt};
use xtask_core::image_reference;
use xtask_core::name_pattern;
use xtask_core::problem::{Problem, Problems, did_you_mean};
use xtask_core::workspace::registry_config::RegistryConfig;

use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::commands::image_lock::ImageLock;
use crate::engine::{Logins, domains_of, find_logins};
use crate::event::Event;
use crate::registry::{Client, RegistryError};

/// The maximum number of parallel requests.
const PARALLEL: usize = 8;

/// What to put back.
#[derive(Clone, Debug)]
pub(crate) struct FromLock {
    pub(crate) file: PathBuf,
    /// Images of the lock file, as names or globs; all if there are none.
    pub(crate) images: Vec<String>,
    /// The folder of `services-configuration.yaml`, if it has a login.
    pub(crate) config_dir: Option<PathBuf>,
}

/// A reference, and the digest that it is to lead to.
type Tag = (String, String);

/// Why a tag was not put back.
#[derive(Debug, thiserror::Error)]
enum TagError {
    #[error("{0}")]
    Registry(#[from] RegistryError),
    #[error("the registry no longer has {0}: build that commit again, and push it")]
    Gone(String),
}

pub(crate) async fn run(options: &FromLock, ctx: &CommandContext) -> Result<(), CommandError> {
    let registry = options.config_dir.as_deref().map(RegistryConfig::read).transpose()?;
    let lock = ImageLock::read(&options.file).map_err(Problems::from)?;
    let tags = select(&lock, options)?;
    let domains = domains_of(tags.iter().map(|(reference, _)| reference.as_str()));
    let CommandContext { environment, events, interrupt, .. } = ctx;
    let finding = find_logins(environment, domains, registry.as_ref(), events, interrupt);
    let logins = ctx.unless_interrupted(async { Ok(finding.await) }).await?;
    let putting = tags.iter().map(|tag| put_back(tag, &logins, ctx));
    let all = stream::iter(putting).buffer_unordered(PARALLEL).collect::<Vec<bool>>();
    let put = ctx.unless_interrupted(async { Ok(all.await) }).await?;
    match put.iter().filter(|is_put| !**is_put).count() {
        0 => Ok(()),
        failed => Err(CommandError::NotPushed { failed, total: tags.len() }),
    }
}

/// The tags of the images that were asked for.
fn select(lock: &ImageLock, options: &FromLock) -> Result<Vec<Tag>, Problems> {
    let known: Vec<&str> = lock.images.keys().map(String::as_str).collect();
    let (mut names, mut problems) = (Vec::new(), Vec::new());
    for word in &options.images {
        match name_pattern::select(word, &known, "image") {
            Ok(found) if found.is_empty() => {
                let hint = did_you_mean(word, known.iter().copied());
                let message = format!("it has no image '{word}'{hint}");
                problems.push(Problem::of_file(options.file.display().to_string(), message));
            }
            Ok(found) => names.extend(found),
            Err(problem) => problems.push(problem),
        }
    }
    Problems::check(problems)?;
    let is_selected = |name: &String| options.images.is_empty() || names.contains(&name.as_str());
    let images = lock.images.iter().filter(|(name, _)| is_selected(name));
    let tags: Vec<Tag> = images.flat_map(|(_, image)| image.pushed.clone()).collect();
    if tags.is_empty() {
        let message = match names.as_slice() {
            [] => "says of no image where it was pushed: there is nothing to put back".to_owned(),
            names => format!("does not say where {} was pushed", names.join(", ")),
        };
        return Err(Problem::of_file(options.file.display().to_string(), message).into());
    }
    Ok(tags)
}

/// Puts one tag back, and says so; false if that failed.
async fn put_back((reference, digest): &Tag, logins: &Logins, ctx: &CommandContext) -> bool {
    ctx.events.send(Event::PushStarted { reference: reference.clone() });
    let (reference, digest) = (reference.clone(), digest.clone());
    match retag(&reference, &digest, logins).await {
        Ok(()) => {
            ctx.events.send(Event::Pushed { reference, digest });
            true
        }
        Err(error) => {
            ctx.events.send(Event::PushFailed { reference, reason: error.to_string() });
            false
        }
    }
}

async fn retag(reference: &str, digest: &str, logins: &Logins) -> Result<(), TagError> {
    let (repository, tag) = image_reference::repository_and_tag(reference);
    let (prefix, name) = repository.rsplit_once('/').unwrap_or(("", repository));
    let client = Client::patient(prefix, logins);
    let found = client.manifest(name, digest).await?;
    let manifest = found.ok_or_else(|| TagError::Gone(digest.to_owned()))?;
    Ok(client.put_manifest(name, tag, &manifest.media_type, manifest.bytes.to_vec()).await?)
}
