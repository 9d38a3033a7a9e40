//! The options of `watch`.

use std::time::Duration;

use clap::Args;

use crate::cli::environment::tag_of_environment;
use crate::cli::shared_args::{ComponentArgs, DEFAULT_RETRY, ReadingArgs};
use crate::commands::push::PushOptions;
use crate::commands::watch::WatchOptions;

#[derive(Args, Debug)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(super) components: ComponentArgs,

    /// Maximum parallel jobs [default: number of CPUs of the engine's host, and 2]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,

    /// Quiet period before a rebuild, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 50)]
    debounce: u64,

    /// Poll for changes every MS milliseconds (1000 if omitted): for file systems without change
    /// events
    #[arg(long, value_name = "MS", num_args = 0..=1, default_missing_value = "1000", require_equals = true)]
    poll: Option<u64>,

    /// Skip the initial build and wait for a change
    #[arg(long)]
    no_initial: bool,

    /// Shell command to run after a successful build; stopped before the next build
    #[arg(long, value_name = "COMMAND")]
    on_success: Option<String>,

    /// Shell command to run after a failed build
    #[arg(long, value_name = "COMMAND")]
    on_failure: Option<String>,

    /// Push images after they are built
    #[arg(long)]
    push: bool,

    /// Clear the terminal before each build
    #[arg(long)]
    pub(crate) clear: bool,

    /// Ring the terminal bell after each build
    #[arg(long)]
    pub(crate) notify: bool,

    #[command(flatten)]
    pub(super) reading: ReadingArgs,
}

impl From<WatchArgs> for WatchOptions {
    fn from(args: WatchArgs) -> Self {
        let push = args.push.then(|| PushOptions {
            config_dir: args.reading.config.clone(),
            components: Vec::new(),
            images: Vec::new(),
            tag: tag_of_environment(),
            reading: args.reading.options(),
            denies_stale: false,
            retry_for: Duration::from_secs(DEFAULT_RETRY),
            lock: None,
            share: false,
        });
        Self {
            reading: args.reading.into(),
            components: args.components.into(),
            jobs: args.jobs.map(usize::from),
            push,
            debounce: Duration::from_millis(args.debounce),
            poll: args.poll.map(Duration::from_millis),
            no_initial: args.no_initial,
            on_success: args.on_success,
            on_failure: args.on_failure,
        }
    }
}
