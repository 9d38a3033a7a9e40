//! `clean --shared`: deletes images from the registry that `--share` pushed long ago, and that
//! neither the workspace as it is nor a branch that is named would take; with an image goes what
//! the hooks of its component came to.
//!
//! What is needed is known only by working it out, so each branch is checked out for a moment. Where
//! hooks must run to know it, or a base must be pulled, nothing of an image is deleted. Registries
//! delete a manifest with all its tags: one to which another tag leads, or another index, is left.
//! Where it is not certain what a tag leads to, all is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures_util::StreamExt;
use futures_util::stream;
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use xtask_core::dockerfile::parser::Via;
use xtask_core::problem::{Problem, Problems};
use xtask_core::workspace::components::{Image, Workspace, WorkspaceOptions};

use crate::build::options::{BuildOptions, Scope, Selection};
use crate::build::prepare::read_workspace;
use crate::build::run::preview_locked;
use crate::build::{share_prefix, shared_hooks, shared_image};
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::engine::{DockerEngine, Engine, EngineError, digest_of, domains_of};
use crate::event_channel::Events;
use crate::outcome::PlannedStep;
use crate::registry::{Client, ImageIndex, RegistryError};
use crate::system::checkout::Checkout;
use crate::system::git;

/// How many tags are looked at in parallel.
const PARALLEL: usize = 32;

#[derive(Clone, Debug)]
pub(crate) struct SharedOptions {
    /// Where images are shared, if not where the configuration says.
    pub(crate) prefix: Option<String>,
    pub(crate) older_than: std::time::Duration,
    /// Git revisions.
    pub(crate) keep: Vec<String>,
    pub(crate) reading: WorkspaceOptions,
    pub(crate) dry_run: bool,
}

/// What became of the images that were shared.
#[derive(Debug, Default)]
pub(crate) struct CleanedShared {
    pub(crate) prefix: String,
    pub(crate) deleted: usize,
    pub(crate) needed: usize,
    pub(crate) young: usize,
    /// Those to which something else leads, and those whose age is unknown.
    pub(crate) left: usize,
    /// The images of which nothing is deleted, by why that is.
    pub(crate) undecided: BTreeMap<String, BTreeSet<String>>,
}

/// The fingerprints that are needed, by repository, or why they are unknown.
type Needed = BTreeMap<String, Result<BTreeSet<String>, &'static str>>;

const BY_HOOKS: &str = "hooks must run to know what is needed";

/// An `ONBUILD` instruction can read any file and build arg.
const BY_BASES: &str = "a base must be pulled to know what is needed, as it may have ONBUILD \
                        instructions";

/// Deletes what is old and needed by nobody. The workspace is locked.
pub(crate) async fn run(
    options: &SharedOptions,
    ctx: &CommandContext,
) -> Result<CleanedShared, CommandError> {
    let registry = options.reading.registry()?;
    let reading = &options.reading;
    let engine = ctx.engine().await?;
    let mut needed = Needed::new();
    let workspace = add_needed(&mut needed, &engine, reading, ctx).await?;
    let prefix = options
        .prefix
        .clone()
        .map_or_else(|| share_prefix::to_share(&workspace.config, registry.as_ref()), Ok);
    let prefix = prefix.map_err(Problems::from)?;
    for revision in &options.keep {
        let adding = add_needed_at(revision, &mut needed, &workspace, &engine, reading, ctx);
        adding.await.map_err(|error| of_revision(revision, error))?;
    }
    let domains = domains_of([format!("{prefix}/").as_str()]);
    let logins = engine.credentials(domains, registry.as_ref()).await;
    let client = Client::patient(&prefix, &logins);
    let mut cleaned = CleanedShared { prefix, ..CleanedShared::default() };
    for (image, needed) in needed {
        let needed = match needed {
            Ok(needed) => needed,
            Err(why) => {
                cleaned.undecided.entry(why.to_owned()).or_default().insert(image);
                continue;
            }
        };
        let result = clean(&client, &image, &needed, options, &mut cleaned).await;
        result.map_err(|error| {
            let message = format!("{}/{image}: {}", cleaned.prefix, explained(&error));
            Problems::from(Problem::of_request(message))
        })?;
    }
    Ok(cleaned)
}

