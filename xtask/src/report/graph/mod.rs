//! The dependency graph in all formats.

mod dot;
pub(crate) mod draw;
mod json;
mod layout;
mod matrix;
mod mermaid;
mod node_style;
mod page;
pub(crate) mod simulation;
mod svg;
mod tree;
