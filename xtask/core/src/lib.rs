//! The deterministic part of the tool: reading a workspace, resolving its dependency
//! graph, and deciding what is stale.
//!
//! Nothing here talks to an engine, prints, or reads the environment. The file system is
//! read but never written; facts about the engine and options of the user are passed in as
//! plain values, so everything can be tested without either. A separate crate lets the
//! compiler enforce this. It also touches every file of every context, so it is compiled
//! with optimizations, in parallel with the dependencies of the engine client.
//!
//! Modules import only from modules above them in this list:
//!
//! - [`paths`], [`problem`], [`escape`], [`regular_file`], [`digest`], [`ids`],
//!   [`image_reference`], [`saved`]: shared basics;
//! - [`name_pattern`]: names on the command line;
//! - [`dockerfile`]: parsing Dockerfiles;
//! - [`secret`]: what may be a secret, and is not shown;
//! - [`workspace`]: components, images, hooks, declared inputs, the registry configuration;
//! - [`context`]: folder snapshots and the build contexts made from them;
//! - [`plan`]: the graph, the steps of a round and their order;
//! - [`staleness`]: fingerprints, the images in the engine, and why an image is stale.

pub mod context;
pub mod digest;
pub mod dockerfile;
pub mod escape;
pub mod ids;
pub mod image_reference;
pub mod name_pattern;
mod path_bytes;
mod path_pattern;
pub mod paths;
pub mod plan;
pub mod problem;
pub mod regular_file;
pub mod saved;
pub mod secret;
pub mod staleness;
pub mod workspace;
