//! The deterministic core: what is in a workspace, how it hangs together, and
//! what a command will do about it.
//!
//! Nothing here talks to an engine, prints, or reads the environment. The file
//! system is read and never changed; what an engine or a user says arrives as
//! plain values, so that everything is tested without either.

pub mod ahead;
pub mod archive;
pub mod config;
pub mod context;
pub mod dockerfile;
pub mod excerpt;
pub mod fields;
pub mod fingerprint;
mod follow;
pub mod graph;
pub mod holdings;
pub mod ignore;
pub mod inputs;
pub mod layout;
pub mod lean;
pub mod offers;
pub mod outputs;
mod path_bytes;
pub mod plan;
pub mod problem;
pub mod provenance;
pub mod reads;
pub mod reason;
pub mod reference;
pub mod regular_file;
pub mod schedule;
pub mod scope;
pub mod script;
pub mod selection;
pub mod sources;
pub mod text;
pub mod tree;
pub mod trees;
pub mod whole;
pub mod workspace;
