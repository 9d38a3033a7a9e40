//! What people see while a command runs, and the keyboard.

mod github;
pub(crate) mod keyboard;
pub(crate) mod keymap;
mod log_files;
pub(crate) mod options;
mod plain;
pub(crate) mod reproduce;
mod screen;
pub(crate) mod show;
mod terminal;
mod view;
pub(crate) mod workflow_commands;
