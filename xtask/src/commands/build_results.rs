//! What `build` does with the images that it was asked for, once they are built: it names them
//! (`--tag`), pushes them (`--push`), and writes down what they are (`--metadata-file`).
//!
//! What can be wrong with the names is said before anything is built. Bases that were built on the
//! way are neither named nor pushed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};
use xtask_core::image_reference::{self, familiar};
use xtask_core::problem::{Problem, Problems};
use xtask_core::workspace::components::{Image, Workspace};
use xtask_core::workspace::registry_config::RegistryConfig;

use crate::build::options::Scope;
use crate::build::prepare::{ScopedWorkspace, read_scope};
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::commands::push::push_all;
use crate::commands::push_references::{PushReferences, distinct};
use crate::engine::{Engine, PushRequest};
use crate::event::Event;
use crate::event_channel::Events;
use crate::system::named_file;

/// What to do with the images.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResultOptions {
    /// The references to give each of them, in which words such as `{image}` may stand.
    pub(crate) tags: Vec<String>,
    /// Whether to push them: to these references, or else to those that the configuration says.
    pub(crate) push: bool,
    /// How long to retry after temporary registry errors.
    pub(crate) retry_for: Duration,
    /// The file to write about them.
    pub(crate) metadata_file: Option<PathBuf>,
}

/// What is done with the images, before there are any.
pub(crate) struct BuildResults {
    images: Vec<String>,
    /// The references of each image.
    requests: Vec<PushRequest>,
    registry: Option<RegistryConfig>,
    options: ResultOptions,
}

impl BuildResults {
    /// Checks all names; none if there is nothing to do.
    pub(crate) fn prepare(
        options: &ResultOptions,
        scope: &Scope,
        ctx: &CommandContext,
    ) -> Result<Option<Self>, CommandError> {
        if options.tags.is_empty() && !options.push && options.metadata_file.is_none() {
            return Ok(None);
        }
        let registry = scope.reading.registry()?;
        // The build sends the warnings.
        let ScopedWorkspace { workspace, selected, .. } =
            read_scope(&ctx.root, scope, registry.as_ref(), &Events::unread())?;
        let images = workspace.images().map(|(_, image)| image);
        let is_selected = |image: &&Image| {
            selected.as_ref().is_none_or(|selected| selected.images.contains(&image.name))
        };
        let images: Vec<&Image> = images.filter(is_selected).collect();
        let mut requests = Vec::new();
        if options.push || !options.tags.is_empty() {
            let tag = scope.reading.tag.as_deref();
            let (config, registry) = (&workspace.config, registry.as_ref());
            // Its --tag is a whole reference.
            let advice = "set XTASK_TAG, or write the tag into --tag REFERENCE";
            let references = PushReferences::new(&ctx.root, config, registry, tag, advice)
                .map_err(Problems::from)?;
            requests = find_requests(&images, &references, &options.tags)?;
            Problems::check(taken(&requests, &workspace, &options.tags))?;
        }
        let images = images.iter().map(|image| image.name.clone()).collect();
        Ok(Some(Self { images, requests, registry, options: options.clone() }))
    }

    /// Does it all with the images that the engine has now.
    pub(crate) async fn deliver(self, ctx: &CommandContext) -> Result<(), CommandError> {
        let engine = ctx.engine().await?;
        let tags = self.requests.iter().filter(|_| !self.options.tags.is_empty());
        for PushRequest { image, repository, tag } in tags {
            engine.tag(image, repository, tag).await?;
            let (image, reference) = (image.clone(), format!("{repository}:{tag}"));
            ctx.events.send(Event::Tagged { image, reference });
        }
        let mut digests = BTreeMap::new();
        if self.options.push {
            let (registry, retry_for) = (self.registry.as_ref(), self.options.retry_for);
            let pushing = push_all(&self.requests, registry, &engine, retry_for, ctx);
            digests = ctx.unless_interrupted(Box::pin(pushing)).await?;
        }
        let Some(file) = &self.options.metadata_file else { return Ok(()) };
        let mut metadata = Map::new();
        for image in &self.images {
            if let Some(found) = engine.image(image).await? {
                metadata.insert(image.clone(), self.metadata(image, &found.id, &digests));
            }
        }
        let text = format!("{:#}\n", Value::from(metadata));
        named_file::write(file, text.as_bytes())
            .map_err(|error| CommandError::unwritten(&file.display().to_string(), &error))
    }

    /// What `docker buildx build --metadata-file` says of an image, under the same keys.
    fn metadata(&self, image: &str, id: &str, digests: &BTreeMap<String, String>) -> Value {
        let given = self.requests.iter().filter(|request| request.image == image);
        let mut names = vec![image.to_owned()];
        names.extend(given.map(PushRequest::reference));
        let digest = names.iter().find_map(|name| digests.get(name));
        let mut metadata = json!({
            "containerimage.config.digest": id,
            "image.name": names.join(","),
        });
        if let Some(digest) = digest {
            metadata["containerimage.digest"] = digest.as_str().into();
        }
        metadata
    }
}

/// The references of all images, of which no two have one.
fn find_requests(
    images: &[&Image],
    references: &PushReferences<'_>,
    given: &[String],
) -> Result<Vec<PushRequest>, Problems> {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for image in images {
        let requests = if given.is_empty() {
            references.of(image)
        } else {
            given.iter().map(|text| references.given(image, text)).collect()
        };
        match requests {
            Ok(requests) => found.extend(requests),
            Err(problem) => problems.push(problem),
        }
    }
    let requests = distinct(found, &mut problems);
    Problems::check(problems).map(|()| requests)
}

/// Names of `--tag` that other images of the workspace have.
fn taken(requests: &[PushRequest], workspace: &Workspace, given: &[String]) -> Vec<Problem> {
    let requests = requests.iter().filter(|_| !given.is_empty());
    let problem = |request: &PushRequest| {
        let reference = request.reference();
        let is_it = |image: &&Image| familiar(&image.name) == familiar(&reference);
        let other = workspace.images().map(|(_, image)| image).find(is_it)?;
        let message = format!(
            "--tag: {reference} is image '{}' of the workspace, and '{}' cannot be it: choose \
             another name",
            other.name, request.image
        );
        (other.name != request.image).then(|| Problem::of_request(message))
    };
    requests.filter_map(problem).collect()
}

/// Checks a name in which words may stand.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub(crate) fn check_tag(text: &str) -> Result<String, String> {
    let mut plain = text.to_owned();
    for word in ["image", "registry", "tag", "commit", "branch"] {
        plain = plain.replace(&format!("{{{word}}}"), "x");
    }
    image_reference::check(&plain).map_err(|error| error.to_string())?;
    if plain.contains('@') {
        return Err("a name has no digest: leave out what begins with '@'".to_owned());
    }
    if image_reference::is_id(&plain) {
        return Err("64 hexadecimal digits are an image's ID, and no name".to_owned());
    }
    Ok(text.to_owned())
}
