//! `list`: the components and their images, with what the engine has of them.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use xtask_core::problem::Problems;
use xtask_core::workspace::components::WorkspaceOptions;

use crate::build::prepare::read_workspace;
use crate::build::run as build;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::engine::ImageDetails;
use crate::event::Event;
use crate::event_channel::Events;
use crate::outcome::PlannedImage;

/// The maximum number of parallel requests to the engine.
const PARALLEL_REQUESTS: usize = 16;

#[derive(Clone, Debug)]
pub(crate) struct ListOptions {
    pub(crate) reading: WorkspaceOptions,
    /// The components to list; all if empty.
    pub(crate) components: Vec<String>,
}

/// A component, with its images sorted by name.
#[derive(Debug)]
pub(crate) struct ListedComponent {
    pub(crate) name: String,
    pub(crate) images: Vec<ListedImage>,
}

#[derive(Debug)]
pub(crate) struct ListedImage {
    pub(crate) planned: PlannedImage,
    /// None if the engine has no image of its name.
    pub(crate) found: Option<ImageDetails>,
}

pub(crate) async fn run(
    options: &ListOptions,
    ctx: &CommandContext,
) -> Result<Vec<ListedComponent>, CommandError> {
    let registry = options.reading.registry()?;
    // The dry run reads the workspace again, and sends the same warnings.
    let (workspace, graph) =
        read_workspace(&ctx.root, &options.reading, registry.as_ref(), &Events::unread())?;
    let mut selected = workspace.find_all(&options.components)?;
    if options.components.is_empty() {
        selected = workspace.components.ids().collect();
    }
    Problems::check(graph.cycles(&graph.closure(&selected)))?;
    for problem in graph.problems(&workspace, &selected) {
        ctx.events.send(Event::Warning(problem));
    }
    let engine = ctx.engine().await?;
    let reading = &options.reading;
    let steps =
        build::preview_components(&engine, &workspace, &selected, reading, "list", ctx).await?;
    let planned: Vec<PlannedImage> = steps.into_iter().flat_map(|step| step.images).collect();
    let requests = planned.into_iter().map(async |planned| {
        let found = engine.image_details(&planned.image).await?;
        Ok::<_, CommandError>((planned.image.clone(), ListedImage { planned, found }))
    });
    let requests = stream::iter(requests).buffer_unordered(PARALLEL_REQUESTS).try_collect();
    let mut images: BTreeMap<String, ListedImage> =
        ctx.unless_interrupted(Box::pin(requests)).await?;
    let listed = selected.iter().map(|id| {
        let component = &workspace.components[*id];
        let mut own: Vec<ListedImage> =
            component.images.iter().filter_map(|image| images.remove(&image.name)).collect();
        own.sort_by(|one, other| one.planned.image.cmp(&other.planned.image));
        ListedComponent { name: component.name.clone(), images: own }
    });
    Ok(listed.collect())
}
