//! The documents that commands print or write: plans, contexts, timings and graphs.

pub(crate) mod config;
pub(crate) mod context;
pub(crate) mod doctor;
pub(crate) mod graph;
pub(crate) mod list;
pub(crate) mod lock;
pub(crate) mod plan;
pub(crate) mod sanitize;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod timings;
pub(crate) mod why;
