//! The client of the Docker Engine API, and the only module that uses the client crate.
//!
//! BuildKit is the default. It cannot build from a streamed context on an engine with the
//! containerd image store before 27.5 (moby#47717), so it needs a session there; and Podman and
//! Windows engines do not have it. Where it cannot build, the classic builder makes the same
//! images, and a warning says so. A builder of `docker buildx` builds in the engine's place if it is
//! chosen.

mod address;
mod api;
mod api_version;
mod authority;
mod blob;
mod build;
mod build_caches;
mod builder;
mod buildx;
mod capabilities;
mod connect;
mod content;
mod credentials;
mod dial;
mod docker;
mod docker_config;
mod endpoint;
mod error;
mod exported_image;
mod file_sync;
mod housekeeping;
mod image_config;
mod image_contents;
mod kept_images;
mod local_cache;
mod meter;
mod mounts;
mod ping;
mod podman;
mod programs;
mod progress;
mod push;
mod response;
mod retry;
mod saved_image;
mod session;
mod socket_folder;
mod solve;
mod ssh;
mod tls;
mod transfer;
mod tunnel;
mod unique_id;
mod upload;
mod waiting;
mod wording;

pub(crate) use api::ImageDetails;
pub use api::{BuildRequest, Built, Engine, FoundImage, Kept};
pub(crate) use authority::host_and_port;
pub(crate) use blob::digest_of;
pub(crate) use build_caches::GithubJob;
pub(crate) use builder::{Builder, ChosenBuilder};
pub use credentials::{Login, Logins};
pub(crate) use credentials::{domain_of, domains_of, find_logins};
pub(crate) use docker::DockerEngine;
pub(crate) use docker_config::DockerConfig;
pub use endpoint::Environment;
pub use error::EngineError;
pub(crate) use housekeeping::EngineFacts;
pub(crate) use image_config::{ImageConfig, read as read_image_config};
pub(crate) use push::PushRequest;
pub(crate) use unique_id::unique_id;
