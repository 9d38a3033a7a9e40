//! Manual pages, made from the help.

use std::fs;
use std::io;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;
use xtask_core::problem::{Problem, did_you_mean};

use crate::command_error::CommandError;

/// The page of the tool, or of one of its commands.
pub(crate) fn page(command: Command, of: Option<&str>) -> Result<String, CommandError> {
    let mut command = named(command);
    command.build();
    let page = match of {
        None => Some(&command),
        Some(name) => command.find_subcommand(name),
    };
    let Some(page) = page else {
        let name = of.unwrap_or_default();
        let hint = did_you_mean(name, command.get_subcommands().map(Command::get_name));
        let problem = Problem::of_request(format!("no command '{name}'{hint}"));
        return Err(CommandError::Wrong(problem.into()));
    };
    let mut text = Vec::new();
    let rendered = Man::new(page.clone()).render(&mut text);
    rendered
        .and_then(|()| String::from_utf8(text).map_err(io::Error::other))
        .map_err(|error| CommandError::unwritten("the manual page", &error))
}

/// Writes all pages to a folder.
pub(crate) fn write(command: Command, dir: &Path) -> Result<(), CommandError> {
    fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(named(command), dir))
        .map_err(|error| CommandError::unwritten(&dir.display().to_string(), &error))
}

/// `man cargo-xtask-build`, as for cargo's own commands.
fn named(command: Command) -> Command {
    command.name("cargo-xtask").display_name("cargo-xtask")
}
