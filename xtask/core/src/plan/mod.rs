//! The dependency graph, and what a command builds in which order.

pub mod graph;
pub mod schedule;
pub mod simulation;
pub mod steps;
