//! `push`: tags the workspace's images for their registries, and pushes them.
//!
//! Unknown images, images that are not in the engine, and a configuration without a tag are
//! reported before anything is pushed. Images are pushed as they are in the engine. A stale image
//! is a warning, or an error with `--deny-stale`. With `--lock`, what was pushed is written down.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use xtask_core::ids::ComponentId;
use xtask_core::name_pattern;
use xtask_core::problem::{Problem, Problems, did_you_mean};
use xtask_core::workspace::components::{Image, Workspace, WorkspaceOptions};
use xtask_core::workspace::registry_config::RegistryConfig;
use xtask_core::workspace::selection::Selected;

use crate::build::options::{BuildOptions, Scope};
use crate::build::prepare::read_workspace;
use crate::build::run as build;
use crate::build::share_prefix;
use crate::build::shared_image::BuiltImage;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::commands::push_lock::PushLock;
use crate::commands::push_references::{PushReferences, distinct};
use crate::commands::share::share_all;
use crate::engine::{DockerEngine, Engine, EngineError, FoundImage, PushRequest, domains_of};
use crate::event::Event;
use crate::event_channel::Events;
use crate::outcome::{ImageState, PlannedImage};
use crate::program;

/// The maximum number of parallel pushes.
const PARALLEL_PUSHES: usize = 4;

/// What to push and where.
#[derive(Clone, Debug)]
pub struct PushOptions {
    /// The folder of `services-configuration.yaml`, if it says where to push.
    pub(crate) config_dir: Option<PathBuf>,
    /// The components whose images to push.
    pub(crate) components: Vec<String>,
    /// The images to push in addition; all if there are no components either.
    pub(crate) images: Vec<String>,
    /// Overrides the tag of the configuration.
    pub(crate) tag: Option<String>,
    pub(crate) reading: WorkspaceOptions,
    /// Whether a stale image is an error.
    pub(crate) denies_stale: bool,
    /// The period during which temporary failures are retried.
    pub(crate) retry_for: Duration,
    /// The lock file to write what was pushed to.
    pub(crate) lock: Option<PathBuf>,
    /// Push what is up to date under its fingerprint, too.
    pub(crate) share: bool,
}

pub(crate) async fn run(options: &PushOptions, ctx: &CommandContext) -> Result<(), CommandError> {
    let registry = options.config_dir.as_deref().map(RegistryConfig::read).transpose()?;
    let registry = registry.as_ref();
    let _lock = ctx.lock("push").await?;
    let (workspace, graph) = read_workspace(&ctx.root, &options.reading, registry, &ctx.events)?;
    let (config, tag) = (&workspace.config, options.tag.as_deref());
    let references =
        PushReferences::new(&ctx.root, config, registry, tag, "pass --tag, or set XTASK_TAG")
            .map_err(Problems::from)?;
    let images = select_images(&workspace, options)?;
    let selected = images.iter().map(|(component, _)| *component).collect();
    Problems::check(graph.problems(&workspace, &graph.closure(&selected)))?;
    let requests = requests(&workspace, &images, &references, options)?;
    let lock = options.lock.as_deref().map(|file| PushLock::prepare(file, &ctx.root));
    let lock = lock.transpose().map_err(Problems::from)?;
    let engine = ctx.engine().await?;
    let found = find_images(&workspace, &images, &engine).await?;
    let planned = plan(&workspace, &images, &engine, options, ctx).await?;
    let stale = find_stale(&workspace, &images, &planned);
    if options.denies_stale {
        Problems::check(stale)?;
    } else {
        for problem in stale {
            ctx.events.send(Event::Warning(problem));
        }
    }
    let pushing = push_all(&requests, registry, &engine, options.retry_for, ctx);
    let digests = ctx.unless_interrupted(Box::pin(pushing)).await?;
    if let Some(lock) = lock {
        lock.write(&found, &requests, &digests)?;
    }
    if options.share {
        let prefix = share_prefix::to_share(config, registry).map_err(Problems::from)?;
        let current = find_current(&images, &planned, &engine, ctx).await?;
        let sharing = share_all(&current, &[], &prefix, registry, &engine, options.retry_for, ctx);
        ctx.unless_interrupted(Box::pin(sharing)).await?;
    }
    Ok(())
}

