//! The command line.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{
    Arg, ArgAction, ArgMatches, Args, Command as ClapCommand, CommandFactory, FromArgMatches,
    Parser, Subcommand, ValueEnum,
};
use clap_complete::engine::ArgValueCompleter;
use xtask_core::image_reference;
use xtask_core::workspace::components::WorkspaceOptions;

use crate::build::options::{self, FromRegistry, Scope, Selection};
use crate::cli::candidates;
use crate::cli::completion::Shell;
use crate::cli::environment::{CONFIG_DIR, TAG, options_of_environment};
use crate::cli::examples;
use crate::cli::export::ExportCommand;
use crate::cli::graph::GraphArgs;
use crate::cli::image_args::ImageArgs;
use crate::cli::lock::LockCommand;
use crate::cli::shared_args::{
    ComponentArgs, DEFAULT_RETRY, DockerfileArgs, ReadingArgs, SelectedWords, bytes,
};
use crate::cli::watch::WatchArgs;
use crate::commands::build::BuildOptions;
use crate::commands::build_results::{ResultOptions, check_tag};
use crate::commands::clean::CleanOptions;
use crate::commands::clean_shared::SharedOptions;
use crate::commands::config::ConfigOptions;
use crate::commands::context::ContextOptions;
use crate::commands::doctor::DoctorOptions;
use crate::commands::init::InitOptions;
use crate::commands::inputs::InputsOptions;
use crate::commands::list::ListOptions;
use crate::commands::logs::LogsOptions;
use crate::commands::new::NewOptions;
use crate::commands::push::PushOptions;
use crate::commands::push_from_lock::FromLock;
use crate::commands::why::WhyOptions;
use crate::engine::{Builder, ChosenBuilder};
use crate::ui::options::{Progress, UiOptions};
use crate::ui::reproduce;

/// How the program is called in a repository that has it as its `xtask`.
const PROGRAM: &str = "cargo xtask";

/// Build and push a repository's interdependent container images
#[derive(Debug, Parser)]
#[command(name = PROGRAM, bin_name = PROGRAM, version, max_term_width = 100)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Cli {
    /// Workspace root, the folder that contains xtask.toml or src/ [default: the current folder or
    /// a parent]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,

    /// Fail instead of waiting if another command is running in the workspace
    #[arg(long, global = true)]
    pub(crate) no_wait: bool,

    /// Builder to use: the engine's buildkit or classic, or one of docker buildx [default: buildkit
    /// if available]
    #[arg(long, global = true, value_name = "NAME", value_parser = builder)]
    pub(crate) builder: Option<ChosenBuilder>,

    /// Type of progress output
    #[arg(long, global = true, value_name = "HOW", default_value = "auto")]
    progress: ProgressName,

    /// Whether to use colors; `NO_COLOR` is respected
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorName,

    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "progress")]
    quiet: bool,

    /// List every changed file, not only the first; -vv adds a debug trace
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,

    /// Maximum size of the cached hook outputs in target/xtask/, such as 500M or 2G
    #[arg(long, global = true, value_name = "SIZE", env = "XTASK_STORE_LIMIT", default_value = "1G", value_parser = bytes, hide_env_values = true)]
    pub(crate) store_limit: u64,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What `--builder` names.