/// Adds what a build of everything in the context's workspace would ask for; returns the workspace.
async fn add_needed(
    needed: &mut Needed,
    engine: &DockerEngine,
    reading: &WorkspaceOptions,
    ctx: &CommandContext,
) -> Result<Workspace, CommandError> {
    let registry = reading.registry()?;
    let (workspace, _) = read_workspace(&ctx.root, reading, registry.as_ref(), &Events::unread())?;
    let all = workspace.components.iter().map(|component| component.name.clone());
    let scope = Scope { reading: reading.clone(), selection: Selection::Named(all.collect()) };
    let connected = engine.clone();
    let preview =
        preview_locked(async { Ok(connected) }, &scope, &BuildOptions::default(), ctx).await?;
    let unknown = made_from_unknown(&workspace, &preview, engine).await?;
    for image in preview.into_iter().flat_map(|PlannedStep { images, .. }| images) {
        let repository = shared_image::repository(&image.image).to_owned();
        let known = needed.entry(repository).or_insert_with(|| Ok(BTreeSet::new()));
        match (image.fingerprint, known.as_mut()) {
            (None, _) => *known = Err(BY_HOOKS),
            (Some(_), Ok(_)) if unknown.contains(&image.image) => *known = Err(BY_BASES),
            (Some(fingerprint), Ok(known)) => drop(known.insert(fingerprint.to_string())),
            (Some(_), Err(_)) => {}
        }
    }
    Ok(workspace)
}

/// The images that are made `FROM` an external base which the engine does not have, or from one of
/// those. The plan is in build order.
async fn made_from_unknown(
    workspace: &Workspace,
    plan: &[PlannedStep],
    engine: &DockerEngine,
) -> Result<BTreeSet<String>, EngineError> {
    let images: BTreeMap<&str, &Image> =
        workspace.images().map(|(_, image)| (image.name.as_str(), image)).collect();
    let (mut unknown, mut is_there) = (BTreeSet::new(), BTreeMap::new());
    for planned in plan.iter().flat_map(|step| &step.images) {
        let Some(image) = images.get(planned.image.as_str()) else { continue };
        let of_workspace = image.uses.iter().filter_map(|used| used.local.as_ref());
        let mut is_unknown = of_workspace.into_iter().any(|name| unknown.contains(name));
        for base in image.external_bases().into_iter().filter(|used| used.via == Via::From) {
            if !is_there.contains_key(&base.reference) {
                let found = engine.image(&base.reference).await?;
                is_there.insert(base.reference.clone(), found.is_some());
            }
            is_unknown |= !is_there[&base.reference];
        }
        if is_unknown {
            unknown.insert(image.name.clone());
        }
    }
    Ok(unknown)
}

/// Adds what a build of a revision would ask for. Its checkout is there for a moment only: what
/// templates say of a worktree is said of the workspace's own.
async fn add_needed_at(
    revision: &str,
    needed: &mut Needed,
    workspace: &Workspace,
    engine: &DockerEngine,
    reading: &WorkspaceOptions,
    ctx: &CommandContext,
) -> Result<(), CommandError> {
    let checkout = Checkout::new(&ctx.root, revision).map_err(Problems::from)?;
    checkout.check_whole_for(workspace).map_err(Problems::from)?;
    let mut reading = reading.clone();
    reading.facts.worktree = name_of(&ctx.root);
    reading.facts.branch =
        checkout.branch.clone().or_else(|| git::branch(&ctx.root).unwrap_or_default());
    let (root, events) = (checkout.root.clone(), Events::unread());
    let there = CommandContext { root, events, ..ctx.clone() };
    let workspace = add_needed(needed, engine, &reading, &there).await?;
    Ok(checkout.check_whole_for(&workspace).map_err(Problems::from)?)
}

/// The name of a workspace's folder.
fn name_of(root: &Path) -> Option<String> {
    let folder = root.canonicalize().ok()?;
    Some(folder.file_name()?.to_str()?.to_owned())
}

/// Says of which revision a problem is.
fn of_revision(revision: &str, error: CommandError) -> CommandError {
    let CommandError::Wrong(problems) = &error else { return error };
    let of_revision =
        |problem: &Problem| Problem::of_request(format!("--keep {revision}: {problem}"));
    Problems::check(problems.iter().map(of_revision).collect()).err().map_or(error, Into::into)
}

/// A tag, and the manifest that it leads to.
struct Tag {
    name: String,
    digest: String,
    index: Option<ImageIndex>,
    /// The manifests that this one names; none if it is not understood.
    named: Option<Vec<String>>,
    /// The fingerprint of the image with which it goes.
    fingerprint: Option<String>,
}

