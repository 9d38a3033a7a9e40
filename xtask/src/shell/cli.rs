//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::build::BuildOptions;
use crate::commands::push::PushOptions;
use crate::effects::engine::Builder;

/// Builds and pushes a repository's inter-dependent container images.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
pub(super) struct Cli {
    /// The folder that holds src/ [default: the nearest one upwards]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,

    /// Fail at once if another command is at work in the workspace
    #[arg(long, global = true)]
    pub(super) no_wait: bool,

    /// The engine's builder [default: BuildKit where it works]
    #[arg(long, global = true, value_name = "NAME")]
    pub(super) builder: Option<BuilderName>,

    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum BuilderName {
    Buildkit,
    Classic,
}

impl From<BuilderName> for Builder {
    fn from(name: BuilderName) -> Self {
        match name {
            BuilderName::Buildkit => Self::BuildKit,
            BuilderName::Classic => Self::Classic,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Build images, each after those that it needs
    Build(BuildArgs),
    /// Tag and push images to the configured registry
    Push(PushArgs),
}

#[derive(Args, Debug)]
pub(super) struct BuildArgs {
    /// The folder of services-configuration.yaml
    #[arg(short, long, value_name = "DIR", env = "PAI_CONFIG_DIR")]
    config: Option<PathBuf>,

    /// Only these components and what they need
    #[arg(short = 's', long = "select", value_name = "COMPONENT", num_args = 1.., value_delimiter = ',')]
    components: Vec<String>,

    /// A value for an ARG of the Dockerfiles
    #[arg(long = "build-arg", value_name = "NAME=VALUE", value_parser = key_and_value)]
    build_args: Vec<(String, String)>,

    /// Run every instruction again
    #[arg(long)]
    no_cache: bool,

    /// Ask the registries for newer external base images
    #[arg(long)]
    pull: bool,

    /// Of several Dockerfiles for one image, take NAME.FLAVOR.dockerfile
    #[arg(long)]
    flavor: Option<String>,
}

impl From<BuildArgs> for BuildOptions {
    fn from(args: BuildArgs) -> Self {
        Self {
            config_dir: args.config,
            components: args.components,
            build_args: args.build_args.into_iter().collect(),
            no_cache: args.no_cache,
            pull: args.pull,
            flavor: args.flavor,
        }
    }
}

#[derive(Args, Debug)]
pub(super) struct PushArgs {
    /// The folder of services-configuration.yaml
    #[arg(short, long, value_name = "DIR", env = "PAI_CONFIG_DIR")]
    config: PathBuf,

    /// Only these images
    #[arg(short, long = "image", value_name = "IMAGE", num_args = 1.., value_delimiter = ',')]
    images: Vec<String>,

    /// The tag, in place of the configuration's
    #[arg(long)]
    tag: Option<String>,

    /// Of several Dockerfiles for one image, take NAME.FLAVOR.dockerfile
    #[arg(long)]
    flavor: Option<String>,

    /// How long to try again when the registry does not answer
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    retry_for: u64,
}

impl From<PushArgs> for PushOptions {
    fn from(args: PushArgs) -> Self {
        Self {
            config_dir: args.config,
            images: args.images,
            tag: args.tag,
            flavor: args.flavor,
            retry_for: Duration::from_secs(args.retry_for),
        }
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it has the form NAME=VALUE".to_owned()),
    }
}
