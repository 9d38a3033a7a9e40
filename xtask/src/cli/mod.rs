//! The command line.

mod graph;
pub(crate) mod run;
mod watch;

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use xtask_core::workspace::components::WorkspaceOptions;

use crate::build::options::BuildOptions;
use crate::commands::context::ContextOptions;
use crate::commands::inputs::InputsOptions;
use crate::commands::push::PushOptions;
use crate::engine::Builder;
use crate::ui::reproduce;
use crate::ui::{Progress, UiOptions};

pub(crate) use graph::GraphArgs;
pub(crate) use watch::WatchArgs;

/// Most registries are back after that many seconds.
const DEFAULT_RETRY: u64 = 60;

/// Stands for `--config`.
const CONFIG_DIR: &str = "PAI_CONFIG_DIR";

/// Builds and pushes a repository's inter-dependent container images.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Cli {
    /// The folder that holds src/ [default: the nearest one upwards]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,

    /// Fail at once if another command is at work in the workspace
    #[arg(long, global = true)]
    pub(crate) no_wait: bool,

    /// The engine's builder [default: BuildKit where it works]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) builder: Option<BuilderName>,

    /// How to show what happens
    #[arg(long, global = true, value_name = "HOW", default_value = "auto")]
    progress: ProgressName,

    /// Whether to use colours; `NO_COLOR` is respected
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorName,

    /// Show errors only
    #[arg(short, long, global = true, conflicts_with = "progress")]
    quiet: bool,

    /// How much of what hooks made is kept in target/xtask/, as 500M or 2G
    #[arg(long, global = true, value_name = "SIZE", env = "XTASK_STORE_LIMIT", default_value = "1G", value_parser = bytes, hide_env_values = true)]
    pub(crate) store_limit: u64,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum BuilderName {
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
pub(crate) enum Command {
    /// Build images, each after those that it needs
    Build(BuildArgs),
    /// Build at every change of a file, until Ctrl-C
    Watch(WatchArgs),
    /// Tag and push images to the configured registry
    Push(PushArgs),
    /// Draw who needs whom
    Graph(GraphArgs),
    /// Show what the engine would receive for a component's images
    Context(ContextArgs),
    /// Find out what a component's hooks read, as a build/inputs file
    Inputs(InputsArgs),
}

impl Cli {
    /// Whether to use colours where, left alone, there would be some or not.
    pub(crate) fn has_colors(&self, by_itself: bool) -> bool {
        match self.color {
            ColorName::Auto => by_itself,
            ColorName::Always => true,
            ColorName::Never => false,
        }
    }

    /// How events are shown, on a standard error that may be a terminal, in an
    /// environment that may be GitHub's or another's that keeps logs.
    pub(crate) fn how(&self, is_terminal: bool, is_github: bool, is_ci: bool) -> UiOptions {
        let progress = match self.progress {
            _ if self.quiet => Progress::Quiet,
            ProgressName::Json => Progress::Json,
            ProgressName::Tty => Progress::Terminal,
            ProgressName::Auto if is_github => Progress::GitHub,
            ProgressName::Auto if is_terminal && !is_ci => Progress::Terminal,
            ProgressName::Auto | ProgressName::Plain => Progress::Plain,
        };
        let has_colors = self.has_colors(console::colors_enabled_stderr());
        let (is_verbose, is_json, has_timings) = match &self.command {
            Command::Build(args) => (args.verbose, args.json, args.timings),
            _ => (false, false, false),
        };
        let (clears, rings) = match &self.command {
            Command::Watch(args) => (args.clear, args.notify),
            _ => (false, false),
        };
        UiOptions {
            progress,
            is_verbose,
            is_json,
            has_timings,
            has_colors,
            clears,
            rings,
            is_github,
        }
    }

    /// The options that building a component again needs.
    pub(crate) fn reproduced(&self) -> reproduce::Options {
        let mut options = reproduce::Options::default();
        options.value("--root", self.root.as_ref());
        let builder = self.builder.and_then(|builder| builder.to_possible_value());
        options.value("--builder", builder.map(|builder| builder.get_name().to_owned()));
        match &self.command {
            Command::Build(args) => {
                args.reading.reproduce(&mut options);
                options.flag("--pull", args.pull);
            }
            Command::Watch(args) => args.reading.reproduce(&mut options),
            Command::Context(args) => args.reading.reproduce(&mut options),
            Command::Push(_) | Command::Graph(_) | Command::Inputs(_) => {}
        }
        options
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ProgressName {
    /// tty on a terminal, else plain
    Auto,
    /// What runs, in place
    Tty,
    /// A line for everything that happens
    Plain,
    /// A JSON object for everything that happens, on standard output
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ColorName {
    Auto,
    Always,
    Never,
}

/// What decides which Dockerfiles there are, and how they are read.
#[derive(Args, Debug)]
struct ReadingArgs {
    /// The folder of services-configuration.yaml
    #[arg(short, long, value_name = "DIR", env = CONFIG_DIR)]
    config: Option<PathBuf>,

    #[command(flatten)]
    how: DockerfileArgs,
}

/// How Dockerfiles are chosen and read.
#[derive(Args, Debug)]
struct DockerfileArgs {
    /// A value for an ARG of the Dockerfiles
    #[arg(long = "build-arg", value_name = "NAME=VALUE", value_parser = key_and_value)]
    build_args: Vec<(String, String)>,

    /// Of several Dockerfiles for one image, take NAME.FLAVOR.dockerfile
    #[arg(long)]
    flavor: Option<String>,

    /// Send everything, also what no instruction of the Dockerfile can read
    #[arg(long)]
    whole_context: bool,
}

impl DockerfileArgs {
    fn options(&self) -> WorkspaceOptions {
        WorkspaceOptions {
            flavor: self.flavor.clone(),
            build_args: self.build_args.iter().cloned().collect(),
            whole_context: self.whole_context,
        }
    }

    fn reproduce(&self, options: &mut reproduce::Options) {
        options.value("--flavor", self.flavor.as_ref());
        for (name, value) in &self.build_args {
            options.value("--build-arg", Some(format!("{name}={value}")));
        }
        options.flag("--whole-context", self.whole_context);
    }
}

impl ReadingArgs {
    fn options(&self) -> WorkspaceOptions {
        self.how.options()
    }

    fn reproduce(&self, options: &mut reproduce::Options) {
        // What the environment says is there the next time, too.
        let known = env::var_os(CONFIG_DIR).map(PathBuf::from);
        options.value("-c", self.config.as_ref().filter(|config| known.as_ref() != Some(config)));
        self.how.reproduce(options);
    }
}

impl From<ReadingArgs> for WorkspaceOptions {
    fn from(args: ReadingArgs) -> Self {
        args.options()
    }
}

#[derive(Args, Debug)]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    reading: ReadingArgs,

    /// Only these components and what they need
    #[arg(short = 's', long = "select", value_name = "COMPONENT", num_args = 1.., value_delimiter = ',')]
    components: Vec<String>,

    /// Only what changed since a git revision, with its dependents and what they need
    #[arg(long, value_name = "REV", conflicts_with = "components")]
    since: Option<String>,

    /// Only what did not succeed the last time, and what it needs
    #[arg(long, conflicts_with_all = ["components", "since"])]
    failed: bool,

    /// How much to do at a time [default: the CPUs of the engine's host, at least 2]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,

    /// After a failure, go on with what does not depend on it
    #[arg(short, long)]
    keep_going: bool,

    /// Tell what would be built and why, and build nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Name every file that changed, not the first alone
    #[arg(short, long)]
    verbose: bool,

    /// With --dry-run: the plan as JSON
    #[arg(long, requires = "dry_run")]
    json: bool,

    /// Write a page on when what ran: target/xtask/timings.html
    #[arg(long)]
    timings: bool,

    /// Build what is named even if it is up to date
    #[arg(short, long)]
    force: bool,

    /// Run every instruction again
    #[arg(long)]
    no_cache: bool,

    /// Ask the registries for newer external base images
    #[arg(long)]
    pull: bool,
}

impl From<BuildArgs> for BuildOptions {
    fn from(args: BuildArgs) -> Self {
        Self {
            config_dir: args.reading.config.clone(),
            reading: args.reading.into(),
            components: args.components,
            since: args.since,
            failed: args.failed,
            jobs: args.jobs.map(usize::from),
            keep_going: args.keep_going,
            dry_run: args.dry_run,
            force: args.force,
            no_cache: args.no_cache,
            pull: args.pull,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct PushArgs {
    /// The folder of services-configuration.yaml
    #[arg(short, long, value_name = "DIR", env = CONFIG_DIR)]
    config: PathBuf,

    /// Only these images
    #[arg(short, long = "image", value_name = "IMAGE", num_args = 1.., value_delimiter = ',')]
    images: Vec<String>,

    /// The tag, in place of the configuration's
    #[arg(long)]
    tag: Option<String>,

    /// Fail if a build would replace an image, instead of warning
    #[arg(long)]
    deny_stale: bool,

    #[command(flatten)]
    how: DockerfileArgs,

    /// How long to try again when the registry does not answer
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_RETRY)]
    retry_for: u64,
}

impl From<PushArgs> for PushOptions {
    fn from(args: PushArgs) -> Self {
        Self {
            config_dir: args.config,
            images: args.images,
            tag: args.tag,
            reading: args.how.options(),
            denies_stale: args.deny_stale,
            retry_for: Duration::from_secs(args.retry_for),
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct InputsArgs {
    /// The component
    component: String,

    /// Compare with its build/inputs: exit with 1 if something is not declared
    #[arg(long)]
    check: bool,
}

impl From<InputsArgs> for InputsOptions {
    fn from(args: InputsArgs) -> Self {
        Self { component: args.component, check: args.check }
    }
}

#[derive(Args, Debug)]
pub(crate) struct ContextArgs {
    /// The component
    component: String,

    /// Only this image of it
    #[arg(short, long)]
    image: Option<String>,

    /// Write the very stream to a file
    #[arg(long, value_name = "FILE")]
    tar: Option<PathBuf>,

    /// Run the hooks first; what the component needs is built if it is stale
    #[arg(long)]
    hooks: bool,

    /// For programs
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    reading: ReadingArgs,
}

impl From<ContextArgs> for ContextOptions {
    fn from(args: ContextArgs) -> Self {
        Self {
            component: args.component,
            image: args.image,
            config_dir: args.reading.config.clone(),
            reading: args.reading.into(),
            tar: args.tar,
            hooks: args.hooks,
        }
    }
}

/// A size in bytes, with K, M or G for the powers of 1024.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let factor = match &text[digits.len()..] {
        "" => 1,
        "K" | "k" => 1 << 10,
        "M" | "m" => 1 << 20,
        "G" | "g" => 1 << 30,
        _ => return Err("it has the form 500M or 2G".to_owned()),
    };
    let number: Option<u64> = digits.parse().ok();
    let bytes = number.and_then(|number| number.checked_mul(factor));
    bytes.ok_or_else(|| "it has the form 500M or 2G".to_owned())
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it has the form NAME=VALUE".to_owned()),
    }
}
