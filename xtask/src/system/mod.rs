//! What is outside the process, but for engines: hooks, git, the watched file system, the
//! lock, signals, temporary folders, and the tool's own state.

pub mod git;
pub mod hook_outputs;
pub mod hooks;
pub(crate) mod lines;
pub mod lock;
pub mod post_build_command;
pub mod records;
pub mod signals;
pub mod state;
pub mod store;
pub(crate) mod strace;
pub mod temp_dirs;
pub mod watcher;
