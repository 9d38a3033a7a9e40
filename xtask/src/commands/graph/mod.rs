//! `graph`: shows the dependency graph.
//!
//! The graph is computed from files alone. The states of components require the engine, and
//! their build times are read from the records of earlier rounds, both only on request.

mod chart;
mod choice;
mod options;
pub(crate) mod simulation;

use xtask_core::problem::Problems;

use crate::build::changed_since;
use crate::build::options::{BuildOptions, Scope};
use crate::build::prepare::read_workspace;
use crate::build::run as build;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::event::Event;
use crate::event_channel::Events;
use crate::system::records::Records;

use choice::choose;

pub(crate) use chart::{Chart, ChartImage, Content, Link, Mark, Node};
pub(crate) use options::GraphOptions;
pub(crate) use simulation::{Row, SimulatedWorkers, Simulation};

pub(crate) async fn run(
    options: &GraphOptions,
    ctx: &CommandContext,
) -> Result<Chart, CommandError> {
    let registry = options.reading.registry()?;
    // With --stale the dry run reads the workspace again, and sends the same warnings.
    let events = if options.stale { Events::unread() } else { ctx.events.clone() };
    let (workspace, graph) =
        read_workspace(&ctx.root, &options.reading, registry.as_ref(), &events)?;
    let choice = choose(&workspace, &graph, options)?;
    Problems::check(graph.cycles(&choice.shown))?;
    for problem in graph.problems(&workspace, &choice.shown) {
        ctx.events.send(Event::Warning(problem));
    }
    let mut chart = Chart::new(&workspace, &graph, &choice);
    if options.external {
        chart.add_external(&workspace, &choice);
    }
    if let Some(revision) = &options.since {
        let changed = changed_since::changed(&workspace, revision)?;
        chart.mark(&workspace, &changed, &graph.dependents(&changed));
    }
    if options.durations {
        chart.add_durations(&Records::read(&ctx.root, ""));
    }
    if options.stale {
        let shown: Vec<String> = chart.components().map(str::to_owned).collect();
        let scope = Scope { reading: options.reading.clone(), selection: shown.into() };
        let how = BuildOptions { keep_going: true, ..BuildOptions::default() };
        chart.add_states(
            build::preview_if_unreachable(ctx.engine(), &scope, &how, "graph", ctx).await?,
        );
    }
    Ok(chart)
}
