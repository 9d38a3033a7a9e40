//! Dockerfiles: the images they use, the files they read, and what engines report about
//! them.

pub mod context_reads;
pub mod excerpt;
pub(crate) mod lexer;
pub mod parser;
pub mod platform_args;
pub mod provenance;
pub(crate) mod syntax;
