//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::drawing::Format;
use super::ui::{How, Progress};
use crate::commands::build::BuildOptions;
use crate::commands::context::ContextOptions;
use crate::commands::graph::GraphOptions;
use crate::commands::inputs::InputsOptions;
use crate::commands::push::PushOptions;
use crate::commands::watch::WatchOptions;
use crate::core::problem::Problem;
use crate::effects::engine::Builder;

/// Most registries are back after that many seconds.
const DEFAULT_RETRY: u64 = 60;

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
    pub(super) store_limit: u64,

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
    pub(super) fn has_colors(&self, by_itself: bool) -> bool {
        match self.color {
            ColorName::Auto => by_itself,
            ColorName::Always => true,
            ColorName::Never => false,
        }
    }

    /// How events are shown, on a standard error that may be a terminal, in an
    /// environment that may be GitHub's or another's that keeps logs.
    pub(super) fn how(&self, is_terminal: bool, is_github: bool, is_ci: bool) -> How {
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
        How { progress, is_verbose, is_json, has_timings, has_colors, clears, rings }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ProgressName {
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
pub(super) enum ColorName {
    Auto,
    Always,
    Never,
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

    /// Of several Dockerfiles for one image, take NAME.FLAVOR.dockerfile
    #[arg(long)]
    flavor: Option<String>,

    /// Send everything, also what no instruction of the Dockerfile can read
    #[arg(long)]
    whole_context: bool,
}

impl From<BuildArgs> for BuildOptions {
    fn from(args: BuildArgs) -> Self {
        Self {
            config_dir: args.config,
            components: args.components,
            build_args: args.build_args.into_iter().collect(),
            since: args.since,
            failed: args.failed,
            jobs: args.jobs.map(usize::from),
            keep_going: args.keep_going,
            dry_run: args.dry_run,
            force: args.force,
            no_cache: args.no_cache,
            pull: args.pull,
            flavor: args.flavor,
            whole_context: args.whole_context,
        }
    }
}

#[derive(Args, Debug)]
pub(super) struct WatchArgs {
    /// The folder of services-configuration.yaml
    #[arg(short, long, value_name = "DIR", env = "PAI_CONFIG_DIR")]
    config: Option<PathBuf>,

    /// Only these components and what they need
    #[arg(short = 's', long = "select", value_name = "COMPONENT", num_args = 1.., value_delimiter = ',')]
    components: Vec<String>,

    /// A value for an ARG of the Dockerfiles
    #[arg(long = "build-arg", value_name = "NAME=VALUE", value_parser = key_and_value)]
    build_args: Vec<(String, String)>,

    /// How much to do at a time [default: the CPUs of the engine's host, at least 2]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,

    /// Of several Dockerfiles for one image, take NAME.FLAVOR.dockerfile
    #[arg(long)]
    flavor: Option<String>,

    /// Send everything, also what no instruction of the Dockerfile can read
    #[arg(long)]
    whole_context: bool,

    /// How long nothing must have changed before a build, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 50)]
    debounce: u64,

    /// Look at all files every so many milliseconds: for network mounts, where nobody tells
    #[arg(long, value_name = "MS", num_args = 0..=1, default_missing_value = "1000", require_equals = true)]
    poll: Option<u64>,

    /// Build nothing before the first change
    #[arg(long)]
    no_initial: bool,

    /// What the shell runs after a round in which nothing failed; it ends when the next begins
    #[arg(long, value_name = "COMMAND")]
    on_success: Option<String>,

    /// What the shell runs after a round in which something failed
    #[arg(long, value_name = "COMMAND")]
    on_failure: Option<String>,

    /// Push what was built
    #[arg(long, requires = "config")]
    push: bool,

    /// Clear the terminal before each round
    #[arg(long)]
    clear: bool,

    /// Ring the terminal's bell after each round
    #[arg(long)]
    notify: bool,
}

impl From<WatchArgs> for WatchOptions {
    fn from(args: WatchArgs) -> Self {
        let config_dir = args.config.clone().filter(|_| args.push);
        let push = config_dir.map(|config_dir| PushOptions {
            config_dir,
            images: Vec::new(),
            tag: None,
            flavor: args.flavor.clone(),
            retry_for: Duration::from_secs(DEFAULT_RETRY),
        });
        Self {
            build: BuildOptions {
                config_dir: args.config,
                components: args.components,
                build_args: args.build_args.into_iter().collect(),
                jobs: args.jobs.map(usize::from),
                flavor: args.flavor,
                whole_context: args.whole_context,
                ..BuildOptions::default()
            },
            push,
            debounce: Duration::from_millis(args.debounce),
            poll: args.poll.map(Duration::from_millis),
            no_initial: args.no_initial,
            on_success: args.on_success,
            on_failure: args.on_failure,
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
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_RETRY)]
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

#[derive(Args, Debug)]
pub(super) struct InputsArgs {
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
pub(super) struct ContextArgs {
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
    pub(super) json: bool,

    /// The folder of services-configuration.yaml
    #[arg(short, long, value_name = "DIR", env = "PAI_CONFIG_DIR")]
    config: Option<PathBuf>,

    /// A value for an ARG of the Dockerfiles
    #[arg(long = "build-arg", value_name = "NAME=VALUE", value_parser = key_and_value)]
    build_args: Vec<(String, String)>,

    /// Of several Dockerfiles for one image, take NAME.FLAVOR.dockerfile
    #[arg(long)]
    flavor: Option<String>,

    /// Show everything, also what no instruction of the Dockerfile can read
    #[arg(long)]
    whole_context: bool,
}

impl From<ContextArgs> for ContextOptions {
    fn from(args: ContextArgs) -> Self {
        Self {
            component: args.component,
            image: args.image,
            config_dir: args.config,
            flavor: args.flavor,
            build_args: args.build_args.into_iter().collect(),
            whole_context: args.whole_context,
            tar: args.tar,
            hooks: args.hooks,
        }
    }
}

#[derive(Args, Debug)]
pub(super) struct GraphArgs {
    /// Only these components and what they need
    #[arg(short = 's', long = "select", value_name = "COMPONENT", num_args = 1.., value_delimiter = ',')]
    components: Vec<String>,

    /// What needs them, in place of what they need
    #[arg(long)]
    dependents: bool,

    /// Only so many steps from where it begins
    #[arg(long, value_name = "N")]
    depth: Option<usize>,

    /// Only what lies between two components
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with_all = ["components", "dependents", "depth"])]
    between: Option<Vec<String>>,

    /// The images of others too
    #[arg(long)]
    external: bool,

    /// With --dot: a node for each image, a cluster for each component
    #[arg(long, requires = "dot")]
    images: bool,

    /// Ask the engine what is stale, and show it in colours
    #[arg(long)]
    stale: bool,

    /// How long components took the last time, and the critical path by that
    #[arg(long)]
    durations: bool,

    /// Mark what changed since a git revision, and what needs that
    #[arg(long, value_name = "REV")]
    since: Option<String>,

    /// For Graphviz, to standard output
    #[arg(long, group = "format")]
    dot: bool,

    /// For Mermaid, to standard output
    #[arg(long, group = "format")]
    mermaid: bool,

    /// For programs, to standard output
    #[arg(long, group = "format")]
    json: bool,

    /// A picture
    #[arg(long, group = "format", value_name = "FILE")]
    svg: Option<PathBuf>,

    /// A page with a picture that can be searched
    #[arg(long, group = "format", value_name = "FILE")]
    html: Option<PathBuf>,

    /// Exit with 1 if this file shows another graph; its name tells the format
    #[arg(long, value_name = "FILE", conflicts_with_all = ["svg", "html"])]
    check: Option<PathBuf>,

    /// The folder of services-configuration.yaml
    #[arg(short, long, value_name = "DIR", env = "PAI_CONFIG_DIR")]
    config: Option<PathBuf>,

    /// A value for an ARG of the Dockerfiles
    #[arg(long = "build-arg", value_name = "NAME=VALUE", value_parser = key_and_value)]
    build_args: Vec<(String, String)>,

    /// Of several Dockerfiles for one image, take NAME.FLAVOR.dockerfile
    #[arg(long)]
    flavor: Option<String>,
}

/// How to draw, and where to.
pub(super) struct Drawing {
    pub(super) format: Format,
    pub(super) has_images: bool,
    pub(super) has_colors: bool,
    /// Standard output if none.
    pub(super) file: Option<PathBuf>,
    /// Compare with what the file holds.
    pub(super) is_check: bool,
}

impl GraphArgs {
    pub(super) fn drawing(&self, has_colors: bool) -> Result<Drawing, Problem> {
        let chosen = [
            (self.dot, Format::Dot),
            (self.mermaid, Format::Mermaid),
            (self.json, Format::Json),
            (self.svg.is_some(), Format::Svg),
            (self.html.is_some(), Format::Page),
        ];
        let chosen = chosen.into_iter().find(|(is_chosen, _)| *is_chosen).map(|(_, it)| it);
        let file = self.check.as_ref().or(self.svg.as_ref()).or(self.html.as_ref());
        let format = match (chosen, &self.check) {
            (Some(format), _) => format,
            (None, None) => Format::Tree,
            (None, Some(file)) => Format::of_file(file).ok_or_else(|| {
                let message = "--check cannot tell its format: name it .dot, .mmd, .json, .svg, \
                               .html or .txt, or say --dot, --mermaid or --json";
                Problem::of_file(file.display().to_string(), message)
            })?,
        };
        let (has_images, is_check) = (self.images, self.check.is_some());
        let has_colors = has_colors && !is_check;
        Ok(Drawing { format, has_images, has_colors, file: file.cloned(), is_check })
    }
}

impl From<GraphArgs> for GraphOptions {
    fn from(args: GraphArgs) -> Self {
        let between = args.between.and_then(|names| <[String; 2]>::try_from(names).ok());
        Self {
            config_dir: args.config,
            build_args: args.build_args.into_iter().collect(),
            flavor: args.flavor,
            components: args.components,
            dependents: args.dependents,
            depth: args.depth,
            between,
            external: args.external,
            stale: args.stale,
            durations: args.durations,
            since: args.since,
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
