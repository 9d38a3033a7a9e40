//! What people see while a command runs, and the keyboard.

pub(crate) mod columns;
mod github;
pub(crate) mod keyboard;
pub(crate) mod keymap;
mod log_files;
mod not_run;
pub(crate) mod options;
mod plain;
pub(crate) mod reproduce;
mod round_progress;
mod screen;
pub(crate) mod show;
mod terminal;
mod view;
mod watch_status;
pub(crate) mod workflow_commands;
