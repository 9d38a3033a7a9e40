//! What reaches outside the process: the engine, registries, hooks, the tree's
//! temporary folders, the lock, signals.
//!
//! Effects do what they are told and report on the event channel; what is to be
//! done is decided in the core and told by the commands.

pub mod engine;
pub mod follow_up;
pub mod git;
pub mod hook_outputs;
pub mod hooks;
pub mod interrupt;
pub(crate) mod lines;
pub mod lock;
mod poller;
pub mod records;
pub mod state;
pub mod store;
pub mod temporary;
pub mod watcher;
