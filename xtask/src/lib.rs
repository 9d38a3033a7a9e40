//! Builds and pushes a repository's inter-dependent container images.
//!
//! The layers, each importing only from those below it:
//!
//! - [`shell`]: the command line, the terminal, exit codes;
//! - [`commands`]: each a short story told in calls to the layers below;
//! - [`effects`]: the engine, hooks, temporary folders, the lock, signals;
//! - [`core`]: the workspace, its graph and the plan, deterministic.
//!
//! Data runs one way: files → workspace → graph → plan → round → [`event`]s → ui.

pub mod commands;
pub mod core;
pub mod effects;
pub mod event;
pub mod shell;
