//! Reads a workspace: its components, hooks, declared inputs and registry configuration.

pub mod components;
pub mod hook_script;
pub mod inputs;
pub mod registry_config;
mod selection;
