//! What a workspace holds, how it hangs together, and what is stale: the deterministic
//! half of the tool.
//!
//! Nothing here talks to an engine, prints, or reads the environment. The file system is
//! read and never changed; what an engine or a user says arrives as plain values, so
//! everything is tested without either. It is a crate of its own so that the compiler
//! keeps it so, and because it touches every file of every context: it is optimised, and
//! compiles beside the libraries of the engine's client.
//!
//! The rooms, each importing only from those above it in this list:
//!
//! - [`paths`], [`problem`], [`escape`], [`regular_file`], [`digest`], [`image_reference`]:
//!   what every room needs;
//! - [`dockerfile`]: what a Dockerfile says;
//! - [`workspace`]: components, images, hooks, declared inputs, the registry's configuration;
//! - [`context`]: folders as they are now, and what of them an engine receives;
//! - [`plan`]: the graph, the steps of a round and their order;
//! - [`staleness`]: fingerprints, what the engine holds, and why something is stale.

pub mod context;
pub mod digest;
pub mod dockerfile;
pub mod escape;
pub mod image_reference;
mod path_bytes;
mod path_pattern;
pub mod paths;
pub mod plan;
pub mod problem;
pub mod regular_file;
pub mod staleness;
pub mod workspace;
