//! `graph`: what there is, and who needs whom.
//!
//! The graph itself is known from files alone. How a component is, the engine says,
//! and how long it took, the records of earlier rounds: both are asked only if
//! somebody wants to see them.

mod chart;
mod choice;
mod options;

use xtask_core::workspace::registry_config::RegistryConfig;

use crate::build::changed_since;
use crate::build::options::BuildOptions;
use crate::build::prepare::read_workspace;
use crate::build::run as build;
use crate::command_context::CommandContext;
use crate::command_error::CommandError;
use crate::event_channel::Events;
use crate::system::records::Records;

use choice::choose;

pub use chart::{Chart, ChartImage, Content, Link, Mark, Node};
pub use options::GraphOptions;

/// Finds out what is to be drawn.
pub async fn run(options: &GraphOptions, ctx: &CommandContext) -> Result<Chart, CommandError> {
    let registry = options.config_dir.as_deref().map(RegistryConfig::read).transpose()?;
    // With the engine asked, everything is read once more, and warned of then.
    let events = if options.stale { Events::unread() } else { ctx.events.clone() };
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
