//! Folder snapshots, and the build contexts that are made from them.

pub mod archive;
pub mod build_context;
pub mod dockerignore;
pub mod file_list;
pub mod hook_outputs;
mod links;
mod prune;
mod read_ahead;
pub mod spec;
pub mod sync_ledger;
pub mod tree;
pub mod tree_cache;
pub mod verified_reader;
