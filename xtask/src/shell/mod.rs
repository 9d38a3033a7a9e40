//! The shell around the library: reads the command line and the environment,
//! shows events, and turns results into exit codes. Nothing below it does any of
//! these.

mod cli;
mod contents;
mod drawing;
mod github;
mod keyboard;
mod keys;
mod logs;
mod plain;
mod plan;
mod screen;
mod terminal;
mod timings;
mod ui;
mod words;

use std::env;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use console::Style;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::commands::build::BuildOptions;
use crate::commands::context::ContextOptions;
use crate::commands::graph::GraphOptions;
use crate::commands::watch::WatchOptions;
use crate::commands::{self, CommandError, Setting};
use crate::core::problem::{Problem, Problems};
use crate::core::workspace;
use crate::effects::engine::{Builder, Environment};
use crate::effects::hooks;
use crate::effects::interrupt::{self, Interrupt};
use crate::event::Events;

use cli::{Cli, Command, ContextArgs, GraphArgs};
use keyboard::Keyboard;
use ui::Progress;

const FAILED: u8 = 1;
const WRONG: u8 = 2;

/// Runs the command line that the process was given.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let ended = runtime.block_on(run(cli));
            // A thread that still reads files for a cancelled build is not waited for.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(CommandError::Lock(error.into())),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What failed in a round was its last word already.
            if !matches!(error, CommandError::Failed) {
                let title = Style::new().for_stderr().red().bold().apply_to("error");
                ui::print(io::stderr(), &format!("{title}: {error}"));
            }
            ExitCode::from(exit_code(&error))
        }
    }
}

async fn run(cli: Cli) -> Result<(), CommandError> {
    let root = root(cli.root.as_deref())?;
    let end_at_once = || {
        hooks::kill_all();
        keyboard::restore();
    };
    let interrupt = Interrupt::install(end_at_once)
        .map_err(|error| Problem::of_request(format!("signals cannot be handled: {error}")))
        .map_err(Problems::from)?;
    let (sender, receiver) = mpsc::unbounded_channel();
    let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let how = cli.how(io::stderr().is_terminal(), is_set("GITHUB_ACTIONS"), is_set("CI"));
    console::set_colors_enabled_stderr(how.has_colors);
    let has_colors = cli.has_colors(console::colors_enabled());
    let is_watch = matches!(cli.command, Command::Watch(_));
    let keyboard =
        if is_watch && how.progress == Progress::Terminal { Keyboard::open() } else { None };
    let (_keyboard, keys) = keyboard.unzip();
    let (wishes, looks) = keys.map(keys::understand).unzip();
    let shown_root = root.clone();
    let shown = tokio::task::spawn_blocking(move || {
        Handle::current().block_on(ui::show(how, &shown_root, receiver, looks));
    });
    let events = Events::new(sender);
    let environment = environment(cli.builder.map(Builder::from));
    let proxies = environment.proxies(&events);
    let setting = Setting {
        root,
        environment,
        proxies,
        variables: env::vars_os().collect(),
        store_limit: cli.store_limit,
        events,
        interrupt,
        no_wait: cli.no_wait,
    };
    let ended = match cli.command {
        Command::Build(args) => {
            let mut options = BuildOptions::from(args);
            setting.add_proxies(&mut options.reading);
            commands::build::run(&options, &setting).await
        }
        Command::Inputs(args) => commands::inputs::run(&args.into(), &setting).await,
        Command::Watch(args) => {
            let mut options = WatchOptions::from(args);
            setting.add_proxies(&mut options.build.reading);
            commands::watch::run(&options, wishes, &setting).await
        }
        Command::Push(args) => commands::push::run(&args.into(), &setting).await,
        Command::Context(args) => context(args, &setting).await,
        Command::Graph(args) => graph(args, has_colors, &setting).await,
    };
    // The last sender goes with the setting; what is in the channel is shown first.
    drop(setting);
    drop(shown.await);
    ended
}

async fn context(args: ContextArgs, setting: &Setting) -> Result<(), CommandError> {
    let is_json = args.json;
    let mut options = ContextOptions::from(args);
    setting.add_proxies(&mut options.reading);
    let contexts = commands::context::run(&options, setting).await?;
    let text = if is_json {
        format!("{:#}\n", contents::document(&contexts))
    } else {
        let all: Vec<String> =
            contexts.iter().map(|context| contents::lines(context).join("\n") + "\n").collect();
        all.join("\n")
    };
    print(&text);
    Ok(())
}

/// A reader that goes away has seen enough.
fn print(text: &str) {
    drop(io::stdout().write_all(text.as_bytes()));
}

async fn graph(args: GraphArgs, has_colors: bool, setting: &Setting) -> Result<(), CommandError> {
    let how = args.drawing(has_colors).map_err(Problems::from)?;
    let mut options = GraphOptions::from(args);
    setting.add_proxies(&mut options.reading);
    let chart = commands::graph::run(&options, setting).await?;
    let drawing = drawing::draw(&chart, how.format, how.has_images, how.has_colors);
    match (how.file, how.is_check) {
        (Some(file), true) => drawing::check(&file, &drawing),
        (Some(file), false) => drawing::write(&file, &drawing),
        (None, _) => {
            print(&drawing);
            Ok(())
        }
    }
}

fn root(named: Option<&Path>) -> Result<PathBuf, Problems> {
    let here = env::current_dir()
        .map_err(|error| Problem::of_request(format!("the current folder is gone: {error}")))?;
    if let Some(named) = named {
        let root = here.join(named);
        if root.join("src").is_dir() {
            return Ok(root);
        }
        let message = "there is no src/ in it: --root names the folder that holds src/";
        return Err(Problem::of_file(named.display().to_string(), message).into());
    }
    workspace::find_root(&here).ok_or_else(|| {
        let message = format!(
            "there is no src/ in {} or above it: go to the repository, or name it with --root",
            here.display()
        );
        Problem::of_request(message).into()
    })
}

fn environment(builder: Option<Builder>) -> Environment {
    let home_config = || env::var_os("HOME").map(|home| Path::new(&home).join(".docker"));
    let is_classic = env::var("DOCKER_BUILDKIT").is_ok_and(|value| value == "0");
    Environment {
        host: env::var("DOCKER_HOST").ok(),
        context: env::var("DOCKER_CONTEXT").ok(),
        config_dir: env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(home_config),
        has_tls: env::var_os("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty()),
        builder: builder.or_else(|| is_classic.then_some(Builder::Classic)),
        ..Environment::default()
    }
}

fn exit_code(error: &CommandError) -> u8 {
    match error {
        CommandError::Wrong(_) => WRONG,
        CommandError::Interrupted => u8::try_from(interrupt::EXIT_CODE).unwrap_or(FAILED),
        _ => FAILED,
    }
}
