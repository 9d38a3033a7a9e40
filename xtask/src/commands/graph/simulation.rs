//! `graph --simulate`: how long a build of everything would take with other workers, from the
//! durations on record and the sizes of the images in the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use xtask_core::dockerfile::parser::Via;
use xtask_core::ids::{ComponentId, IdVec, TaskId};
use xtask_core::plan::graph::{EdgeKind, Graph};
use xtask_core::plan::schedule::critical_path;
use xtask_core::plan::simulation::{Simulated, Work, Workers, simulate};
use xtask_core::problem::{Problem, Problems};
use xtask_core::workspace::components::{Image, Workspace};

use crate::build::prepare::read_workspace;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::commands::graph::choice::choose;
use crate::commands::graph::options::GraphOptions;
use crate::event::Event;
use crate::program;
use crate::system::records::Records;

/// The maximum number of parallel requests to the engine.
const PARALLEL_REQUESTS: usize = 16;

/// The workers to simulate.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedWorkers {
    /// How many: one simulation for each.
    pub(crate) counts: Vec<usize>,
    /// What a machine transfers in a second.
    pub(crate) bytes_per_second: u64,
}

/// What builds of everything would come to.
#[derive(Debug)]
pub(crate) struct Simulation {
    pub(crate) components: usize,
    /// Those that were never built, and count as the median of all.
    pub(crate) never_built: usize,
    /// The duration of all builds, one after the other.
    pub(crate) work: Duration,
    /// The size of all images in bytes; none if the engine could not be asked.
    pub(crate) bytes: Option<u64>,
    pub(crate) bytes_per_second: u64,
    /// The components of which each waits for the one before it, for the longest time.
    pub(crate) critical_path: Vec<String>,
    /// How long these take.
    pub(crate) critical: Duration,
    pub(crate) rows: Vec<Row>,
}

/// What some number of workers comes to.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) workers: usize,
    /// As the jobs of one machine.
    pub(crate) jobs: Simulated,
    /// As machines that share a registry.
    pub(crate) machines: Simulated,
}

pub(crate) async fn run(
    options: &GraphOptions,
    workers: &SimulatedWorkers,
    ctx: &CommandContext,
) -> Result<Simulation, CommandError> {
    let registry = options.reading.registry()?;
    let (workspace, graph) =
        read_workspace(&ctx.root, &options.reading, registry.as_ref(), &ctx.events)?;
    let shown = choose(&workspace, &graph, options)?.shown;
    Problems::check(graph.cycles(&shown))?;
    let builds = |id: &&ComponentId| shown.contains(id) && workspace.components[**id].builds();
    let order: Vec<ComponentId> = graph.order().iter().filter(builds).copied().collect();
    let records = Records::read(&ctx.root, "");
    let name = |id: &ComponentId| workspace.components[*id].name.as_str();
    let never_built = order.iter().filter(|id| records.duration(name(id)).is_none()).count();
    if never_built == order.len() {
        let message = format!(
            "nothing to simulate: no build is on record: run '{} build' first",
            program::name()
        );
        return Err(Problems::from(Problem::of_request(message)).into());
    }
    let sizes = match sizes(&workspace, &order, ctx).await {
        Ok(sizes) => Some(sizes),
        Err(error @ CommandError::Engine(_)) => {
            let message =
                format!("the sizes of the images are unknown, and no transfer counts: {error}");
            ctx.events.send(Event::Warning(Problem::of_request(message)));
            None
        }
        Err(error) => return Err(error),
    };
    let work = work(&workspace, &graph, &order, &records, sizes.as_ref());
    let needs = work.iter().map(|work| work.needs.clone()).collect();
    let takes: IdVec<TaskId, Duration> = work.iter().map(|work| work.takes).collect();
    let (path, critical) = critical_path(&needs, &takes);
    let names: IdVec<TaskId, &str> = order.iter().map(name).collect();
    let bytes_per_second = workers.bytes_per_second;
    let row = |count: &usize| Row {
        workers: *count,
        jobs: simulate(&work, Workers::Jobs(*count)),
        machines: simulate(&work, Workers::Machines { count: *count, bytes_per_second }),
    };
    Ok(Simulation {
        components: order.len(),
        never_built,
        work: takes.iter().sum(),
        bytes: sizes.is_some().then(|| work.iter().map(|work| work.bytes).sum()),
        bytes_per_second,
        critical_path: path.iter().map(|task| names[*task].to_owned()).collect(),
        critical,
        rows: workers.counts.iter().map(row).collect(),
    })
}

/// The sizes of the images that the engine has, by name.
async fn sizes(
    workspace: &Workspace,
    components: &[ComponentId],
    ctx: &CommandContext,
) -> Result<BTreeMap<String, u64>, CommandError> {
    let engine = ctx.engine().await?;
    let images = components.iter().flat_map(|id| &workspace.components[*id].images);
    let requests = images.map(async |image| {
        let details = engine.image_details(&image.name).await?;
        Ok::<_, CommandError>((image.name.clone(), details.map_or(0, |details| details.bytes)))
    });
    let requests = stream::iter(requests).buffer_unordered(PARALLEL_REQUESTS).try_collect();
    ctx.unless_interrupted(Box::pin(requests)).await
}

/// The builds of the components, in `order`.
fn work(
    workspace: &Workspace,
    graph: &Graph,
    order: &[ComponentId],
    records: &Records,
    sizes: Option<&BTreeMap<String, u64>>,
) -> IdVec<TaskId, Work> {
    let tasks: IdVec<TaskId, ComponentId> = order.iter().copied().collect();
    let tasks: BTreeMap<ComponentId, TaskId> =
        tasks.enumerate().map(|(task, id)| (*id, task)).collect();
    let mut uses: BTreeMap<ComponentId, BTreeSet<TaskId>> = BTreeMap::new();
    for (from, to, edge) in graph.edges() {
        if let (EdgeKind::Image(_), Some(used)) = (edge.kind, tasks.get(&to)) {
            uses.entry(from).or_default().insert(*used);
        }
    }
    let median = records.median_duration();
    let build = |id: &ComponentId| {
        let component = &workspace.components[*id];
        let needs = graph.dependencies(*id);
        let own_bytes = |image: &Image| own_bytes(image, sizes?).into();
        Work {
            needs: needs.iter().filter_map(|needed| tasks.get(needed)).copied().collect(),
            uses: uses.remove(id).unwrap_or_default().into_iter().collect(),
            takes: records.duration(&component.name).unwrap_or(median),
            bytes: component.images.iter().filter_map(own_bytes).sum(),
        }
    };
    order.iter().map(build).collect()
}

/// The size of an image without that of the image that it is built from.
fn own_bytes(image: &Image, sizes: &BTreeMap<String, u64>) -> u64 {
    let bases = image.uses.iter().filter(|used| used.via == Via::From);
    let bases = bases.filter_map(|used| sizes.get(used.local.as_deref()?));
    let size = sizes.get(&image.name).copied().unwrap_or_default();
    size - bases.copied().filter(|base| *base <= size).max().unwrap_or_default()
}
