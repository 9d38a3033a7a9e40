//! The process's surroundings except engines: hooks, git, the watched file system, the lock,
//! signals, temporary folders, and the tool's own state.

pub(crate) mod checkout;
pub(crate) mod git;
pub(crate) mod hook_outputs;
pub(crate) mod hooks;
pub(crate) mod lines;
pub(crate) mod lock;
pub(crate) mod log_path;
pub(crate) mod named_file;
mod output_lines;
pub(crate) mod post_build_command;
pub(crate) mod process_group;
pub(crate) mod records;
pub(crate) mod removal;
pub mod signals;
pub(crate) mod slow_lists;
pub(crate) mod state;
pub(crate) mod store;
pub(crate) mod strace;
pub(crate) mod temp_dirs;
pub(crate) mod watcher;
