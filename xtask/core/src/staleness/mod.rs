//! Decides whether an image must be built, and why.

pub mod engine_images;
pub mod fingerprint;
pub mod image_list;
pub mod reason;