/// What is pushed where: no two images to one reference. An image that was asked for by name must
/// be pushed somewhere.
fn requests(
    workspace: &Workspace,
    images: &[(ComponentId, &Image)],
    references: &PushReferences<'_>,
    options: &PushOptions,
) -> Result<Vec<PushRequest>, Problems> {
    let is_component = |name: &str| workspace.find(name).is_some();
    let is_named = |image: &Image| {
        options.images.contains(&image.name)
            || options.components.contains(&image.name) && !is_component(&image.name)
    };
    let (mut all, mut problems) = (Vec::new(), Vec::new());
    for (_, image) in images {
        match references.of(image) {
            Ok(found) if found.is_empty() && is_named(image) => {
                let message =
                    format!("image '{}' is never pushed: its 'tags' are empty", image.name);
                problems.push(Problem::of_request(message));
            }
            Ok(found) => all.extend(found),
            Err(problem) => problems.push(problem),
        }
    }
    let requests = distinct(all, &mut problems);
    Problems::check(problems).map(|()| requests)
}

fn select_images<'a>(
    workspace: &'a Workspace,
    options: &PushOptions,
) -> Result<Vec<(ComponentId, &'a Image)>, Problems> {
    let known: Vec<&str> = workspace.images().map(|(_, image)| image.name.as_str()).collect();
    let (mut problems, mut named) = (Vec::new(), BTreeSet::new());
    for word in &options.images {
        match name_pattern::select(word, &known, "image") {
            Ok(found) if found.is_empty() => {
                let hint = did_you_mean(word, known.iter().copied());
                let message = format!("no component builds an image '{word}'{hint}");
                problems.push(Problem::of_request(message));
            }
            Ok(found) => named.extend(found),
            Err(problem) => problems.push(problem),
        }
    }
    let selected = workspace.select(&options.components).unwrap_or_else(|unknown| {
        problems.extend(unknown.iter().cloned());
        Selected::default()
    });
    Problems::check(problems)?;
    named.extend(selected.images.iter().map(String::as_str));
    let is_all = options.images.is_empty() && options.components.is_empty();
    let is_selected =
        |(_, image): &(ComponentId, &Image)| is_all || named.contains(image.name.as_str());
    let selected: Vec<(ComponentId, &Image)> = workspace.images().filter(is_selected).collect();
    if selected.is_empty() && !is_all {
        let message = format!("no images to push: {} builds none", options.components.join(", "));
        return Err(Problem::of_request(message).into());
    }
    Ok(selected)
}

/// The images in the engine, by name.
async fn find_images(
    workspace: &Workspace,
    images: &[(ComponentId, &Image)],
    engine: &DockerEngine,
) -> Result<BTreeMap<String, FoundImage>, CommandError> {
    let (mut all, mut problems) = (BTreeMap::new(), Vec::new());
    for (component, image) in images {
        if let Some(found) = engine.image(&image.name).await? {
            all.insert(image.name.clone(), found);
        } else {
            problems.push(Problem::of_request(format!(
                "image '{}' is not in the engine: run '{} build -s {}' first",
                image.name,
                program::name(),
                workspace.components[*component].name
            )));
        }
    }
    Problems::check(problems)?;
    Ok(all)
}

