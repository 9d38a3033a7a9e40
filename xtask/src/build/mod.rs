//! The machine that runs a plan: what is stale is built, and nothing else.

pub(crate) mod base_images;
pub(crate) mod cancel;
pub(crate) mod changed_since;
mod dry_run;
pub(crate) mod executor;
mod hook_cache;
mod hook_outputs;
mod image;
pub(crate) mod image_lookup;
pub mod mode;
pub mod options;
pub(crate) mod prepare;
pub mod run;
mod step;
pub(crate) mod step_error;
mod summary;
