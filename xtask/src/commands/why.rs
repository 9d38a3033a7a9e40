//! `why`: all that is known of why an image would be built, or what it was built from.
//!
//! A dry run decides; this adds the instructions and lines by which a reason reaches an image,
//! and follows bases to the images where it begins.

use std::collections::{BTreeMap, BTreeSet};
use std::slice;

use xtask_core::dockerfile::parser::Via;
use xtask_core::ids::ComponentId;
use xtask_core::name_pattern;
use xtask_core::plan::graph::Graph;
use xtask_core::problem::{Problem, Problems, did_you_mean};
use xtask_core::staleness::fingerprint::Manifest;
use xtask_core::workspace::components::{Image, Workspace, WorkspaceOptions};

use crate::build::prepare::read_workspace;
use crate::build::run as build;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::engine::ImageDetails;
use crate::event::Event;
use crate::event_channel::Events;
use crate::outcome::{ImageState, PlannedImage, PlannedStep};
use crate::system::records::Records;

#[derive(Clone, Debug)]
pub(crate) struct WhyOptions {
    pub(crate) reading: WorkspaceOptions,
    /// Images, or components for all of theirs; names or globs.
    pub(crate) words: Vec<String>,
}

/// What there is to say about an image.
#[derive(Debug)]
pub(crate) struct Explanation {
    pub(crate) cause: Cause,
    /// What the engine has under its name.
    pub(crate) found: Option<ImageDetails>,
    /// What that was built from, if it is on record.
    pub(crate) manifest: Option<Manifest>,
    /// Where the record is, relative to the root.
    pub(crate) record: String,
}

/// An image with the edges by which reasons reach it.
#[derive(Debug)]
pub(crate) struct Cause {
    pub(crate) component: String,
    pub(crate) dockerfile: String,
    pub(crate) planned: PlannedImage,
    /// Why the component's hooks must run, if they must.
    pub(crate) hooks: Option<String>,
    pub(crate) uses: Vec<UsedImage>,
    /// The dependencies that `component.dep` declares.
    pub(crate) declared: Vec<DeclaredComponent>,
}

/// An image that a Dockerfile uses.
#[derive(Debug)]
pub(crate) struct UsedImage {
    pub(crate) reference: String,
    /// Its name in the workspace; none if it is external.
    pub(crate) name: Option<String>,
    pub(crate) via: Via,
    /// Of the instruction.
    pub(crate) line: usize,
    pub(crate) base: Base,
}

/// What is known of an image that another one uses.
#[derive(Debug)]
pub(crate) enum Base {
    /// External, or up to date.
    Settled,
    /// To be built, or decided during the build.
    Cause(Box<Cause>),
    /// The same, and explained before.
    Repeated,
}

/// A line of a `component.dep`.
#[derive(Debug)]
pub(crate) struct DeclaredComponent {
    pub(crate) name: String,
    /// Its folder, relative to the root.
    pub(crate) dir: String,
    pub(crate) file: String,
    pub(crate) line: usize,
    /// Why its hooks must run, if they must.
    pub(crate) hooks: Option<String>,
}

pub(crate) async fn run(
    options: &WhyOptions,
    ctx: &CommandContext,
) -> Result<Vec<Explanation>, CommandError> {
    let registry = options.reading.registry()?;
    // The dry run reads the workspace again, and sends the same warnings.
    let (workspace, graph) =
        read_workspace(&ctx.root, &options.reading, registry.as_ref(), &Events::unread())?;
    let images = select(&workspace, &options.words)?;
    let components: BTreeSet<ComponentId> = images.iter().map(|(id, _)| *id).collect();
    check(&workspace, &graph, &components, ctx)?;
    let engine = ctx.engine().await?;
    let reading = &options.reading;
    let steps =
        build::preview_components(&engine, &workspace, &components, reading, "why", ctx).await?;
    let plan = Plan {
        workspace: &workspace,
        steps: steps.iter().map(|step| (step.component.as_str(), step)).collect(),
    };
    let records = Records::read(&ctx.root, "");
    let mut explanations = Vec::new();
    for (id, image) in images {
        let mut seen = BTreeSet::new();
        let Some(cause) = plan.cause(id, image, &mut seen) else { continue };
        let details = async { Ok(engine.image_details(&image.name).await?) };
        let found = ctx.unless_interrupted(details).await?;
        let tracked = found.as_ref().and_then(|found| found.tracked.as_ref());
        let manifest = records.manifest(&image.name).filter(|manifest| {
            tracked.is_some_and(|tracked| tracked.has_fingerprint(&manifest.fingerprint))
        });
        let record = Records::manifest_file(&image.name);
        explanations.push(Explanation { cause, found, manifest, record });
    }
    Ok(explanations)
}