/// What a build would do with the images and what they need, in build order, by a dry run.
async fn plan(
    workspace: &Workspace,
    images: &[(ComponentId, &Image)],
    engine: &DockerEngine,
    options: &PushOptions,
    ctx: &CommandContext,
) -> Result<Vec<PlannedImage>, CommandError> {
    let names = images.iter().map(|(id, _)| workspace.components[*id].name.clone());
    let selected: Vec<String> = names.collect();
    let config_dir = options.config_dir.clone();
    let reading = WorkspaceOptions { config_dir, ..options.reading.clone() };
    let scope = Scope { reading, selection: selected.into() };
    // Warnings about the workspace have already been sent.
    let ctx = &CommandContext { events: Events::unread(), ..ctx.clone() };
    let (engine, how) = (async { Ok(engine.clone()) }, BuildOptions::default());
    let steps = build::preview_locked(engine, &scope, &how, ctx).await?;
    Ok(steps.into_iter().flat_map(|step| step.images).collect())
}

/// Finds the images that a build would replace. Images whose state depends on hooks that must run
/// are not reported.
fn find_stale(
    workspace: &Workspace,
    images: &[(ComponentId, &Image)],
    planned: &[PlannedImage],
) -> Vec<Problem> {
    let problems = images.iter().filter_map(|(id, image)| {
        let why = match &planned.iter().find(|it| it.image == image.name)?.state {
            ImageState::Stale { reasons } => {
                reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            }
            ImageState::Restored => "its name refers to another image".to_owned(),
            ImageState::UpToDate | ImageState::Undecided { .. } => return None,
        };
        Some(Problem::of_request(format!(
            "image '{}' is stale ({why}): run '{} build -s {}' first",
            image.name,
            program::name(),
            workspace.components[*id].name
        )))
    });
    problems.collect()
}

/// The images that are certain to be what would be built, in build order: those can be shared.
async fn find_current(
    images: &[(ComponentId, &Image)],
    planned: &[PlannedImage],
    engine: &DockerEngine,
    ctx: &CommandContext,
) -> Result<Vec<BuiltImage>, CommandError> {
    let mut current = Vec::new();
    for planned in planned {
        let name = &planned.image;
        let Some((_, image)) = images.iter().find(|(_, image)| image.name == *name) else {
            continue;
        };
        let is_current = planned.state == ImageState::UpToDate;
        let Some(fingerprint) = planned.fingerprint.clone().filter(|_| is_current) else {
            let message = format!(
                "image '{name}' is not shared, as it is not certain to be up to date: '{} build \
                 --share' shares it",
                program::name()
            );
            ctx.events.send(Event::Warning(Problem::of_request(message)));
            continue;
        };
        if let Some(found) = engine.image(name).await? {
            current.push(BuiltImage::new(image, found.id, fingerprint));
        }
    }
    Ok(current)
}

/// Pushes images, and returns the digest of each reference.
pub(crate) async fn push_all(
    requests: &[PushRequest],
    registry: Option<&RegistryConfig>,
    engine: &DockerEngine,
    retry_for: Duration,
    ctx: &CommandContext,
) -> Result<BTreeMap<String, String>, CommandError> {
    let domains = domains_of(requests.iter().map(|request| request.repository.as_str()));
    let logins = engine.credentials(domains, registry).await;
    let pushes = requests.iter().map(|request| async {
        ctx.events.send(Event::PushStarted { reference: request.reference() });
        let result = engine.push(request, &logins, retry_for, &ctx.events).await;
        if !matches!(result, Err(EngineError::Interrupted)) {
            ctx.events.send(report(request, &result));
        }
        result.ok().map(|digest| (request.reference(), digest))
    });
    let pushed: Vec<Option<(String, String)>> =
        stream::iter(pushes).buffer_unordered(PARALLEL_PUSHES).collect().await;
    match pushed.iter().filter(|pushed| pushed.is_none()).count() {
        0 => Ok(pushed.into_iter().flatten().collect()),
        failed => Err(CommandError::NotPushed { failed, total: requests.len() }),
    }
}

fn report(request: &PushRequest, result: &Result<String, EngineError>) -> Event {
    match result {
        Ok(digest) => Event::Pushed { reference: request.reference(), digest: digest.clone() },
        Err(error) => {
            Event::PushFailed { reference: request.reference(), reason: error.to_string() }
        }
    }
}
