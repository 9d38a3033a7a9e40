//! What a build will do, in order.
//!
//! A plan is worked out before anything runs, from the graph alone: which
//! components take part, in which order, and where each gets its dependencies.

use std::collections::BTreeSet;

use super::graph::Graph;
use super::workspace::Workspace;

/// The steps of one round.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// In build order.
    pub steps: Vec<Step>,
}

/// One component's part of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The component's place in the workspace.
    pub component: usize,
    /// The places of its images, in build order.
    pub images: Vec<usize>,
    /// The components whose folders it gets under `dependency/`.
    pub dependencies: Vec<usize>,
}

impl Plan {
    /// A plan for `selected` and what they need; for everything if none is selected.
    pub fn new(workspace: &Workspace, graph: &Graph, selected: &BTreeSet<usize>) -> Self {
        let wanted = if selected.is_empty() {
            (0..workspace.components.len()).collect()
        } else {
            graph.closure(selected)
        };
        let steps = graph
            .order()
            .iter()
            .filter(|component| wanted.contains(component))
            .filter(|component| workspace.components[**component].builds())
            .map(|&component| Step {
                component,
                images: graph.images(component).to_vec(),
                dependencies: graph.dependencies(component).into_iter().collect(),
            })
            .collect();
        Self { steps }
    }
}
