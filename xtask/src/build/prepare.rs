//! The preparation of a round: reads the workspace and its files, computes the plan, and lists
//! the engine's images.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rayon::prelude::*;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use xtask_core::context::tree::bytes_digested;
use xtask_core::context::tree_cache::TreeCache;
use xtask_core::ids::ComponentId;
use xtask_core::plan::graph::Graph;
use xtask_core::plan::steps::Plan;
use xtask_core::problem::{Problem, Problems};
use xtask_core::staleness::engine_images::EngineImages;
use xtask_core::workspace::components::{Workspace, WorkspaceOptions};
use xtask_core::workspace::config::Config;
use xtask_core::workspace::config::overrides::Overrides;
use xtask_core::workspace::registry_config::RegistryConfig;
use xtask_core::workspace::selection::Selected;

use crate::build::cancel::Cancellation;
use crate::build::hook_activity::HookActivity;
use crate::build::inventory;
use crate::build::options::{BuildOptions, Scope};
use crate::build::reading;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::engine::{Engine, EngineError};
use crate::event::Event;
use crate::event_channel::Events;
use crate::system::records::read_memory;
use crate::system::temp_dirs::TempDirs;
use crate::system::{git, hook_outputs, process_group, state};

/// The time after which the user is informed that the workspace is still being read.
const SLOW_READ: Duration = Duration::from_secs(2);

/// Reads the workspace while connecting to the engine. Errors in files take precedence over
/// those of the engine.
pub(crate) async fn get_ready<E: Engine>(
    engine: impl Future<Output = Result<E, EngineError>>,
    scope: &Scope,
    options: &BuildOptions,
    registry: Option<&RegistryConfig>,
    is_preview: bool,
    ctx: &CommandContext,
) -> Result<(Prepared, E, EngineImages), CommandError> {
    let (send_names, names) = oneshot::channel();
    let connect = async {
        let engine = engine.await?;
        let engine_images = inventory::list_or_inspect(&engine, &ctx.root, names).await?;
        Ok::<_, EngineError>((engine, engine_images))
    };
    let preparing = prepare(scope, options.keep_going, registry, is_preview, ctx, send_names);
    let both = async { tokio::try_join!(preparing, async { Ok(connect.await) }) };
    let (prepared, connected) = ctx.unless_interrupted(Box::pin(both)).await?;
    let (engine, engine_images) = connected?;
    Ok((prepared, engine, engine_images))
}

