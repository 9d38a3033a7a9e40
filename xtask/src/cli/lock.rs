//! The arguments of `lock`, and what it prints.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use xtask_core::escape;
use xtask_core::problem::Problems;

use crate::command_error::CommandError;
use crate::commands::image_lock::DEFAULT_FILE;
use crate::commands::lock;
use crate::report::lock as report;

#[derive(Debug, Subcommand)]
pub(crate) enum LockCommand {
    /// Print where an image can be pulled from: REPOSITORY@DIGEST
    Get(GetArgs),
    /// List the images that differ between two lock files
    Diff(DiffArgs),
}

#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// Image, as it is called in the workspace
    image: String,

    /// Lock file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_FILE)]
    file: PathBuf,

    /// What its repository begins with, if it was pushed to several
    #[arg(long, value_name = "PREFIX")]
    registry: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// Old lock file
    old: PathBuf,

    /// New lock file
    #[arg(default_value = DEFAULT_FILE)]
    new: PathBuf,

    /// Exit with code 1 if they differ
    #[arg(long)]
    exit_code: bool,

    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl LockCommand {
    /// What to print, and how the command ends then.
    pub(crate) fn run(&self) -> Result<(String, Result<(), CommandError>), CommandError> {
        match self {
            Self::Get(GetArgs { image, file, registry }) => {
                let place = lock::get(image, file, registry.as_deref());
                Ok((place.map_err(Problems::from)? + "\n", Ok(())))
            }
            Self::Diff(args) => {
                let found = lock::diff(&args.old, &args.new).map_err(Problems::from)?;
                let text = if args.json {
                    escape::json(&format!("{:#}\n", report::document(&found)))
                } else {
                    report::lines(&found).into_iter().map(|line| line + "\n").collect()
                };
                let differs = args.exit_code && !found.is_empty();
                Ok((text, if differs { Err(CommandError::Failed) } else { Ok(()) }))
            }
        }
    }
}