fn builder(name: &str) -> Result<ChosenBuilder, String> {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.chars().all(|it| it.is_ascii_alphanumeric() || "_.-".contains(it))
    };
    match name {
        "buildkit" => Ok(ChosenBuilder::Own(Builder::BuildKit)),
        "classic" => Ok(ChosenBuilder::Own(Builder::Classic)),
        name if is_name(name) => Ok(ChosenBuilder::Buildx(name.to_owned())),
        _ => Err("it is 'buildkit', 'classic' or a builder of docker buildx".to_owned()),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build stale images in dependency order
    #[command(after_help = examples::BUILD)]
    Build(Box<BuildArgs>),
    /// Watch for changes and rebuild what they make stale
    #[command(after_help = examples::WATCH)]
    Watch(WatchArgs),
    /// Tag images and push them to the configured registry
    #[command(after_help = examples::PUSH)]
    Push(PushArgs),
    /// Compare lock files of 'push', or print where an image is
    #[command(subcommand, after_help = examples::LOCK)]
    Lock(LockCommand),
    /// Print or render the dependency graph
    #[command(after_help = examples::GRAPH)]
    Graph(GraphArgs),
    /// List components and their images in the engine
    #[command(after_help = examples::LIST)]
    List(ListArgs),
    /// Explain why an image is stale, or what it was built from
    #[command(after_help = examples::WHY)]
    Why(WhyArgs),
    /// Print what the hooks and instructions of a component wrote last
    #[command(after_help = examples::LOGS)]
    Logs(LogsArgs),
    /// List the build context that is sent for a component's images
    #[command(after_help = examples::CONTEXT)]
    Context(ContextArgs),
    /// Write what is built for another tool
    #[command(subcommand, after_help = examples::EXPORT)]
    Export(ExportCommand),
    /// Trace what a component's hooks read and print a build/inputs file for it
    #[command(after_help = examples::INPUTS)]
    Inputs(InputsArgs),
    /// Write an xtask.toml that finds the images of a repository
    #[command(after_help = examples::INIT)]
    Init(InitArgs),
    /// Make a component that builds at once
    #[command(after_help = examples::NEW)]
    New(NewArgs),
    /// Print what holds for each image, and which line of xtask.toml says so
    #[command(after_help = examples::CONFIG)]
    Config(ConfigArgs),
    /// Look for what keeps builds from working, or makes them slow
    #[command(after_help = examples::DOCTOR)]
    Doctor(DoctorArgs),
    /// Remove what killed builds left, images without a name, or the tool's state
    #[command(after_help = examples::CLEAN)]
    Clean(CleanArgs),
    /// Print a completion script for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions(CompletionsArgs),
    /// Print a manual page, or write all of them to a folder
    #[command(after_help = examples::MAN)]
    Man(ManArgs),
}

impl Command {
    /// The words that name components.
    pub(crate) fn component_words(&mut self) -> Vec<&mut String> {
        match self {
            Self::Build(args) => args.components.words_mut().collect(),
            Self::Watch(args) => args.components.words_mut().collect(),
            Self::Push(args) => args.components.words_mut().collect(),
            Self::Graph(args) => args.component_words(),
            Self::Context(args) => args.components.iter_mut().collect(),
            Self::Export(ExportCommand::Bake(args)) => args.components.words_mut().collect(),
            Self::List(args) => args.components.words_mut().collect(),
            Self::Why(args) => args.words.iter_mut().collect(),
            Self::Logs(args) => vec![&mut args.component],
            Self::Inputs(args) => vec![&mut args.component],
            Self::Doctor(_)
            | Self::Clean(_)
            | Self::Init(_)
            | Self::New(_)
            | Self::Config(_)
            | Self::Lock(_)
            | Self::Completions(_)
            | Self::Man(_) => Vec::new(),
        }
    }
}

impl Cli {
    /// Parses arguments; the help shows how the program was called.
    pub(crate) fn called_as(
        name: &'static str,
        arguments: impl IntoIterator<Item: Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let mut command = without_empty_variables(Self::command());
        if name != PROGRAM {
            command = command.name(name).bin_name(name).mut_subcommands(|subcommand| {
                let examples = subcommand.get_after_help().map(|help| help.ansi().to_string());
                let examples = examples.unwrap_or_default().replace(PROGRAM, name);
                subcommand.after_help(examples)
            });
        }
        let mut matches = command.try_get_matches_from_mut(arguments)?;
        check_from_lock(&mut command, &matches)?;
        Self::from_arg_matches_mut(&mut matches)
    }

    /// Whether to use colors; `auto` is what `--color auto` means for the stream.
    pub(crate) fn has_colors(&self, auto: bool) -> bool {
        match self.color {
            ColorName::Auto => auto,
            ColorName::Always => true,
            ColorName::Never => false,
        }
    }

    /// Whether to print the debug trace, which would disturb steps that are updated in place.
    pub(crate) fn is_traced(&self) -> bool {
        self.verbose > 1
    }

    /// How to show events, given whether standard error is a terminal and where this runs.
    pub(crate) fn ui_options(&self, is_terminal: bool, is_github: bool, is_ci: bool) -> UiOptions {
        let progress = match self.progress {
            _ if self.quiet => Progress::Quiet,
            ProgressName::Json => Progress::Json,
            ProgressName::Tty => Progress::Terminal,
            ProgressName::Auto if is_github => Progress::GitHub,
            ProgressName::Auto if is_terminal && !is_ci && !self.is_traced() => Progress::Terminal,
            ProgressName::Auto | ProgressName::Plain => Progress::Plain,
        };
        let has_colors = self.has_colors(console::colors_enabled_stderr());
        let (is_json, has_timings) = match &self.command {
            Command::Build(args) => (args.json, args.timings),
            _ => (false, false),
        };
        let (clears, rings) = match &self.command {
            Command::Watch(args) => (args.clear, args.notify),
            _ => (false, false),
        };
        UiOptions {
            progress,
            is_verbose: self.verbose > 0,
            is_json,
            has_timings,
            has_colors,
            clears,
            rings,
            is_github,
        }
    }

