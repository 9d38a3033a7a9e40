//! A registry's own API, as the distribution specification has it: what is asked and written
//! without an engine. Layers are pulled and pushed by engines.

mod auth;
mod client;
mod http;
mod image_index;

pub(crate) use client::{Client, RegistryError};
pub(crate) use http::MAX_BODY;
pub(crate) use image_index::{Artifact, Descriptor, ImageIndex, Manifest, Platform};
