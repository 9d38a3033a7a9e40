//! The machine that runs a plan: what is stale is built, and nothing else.

mod ask_ahead;
pub(crate) mod base_images;
pub(crate) mod cancel;
pub(crate) mod changed_since;
mod decide;
mod dry_run;
mod executor;
mod expected_image;
pub(crate) mod hook_activity;
mod hook_cache;
mod hook_outputs;
mod image;
mod image_lookup;
pub(crate) mod inventory;
pub mod mode;
pub mod options;
pub(crate) mod prepare;
mod reading;
pub(crate) mod round;
pub mod run;
pub(crate) mod share_prefix;
pub(crate) mod shared_image;
mod shared_images;
mod step;
pub(crate) mod step_error;
pub(crate) mod summary;
mod work_clock;