    /// The options that a `to reproduce:` command must repeat.
    pub(crate) fn reproduce_options(&self) -> reproduce::Options {
        let mut options = reproduce::Options::default();
        options.value("--root", self.root.as_ref());
        options.value("--builder", self.builder.as_ref().map(ToString::to_string));
        match &self.command {
            Command::Build(args) => {
                args.reading.reproduce(&mut options);
                args.image.reproduce(&mut options);
                options.flag("--pull", args.pull);
            }
            Command::Watch(args) => args.reading.reproduce(&mut options),
            Command::Context(args) => args.reading.reproduce(&mut options),
            Command::Push(_)
            | Command::Lock(_)
            | Command::Graph(_)
            | Command::List(_)
            | Command::Export(_)
            | Command::Config(_)
            | Command::Doctor(_)
            | Command::Clean(_)
            | Command::Init(_)
            | Command::New(_)
            | Command::Why(_)
            | Command::Logs(_)
            | Command::Inputs(_)
            | Command::Completions(_)
            | Command::Man(_) => {}
        }
        options
    }
}

/// Variables that are set to nothing count as not set, as CI often sets them.
fn without_empty_variables(command: ClapCommand) -> ClapCommand {
    let is_empty = |arg: &Arg| {
        let value = arg.get_env().and_then(env::var_os);
        value.is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg })
        .mut_subcommands(without_empty_variables)
}

