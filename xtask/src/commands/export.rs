//! `export bake`: what a build would send to a builder, for `docker buildx bake`.
//!
//! Hooks that run before builds have run, and what they wrote is in the contexts. Bake runs none, so
//! what a `build-post.sh` would write for others cannot be there: that is an error.

use std::path::{Path, PathBuf};

use xtask_core::plan::steps::Plan;
use xtask_core::problem::{Problem, Problems};
use xtask_core::workspace::components::Workspace;

use crate::build::bake_folder::BakeFolder;
use crate::build::mode::Mode;
use crate::build::options::{BuildOptions, Scope};
use crate::build::prepare::{ScopedWorkspace, read_scope};
use crate::build::run as build;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::event::Event;
use crate::event_channel::Events;

#[derive(Clone, Debug)]
pub(crate) struct ExportOptions {
    /// An absolute path.
    pub(crate) folder: PathBuf,
    pub(crate) scope: Scope,
}

/// Writes the folder, and returns how many images it is for.
pub(crate) async fn run(
    options: &ExportOptions,
    ctx: &CommandContext,
) -> Result<usize, CommandError> {
    check(options, ctx)?;
    let folder = BakeFolder::new(options.folder.clone(), &ctx.root).map_err(Problems::from)?;
    let how = BuildOptions::default();
    let mode = Mode::Export(&folder);
    let exported = Box::pin(build::run_with(ctx.engine(), &options.scope, &how, mode, ctx)).await;
    if let Err(error) = exported {
        folder.give_up();
        return Err(error);
    }
    Ok(folder.finish().map_err(Problems::from)?)
}

/// Refuses what Bake could not do, and a folder that would be part of what it is for.
fn check(options: &ExportOptions, ctx: &CommandContext) -> Result<(), CommandError> {
    let registry = options.scope.reading.registry()?;
    // The round warns.
    let events = Events::unread();
    let ScopedWorkspace { workspace, graph, selected, .. } =
        read_scope(&ctx.root, &options.scope, registry.as_ref(), &events)?;
    let selected = selected.map(|selected| selected.components);
    let plan = Plan::new(&workspace, &graph, selected.as_ref());
    let mut problems: Vec<Problem> =
        problem_of_place(&workspace, &options.folder).into_iter().collect();
    for id in plan.steps.iter().map(|step| step.component) {
        let component = &workspace.components[id];
        let Some(hook) = &component.post_hook else { continue };
        let message =
            format!("runs after the build of '{}', and Bake runs no hooks", component.name);
        if plan.steps.iter().any(|step| step.received.contains(&id)) {
            let message =
                format!("{message}: what it writes for other components would be missing");
            problems.push(Problem::of_file(hook.to_string(), message));
        } else {
            ctx.events.send(Event::Warning(Problem::of_file(hook.to_string(), message)));
        }
    }
    Ok(Problems::check(problems)?)
}

/// A folder in a context would be part of it, also if a link leads there.
fn problem_of_place(workspace: &Workspace, folder: &Path) -> Option<Problem> {
    let place = real(folder);
    let is_in = |dir: &&str| place.starts_with(real(&workspace.root.join(dir)));
    let mut contexts = workspace.images().flat_map(|(id, image)| {
        let named = image.named_folders().map(|(_, folder)| folder);
        named.chain([image.context.as_str(), workspace.components[id].dir.as_str()])
    });
    let context = match contexts.find(is_in)? {
        "" => ".",
        dir => dir,
    };
    let message = format!("is in the context {context}, and would be sent: name another folder");
    let shown = folder.strip_prefix(&workspace.root).unwrap_or(folder);
    Some(Problem::of_file(shown.display().to_string(), message))
}

/// Where a path leads, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let mut ancestors = path.ancestors();
    let found = ancestors.find_map(|above| Some((above, above.canonicalize().ok()?)));
    let Some((above, real)) = found else { return path.to_owned() };
    path.strip_prefix(above).map_or_else(|_| real.clone(), |rest| real.join(rest))
}
