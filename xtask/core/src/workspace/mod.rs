//! What a repository holds.

pub mod components;
pub mod hook_script;
pub mod inputs;
pub mod registry_config;