/// Refuses what the engine cannot do, before anything is built.
pub(crate) async fn check_settings<E: Engine>(
    prepared: &Prepared,
    engine: &E,
) -> Result<(), CommandError> {
    let Prepared { workspace, plan, .. } = prepared;
    let mut problems = Vec::new();
    for component in plan.steps.iter().map(|step| &workspace.components[step.component]) {
        for image in &component.images {
            match engine.check_settings(&image.settings).await {
                Ok(()) => {}
                Err(EngineError::Endpoint(message)) => {
                    let message = format!("image '{}': {message}", image.name);
                    problems.push(Problem::of_file(&image.dockerfile, message));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(Problems::check(problems)?)
}

/// The part of a round that does not depend on the engine.
pub(crate) struct Prepared {
    pub(crate) workspace: Arc<Workspace>,
    /// How the workspace was read.
    pub(crate) reading: WorkspaceOptions,
    pub(crate) plan: Plan,
    pub(crate) trees: Arc<TreeCache>,
    pub(crate) cancellation: Cancellation,
    pub(crate) hook_activity: HookActivity,
    pub(crate) temp_dirs: RefCell<TempDirs>,
    /// The components whose hooks run even if the hook cache has what they would come to.
    pub(crate) distrusted: BTreeSet<ComponentId>,
}

/// Reads the workspace and the files that the plan needs. The `names` of its images are sent
/// as soon as they are known.
async fn prepare(
    scope: &Scope,
    keep_going: bool,
    registry: Option<&RegistryConfig>,
    is_preview: bool,
    ctx: &CommandContext,
    names: oneshot::Sender<BTreeSet<String>>,
) -> Result<Prepared, CommandError> {
    let root = ctx.root.clone();
    let memory = tokio::task::spawn_blocking(move || read_memory(&root));
    let root = ctx.root.clone();
    // The command ends when all senders of its events are dropped. The thread has a channel of its
    // own, because it may hang on a file that cannot be read.
    let (sender, mut thread_events) = mpsc::unbounded_channel();
    let events = Events::new(sender);
    let (scope, registry) = (scope.clone(), registry.cloned());
    let interrupt = ctx.interrupt.clone();
    let preparing = tokio::task::spawn_blocking(move || {
        let ScopedWorkspace { workspace, graph, selected, reading } =
            read_scope(&root, &scope, registry.as_ref(), &events)?;
        let selected = selected.map(|selected| selected.components);
        let plan = Plan::new(&workspace, &graph, selected.as_ref());
        let needed = match &selected {
            Some(selected) => graph.closure(selected),
            None => workspace.components.ids().collect(),
        };
        Problems::check(if keep_going {
            graph.cycles(&needed)
        } else {
            graph.problems(&workspace, &needed)
        })?;
        drop(names.send(plan.image_names(&workspace)));
        let mut temp_dirs = TempDirs::read(&workspace.root);
        temp_dirs.check(&workspace, &plan.components_read())?;
        if !is_preview {
            remove_leftovers(&mut temp_dirs, &events)?;
        }
        let memory = Handle::current().block_on(memory).unwrap_or_default();
        // A preview leaves the folders of a killed build where they are; the next build removes
        // them first.
        let trees =
            TreeCache::new(&workspace.root, memory).without_temporary(temp_dirs.made().clone());
        let trees = Arc::new(trees);
        trees.set_components(&workspace);
        hook_outputs::load(&workspace, &trees);
        read_contexts(&workspace, &plan, &trees, &events);
        Ok(Prepared {
            workspace: Arc::new(workspace),
            reading,
            plan,
            trees,
            cancellation: Cancellation::new(interrupt),
            hook_activity: HookActivity::new(BTreeSet::new()),
            temp_dirs: RefCell::new(temp_dirs),
            distrusted: BTreeSet::new(),
        })
    });
    let (slow_read, mut is_reported) = (tokio::time::sleep(SLOW_READ), false);
    let progress = reading::report(None, &ctx.events);
    tokio::pin!(slow_read, progress);
    loop {
        tokio::select! {
            received = thread_events.recv() => match received {
                Some(received) => ctx.events.send(received.event),
                None => break,
            },
            never = &mut progress => never,
            () = &mut slow_read, if !is_reported => {
                is_reported = true;
                if bytes_digested() > 0 {
                    continue;
                }
                let what = "the workspace's files to be read, and for git".to_owned();
                ctx.events.send(Event::WaitingFor { what });
            }
        }
    }
    preparing.await.map_err(|error| Problems::from(Problem::of_request(error.to_string())))?
}

/// Removes the temporary folders of a killed round. Returns the folders of their components.
pub(crate) fn remove_leftovers(
    temp_dirs: &mut TempDirs,
    events: &Events,
) -> Result<BTreeSet<String>, CommandError> {
    if process_group::end_left(temp_dirs.root()) > 0 {
        let message = "hooks of a killed build were still running: they were ended";
        events.send(Event::Warning(Problem::of_request(message)));
    }
    for warning in temp_dirs.keep_leftovers() {
        events.send(Event::Warning(warning));
    }
    let removed = temp_dirs.remove_leftovers();
    if let Err(error) = temp_dirs.save() {
        events.send(Event::Warning(state::unwritable(&error)));
    }
    removed.map_err(CommandError::Unclean)
}

/// Reads the contexts of all steps in parallel, so that the steps find them in the cache.
/// Unreadable files are reported by the steps.
pub(crate) fn read_contexts(
    workspace: &Workspace,
    plan: &Plan,
    trees: &TreeCache,
    events: &Events,
) {
    let mut specs = Vec::new();
    for step in &plan.steps {
        let component = &workspace.components[step.component];
        let is_read = component.problems.is_empty() && !component.has_hooks();
        for image in component.images.iter().filter(|_| is_read) {
            specs.push(step.context_spec(workspace, image, &BTreeMap::new()));
        }
    }
    specs.par_iter().for_each(|spec| drop(trees.context(spec)));
    for warning in trees.warnings() {
        events.send(Event::Warning(warning));
    }
}

/// A workspace, and what of it a command is about.
pub(crate) struct ScopedWorkspace {
    pub(crate) workspace: Workspace,
    pub(crate) graph: Graph,
    /// `None` for all.
    pub(crate) selected: Option<Selected>,
    /// How the workspace was read: with image options for what is selected alone.
    pub(crate) reading: WorkspaceOptions,
}

/// Reads the whole workspace, and what of it is selected.
///
/// Image options are for what is selected, which is known only once the workspace is read: with
/// such options it is read a second time.
pub(crate) fn read_scope(
    root: &Path,
    scope: &Scope,
    registry: Option<&RegistryConfig>,
    events: &Events,
) -> Result<ScopedWorkspace, CommandError> {
    let Scope { reading, selection } = scope;
    let plain = WorkspaceOptions { overrides: Overrides::default(), ..reading.clone() };
    if reading.overrides.is_empty() {
        let (workspace, graph) = read_workspace(root, &plain, registry, events)?;
        let selected = selection.find(&workspace, &graph)?;
        return Ok(ScopedWorkspace { workspace, graph, selected, reading: plain });
    }
    let mut problems = Vec::new();
    let (workspace, graph) = read_all(root, &plain, registry, &mut problems);
    let selected = match selection.find(&workspace, &graph) {
        Ok(selected) => selected,
        // Nothing can be found in what cannot be read.
        Err(error) => return Err(Problems::check(problems).err().map_or(error, Into::into)),
    };
    let images = selected.as_ref().map(|selected| &selected.images);
    let meant = images.filter(|_| selection.is_named());
    Problems::check(workspace.unused_options(&reading.overrides, meant))?;
    let mut overrides = reading.overrides.clone();
    if let Some(images) = images {
        overrides = overrides.only_for(images.clone());
    }
    let reading = WorkspaceOptions { overrides, ..plain };
    let (workspace, graph) = read_workspace(root, &reading, registry, events)?;
    for warning in workspace.unused_mounts(&reading.overrides, meant) {
        events.send(Event::Warning(warning));
    }
    Ok(ScopedWorkspace { workspace, graph, selected, reading })
}

/// Reads the whole workspace. What is wrong with one component is among its problems.
pub(crate) fn read_workspace(
    root: &Path,
    options: &WorkspaceOptions,
    registry: Option<&RegistryConfig>,
    events: &Events,
) -> Result<(Workspace, Graph), Problems> {
    let mut problems = Vec::new();
    let (workspace, graph) = read_all(root, options, registry, &mut problems);
    for warning in &workspace.warnings {
        events.send(Event::Warning(warning.clone()));
    }
    if !problems.is_empty() {
        problems.extend(graph.problems(&workspace, &workspace.components.ids().collect()));
    }
    Problems::check(problems).map(|()| (workspace, graph))
}

/// The same, with what concerns no component alone in `problems`.
fn read_all(
    root: &Path,
    options: &WorkspaceOptions,
    registry: Option<&RegistryConfig>,
    problems: &mut Vec<Problem>,
) -> (Workspace, Graph) {
    let mut options = options.clone();
    if options.facts.branch.is_none() && Config::needs_branch(root, &options.facts) {
        options.facts.branch = git::branch(root).unwrap_or_default();
    }
    let options = &options;
    let mut workspace = Workspace::read(root, options, problems);
    let named = registry.map(RegistryConfig::names);
    workspace.find_local_images(named.as_ref(), options.tag.as_deref());
    let graph = Graph::resolve(&mut workspace);
    problems.extend(workspace.group_problems());
    (workspace, graph)
}
