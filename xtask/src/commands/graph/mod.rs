//! `graph`: what there is, and who needs whom.
//!
//! The graph itself is known from files alone. How a component is, the engine says,
//! and how long it took, the records of earlier rounds: both are asked only if
//! somebody wants to see them.

mod chart;

use std::collections::BTreeSet;
use std::path::PathBuf;

use xtask_core::plan::graph::{Direction, Graph};
use xtask_core::problem::{Problem, Problems};
use xtask_core::workspace::components::{Workspace, WorkspaceOptions};
use xtask_core::workspace::registry_config::RegistryConfig;

use crate::build::changed_since;
use crate::build::options::BuildOptions;
use crate::build::prepare::read_workspace;
use crate::build::run as build;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::event::Events;
use crate::system::records::Records;

pub use chart::{Chart, ChartImage, Content, Link, Mark, Node};

/// What to draw.
#[derive(Clone, Debug, Default)]
pub struct GraphOptions {
    /// The folder of `services-configuration.yaml`.
    pub config_dir: Option<PathBuf>,
    /// How Dockerfiles are read.
    pub reading: WorkspaceOptions,
    /// The components to begin with; all if empty.
    pub components: Vec<String>,
    /// Follow who needs them, not what they need.
    pub dependents: bool,
    /// Follow so many steps only.
    pub depth: Option<usize>,
    /// Only what lies on a way from one of two components to the other.
    pub between: Option<[String; 2]>,
    /// The images of others too.
    pub external: bool,
    /// Ask the engine what is stale.
    pub stale: bool,
    /// How long components took the last time, and the critical path by that.
    pub durations: bool,
    /// Mark what changed since this git revision, and what that reaches.
    pub since: Option<String>,
}

/// Finds out what is to be drawn.
pub async fn run(options: &GraphOptions, ctx: &CommandContext) -> Result<Chart, CommandError> {
    let registry = options.config_dir.as_deref().map(RegistryConfig::read).transpose()?;
    // With the engine asked, everything is read once more, and warned of then.
    let events = if options.stale { Events::unheard() } else { ctx.events.clone() };
    let (workspace, graph) =
        read_workspace(&ctx.root, &options.reading, registry.as_ref(), &events)?;
    let choice = choose(&workspace, &graph, options)?;
    let named = registry.as_ref().map(RegistryConfig::names);
    let mut chart = Chart::new(&workspace, &graph, &choice);
    if options.external {
        chart.add_external(&workspace, &choice, named.as_ref());
    }
    if let Some(revision) = &options.since {
        let changed = changed_since::changed(&workspace, revision)?;
        chart.mark(&workspace, &changed, &graph.dependents(&changed));
    }
    if options.durations {
        chart.add_durations(&Records::read(&ctx.root));
    }
    if options.stale {
        let build = BuildOptions {
            config_dir: options.config_dir.clone(),
            reading: options.reading.clone(),
            components: chart.components().map(str::to_owned).collect(),
            dry_run: true,
            ..BuildOptions::default()
        };
        let engine = ctx.engine();
        chart.add_states(build::preview(engine, &build, ctx).await?);
    }
    Ok(chart)
}

/// What somebody wants to see of a graph.
#[derive(Debug)]
pub(crate) struct Choice {
    /// What was named; nothing for everything.
    named: BTreeSet<usize>,
    /// All that is shown.
    shown: BTreeSet<usize>,
    direction: Direction,
}

fn choose(
    workspace: &Workspace,
    graph: &Graph,
    options: &GraphOptions,
) -> Result<Choice, Problems> {
    if let Some([one, other]) = &options.between {
        return between(workspace, graph, one, other);
    }
    let direction =
        if options.dependents { Direction::Dependents } else { Direction::Dependencies };
    let named = workspace.find_all(&options.components)?;
    let all = 0..workspace.components.len();
    let starts = if named.is_empty() {
        all.filter(|place| graph.next(*place, direction.reversed()).is_empty()).collect()
    } else {
        named.clone()
    };
    let shown = graph.reach(&starts, direction, options.depth.unwrap_or(usize::MAX));
    Ok(Choice { named, shown, direction })
}

fn between(
    workspace: &Workspace,
    graph: &Graph,
    one: &str,
    other: &str,
) -> Result<Choice, Problems> {
    let find = |name: &str| workspace.find_all(&[name.to_owned()]);
    let ends = [find(one)?, find(other)?];
    let way = |from: &BTreeSet<usize>, to: &BTreeSet<usize>| -> BTreeSet<usize> {
        graph.closure(from).intersection(&graph.dependents(to)).copied().collect()
    };
    let [first, second] = &ends;
    for (from, to) in [(first, second), (second, first)] {
        let shown = way(from, to);
        if !shown.is_empty() {
            let direction = Direction::Dependencies;
            return Ok(Choice { named: from.clone(), shown, direction });
        }
    }
    let message = format!(
        "--between: neither does '{one}' need '{other}', nor '{other}' '{one}': 'graph -s {one}' \
         shows what it needs"
    );
    Err(Problem::of_request(message).into())
}
