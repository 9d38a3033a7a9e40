//! Documents that commands print or write: plans, contexts, timings, the graph.

pub(crate) mod context;
pub(crate) mod graph;
pub(crate) mod plan;
pub(crate) mod timings;
