//! Selects the components of the graph that are shown.

use std::collections::BTreeSet;

use xtask_core::ids::ComponentId;
use xtask_core::plan::graph::{Direction, Graph};
use xtask_core::problem::{Problem, Problems};
use xtask_core::workspace::components::Workspace;

use crate::commands::graph::options::GraphOptions;
use crate::program;

/// The part of a graph that is shown.
#[derive(Debug)]
pub(crate) struct Choice {
    /// The components that the user selected; empty for all.
    pub(crate) named: BTreeSet<ComponentId>,
    pub(crate) shown: BTreeSet<ComponentId>,
    pub(crate) direction: Direction,
}

pub(crate) fn choose(
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
    let starts = if named.is_empty() {
        let all: BTreeSet<_> = workspace.components.ids().collect();
        // What is on a cycle has dependents, so none of it is a start.
        Problems::check(graph.cycles(&all))?;
        all.into_iter().filter(|id| graph.neighbors(*id, direction.reversed()).is_empty()).collect()
    } else {
        named.clone()
    };
    let shown = graph.reachable(&starts, direction, options.depth.unwrap_or(usize::MAX));
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
    let [first, second] = &ends;
    for (from, to) in [(first, second), (second, first)] {
        let shown: BTreeSet<_> =
            graph.closure(from).intersection(&graph.dependents(to)).copied().collect();
        if !shown.is_empty() {
            let direction = Direction::Dependencies;
            return Ok(Choice { named: from.clone(), shown, direction });
        }
    }
    let message = format!(
        "--between: '{one}' and '{other}' do not depend on each other: run '{} graph -s {one}' to \
         see the dependencies of '{one}'",
        program::name()
    );
    Err(Problem::of_request(message).into())
}
