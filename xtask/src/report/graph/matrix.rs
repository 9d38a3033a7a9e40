//! The levels of the graph, for CI systems that fan out over runners: the components of a level
//! need only those of the levels before it.
//!
//! It is one line of JSON, since outputs of CI jobs are lines. With `--stale` only components are in
//! it that a build would build, with `--since` only those that a change reaches; their order is that
//! of the whole graph.

use serde_json::Value;

use crate::commands::graph::{Chart, Node};
use crate::report::graph::node_style::Staleness;

pub(crate) fn draw(chart: &Chart) -> String {
    let mut known = vec![None; chart.nodes.len()];
    let mut levels: Vec<Vec<&str>> = Vec::new();
    for (index, node) in chart.nodes.iter().enumerate() {
        let level = level(chart, index, &mut known);
        if !node.images().is_empty() && is_built(chart, node) {
            levels.resize(levels.len().max(level + 1), Vec::new());
            levels[level].push(&node.name);
        }
    }
    levels.retain(|level| !level.is_empty());
    Value::from(levels).to_string() + "\n"
}

/// Whether a build would build it, as far as was asked.
fn is_built(chart: &Chart, node: &Node) -> bool {
    let is_stale = Staleness::of(node).is_none_or(|it| it != Staleness::UpToDate);
    is_stale && (!chart.is_marked || node.mark.is_some())
}

/// The length of the longest path below a node.
fn level(chart: &Chart, index: usize, known: &mut [Option<usize>]) -> usize {
    if let Some(level) = known[index] {
        return level;
    }
    let below = chart.dependencies(index);
    let below = below.into_iter().map(|needed| level(chart, needed, known) + 1);
    let level = below.max().unwrap_or_default();
    known[index] = Some(level);
    level
}