/// Deletes what nobody needs of an image.
async fn clean(
    client: &Client,
    image: &str,
    needed: &BTreeSet<String>,
    options: &SharedOptions,
    cleaned: &mut CleanedShared,
) -> Result<(), RegistryError> {
    let tags = read_tags(client, image).await?;
    if let Some(tag) = tags.iter().find(|tag| tag.named.is_none()) {
        let why = format!("it is not understood what the tag '{}' leads to", tag.name);
        cleaned.undecided.entry(why).or_default().insert(image.to_owned());
        return Ok(());
    }
    let too_old = Duration::try_from(options.older_than)
        .ok()
        .and_then(|age| OffsetDateTime::now_utc().checked_sub(age));
    let mut unneeded = BTreeSet::new();
    for tag in &tags {
        let Some(fingerprint) = tag.fingerprint.as_deref() else { continue };
        let Some(index) = tag.of_all_platforms() else { continue };
        match shared_image::shared_at(index) {
            _ if needed.contains(fingerprint) => cleaned.needed += 1,
            None => cleaned.left += 1,
            Some(shared) if too_old.is_none_or(|too_old| shared >= too_old) => cleaned.young += 1,
            Some(_) => drop(unneeded.insert(fingerprint)),
        }
    }
    let is_unneeded =
        |tag: &&Tag| tag.fingerprint.as_deref().is_some_and(|it| unneeded.contains(it));
    let others = tags.iter().filter(|tag| !is_unneeded(tag));
    let used: BTreeSet<&str> = others.flat_map(Tag::leads_to).collect();
    // The index goes first: what is left without one is taken by nobody.
    let (indexes, images): (Vec<&Tag>, Vec<&Tag>) =
        tags.iter().filter(is_unneeded).partition(|tag| tag.of_all_platforms().is_some());
    for tag in indexes.into_iter().chain(images) {
        let is_index = tag.of_all_platforms().is_some();
        if used.contains(tag.digest.as_str()) {
            cleaned.left += usize::from(is_index);
            continue;
        }
        if !options.dry_run {
            client.delete(image, &tag.digest).await?;
        }
        cleaned.deleted += usize::from(is_index);
    }
    Ok(())
}

impl Tag {
    /// The manifests that are lost without it.
    fn leads_to(&self) -> impl Iterator<Item = &str> {
        self.named.iter().flatten().chain([&self.digest]).map(String::as_str)
    }

    /// The index, if it is that of a fingerprint. Some engines push an index for one platform, too.
    fn of_all_platforms(&self) -> Option<&ImageIndex> {
        let fingerprint = self.fingerprint.as_deref()?;
        self.index.as_ref().filter(|_| self.name.ends_with(fingerprint))
    }
}

/// The manifests that one names, whoever wrote it: none if it is that of an image or an artifact.
/// No answer if it is something else.
fn named(manifest: &[u8]) -> Option<Vec<String>> {
    let manifest: Value = serde_json::from_slice(manifest).ok()?;
    let Some(images) = manifest.get("manifests") else {
        let has_own = |key: &&str| manifest.get(key).is_some();
        return ["config", "fsLayers"].iter().any(has_own).then(Vec::new);
    };
    let digests = images.as_array()?.iter().map(|image| image.get("digest")?.as_str());
    digests.map(|digest| digest.map(str::to_owned)).collect()
}

/// All tags of an image that lead to something.
async fn read_tags(client: &Client, image: &str) -> Result<Vec<Tag>, RegistryError> {
    let names = client.tags(image).await?;
    let read = names.into_iter().map(async |name| {
        let stored = client.manifest(image, &name).await?;
        Ok(stored.map(|stored| Tag {
            digest: digest_of(&stored.bytes),
            index: serde_json::from_slice(&stored.bytes).ok(),
            named: named(&stored.bytes),
            fingerprint: shared_image::fingerprint_of(&name)
                .map(str::to_owned)
                .or_else(|| shared_hooks::image_fingerprint(&name, &stored.bytes)),
            name,
        }))
    });
    let read: Vec<Result<Option<Tag>, RegistryError>> =
        stream::iter(read).buffer_unordered(PARALLEL).collect().await;
    read.into_iter().filter_map(Result::transpose).collect()
}

/// What to do about an error.
fn explained(error: &RegistryError) -> String {
    match error {
        RegistryError::Invalid(why) if why.contains("405") => format!(
            "{why}: it lets nobody delete by its API (Docker's registry does with \
             REGISTRY_STORAGE_DELETE_ENABLED=true)"
        ),
        error => error.to_string(),
    }
}

impl CleanedShared {
    /// What to tell.
    pub(crate) fn lines(&self, is_dry: bool) -> Vec<String> {
        let Self { prefix, deleted, needed, young, left, .. } = self;
        let verb = if is_dry { "would delete" } else { "deleted" };
        let all = deleted + needed + young + left;
        let mut line = format!("{verb} {deleted} of {all} shared images in {prefix}/");
        let kept =
            [(needed, "needed"), (young, "young"), (left, "of unknown age or used elsewhere")];
        let kept = kept.into_iter().filter(|(count, _)| **count > 0);
        let kept: Vec<String> = kept.map(|(count, why)| format!("{count} {why}")).collect();
        if !kept.is_empty() {
            line.push_str(&format!("; kept: {}", kept.join(", ")));
        }
        let mut lines = vec![line];
        for (why, images) in &self.undecided {
            let images: Vec<&str> = images.iter().map(String::as_str).collect();
            lines.push(format!("kept all of {}: {why}", images.join(", ")));
        }
        lines
    }
}
