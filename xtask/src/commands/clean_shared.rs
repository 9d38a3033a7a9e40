//! `clean --shared`: deletes images from the registry that `--share` pushed long ago, and that
//! neither the workspace as it is nor a branch that is named would take; with an image goes what
//! the hooks of its component came to.
//!
//! What is needed is known only by working it out, so each branch is checked out for a moment. Where
//! hooks must run to know it, nothing of an image is deleted. Registries delete a manifest with all
//! its tags: one to which another tag leads, or another index, is left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use futures_util::stream;
use time::{Duration, OffsetDateTime};
use xtask_core::paths::STATE;
use xtask_core::problem::{Problem, Problems};
use xtask_core::workspace::components::{Workspace, WorkspaceOptions};

use crate::build::options::{BuildOptions, Scope, Selection};
use crate::build::prepare::read_workspace;
use crate::build::run::preview_locked;
use crate::build::{share_prefix, shared_hooks, shared_image};
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::engine::{DockerEngine, Engine, digest_of, domains_of};
use crate::event_channel::Events;
use crate::outcome::PlannedStep;
use crate::registry::{Client, ImageIndex, RegistryError};
use crate::system::git::{GitError, Repository};

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
    /// The images of which nothing is deleted, as hooks decide what is needed.
    pub(crate) undecided: BTreeSet<String>,
}

/// The fingerprints that are needed, by repository; none if hooks decide.
type Needed = BTreeMap<String, Option<BTreeSet<String>>>;

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
        let checkout = Checkout::new(&ctx.root, revision).map_err(Problems::from)?;
        let (root, events) = (checkout.root.clone(), Events::unread());
        let there = CommandContext { root, events, ..ctx.clone() };
        add_needed(&mut needed, &engine, reading, &there).await?;
    }
    let domains = domains_of([format!("{prefix}/").as_str()]);
    let logins = engine.credentials(domains, registry.as_ref()).await;
    let client = Client::new(&prefix, &logins);
    let mut cleaned = CleanedShared { prefix, ..CleanedShared::default() };
    for (image, needed) in needed {
        let Some(needed) = needed else {
            cleaned.undecided.insert(image);
            continue;
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
    let engine = engine.clone();
    let preview =
        preview_locked(async { Ok(engine) }, &scope, &BuildOptions::default(), ctx).await?;
    for image in preview.into_iter().flat_map(|PlannedStep { images, .. }| images) {
        let repository = shared_image::repository(&image.image).to_owned();
        let known = needed.entry(repository).or_insert_with(|| Some(BTreeSet::new()));
        match (image.fingerprint, known.as_mut()) {
            (Some(fingerprint), Some(known)) => drop(known.insert(fingerprint.to_string())),
            _ => *known = None,
        }
    }
    Ok(workspace)
}

/// A tag, and the manifest that it leads to.
struct Tag {
    name: String,
    digest: String,
    index: Option<ImageIndex>,
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
    let too_old = Duration::try_from(options.older_than)
        .ok()
        .and_then(|age| OffsetDateTime::now_utc().checked_sub(age));
    let mut unneeded = BTreeSet::new();
    for tag in &tags {
        let Some(fingerprint) = tag.fingerprint.as_deref() else { continue };
        let index = tag.index.as_ref().filter(|_| tag.name.ends_with(fingerprint));
        let Some(index) = index else { continue };
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
        tags.iter().filter(is_unneeded).partition(|tag| tag.index.is_some());
    for tag in indexes.into_iter().chain(images) {
        let is_index = tag.index.is_some();
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
        let images = self.index.iter().flat_map(|index| &index.manifests);
        images.map(|image| image.digest.as_str()).chain([self.digest.as_str()])
    }
}

/// All tags of an image that lead to something.
async fn read_tags(client: &Client, image: &str) -> Result<Vec<Tag>, RegistryError> {
    let names = client.tags(image).await?;
    let read = names.into_iter().map(async |name| {
        let stored = client.manifest(image, &name).await?;
        Ok(stored.map(|stored| Tag {
            digest: digest_of(&stored.bytes),
            index: serde_json::from_slice(&stored.bytes).ok(),
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

/// A revision, checked out for as long as this is there.
struct Checkout {
    repository: Repository,
    folder: PathBuf,
    /// The root of the workspace in it.
    root: PathBuf,
}

impl Checkout {
    fn new(root: &Path, revision: &str) -> Result<Self, Problem> {
        let failed = |message: String| Problem::of_request(format!("--keep {revision}: {message}"));
        let repository = Repository::of(root)
            .ok_or_else(|| failed("this is not a git repository".to_owned()))?;
        let folder = root.join(STATE).join("checkout");
        let git = |arguments: &[&str]| repository.run(root, arguments);
        let check_out = || -> Result<(), GitError> {
            remove(&repository, &folder);
            let commit = git(&[
                "rev-parse",
                "--verify",
                "--end-of-options",
                &format!("{revision}^{{commit}}"),
            ])?;
            let commit = String::from_utf8_lossy(&commit).trim().to_owned();
            let to = folder.to_string_lossy();
            git(&[
                "-c",
                "core.hooksPath=/dev/null",
                "worktree",
                "add",
                "--detach",
                "--force",
                &to,
                &commit,
            ])?;
            Ok(())
        };
        check_out().map_err(|error| failed(error.to_string()))?;
        let canonical = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let below = canonical.strip_prefix(&repository.top).unwrap_or(Path::new("")).to_owned();
        Ok(Self { root: folder.join(below), repository, folder })
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        remove(&self.repository, &self.folder);
    }
}

/// Removes a checked-out revision, if there is one. Only this one: others may be on disks that are
/// not mounted now, which git would take for removed (`worktree prune`).
fn remove(repository: &Repository, folder: &Path) {
    let worktree = folder.to_string_lossy();
    drop(repository.run(&repository.top, &["worktree", "remove", "--force", &worktree]));
    drop(fs::remove_dir_all(folder));
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
        if !self.undecided.is_empty() {
            let images: Vec<&str> = self.undecided.iter().map(String::as_str).collect();
            lines.push(format!(
                "kept all of {}: hooks must run to know what is needed",
                images.join(", ")
            ));
        }
        lines
    }
}
