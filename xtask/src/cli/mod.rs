//! The command line, and what becomes of it.

mod command_line;
mod component_path;
mod graph;
pub(crate) mod run;
mod shared_args;
mod trace;
mod watch;
