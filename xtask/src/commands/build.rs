//! `build`: makes the images of the workspace, or of some components and what
//! they need.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rayon::prelude::*;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::aim::Aim;
use super::ask;
use super::live::Live;
use super::round::Round;
use super::{CommandError, Setting, read_workspace, since};
use crate::core::config::RegistryConfig;
use crate::core::graph::Graph;
use crate::core::holdings::Holdings;
use crate::core::plan::Plan;
use crate::core::problem::{Problem, Problems};
use crate::core::trees::Trees;
use crate::core::workspace::{Options, Workspace};
use crate::effects::engine::{Engine, EngineError};
use crate::effects::records::{Records, read_memory};
use crate::effects::temporary::TemporaryFolders;
use crate::effects::{hook_outputs, state};
use crate::event::{Event, Events, PlannedStep};

/// What to build and how.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// The folder of `services-configuration.yaml`; without it images are ours
    /// under their plain names only.
    pub config_dir: Option<PathBuf>,
    /// How Dockerfiles are read.
    pub reading: Options,
    /// The components to build, with what they need; all if empty.
    pub components: Vec<String>,
    /// Only the components that changed since this git revision, and their
    /// dependents, with what they need.
    pub since: Option<String>,
    /// Build what is named even if it is up to date.
    pub force: bool,
    /// Run every instruction again.
    pub no_cache: bool,
    /// Ask the registries for newer external base images.
    pub pull: bool,
    /// Only the components that did not succeed in the last round that tried them,
    /// with what they need.
    pub failed: bool,
    /// How many parts of steps run at a time; as many as the engine has CPUs if not
    /// given.
    pub jobs: Option<usize>,
    /// After a failure, go on with what does not depend on it.
    pub keep_going: bool,
    /// Tell what would be done, and do nothing.
    pub dry_run: bool,
}

/// After so long it is said that the workspace is still being read.
const PATIENCE: Duration = Duration::from_secs(2);

/// Builds in dependency order and leaves the tree as it was.
pub async fn run(options: &BuildOptions, setting: &Setting) -> Result<(), CommandError> {
    let engine = setting.engine();
    run_with(engine, options, Aim::Build, setting).await
}

/// Builds with an engine that is still to answer.
pub async fn run_with<E: Engine>(
    engine: impl Future<Output = Result<E, EngineError>>,
    options: &BuildOptions,
    aim: Aim<'_>,
    setting: &Setting,
) -> Result<(), CommandError> {
    let registry = options.config_dir.as_deref().map(RegistryConfig::read).transpose()?;
    let _lock = setting.lock("build").await?;
    let (prepared, engine, holdings) =
        get_ready(engine, options, registry.as_ref(), setting).await?;
    let round = Round::new(&prepared, &engine, holdings, registry.as_ref(), options, aim, setting);
    let ended = if options.dry_run {
        setting.unless_interrupted(Box::pin(round.tell())).await
    } else {
        round.run().await
    };
    drop(round);
    // Nobody should wait until a hundred thousand paths are freed.
    tokio::task::spawn_blocking(move || drop(prepared));
    ended
}

/// What would be done with each component, in build order.
pub(super) async fn preview<E: Engine>(
    engine: impl Future<Output = Result<E, EngineError>>,
    options: &BuildOptions,
    setting: &Setting,
) -> Result<Vec<PlannedStep>, CommandError> {
    let _lock = setting.lock("graph").await?;
    preview_locked(engine, options, setting).await
}

/// The same in a workspace that is locked.
pub(super) async fn preview_locked<E: Engine>(
    engine: impl Future<Output = Result<E, EngineError>>,
    options: &BuildOptions,
    setting: &Setting,
) -> Result<Vec<PlannedStep>, CommandError> {
    let registry = options.config_dir.as_deref().map(RegistryConfig::read).transpose()?;
    let (prepared, engine, holdings) =
        get_ready(engine, options, registry.as_ref(), setting).await?;
    let round =
        Round::new(&prepared, &engine, holdings, registry.as_ref(), options, Aim::Build, setting);
    setting.unless_interrupted(Box::pin(round.preview())).await
}

/// Reads the workspace while the engine answers; what is wrong with files goes first.
async fn get_ready<E: Engine>(
    engine: impl Future<Output = Result<E, EngineError>>,
    options: &BuildOptions,
    registry: Option<&RegistryConfig>,
    setting: &Setting,
) -> Result<(Prepared, E, Holdings), CommandError> {
    let (send_names, names) = oneshot::channel();
    let ask = async {
        let engine = engine.await?;
        let holdings = ask::ask(&engine, names).await?;
        Ok::<_, EngineError>((engine, holdings))
    };
    let preparing = prepare(options, registry, setting, send_names);
    let both = async { tokio::try_join!(preparing, async { Ok(ask.await) }) };
    let (prepared, asked) = setting.unless_interrupted(Box::pin(both)).await?;
    let (engine, holdings) = asked?;
    Ok((prepared, engine, holdings))
}