/// Refuses options beside `--from-lock` that would count for nothing. In the environment they may
/// be for other commands, and one has a default: so clap cannot tell.
fn check_from_lock(command: &mut ClapCommand, matches: &ArgMatches) -> Result<(), clap::Error> {
    let Some(given) = matches.subcommand_matches("push") else { return Ok(()) };
    let is_given = |id: &&&str| given.value_source(id) == Some(ValueSource::CommandLine);
    let useless = ["tag", "flavor", "retry_for"];
    let Some(useless) = useless.iter().find(is_given).filter(|_| is_given(&&"from_lock")) else {
        return Ok(());
    };
    let useless = useless.replace('_', "-");
    let message = format!("the argument '--from-lock <FILE>' cannot be used with '--{useless}'");
    let push = command.find_subcommand_mut("push").expect("it is a command");
    Err(push.error(ErrorKind::ArgumentConflict, message))
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ProgressName {
    /// Use tty on a terminal, plain otherwise
    Auto,
    /// Running steps, updated in place
    Tty,
    /// One line per event
    Plain,
    /// One JSON object per event, on standard output
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ColorName {
    Auto,
    Always,
    Never,
}

#[derive(Args, Debug)]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    components: ComponentArgs,

    /// Build only components that changed since a git revision, their dependents, and what
    /// these depend on
    #[arg(long, value_name = "REV", conflicts_with_all = ["named", "selected"])]
    since: Option<String>,

    /// Build only components that did not succeed last time, and their dependencies
    #[arg(long, conflicts_with_all = ["named", "selected", "since"])]
    failed: bool,

    /// Maximum parallel jobs [default: number of CPUs of the engine's host, and 2]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,

    /// After a failure, continue with components that do not depend on it
    #[arg(short, long)]
    keep_going: bool,

    /// Print what would be built and why, without building
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// With --dry-run: exit with code 1 if an image is stale or has lost its name. Images that
    /// are decided during the build do not count
    #[arg(long, requires = "dry_run", conflicts_with = "keep_going")]
    exit_code: bool,

    /// With --dry-run: print the plan as JSON
    #[arg(long, requires = "dry_run")]
    json: bool,

    /// Write a report of build timings to target/xtask/timings.html
    #[arg(long)]
    timings: bool,

    /// Rebuild the selected components even if they are up to date
    #[arg(short, long)]
    force: bool,

    /// Rebuild without the build cache
    #[arg(long)]
    no_cache: bool,

    /// Name for the selected images, in addition to their own; {image} stands for the image's
    #[arg(short, long = "tag", value_name = "REFERENCE", conflicts_with = "dry_run", value_parser = check_tag)]
    tags: Vec<String>,

    /// Push the selected images once they are built: under their --tag, or as 'push' does
    #[arg(long, conflicts_with = "dry_run")]
    push: bool,

    /// Pull images that others built and shared instead of building them: from PREFIX, or from
    /// where 'share' or 'registry' in xtask.toml says; 'off' to build all
    #[arg(long, value_name = "PREFIX", num_args = 0..=1, require_equals = true, default_missing_value = "", value_parser = from_registry, conflicts_with = "dry_run")]
    from_registry: Option<FromRegistry>,

    /// Push what is up to date under its fingerprint, for the --from-registry of others
    #[arg(long, conflicts_with = "dry_run")]
    share: bool,

    /// Write the selected images' IDs and names to a file, as JSON
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    metadata_file: Option<PathBuf>,

    /// Always check registries for newer external base images
    #[arg(long)]
    pull: bool,

    #[command(flatten)]
    image: ImageArgs,

    #[command(flatten)]
    reading: ReadingArgs,
}

impl From<BuildArgs> for BuildOptions {
    fn from(args: BuildArgs) -> Self {
        let overrides = args.image.overrides();
        let selection = match args.since {
            Some(revision) => Selection::ChangedSince(revision),
            None if args.failed => Selection::Failed,
            None => Vec::from(args.components).into(),
        };
        Self {
            scope: Scope {
                reading: WorkspaceOptions { overrides, ..args.reading.into() },
                selection,
            },
            build: options::BuildOptions {
                force: args.force,
                no_cache: args.no_cache,
                pull: args.pull,
                jobs: args.jobs.map(usize::from),
                keep_going: args.keep_going,
                from_registry: args.from_registry.unwrap_or(FromRegistry::IfConfigured),
            },
            results: ResultOptions {
                tags: args.tags,
                push: args.push,
                retry_for: Duration::from_secs(DEFAULT_RETRY),
                metadata_file: args.metadata_file,
            },
            dry_run: args.dry_run,
            exit_code: args.exit_code,
            share: args.share,
        }
    }
}

/// Reads the value of `--from-registry`.
fn from_registry(value: &str) -> Result<FromRegistry, String> {
    match value {
        "" => Ok(FromRegistry::Configured),
        "off" => Ok(FromRegistry::Never),
        prefix => share_prefix(prefix).map(FromRegistry::At),
    }
}

/// Checks what repositories begin with.
fn share_prefix(prefix: &str) -> Result<String, String> {
    let checked = image_reference::check_prefix(prefix);
    checked.map(|()| prefix.to_owned()).map_err(|error| error.to_string())
}

#[derive(Args, Debug)]
pub(crate) struct PushArgs {
    /// Folder that contains services-configuration.yaml
    #[arg(short, long, value_name = "DIR", env = CONFIG_DIR)]
    config: Option<PathBuf>,

    #[command(flatten)]
    components: ComponentArgs,

    /// Push only these images, as names or globs, in addition to those of COMPONENT
    #[arg(short, long = "image", value_name = "IMAGE", num_args = 1.., value_parser = SelectedWords::parse, add = ArgValueCompleter::new(candidates::images))]
    images: Vec<SelectedWords>,

    /// Tag to push, instead of the configured one
    #[arg(long, env = TAG)]
    tag: Option<String>,

    /// Fail instead of warning if an image is stale
    #[arg(long)]
    deny_stale: bool,

    /// How long to retry after temporary registry errors
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_RETRY)]
    retry_for: u64,

    /// Write what was pushed to a lock file: digests, fingerprints, the commit
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,

    /// Put the tags of a lock file back onto the images that it says, without a build or an engine
    #[arg(long, value_name = "FILE", conflicts_with_all = ["named", "selected", "deny_stale", "lock", "share", "set", "build_args", "whole_context"])]
    from_lock: Option<PathBuf>,

    /// Push what is up to date under its fingerprint, too, for the --from-registry of others
    #[arg(long)]
    share: bool,

    #[command(flatten)]
    dockerfile: DockerfileArgs,
}

impl PushArgs {
    /// The tags to put back, if that is asked for.
    pub(crate) fn tags_to_put_back(&self) -> Option<FromLock> {
        let words = self.images.iter().cloned();
        Some(FromLock {
            file: self.from_lock.clone()?,
            images: words.flat_map(Vec::from).collect(),
            config_dir: self.config.clone(),
        })
    }
}

