//! The command line, and what becomes of it.

mod candidates;
mod command_line;
mod completion;
mod component_path;
mod environment;
mod examples;
mod export;
mod graph;
mod image_args;
mod lock;
mod man;
pub(crate) mod run;
mod shared_args;
mod trace;
mod watch;
