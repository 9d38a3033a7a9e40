//! Arguments that several commands share.

use std::env::{self, VarError};
use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use xtask_core::secret::hide;
use xtask_core::workspace::components::WorkspaceOptions;
use xtask_core::workspace::config::Facts;
use xtask_core::workspace::config::overrides::Overrides;

use crate::cli::candidates;
use crate::cli::environment::{CONFIG_DIR, FLAVOR, facts_of_environment, tag_of_environment};
use crate::ui::reproduce;

/// In seconds; most registries answer again within this time.
pub(crate) const DEFAULT_RETRY: u64 = 60;

/// The components that a command is for.
#[derive(Args, Debug)]
pub(crate) struct ComponentArgs {
    /// Components, as names, globs such as 'auth-*', or paths such as src/web/ [default: all]
    #[arg(value_name = "COMPONENT", add = ArgValueCompleter::new(candidates::components))]
    named: Vec<String>,

    /// The same as COMPONENT; names may be separated by commas
    #[arg(short = 's', long = "select", value_name = "COMPONENT", num_args = 1.., value_parser = SelectedWords::parse, add = ArgValueCompleter::new(candidates::components))]
    selected: Vec<SelectedWords>,
}

/// The names in a value of `--select` or `--image`.
#[derive(Clone, Debug)]
pub(crate) struct SelectedWords(Vec<String>);

impl SelectedWords {
    /// A comma in braces belongs to a glob.
    #[expect(clippy::unnecessary_wraps, reason = "clap takes a function that can fail")]
    pub(crate) fn parse(value: &str) -> Result<Self, String> {
        let mut depth = 0_usize;
        let words = value.split(|letter: char| {
            match letter {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            letter == ',' && depth == 0
        });
        Ok(Self(words.map(str::to_owned).collect()))
    }
}

impl From<SelectedWords> for Vec<String> {
    fn from(words: SelectedWords) -> Self {
        words.0
    }
}

impl ComponentArgs {
    pub(crate) fn words_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let selected = self.selected.iter_mut().flat_map(|words| &mut words.0);
        self.named.iter_mut().chain(selected)
    }
}

impl From<ComponentArgs> for Vec<String> {
    fn from(args: ComponentArgs) -> Self {
        let selected = args.selected.into_iter().flat_map(|words| words.0);
        args.named.into_iter().chain(selected).collect()
    }
}

/// Options that determine which Dockerfiles are used, and how they are read.
#[derive(Args, Debug)]
#[command(next_help_heading = "Dockerfile options")]
pub(crate) struct ReadingArgs {
    /// Folder that contains services-configuration.yaml
    #[arg(short, long, value_name = "DIR", env = CONFIG_DIR)]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) dockerfile: DockerfileArgs,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Dockerfile options")]
pub(crate) struct DockerfileArgs {
    /// Set a build-time variable, an ARG of the Dockerfiles; NAME alone takes its value from
    /// the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]", value_parser = BuildArg::parse)]
    build_args: Vec<BuildArg>,

    /// Flavor to build: prefer NAME.FLAVOR.dockerfile if an image has several Dockerfiles
    #[arg(long, env = FLAVOR)]
    pub(crate) flavor: Option<String>,

    /// Send the whole context, including files that no instruction reads
    #[arg(long)]
    pub(crate) whole_context: bool,

    /// Set a key of xtask.toml, such as registry=HOST/PATH or image.NAME.target=STAGE
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// A `--build-arg`.
#[derive(Clone, Debug)]
struct BuildArg {
    /// As it was given, which does not show a value of the environment.
    given: String,
    name: String,
    /// `None` if the environment has none: then the default of the `ARG` counts.
    value: Option<String>,
}

impl BuildArg {
    fn parse(given: &str) -> Result<Self, String> {
        let (name, value) = match given.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (given, None),
        };
        if name.is_empty() {
            return Err("expected NAME=VALUE or NAME".to_owned());
        }
        let value = match value {
            Some(value) => Some(value),
            None => match env::var(name) {
                Ok(value) => Some(value),
                Err(VarError::NotPresent) => None,
                Err(VarError::NotUnicode(_)) => {
                    return Err("its value in the environment is not UTF-8".to_owned());
                }
            },
        };
        Ok(Self { given: given.to_owned(), name: name.to_owned(), value })
    }
}

impl DockerfileArgs {
    pub(crate) fn options(&self, config_dir: Option<PathBuf>) -> WorkspaceOptions {
        WorkspaceOptions {
            config_dir,
            flavor: self.flavor.clone(),
            build_args: self
                .build_args
                .iter()
                .filter_map(|arg| Some((arg.name.clone(), arg.value.clone()?)))
                .collect(),
            unset_args: self
                .build_args
                .iter()
                .filter(|arg| arg.value.is_none())
                .map(|arg| arg.name.clone())
                .collect(),
            whole_context: self.whole_context,
            tag: tag_of_environment(),
            overrides: Overrides::default(),
            facts: Facts { set: self.set.clone(), ..facts_of_environment() },
        }
    }

    pub(crate) fn reproduce(&self, options: &mut reproduce::Options) {
        options.value("--flavor", self.flavor.as_ref());
        for BuildArg { given, name, .. } in &self.build_args {
            // Where it is run again, a secret has to come from the environment.
            let shown = if hide(given) == *given { given } else { name };
            options.value("--build-arg", Some(shown));
        }
        options.flag("--whole-context", self.whole_context);
        for assignment in &self.set {
            options.value("--set", Some(hide(assignment)));
        }
    }
}

impl ReadingArgs {
    pub(crate) fn options(&self) -> WorkspaceOptions {
        self.dockerfile.options(self.config.clone())
    }

    pub(crate) fn reproduce(&self, options: &mut reproduce::Options) {
        // The environment variable is still set when the command is run again.
        let known = env::var_os(CONFIG_DIR).map(PathBuf::from);
        options.value("-c", self.config.as_ref().filter(|config| known.as_ref() != Some(config)));
        self.dockerfile.reproduce(options);
    }
}

impl From<ReadingArgs> for WorkspaceOptions {
    fn from(args: ReadingArgs) -> Self {
        args.options()
    }
}

/// Parses a size in bytes; K, M and G are powers of 1024.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let factor = match &text[digits.len()..] {
        "" => 1,
        "K" | "k" => 1 << 10,
        "M" | "m" => 1 << 20,
        "G" | "g" => 1 << 30,
        _ => return Err("expected a size such as 500M or 2G".to_owned()),
    };
    let number: Option<u64> = digits.parse().ok();
    let bytes = number.and_then(|number| number.checked_mul(factor));
    bytes.ok_or_else(|| "expected a size such as 500M or 2G".to_owned())
}