/// The images that some words name, with their components. A component goes first: it often
/// has the name of one of its images.
fn select<'w>(
    workspace: &'w Workspace,
    words: &[String],
) -> Result<Vec<(ComponentId, &'w Image)>, Problems> {
    let components = workspace.components.iter().map(|component| component.name.as_str());
    let images = workspace.images().map(|(_, image)| image.name.as_str());
    let known: Vec<&str> = components.chain(images).collect();
    let (mut problems, mut selected) = (Vec::new(), BTreeSet::new());
    let mut by_group_or_path = BTreeSet::new();
    for word in words {
        match name_pattern::select(word, &known, "component or image") {
            Ok(found) if found.is_empty() => match workspace.select(slice::from_ref(word)) {
                Ok(found) => by_group_or_path.extend(found.images),
                Err(unknown) if workspace.config.has_definitions() => {
                    problems.extend(unknown.iter().cloned());
                }
                Err(_) => {
                    let hint = did_you_mean(word, known.iter().copied());
                    let message = format!("no component or image '{word}' under src/{hint}");
                    problems.push(Problem::of_request(message));
                }
            },
            Ok(found) => selected.extend(found),
            Err(problem) => problems.push(problem),
        }
    }
    Problems::check(problems)?;
    let is_selected = |(id, image): &(ComponentId, &Image)| {
        let component = &workspace.components[*id].name;
        let is_component = selected.contains(component.as_str());
        is_component
            || by_group_or_path.contains(&image.name)
            || selected.contains(image.name.as_str()) && workspace.find(&image.name).is_none()
    };
    let images: Vec<(ComponentId, &Image)> = workspace.images().filter(is_selected).collect();
    if images.is_empty() {
        let names = words.join("', '");
        return Err(Problem::of_request(format!("'{names}' builds no images")).into());
    }
    Ok(images)
}

/// Fails if the graph has a cycle; what else is wrong with components that are needed is
/// warned of.
fn check(
    workspace: &Workspace,
    graph: &Graph,
    components: &BTreeSet<ComponentId>,
    ctx: &CommandContext,
) -> Result<(), Problems> {
    let needed = graph.closure(components);
    Problems::check(graph.cycles(&needed))?;
    for problem in graph.problems(workspace, &needed) {
        ctx.events.send(Event::Warning(problem));
    }
    Ok(())
}

/// What the dry run said.
struct Plan<'p> {
    workspace: &'p Workspace,
    steps: BTreeMap<&'p str, &'p PlannedStep>,
}

impl Plan<'_> {
    fn cause(&self, id: ComponentId, image: &Image, seen: &mut BTreeSet<String>) -> Option<Cause> {
        let component = &self.workspace.components[id];
        let step = self.steps.get(component.name.as_str())?;
        let planned = step.images.iter().find(|planned| planned.image == image.name)?.clone();
        let mut uses: Vec<UsedImage> = Vec::new();
        for used in &image.uses {
            let name = used.local.as_deref();
            if uses.iter().any(|other| other.reference == used.reference) {
                continue;
            }
            uses.push(UsedImage {
                reference: used.reference.clone(),
                name: name.map(str::to_owned),
                via: used.via,
                line: used.line,
                base: name.map_or(Base::Settled, |name| self.base(name, seen)),
            });
        }
        let declared = component.declared.iter().filter_map(|declared| {
            let dependency =
                &self.workspace.components[self.workspace.depended_on(&declared.component)?];
            Some(DeclaredComponent {
                name: dependency.name.clone(),
                dir: dependency.dir.clone(),
                file: declared.file.clone(),
                line: declared.line,
                hooks: self.steps.get(dependency.name.as_str()).and_then(|it| it.hooks.clone()),
            })
        });
        Some(Cause {
            component: component.name.clone(),
            dockerfile: image.dockerfile.clone(),
            planned,
            hooks: step.hooks.clone(),
            uses,
            declared: declared.collect(),
        })
    }

    fn base(&self, name: &str, seen: &mut BTreeSet<String>) -> Base {
        let found = self.workspace.images().find(|(_, image)| image.name == name);
        let Some((id, image)) = found else { return Base::Settled };
        let mut planned = self.steps.values().flat_map(|step| &step.images);
        let is_settled = planned.find(|planned| planned.image == name).is_none_or(|planned| {
            matches!(planned.state, ImageState::UpToDate | ImageState::Restored)
        });
        if is_settled {
            Base::Settled
        } else if seen.insert(name.to_owned()) {
            self.cause(id, image, seen).map_or(Base::Settled, |cause| Base::Cause(Box::new(cause)))
        } else {
            Base::Repeated
        }
    }
}
