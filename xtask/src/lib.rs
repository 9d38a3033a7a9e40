//! Builds and pushes a repository's interdependent container images.
//!
//! The rooms, each importing only from those below it:
//!
//! - `cli`, `ui`, `report`: the command line, what people see, documents;
//! - [`commands`]: one file each, a short story told in calls to the rooms below;
//! - [`build`]: the machine that runs a plan;
//! - `registry`: a registry's API; [`engine`]: the Docker Engine API; [`system`]: hooks, git, the watched file system,
//!   the lock, signals, the tool's own state;
//! - [`event`]: what happens, as values on a channel;
//! - [`xtask_core`], a crate of its own: the workspace, its Dockerfiles, contexts, plan and
//!   fingerprints, deterministic.
//!
//! Data runs one way: files → workspace → graph → plan → executor → [`event`]s → ui.

pub mod build;
mod cli;
pub mod command_context;
pub mod command_error;
pub mod commands;
pub mod engine;
pub mod event;
pub mod event_channel;
pub mod outcome;
mod program;
mod quantity;
mod registry;
mod report;
pub mod system;
mod ui;

pub use cli::run::{main, run};
