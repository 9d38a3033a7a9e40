//! Reads a workspace: its components, hooks, declared inputs and registry configuration.

mod checks;
pub mod components;
pub mod config;
pub mod hook;
pub mod hook_script;
pub mod inputs;
pub mod links;
mod local_names;
pub mod proposal;
mod reader;
pub mod registry_config;
pub mod selection;
pub mod strays;