impl From<PushArgs> for PushOptions {
    fn from(args: PushArgs) -> Self {
        Self {
            config_dir: args.config,
            components: args.components.into(),
            images: args.images.into_iter().flat_map(Vec::from).collect(),
            reading: WorkspaceOptions { tag: args.tag.clone(), ..args.dockerfile.options(None) },
            tag: args.tag,
            denies_stale: args.deny_stale,
            retry_for: Duration::from_secs(args.retry_for),
            lock: args.lock,
            share: args.share,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct InputsArgs {
    /// Component to trace, as a name or a path such as src/web/
    #[arg(add = ArgValueCompleter::new(candidates::components))]
    component: String,

    /// Exit with code 1 if the hooks read anything that build/inputs does not declare
    #[arg(long)]
    check: bool,

    #[command(flatten)]
    reading: ReadingArgs,
}

impl From<InputsArgs> for InputsOptions {
    fn from(args: InputsArgs) -> Self {
        Self { component: args.component, check: args.check, reading: args.reading.into() }
    }
}

#[derive(Args, Debug)]
pub(crate) struct ContextArgs {
    /// Components to inspect, as names, globs such as 'auth-*', or paths such as src/web/
    #[arg(value_name = "COMPONENT", required = true, add = ArgValueCompleter::new(candidates::components))]
    components: Vec<String>,

    /// Show only this image
    #[arg(short, long, add = ArgValueCompleter::new(candidates::images))]
    image: Option<String>,

    /// Write the exact tar stream to a file
    #[arg(long, value_name = "FILE")]
    tar: Option<PathBuf>,

    /// Run the hooks first, after building stale dependencies
    #[arg(long)]
    hooks: bool,

    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    reading: ReadingArgs,
}

impl From<ContextArgs> for ContextOptions {
    fn from(args: ContextArgs) -> Self {
        Self {
            components: args.components,
            image: args.image,
            reading: args.reading.into(),
            tar: args.tar,
            hooks: args.hooks,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    components: ComponentArgs,

    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    reading: ReadingArgs,
}

impl From<ListArgs> for ListOptions {
    fn from(args: ListArgs) -> Self {
        Self { reading: args.reading.into(), components: args.components.into() }
    }
}

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Fix what can be fixed safely: remove leftovers, and images without a name if there
    /// are many
    #[arg(long)]
    fix: bool,

    #[command(flatten)]
    reading: ReadingArgs,
}

impl From<DoctorArgs> for DoctorOptions {
    fn from(args: DoctorArgs) -> Self {
        Self { reading: args.reading.into(), fix: args.fix }
    }
}

#[derive(Args, Debug)]
pub(crate) struct CleanArgs {
    /// Remove images without a name that this workspace built; undoing an edit builds them again
    #[arg(long)]
    images: bool,

    /// Remove everything that is kept between runs, in target/xtask/
    #[arg(long)]
    state: bool,

    /// Delete images that --share pushed, if they are old and neither the workspace nor a revision
    /// of --keep would use them [default: where --share pushes to]
    #[arg(long, value_name = "PREFIX", num_args = 0..=1, require_equals = true, default_missing_value = "", requires = "older_than", value_parser = prefix_if_given)]
    shared: Option<String>,

    /// With --shared: minimum age of what is deleted, as 12h, 30d or 8w
    #[arg(long, value_name = "AGE", value_parser = age, requires = "shared")]
    older_than: Option<Duration>,

    /// With --shared: also keep what a build of this branch, tag or commit would use
    #[arg(long, value_name = "REVISION", requires = "shared")]
    keep: Vec<String>,

    /// Print what would be removed
    #[arg(short = 'n', long)]
    dry_run: bool,

    #[command(flatten)]
    reading: ReadingArgs,
}

/// Checks what repositories begin with, unless it is empty.
fn prefix_if_given(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(String::new()) } else { share_prefix(text) }
}

/// An age, as a number with a unit.
fn age(text: &str) -> Result<Duration, String> {
    let expected = || "expected a number of hours, days or weeks: 12h, 30d or 8w".to_owned();
    let unit = text.chars().last().ok_or_else(expected)?;
    let hours: u64 = match unit {
        'h' => 1,
        'd' => 24,
        'w' => 24 * 7,
        _ => return Err(expected()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| expected())?;
    let seconds = number.checked_mul(hours * 3600).ok_or_else(expected)?;
    Ok(Duration::from_secs(seconds))
}

impl From<CleanArgs> for CleanOptions {
    fn from(args: CleanArgs) -> Self {
        let CleanArgs { images, state, dry_run, .. } = args;
        let shared = args.shared.zip(args.older_than).map(|(prefix, older_than)| SharedOptions {
            prefix: Some(prefix).filter(|prefix| !prefix.is_empty()),
            older_than,
            keep: args.keep,
            reading: args.reading.into(),
            dry_run,
        });
        Self { images, state, shared, dry_run }
    }
}

#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// Print the file instead of writing it
    #[arg(short = 'n', long)]
    dry_run: bool,

    #[command(flatten)]
    reading: ReadingArgs,
}

impl From<InitArgs> for InitOptions {
    fn from(args: InitArgs) -> Self {
        Self { reading: args.reading.into(), dry_run: args.dry_run }
    }
}

#[derive(Args, Debug)]
pub(crate) struct NewArgs {
    /// Name of the component and its image
    name: String,

    /// Image that it is made from, one of this repository or another [default: scratch]
    #[arg(long, value_name = "IMAGE")]
    from: Option<String>,

    /// Component whose files it needs; may be repeated
    #[arg(long, value_name = "COMPONENT", add = ArgValueCompleter::new(candidates::components))]
    needs: Vec<String>,
}

impl From<NewArgs> for NewOptions {
    fn from(args: NewArgs) -> Self {
        let reading = options_of_environment();
        Self { reading, name: args.name, from: args.from, needs: args.needs }
    }
}

#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    /// Images, as names or globs [default: all]
    #[arg(value_name = "IMAGE", add = ArgValueCompleter::new(candidates::images))]
    images: Vec<String>,

    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Print the JSON schema of xtask.toml
    #[arg(long, conflicts_with_all = ["images", "json"])]
    pub(crate) schema: bool,

    #[command(flatten)]
    reading: ReadingArgs,
}

impl From<ConfigArgs> for ConfigOptions {
    fn from(args: ConfigArgs) -> Self {
        Self { reading: args.reading.into(), images: args.images }
    }
}

#[derive(Args, Debug)]
pub(crate) struct WhyArgs {
    /// Images, or components for all of theirs, as names, globs or paths
    #[arg(value_name = "IMAGE", required = true, add = ArgValueCompleter::new(candidates::components_and_images))]
    words: Vec<String>,

    #[command(flatten)]
    reading: ReadingArgs,
}

impl From<WhyArgs> for WhyOptions {
    fn from(args: WhyArgs) -> Self {
        Self { reading: args.reading.into(), words: args.words }
    }
}

#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// Component, as a name or a path such as src/web/
    #[arg(add = ArgValueCompleter::new(candidates::components))]
    component: String,

    /// Print what is written from now on, too, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
}

impl From<LogsArgs> for LogsOptions {
    fn from(args: LogsArgs) -> Self {
        let reading = options_of_environment();
        Self { reading, component: args.component, follow: args.follow }
    }
}

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// Shell to print a script for
    pub(crate) shell: Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Command to print the page of [default: cargo xtask itself]
    pub(crate) command: Option<String>,

    /// Write all pages to a folder
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub(crate) dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_example_of_the_help_can_be_parsed() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let mut count = 0;
            for line in help.lines().filter(|line| line.starts_with("  ")) {
                let line = &line[line.find("cargo xtask").expect("an example")..];
                let ends = ["  ", ")", " | "].iter().filter_map(|end| line.find(end));
                let line = &line[..ends.min().unwrap_or(line.len())];
                let words: Vec<String> = words(line);
                if let Err(error) = Cli::try_parse_from(&words[1..]) {
                    panic!("{line}: {error}");
                }
                count += 1;
            }
            assert!(count > 1, "{}: {help}", command.get_name());
        }
    }

    /// The words of a line as a shell reads them, without escapes.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        for (index, part) in line.split('\'').enumerate() {
            if index % 2 == 1 {
                words.last_mut().unwrap().push_str(part);
                continue;
            }
            let mut parts = part.split(' ');
            words.last_mut().unwrap().push_str(parts.next().unwrap_or_default());
            words.extend(parts.map(str::to_owned));
        }
        words.retain(|word| !word.is_empty());
        words
    }
}
