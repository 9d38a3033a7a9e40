//! Who depends on whom, what a command will build, and in which order.

pub mod graph;
pub mod schedule;
pub mod steps;
