//! Dockerfiles, as Docker reads them.

pub mod context_reads;
pub mod excerpt;
pub mod parser;
pub mod platform_args;
pub mod provenance;
pub(crate) mod words;
