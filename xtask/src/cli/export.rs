//! The arguments of `export`.

use std::io;
use std::path::{self, PathBuf};

use clap::{Args, Subcommand};

use crate::build::options::Scope;
use crate::cli::shared_args::{ComponentArgs, ReadingArgs};
use crate::commands::export::ExportOptions;

#[derive(Debug, Subcommand)]
pub(crate) enum ExportCommand {
    /// Write a bake file, and the contexts that it names
    Bake(BakeArgs),
}

#[derive(Args, Debug)]
pub(crate) struct BakeArgs {
    /// New or empty folder to write to
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,

    #[command(flatten)]
    pub(crate) components: ComponentArgs,

    #[command(flatten)]
    reading: ReadingArgs,
}

impl BakeArgs {
    pub(crate) fn options(self) -> io::Result<ExportOptions> {
        let folder = path::absolute(self.folder)?;
        let selection = Vec::from(self.components).into();
        let scope = Scope { reading: self.reading.into(), selection };
        Ok(ExportOptions { folder, scope })
    }
}
