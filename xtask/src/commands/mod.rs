//! What a user can ask for, each a short story told in calls to the layers below.

pub mod build;
pub(crate) mod build_results;
pub(crate) mod clean;
pub(crate) mod clean_shared;
pub(crate) mod config;
pub mod context;
pub(crate) mod doctor;
pub(crate) mod export;
pub mod graph;
pub(crate) mod image_lock;
pub(crate) mod init;
pub mod inputs;
pub(crate) mod list;
pub(crate) mod lock;
pub(crate) mod logs;
pub(crate) mod new;
pub mod push;
pub(crate) mod push_from_lock;
mod push_lock;
mod push_references;
mod share;
pub mod watch;
pub(crate) mod why;
