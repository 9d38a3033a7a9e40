//! Whether an image is what a build would make.

pub mod engine_images;
pub mod fingerprint;
pub mod reason;