/// All that is known without the engine.
pub(super) struct Prepared {
    pub(super) workspace: Arc<Workspace>,
    pub(super) plan: Plan,
    pub(super) trees: Arc<Trees>,
    pub(super) live: Live,
    pub(super) temporary_folders: RefCell<TemporaryFolders>,
}

/// Judges the workspace and reads what the plan will need. The `names` of its images are
/// told as soon as they are known.
async fn prepare(
    options: &BuildOptions,
    registry: Option<&RegistryConfig>,
    setting: &Setting,
    names: oneshot::Sender<BTreeSet<String>>,
) -> Result<Prepared, CommandError> {
    let root = setting.root.clone();
    let memory = tokio::task::spawn_blocking(move || read_memory(&root));
    let root = setting.root.clone();
    // What holds the events of a command keeps it from its end, and this may be left alone
    // with a file that cannot be read.
    let (sender, mut said) = mpsc::unbounded_channel();
    let events = Events::new(sender);
    let (options, registry) = (options.clone(), registry.cloned());
    let preparing = tokio::task::spawn_blocking(move || {
        let (workspace, graph) =
            read_workspace(&root, &options.reading, registry.as_ref(), &events)?;
        let selected = select(&workspace, &graph, &options)?;
        let plan = Plan::new(&workspace, &graph, selected.as_ref());
        let named = registry.as_ref().map(RegistryConfig::names);
        drop(names.send(plan.names(&workspace, named.as_ref())));
        let mut folders = TemporaryFolders::read(&workspace.root);
        folders.check(&workspace, &plan.taking_part())?;
        if !options.dry_run {
            remove_leftovers(&mut folders, &events)?;
        }
        let memory = Handle::current().block_on(memory).unwrap_or_default();
        // A dry run leaves them to the next build, which removes them first.
        let trees = Trees::new(&workspace.root, memory).without_temporary(folders.made().clone());
        let trees = Arc::new(trees);
        hook_outputs::load(&workspace, &trees);
        look_around(&workspace, &plan, &trees, &events);
        Ok(Prepared {
            workspace: Arc::new(workspace),
            plan,
            trees,
            live: Live::new(BTreeSet::new()),
            temporary_folders: RefCell::new(folders),
        })
    });
    let (patience, mut is_said) = (tokio::time::sleep(PATIENCE), false);
    tokio::pin!(patience);
    loop {
        tokio::select! {
            event = said.recv() => match event {
                Some(event) => setting.events.send(event),
                None => break,
            },
            () = &mut patience, if !is_said => {
                is_said = true;
                let what = "the workspace's files to be read, and for git".to_owned();
                setting.events.send(Event::WaitingFor { what });
            }
        }
    }
    preparing.await.map_err(|error| Problems::from(Problem::of_request(error.to_string())))?
}

/// Removes what a round that was killed left behind. Gives the components' folders that it
/// was in.
pub(super) fn remove_leftovers(
    folders: &mut TemporaryFolders,
    events: &Events,
) -> Result<BTreeSet<String>, CommandError> {
    for warning in folders.keep_leftovers() {
        events.send(Event::Warning(warning));
    }
    let removed = folders.remove_leftovers();
    if let Err(error) = folders.save() {
        events.send(Event::Warning(state::unwritable(&error)));
    }
    removed.map_err(CommandError::Unclean)
}

/// Walks and reads, on all cores, what the steps will look at one by one. What
/// cannot be read is reported when its turn comes.
pub(super) fn look_around(workspace: &Workspace, plan: &Plan, trees: &Trees, events: &Events) {
    let mut selections = Vec::new();
    for step in &plan.steps {
        let component = &workspace.components[step.component];
        for image in component.images.iter().filter(|_| !component.has_hooks()) {
            selections.push(step.selection(workspace, image, &BTreeMap::new()));
        }
    }
    selections.par_iter().for_each(|selection| drop(trees.context(selection)));
    for warning in trees.warnings() {
        events.send(Event::Warning(warning));
    }
}

/// What the user named; none for everything.
fn select(
    workspace: &Workspace,
    graph: &Graph,
    options: &BuildOptions,
) -> Result<Option<BTreeSet<usize>>, CommandError> {
    if let Some(revision) = &options.since {
        let changed = since::changed(workspace, revision)?;
        return Ok(Some(graph.dependents(&changed)));
    }
    if options.failed {
        let unfinished = Records::read(&workspace.root);
        let is_unfinished =
            |place: &usize| unfinished.is_unfinished(&workspace.components[*place].name);
        return Ok(Some((0..workspace.components.len()).filter(is_unfinished).collect()));
    }
    let named = workspace.find_all(&options.components)?;
    Ok((!named.is_empty()).then_some(named))
}
